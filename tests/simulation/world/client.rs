//! A client of a simulated run: it submits tasks at any time, holds, fetches and releases outputs, and hears what
//! it must hear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dagmar::core::addition::{Addition, NewTask, Source, Work};
use dagmar::core::client::{CLIENT, FromClient, Submission, ToClient, graph_of_client};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{PeerMessage, PeerWord};
use dagmar::core::scheduler::{self, TaskState};
use dagmar::core::task::TaskOptions;
use fastrand::Rng;

use super::{Due, World};
use crate::coverage::Happening;
use crate::growing::{Growing, Who};
use crate::oracle::Problem;

/// Tasks that are submitted at once.
const TASKS_MAX: usize = 8;

/// What a client did and heard.
#[derive(Debug)]
pub(super) struct Client {
    submissions_left: u32,
    /// What it holds.
    held: BTreeSet<TaskId>,
    /// What it fetches and has not got.
    wanted: BTreeSet<TaskId>,
    /// How many times it was told that an output is there.
    told: BTreeMap<TaskId, u32>,
    /// What it was told will not come.
    ended: BTreeSet<TaskId>,
    /// True if it goes without waiting for what it wants.
    is_hasty: bool,
    is_closed: bool,
}

impl Client {
    pub fn random(rng: &mut Rng) -> Self {
        Client {
            submissions_left: rng.u32(1..6),
            held: BTreeSet::new(),
            wanted: BTreeSet::new(),
            told: BTreeMap::new(),
            ended: BTreeSet::new(),
            is_hasty: rng.u8(..) < 40,
            is_closed: false,
        }
    }
}

/// What a client's run begins with.
pub(super) fn problem(rng: &mut Rng, cores: u32) -> Problem {
    let graph = graph_of_client("client", "/");
    let growing = Growing { of_256: [0, 0, 60][rng.usize(..3)], cores };
    Problem { beginning: graph.clone(), graph: Arc::new(graph), growing, asked: vec![CLIENT] }
}

impl World {
    /// The client does something, and will do something more.
    pub(super) fn client_acts(&mut self) {
        if self.client.as_ref().is_none_or(|client| client.is_closed) {
            return;
        }
        let again = self.rng.u64(1..=self.faults.run_us_max.max(5_000));
        self.plan(again, Due::Client);
        let client = self.client.as_ref().expect("just looked at");
        if !self.scheduler.is_working() {
            // Rank 0 listens to nobody yet, or any more.
            return;
        }
        let held: Vec<TaskId> = client.held.iter().copied().collect();
        let one = (!held.is_empty()).then(|| held[self.rng.usize(..held.len())]);
        let may_leave = client.submissions_left == 0 && (client.is_hasty || client.wanted.is_empty());
        let may_submit = client.submissions_left > 0;
        let is_wanted = one.is_some_and(|task| client.wanted.contains(&task));
        match (self.rng.u8(..4), one) {
            (0 | 1, _) if may_submit => self.client_submits(&held),
            (2, Some(task)) => self.client_fetches(task),
            (3, Some(task)) if !is_wanted => {
                self.coverage.happened(Happening::ClientReleased);
                self.client_mut().held.remove(&task);
                self.client_says(FromClient::Release(vec![task]));
            }
            _ if self.rng.u8(..) < 10 => self.another_client_comes(&held),
            _ if may_leave && self.rng.u8(..) < 60 => {
                self.client_mut().is_closed = true;
                if self.rng.u8(..) < 80 {
                    self.coverage.happened(Happening::ClientLeft);
                    self.client_mut().wanted.clear();
                    self.client_says(FromClient::Leave);
                } else {
                    self.coverage.happened(Happening::ClientClosed);
                    self.client_says(FromClient::Close);
                }
            }
            _ => {}
        }
    }

