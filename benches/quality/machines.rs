//! The real machines on a simulated cluster: the only file of this bench that knows their messages.
//!
//! Time is virtual; messages take the links' latency, outputs a stream on the network. Tasks run for
//! as long as the workload says. Rank 0 decides as fast as it does in truth if `is_paced`: what comes
//! meanwhile waits for its next turn.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use dagmar::core::event::{Event, Outcome, Success, Totals};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{FromWorker, Order, PeerMessage, PeerWord, Report, ToWorker};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Action, Input, Options, Precedence, Scheduler};
use dagmar::core::time::{Micros, Timestamp};
use dagmar::core::worker::{self, Worker};

use super::cluster::{Agenda, Cluster, Run, Schedule};
use super::network::Network;
use super::workload::Workload;

const LIFE: Incarnation = Incarnation(1);
/// A task is reported as started once it ran this long, so its worker must look again then.
const LOOK_AGAIN_US: u64 = 100_000;
/// More memory than any task asks for: what is compared here is time.
const MEMORY_BYTES: u64 = 1 << 50;

/// What a run of the machines is told.
pub fn options(workers: usize, precedence: Precedence) -> Options {
    Options { workers: workers as u32, workers_come_back: false, persist_asked: false, precedence }
}

/// Plays a workload to its end.
pub fn play(workload: &Workload, cluster: Cluster, options: Options, is_paced: bool) -> Schedule {
    let mut world = World::new(workload, cluster, options, is_paced);
    world.play();
    assert_eq!(world.finished, workload.len(), "every task finishes once");
    world.schedule
}

enum Occurrence {
    ToScheduler(usize, FromWorker),
    SchedulerTurn,
    ToWorker(usize, ToWorker),
    ToPeer { from: usize, to: usize, message: PeerMessage },
    Ended(usize, TaskId, Attempt),
    LookAgain(usize),
}

struct World<'a> {
    workload: &'a Workload,
    cluster: Cluster,
    is_paced: bool,
    now_us: u64,
    agenda: Agenda<Occurrence>,
    network: Network<(usize, usize, PeerMessage)>,
    scheduler: Scheduler,
    inbox: Vec<(usize, FromWorker)>,
    /// When the scheduler is through with its last turn, and whether the next one is entered.
    decided_us: u64,
    is_turn_entered: bool,
    workers: Vec<Worker>,
    /// What each worker holds.
    stores: HashMap<(usize, TaskId), u64>,
    live_bytes: u64,
    finished: usize,
    is_over: bool,
    schedule: Schedule,
}

impl<'a> World<'a> {
    fn new(workload: &'a Workload, cluster: Cluster, options: Options, is_paced: bool) -> Self {
        let graph = &workload.graph;
        let asked: Vec<TaskId> = graph.sinks().collect();
        let capacity = Resources { memory_bytes: MEMORY_BYTES, ..Resources::cores(cluster.cores) };
        let worker = |number| Worker::new(graph.clone(), LIFE, format!("node{number}"), capacity.clone());
        World {
            workload,
            cluster,
            is_paced,
            now_us: 0,
            agenda: Agenda::new(),
            network: Network::new(cluster.links),
            scheduler: Scheduler::new(graph.clone(), &asked, options),
            inbox: Vec::new(),
            decided_us: 0,
            is_turn_entered: false,
            workers: (0..cluster.workers).map(worker).collect(),
            stores: HashMap::new(),
            live_bytes: 0,
            finished: 0,
            is_over: false,
            schedule: Schedule { runs: vec![Run::default(); workload.len()], ..Schedule::default() },
        }
    }

    fn play(&mut self) {
        for worker in 0..self.workers.len() {
            self.turn(worker);
        }
        while !self.is_over {
            let next = [self.agenda.next_us(), self.network.next_end_us()].into_iter().flatten().min();
            self.now_us = next.expect("somebody always has something to do");
            let mut touched = BTreeSet::new();
            for (from, to, message) in self.network.take_ended(self.now_us) {
                self.receive(from, to, message);
                touched.insert(to);
            }
            while let Some(occurrence) = self.agenda.take_at(self.now_us) {
                touched.extend(self.on(occurrence));
            }
            for worker in touched {
                self.turn(worker);
            }
        }
    }

    /// Hands in what happened; the worker that must decide then.
    fn on(&mut self, occurrence: Occurrence) -> Option<usize> {
        match occurrence {
            Occurrence::ToScheduler(worker, message) => {
                self.inbox.push((worker, message));
                if !std::mem::replace(&mut self.is_turn_entered, true) {
                    self.agenda.enter(self.now_us.max(self.decided_us), Occurrence::SchedulerTurn);
                }
                None
            }
            Occurrence::SchedulerTurn => {
                self.decide();
                None
            }
            Occurrence::ToWorker(worker, message) => {
                self.note_assigned(worker, &message);
                self.feed(worker, worker::Input::FromScheduler(message))
            }
            Occurrence::ToPeer { from, to, message } => {
                self.receive(from, to, message);
                Some(to)
            }
            Occurrence::Ended(worker, task, attempt) => {
                let ran = Micros(self.workload.ran_us[task.index()]);
                let started = Timestamp(self.now_us - ran.0);
                let size_bytes = self.workload.bytes[task.index()];
                let success = Success { started, ran, size_bytes, file_sizes: Vec::new() };
                self.schedule.makespan_us = self.now_us;
                self.feed(worker, worker::Input::Ended { task, attempt, ending: Ok(success) })
            }
            Occurrence::LookAgain(worker) => Some(worker),
        }
    }

