//! The simulated memory and scratch disk of a worker, around the real ledger.
//!
//! Outputs are bytes without content: in memory, on the disk, or both; held by tasks that run, by messages and by
//! the writer. What is really held is counted here a second time, and must be what the ledger is told.

use std::collections::{BTreeMap, VecDeque};

use dagmar::core::id::{Attempt, TaskId};
use dagmar::core::worker::memory::{COUNTED_FROM, Leaving, Ledger, Room};

/// Bytes that outputs may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub memory: u64,
    pub disk: u64,
}

/// An output in memory: kept, held, or both.
#[derive(Debug)]
struct Block {
    bytes: u64,
    is_kept: bool,
    holders: u32,
}

/// Where the output of a task is.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    block: Option<u64>,
    part: Option<u64>,
}

/// An output that the writer is at.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    leaving: Leaving,
    block: u64,
    part: u64,
}

#[derive(Debug)]
pub struct Memory {
    limits: Limits,
    ledger: Ledger,
    cells: BTreeMap<TaskId, Cell>,
    blocks: BTreeMap<u64, Block>,
    /// On the disk, in the same way.
    parts: BTreeMap<u64, Block>,
    parts_made: usize,
    /// How many were released, as far as the ledger knows.
    parts_released: usize,
    number: u64,
    /// What each running task holds.
    inputs: BTreeMap<(TaskId, Attempt), Vec<u64>>,
    /// What waits for the writer.
    leaving: VecDeque<Leaving>,
    pub is_writing: bool,
    pub room: Room,
    /// The task without inputs that runs though memory is short.
    pub only: Option<TaskId>,
    pub spilled: u64,
    pub read_back: u64,
    pub refused: u64,
}

impl Memory {
    pub fn new(limits: Limits) -> Self {
        Memory {
            limits,
            ledger: Ledger::new(limits.memory),
            cells: BTreeMap::new(),
            blocks: BTreeMap::new(),
            parts: BTreeMap::new(),
            parts_made: 0,
            parts_released: 0,
            number: 0,
            inputs: BTreeMap::new(),
            leaving: VecDeque::new(),
            is_writing: false,
            room: Room::Ample,
            only: None,
            spilled: 0,
            read_back: 0,
            refused: 0,
        }
    }

    // --- what the store does ----------------------------------------------------------------

    pub fn insert(&mut self, task: TaskId, bytes: u64) {
        if bytes < COUNTED_FROM {
            return;
        }
        self.forget_cell(task);
        self.ledger.enter(task, bytes);
        let block = self.block(bytes, true, 0);
        self.cells.insert(task, Cell { block: Some(block), part: None });
    }

    pub fn remove(&mut self, task: TaskId) {
        if self.cells.contains_key(&task) {
            self.forget_cell(task);
            self.ledger.forget(task);
        }
    }

    fn forget_cell(&mut self, task: TaskId) {
        let Some(Cell { block, part }) = self.cells.remove(&task) else { return };
        block.into_iter().for_each(|block| keep_no_more(&mut self.blocks, block));
        part.into_iter().for_each(|part| keep_no_more(&mut self.parts, part));
    }

    fn block(&mut self, bytes: u64, is_kept: bool, holders: u32) -> u64 {
        self.number += 1;
        self.blocks.insert(self.number, Block { bytes, is_kept, holders });
        self.number
    }

    /// A task takes its inputs. Those on the disk are to be read; their parts stay until they are.
    pub fn take(
        &mut self,
        run: (TaskId, Attempt),
        inputs: impl Iterator<Item = TaskId>,
    ) -> Vec<(TaskId, u64)> {
        let mut away = Vec::new();
        let mut held = Vec::new();
        for input in inputs {
            match self.cells.get(&input) {
                Some(Cell { block: Some(block), .. }) => {
                    hold(&mut self.blocks, *block);
                    held.push(*block);
                    self.ledger.on_used(input);
                }
                Some(Cell { block: None, part: Some(part) }) => {
                    hold(&mut self.parts, *part);
                    away.push((input, *part));
                }
                _ => {}
            }
        }
        self.inputs.insert(run, held);
        away
    }

