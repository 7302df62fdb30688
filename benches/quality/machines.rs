//! The real machines on a simulated cluster: the only file of this bench that knows their messages.
//!
//! Time is virtual; messages take the links' latency, outputs a stream on the network. Tasks run for
//! as long as the workload says. Rank 0 decides as fast as it does in truth if `is_paced`: what comes
//! meanwhile waits for its next turn.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use dagmar::core::batch::Batch;
use dagmar::core::event::{Event, Outcome, Success, Totals};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{Assignment, FromWorker, Order, PeerMessage, PeerWord, Report, ToWorker};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Action, Input, Options, Persist, Precedence, Scheduler};
use dagmar::core::span::Span;
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
    Options { workers: workers as u32, workers_come_back: false, persist: Persist::None, precedence }
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
    Ended { worker: usize, task: TaskId, attempt: Attempt, is_light: bool },
    LookAgain { worker: usize, task: TaskId, attempt: Attempt, is_light: bool },
}

/// What runs light tasks: as many as it has slots, each once its inputs are in the store; first what
/// became ready last, then what was admitted first. Ends are handed in at once: tasks here are long.
#[derive(Default)]
struct Pool {
    slots: u32,
    busy: u32,
    /// A change of slots that was not answered yet.
    owes: bool,
    /// Tasks that have not started: the try, whether the value is kept, the inputs that are missing.
    admitted: BTreeMap<TaskId, (Attempt, bool, usize)>,
    waiting: HashMap<TaskId, Vec<TaskId>>,
    startable: VecDeque<TaskId>,
}

impl Pool {
    fn yielded(&mut self) -> Option<worker::Input> {
        let is_due = self.owes && self.busy <= self.slots;
        self.owes &= !is_due;
        is_due.then_some(worker::Input::Yielded(self.slots))
    }

    fn revoke(&mut self, tasks: Span, attempt: Attempt) -> Vec<worker::Input> {
        let answer = |task: TaskId| match self.admitted.get(&task) {
            Some((admitted, ..)) if *admitted == attempt => {
                self.admitted.remove(&task);
                worker::Input::Revoked(Span::one(task), attempt)
            }
            _ => worker::Input::Kept(task, attempt),
        };
        tasks.tasks().map(answer).collect()
    }