    fn client_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("there is one")
    }

    fn client_says(&mut self, word: FromClient) {
        self.scheduler_takes(scheduler::Input::FromClient(word));
    }

    fn client_submits(&mut self, held: &[TaskId]) {
        self.client_mut().submissions_left -= 1;
        let count = self.rng.usize(1..=TASKS_MAX);
        let mut addition = Addition { names: vec!["task".to_owned()], ..Addition::default() };
        for place in 0..count {
            let number = self.rng.u64(..);
            addition.operations.push(Arc::new(Who::numbered(number).operation()));
            let (retries, priority) = (self.rng.u32(0..3), self.rng.i32(-1..2));
            addition.options.push(Arc::new(TaskOptions { retries, priority, ..TaskOptions::default() }));
            let new = (0..place as u32).map(Source::New);
            let known = held.iter().copied().map(Source::Known);
            let rng = &mut self.rng;
            let values: Vec<Source> = new.chain(known).filter(|_| rng.u8(..) < 70).collect();
            let (operation, options) = (place as u32, place as u32);
            let work = Work { operation, place: 0, options, values };
            addition.tasks.push(NewTask { name: 0, work });
        }
        let held: Vec<u32> = (0..count as u32).filter(|_| self.rng.bool()).collect();
        let first = self.scheduler.next_task();
        let tasks = held.iter().map(|place| TaskId(first.0 + place));
        self.client_mut().held.extend(tasks);
        let input = FromClient::Submit(Box::new(Submission { addition, held: held.clone() }));
        // No turn in between: what is numbered is known at once.
        self.scheduler_takes_only(scheduler::Input::FromClient(input));
        if self.scheduler.next_task() == first {
            let gone: Vec<TaskId> = held.iter().map(|place| TaskId(first.0 + place)).collect();
            let client = self.client_mut();
            client.held.retain(|task| !gone.contains(task));
            self.coverage.happened(Happening::SubmissionRefused);
        } else {
            self.coverage.happened(Happening::ClientSubmitted);
        }
        self.plan(0, Due::Tick(Rank::SCHEDULER));
    }

    /// It knows some outputs of the one before, and asks whether they are there.
    fn another_client_comes(&mut self, held: &[TaskId]) {
        self.coverage.happened(Happening::ClientReplaced);
        let known: Vec<TaskId> = held.iter().copied().filter(|_| self.rng.bool()).collect();
        let client = self.client_mut();
        client.held = known.iter().copied().collect();
        client.wanted.clear();
        self.client_says(FromClient::Hold(known.clone()));
        for task in known {
            self.client_says(FromClient::Ask(task));
        }
    }

    fn client_fetches(&mut self, task: TaskId) {
        let client = self.client_mut();
        if !client.ended.contains(&task) && client.wanted.insert(task) {
            self.client_says(FromClient::Fetch(task));
        }
    }

    /// Rank 0 tells the client something.
    pub(super) fn tell_client(&mut self, word: &ToClient) {
        let (ended, now) = match word {
            ToClient::Finished(task) => {
                *self.client_mut().told.entry(*task).or_default() += 1;
                return;
            }
            ToClient::Stored(task, attempt) => {
                self.coverage.happened(Happening::ClientReadStored);
                let (value, _) = self.disk.outputs[&(*task, *attempt)];
                return self.client_gets(*task, value);
            }
            ToClient::Refused(_) => return,
            ToClient::Failed(task, _) => (*task, TaskState::Failed),
            ToClient::Aborted(task, because) => {
                let state = self.scheduler.state(*because);
                assert!(state.is_bad_end(), "task {task} was aborted because of {because}: {state:?}");
                (*task, TaskState::Aborted)
            }
            ToClient::Cancelled(task) => (*task, TaskState::Cancelled),
        };
        // A failure is told before the tables change.
        if now != TaskState::Failed {
            assert_eq!(self.scheduler.state(ended), now, "task {ended}");
        }
        let client = self.client_mut();
        client.ended.insert(ended);
        client.wanted.remove(&ended);
    }

    /// An output is asked of a worker, for the client.
    pub(super) fn fetch_for_client(&mut self, worker: Rank, incarnation: Incarnation, of: (TaskId, Attempt)) {
        let word = PeerWord::Want(of.0, of.1);
        let message = PeerMessage { from: Incarnation::default(), to: incarnation, word };
        let due = Due::ToPeer { from: Rank::SCHEDULER, to: worker, message, value: 0, lent: None };
        self.send(Rank::SCHEDULER, worker, due);
    }

    /// A worker's answer has come to rank 0.
    pub(super) fn client_hears(&mut self, from: Rank, word: PeerWord, value: u64) {
        match word {
            PeerWord::Output(task, _) => self.client_gets(task, value),
            PeerWord::Unknown(task, attempt) => {
                self.coverage.happened(Happening::ClientSentInVain);
                self.client_says(FromClient::NotThere(task, attempt, from));
            }
            other => panic!("{from} says {other:?} to rank 0"),
        }
    }

    fn client_gets(&mut self, task: TaskId, value: u64) {
        assert_eq!(value, self.expected[task.index()], "the client got another output of task {task}");
        if self.client_mut().wanted.remove(&task) {
            self.coverage.happened(Happening::ClientGotOutput);
        }
        self.client_says(FromClient::Fetched(task));
    }

    /// Whoever waited for its outputs has got them, or heard why not.
    pub(super) fn check_client(&self, is_cut_short: bool) {
        let Some(client) = &self.client else { return };
        assert!(client.is_closed || is_cut_short, "the run is over, and its client is there");
        let waits = client.wanted.iter().filter(|_| !client.is_hasty && !is_cut_short);
        assert_eq!(waits.count(), 0, "the client waits for {:?}", client.wanted);
    }
}
