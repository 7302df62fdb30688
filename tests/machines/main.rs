//! Both machines as equations: what comes in, what must be done. Each test is a situation from real
//! life and what must follow; the simulator covers their combinations.

mod client;
mod culprits;
mod durable;
mod editing;
mod following;
mod growing;
mod placing;
mod shortage;
mod worker_machine;

use std::collections::VecDeque;
use std::sync::Arc;

use dagmar::core::batch::Batch;
use dagmar::core::client::ToClient;
use dagmar::core::event::{Cause, Event, Failure, Outcome, StopReason, Success, Totals};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::key::Group;
use dagmar::core::message::{Assignment, FromWorker, InputLocation, Order, Report};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Action, Input, Options, Past, Persist, Precedence, Scheduler, TaskState};
use dagmar::core::slot::Slot;
use dagmar::core::span::Span;
use dagmar::core::task::{Body, Call, Operation, Ranks, TaskOptions};
use dagmar::core::time::{Micros, Timestamp};

const LIFE: Incarnation = Incarnation(1);
const NOW: Timestamp = Timestamp(1_000_000);

/// A graph from words such as `b:a` (b takes the value of a), `c:a,b`, `m*2:a` (m takes two nodes) and
/// `d+2!9` (d takes two cores, and has priority 9); `retries` for every task. They are expected to take so long
/// that nobody looks ahead.
fn graph(text: &str, retries: u32) -> Arc<Graph> {
    graph_of(text, retries, Micros::from_millis(10))
}

/// The same of tasks that are expected to take so long.
fn graph_of(text: &str, retries: u32, expected: Micros) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("test", "/");
    let words: Vec<(&str, &str)> =
        text.split_whitespace().map(|word| word.split_once(':').unwrap_or((word, ""))).collect();
    let name_of = |word: &str| word.split(['*', '+', '!']).next().unwrap_or_default().to_owned();
    let number_after = |word: &str, mark: char| -> Option<u32> {
        let rest = word.split_once(mark)?.1;
        rest.split(['*', '+', '!']).next().map(|number| number.parse().expect("a number"))
    };
    for (word, _) in &words {
        builder.declare(Group::single(name_of(word))).expect("names differ");
    }
    let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    for (word, inputs) in &words {
        let ranks = number_after(word, '*').map(|nodes| Ranks { count: nodes, nodes, cpus: 1 });
        let resources = Resources::cores(number_after(word, '+').unwrap_or(1));
        let priority = number_after(word, '!').unwrap_or(0) as i32;
        let expected = Some(expected);
        let options = TaskOptions { retries, ranks, resources, priority, expected, ..TaskOptions::default() };
        let options = builder.options(options);
        let inputs = inputs.split(',').filter(|name| !name.is_empty());
        let values = inputs.map(|name| builder.keys().group(name).expect("declared").first).collect();
        builder.define(Definition { operation, options, values, orders: vec![] }).expect("few inputs");
    }
    Arc::new(builder.build().expect("no cycle"))
}

fn task(graph: &Graph, key: &str) -> TaskId {
    graph.find(key).expect("a key of the graph").tasks().next().expect("one task")
}

fn scheduler_of(graph: &Arc<Graph>, workers: u32) -> Scheduler {
    let asked: Vec<TaskId> = graph.sinks().collect();
    Scheduler::new(graph.clone(), &asked, options_for(workers))
}

/// The next life of a run that a past tells of.
fn scheduler_after(past: &Past, graph: &Arc<Graph>, workers: u32) -> Scheduler {
    let asked: Vec<TaskId> = graph.sinks().collect();
    Scheduler::resume(past, &asked, options_for(workers)).expect("they belong to the graph").0
}

fn options_for(workers: u32) -> Options {
    Options { workers, workers_come_back: true, persist: Persist::Kept, precedence: Precedence::default() }
}

/// A scheduler with workers of one core each, and what it said last.
struct Run {
    graph: Arc<Graph>,
    machine: Scheduler,
    orders: Vec<(Rank, Order)>,
    events: Vec<Event>,
    /// What the client was told, and which outputs are to be sent to it from where.
    told: Vec<ToClient>,
    fetched: Vec<(u32, TaskId, u32)>,
    outcome: Option<Outcome>,
}

