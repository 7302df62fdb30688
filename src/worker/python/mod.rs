//! Python functions: interpreters that are processes of their own, and how a thread of the rank calls one.
//!
//! A rank has one **template**, an interpreter that its spawner starts, and which forks a **child** for each
//! thread that calls a Python function at the same time. Children stay: what a function imported is there for
//! the next one. Whatever a function does to its process - a crash, `os._exit`, a hang - costs its attempt and
//! a fork, never the rank.
//!
//! What crosses: `frames` (calls and answers), packet by packet over a socket for each child. Values that are
//! large lie in memory files (`object`), which nobody can change once they are there.

mod child;
mod frames;
mod freeze;
mod object;
mod submission;
mod template;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use nix::libc;

use crate::core::event::{Cause, Shortage};
use crate::core::graph::Graph;
use crate::core::id::OperationId;
use crate::core::task::{Operation, Python, TaskOptions};

use super::binding::Binding;
use super::function::Context;
use super::keep::Keep;
use super::memory_events::MemoryEvents;
use super::output::Output;
use super::sink::OutputSink;
use super::spawner::SpawnerLink;
use child::{Broken, Child, Work};
pub use frames::encode_output;
pub use object::{PythonObject, is_lost};
pub use submission::Options;
use template::Template;

/// In the numbers of blocks that have one call.
const CALLED_ONCE: u64 = 1 << 63;
/// Children without a call that are kept at most; the one that was idle for longest goes first.
const IDLE_MAX: usize = 128;

/// A warm template is made once no function was called for so long, for its imports take the cores from calls.
const QUIET: Duration = Duration::from_millis(100);
/// After so many times as long it is made all the same.
const QUIET_AWAITED: usize = 100;

/// The interpreters of a process. One for all its workers and runs, as they take long to start.
#[derive(Default)]
pub struct Interpreters {
    template: Mutex<Option<Arc<Template>>>,
    warm: Mutex<Warm>,
    idle: Mutex<Vec<Child>>,
    runs: AtomicU64,
    /// Calls that tasks submitted.
    calls: AtomicU64,
    /// Calls that have begun, and those that are over.
    traffic: [AtomicU64; 2],
}

/// A template that has imported what takes long. It forks the children of tasks of one core: libraries that were
/// imported start no threads of their own any more.
#[derive(Default)]
struct Warm {
    template: Option<Arc<Template>>,
    /// What it has imported, or what one that is being made imports.
    modules: BTreeSet<String>,
}

/// What a child is made for: its environment, and the CPUs that it is kept on, are those of its whole life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kind {
    environment: Vec<(String, String)>,
    cpus: Vec<u32>,
    is_of_one_core: bool,
}

/// Calls Python functions for one worker in one run.
pub struct PythonCaller {
    keep: Arc<Keep>,
    graph: Arc<Graph>,
    /// Tells the operations of one run from those of another.
    run: u64,
    sink: Mutex<Box<dyn OutputSink>>,
    /// True if what functions print goes to the standard streams of rank 0 as well.
    is_echoed: bool,
    memory: Mutex<MemoryEvents>,
    /// What a client pickled, by the number of the block.
    blocks: Mutex<HashMap<u32, Arc<Vec<u8>>>>,
    /// How many times it has let go of some.
    unlearned: AtomicU64,
    is_used: AtomicBool,
}

