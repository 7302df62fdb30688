//! Both machines as equations: what comes in, what must be done. Each test is a situation from real
//! life and what must follow; the simulator covers their combinations.

use std::sync::Arc;

use dagmar::core::event::{Cause, Event, Failure, Outcome, StopReason, Success, Totals};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::key::Group;
use dagmar::core::message::{
    Assignment, FromWorker, InputLocation, Order, PeerMessage, PeerWord, Report, ToWorker,
};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Action, Input, Options, Scheduler, TaskState};
use dagmar::core::slot::Slot;
use dagmar::core::task::{Body, Call, Operation, Ranks, TaskOptions};
use dagmar::core::time::{Micros, Timestamp};
use dagmar::core::worker::{self, Worker};

const LIFE: Incarnation = Incarnation(1);
const NOW: Timestamp = Timestamp(1_000_000);

/// A graph from words such as `b:a` (b takes the value of a), `c:a,b` and `m*2:a` (m takes two nodes);
/// `retries` for every task.
fn graph(text: &str, retries: u32) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("test", "/");
    let words: Vec<(&str, &str)> =
        text.split_whitespace().map(|word| word.split_once(':').unwrap_or((word, ""))).collect();
    let name_of = |word: &str| word.split('*').next().unwrap_or_default().to_owned();
    for (word, _) in &words {
        builder.declare(Group::single(name_of(word))).expect("names differ");
    }
    let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    for (word, inputs) in &words {
        let nodes = word.split_once('*').map(|(_, nodes)| nodes.parse().expect("a number of nodes"));
        let ranks = nodes.map(|nodes| Ranks { count: nodes, nodes, cpus: 1 });
        let options = builder.options(TaskOptions { retries, ranks, ..TaskOptions::default() });
        let inputs = inputs.split(',').filter(|name| !name.is_empty());
        let values = inputs.map(|name| builder.keys().group(name).expect("declared").first).collect();
        builder.define(Definition { operation, options, values, orders: vec![] }).expect("few inputs");
    }
    Arc::new(builder.build().expect("no cycle"))
}

fn task(graph: &Graph, key: &str) -> TaskId {
    graph.keys().find(key).expect("a key of the graph").tasks().next().expect("one task")
}

/// A scheduler with workers of one core each, and what it said last.
struct Run {
    graph: Arc<Graph>,
    machine: Scheduler,
    orders: Vec<(Rank, Order)>,
    events: Vec<Event>,
    outcome: Option<Outcome>,
}

impl Run {
    fn new(text: &str, retries: u32, workers: u32) -> Self {
        let graph = graph(text, retries);
        let asked: Vec<TaskId> = graph.sinks().collect();
        let options = Options { workers, workers_come_back: true, persist_asked: false };
        let machine = Scheduler::new(graph.clone(), &asked, options);
        let mut run = Run { graph, machine, orders: vec![], events: vec![], outcome: None };
        for worker in 1..=workers {
            run.joins(worker, LIFE);
        }
        run
    }

