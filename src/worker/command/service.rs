//! The thread that serves all commands of a rank.

use std::os::fd::AsFd;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::capture::CHUNK_BYTES;
use super::preparation::Preparation;
use super::publishing::Publishing;
use super::running::Running;
use super::{Hearing, Order};
use crate::clock::now;
use crate::core::event::{Cause, Failure};
use crate::core::id::{Attempt, TaskId};
use crate::core::time::{Micros, Timestamp};
use crate::worker::executor::{Ended, Job};
use crate::worker::files::{self, Sight};
use crate::worker::memory_events::MemoryEvents;
use crate::worker::sink::OutputSink;
use crate::worker::spawner::{KeeperLink, Reply, Room, SpawnerLink};

/// How long an attempt waits for files that another node wrote; then it fails.
const ABSENT_PATIENCE: Micros = Micros::from_secs(10);
/// How long it waits for files to reach the sizes that were reported; then it starts, as a later
/// task may well have changed them.
const CHANGED_PATIENCE: Micros = Micros::from_secs(2);
/// How often it looks.
const FILE_LOOK: Micros = Micros::from_millis(50);

/// Everything the thread owns.
pub struct Service {
    sink: Box<dyn OutputSink>,
    ended: Sender<Ended>,
    wake: Box<dyn Fn() -> bool + Send>,
    orders: Receiver<Order>,
    hearing: Hearing,
    /// Attempts whose files are not to be seen yet.
    waiting: Vec<Waiting>,
    running: Vec<Running>,
    /// Attempts whose files are being put into their places.
    publishing: Publishing,
    /// Keepers without an attempt.
    idle: Vec<KeeperLink>,
    memory: MemoryEvents,
    buffer: Vec<u8>,
    room: Room,
    /// True if something ended since the worker's loop took a turn, or it has not done with that.
    news: bool,
    /// Last, as dropping it waits for the keepers, which wait for their sockets to close.
    link: Arc<SpawnerLink>,
}

struct Waiting {
    job: Job,
    since: Timestamp,
    /// When all its files were first seen, if not in the right sizes.
    present: Option<Timestamp>,
    look: Timestamp,
}

/// What `poll` watches.
#[derive(Clone, Copy)]
enum Watched {
    Bell,
    Keeper(usize),
    Stdin(usize),
    Stdout(usize),
    Stderr(usize),
}

impl Service {
    pub fn new(
        link: Arc<SpawnerLink>,
        sink: Box<dyn OutputSink>,
        (ended, wake): (Sender<Ended>, Box<dyn Fn() -> bool + Send>),
        (orders, hearing): (Receiver<Order>, Hearing),
        publishing: Publishing,
    ) -> Self {
        Service {
            link,
            sink,
            ended,
            wake,
            orders,
            hearing,
            waiting: Vec::new(),
            running: Vec::new(),
            publishing,
            idle: Vec::new(),
            memory: MemoryEvents::new(),
            buffer: vec![0; CHUNK_BYTES],
            room: Room::default(),
            news: false,
        }
    }

    /// Serves until the executor is dropped.
    pub fn run(mut self) {
        while self.take_orders() {
            self.look_for_files();
            self.check_deadlines();
            self.announce();
            let events = self.sleep();
            // From the last to the first, so that removing an attempt moves only served ones.
            for &watched in events.iter().rev() {
                self.on_event(watched);
            }
        }
        self.close();
    }

