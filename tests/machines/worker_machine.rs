//! The worker's machine.

use dagmar::core::batch::Batch;
use dagmar::core::event::{Cause, Failure, Success};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{
    Assignment, FromWorker, InputLocation, Order, PeerMessage, PeerWord, Report, ToWorker,
};
use dagmar::core::resources::Resources;
use dagmar::core::slot::Slot;
use dagmar::core::span::Span;
use dagmar::core::time::Micros;
use dagmar::core::worker::memory::Room;
use dagmar::core::worker::{self, Worker};

use super::{LIFE, NOW, graph};

/// A worker on rank 1, of one core unless more are said, and what it must do.
struct Hand {
    machine: Worker,
}

impl Hand {
    fn new(text: &str) -> Self {
        Hand::with_cores(text, 1)
    }

    fn with_cores(text: &str, cores: u32) -> Self {
        let capacity = Resources::cores(cores);
        let mut hand = Hand { machine: Worker::new(graph(text, 0), Rank(1), LIFE, "n1".into(), capacity) };
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
        self.takes(worker::Input::Finished(success(task)))
    }
}

fn success(task: u32) -> Batch {
    Batch::one(TaskId(task), Attempt(1), Success::default())
}

fn location(task: u32, owner: u32) -> InputLocation {
    InputLocation {
        task: TaskId(task),
        attempt: Attempt(1),
        owner: Rank(owner),
        incarnation: LIFE,
        is_ahead: false,
    }
}

/// A task whose inputs, by task and owner, are elsewhere, and whose value so many others take.
fn assignment(task: u32, inputs: &[(u32, u32)], consumers: u32) -> Assignment {
    Assignment {
        tasks: Span::one(TaskId(task)),
        attempt: Attempt(1),
        inputs: inputs.iter().map(|&(task, owner)| location(task, owner)).collect(),
        consumers,
        ..Assignment::default()
    }
}

fn say(peer: u32, word: PeerWord) -> worker::Action {
    let message = PeerMessage { from: LIFE, to: LIFE, word };
    worker::Action::ToPeer { peer: Rank(peer), message }
}

fn report(reports: Vec<Report>) -> worker::Action {
    worker::Action::ToScheduler(FromWorker { incarnation: LIFE, reports })
}

fn revoke(task: u32) -> worker::Action {
    worker::Action::Revoke(Span::one(TaskId(task)), Attempt(1))
}

fn retract(task: u32) -> Order {
    Order::Retract(Span::one(TaskId(task)), Attempt(1))
}

fn returned(task: u32) -> Report {
    Report::Returned(Span::one(TaskId(task)), Attempt(1))
}

impl Hand {
    /// Gives it light tasks, for which it has been given its core.
    fn admitted(text: &str, assignments: &[Assignment]) -> Self {
        let mut hand = Hand::new(text);
        let actions = hand.ordered(assignments.iter().cloned().map(Order::Assign).collect());
        let admits = actions.iter().filter(|action| matches!(action, worker::Action::Admit(_)));
        assert_eq!(admits.count(), assignments.len());
        assert_eq!(actions.last(), Some(&worker::Action::Slots(1)));
        assert_eq!(hand.takes(worker::Input::Yielded(1)), []);
        hand
    }

    fn revoked(&mut self, task: u32) -> Vec<worker::Action> {
        self.takes(worker::Input::Revoked(Span::one(TaskId(task)), Attempt(1)))
    }
}

// ---------------------------------------------------------------- light tasks

#[test]
fn an_input_elsewhere_is_wanted_once() {
    let mut hand = Hand::new("a b:a c:a");
    let (b, c) = (assignment(1, &[(0, 2)], 0), assignment(2, &[(0, 2)], 0));
    let actions = hand.ordered(vec![Order::Assign(b.clone()), Order::Assign(c.clone())]);
    let want = say(2, PeerWord::Want(TaskId(0), Attempt(1)));
    let admit = worker::Action::Admit;
    assert_eq!(actions, [want, admit(b), admit(c), worker::Action::Slots(1)]);
    assert_eq!(hand.told(2, PeerWord::Output(TaskId(0), Attempt(1))), [], "the pool sees it in the store");
}

