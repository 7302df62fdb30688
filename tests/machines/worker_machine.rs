//! The worker's machine.

use dagmar::core::event::{Cause, Success};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{
    Assignment, FromWorker, InputLocation, Order, PeerMessage, PeerWord, Report, ToWorker,
};
use dagmar::core::resources::Resources;
use dagmar::core::slot::Slot;
use dagmar::core::time::Micros;
use dagmar::core::worker::{self, Worker};

use super::{LIFE, NOW, graph};

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
