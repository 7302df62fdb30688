//! The simulated workers' memory at work: outputs leave and come back, and what waits for room gets it or the run ends.

use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{PeerMessage, PeerWord};
use dagmar::core::worker::memory::Room;
use fastrand::Rng;

use super::memory::{Limits, Memory, Writing};
use super::{Due, World};
use crate::coverage::Happening;

/// How long a worker whose tasks all wait for memory hopes that somebody releases some, in microseconds: alone,
/// and among others.
const HOPE_US: [u64; 2] = [2_000_000, 60_000_000];
/// Longest time at the disk, in microseconds.
const DISK_US_MAX: u64 = 20_000;

/// How large outputs are, and what a worker may keep of them; drawn once per seed.
pub fn draw(rng: &mut Rng, tasks: usize) -> (Vec<u64>, Option<Limits>) {
    const SIZES: [u64; 4] = [100, 5_000, 30_000, 100_000];
    let usual = SIZES[rng.usize(..4)];
    let share_of_256 = [0, 100, 255][rng.usize(..3)];
    let size = |rng: &mut Rng| if rng.u8(..) < share_of_256 { SIZES[rng.usize(..4)] } else { usual };
    let sizes = (0..tasks).map(|_| size(rng)).collect();
    let memory = [20_000, 100_000, 400_000][rng.usize(..3)];
    let disk = if rng.bool() { u64::MAX } else { [0, 60_000, 300_000][rng.usize(..3)] };
    (sizes, rng.bool().then_some(Limits { memory, disk }))
}

impl World {
    /// How large a task's output is. Those that are submitted while it runs are like some that it began with.
    pub(super) fn size_of(&self, task: TaskId) -> u64 {
        self.sizes[task.index() % self.sizes.len()]
    }

    fn memory(&mut self, rank: Rank) -> Option<&mut Memory> {
        self.nodes.get_mut(&rank)?.memory.as_mut()
    }

    fn memory_in(&mut self, rank: Rank, life: Incarnation) -> Option<&mut Memory> {
        let node = self.nodes.get_mut(&rank)?;
        (node.is_alive && node.life == life).then_some(node.memory.as_mut())?
    }

    pub(super) fn room(&self, rank: Rank) -> Room {
        self.nodes[&rank].memory.as_ref().map_or(Room::Ample, |memory| memory.room)
    }

    /// After a change: the writer gets what is too much, and who waits hears that there is more room.
    pub(super) fn settle(&mut self, rank: Rank) {
        let life = self.nodes[&rank].life;
        let Some(memory) = self.memory(rank) else { return };
        let has_grown = memory.settle();
        let begins = memory.has_to_write();
        memory.is_writing |= begins;
        if begins {
            self.plan(0, Due::Write(rank, life));
        }
        if has_grown {
            let delay = self.rng.u64(0..60);
            self.plan(delay, Due::Room(rank, life));
        }
    }

    pub(super) fn keep(&mut self, rank: Rank, task: TaskId) {
        let bytes = self.size_of(task);
        if let Some(memory) = self.memory(rank) {
            memory.insert(task, bytes);
            self.settle(rank);
        }
    }

    pub(super) fn drop_kept(&mut self, rank: Rank, task: TaskId) {
        if let Some(memory) = self.memory(rank) {
            memory.remove(task);
            self.settle(rank);
        }
    }

    /// The writer takes the next output, and is at it for a while if it has to.
    pub(super) fn begin_write(&mut self, rank: Rank, life: Incarnation) {
        let Some(memory) = self.memory_in(rank, life) else { return };
        let (refused, writing) = (memory.refused, memory.begin_write());
        let is_refused = memory.refused > refused;
        match writing {
            Some(writing) => {
                self.coverage.happened(Happening::OutputSpilled);
                let delay = self.rng.u64(0..DISK_US_MAX);
                self.plan(delay, Due::Written(rank, life, writing));
            }
            None => {
                memory.is_writing = false;
                if is_refused {
                    self.coverage.happened(Happening::DiskFull);
                }
                self.settle(rank);
            }
        }
    }

    pub(super) fn end_write(&mut self, rank: Rank, life: Incarnation, writing: Writing) {
        let Some(memory) = self.memory_in(rank, life) else { return };
        memory.end_write(writing);
        memory.is_writing = false;
        self.settle(rank);
    }

    /// A task takes its inputs; returns how long it waits for those on the disk.
    pub(super) fn take_inputs(&mut self, rank: Rank, task: TaskId, attempt: Attempt) -> u64 {
        let (life, graph) = (self.nodes[&rank].life, self.nodes[&rank].graph.clone());
        let Some(memory) = self.memory(rank) else { return 0 };
        let away = memory.take((task, attempt), graph.value_inputs(task).iter());
        if away.is_empty() {
            return 0;
        }
        let delay = self.rng.u64(0..DISK_US_MAX);
        self.plan(delay, Due::Read { worker: rank, life, task, attempt, away });
        delay
    }