/// One attempt at a call.
pub struct PythonCall<'a> {
    /// What it does.
    pub operation: &'a Operation,
    /// Which function, and its arguments.
    pub function: PythonFunction<'a>,
    /// Its number.
    pub number: OperationId,
    /// What it runs under.
    pub options: &'a TaskOptions,
    /// The task's value inputs, by position.
    pub inputs: &'a [Arc<Output>],
    /// What it is bound to, if to anything.
    pub binding: Option<&'a Binding>,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub enum PythonFunction<'a> {
    /// A function that stands in the graph by its name.
    Named(&'a Python),
    /// One of the calls of this block, which a client pickled.
    Pickled(u32),
    /// The call of this block, which a task submitted.
    PickledCall(&'a Arc<Vec<u8>>),
}

impl PythonCaller {
    /// Functions print into `sink`, and through it to the standard streams of rank 0 if that `is_echoed`.
    pub fn new(keep: Arc<Keep>, graph: Arc<Graph>, (sink, is_echoed): (Box<dyn OutputSink>, bool)) -> Self {
        let run = keep.interpreters().runs.fetch_add(1, Ordering::Relaxed);
        let (sink, memory) = (Mutex::new(sink), Mutex::new(MemoryEvents::new()));
        let (blocks, unlearned, is_used) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        PythonCaller { keep, graph, run, sink, is_echoed, memory, blocks, unlearned, is_used }
    }

    /// True once a function was called.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Takes in what a client pickled: its calls follow.
    pub fn learn(&self, block: u32, bytes: Vec<u8>) {
        self.blocks().insert(block, Arc::new(bytes));
    }

    /// Lets go of blocks: no calls of them follow. Children that do nothing let go of them at once, the others later.
    pub fn unlearn(&self, blocks: &[u32]) {
        blocks.iter().for_each(|block| drop(self.blocks().remove(block)));
        self.unlearned.fetch_add(1, Ordering::Relaxed);
        self.interpreters().idle().iter_mut().for_each(|child| self.let_unlearn(child));
    }

    fn let_unlearn(&self, child: &mut Child) {
        let when = (self.run, self.unlearned.load(Ordering::Relaxed));
        let blocks = self.blocks();
        child.unlearn(when, |number| number >> 32 == self.run && blocks.contains_key(&((number - 1) as u32)));
    }

    fn blocks(&self) -> MutexGuard<'_, HashMap<u32, Arc<Vec<u8>>>> {
        self.blocks.lock().expect("no thread panics while it looks for a block")
    }

    /// Calls a function and waits for what it gives.
    pub fn call(&self, call: &PythonCall<'_>, context: &Context<'_>) -> Result<Arc<Output>, Cause> {
        self.is_used.store(true, Ordering::Relaxed);
        let mut child = self.child_for(call)?;
        let (task, attempt) = (context.task(), context.attempt());
        let key = self.graph.key(task);
        let work = match call.function {
            PythonFunction::Named(python) => Work::Defined(frames::Definition {
                python,
                path: &self.graph.columns().directory,
                // What tasks submit has numbers of its own.
                number: self.graph.began_with(task).then_some((self.run, call.number)),
            }),
            PythonFunction::Pickled(block) => {
                let bytes = self.blocks().get(&block).cloned();
                let lost = || Cause::NotStarted("what is to be called did not arrive here".to_owned());
                let place = self.graph.grown(task).map_or(0, |row| row.place);
                let number = (self.run << 32) + u64::from(block) + 1;
                Work::Pickled { block: number, place, bytes: bytes.ok_or_else(lost)? }
            }
            PythonFunction::PickledCall(bytes) => {
                // A number of its own, which is no client's: it is let go of after the call.
                let block = CALLED_ONCE | self.interpreters().calls.fetch_add(1, Ordering::Relaxed);
                Work::Pickled { block, place: 0, bytes: bytes.clone() }
            }
        };
        let frame = frames::Call { key: &key, attempt, inputs: call.inputs };
        let [begun, over] = &self.interpreters().traffic;
        begun.fetch_add(1, Ordering::Relaxed);
        let called = child.call((&work, &frame), (context, call.options), (&self.sink, self.is_echoed));
        over.fetch_add(1, Ordering::Relaxed);
        match called {
            Ok(answer) => {
                let imported = child.take_imported();
                if !imported.is_empty() {
                    self.warm_up(imported);
                }
                self.let_unlearn(&mut child);
                if let Work::Pickled { block, .. } = work
                    && block & CALLED_ONCE > 0
                {
                    child.unlearn_one(block);
                }
                self.interpreters().give_back(child);
                answer
            }
            Err(broken) => Err(self.cause_of(broken)),
        }
    }

    fn interpreters(&self) -> &Interpreters {
        self.keep.interpreters()
    }

    /// A child that was idle, or a new one.
    fn child_for(&self, call: &PythonCall<'_>) -> Result<Child, Cause> {
        let kind = Kind::of(call);
        if let Some(child) = self.interpreters().take_idle(&kind, call.inputs) {
            return Ok(child);
        }
        let spawner = self.keep.spawner();
        let spawner = spawner.ok_or_else(|| Cause::NotStarted("its rank has no spawner".to_owned()))?;
        let gone = |why: String| match spawner.is_gone() {
            true => Cause::NoSpawner,
            false => Cause::NotStarted(why),
        };
        // The second time, the template of the first may just have ended.
        let mut fault = None;
        if kind.is_of_one_core
            && let Some(warm) = self.interpreters().warm_template()
        {
            match warm.fork(&kind) {
                Ok(child) => return Ok(child),
                Err(_) => self.interpreters().cool_down(&warm),
            }
        }
        for _ in 0..2 {
            let template = self.interpreters().template_from(&spawner).map_err(gone)?;
            match template.fork(&kind) {
                Ok(child) => return Ok(child),
                Err(error) => fault = Some(error),
            }
            self.interpreters().discard(&template);
        }
        Err(gone(format!("no Python process could be had: {}", fault.unwrap_or(io::ErrorKind::Other.into()))))
    }

    /// Has a template import what a child has imported, so that further children need not. Nobody waits for it, and
    /// it waits until nothing else is done.
    fn warm_up(&self, modules: Vec<String>) {
        let keep = self.keep.clone();
        if !keep.interpreters().wants(&modules) {
            return;
        }
        let warm = move || {
            keep.interpreters().await_quiet();
            keep.interpreters().warm_with(&modules);
        };
        if let Err(error) = thread::Builder::new().name("python".to_owned()).spawn(warm) {
            log::warn!("no thread for a warm interpreter: {error}");
        }
    }

    fn cause_of(&self, broken: Broken) -> Cause {
        match broken {
            Broken::Ended { status, max_rss_bytes } if libc::WIFSIGNALED(status) => {
                match libc::WTERMSIG(status) {
                    libc::SIGKILL if self.memory().is_short() => {
                        Cause::OutOfMemory(Shortage { used_bytes: max_rss_bytes, ..Shortage::default() })
                    }
                    signal => Cause::Signal(signal),
                }
            }
            Broken::Ended { status, .. } => match libc::WEXITSTATUS(status) {
                0 => Cause::Function("its process ended before it returned".to_owned()),
                code => Cause::ExitCode(code),
            },
            Broken::Gone => Cause::NotStarted("its process is gone, and it was killed".to_owned()),
            Broken::Failed(error) => Cause::NotStarted(format!("its process cannot be talked to: {error}")),
            Broken::Stopped(cause) => cause,
        }
    }

    fn memory(&self) -> MutexGuard<'_, MemoryEvents> {
        self.memory.lock().expect("no thread panics while it looks at memory")
    }
}