impl Run {
    fn new(text: &str, retries: u32, workers: u32) -> Self {
        Run::of(graph(text, retries), workers)
    }

    /// Tasks that are so short that dependents are assigned ahead.
    fn ahead(text: &str, workers: u32) -> Self {
        Run::of(graph_of(text, 0, Micros(10)), workers)
    }

    fn of(graph: Arc<Graph>, workers: u32) -> Self {
        let asked: Vec<TaskId> = graph.sinks().collect();
        let options = Options {
            workers,
            workers_come_back: true,
            persist: Persist::Kept,
            precedence: Precedence::default(),
        };
        let machine = Scheduler::new(graph.clone(), &asked, options);
        let mut run = Run::with(graph, machine);
        for worker in 1..=workers {
            run.joins(worker, LIFE);
        }
        run
    }

    fn with(graph: Arc<Graph>, machine: Scheduler) -> Self {
        let (orders, events, told, fetched) = (vec![], vec![], vec![], vec![]);
        Run { graph, machine, orders, events, told, fetched, outcome: None }
    }

    /// Hands one input in, decides, and keeps what was said.
    fn takes(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.machine.handle(NOW, input, &mut actions);
        self.machine.handle(NOW, Input::Turn, &mut actions);
        self.machine.check();
        (self.orders, self.events) = (vec![], vec![]);
        (self.told, self.fetched) = (vec![], vec![]);
        for action in actions {
            match action {
                Action::ToWorker { worker, message } => {
                    self.orders.extend(message.orders.into_iter().map(|order| (worker, order)));
                }
                Action::ToClient(word) => self.told.push(word),
                Action::Fetch { worker, task, attempt, .. } => {
                    self.fetched.push((worker.0, task, attempt.0));
                }
                Action::Record(event) => self.events.push(event),
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn says(&mut self, worker: u32, incarnation: Incarnation, report: Report) {
        let message = FromWorker { incarnation, reports: vec![report] };
        self.takes(Input::FromWorker { worker: Rank(worker), message });
    }

    fn joins(&mut self, worker: u32, incarnation: Incarnation) {
        let report = Report::Joined { host: format!("n{worker}"), capacity: Resources::cores(1) };
        self.says(worker, incarnation, report);
    }

    fn joins_with(&mut self, worker: u32, cores: u32) {
        let report = Report::Joined { host: format!("n{worker}"), capacity: Resources::cores(cores) };
        self.says(worker, LIFE, report);
    }

    fn finishes(&mut self, worker: u32, key: &str, attempt: u32) {
        let ran = Micros::from_millis(10);
        let success = Success { ran, size_bytes: 8, ..Success::default() };
        let batch = Batch::one(task(&self.graph, key), Attempt(attempt), success);
        self.says(worker, LIFE, Report::Finished(batch));
    }

    fn fails(&mut self, worker: u32, key: &str, attempt: u32) {
        let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::ExitCode(1) };
        self.says(worker, LIFE, Report::Failed(task(&self.graph, key), Attempt(attempt), failure));
    }

    /// The tasks assigned last: worker, key, attempt.
    fn assigned(&self) -> Vec<(u32, String, u32)> {
        let assignment = |(worker, order): &(Rank, Order)| match order {
            Order::Assign(it) => {
                let (worker, attempt) = (worker.0, it.attempt.0);
                it.tasks.tasks().map(|task| (worker, self.graph.key(task), attempt)).collect()
            }
            _ => Vec::new(),
        };
        self.orders.iter().flat_map(assignment).collect()
    }

    fn state(&self, key: &str) -> TaskState {
        self.machine.state(task(&self.graph, key))
    }
}

#[test]
fn nothing_is_placed_before_every_worker_has_joined() {
    let mut run = Run::new("a", 0, 0);
    let options = Options {
        workers: 2,
        workers_come_back: true,
        persist: Persist::Kept,
        precedence: Precedence::default(),
    };
    run.machine = Scheduler::new(run.graph.clone(), &[TaskId(0)], options);
    run.joins(1, LIFE);
    assert_eq!(run.assigned(), []);
    run.joins(2, LIFE);
    assert_eq!(run.assigned(), [(1, "a".into(), 1)]);
}

#[test]
fn a_worker_that_is_lost_before_it_has_joined_is_not_waited_for() {
    let mut run = Run::new("a", 0, 0);
    let options = Options {
        workers: 2,
        workers_come_back: false,
        persist: Persist::Kept,
        precedence: Precedence::default(),
    };
    run.machine = Scheduler::new(run.graph.clone(), &[TaskId(0)], options);
    run.joins(1, LIFE);
    run.takes(Input::NeverJoins);
    assert_eq!(run.assigned(), [(1, "a".into(), 1)]);
    run.machine = Scheduler::new(run.graph.clone(), &[TaskId(0)], options);
    (0..2).for_each(|_| run.takes(Input::NeverJoins));
    assert!(run.events.contains(&Event::RunFinished { outcome: Outcome::WorkersLost }), "{:?}", run.events);
}

#[test]
fn a_dependent_goes_to_the_worker_that_holds_its_input() {
    let mut run = Run::new("a b c:a d:b", 0, 2);
    assert_eq!(run.assigned(), [(1, "a".into(), 1), (2, "b".into(), 1)]);
    run.finishes(2, "b", 1);
    assert_eq!(run.assigned(), [(2, "d".into(), 1)]);
    run.finishes(1, "a", 1);
    assert_eq!(run.assigned(), [(1, "c".into(), 1)]);
}

#[test]
fn a_worker_where_all_consumers_ran_releases_an_output_by_itself() {
    let mut run = Run::new("a b:a c:a", 0, 1);
    for key in ["a", "b", "c"] {
        run.finishes(1, key, 1);
    }
    assert_eq!(run.orders, [(Rank(1), Order::Leave)]);
}

#[test]
fn an_output_with_consumers_elsewhere_is_released_where_it_is() {
    let mut run = Run::new("a+1 b:a c+2:a", 0, 0);
    run.machine = scheduler_of(&run.graph, 2);
    run.joins(1, LIFE);
    run.joins_with(2, 2);
    assert_eq!(run.assigned(), [(1, "a".into(), 1)]);
    run.finishes(1, "a", 1);
    assert_eq!(run.assigned(), [(1, "b".into(), 1), (2, "c".into(), 1)]);
    run.finishes(1, "b", 1);
    assert_eq!(run.orders, []);
    run.finishes(2, "c", 1);
    let release = Order::Release(TaskId(0), Attempt(1));
    let leave = |worker| (Rank(worker), Order::Leave);
    assert_eq!(run.orders, [(Rank(1), release.clone()), leave(1), (Rank(2), release), leave(2)]);
}

#[test]
fn a_failed_attempt_is_tried_again_as_often_as_its_task_allows() {
    let mut run = Run::new("a", 1, 1);
    run.fails(1, "a", 1);
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
    run.fails(1, "a", 2);
    assert_eq!((run.assigned(), run.state("a")), (vec![], TaskState::Failed));
}

#[test]
fn a_failed_task_aborts_what_depends_on_it_and_nothing_else() {
    let mut run = Run::new("a b:a c:b x y:x", 0, 1);
    run.fails(1, "a", 1);
    let aborted = |key: &str| Event::TaskAborted { task: task(&run.graph, key), because: TaskId(0) };
    assert_eq!(run.events[1..], [aborted("b"), aborted("c")]);
    run.finishes(1, "x", 1);
    run.finishes(1, "y", 1);
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!(run.outcome, Some(Outcome::TasksFailed { failed: 1, aborted: 2, out_of_memory: false }));
}

#[test]
fn more_failures_than_were_allowed_stop_the_run() {
    let mut run = Run::new("a b c", 0, 0);
    run.machine = scheduler_of(&run.graph, 1).with_max_fails(Some(1));
    run.joins(1, LIFE);
    run.fails(1, "a", 1);
    assert_eq!(run.assigned(), [(1, "c".into(), 1)]);
    run.fails(1, "b", 1);
    let stopping = Event::RunStopping { reason: StopReason::TooManyFailures };
    assert_eq!((run.orders, run.events.last()), (vec![(Rank(1), Order::Stop)], Some(&stopping)));
    assert_eq!(run.machine.state(TaskId(2)), TaskState::Assigned);
}

#[test]
fn what_a_stop_ends_does_not_wait_for_an_input_that_has_failed_since() {
    let mut run = Run::new("a b:a c:a", 0, 0);
    run.machine = scheduler_of(&run.graph, 1).with_max_fails(Some(0));
    run.joins(1, LIFE);
    run.finishes(1, "a", 1);
    let (task, attempt, owner) = (TaskId(0), Attempt(1), Rank(1));
    let input = InputLocation { task, attempt, owner, incarnation: LIFE, is_ahead: false };
    run.says(1, LIFE, Report::InputMissing { task: TaskId(2), attempt, input });
    assert_eq!(run.assigned(), [(1, "a".into(), 2)], "while `b` runs");
    run.fails(1, "a", 2);
    assert_eq!(run.state("b"), TaskState::Assigned);
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::Stopped };
    run.says(1, LIFE, Report::Failed(TaskId(1), attempt, failure));
    assert_eq!(run.state("b"), TaskState::Aborted);
}

#[test]
fn a_lost_worker_returns_its_tasks_and_costs_no_retry() {
    let mut run = Run::new("a", 0, 2);
    run.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
    assert_eq!(run.assigned(), [(2, "a".into(), 2)]);
}

#[test]
fn a_lost_output_is_made_again_with_whatever_it_needs() {
    let mut run = Run::new("a b:a c:b", 0, 1);
    run.finishes(1, "a", 1);
    run.finishes(1, "b", 1);
    run.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
    let states = ["a", "b", "c"].map(|key| run.state(key));
    assert_eq!(states, [TaskState::Waiting; 3]);
    run.joins(1, Incarnation(2));
    let again = ["a", "b", "c"].map(|key| (1, key.to_owned(), 2));
    assert_eq!(run.assigned(), again[..1]);
}

#[test]
fn what_an_earlier_life_still_says_is_ignored() {
    let mut run = Run::new("a", 0, 1);
    run.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
    run.joins(1, Incarnation(2));
    run.finishes(1, "a", 1);
    assert_eq!((run.state("a"), run.events.len()), (TaskState::Assigned, 0));
}

#[test]
fn a_wrong_location_is_corrected_and_the_output_made_again() {
    let mut run = Run::new("a b:a", 0, 1);
    run.finishes(1, "a", 1);
    let (task, attempt, owner) = (TaskId(0), Attempt(1), Rank(1));
    let input = InputLocation { task, attempt, owner, incarnation: LIFE, is_ahead: false };
    run.says(1, LIFE, Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input });
    assert_eq!(run.events, [Event::OutputLost { task: TaskId(0) }]);
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
    let release = (Rank(1), Order::Release(task, attempt));
    assert_eq!(run.orders[0], release, "a copy that came there in the meantime goes");
}