    pub(super) fn on_read(
        &mut self,
        (rank, life): (Rank, Incarnation),
        (task, attempt): (TaskId, Attempt),
        away: Vec<(TaskId, u64)>,
    ) {
        let Some(memory) = self.memory_in(rank, life) else { return };
        memory.on_read((task, attempt), away);
        self.coverage.happened(Happening::OutputReadBack);
        self.settle(rank);
    }

    /// A task has let go of its inputs. A slot looks what that changes; who runs heavy tasks does not.
    pub(super) fn let_go(&mut self, rank: Rank, run: (TaskId, Attempt), is_light: bool) {
        let Some(memory) = self.memory(rank) else { return };
        memory.end(run);
        if is_light && memory.room > Room::Ample {
            self.settle(rank);
        }
    }

    /// An output leaves for a peer: at once, held until it has arrived, or once it is read.
    pub(super) fn send_output(&mut self, rank: Rank, peer: Rank, message: PeerMessage, value: u64) {
        let PeerWord::Output(task, _) = message.word else { panic!("{message:?} has no output") };
        let life = self.nodes[&rank].life;
        let sent = self.memory(rank).and_then(|memory| memory.send(task));
        let from = rank;
        match sent {
            None => self.send(rank, peer, Due::ToPeer { from, to: peer, message, value, lent: None }),
            Some((true, block)) => {
                let lent = Some((life, block));
                self.send(rank, peer, Due::ToPeer { from, to: peer, message, value, lent });
            }
            Some((false, part)) => {
                let delay = self.rng.u64(0..DISK_US_MAX);
                self.plan(delay, Due::Recalled { from, life, to: peer, message, value, part });
            }
        }
    }

    pub(super) fn on_recalled(
        &mut self,
        (from, life): (Rank, Incarnation),
        to: Rank,
        message: PeerMessage,
        (value, part): (u64, u64),
    ) {
        let Some(memory) = self.memory_in(from, life) else { return };
        memory.on_sent(false, part);
        self.coverage.happened(Happening::OutputReadBack);
        self.send(from, to, Due::ToPeer { from, to, message, value, lent: None });
    }

    /// What was lent to the network is there.
    pub(super) fn on_arrived(&mut self, from: Rank, lent: Option<(Incarnation, u64)>) {
        let Some((life, block)) = lent else { return };
        if let Some(memory) = self.memory_in(from, life) {
            memory.on_sent(true, block);
        }
    }

    /// Those of the light tasks with all inputs here that may start now, and whether one of them may only if
    /// no other of its kind runs.
    pub(super) fn startable(&mut self, rank: Rank, ready: Vec<TaskId>) -> (Vec<TaskId>, bool) {
        let room = self.room(rank);
        let graph = &self.nodes[&rank].graph;
        let (takes, adds): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|&task| !graph.value_inputs(task).is_empty());
        let memory = self.nodes[&rank].memory.as_ref();
        let is_one_running = memory.is_some_and(|memory| memory.only.is_some());
        let (able, is_only) = match room {
            Room::Ample => ([takes, adds].concat(), false),
            Room::Closed => (Vec::new(), false),
            _ if !takes.is_empty() => (takes, false),
            Room::Short if !is_one_running => (adds, true),
            _ => (Vec::new(), false),
        };
        if able.is_empty() {
            self.coverage.happened(Happening::TaskHeldBack);
        }
        (able, is_only)
    }

    pub(super) fn set_only(&mut self, rank: Rank, task: TaskId) {
        self.memory(rank).expect("without memory there is room").only = Some(task);
    }

    /// Looks now and then, as a worker's loop does, whether nothing can start for want of room.
    pub(super) fn check_room(&mut self, rank: Rank) {
        if self.room(rank) > Room::Ample {
            self.settle(rank);
        }
        let is_idle = self.nodes[&rank].running.is_empty();
        let waits = self.waits_for_room(rank);
        let is_stuck = self.room(rank) >= Room::Full
            && is_idle
            && waits
            && self.memory(rank).is_some_and(|memory| memory.is_without_room());
        let (now, hope) = (self.now, HOPE_US[usize::from(self.nodes.len() > 1)]);
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        if !is_stuck {
            node.stuck_since = None;
        } else if now - *node.stuck_since.get_or_insert(now) >= hope {
            self.without_room = Some(rank);
        }
    }

    fn waits_for_room(&self, rank: Rank) -> bool {
        let node = &self.nodes[&rank];
        node.machine.waits_for_room() || !node.pool.ready(&node.graph, &node.store).is_empty()
    }

    /// The run ended because a worker had no room: it was right, and nothing anywhere could have helped.
    pub(super) fn check_without_room(&mut self, rank: Rank) {
        self.coverage.happened(Happening::EndedWithoutRoom);
        self.memory(rank).expect("it has a limit").check_without_room();
        for (other, node) in &self.nodes {
            assert!(node.running.is_empty(), "worker {rank} gave up while {other} runs something");
        }
    }
}