#[test]
fn a_want_for_an_output_still_to_come_is_answered_when_it_is_there() {
    let mut hand = Hand::admitted("a b:a", &[assignment(0, &[], 1)]);
    let watch = worker::Action::Watch(TaskId(0), Attempt(1));
    assert_eq!(hand.told(2, PeerWord::Want(TaskId(0), Attempt(1))), [watch]);
    let finished = report(vec![Report::Finished(success(0))]);
    assert_eq!(hand.ends(0), [say(2, PeerWord::Output(TaskId(0), Attempt(1))), finished]);
}

#[test]
fn what_is_awaited_may_come_before_its_task() {
    let mut hand = Hand::new("a b:a");
    assert_eq!(hand.told(2, PeerWord::Await(TaskId(0), Attempt(1))), []);
    let actions = hand.ordered(vec![Order::Assign(assignment(0, &[], 1))]);
    assert_eq!(actions[1], worker::Action::Watch(TaskId(0), Attempt(1)));
    assert_eq!(hand.ends(0)[0], say(2, PeerWord::Output(TaskId(0), Attempt(1))));
}

#[test]
fn an_output_that_was_never_here_is_unknown() {
    let mut hand = Hand::new("a");
    let unknown = say(2, PeerWord::Unknown(TaskId(0), Attempt(1)));
    assert_eq!(hand.told(2, PeerWord::Want(TaskId(0), Attempt(1))), [unknown]);
}

#[test]
fn an_unknown_input_sends_its_tasks_back_and_what_waits_for_them() {
    let mut hand = Hand::admitted_ahead();
    assert_eq!(hand.told(2, PeerWord::Unknown(TaskId(0), Attempt(1))), [revoke(1)]);
    let missing = Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input: location(0, 2) };
    assert_eq!(hand.revoked(1), [revoke(2), report(vec![missing])]);
    assert_eq!(hand.revoked(2), [report(vec![returned(2)])]);
}

impl Hand {
    /// b takes a value from elsewhere, and c that of b.
    fn admitted_ahead() -> Self {
        let mut hand = Hand::new("a b:a c:b");
        let orders = [assignment(1, &[(0, 2)], 1), assignment(2, &[], 0)];
        hand.ordered(orders.into_iter().map(Order::Assign).collect());
        hand
    }
}

#[test]
fn an_output_stays_until_all_its_consumers_here_have_run() {
    let mut hand =
        Hand::admitted("a b:a c:a", &[assignment(0, &[], 2), assignment(1, &[], 0), assignment(2, &[], 0)]);
    let finished = |task| report(vec![Report::Finished(success(task))]);
    assert_eq!(hand.ends(0), [finished(0)]);
    assert_eq!(hand.ends(1), [finished(1)]);
    assert_eq!(hand.ends(2), [worker::Action::Drop(TaskId(0), Attempt(1)), finished(2)]);
}

#[test]
fn ends_may_be_heard_of_in_any_order() {
    let mut hand = Hand::admitted("a b:a", &[assignment(0, &[], 1), assignment(1, &[], 0)]);
    assert_eq!(hand.ends(1), [report(vec![Report::Finished(success(1))])]);
    let drop = worker::Action::Drop(TaskId(0), Attempt(1));
    assert_eq!(hand.ends(0), [drop, report(vec![Report::Finished(success(0))])]);
}

#[test]
fn a_value_that_more_tasks_take_than_was_said_stays_until_its_release() {
    let mut hand = Hand::admitted("a b:a", &[assignment(0, &[], 1), assignment(1, &[], 0)]);
    hand.ends(0);
    assert_eq!(hand.ordered(vec![Order::Hold(TaskId(0), Attempt(1))]), []);
    assert_eq!(hand.ends(1), [report(vec![Report::Finished(success(1))])]);
    let drop = worker::Action::Drop(TaskId(0), Attempt(1));
    assert_eq!(hand.ordered(vec![Order::Release(TaskId(0), Attempt(1))]), [drop]);
}

