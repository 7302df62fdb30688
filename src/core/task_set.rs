//! A set of tasks. Costs a bit a task at most, and next to nothing where all or none are in it.

use std::ops::Range;

use super::id::TaskId;

/// Tasks that are looked at together.
const BLOCK: u32 = 1 << 16;
const WORDS: usize = (BLOCK / u64::BITS) as usize;

/// Some of the tasks of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSet {
    blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    None,
    All,
    Some(Box<[u64; WORDS]>),
}

impl TaskSet {
    /// None of `count` tasks.
    pub fn new(count: usize) -> Self {
        TaskSet { blocks: vec![Block::None; count.div_ceil(BLOCK as usize)] }
    }

    /// True if the task is in the set.
    pub fn contains(&self, task: TaskId) -> bool {
        match self.blocks.get((task.0 / BLOCK) as usize) {
            None | Some(Block::None) => false,
            Some(Block::All) => true,
            Some(Block::Some(words)) => words[word(task.0)] & bit(task.0) != 0,
        }
    }

    /// Puts a task in.
    pub fn insert(&mut self, task: TaskId) {
        let block = &mut self.blocks[(task.0 / BLOCK) as usize];
        if let Block::None = block {
            *block = Block::Some(Box::new([0; WORDS]));
        }
        if let Block::Some(words) = block {
            words[word(task.0)] |= bit(task.0);
        }
    }

    /// Puts tasks in that lie side by side.
    pub fn insert_all(&mut self, tasks: Range<u32>) {
        let mut start = tasks.start;
        while start < tasks.end {
            let end = tasks.end.min((start / BLOCK + 1).saturating_mul(BLOCK));
            match end - start {
                BLOCK => self.blocks[(start / BLOCK) as usize] = Block::All,
                _ => (start..end).for_each(|task| self.insert(TaskId(task))),
            }
            start = end;
        }
    }

    /// True if all of these tasks, which lie side by side, are in the set.
    pub fn contains_all(&self, tasks: Range<u32>) -> bool {
        let mut start = tasks.start;
        while start < tasks.end {
            let end = tasks.end.min((start / BLOCK + 1).saturating_mul(BLOCK));
            let holds = match &self.blocks[(start / BLOCK) as usize] {
                Block::None => false,
                Block::All => true,
                Block::Some(_) => (start..end).all(|task| self.contains(TaskId(task))),
            };
            if !holds {
                return false;
            }
            start = end;
        }
        true
    }

    /// How many of these tasks, which lie side by side, are in the set.
    pub fn count(&self, tasks: Range<u32>) -> u32 {
        let mut count = 0;
        let mut start = tasks.start;
        while start < tasks.end {
            let end = tasks.end.min((start / BLOCK + 1).saturating_mul(BLOCK));
            count += match &self.blocks[(start / BLOCK) as usize] {
                Block::None => 0,
                Block::All => end - start,
                Block::Some(_) => (start..end).filter(|task| self.contains(TaskId(*task))).count() as u32,
            };
            start = end;
        }
        count
    }

    /// The tasks in the set, in the order of ids, of those below `count`.
    pub fn iter(&self, count: usize) -> impl Iterator<Item = TaskId> + '_ {
        let blocks = (0_u32..).step_by(BLOCK as usize).zip(&self.blocks);
        let held = blocks.filter(|(_, block)| !matches!(block, Block::None));
        let tasks = held.flat_map(move |(first, _)| first..(first.saturating_add(BLOCK)).min(count as u32));
        tasks.map(TaskId).filter(|task| self.contains(*task))
    }
}

fn word(task: u32) -> usize {
    ((task % BLOCK) / u64::BITS) as usize
}

fn bit(task: u32) -> u64 {
    1 << (task % u64::BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_in_the_set_and_nothing_else() {
        let mut set = TaskSet::new(300_000);
        set.insert_all(10..200_000);
        set.insert(TaskId(299_999));
        let expected: Vec<TaskId> = (10..200_000).chain([299_999]).map(TaskId).collect();
        assert_eq!(set.iter(300_000).collect::<Vec<_>>(), expected);
        assert!(
            set.contains_all(10..200_000) && !set.contains_all(9..11) && !set.contains_all(199_999..200_001)
        );
        assert_eq!((set.count(0..300_000), set.count(5..12), set.count(0..10)), (199_991, 2, 0));
        assert!(matches!(set.blocks[1], Block::All), "what is full takes no memory");
    }
}
