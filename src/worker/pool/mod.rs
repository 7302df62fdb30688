//! The pool: the slots of a worker run its light tasks, those that ask for one core and nothing else.
//!
//! What is admitted runs as soon as its inputs are in the store. Every slot has a deque of its own, from
//! which idle ones steal; a task whose last input was made by a slot is run next by that slot. Outputs are
//! shared by reference and never encoded. The pool starts what it was given and takes back what it is told
//! to: which tasks it gets and which outputs stay, the worker's machine decides.
//!
//! While memory is short, tasks that take outputs go before those that only make one (`held`).
//!
//! Between tasks and when they are idle, slots take the turns of the rank's loop (`Turns`), so that on its
//! way from one rank's slot to another's a task passes no third thread.

mod attendance;
mod claims;
mod crew;
mod ends;
mod held;
mod slot;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use crossbeam_deque::{Injector, Steal, Stealer, Worker as Deque};

use crate::core::event::Cause;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};
use crate::core::worker::memory::Room;

use super::function::{Functions, Stops};
use super::last_words::Place;
use super::output::Output;
use super::plain;
use super::python::PythonCaller;
use super::store::{Store, Terms, Ticket};
use attendance::Attendance;
use claims::{Bits, Claims, Group};
use crew::Crew;
use ends::AllEnds;
pub use ends::Ends;
use held::Held;
use slot::{Running, Slot};

/// Slots that looked for news within so long are taken to look again.
const LOOKED_AFTER: Micros = Micros(150);
/// How long closing waits for functions that do not look whether they should return.
const CLOSING: Duration = Duration::from_secs(2);

/// The turns of a rank's loop, as slots see them. Nobody waits for a turn that another thread takes.
pub trait Turns: Send + Sync {
    /// Something ended that must be handed in now: a turn is taken, by this thread or by whoever is at it.
    fn due(&self);

    /// What ended just now may be handed in later.
    fn entered(&self);

    /// Looks for news, if nobody else does.
    fn look(&self) -> Look;

    /// Rests until news may have come or `Pool::on_rouse` is used, at most `limit`. False, at once, if
    /// another thread rests there, which is told to make room.
    fn rest(&self, limit: Duration) -> bool;

    /// It is for others to look from now on.
    fn leave(&self);

    /// A program ended: a turn is taken, by this thread or by another that is woken for it. True if there is
    /// more to do once what it brought has been started: then this is to be called again.
    fn ended(&self) -> bool;
}

/// What a look for news brought, and what an idle slot should do before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Something came.
    News,
    /// Nothing; look again at once.
    Again,
    /// Nothing; let others have the core first.
    Yield,
    /// Nothing; rest for so long.
    Rest(Duration),
    /// Nothing, and nothing is to be expected soon.
    Quiet,
}

/// Writes values into the run directory.
pub trait Recorder: Send + Sync {
    /// Writes the value of an attempt that ran to success and declared these files. If that fails, so has the
    /// attempt.
    fn record(
        &self,
        task: TaskId,
        attempt: Attempt,
        output: &Output,
        files: Vec<PathBuf>,
    ) -> Result<(), Cause>;
}

/// What a pool begins with.
pub struct Setup {
    /// The graph.
    pub graph: Arc<Graph>,
    /// How many tasks may run at once.
    pub slots: u32,
    /// The functions it knows.
    pub functions: Arc<Functions>,
    /// Calls functions that are Python's; none in tests.
    pub python: Option<Arc<PythonCaller>>,
    /// The attempts that were told to end.
    pub stops: Arc<Stops>,
    /// Where outputs are.
    pub store: Arc<Store>,
    /// Where values go that are persisted.
    pub recorder: Arc<dyn Recorder>,
    /// Where a function leaves its last words that ends the process; nowhere in tests.
    pub place: Option<&'static Place>,
}

/// Runs light tasks.
pub struct Pool {
    setup: Setup,
    claims: Claims,
    /// Tasks whose ends somebody waits for.
    watched: Bits,
    watched_count: AtomicUsize,
    /// What was admitted and may run, oldest first.
    admitted: Injector<Item>,
    stealers: OnceLock<Box<[Stealer<Item>]>>,
    /// What waits for memory.
    held: Held,
    ends: AllEnds,
    running: Box<[Running]>,
    crew: Crew,
    attendance: Attendance,
    /// When a slot last looked for news, in microseconds.
    last_look: AtomicU64,
    is_closing: AtomicBool,
    threads: Mutex<Threads>,
}

/// Tasks that may run.
#[derive(Clone, Copy, Debug)]
struct Item {
    tasks: Span,
    terms: Terms,
}

#[derive(Debug)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// What every thread holds: `alive` ends with the last one.
    living: Option<Sender<()>>,
    alive: Receiver<()>,
}