#[test]
fn a_started_task_is_not_given_back_and_a_waiting_one_is() {
    let mut hand = Hand::admitted("a b", &[assignment(0, &[], 0), assignment(1, &[], 0)]);
    assert_eq!(hand.ordered(vec![retract(0), retract(1)]), [revoke(0), revoke(1)]);
    assert_eq!(hand.takes(worker::Input::Kept(TaskId(0), Attempt(1))), []);
    assert_eq!(hand.revoked(1), [report(vec![returned(1)])]);
}

#[test]
fn a_fetch_that_nobody_waits_for_is_called_off_and_its_bytes_dropped() {
    let mut hand = Hand::new("a b:a");
    hand.ordered(vec![Order::Assign(assignment(1, &[(0, 2)], 0))]);
    assert_eq!(hand.ordered(vec![retract(1)]), [revoke(1)]);
    let unwant = say(2, PeerWord::Unwant(TaskId(0), Attempt(1)));
    assert_eq!(hand.revoked(1), [unwant, report(vec![returned(1)])]);
    let late = hand.told(2, PeerWord::Output(TaskId(0), Attempt(1)));
    assert_eq!(late, [worker::Action::Drop(TaskId(0), Attempt(1))]);
}

#[test]
fn an_order_to_end_a_task_reaches_what_runs_and_what_waits() {
    let mut hand = Hand::admitted("a b", &[assignment(0, &[], 0), assignment(1, &[], 0)]);
    let end = |task| Order::End(TaskId(task), Attempt(1), Cause::LostRank(Rank(2)));
    assert_eq!(hand.ordered(vec![end(0), end(1)]), [revoke(0), revoke(1)]);
    let stop = worker::Action::Stop(TaskId(0), Attempt(1), Cause::LostRank(Rank(2)));
    assert_eq!(hand.takes(worker::Input::Kept(TaskId(0), Attempt(1))), [stop]);
    assert_eq!(hand.revoked(1), [report(vec![returned(1)])]);
}

#[test]
fn a_task_whose_input_is_gone_from_here_goes_back_at_once() {
    let mut hand = Hand::new("a b:a");
    let actions = hand.ordered(vec![Order::Assign(assignment(1, &[], 0))]);
    let input = InputLocation { attempt: Attempt(0), ..location(0, 1) };
    let missing = Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input };
    assert_eq!(actions, [report(vec![missing])]);
}

#[test]
fn orders_for_another_life_are_dropped() {
    let mut hand = Hand::new("a");
    let message = ToWorker { incarnation: Incarnation(2), orders: vec![Order::Stop] };
    assert_eq!(hand.takes(worker::Input::FromScheduler(message)), []);
}

// ---------------------------------------------------------------- heavy tasks

/// A worker of two cores that was given `a`, which asks for both.
fn heavy(text: &str) -> Hand {
    let mut hand = Hand::with_cores(text, 2);
    let a = assignment(0, &[], 0);
    assert_eq!(hand.ordered(vec![Order::Assign(a.clone())]), [worker::Action::Start(a)]);
    hand
}

#[test]
fn what_runs_for_long_is_reported_before_it_ends() {
    let mut hand = heavy("a+2");
    let mut actions = Vec::new();
    hand.machine.handle(NOW + Micros::from_millis(200), worker::Input::Turn, &mut actions);
    assert_eq!(actions, [report(vec![Report::Started(TaskId(0), Attempt(1), NOW)])]);
}