    /// An input is in the store.
    fn on_stored(&mut self, input: TaskId) {
        for task in self.waiting.remove(&input).unwrap_or_default() {
            let Some((_, _, missing)) = self.admitted.get_mut(&task) else { continue };
            *missing -= 1;
            if *missing == 0 {
                self.startable.push_front(task);
            }
        }
    }
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
    pools: Vec<Pool>,
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
        let worker = |number| {
            let rank = Rank(number as u32 + 1);
            Worker::new(graph.clone(), rank, LIFE, format!("node{number}"), capacity.clone())
        };
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
            pools: (0..cluster.workers).map(|_| Pool::default()).collect(),
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
            Occurrence::Ended { worker, task, attempt, is_light } => {
                self.on_ended(worker, task, attempt, is_light);
                Some(worker)
            }
            Occurrence::LookAgain { worker, task, attempt, is_light } => {
                if is_light {
                    let started = Timestamp(self.now_us - LOOK_AGAIN_US);
                    self.feed(worker, worker::Input::Runs { task, attempt, started });
                }
                Some(worker)
            }
        }
    }

    fn on_ended(&mut self, worker: usize, task: TaskId, attempt: Attempt, is_light: bool) {
        let ran = Micros(self.workload.ran_us[task.index()]);
        let started = Timestamp(self.now_us - ran.0);
        let size_bytes = self.workload.bytes[task.index()];
        let success = Success { started, ran, size_bytes, file_sizes: Vec::new() };
        self.schedule.makespan_us = self.now_us;
        if self.stores.contains_key(&(worker, task)) {
            self.pools[worker].on_stored(task);
        }
        self.feed(worker, worker::Input::Finished(Batch::one(task, attempt, success)));
        if is_light {
            self.pools[worker].busy -= 1;
            if let Some(answer) = self.pools[worker].yielded() {
                self.feed(worker, answer);
            }
        }
    }

    /// Starts light tasks while there are slots.
    fn run_pool(&mut self, worker: usize) {
        while self.pools[worker].busy < self.pools[worker].slots {
            let Some(task) = self.pools[worker].startable.pop_front() else { return };
            let Some((attempt, is_kept, 0)) = self.pools[worker].admitted.get(&task).copied() else {
                continue;
            };
            self.pools[worker].admitted.remove(&task);
            self.pools[worker].busy += 1;
            self.start(worker, task, attempt, is_kept, true);
        }
    }

    fn admit(&mut self, worker: usize, assignment: &Assignment) {
        for task in assignment.tasks.tasks() {
            let missing = self.workload.values[task.index()].iter().map(|&input| TaskId(input as u32));
            let missing: Vec<TaskId> = missing.filter(|&input| !self.is_stored(worker, input)).collect();
            let pool = &mut self.pools[worker];
            if missing.is_empty() {
                pool.startable.push_back(task);
            }
            pool.admitted.insert(task, (assignment.attempt, assignment.consumers > 0, missing.len()));
            missing.into_iter().for_each(|input| pool.waiting.entry(input).or_default().push(task));
        }
    }

    /// True if an output is there and not only room for it.
    fn is_stored(&self, worker: usize, task: TaskId) -> bool {
        let run = self.schedule.runs[task.index()];
        let is_running_here =
            run.worker == worker && run.started_us + self.workload.ran_us[task.index()] > self.now_us;
        self.stores.contains_key(&(worker, task)) && !is_running_here
    }

    fn start(&mut self, worker: usize, task: TaskId, attempt: Attempt, is_kept: bool, is_light: bool) {
        let ends_us = self.now_us + self.workload.ran_us[task.index()];
        self.schedule.runs[task.index()].started_us = self.now_us;
        self.agenda.enter(ends_us, Occurrence::Ended { worker, task, attempt, is_light });
        if ends_us > self.now_us + LOOK_AGAIN_US {
            let look_again = Occurrence::LookAgain { worker, task, attempt, is_light };
            self.agenda.enter(self.now_us + LOOK_AGAIN_US, look_again);
        }
        if is_kept {
            self.store(worker, task);
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
                Action::Record(Event::TasksFinished { batch, .. }) => self.finished += batch.len() as usize,
                Action::Record(_) | Action::ToClient(_) | Action::Fetch { .. } => (),
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
                for task in assignment.tasks.tasks() {
                    let run = &mut self.schedule.runs[task.index()];
                    (run.worker, run.assigned_us) = (worker, self.now_us);
                }
            }
        }
    }

    /// Hands a word from one worker to another in; an output lies in the store first.
    fn receive(&mut self, from: usize, to: usize, message: PeerMessage) {
        if let PeerWord::Output(task, _) = message.word {
            self.store(to, task);
            self.pools[to].on_stored(task);
        }
        self.feed(to, worker::Input::FromPeer { peer: Rank(from as u32 + 1), message });
    }

    /// Hands an input in, and what the worker's hands answer at once.
    fn feed(&mut self, worker: usize, input: worker::Input) -> Option<usize> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut actions = Vec::new();
            self.workers[worker].handle(Timestamp(self.now_us), input, &mut actions);
            for action in actions {
                let answers = self.perform(worker, action);
                if !answers.is_empty() && inputs.is_empty() {
                    inputs.extend(answers);
                    inputs.push_back(worker::Input::Turn);
                } else {
                    answers.into_iter().rev().for_each(|answer| inputs.push_front(answer));
                }
            }
        }
        self.run_pool(worker);
        Some(worker)
    }

    fn turn(&mut self, worker: usize) {
        self.feed(worker, worker::Input::Turn);
    }

    fn perform(&mut self, worker: usize, action: worker::Action) -> Vec<worker::Input> {
        match action {
            worker::Action::ToScheduler(message) => {
                let at_us = self.now_us + self.cluster.links.latency_us;
                self.agenda.enter(at_us, Occurrence::ToScheduler(worker, message));
            }
            worker::Action::ToPeer { peer, message } => self.send(worker, peer.index() - 1, message),
            worker::Action::Admit(assignment) => self.admit(worker, &assignment),
            worker::Action::Revoke(tasks, attempt) => return self.pools[worker].revoke(tasks, attempt),
            worker::Action::Slots(slots) => {
                let pool = &mut self.pools[worker];
                (pool.slots, pool.owes) = (slots, true);
                return pool.yielded().into_iter().collect();
            }
            worker::Action::Watch(..) | worker::Action::Persist(..) => (),
            worker::Action::Start(assignment) => {
                let (task, is_kept) = (assignment.tasks.first, assignment.consumers > 0);
                self.start(worker, task, assignment.attempt, is_kept, false);
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
        Vec::new()
    }

    fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        let links = self.cluster.links;
        let bytes = match message.word {
            PeerWord::Output(task, _) => self.workload.bytes[task.index()],
            PeerWord::Unknown(..) => 0,
            PeerWord::Want(..) | PeerWord::Await(..) | PeerWord::Unwant(..) => 0,
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
