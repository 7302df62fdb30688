//! A call that has not happened yet.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use crate::core::id::Rank;
use crate::core::task::TaskOptions;
use crate::runtime::typed::{self, Output, Portable};

use super::argument::{Argument, Source};
use super::registry::{self, Task};

/// The output of a task that has not run yet, to be handed to other tasks or to `Runtime::compute`.
///
/// Copies are cheap and mean the same task. A task that nothing computes never runs. Whatever is to be
/// said about a call is said where it is made:
///
/// ```
/// #[dagmar::task]
/// fn train(samples: &[f64], rounds: u32) -> Vec<f64> {
///     samples.iter().map(|sample| sample * f64::from(rounds)).collect()
/// }
///
/// let model = train(vec![0.5, 1.5], 10).cpus(4).memory(8 << 30).retries(2).priority(10);
/// let better: dagmar::Delayed<Vec<f64>> = train(&model, 20);
/// ```
pub struct Delayed<T> {
    pub(super) node: Arc<Node>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Delayed<T> {
    fn clone(&self) -> Self {
        Delayed { node: self.node.clone(), value: PhantomData }
    }
}

/// One call.
pub struct Node {
    pub(super) task: &'static Task,
    /// What it is if it is no call.
    pub(super) standing: Option<Standing>,
    pub(super) settings: Option<Box<Settings>>,
    sources: Mutex<Vec<Source>>,
    pub(super) kept: OnceLock<Kept>,
}

/// What is there without a call.
pub(super) enum Standing {
    /// A value.
    Value(Arc<Output>),
    /// The output that a running task was given as its n-th input, and has not looked at.
    Taken(u32),
}

/// What was said about one call in particular.
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub options: TaskOptions,
    /// True if it shall run in a process of its own.
    pub is_isolated: bool,
    pub name: Option<String>,
}

/// An output that stays where it was made for as long as this lives.
pub(super) struct Kept {
    pub number: u64,
    pub worker: Rank,
    /// Where its number goes when nobody needs it any more.
    pub unneeded: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Ok(mut unneeded) = self.unneeded.lock() {
            unneeded.push(self.number);
        }
    }
}

/// A value that is there already, where a call is asked for: what a task returns that submits no more.
impl<T: Portable> From<T> for Delayed<T> {
    fn from(value: T) -> Self {
        Delayed::standing(Standing::Value(Arc::new(typed::to_output(Arc::new(value)))))
    }
}

impl<T> Delayed<T> {
    pub(super) fn standing(standing: Standing) -> Self {
        Delayed::of_node(Arc::new(Node::standing(standing)))
    }

    pub(super) fn of_node(node: Arc<Node>) -> Self {
        Delayed { node, value: PhantomData }
    }
}

impl<T: Portable> Delayed<T> {
    /// Writes a call down. `#[dagmar::task]` calls this.
    #[doc(hidden)]
    pub fn call(task: &'static Task, arguments: Vec<Argument>) -> Self {
        let sources = arguments.into_iter().map(|argument| argument.0).collect();
        Delayed { node: Arc::new(Node::new(task, None, sources)), value: PhantomData }
    }

    /// The cores that the call occupies; one if nothing is said, and never none.
    pub fn cpus(self, cpus: u32) -> Self {
        self.with(|settings| settings.options.resources.cpus = cpus.max(1))
    }

    /// The GPUs that the call occupies.
    pub fn gpus(self, gpus: u32) -> Self {
        self.with(|settings| settings.options.resources.gpus = gpus)
    }

    /// The memory in bytes that the call occupies.
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|settings| settings.options.resources.memory_bytes = bytes)
    }

    /// An amount of a resource that has a name, such as licences.
    pub fn resource(self, name: impl Into<String>, amount: u64) -> Self {
        self.with(|settings| {
            settings.options.resources.custom.insert(name.into(), amount);
        })
    }

    /// Further attempts if it fails.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|settings| settings.options.retries = retries)
    }

    /// The time that an attempt may take. A call in the rank cannot be ended from outside: it fails
    /// once it returns. An isolated one is ended.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.options.timeout = Some(limit.into()))
    }

    /// Higher runs first; 0 if nothing is said.
    pub fn priority(self, priority: i32) -> Self {
        self.with(|settings| settings.options.priority = priority)
    }

    /// The run time to expect.
    pub fn expected(self, time: Duration) -> Self {
        self.with(|settings| settings.options.expected = Some(time.into()))
    }

    /// Runs it in a process of its own, so that a crash costs one attempt and not the rank.
    pub fn isolated(self) -> Self {
        self.with(|settings| settings.is_isolated = true)
    }

    /// What it is called in messages, logs and views, instead of its function's name. Calls of one name
    /// are numbered.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.name = Some(name.into()))
    }

    /// Changes what is said about the call. If others have a copy of it already, theirs stays as it is,
    /// and this becomes a call of its own.
    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        if self.node.standing.is_none() && Arc::get_mut(&mut self.node).is_none() {
            let (settings, sources) = (self.node.settings.clone(), self.node.sources().clone());
            self.node = Arc::new(Node::new(self.node.task, settings, sources));
        }
        if let Some(node) = Arc::get_mut(&mut self.node) {
            // What is there without a call has no options, so it is not copied for them.
            change(node.settings.get_or_insert_default());
        }
        self
    }
}

impl Node {
    fn new(task: &'static Task, settings: Option<Box<Settings>>, sources: Vec<Source>) -> Self {
        Node { task, standing: None, settings, sources: Mutex::new(sources), kept: OnceLock::new() }
    }

    fn standing(standing: Standing) -> Self {
        let mut node = Node::new(&registry::VALUE, None, Vec::new());
        node.standing = Some(standing);
        node
    }

    /// The bytes of a value that is there already.
    pub(super) fn standing_bytes(&self) -> Option<Vec<u8>> {
        match &self.standing {
            Some(Standing::Value(output)) => Some(typed::bytes_of(output)),
            _ => None,
        }
    }

    /// Where its arguments come from; empty once its output is kept.
    pub(super) fn sources(&self) -> MutexGuard<'_, Vec<Source>> {
        self.sources.lock().expect("no thread panics holding this lock")
    }

    /// The name of the group that it is counted in.
    pub(super) fn group(&self) -> &str {
        let name = self.settings.as_ref().and_then(|settings| settings.name.as_deref());
        name.unwrap_or(self.task.name)
    }

    /// Its output is kept: it need not run again, and neither need what came before it.
    pub(super) fn keep(&self, kept: Kept) {
        if self.kept.set(kept).is_ok() {
            self.let_go();
        }
    }

    /// Drops what came before it, and whatever nobody else holds before that: one by one, as a chain
    /// of a million calls would not fit on the stack.
    fn let_go(&self) {
        let mut sources = std::mem::take(&mut *self.sources());
        while let Some(source) = sources.pop() {
            let nodes = match source {
                Source::Value(_) => continue,
                Source::Output(node) => vec![node],
                Source::Outputs(nodes) => nodes,
            };
            for mut node in nodes.into_iter().filter_map(Arc::into_inner) {
                sources.append(node.sources.get_mut().expect("no thread panics holding this lock"));
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.let_go();
    }
}