    /// False when the executor is being dropped.
    fn take_orders(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Start(job) => self.start(job),
                Order::Stop(task, attempt, cause) => self.stop(task, attempt, cause),
                Order::Published(task, attempt, ending) => self.send(task, attempt, ending),
                Order::Close => return false,
            }
        }
        true
    }

    fn start(&mut self, job: Job) {
        let since = now();
        self.look(Waiting { job, since, present: None, look: since });
    }

    fn launch(&mut self, job: Job, since: Timestamp) {
        match Preparation::new(&job).and_then(|prepared| Ok((self.engage(&prepared)?, prepared))) {
            Ok((keeper, prepared)) => self.running.push(Running::new(job, keeper, prepared)),
            Err(cause) => self.fail(&job, since, cause),
        }
    }

    /// Hands the launch to an idle keeper, or to a new one.
    fn engage(&mut self, prepared: &Preparation) -> Result<KeeperLink, Cause> {
        while let Some(keeper) = self.idle.pop() {
            if keeper.launch(&prepared.launch, prepared.streams()).is_ok() {
                return Ok(keeper);
            }
        }
        let engaged = self.link.keeper().and_then(|keeper| {
            keeper.launch(&prepared.launch, prepared.streams())?;
            Ok(keeper)
        });
        engaged.map_err(|error| match self.link.is_gone() {
            true => Cause::NoSpawner,
            false => Cause::NotStarted(format!("the spawner did not take it: {error}")),
        })
    }

    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        let same = |job: &Job| job.task == task && job.attempt == attempt;
        if let Some(place) = self.waiting.iter().position(|waiting| same(&waiting.job)) {
            let Waiting { job, since, .. } = self.waiting.swap_remove(place);
            self.fail(&job, since, cause);
        } else if let Some(running) = self.running.iter_mut().find(|running| same(&running.job)) {
            running.end_with_grace(cause);
        }
    }

    fn look_for_files(&mut self) {
        let time = now();
        for waiting in std::mem::take(&mut self.waiting) {
            match time < waiting.look {
                true => self.waiting.push(waiting),
                false => self.look(waiting),
            }
        }
    }

    /// Starts an attempt whose files are there, and fails one whose files do not come.
    fn look(&mut self, mut waiting: Waiting) {
        let time = now();
        let Waiting { job, since, present, look } = &mut waiting;
        match files::look(&job.expected_files, job.graph.operation(job.task), job.attempt) {
            Sight::Complete => return self.launch(waiting.job, waiting.since),
            Sight::Changed if time.since(*present.get_or_insert(time)) >= CHANGED_PATIENCE => {
                return self.launch(waiting.job, waiting.since);
            }
            Sight::Absent(path) if time.since(*since) >= ABSENT_PATIENCE => {
                return self.fail(&waiting.job, waiting.since, Cause::MissingInput(path));
            }
            Sight::Changed | Sight::Absent(_) => *look = time + FILE_LOOK,
        }
        self.waiting.push(waiting);
    }

    fn check_deadlines(&mut self) {
        let time = now();
        for place in (0..self.running.len()).rev() {
            if self.running[place].check_deadline(time) {
                let mut running = self.running.swap_remove(place);
                running.finish_streams(&mut *self.sink, &mut self.buffer);
                let ending = running.failure(Cause::Stopped);
                self.send(running.job.task, running.job.attempt, ending);
            }
        }
    }

    fn announce(&mut self) {
        self.news = self.news && (self.wake)();
    }

    /// Waits for anything to happen, unless orders came meanwhile or the worker's loop is to have another turn.
    fn sleep(&self) -> Vec<Watched> {
        self.hearing.fall_asleep();
        let is_done = self.orders.is_empty() && !self.news;
        let events = if is_done { self.wait() } else { Vec::new() };
        self.hearing.wake_up();
        events
    }

    fn wait(&self) -> Vec<Watched> {
        let (watched, mut polled): (Vec<Watched>, Vec<PollFd<'_>>) = self.watched().into_iter().unzip();
        if poll(&mut polled, self.limit()).is_err() {
            return Vec::new();
        }
        let happened = polled.iter().map(|polled| polled.any().unwrap_or(false));
        watched.into_iter().zip(happened).filter_map(|(what, happened)| happened.then_some(what)).collect()
    }

    fn watched(&self) -> Vec<(Watched, PollFd<'_>)> {
        let (read, write) = (PollFlags::POLLIN, PollFlags::POLLOUT);
        let mut all = vec![(Watched::Bell, PollFd::new(self.hearing.stream.as_fd(), read))];
        for (place, running) in self.running.iter().enumerate() {
            all.push((Watched::Keeper(place), PollFd::new(running.keeper.as_fd(), read)));
            let mut stream = |what, descriptor: Option<_>, flags| {
                all.extend(descriptor.map(|descriptor| (what, PollFd::new(descriptor, flags))));
            };
            stream(Watched::Stdin(place), running.stdin_fd(), write);
            stream(Watched::Stdout(place), running.stdout_fd(), read);
            stream(Watched::Stderr(place), running.stderr_fd(), read);
        }
        all
    }

    fn limit(&self) -> PollTimeout {
        let looks = self.waiting.iter().map(|waiting| waiting.look);
        let deadlines = self.running.iter().filter_map(|running| running.deadline);
        let Some(next) = looks.chain(deadlines).min() else { return PollTimeout::NONE };
        let millis = next.since(now()).0.div_ceil(1000);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    }

    fn on_event(&mut self, watched: Watched) {
        let (sink, buffer) = (&mut *self.sink, &mut self.buffer[..]);
        match watched {
            Watched::Bell => self.hearing.hush(),
            Watched::Stdin(place) => self.running[place].feed(),
            Watched::Stdout(place) => self.running[place].read_stdout(sink, buffer),
            Watched::Stderr(place) => self.running[place].read_stderr(sink, buffer),
            Watched::Keeper(place) => self.on_keeper(place),
        }
    }

    fn on_keeper(&mut self, place: usize) {
        let reply = self.running[place].keeper.receive(&mut self.room);
        let mut running = self.running.swap_remove(place);
        running.finish_streams(&mut *self.sink, &mut self.buffer);
        let ending = match reply {
            Ok(Some(Reply::Exited(exit))) if running.must_publish(&exit) => {
                return self.publish(running, exit.remaining == 0);
            }
            Ok(Some(Reply::Exited(exit))) => {
                let ending = running.ending(exit, &mut self.memory);
                if exit.remaining == 0 {
                    self.idle.push(running.keeper);
                }
                ending
            }
            Ok(Some(Reply::NotStarted(why))) => {
                let ending = running.failure(Cause::NotStarted(why));
                self.idle.push(running.keeper);
                ending
            }
            Ok(None) | Err(_) => running.failure(self.loss()),
        };
        self.send(running.job.task, running.job.attempt, ending);
    }

    /// The program has ended well, and its files are put into their places.
    fn publish(&mut self, running: Running, is_keeper_free: bool) {
        let (keeper, publication) = running.into_publication();
        if is_keeper_free {
            self.idle.push(keeper);
        }
        let (job, started) = (publication.job.clone(), publication.started);
        if let Err(error) = self.publishing.start(publication) {
            let why = format!("no thread to put its files into their places: {error}");
            self.fail(&job, started, Cause::NotRecorded(why));
        }
    }

    /// Why a keeper is gone. A spawner's end ends all keepers. It is looked for only here and where a
    /// keeper is wanted, as a dead spawner harms nobody else.
    fn loss(&self) -> Cause {
        match self.link.is_gone() {
            true => Cause::NoSpawner,
            false => Cause::NotStarted("the process that kept it is gone, and it was killed".to_owned()),
        }
    }

    fn fail(&mut self, job: &Job, started: Timestamp, cause: Cause) {
        let failure = Failure { started, ran: now().since(started), cause };
        self.send(job.task, job.attempt, Err(failure));
    }

    fn send(&mut self, task: TaskId, attempt: Attempt, ending: super::running::Ending) {
        // A worker's loop that is gone needs no ends.
        let _ = self.ended.send(Ended { task, attempt, ending });
        self.news = true;
    }

    /// Ends everything. The keepers see their sockets close; the spawner is waited for, and with
    /// it all processes.
    fn close(mut self) {
        let time = now();
        self.publishing.finish();
        let mut open: Vec<(Job, Timestamp)> =
            self.waiting.drain(..).map(|waiting| (waiting.job, waiting.since)).collect();
        for order in self.orders.try_iter().collect::<Vec<_>>() {
            match order {
                Order::Start(job) => open.push((job, time)),
                Order::Published(task, attempt, ending) => self.send(task, attempt, ending),
                Order::Stop(..) | Order::Close => {}
            }
        }
        open.extend(self.running.drain(..).map(|running| (running.job, running.started)));
        for (job, started) in open {
            self.fail(&job, started, Cause::Stopped);
        }
        self.announce();
        self.idle.clear();
    }
}