/// Whoever was told to fetch an output counts as one who may have it; but not if that was from such a one.
#[test]
fn rumours_of_copies_do_not_go_around() {
    let mut run = Run::new("a b:a c:a d:a e:a", 0, 4);
    run.finishes(1, "a", 1);
    let mut at: VecDeque<(Rank, Assignment)> = VecDeque::new();
    for round in 0.. {
        assert!(round < 40, "the workers send each other about for ever");
        at.extend(run.orders.iter().filter_map(|(worker, order)| match order {
            Order::Assign(assignment) => Some((*worker, assignment.clone())),
            _ => None,
        }));
        if round == 0 {
            run.takes(lost(1));
            at.retain(|(worker, _)| worker.0 != 1);
            continue;
        }
        if at.iter().any(|(_, assignment)| assignment.tasks.first == TaskId(0)) {
            break;
        }
        // Nobody has it, and whoever is asked says so.
        let (worker, assignment) = at.pop_front().expect("a task waits for `a`");
        let (task, attempt) = (assignment.tasks.first, assignment.attempt);
        let own = InputLocation {
            task: TaskId(0),
            attempt: Attempt(0),
            owner: worker,
            incarnation: LIFE,
            is_ahead: false,
        };
        let input = assignment.inputs.first().cloned().unwrap_or(own);
        run.says(worker.0, LIFE, Report::InputMissing { task, attempt, input });
    }
    assert_eq!(run.state("a"), TaskState::Assigned);
}