#[test]
fn what_a_started_task_holds_is_reported_before_its_end() {
    let mut hand = heavy("a+2");
    let slot = Box::new(Slot { gpus: vec!["3".into()], ..Slot::default() });
    let (task, attempt) = (TaskId(0), Attempt(1));
    let mut actions = Vec::new();
    hand.machine.handle(NOW, worker::Input::Bound { task, attempt, slot: slot.clone() }, &mut actions);
    assert_eq!(actions, [], "it goes with the next turn's message");
    let reports = vec![Report::Bound(task, attempt, slot), Report::Finished(success(0))];
    assert_eq!(hand.ends(0), [report(reports)]);
}

#[test]
fn a_heavy_task_that_waits_is_given_back_and_one_that_runs_is_ended() {
    let mut hand = heavy("a+2 b+2");
    hand.ordered(vec![Order::Assign(assignment(1, &[], 0))]);
    let back = hand.ordered(vec![retract(0), retract(1)]);
    assert_eq!(back, [report(vec![returned(1)])]);
    let end = Order::End(TaskId(0), Attempt(1), Cause::LostRank(Rank(2)));
    let stop = worker::Action::Stop(TaskId(0), Attempt(1), Cause::LostRank(Rank(2)));
    assert_eq!(hand.ordered(vec![end]), [stop]);
}

#[test]
fn a_heavy_task_gets_the_cores_that_the_pool_gives_up() {
    let mut hand = Hand::with_cores("a b+2", 2);
    let (a, b) = (assignment(0, &[], 0), assignment(1, &[], 0));
    let actions = hand.ordered(vec![Order::Assign(a.clone())]);
    assert_eq!(actions, [worker::Action::Admit(a), worker::Action::Slots(2)]);
    assert_eq!(hand.ordered(vec![Order::Assign(b.clone())]), [worker::Action::Slots(0)]);
    assert_eq!(hand.takes(worker::Input::Yielded(0)), [worker::Action::Start(b)]);
    let finished = report(vec![Report::Finished(success(1))]);
    assert_eq!(hand.ends(1), [worker::Action::Slots(2), finished], "`a` goes on");
}

// ---------------------------------------------------------------- heavy tasks and memory

/// The tasks that were started, in their order.
fn started(actions: &[worker::Action]) -> Vec<u32> {
    let task = |action: &worker::Action| match action {
        worker::Action::Start(assignment) => Some(assignment.tasks.first.0),
        _ => None,
    };
    actions.iter().filter_map(task).collect()
}

fn gave(task: u32, size_bytes: u64) -> worker::Input {
    worker::Input::Finished(Batch::one(
        TaskId(task),
        Attempt(1),
        Success { size_bytes, ..Success::default() },
    ))
}

fn assign(assignments: &[Assignment]) -> Vec<Order> {
    assignments.iter().cloned().map(Order::Assign).collect()
}

#[test]
fn calls_that_only_add_start_one_by_one_while_memory_is_short() {
    let mut hand = Hand::with_cores("a+2 b+2 c+2 d:a,b,c", 8);
    assert_eq!(hand.takes(worker::Input::Room(Room::Short)), []);
    let all = [0, 1, 2].map(|task| assignment(task, &[], 1));
    assert_eq!(started(&hand.ordered(assign(&all))), [0]);
    assert_eq!(started(&hand.takes(gave(0, 1 << 20))), [1]);
    assert_eq!(started(&hand.takes(worker::Input::Room(Room::Full))), [0; 0]);
    assert_eq!(started(&hand.takes(gave(1, 1 << 20))), [0; 0], "the disk is full");
    assert!(hand.machine.waits_for_room());
    assert_eq!(started(&hand.takes(worker::Input::Room(Room::Ample))), [2]);
}

#[test]
fn what_gives_little_or_nothing_does_not_wait_for_memory() {
    let mut hand = Hand::with_cores("a+2 b+2 c+2 d:a,b,c", 8);
    hand.takes(worker::Input::Room(Room::Short));
    let all = [0, 1, 2].map(|task| assignment(task, &[], 1));
    assert_eq!(started(&hand.ordered(assign(&all))), [0]);
    assert_eq!(started(&hand.takes(gave(0, 8))), [1, 2], "all are of one kind, and it gives eight bytes");
    let mut hand = Hand::with_cores("a+2 b+2", 8);
    hand.takes(worker::Input::Room(Room::Closed));
    let nobody_takes = [0, 1].map(|task| assignment(task, &[], 0));
    assert_eq!(started(&hand.ordered(assign(&nobody_takes))), [0, 1]);
}