    /// What was on the disk is read: kept in memory again, if it was not released meanwhile.
    pub fn on_read(&mut self, run: (TaskId, Attempt), away: Vec<(TaskId, u64)>) {
        for (input, part) in away {
            let bytes = self.parts[&part].bytes;
            self.read_back += bytes;
            let cell = self.cells.get(&input).copied().filter(|cell| cell.part == Some(part));
            let block = match cell {
                Some(Cell { block: Some(block), .. }) => block,
                Some(Cell { block: None, .. }) => {
                    let block = self.block(bytes, true, 0);
                    self.cells.get_mut(&input).expect("just seen").block = Some(block);
                    self.ledger.on_read(input);
                    block
                }
                None => self.block(bytes, false, 0),
            };
            let_go(&mut self.parts, part);
            match self.inputs.get_mut(&run) {
                Some(held) => {
                    hold(&mut self.blocks, block);
                    held.push(block);
                }
                None => drop_if_unused(&mut self.blocks, block),
            }
        }
    }

    /// The task has let go of its inputs.
    pub fn end(&mut self, run: (TaskId, Attempt)) {
        for block in self.inputs.remove(&run).unwrap_or_default() {
            let_go(&mut self.blocks, block);
        }
        if self.only == Some(run.0) {
            self.only = None;
        }
    }

    /// An output is sent: from memory (true, held until it has arrived), or from the disk, to be read before.
    pub fn send(&mut self, task: TaskId) -> Option<(bool, u64)> {
        match self.cells.get(&task)? {
            Cell { block: Some(block), .. } => {
                hold(&mut self.blocks, *block);
                Some((true, *block))
            }
            Cell { part: Some(part), .. } => {
                hold(&mut self.parts, *part);
                Some((false, *part))
            }
            Cell { .. } => None,
        }
    }

    /// A message with an output has arrived, or what it sends was read.
    pub fn on_sent(&mut self, is_block: bool, number: u64) {
        let_go(if is_block { &mut self.blocks } else { &mut self.parts }, number);
    }

    // --- what the writer does ---------------------------------------------------------------

    /// Begins to write what is next, or does without. None if nothing is to be waited for.
    pub fn begin_write(&mut self) -> Option<Writing> {
        let leaving = self.leaving.pop_front()?;
        let cell = self.cells.get(&leaving.task).copied().unwrap_or_default();
        let Some(block) = cell.block.filter(|_| self.ledger.leaving_bytes(leaving).is_some()) else {
            self.ledger.on_stayed(leaving, false);
            return None;
        };
        hold(&mut self.blocks, block);
        if let Some(part) = cell.part {
            hold(&mut self.parts, part);
            return Some(Writing { leaving, block, part });
        }
        let bytes = self.blocks[&block].bytes;
        if self.disk_bytes() + bytes > self.limits.disk {
            self.refused += 1;
            self.ledger.on_stayed(leaving, true);
            let_go(&mut self.blocks, block);
            return None;
        }
        self.spilled += bytes;
        self.number += 1;
        self.parts_made += 1;
        self.parts.insert(self.number, Block { bytes, is_kept: false, holders: 1 });
        Some(Writing { leaving, block, part: self.number })
    }

    pub fn end_write(&mut self, Writing { leaving, block, part }: Writing) {
        let is_same = self.cells.get(&leaving.task).is_some_and(|cell| cell.block == Some(block));
        if is_same && self.ledger.leaving_bytes(leaving).is_some() {
            self.cells.insert(leaving.task, Cell { block: None, part: Some(part) });
            self.parts.get_mut(&part).expect("it was just written").is_kept = true;
            self.ledger.on_left(leaving);
            keep_no_more(&mut self.blocks, block);
        } else {
            self.ledger.on_stayed(leaving, false);
        }
        let_go(&mut self.blocks, block);
        let_go(&mut self.parts, part);
    }

