//! Runs commands: one thread serves all of a rank's programs, their streams and their ends.
//!
//! The thread waits in one `poll` over the keepers' sockets, all pipes and a bell that is rung for
//! new orders. Who forks is `spawner`; this side never does.

mod capture;
mod feed;
mod preparation;
mod publishing;
mod ranks;
mod running;
mod service;
mod staging;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::executor::{Ended, Executor, Job};
use super::sink::OutputSink;
use super::spawner::SpawnerLink;
use crate::core::event::Cause;
use crate::core::id::{Attempt, TaskId};
pub(super) use capture::pipe_to_read;
use publishing::Publishing;
use running::Ending;
use service::Service;

/// Runs the tasks that are commands.
///
/// Dropping it ends every attempt, with `Cause::Stopped`, and the spawner if nobody else holds it. An attempt that ends with
/// `Cause::NoSpawner` says that no later one will run: the spawner cannot be started again, so the
/// rank must leave the run. A rank that runs only functions never learns of it, and need not.
pub struct CommandExecutor {
    orders: Sender<Order>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// What the worker's loop asks for.
enum Order {
    Start(Job),
    Stop(TaskId, Attempt, Cause),
    /// The files of an attempt whose program ended well are in their places, or are not.
    Published(TaskId, Attempt, Ending),
    Close,
}

impl CommandExecutor {
    /// Starts the thread. After each group of ends sent through `ended`, `wake` is called.
    pub fn new(
        link: impl Into<Arc<SpawnerLink>>,
        sink: Box<dyn OutputSink>,
        ended: Sender<Ended>,
        wake: Box<dyn Fn() -> bool + Send>,
    ) -> std::io::Result<Self> {
        raise_descriptor_limit();
        let (bell, hearing) = Bell::new()?;
        let (orders, received) = crossbeam_channel::unbounded();
        let publishing = Publishing::new(orders.clone(), bell.clone());
        let service = Service::new(link.into(), sink, (ended, wake), (received, hearing), publishing);
        let thread = std::thread::Builder::new().name("commands".to_owned()).spawn(move || service.run())?;
        Ok(CommandExecutor { orders, bell, thread: Some(thread) })
    }

    fn order(&self, order: Order) {
        // The thread ends only when this executor is dropped.
        let _ = self.orders.send(order);
        self.bell.ring();
    }
}

impl Executor for CommandExecutor {
    fn start(&mut self, job: Job) {
        self.order(Order::Start(job));
    }

    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        self.order(Order::Stop(task, attempt, cause));
    }
}

impl Drop for CommandExecutor {
    fn drop(&mut self) {
        self.order(Order::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Every running command needs up to four descriptors here, and the usual limit of 1024 is meant
/// for programs that use `select`. Commands keep the old limit: the spawner has it.
fn raise_descriptor_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Ends the thread's `poll`. It makes a system call only if the thread sleeps: awake, it looks for orders by itself.
struct Bell {
    is_awake: Arc<AtomicBool>,
    rope: UnixStream,
}

/// The side of the bell that `poll` watches.
struct Hearing {
    is_awake: Arc<AtomicBool>,
    stream: UnixStream,
}

impl Bell {
    fn new() -> std::io::Result<(Arc<Bell>, Hearing)> {
        let (rope, stream) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        stream.set_nonblocking(true)?;
        let is_awake = Arc::new(AtomicBool::new(true));
        Ok((Arc::new(Bell { is_awake: is_awake.clone(), rope }), Hearing { is_awake, stream }))
    }

    fn ring(&self) {
        if !self.is_awake.swap(true, Ordering::SeqCst) {
            let _ = (&self.rope).write(&[0]);
        }
    }
}

impl Hearing {
    /// Orders that are given from now on end the sleep. Who calls this looks for orders before it sleeps.
    fn fall_asleep(&self) {
        self.is_awake.store(false, Ordering::SeqCst);
    }

    /// Orders that are given from now on are found without the bell.
    fn wake_up(&self) {
        self.is_awake.store(true, Ordering::SeqCst);
    }

    /// Makes the bell silent.
    fn hush(&self) {
        let _ = (&self.stream).read(&mut [0; 16]);
    }
}
