//! Outputs between workers: fetching them, and serving those that others fetch.

use std::collections::BTreeMap;

use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{InputLocation, PeerMessage, PeerWord, Report};

use super::machine::{Action, Stage, Worker};

/// The inputs under way to this worker, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    under_way: BTreeMap<(TaskId, Attempt), Fetch>,
}

#[derive(Debug)]
pub(super) struct Fetch {
    pub location: InputLocation,
    pub waiting: Vec<TaskId>,
}

impl Fetches {
    /// Notes that a task waits for an input. True if nobody waited for it before.
    pub fn wait_for(&mut self, location: &InputLocation, task: TaskId) -> bool {
        let key = (location.task, location.attempt);
        let fetch = self.under_way.entry(key);
        let fetch = fetch.or_insert_with(|| Fetch { location: *location, waiting: Vec::new() });
        fetch.waiting.push(task);
        fetch.waiting.len() == 1
    }

    /// A task waits no more. Returns the inputs that nobody waits for now.
    pub fn give_up(&mut self, task: TaskId) -> Vec<InputLocation> {
        let mut unwanted = Vec::new();
        self.under_way.retain(|_, fetch| {
            let waited = fetch.waiting.len();
            fetch.waiting.retain(|waiting| *waiting != task);
            if fetch.waiting.is_empty() && waited > 0 {
                unwanted.push(fetch.location);
            }
            !fetch.waiting.is_empty()
        });
        unwanted
    }

    /// The fetch that this word from `peer` answers, taken out.
    pub fn answered(&mut self, peer: Rank, key: (TaskId, Attempt)) -> Option<Fetch> {
        self.under_way.get(&key).filter(|fetch| fetch.location.owner == peer)?;
        self.under_way.remove(&key)
    }

    /// Everything under way.
    pub fn iter(&self) -> impl Iterator<Item = &Fetch> {
        self.under_way.values()
    }
}

/// Workers that want an output which is not here yet, as its task is still to run here.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    by_task: BTreeMap<(TaskId, Attempt), Vec<(Rank, Incarnation)>>,
}

impl Worker {
    pub(super) fn on_peer(&mut self, peer: Rank, message: PeerMessage, actions: &mut Vec<Action>) {
        if message.to != self.incarnation {
            if let PeerWord::Want(task, attempt) = message.word {
                self.say(peer, message.from, PeerWord::Unknown(task, attempt), actions);
            }
            if let PeerWord::Output(task, attempt) = message.word {
                self.drop_unless_kept(task, attempt, actions);
            }
            return;
        }
        match message.word {
            PeerWord::Want(task, attempt) => self.on_want((peer, message.from), task, attempt, actions),
            PeerWord::Unwant(task, attempt) => {
                if let Some(waiting) = self.subscribers.by_task.get_mut(&(task, attempt)) {
                    waiting.retain(|(rank, _)| *rank != peer);
                }
            }
            PeerWord::Output(task, attempt) => self.on_output(peer, task, attempt, actions),
            PeerWord::Unknown(task, attempt) => self.on_unknown(peer, task, attempt, actions),
        }
    }

    fn on_want(
        &mut self,
        subscriber: (Rank, Incarnation),
        task: TaskId,
        attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        let (peer, life) = subscriber;
        let will_be_here = self.tasks.get(&task).is_some_and(|local| local.assignment.attempt == attempt);
        if self.outputs.get(&task) == Some(&attempt) {
            self.say(peer, life, PeerWord::Output(task, attempt), actions);
        } else if will_be_here {
            self.subscribers.by_task.entry((task, attempt)).or_default().push(subscriber);
        } else {
            self.say(peer, life, PeerWord::Unknown(task, attempt), actions);
        }
    }

    fn on_output(&mut self, peer: Rank, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let Some(fetch) = self.fetches.answered(peer, (task, attempt)) else {
            return self.drop_unless_kept(task, attempt, actions);
        };
        self.enter_output(task, attempt, actions);
        for waiting in fetch.waiting {
            self.one_input_less(waiting);
        }
    }

    /// Bytes that came although nobody waits for them any more.
    fn drop_unless_kept(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.outputs.get(&task) != Some(&attempt) {
            actions.push(Action::Drop(task, attempt));
        }
    }

    fn one_input_less(&mut self, task: TaskId) {
        let local = self.tasks.get_mut(&task).expect("a waiting task is assigned");
        let Stage::Fetching(missing) = local.stage else {
            panic!("task {task} waits but is {:?}", local.stage)
        };
        if missing > 1 {
            local.stage = Stage::Fetching(missing - 1);
        } else {
            local.stage = Stage::Queued;
            self.queue.push(local.assignment.urgency, task);
        }
    }

    fn on_unknown(&mut self, peer: Rank, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let Some(fetch) = self.fetches.answered(peer, (task, attempt)) else { return };
        for waiting in fetch.waiting {
            let attempt = self.tasks.get(&waiting).expect("a waiting task is assigned").assignment.attempt;
            let given_back = self.give_back(waiting, attempt, actions);
            assert!(given_back, "task {waiting} started without its input");
            self.push_report(Report::InputMissing { task: waiting, attempt, input: fetch.location });
        }
    }

    pub(super) fn want(&self, input: &InputLocation) -> Action {
        let word = PeerWord::Want(input.task, input.attempt);
        let message = PeerMessage { from: self.incarnation, to: input.incarnation, word };
        Action::ToPeer { peer: input.owner, message }
    }

    pub(super) fn unwant(&self, input: &InputLocation) -> Action {
        let word = PeerWord::Unwant(input.task, input.attempt);
        let message = PeerMessage { from: self.incarnation, to: input.incarnation, word };
        Action::ToPeer { peer: input.owner, message }
    }

    pub(super) fn serve_subscribers(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let is_here = self.outputs.get(&task) == Some(&attempt);
        let word = if is_here { PeerWord::Output(task, attempt) } else { PeerWord::Unknown(task, attempt) };
        for (peer, life) in self.subscribers.by_task.remove(&(task, attempt)).unwrap_or_default() {
            self.say(peer, life, word, actions);
        }
    }

    pub(super) fn tell_subscribers_unknown(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        for (peer, life) in self.subscribers.by_task.remove(&(task, attempt)).unwrap_or_default() {
            self.say(peer, life, PeerWord::Unknown(task, attempt), actions);
        }
    }

    fn say(&self, peer: Rank, life: Incarnation, word: PeerWord, actions: &mut Vec<Action>) {
        actions
            .push(Action::ToPeer { peer, message: PeerMessage { from: self.incarnation, to: life, word } });
    }
}