    /// Hands one input in, decides, and keeps what was said.
    fn takes(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.machine.handle(NOW, input, &mut actions);
        self.machine.handle(NOW, Input::Turn, &mut actions);
        self.machine.check();
        (self.orders, self.events) = (vec![], vec![]);
        for action in actions {
            match action {
                Action::ToWorker { worker, message } => {
                    self.orders.extend(message.orders.into_iter().map(|order| (worker, order)));
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

    fn finishes(&mut self, worker: u32, key: &str, attempt: u32) {
        let success = Success { size_bytes: 8, ..Success::default() };
        self.says(worker, LIFE, Report::Finished(task(&self.graph, key), Attempt(attempt), success));
    }

    fn fails(&mut self, worker: u32, key: &str, attempt: u32) {
        let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::ExitCode(1) };
        self.says(worker, LIFE, Report::Failed(task(&self.graph, key), Attempt(attempt), failure));
    }

    /// The tasks assigned last: worker, key, attempt.
    fn assigned(&self) -> Vec<(u32, String, u32)> {
        let assignment = |(worker, order): &(Rank, Order)| match order {
            Order::Assign(it) => Some((worker.0, self.graph.key(it.task), it.attempt.0)),
            _ => None,
        };
        self.orders.iter().filter_map(assignment).collect()
    }

    fn state(&self, key: &str) -> TaskState {
        self.machine.state(task(&self.graph, key))
    }
}

#[test]
fn nothing_is_placed_before_every_worker_has_joined() {
    let mut run = Run::new("a", 0, 0);
    let options = Options { workers: 2, workers_come_back: true, persist_asked: false };
    run.machine = Scheduler::new(run.graph.clone(), &[TaskId(0)], options);
    run.joins(1, LIFE);
    assert_eq!(run.assigned(), []);
    run.joins(2, LIFE);
    assert_eq!(run.assigned(), [(1, "a".into(), 1)]);
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
fn an_output_is_released_once_nobody_takes_it_any_more() {
    let mut run = Run::new("a b:a c:a", 0, 1);
    run.finishes(1, "a", 1);
    run.finishes(1, "b", 1);
    assert_eq!(run.orders, []);
    run.finishes(1, "c", 1);
    assert_eq!(run.orders, [(Rank(1), Order::Release(TaskId(0), Attempt(1))), (Rank(1), Order::Leave)]);
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
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
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
    let input = InputLocation { task: TaskId(0), attempt: Attempt(1), owner: Rank(1), incarnation: LIFE };
    run.says(1, LIFE, Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input });
    assert_eq!(run.events, [Event::OutputLost { task: TaskId(0) }]);
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
}

#[test]
fn queued_tasks_move_to_an_idle_worker() {
    let mut run = Run::new("a b c d", 0, 2);
    assert_eq!(run.assigned().len(), 4, "one runs and one waits at each worker");
    run.finishes(2, "b", 1);
    run.finishes(2, "d", 1);
    let waiting = task(&run.graph, "c");
    assert_eq!(run.orders, [], "a queue that is done within a millisecond is left alone");
    run.says(1, LIFE, Report::Retracted(waiting, Attempt(1)));
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
    assert_eq!(assignment.hosts, hosts);
    let assigned = Event::MultiNodeAssigned { task: TaskId(0), attempt: Attempt(1), workers, hosts };
    assert_eq!(run.events.last(), Some(&assigned));
}

#[test]
fn the_workers_of_a_multi_node_task_get_nothing_else_and_others_do() {
    let mut run = Run::new("m*2 a b c", 0, 3);
    let others = ["a", "b", "c"].map(|key| (3, key.to_owned(), 1));
    assert_eq!((run.assigned()[0].clone(), &run.assigned()[1..]), ((1, "m".into(), 1), &others[..]));
    run.finishes(1, "m", 1);
    let stolen = Order::Retract(TaskId(3), Attempt(1));
    assert_eq!(run.orders, [(Rank(3), stolen)], "the workers it had take part again");
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
            Order::Retract(task, _) => Some((worker.0, task.0)),
            _ => None,
        })
        .collect();
    assert_eq!(called_back, [(1, 2), (2, 1), (2, 3)], "what has started there is not given back");
    run.says(2, LIFE, Report::Retracted(TaskId(3), Attempt(1)));
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
    let options = Options { workers: 2, workers_come_back: true, persist_asked: false };
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

#[test]
fn a_stopped_run_sets_the_workers_that_are_collected_free() {
    let mut run = Run::new("g a m*2:g", 0, 2);
    run.finishes(1, "g", 1);
    run.takes(Input::Stop(StopReason::Terminated));
    assert_eq!(run.orders, [(Rank(1), Order::Stop), (Rank(2), Order::Stop)]);
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
    run.says(1, LIFE, Report::Retracted(TaskId(0), Attempt(1)));
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!((run.state("a"), run.state("b")), (TaskState::Waiting, TaskState::Waiting));
    assert_eq!(run.outcome, Some(Outcome::Stopped(StopReason::Terminated)));
}

// ---------------------------------------------------------------- the worker

/// A worker of one core on rank 1, and what it must do.
struct Hand {
    machine: Worker,
}

impl Hand {
    fn new(text: &str) -> Self {
        let graph = graph(text, 0);
        let mut hand = Hand { machine: Worker::new(graph, LIFE, "n1".into(), Resources::cores(1)) };
        let joined = hand.takes(worker::Input::Turn);
        assert!(matches!(&joined[..], [worker::Action::ToScheduler(_)]), "{joined:?}");
        hand
    }

    fn takes(&mut self, input: worker::Input) -> Vec<worker::Action> {
        let mut actions = Vec::new();
        self.machine.handle(NOW, input, &mut actions);
        self.machine.handle(NOW, worker::Input::Turn, &mut actions);
        self.machine.check();
        actions
    }

    fn ordered(&mut self, orders: Vec<Order>) -> Vec<worker::Action> {
        self.takes(worker::Input::FromScheduler(ToWorker { incarnation: LIFE, orders }))
    }

    fn told(&mut self, peer: u32, word: PeerWord) -> Vec<worker::Action> {
        let message = PeerMessage { from: LIFE, to: LIFE, word };
        self.takes(worker::Input::FromPeer { peer: Rank(peer), message })
    }

    fn ends(&mut self, task: u32) -> Vec<worker::Action> {
        let ending = Ok(Success::default());
        self.takes(worker::Input::Ended { task: TaskId(task), attempt: Attempt(1), ending })
    }
}

fn assignment(task: u32, inputs: &[(u32, u32)]) -> Assignment {
    let location = |&(task, owner): &(u32, u32)| InputLocation {
        task: TaskId(task),
        attempt: Attempt(1),
        owner: Rank(owner),
        incarnation: LIFE,
    };
    Assignment {
        task: TaskId(task),
        attempt: Attempt(1),
        urgency: task,
        inputs: inputs.iter().map(location).collect(),
        files: vec![],
        keep: true,
        persist: false,
        hosts: vec![],
    }
}

fn say(peer: u32, word: PeerWord) -> worker::Action {
    let message = PeerMessage { from: LIFE, to: LIFE, word };
    worker::Action::ToPeer { peer: Rank(peer), message }
}

fn report(reports: Vec<Report>) -> worker::Action {
    worker::Action::ToScheduler(FromWorker { incarnation: LIFE, reports })
}

#[test]
fn an_input_elsewhere_is_wanted_once_and_the_task_starts_when_it_came() {
    let mut hand = Hand::new("a b:a c:a");
    let (b, c) = (assignment(1, &[(0, 2)]), assignment(2, &[(0, 2)]));
    let actions = hand.ordered(vec![Order::Assign(b.clone()), Order::Assign(c)]);
    assert_eq!(actions, [say(2, PeerWord::Want(TaskId(0), Attempt(1)))]);
    let actions = hand.told(2, PeerWord::Output(TaskId(0), Attempt(1)));
    assert_eq!(actions, [worker::Action::Start(b)], "one core: the other waits its turn");
}

#[test]
fn a_want_for_an_output_still_to_come_is_answered_when_it_is_there() {
    let mut hand = Hand::new("a");
    hand.ordered(vec![Order::Assign(assignment(0, &[]))]);
    assert_eq!(hand.told(2, PeerWord::Want(TaskId(0), Attempt(1))), []);
    let finished = report(vec![Report::Finished(TaskId(0), Attempt(1), Success::default())]);
    assert_eq!(hand.ends(0), [say(2, PeerWord::Output(TaskId(0), Attempt(1))), finished]);
}

#[test]
fn an_output_that_was_never_here_is_unknown() {
    let mut hand = Hand::new("a");
    let unknown = say(2, PeerWord::Unknown(TaskId(0), Attempt(1)));
    assert_eq!(hand.told(2, PeerWord::Want(TaskId(0), Attempt(1))), [unknown]);
}

#[test]
fn an_unknown_input_sends_its_tasks_back() {
    let mut hand = Hand::new("a b:a");
    let b = assignment(1, &[(0, 2)]);
    hand.ordered(vec![Order::Assign(b.clone())]);
    let actions = hand.told(2, PeerWord::Unknown(TaskId(0), Attempt(1)));
    let missing = Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input: b.inputs[0] };
    assert_eq!(actions, [report(vec![missing])]);
}

#[test]
fn a_started_task_is_not_given_back_and_a_queued_one_is() {
    let mut hand = Hand::new("a b");
    hand.ordered(vec![Order::Assign(assignment(0, &[])), Order::Assign(assignment(1, &[]))]);
    let orders = [0, 1].map(|task| Order::Retract(TaskId(task), Attempt(1)));
    let actions = hand.ordered(orders.to_vec());
    assert_eq!(actions, [report(vec![Report::Retracted(TaskId(1), Attempt(1))])]);
}

#[test]
fn a_fetch_that_nobody_waits_for_is_called_off_and_its_bytes_dropped() {
    let mut hand = Hand::new("a b:a");
    hand.ordered(vec![Order::Assign(assignment(1, &[(0, 2)]))]);
    let actions = hand.ordered(vec![Order::Retract(TaskId(1), Attempt(1))]);
    let retracted = report(vec![Report::Retracted(TaskId(1), Attempt(1))]);
    assert_eq!(actions, [say(2, PeerWord::Unwant(TaskId(0), Attempt(1))), retracted]);
    let late = hand.told(2, PeerWord::Output(TaskId(0), Attempt(1)));
    assert_eq!(late, [worker::Action::Drop(TaskId(0), Attempt(1))]);
}

#[test]
fn an_order_to_end_a_task_reaches_what_runs_and_what_waits() {
    let mut hand = Hand::new("a b");
    hand.ordered(vec![Order::Assign(assignment(0, &[])), Order::Assign(assignment(1, &[]))]);
    let end = |task| Order::End(TaskId(task), Attempt(1), Cause::LostRank(Rank(2)));
    let stop = worker::Action::Stop(TaskId(0), Attempt(1), Cause::LostRank(Rank(2)));
    let returned = report(vec![Report::Retracted(TaskId(1), Attempt(1))]);
    assert_eq!(hand.ordered(vec![end(0), end(1), end(7)]), [stop, returned]);
}

#[test]
fn orders_for_another_life_are_dropped() {
    let mut hand = Hand::new("a");
    let message = ToWorker { incarnation: Incarnation(2), orders: vec![Order::Stop] };
    assert_eq!(hand.takes(worker::Input::FromScheduler(message)), []);
}

#[test]
fn what_runs_for_long_is_reported_before_it_ends() {
    let mut hand = Hand::new("a");
    hand.ordered(vec![Order::Assign(assignment(0, &[]))]);
    let mut actions = Vec::new();
    hand.machine.handle(NOW + Micros::from_millis(200), worker::Input::Turn, &mut actions);
    assert_eq!(actions, [report(vec![Report::Started(TaskId(0), Attempt(1), NOW)])]);
}

#[test]
fn what_a_started_task_holds_is_reported_before_its_end() {
    let mut hand = Hand::new("a");
    hand.ordered(vec![Order::Assign(assignment(0, &[]))]);
    let slot = Box::new(Slot { gpus: vec!["3".into()], ..Slot::default() });
    let (task, attempt) = (TaskId(0), Attempt(1));
    let mut actions = Vec::new();
    hand.machine.handle(NOW, worker::Input::Bound { task, attempt, slot: slot.clone() }, &mut actions);
    assert_eq!(actions, [], "it goes with the next turn's message");
    let reports =
        vec![Report::Bound(task, attempt, slot), Report::Finished(task, attempt, Success::default())];
    assert_eq!(hand.ends(0), [report(reports)]);
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