#[test]
fn queued_tasks_move_to_an_idle_worker() {
    let mut run = Run::new("a b c d", 0, 2);
    assert_eq!(run.assigned().len(), 4, "one runs and one waits at each worker");
    run.finishes(2, "b", 1);
    run.finishes(2, "d", 1);
    let waiting = task(&run.graph, "c");
    assert_eq!(run.orders, [(Rank(1), Order::Retract(Span::one(waiting), Attempt(1)))]);
    run.says(1, LIFE, Report::Returned(Span::one(waiting), Attempt(1)));
    assert_eq!(run.assigned(), [(2, "c".into(), 1)], "it was not tried yet");
}

// ---------------------------------------------------------------- multi-node tasks

fn ends(worker: u32, task: u32, lost: u32) -> (Rank, Order) {
    (Rank(worker), Order::End(TaskId(task), Attempt(1), Cause::LostRank(Rank(lost))))
}

fn lost(worker: u32) -> Input {
    Input::WorkerLost { worker: Rank(worker), incarnation: LIFE }
}

#[test]
fn a_multi_node_task_gets_idle_workers_and_the_first_is_its_lead() {
    let run = Run::new("m*2", 0, 3);
    assert_eq!(run.assigned(), [(1, "m".into(), 1)]);
    let workers = vec![Rank(1), Rank(2)];
    let hosts = vec!["n1".to_owned(), "n2".to_owned()];
    let Some((_, Order::Assign(assignment))) = run.orders.first() else { panic!("{:?}", run.orders) };
    assert_eq!(assignment.hosts(), hosts);
    let assigned = Event::MultiNodeAssigned { task: TaskId(0), attempt: Attempt(1), workers, hosts };
    assert_eq!(run.events.last(), Some(&assigned));
}