impl fmt::Debug for PythonCaller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PythonCaller(run {})", self.run)
    }
}

impl Interpreters {
    fn warm_template(&self) -> Option<Arc<Template>> {
        self.warm().template.clone()
    }

    /// True if some of these libraries are not imported by the warm template, nor by one that is being made.
    fn wants(&self, modules: &[String]) -> bool {
        let mut warm = self.warm();
        let before = warm.modules.len();
        warm.modules.extend(modules.iter().cloned());
        warm.modules.len() > before
    }

    /// Waits until no function was called for a while, or for long enough.
    fn await_quiet(&self) {
        let traffic = || self.traffic.each_ref().map(|count| count.load(Ordering::Relaxed));
        let mut before = traffic();
        for _ in 0..QUIET_AWAITED {
            thread::sleep(QUIET);
            let now @ [begun, over] = traffic();
            if now == before && begun == over {
                return;
            }
            before = now;
        }
    }

    fn warm_with(&self, modules: &[String]) {
        let Some(template) = self.template().clone() else { return };
        match template.warm(modules) {
            Ok(warm) => self.warm().template = Some(Arc::new(warm)),
            Err(error) => {
                log::info!("Python's libraries are imported by each process: {error}");
                if error.kind() != io::ErrorKind::Unsupported {
                    // The next one that imports them asks again.
                    self.warm().modules.clear();
                }
            }
        }
    }