    // --- how much room there is -------------------------------------------------------------

    /// Looks what is too much. True if there is more room than before.
    pub fn settle(&mut self) -> bool {
        let released = self.parts_made - self.parts.len();
        if std::mem::replace(&mut self.parts_released, released) < released {
            self.ledger.on_disk_freed();
        }
        let held = self.lingering();
        let (cells, blocks) = (&self.cells, &self.blocks);
        let is_held = |task: TaskId| {
            let block = cells.get(&task).and_then(|cell| cell.block);
            block.is_none_or(|block| blocks[&block].holders > 0)
        };
        self.leaving.extend(self.ledger.choose(held, is_held));
        self.check();
        let before = std::mem::replace(&mut self.room, self.ledger.room(held));
        self.room < before
    }

    pub fn has_to_write(&self) -> bool {
        !self.is_writing && !self.leaving.is_empty()
    }

    /// Why nothing may start, if that is so until something is released.
    pub fn is_without_room(&self) -> bool {
        !self.ledger.is_waiting() && self.ledger.room(self.lingering()) >= Room::Full
    }

    /// Bytes in memory that are not kept any more.
    fn lingering(&self) -> u64 {
        self.blocks.values().filter(|block| !block.is_kept).map(|block| block.bytes).sum()
    }

    fn disk_bytes(&self) -> u64 {
        self.parts.values().map(|part| part.bytes).sum()
    }

    /// The ledger knows what is here; and what nobody uses is within the limit, on its way out, or has no room
    /// on the disk.
    fn check(&self) {
        let kept = self.blocks.values().filter(|block| block.is_kept);
        let here: u64 = kept.clone().map(|block| block.bytes).sum();
        assert_eq!(self.ledger.here_bytes(), here, "bytes in memory");
        let limit = self.limits.memory;
        let idle = kept.filter(|block| block.holders == 0).map(|block| block.bytes).sum::<u64>();
        let leaving: u64 = self.leaving.iter().filter_map(|it| self.ledger.leaving_bytes(*it)).sum();
        let has_room = self.refused == 0;
        assert!(
            !has_room || idle.saturating_sub(leaving) <= limit,
            "{idle} bytes are kept that nobody uses, {leaving} on their way, of {limit}"
        );
        assert!(self.disk_bytes() <= self.limits.disk, "the disk holds more than it may");
    }

    /// An end without room is right: the disk has none for any output that nobody uses.
    pub fn check_without_room(&self) {
        let free = self.limits.disk - self.disk_bytes();
        for (task, Cell { block, part }) in &self.cells {
            let Some(block) = block.map(|block| &self.blocks[&block]) else { continue };
            let can_leave = block.holders == 0 && (part.is_some() || block.bytes <= free);
            assert!(!can_leave, "the output of task {task} could leave: {block:?}, {free} bytes are free");
        }
    }

    /// Nothing is kept, and no task holds anything.
    pub fn check_empty(&self) {
        let left = (&self.cells, &self.inputs, self.ledger.here_bytes());
        assert!(self.cells.is_empty() && self.inputs.is_empty() && left.2 == 0, "left in memory: {left:?}");
    }
}

fn hold(blocks: &mut BTreeMap<u64, Block>, number: u64) {
    blocks.get_mut(&number).expect("what is taken is here").holders += 1;
}

fn let_go(blocks: &mut BTreeMap<u64, Block>, number: u64) {
    blocks.get_mut(&number).expect("what is held is here").holders -= 1;
    drop_if_unused(blocks, number);
}

fn keep_no_more(blocks: &mut BTreeMap<u64, Block>, number: u64) {
    blocks.get_mut(&number).expect("what is kept is here").is_kept = false;
    drop_if_unused(blocks, number);
}

fn drop_if_unused(blocks: &mut BTreeMap<u64, Block>, number: u64) {
    if blocks.get(&number).is_some_and(|block| !block.is_kept && block.holders == 0) {
        blocks.remove(&number);
    }
}