#[test]
fn the_workers_of_a_multi_node_task_get_nothing_else_and_others_do() {
    let mut run = Run::new("m*2 a b c", 0, 3);
    let others = ["a", "b"].map(|key| (3, key.to_owned(), 1));
    assert_eq!((run.assigned()[0].clone(), &run.assigned()[1..]), ((1, "m".into(), 1), &others[..]));
    run.finishes(1, "m", 1);
    assert_eq!(run.assigned(), [(1, "c".into(), 1)], "the workers it had take part again");
}

#[test]
fn small_tasks_do_not_starve_a_multi_node_task() {
    let mut run = Run::new("g a b c m*2:g", 0, 2);
    let assigned = run.assigned();
    let at = |worker: u32| assigned.iter().filter(move |it| it.0 == worker).map(|it| it.1.as_str());
    assert_eq!((at(1).collect::<Vec<_>>(), at(2).collect::<Vec<_>>()), (vec!["g", "b"], vec!["a", "c"]));
    run.finishes(1, "g", 1);
    assert_eq!(run.assigned(), [], "both workers run dry for `m`, and nothing new is placed");
    let called_back: Vec<(u32, u32)> = run
        .orders
        .iter()
        .filter_map(|(worker, order)| match order {
            Order::Retract(tasks, _) => Some((worker.0, tasks.first.0)),
            _ => None,
        })
        .collect();
    assert_eq!(called_back, [(1, 2), (2, 1), (2, 3)], "what has started there is not given back");
    run.says(2, LIFE, Report::Returned(Span::one(TaskId(3)), Attempt(1)));
    run.finishes(2, "a", 1);
    assert_eq!(run.assigned(), []);
    run.finishes(1, "b", 1);
    assert_eq!(run.assigned(), [(1, "m".into(), 1)]);
    run.finishes(1, "m", 1);
    assert_eq!(run.assigned(), [(1, "c".into(), 1)], "now the others have their turn");
}