    fn decide(&mut self) {
        self.is_turn_entered = false;
        let mut actions = Vec::new();
        let began = processor_time();
        for (worker, message) in self.inbox.drain(..) {
            let worker = Rank(worker as u32 + 1);
            self.scheduler.handle(
                Timestamp(self.now_us),
                Input::FromWorker { worker, message },
                &mut actions,
            );
        }
        self.scheduler.handle(Timestamp(self.now_us), Input::Turn, &mut actions);
        let took = processor_time().saturating_sub(began);
        self.schedule.deciding += took;
        self.decided_us = self.now_us + if self.is_paced { us(took) } else { 0 };
        for action in actions {
            match action {
                Action::ToWorker { worker, message } => {
                    let at_us = self.decided_us + self.cluster.links.latency_us;
                    self.agenda.enter(at_us, Occurrence::ToWorker(worker.index() - 1, message));
                }
                Action::Record(Event::TaskFinished { .. }) => self.finished += 1,
                Action::Record(_) => (),
                Action::Finish(outcome) => {
                    assert_eq!(outcome, Outcome::Done);
                    self.is_over = true;
                }
            }
        }
    }

    fn note_assigned(&mut self, worker: usize, message: &ToWorker) {
        for order in &message.orders {
            if let Order::Assign(assignment) = order {
                let run = &mut self.schedule.runs[assignment.task.index()];
                (run.worker, run.assigned_us) = (worker, self.now_us);
            }
        }
    }

    /// Hands a word from one worker to another in; an output lies in the store first.
    fn receive(&mut self, from: usize, to: usize, message: PeerMessage) {
        if let PeerWord::Output(task, _) = message.word {
            self.store(to, task);
        }
        self.feed(to, worker::Input::FromPeer { peer: Rank(from as u32 + 1), message });
    }

    fn feed(&mut self, worker: usize, input: worker::Input) -> Option<usize> {
        let mut actions = Vec::new();
        self.workers[worker].handle(Timestamp(self.now_us), input, &mut actions);
        actions.into_iter().for_each(|action| self.perform(worker, action));
        Some(worker)
    }

    fn turn(&mut self, worker: usize) {
        self.feed(worker, worker::Input::Turn);
    }

    fn perform(&mut self, worker: usize, action: worker::Action) {
        match action {
            worker::Action::ToScheduler(message) => {
                let at_us = self.now_us + self.cluster.links.latency_us;
                self.agenda.enter(at_us, Occurrence::ToScheduler(worker, message));
            }
            worker::Action::ToPeer { peer, message } => self.send(worker, peer.index() - 1, message),
            worker::Action::Start(assignment) => {
                let task = assignment.task;
                let ends_us = self.now_us + self.workload.ran_us[task.index()];
                self.schedule.runs[task.index()].started_us = self.now_us;
                self.agenda.enter(ends_us, Occurrence::Ended(worker, task, assignment.attempt));
                if ends_us > self.now_us + LOOK_AGAIN_US {
                    self.agenda.enter(self.now_us + LOOK_AGAIN_US, Occurrence::LookAgain(worker));
                }
                if assignment.keep {
                    self.store(worker, task);
                }
            }
            worker::Action::Drop(task, _) => {
                self.live_bytes -= self.stores.remove(&(worker, task)).unwrap_or(0);
            }
            worker::Action::Stop(..) => panic!("nothing is stopped here"),
            worker::Action::Leave => {
                let reports = vec![Report::Left(Totals::default())];
                let message = FromWorker { incarnation: LIFE, reports };
                self.agenda.enter(self.now_us, Occurrence::ToScheduler(worker, message));
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        let links = self.cluster.links;
        let bytes = match message.word {
            PeerWord::Output(task, _) => self.workload.bytes[task.index()],
            PeerWord::Unknown(..) => panic!("outputs stay until they are released"),
            PeerWord::Want(..) | PeerWord::Unwant(..) => 0,
        };
        self.schedule.moved_bytes += bytes;
        if links.is_small(bytes) {
            let at_us = self.now_us + links.alone_us(bytes);
            self.agenda.enter(at_us, Occurrence::ToPeer { from, to, message });
        } else {
            self.network.begin(self.now_us, from, to, bytes, (from, to, message));
        }
    }

    /// Notes an output; one of a running task counts from its start, as its memory is taken then.
    fn store(&mut self, worker: usize, task: TaskId) {
        let bytes = self.workload.bytes[task.index()];
        if self.stores.insert((worker, task), bytes).is_none() {
            self.live_bytes += bytes;
            self.schedule.live_bytes_max = self.schedule.live_bytes_max.max(self.live_bytes);
        }
    }
}

/// What this thread has used of a processor: unlike the time of day, other programs do not add to it.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask about itself");
    let both = [usage.user_time(), usage.system_time()];
    both.map(|time| Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64))
        .iter()
        .sum()
}

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