#[test]
fn what_takes_outputs_passes_those_that_only_add() {
    let mut hand = Hand::with_cores("a b+2 c+2:a", 2);
    hand.ordered(assign(&[assignment(0, &[], 1)]));
    hand.takes(worker::Input::Yielded(2));
    hand.takes(worker::Input::Room(Room::Full));
    let actions = hand.ordered(assign(&[assignment(1, &[], 1), assignment(2, &[], 1)]));
    assert_eq!(started(&actions), [0; 0]);
    // The light task runs on, and what takes its value gets the cores of the pool.
    let actions = hand.takes(gave(0, 1 << 20));
    assert!(actions.contains(&worker::Action::Slots(0)), "{actions:?}");
    hand.takes(worker::Input::Room(Room::Closed));
    assert_eq!(
        started(&hand.takes(worker::Input::Yielded(0))),
        [0; 0],
        "outputs are on their way to the disk"
    );
    assert_eq!(started(&hand.takes(worker::Input::Room(Room::Full))), [2]);
}

#[test]
fn a_call_that_waits_for_memory_leaves_the_cores_to_the_pool() {
    let mut hand = Hand::with_cores("a+2 b c:a,b", 2);
    hand.takes(worker::Input::Room(Room::Closed));
    hand.ordered(assign(&[assignment(0, &[], 1)]));
    let actions = hand.ordered(assign(&[assignment(1, &[], 1)]));
    assert!(actions.contains(&worker::Action::Slots(2)), "{actions:?}");
}

#[test]
fn a_durable_output_is_told_of_after_the_end_of_its_task() {
    let mut hand = Hand::admitted("a b", &[assignment(0, &[], 0), assignment(1, &[], 0)]);
    let durable = |tasks: Span| (vec![tasks], Attempt(1));
    let both = Span { first: TaskId(0), count: 2 };
    assert_eq!(hand.takes(worker::Input::Durable(vec![both], Attempt(1))), []);
    let (tasks, attempt) = durable(Span::one(TaskId(0)));
    assert_eq!(hand.ends(0), [report(vec![Report::Finished(success(0)), Report::Durable(tasks, attempt)])]);
}

#[test]
fn an_output_in_the_run_directory_is_wanted_from_rank_0() {
    let mut hand = Hand::new("a b:a");
    let actions = hand.ordered(vec![Order::Assign(assignment(1, &[(0, 0)], 0))]);
    assert!(actions.contains(&say(0, PeerWord::Want(TaskId(0), Attempt(1)))), "{actions:?}");
    assert!(
        !hand
            .told(0, PeerWord::Output(TaskId(0), Attempt(1)))
            .contains(&worker::Action::Drop(TaskId(0), Attempt(1)))
    );
}

#[test]
fn an_output_that_is_found_lost_is_told_as_a_missing_input_of_whoever_was_to_take_it() {
    let mut hand = Hand::new("a b:a");
    hand.ordered(vec![Order::Assign(assignment(0, &[], 1)), Order::Assign(assignment(1, &[], 0))]);
    hand.ends(0);
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::LostInput(0) };
    let done = hand.takes(worker::Input::Failed { task: TaskId(1), attempt: Attempt(1), failure });
    let missing = Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input: location(0, 1) };
    let told = worker::Action::ToScheduler(FromWorker { incarnation: LIFE, reports: vec![missing] });
    assert_eq!(done, [told], "it stays until its release, as others may be about to start with it");
    let done = hand.ordered(vec![Order::Release(TaskId(0), Attempt(1))]);
    assert_eq!(done, [worker::Action::Drop(TaskId(0), Attempt(1))]);
}