#[test]
fn two_multi_node_tasks_that_share_workers_run_one_after_the_other() {
    let mut run = Run::new("m*2 n*3 o*2", 0, 4);
    assert_eq!(run.assigned(), [(1, "m".into(), 1)], "`n` waits, and `o` does not overtake it");
    run.finishes(1, "m", 1);
    assert_eq!(run.assigned(), [(1, "n".into(), 1)]);
    run.finishes(1, "n", 1);
    assert_eq!(run.assigned(), [(1, "o".into(), 1)]);
}

#[test]
fn multi_node_tasks_with_workers_of_their_own_run_at_once() {
    let run = Run::new("m*2 n*2", 0, 4);
    assert_eq!(run.assigned(), [(1, "m".into(), 1), (3, "n".into(), 1)]);
}

#[test]
fn the_loss_of_any_worker_of_its_team_ends_a_multi_node_task_and_costs_no_retry() {
    let mut run = Run::new("m*2", 0, 3);
    run.takes(lost(2));
    assert_eq!(run.orders, [ends(1, 0, 2)]);
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::LostRank(Rank(2)) };
    run.says(1, LIFE, Report::Failed(TaskId(0), Attempt(1), failure));
    assert_eq!(run.assigned(), [(1, "m".into(), 2)]);
    run.takes(lost(1));
    assert_eq!((run.assigned(), run.state("m")), (vec![], TaskState::Waiting), "one worker is too few");
    run.joins(2, Incarnation(2));
    assert_eq!(run.assigned(), [(2, "m".into(), 3)]);
}

#[test]
fn a_lost_lead_sets_its_team_free() {
    let mut run = Run::new("m*3 a b", 0, 3);
    assert_eq!(run.assigned(), [(1, "m".into(), 1)]);
    run.takes(lost(1));
    assert_eq!(run.assigned(), [(2, "a".into(), 1), (3, "b".into(), 1)]);
}

#[test]
fn a_worker_lost_while_it_is_collected_is_replaced() {
    let mut run = Run::new("g m*2:g a b", 0, 3);
    run.finishes(1, "g", 1);
    assert_eq!(run.assigned(), [], "worker 2 runs `a`");
    run.takes(lost(2));
    assert_eq!(run.assigned(), [], "worker 3 runs `b`");
    run.finishes(3, "b", 1);
    assert_eq!(run.assigned(), [(1, "m".into(), 1)]);
}

#[test]
fn workers_on_one_host_count_once() {
    let mut run = Run::new("m*2", 0, 0);
    let options = Options {
        workers: 2,
        workers_come_back: true,
        persist: Persist::Kept,
        precedence: Precedence::default(),
    };
    run.machine = Scheduler::new(run.graph.clone(), &[TaskId(0)], options);
    for (worker, host) in [(1, "n1"), (2, "n1"), (3, "n2")] {
        let report = Report::Joined { host: host.to_owned(), capacity: Resources::cores(1) };
        run.says(worker, LIFE, report);
        assert_eq!(run.assigned().len(), usize::from(worker == 3));
    }
    let Some(Event::MultiNodeAssigned { workers, .. }) = run.events.last() else {
        panic!("{:?}", run.events)
    };
    assert_eq!(workers[..], [Rank(1), Rank(3)]);
}

/// A scheduler whose workers do not come back; each has joined with a host of its own and these cores.
fn run_of_last_lives(text: &str, cores: &[u32]) -> Run {
    let mut run = Run::new(text, 0, 0);
    let asked: Vec<TaskId> = run.graph.sinks().collect();
    let options = Options {
        workers: cores.len() as u32,
        workers_come_back: false,
        persist: Persist::Kept,
        precedence: Precedence::default(),
    };
    run.machine = Scheduler::new(run.graph.clone(), &asked, options);
    for (worker, &cores) in (1..).zip(cores) {
        run.says(
            worker,
            LIFE,
            Report::Joined { host: format!("n{worker}"), capacity: Resources::cores(cores) },
        );
    }
    run
}

