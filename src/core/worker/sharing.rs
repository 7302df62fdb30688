//! How the pool and the heavy tasks share the cores of a worker.
//!
//! Whoever wants something alone has everything. When both want cores they take turns: a heavy task that
//! starts passes the turn to the pool, light tasks that end pass it back. The pool is told how many of its slots
//! may work (`Slots`); cores that it gives up count from its answer (`Yielded`).

use crate::core::graph::Graph;

use super::queue::Queue;

/// Who has how many cores.
#[derive(Debug)]
pub(super) struct Sharing {
    cpus: u32,
    /// Light tasks that the pool has.
    pub light_count: u32,
    /// Slots that the pool may be using.
    granted: u32,
    /// What the pool was told last, if it has not answered.
    asked: Option<u32>,
    is_heavy_turn: bool,
}

impl Sharing {
    /// Nobody has a core yet.
    pub fn new(cpus: u32) -> Self {
        Sharing { cpus, light_count: 0, granted: 0, asked: None, is_heavy_turn: true }
    }

    /// Slots that the pool may be using.
    pub fn granted(&self) -> u32 {
        self.granted
    }

    /// Cores of the worker.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    pub fn light_ended(&mut self, count: u32) {
        self.light_count -= count;
        self.is_heavy_turn = true;
    }

    pub fn heavy_started(&mut self) {
        self.is_heavy_turn = false;
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

    /// Before heavy tasks start: on its turn, a pool without a core gets one. Returns what to tell it.
    pub fn before_start(&mut self, queue: &mut Queue) -> Option<u32> {
        let is_due = self.light_count > 0 && !self.is_heavy_turn && self.granted == 0;
        (is_due && self.asked.is_none() && queue.free().cpus > 0).then(|| self.grant(queue, 1))
    }

    /// After heavy tasks started: the pool gets what nobody else wants, or gives up what the first heavy
    /// task lacks. Returns what to tell it.
    pub fn after_start(&mut self, queue: &mut Queue, graph: &Graph) -> Option<u32> {
        if self.asked.is_some() {
            return None;
        }
        if let Some(request) = queue.first_request(graph) {
            let lack = request.cpus.saturating_sub(queue.free().cpus);
            let may_take = self.light_count == 0 || self.is_heavy_turn;
            if lack > 0 && may_take && self.granted > 0 && queue.only_lacks_cpus(request) {
                let slots = self.granted.saturating_sub(lack);
                self.asked = Some(slots);
                return Some(slots);
            }
            return None;
        }
        let free = queue.free().cpus;
        (self.light_count > 0 && free > 0).then(|| self.grant(queue, free))
    }

    fn grant(&mut self, queue: &mut Queue, cpus: u32) -> u32 {
        queue.take_cpus(cpus);
        self.granted += cpus;
        self.granted
    }
}
