//! Outputs between workers: fetching them, and serving those that others fetch.

use std::collections::BTreeMap;

use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{InputLocation, PeerMessage, PeerWord};
use crate::core::span::Span;

use super::ends::COPY;
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
    /// Notes that a task waits for an input. True if it must be asked for: nobody waited for it before,
    /// or it was asked for elsewhere.
    pub fn wait_for(&mut self, location: &InputLocation, task: TaskId) -> bool {
        let key = (location.task, location.attempt);
        let fetch = self.under_way.entry(key);
        let fetch = fetch.or_insert_with(|| Fetch { location: *location, waiting: Vec::new() });
        let is_moved =
            (fetch.location.owner, fetch.location.incarnation) != (location.owner, location.incarnation);
        fetch.location = *location;
        fetch.waiting.push(task);
        fetch.waiting.len() == 1 || is_moved
    }

    /// A task waits no more. Returns the inputs that nobody waits for now.
    pub fn give_up(&mut self, graph: &Graph, task: TaskId) -> Vec<InputLocation> {
        let mut unwanted = Vec::new();
        if self.under_way.is_empty() {
            return unwanted;
        }
        for input in graph.value_inputs(task) {
            let tries = (input, Attempt(0))..=(input, Attempt(u32::MAX));
            let keys: Vec<(TaskId, Attempt)> = self.under_way.range(tries).map(|(key, _)| *key).collect();
            for key in keys {
                let fetch = self.under_way.get_mut(&key).expect("just seen");
                fetch.waiting.retain(|waiting| *waiting != task);
                if fetch.waiting.is_empty() {
                    unwanted.push(fetch.location);
                    self.under_way.remove(&key);
                }
            }
        }
        unwanted
    }

    /// The fetch that this word from `peer` answers, taken out.
    fn answered(&mut self, peer: Rank, key: (TaskId, Attempt)) -> Option<Fetch> {
        self.under_way.get(&key).filter(|fetch| fetch.location.owner == peer)?;
        self.under_way.remove(&key)
    }

    /// Everything under way.
    pub fn iter(&self) -> impl Iterator<Item = &Fetch> {
        self.under_way.values()
    }
}

/// Workers that want an output which is not here yet, as its task is still to run here, or to come.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    by_task: BTreeMap<(TaskId, Attempt), Vec<(Rank, Incarnation)>>,
}

impl Worker {
    pub(super) fn on_peer(&mut self, peer: Rank, message: PeerMessage, actions: &mut Vec<Action>) {
        if message.to != self.incarnation {
            match message.word {
                PeerWord::Want(task, attempt) | PeerWord::Await(task, attempt) => {
                    self.say(peer, message.from, PeerWord::Unknown(task, attempt), actions);
                }
                PeerWord::Output(task, attempt) => self.drop_unless_kept(task, attempt, actions),
                PeerWord::Unwant(..) | PeerWord::Unknown(..) => {}
            }
            return;
        }
        match message.word {
            PeerWord::Want(task, attempt) => {
                self.on_want((peer, message.from), (task, attempt), false, actions);
            }
            PeerWord::Await(task, attempt) => {
                self.on_want((peer, message.from), (task, attempt), true, actions);
            }
            PeerWord::Unwant(task, attempt) => {
                if let Some(waiting) = self.subscribers.by_task.get_mut(&(task, attempt)) {
                    waiting.retain(|(rank, _)| *rank != peer);
                }
            }
            PeerWord::Output(task, attempt) => self.on_output(peer, task, attempt, actions),
            PeerWord::Unknown(task, attempt) => self.on_unknown(peer, task, attempt, actions),
        }
    }

    /// Answers now, once the task has run, or once it has come: an order of the scheduler may be overtaken
    /// by a want that another one of its orders caused.
    fn on_want(
        &mut self,
        subscriber: (Rank, Incarnation),
        (task, attempt): (TaskId, Attempt),
        may_come: bool,
        actions: &mut Vec<Action>,
    ) {
        let (peer, life) = subscriber;
        let latest = self.attempt.get(task);
        let stage = if latest == attempt { self.stage.get(task) } else { Stage::Absent };
        match stage {
            Stage::Here => self.say(peer, life, PeerWord::Output(task, attempt), actions),
            Stage::Admitted => {
                self.subscribe(subscriber, task, attempt);
                actions.push(Action::Watch(task, attempt));
            }
            Stage::Heavy => self.subscribe(subscriber, task, attempt),
            Stage::Absent if may_come && attempt > latest => self.subscribe(subscriber, task, attempt),
            Stage::Absent => self.say(peer, life, PeerWord::Unknown(task, attempt), actions),
        }
    }