#[test]
fn a_multi_node_task_whose_workers_are_lost_ends_the_run_once_the_others_are_done() {
    let mut run = run_of_last_lives("m*2 a b", &[1, 1]);
    run.takes(lost(2));
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::LostRank(Rank(2)) };
    run.says(1, LIFE, Report::Failed(TaskId(0), Attempt(1), failure));
    let assigned = [(1, "a".to_owned(), 1), (1, "b".to_owned(), 1)];
    assert_eq!(run.assigned(), assigned, "what the last worker can do is done first");
    run.finishes(1, "a", 1);
    assert_eq!(run.orders, []);
    run.finishes(1, "b", 1);
    assert_eq!((run.orders.clone(), run.state("m")), (vec![(Rank(1), Order::Leave)], TaskState::Waiting));
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!(run.outcome, Some(Outcome::WorkersLost));
}

#[test]
fn a_task_that_only_a_lost_worker_could_run_ends_the_run_once_the_others_are_done() {
    let mut run = run_of_last_lives("big+2 a", &[1, 2]);
    assert_eq!(run.assigned(), [(1, "a".into(), 1), (2, "big".into(), 1)]);
    run.takes(lost(2));
    assert_eq!(run.orders, [], "`a` runs on");
    run.finishes(1, "a", 1);
    assert_eq!((run.orders.clone(), run.state("big")), (vec![(Rank(1), Order::Leave)], TaskState::Waiting));
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!(run.outcome, Some(Outcome::WorkersLost));
}

#[test]
fn a_task_that_nobody_can_run_any_more_holds_up_no_multi_node_task() {
    let mut run = run_of_last_lives("g big+2!9 m*2:g", &[1, 1, 2]);
    run.takes(lost(3));
    run.finishes(1, "g", 1);
    assert_eq!(run.assigned(), [(1, "m".into(), 1)]);
    run.finishes(1, "m", 1);
    assert_eq!(run.orders, [(Rank(1), Order::Leave), (Rank(2), Order::Leave)]);
}

#[test]
fn a_stopped_run_sets_the_workers_that_are_collected_free() {
    let mut run = Run::new("g a m*2:g", 0, 2);
    run.finishes(1, "g", 1);
    run.takes(Input::Stop(StopReason::Terminated));
    let orders = run.orders.iter().filter(|(_, order)| !matches!(order, Order::Persist(..)));
    assert_eq!(orders.cloned().collect::<Vec<_>>(), [(Rank(1), Order::Stop), (Rank(2), Order::Stop)]);
    assert_eq!(run.state("m"), TaskState::Waiting);
}

#[test]
fn a_cancelled_run_cancels_what_waits_and_ends_what_runs() {
    let mut run = Run::new("a b:a", 0, 1);
    run.takes(Input::Stop(StopReason::Cancelled));
    assert_eq!(run.orders, [(Rank(1), Order::Stop)]);
    assert_eq!((run.state("a"), run.state("b")), (TaskState::Assigned, TaskState::Cancelled));
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::Stopped };
    run.says(1, LIFE, Report::Failed(TaskId(0), Attempt(1), failure));
    assert_eq!((run.state("a"), run.orders.clone()), (TaskState::Cancelled, vec![(Rank(1), Order::Leave)]));
}

#[test]
fn a_terminated_run_leaves_its_tasks_to_be_resumed() {
    let mut run = Run::new("a b:a", 0, 1);
    run.takes(Input::Stop(StopReason::Terminated));
    run.says(1, LIFE, Report::Returned(Span::one(TaskId(0)), Attempt(1)));
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!((run.state("a"), run.state("b")), (TaskState::Waiting, TaskState::Waiting));
    assert_eq!(run.outcome, Some(Outcome::Stopped(StopReason::Terminated)));
}

#[test]
fn what_a_task_holds_is_recorded_for_the_current_try_only() {
    let mut run = Run::new("a", 1, 1);
    let slot = Box::new(Slot { cpus: vec![0, 1], ..Slot::default() });
    run.says(1, LIFE, Report::Bound(TaskId(0), Attempt(1), slot.clone()));
    let (task, attempt, worker) = (TaskId(0), Attempt(1), Rank(1));
    assert_eq!(run.events, [Event::TaskBound { task, attempt, worker, slot: slot.clone() }]);
    run.fails(1, "a", 1);
    run.says(1, LIFE, Report::Bound(TaskId(0), Attempt(1), slot));
    assert_eq!(run.events, []);
}