/// What became of tasks that were to be taken back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TakenBack {
    /// They had not started and never will.
    pub revoked: Vec<Span>,
    /// They have started, or ended: their ends are handed in as any other.
    pub kept: Vec<TaskId>,
}

impl Pool {
    /// A pool whose slots are yet to be started, and may not work before `set_slots`.
    pub fn new(setup: Setup) -> Self {
        let (tasks, slots) = (setup.graph.len(), setup.slots as usize);
        let (living, alive) = crossbeam_channel::bounded(0);
        Pool {
            setup,
            claims: Claims::new(tasks),
            watched: Bits::new(tasks),
            watched_count: AtomicUsize::new(0),
            admitted: Injector::new(),
            stealers: OnceLock::new(),
            held: Held::default(),
            ends: AllEnds::new(slots),
            running: (0..slots).map(|_| Running::default()).collect(),
            crew: Crew::new(slots),
            attendance: Attendance::default(),
            last_look: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            threads: Mutex::new(Threads { handles: Vec::new(), living: Some(living), alive }),
        }
    }

    /// Starts the slots, which take `turns` between tasks.
    pub fn start(self: &Arc<Self>, turns: &Arc<dyn Turns>) -> io::Result<()> {
        let deques: Vec<Deque<Item>> = (0..self.setup.slots).map(|_| Deque::new_lifo()).collect();
        let _ = self.stealers.set(deques.iter().map(Deque::stealer).collect());
        if let Some(memory) = self.setup.store.memory() {
            let pool = Arc::downgrade(self);
            memory
                .on_room(Arc::new(move || pool.upgrade().into_iter().for_each(|pool| pool.crew.wake_all())));
        }
        let mut threads = self.threads.lock().expect("no thread panics holding this lock");
        for (number, deque) in deques.into_iter().enumerate() {
            let slot = Slot::new(number, self.clone(), turns.clone(), deque);
            let living = threads.living.clone();
            let builder = std::thread::Builder::new().name(format!("slot {number}"));
            threads.handles.push(builder.spawn(move || {
                slot.run();
                drop(living);
            })?);
        }
        Ok(())
    }

    /// Takes on tasks that have not run here, or were taken back, or run anew.
    pub fn admit(&self, tasks: Span, terms: Terms) {
        if !self.claims.are_new(tasks) {
            return tasks.tasks().for_each(|task| match self.claims.are_new(Span::one(task)) {
                true => self.admit_new(Span::one(task), terms),
                false => self.admit_again(task, terms),
            });
        }
        self.admit_new(tasks, terms);
    }

    fn admit_new(&self, tasks: Span, terms: Terms) {
        let mut ready = Span { first: tasks.first, count: 0 };
        for task in tasks.tasks() {
            if self.setup.graph.value_inputs(task).is_empty() {
                ready.count += 1;
                continue;
            }
            self.push(ready, terms);
            ready = Span { first: TaskId(task.0 + 1), count: 0 };
            self.wait_for_inputs(self.setup.store.begin_wait(task, terms));
        }
        self.push(ready, terms);
    }

    fn admit_again(&self, task: TaskId, terms: Terms) {
        let waits = !self.setup.graph.value_inputs(task).is_empty();
        let ticket = waits.then(|| self.setup.store.begin_wait(task, terms));
        self.claims.enter_again(task, terms, ticket);
        match ticket {
            Some(ticket) => self.wait_for_inputs(ticket),
            None => self.push(Span::one(task), terms),
        }
    }

    fn wait_for_inputs(&self, ticket: Ticket) {
        let inputs = self.setup.graph.value_inputs(ticket.task()).iter();
        if let Some(terms) = self.setup.store.wait_for(ticket, inputs) {
            self.on_ready(ticket, terms);
        }
    }

    fn on_ready(&self, ticket: Ticket, terms: Terms) {
        self.claims.on_ready(ticket);
        self.push(Span::one(ticket.task()), terms);
    }

    fn push(&self, tasks: Span, terms: Terms) {
        if tasks.count > 0 {
            self.admitted.push(Item { tasks, terms });
            self.announce();
        }
    }

    /// Work was brought. A slot that looks for it takes the first piece by itself, and wakes another if it
    /// leaves any.
    fn announce(&self) {
        if !self.attendance.takes() {
            self.crew.wake(1);
        }
    }

    /// An output that was not made by a slot is here: whoever waited for it may run.
    pub fn deliver(&self, task: TaskId, attempt: Attempt, output: Arc<Output>) {
        let bytes = plain::memory_of(&output);
        for ticket in self.setup.store.insert(task, attempt, output, bytes) {
            if let Some(terms) = self.setup.store.count_down(ticket) {
                self.on_ready(ticket, terms);
            }
        }
    }

