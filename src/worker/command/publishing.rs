//! Attempts that have ended well but for their files, which a thread for each puts into their places: syncing them may take long,
//! and other programs are served meanwhile.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;

use super::running::Ending;
use super::staging::Stage;
use super::{Bell, Order};
use crate::clock;
use crate::core::event::{Failure, Success};
use crate::core::time::Timestamp;
use crate::worker::executor::Job;
use crate::worker::output::Output;

/// An attempt whose program has ended well.
pub struct Publication {
    pub job: Job,
    pub started: Timestamp,
    /// Bytes of its value, and the value if other tasks take it.
    pub size_bytes: u64,
    pub value: Option<Arc<Output>>,
    pub stage: Stage,
}

impl Publication {
    /// Puts the files into their places and says what became of the attempt.
    fn publish(self) -> Ending {
        let Publication { job, started, size_bytes, value, stage } = self;
        let published = stage.publish(&job.graph.operation(job.task).outputs, job.attempt);
        // The directories are gone before anybody hears of the end.
        drop(stage);
        let ran = clock::now().since(started);
        match published {
            Ok(file_sizes) => Ok((Success { started, ran, size_bytes, file_sizes }, value)),
            Err(cause) => Err(Failure { started, ran, cause }),
        }
    }
}

/// The threads, which hand in ends like orders.
pub struct Publishing {
    orders: Sender<Order>,
    bell: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishing {
    pub fn new(orders: Sender<Order>, bell: Arc<Bell>) -> Self {
        Publishing { orders, bell, threads: Vec::new() }
    }

    /// Begins; exactly one `Order::Published` follows, unless no thread can be started.
    pub fn start(&mut self, publication: Publication) -> io::Result<()> {
        self.threads.retain(|thread| !thread.is_finished());
        let (orders, bell) = (self.orders.clone(), self.bell.clone());
        let (task, attempt) = (publication.job.task, publication.job.attempt);
        let builder = thread::Builder::new().name("publish".to_owned());
        self.threads.push(builder.spawn(move || {
            let _ = orders.send(Order::Published(task, attempt, publication.publish()));
            bell.ring();
        })?);
        Ok(())
    }

    /// Waits for all that began.
    pub fn finish(&mut self) {
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