// ---------------------------------------------------------------- looking ahead

#[test]
fn dependents_of_short_tasks_are_assigned_before_these_have_finished() {
    let run = Run::ahead("a b:a c:b", 1);
    assert_eq!(run.assigned(), ["a", "b", "c"].map(|key| (1, key.to_owned(), 1)));
}

#[test]
fn a_task_ahead_is_told_who_will_have_its_inputs() {
    let mut run = Run::of(graph_of("a b+2:a", 0, Micros(10)), 0);
    run.machine = scheduler_of(&run.graph, 2);
    run.joins(1, LIFE);
    run.joins_with(2, 2);
    let Some((Rank(2), Order::Assign(ahead))) = run.orders.last() else { panic!("{:?}", run.orders) };
    let (task, attempt, owner) = (TaskId(0), Attempt(1), Rank(1));
    assert_eq!(ahead.inputs, [InputLocation { task, attempt, owner, incarnation: LIFE, is_ahead: true }]);
}

#[test]
fn what_was_ahead_of_a_failed_task_comes_back_and_is_aborted() {
    let mut run = Run::ahead("a b:a", 1);
    run.fails(1, "a", 1);
    assert_eq!((run.state("b"), run.outcome), (TaskState::Assigned, None));
    run.says(1, LIFE, Report::Returned(Span::one(TaskId(1)), Attempt(1)));
    assert_eq!(run.events, [Event::TaskAborted { task: TaskId(1), because: TaskId(0) }]);
}

#[test]
fn what_was_ahead_on_another_worker_of_a_lost_one_is_called_back() {
    let mut run = Run::of(graph_of("a b+2:a", 0, Micros(10)), 0);
    run.machine = scheduler_of(&run.graph, 2);
    run.joins(1, LIFE);
    run.joins_with(2, 2);
    run.takes(lost(1));
    let retract = Order::Retract(Span::one(TaskId(1)), Attempt(1));
    assert_eq!(run.orders[0], (Rank(2), retract));
    assert_eq!(run.assigned(), [(2, "a".into(), 2)]);
}

#[test]
fn a_promise_that_was_not_kept_is_no_loss() {
    let mut run = Run::ahead("a b:a c:a", 1);
    run.finishes(1, "a", 1);
    let (task, attempt, owner) = (TaskId(0), Attempt(1), Rank(1));
    let input = InputLocation { task, attempt, owner, incarnation: LIFE, is_ahead: true };
    run.says(1, LIFE, Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input });
    assert_eq!((run.events.len(), run.assigned()), (0, vec![(1, "b".into(), 1)]));
}

#[test]
fn alike_tasks_go_in_one_order() {
    let mut run = Run::ahead("a b c d e f", 2);
    let spans: Vec<(u32, u32, u32)> = run
        .orders
        .drain(..)
        .map(|(worker, order)| match order {
            Order::Assign(it) => (worker.0, it.tasks.first.0, it.tasks.count),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(spans, [(1, 0, 3), (2, 3, 3)]);
}

/// How many of the tasks that take one input each worker gets.
fn divided(dependents: u32) -> [usize; 2] {
    let names: Vec<String> = (0..dependents).map(|number| format!(" d{number}:a")).collect();
    let run = Run::ahead(&format!("a{}", names.concat()), 2);
    let assigned = run.assigned();
    assert_eq!(assigned.len(), names.len() + 1);
    let order: Vec<u32> = assigned.iter().map(|(worker, ..)| *worker).collect();
    assert!(order.is_sorted(), "neighbours stay together: {order:?}");
    [1, 2].map(|worker| order.iter().filter(|&&other| other == worker).count())
}

#[test]
fn neighbours_are_divided_once_that_saves_more_than_a_fetch() {
    // Each takes 10 us, a fetch 30 us: moving 2 of 4 saves 20 us, moving 4 of 8 saves 40 us.
    assert_eq!(divided(4), [5, 0]);
    assert_eq!(divided(8), [5, 4]);
}
