//! How the pool and the heavy tasks share the cores of a worker.
//!
//! Heavy tasks that could start come first, and the pool gets the cores that they leave: light tasks are short
//! and many, and a core is theirs again as soon as no heavy task wants it. The pool is told how many of its slots may
//! work (`Slots`); cores that it gives up count from its answer (`Yielded`).

use crate::core::graph::Graph;
use crate::core::id::TaskId;

use super::queue::Queue;

/// Who has how many cores.
#[derive(Debug)]
pub(super) struct Sharing {
    cpus: u32,
    /// Light tasks that the pool has.
    pub light_count: u32,
    /// Slots that the pool may be using.
    granted: u32,
    /// What the pool was told last, if it was to give up cores and has not answered.
    asked: Option<u32>,
}

impl Sharing {
    /// Nobody has a core yet.
    pub fn new(cpus: u32) -> Self {
        Sharing { cpus, light_count: 0, granted: 0, asked: None }
    }

    /// Slots that the pool may be using.
    pub fn granted(&self) -> u32 {
        self.granted
    }

    /// Cores of the worker.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// The pool's answer: how many cores this sets free.
    pub fn on_yielded(&mut self, slots: u32) -> u32 {
        if self.asked != Some(slots) {
            return 0;
        }
        self.asked = None;
        let freed = self.granted - slots;
        self.granted = slots;
        freed
    }

    /// After heavy tasks started: the pool gives up what the first one that may start lacks, or gets what nobody
    /// else wants. Returns what to tell it.
    pub fn divide(
        &mut self,
        queue: &mut Queue,
        graph: &Graph,
        may_start: impl Fn(TaskId) -> bool,
    ) -> Option<u32> {
        if self.asked.is_some() {
            return None;
        }
        let free = queue.free().cpus;
        if let Some(request) = queue.first_request(graph, may_start) {
            let lack = request.cpus.saturating_sub(free);
            let could_start = lack > 0 && self.granted > 0 && queue.only_lacks_cpus(request);
            self.asked = could_start.then(|| self.granted.saturating_sub(lack));
            return self.asked;
        }
        let is_wanted = self.light_count > 0 && free > 0;
        is_wanted.then(|| {
            queue.take_cpus(free);
            self.granted += free;
            self.granted
        })
    }
}