    fn subscribe(&mut self, subscriber: (Rank, Incarnation), task: TaskId, attempt: Attempt) {
        self.subscribers.by_task.entry((task, attempt)).or_default().push(subscriber);
    }

    /// Tasks have come that others may be waiting for already.
    pub(super) fn watch_awaited(&mut self, tasks: Span, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.subscribers.by_task.is_empty() {
            return;
        }
        let awaited = tasks.tasks().filter(|&task| self.subscribers.by_task.contains_key(&(task, attempt)));
        actions.extend(awaited.map(|task| Action::Watch(task, attempt)));
    }

    fn on_output(&mut self, peer: Rank, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.fetches.answered(peer, (task, attempt)).is_none() {
            return self.drop_unless_kept(task, attempt, actions);
        }
        let stage = self.stage.get(task);
        if stage.is_in_progress() {
            // Another try of it is here by now. The pool may go on with this one, which is as good.
            self.strays.insert(task, attempt);
            return;
        }
        if stage == Stage::Here && self.attempt.get(task) != attempt {
            actions.push(Action::Drop(task, self.attempt.get(task)));
        }
        self.stage.set(task, Stage::Here);
        self.attempt.set(task, attempt);
        self.left.set(task, COPY);
        self.heavies.arrived(task);
    }

    /// Bytes that came although nobody waits for them any more.
    fn drop_unless_kept(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let is_kept = self.stage.get(task) == Stage::Here && self.attempt.get(task) == attempt;
        if !is_kept {
            actions.push(Action::Drop(task, attempt));
        }
    }

    /// The owner has no such output: who waits for it cannot start here.
    fn on_unknown(&mut self, peer: Rank, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let Some(fetch) = self.fetches.answered(peer, (task, attempt)) else { return };
        if self.stage.get(task) == Stage::Here {
            // Meanwhile it was made here, or came from somewhere else.
            return;
        }
        for waiting in fetch.waiting {
            match self.stage.get(waiting) {
                Stage::Admitted => {
                    self.lacking.insert(waiting, fetch.location);
                    actions.push(Action::Revoke(Span::one(waiting), self.attempt.get(waiting)));
                }
                Stage::Heavy if self.heavies.waits_for(waiting, task) => {
                    self.lacking.insert(waiting, fetch.location);
                    self.give_back_heavy(waiting, actions);
                }
                _ => {}
            }
        }
    }

    pub(super) fn want(&self, input: &InputLocation) -> Action {
        let word = match input.is_ahead {
            true => PeerWord::Await(input.task, input.attempt),
            false => PeerWord::Want(input.task, input.attempt),
        };
        let message = PeerMessage { from: self.incarnation, to: input.incarnation, word };
        Action::ToPeer { peer: input.owner, message }
    }

    pub(super) fn unwant(&self, input: &InputLocation) -> Action {
        let word = PeerWord::Unwant(input.task, input.attempt);
        let message = PeerMessage { from: self.incarnation, to: input.incarnation, word };
        Action::ToPeer { peer: input.owner, message }
    }

    pub(super) fn serve_subscribers(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let word = match self.stage.get(task) {
            Stage::Here => PeerWord::Output(task, attempt),
            _ => PeerWord::Unknown(task, attempt),
        };
        self.answer_subscribers((task, attempt), word, actions);
    }

    pub(super) fn tell_subscribers_unknown(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        self.answer_subscribers((task, attempt), PeerWord::Unknown(task, attempt), actions);
    }

    /// Tries before this one will not run here any more.
    pub(super) fn tell_older_subscribers_unknown(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        actions: &mut Vec<Action>,
    ) {
        if self.subscribers.by_task.is_empty() {
            return;
        }
        let older = self.subscribers.by_task.range((task, Attempt(0))..(task, attempt));
        for (task, attempt) in older.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.tell_subscribers_unknown(task, attempt, actions);
        }
    }

    fn answer_subscribers(&mut self, key: (TaskId, Attempt), word: PeerWord, actions: &mut Vec<Action>) {
        if self.subscribers.by_task.is_empty() {
            return;
        }
        for (peer, life) in self.subscribers.by_task.remove(&key).unwrap_or_default() {
            self.say(peer, life, word, actions);
        }
    }

    fn say(&self, peer: Rank, life: Incarnation, word: PeerWord, actions: &mut Vec<Action>) {
        actions
            .push(Action::ToPeer { peer, message: PeerMessage { from: self.incarnation, to: life, word } });
    }
}