    /// The warm template is gone.
    fn cool_down(&self, gone: &Arc<Template>) {
        let mut warm = self.warm();
        if warm.template.as_ref().is_some_and(|template| Arc::ptr_eq(template, gone)) {
            *warm = Warm::default();
        }
    }

    fn warm(&self) -> MutexGuard<'_, Warm> {
        self.warm.lock().expect("no thread panics while it looks for a template")
    }

    /// Ends all that do nothing, and the template with every other one. A later call would start anew.
    pub fn close(&self) {
        self.idle().clear();
        *self.warm() = Warm::default();
        self.template().take();
    }

    /// A child that does nothing: one that most of the inputs are in, or else the last one that was used, which has
    /// the warmest caches.
    fn take_idle(&self, kind: &Kind, inputs: &[Arc<Output>]) -> Option<Child> {
        let mut idle = self.idle();
        loop {
            let fitting = idle.iter().enumerate().filter(|(_, child)| child.kind() == kind);
            let (place, _) = fitting.max_by_key(|(_, child)| child.bytes_of(inputs))?;
            let child = idle.remove(place);
            // One that ended meanwhile has done no harm.
            if child.is_ready() {
                return Some(child);
            }
        }
    }

    fn give_back(&self, child: Child) {
        if !child.is_ready() {
            return;
        }
        let mut idle = self.idle();
        idle.push(child);
        if idle.len() > IDLE_MAX
            && let Some(place) = idle.iter().position(|child| !child.has_outputs())
        {
            idle.remove(place);
        }
    }

    /// The template, which is started if there is none.
    fn template_from(&self, spawner: &SpawnerLink) -> Result<Arc<Template>, String> {
        let mut template = self.template();
        if let Some(template) = &*template {
            return Ok(template.clone());
        }
        let started = Arc::new(Template::start(spawner)?);
        *template = Some(started.clone());
        Ok(started)
    }

    /// A template that does not answer any more is used no more.
    fn discard(&self, gone: &Arc<Template>) {
        let mut template = self.template();
        if template.as_ref().is_some_and(|template| Arc::ptr_eq(template, gone)) {
            *template = None;
        }
    }

    fn template(&self) -> MutexGuard<'_, Option<Arc<Template>>> {
        self.template.lock().expect("no thread panics while it starts an interpreter")
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Child>> {
        self.idle.lock().expect("no thread panics while it takes an interpreter")
    }
}

impl fmt::Debug for Interpreters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Interpreters")
    }
}

impl Kind {
    fn of(call: &PythonCall<'_>) -> Self {
        let is_of_one_core = call.options.resources.cpus <= 1;
        let cores = call.options.resources.cpus.max(1).to_string();
        let binding = call.binding;
        let mut environment: Vec<(String, String)> =
            ["DAGMAR_CPUS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
                .map(|name| (name.to_owned(), cores.clone()))
                .to_vec();
        environment.extend(binding.into_iter().flat_map(|binding| binding.environment.iter().cloned()));
        let cpus = binding.map_or_else(Vec::new, |binding| binding.slot.cpus.clone());
        Kind { environment, cpus, is_of_one_core }
    }
}