    /// Takes back those of these tasks that have not started.
    pub fn revoke(&self, tasks: Span) -> TakenBack {
        let mut taken_back = TakenBack::default();
        for task in tasks.tasks() {
            if self.claims.revoke(task) {
                self.setup.store.withdraw(task);
                Span::add_to(&mut taken_back.revoked, task);
            } else {
                taken_back.kept.push(task);
            }
        }
        taken_back
    }

    /// The end of this task must be handed in at once. It may have ended just now: the caller takes a turn
    /// after this one.
    pub fn watch(&self, task: TaskId) {
        if self.watched.set(Group::one(task)) == 0 {
            self.watched_count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// True, once, if somebody waits for the end of this task.
    fn was_watched(&self, task: TaskId) -> bool {
        if self.watched_count.load(Ordering::SeqCst) == 0 || self.watched.unset(Group::one(task)) == 0 {
            return false;
        }
        self.watched_count.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// How many slots may work from now on. Those in excess stop after their present task, and see to
    /// it that a turn is taken then.
    pub fn set_slots(&self, slots: u32) {
        self.crew.set_limit(slots);
        self.crew.wake_all();
    }

    /// How many slots work.
    pub fn working(&self) -> u32 {
        self.crew.working()
    }

    /// True while a slot without work waits for news.
    pub fn is_attended(&self) -> bool {
        self.attendance.is_any()
    }

    /// What ends the rest of a slot that waits for news. Told before the pool starts.
    pub fn on_rouse(&self, rouse: Box<dyn Fn() + Send + Sync>) {
        self.crew.on_rouse(rouse);
    }

    /// Takes the ends that were not handed in yet. Where the end of a task is among them or was before, those
    /// of its inputs are so, too.
    pub fn take_ends(&self) -> Vec<Ends> {
        self.ends.take()
    }

    /// True if ends wait to be handed in.
    pub fn has_ends(&self) -> bool {
        (0..self.running.len()).any(|slot| !self.ends.of(slot).is_empty())
    }

    /// True if ends wait that should be handed in.
    pub fn has_due_ends(&self, now: Timestamp) -> bool {
        (0..self.running.len()).any(|slot| self.ends.of(slot).are_due(now))
    }

    /// Attempts that run for longer than `limit`, each told once, and their starts. Ends are to be taken
    /// after this, so that none is handed in before its attempt is told.
    pub fn running_for(&self, limit: Micros, now: Timestamp) -> Vec<(TaskId, Attempt, Timestamp)> {
        self.running.iter().filter_map(|running| running.longer_than(limit, now)).collect()
    }

    /// A slot has looked for news.
    pub fn on_look(&self, now: Timestamp) {
        self.last_look.store(now.0, Ordering::Relaxed);
    }

    /// True if slots look for news in time, between tasks or as they have none.
    pub fn is_looked_after(&self, now: Timestamp) -> bool {
        let looks = self.working() > 0 || self.attendance.is_any();
        self.attendance.is_resting() || (looks && self.since_look(now) < LOOKED_AFTER)
    }

    fn since_look(&self, now: Timestamp) -> Micros {
        now.since(Timestamp(self.last_look.load(Ordering::Relaxed)))
    }

    /// True if a slot would find something that may start.
    fn has_work(&self) -> bool {
        match self.setup.store.room() {
            Room::Ample => self.has_items() || !self.held.is_empty(),
            Room::Short => self.has_items() || self.held.has_one(),
            Room::Full => self.has_items(),
            Room::Closed => false,
        }
    }

    fn has_items(&self) -> bool {
        let mut others = self.stealers.get().into_iter().flatten();
        !self.admitted.is_empty() || others.any(|other| !other.is_empty())
    }

    /// True if tasks could start but for the memory that they might take.
    pub fn waits_for_room(&self) -> bool {
        self.setup.store.room() >= Room::Full && (!self.held.is_empty() || self.has_items())
    }

    fn oldest_admitted(&self) -> Option<Item> {
        until_decided(|| self.admitted.steal())
    }

    /// The largest piece of another slot's work.
    fn steal_for(&self, slot: usize) -> Option<Item> {
        let others = self.stealers.get()?;
        let (before, after) = others.split_at(slot);
        after.iter().skip(1).chain(before).find_map(|other| until_decided(|| other.steal()))
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Ends all attempts, with `Cause::Stopped`, and the slots. Functions that do not return are left
    /// behind; their thread ends with the process. No slot calls this.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        self.setup.stops.stop_all();
        self.crew.wake_all();
        let mut threads = self.threads.lock().expect("no thread panics holding this lock");
        threads.living = None;
        let _ = threads.alive.recv_timeout(CLOSING);
        for thread in threads.handles.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

fn until_decided(steal: impl Fn() -> Steal<Item>) -> Option<Item> {
    loop {
        match steal() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}
