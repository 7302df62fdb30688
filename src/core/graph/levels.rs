//! A number for each task, stored once for all tasks of a segment where it is the same.

use std::ops::Range;

use crate::core::id::{OptionsId, TaskId};

use super::columns::{Form, Segment};
use super::finder::Finder;
use super::{Graph, Stretch};

/// A number for each task.
#[derive(Clone, Debug)]
pub struct Levels {
    /// The first task of each segment.
    firsts: Vec<u32>,
    finder: Finder,
    of_segment: Vec<Level>,
    /// One after the other the numbers of segments whose tasks differ.
    listed: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Level {
    Unknown,
    Same(u32),
    /// The place of the first task's number.
    Listed(u32),
}

impl Levels {
    /// These numbers, one for each task.
    pub fn listed(graph: &Graph, numbers: Vec<u32>) -> Self {
        let mut levels = Levels::unknown(graph);
        levels.of_segment = levels.firsts.iter().map(|first| Level::Listed(*first)).collect();
        levels.listed = numbers;
        levels
    }

    fn unknown(graph: &Graph) -> Self {
        let firsts: Vec<u32> = graph.columns().segments().map(|segment| segment.first).collect();
        let finder = Finder::new(firsts.iter().copied(), graph.len());
        let of_segment = vec![Level::Unknown; firsts.len()];
        Levels { firsts, finder, of_segment, listed: Vec::new() }
    }

    /// The greatest of all numbers.
    pub fn greatest(&self) -> u32 {
        let same = self.of_segment.iter().filter_map(|level| match level {
            Level::Same(level) => Some(*level),
            Level::Listed(_) | Level::Unknown => None,
        });
        same.chain(self.listed.iter().copied()).max().unwrap_or(0)
    }

    /// The longest path from each task to an exit, each task as long as `own` says: the same for tasks that
    /// are alike. Hidden joins add nothing.
    pub fn to_exit(graph: &Graph, own: impl Fn(TaskId) -> u32) -> Self {
        let own = &|task: TaskId| if graph.is_join(task) { 0 } else { own(task) };
        let mut levels = Levels::unknown(graph);
        for (number, segment, piece) in graph.segments_backwards() {
            let is_whole = piece.len() == segment.count as usize;
            match levels.same(graph, (number, segment), own).filter(|_| is_whole) {
                Some(level) => levels.of_segment[number] = Level::Same(level),
                None => levels.list(graph, (number, segment), piece, own),
            }
        }
        levels
    }

    /// The number of a task.
    #[inline]
    pub fn get(&self, task: TaskId) -> u32 {
        let segment = self.finder.find(task.0, |number| self.firsts[number]);
        match self.of_segment[segment] {
            Level::Same(level) => level,
            Level::Listed(at) => self.listed[(at + task.0 - self.firsts[segment]) as usize],
            Level::Unknown => 0,
        }
    }

    /// True if all tasks of a stretch have the same number, known without looking at each.
    pub fn is_same(&self, stretch: &Stretch) -> bool {
        let segment = self.finder.find(stretch.tasks.start, |number| self.firsts[number]);
        stretch.tasks.len() == 1 || matches!(self.of_segment[segment], Level::Same(_))
    }

    /// Changes all numbers, by the options of their tasks.
    pub fn update(&mut self, graph: &Graph, mut change: impl FnMut(OptionsId, &mut u32)) {
        for (number, segment) in graph.columns().segments().enumerate() {
            match &mut self.of_segment[number] {
                Level::Unknown => (),
                Level::Same(level) => change(graph.options_id(TaskId(segment.first)), level),
                Level::Listed(at) => {
                    let own = &mut self.listed[*at as usize..][..segment.count as usize];
                    for (task, level) in segment.tasks().zip(own) {
                        change(graph.options_id(task), level);
                    }
                }
            }
        }
    }

    /// The number that all tasks of a segment have, if rules tell that it is the same: those that wait
    /// for them have one each, and the greatest belongs to a rule that none of the tasks is without.
    fn same(
        &self,
        graph: &Graph,
        (number, segment): (usize, Segment),
        own: &impl Fn(TaskId) -> u32,
    ) -> Option<u32> {
        let (Form::Alike(_), Some(rules)) = (segment.form, graph.dependents.only_rules(number)) else {
            return None;
        };
        let own = own(TaskId(segment.first));
        let mut greatest = None;
        for rule in rules.clone() {
            let Level::Same(level) = self.of_segment[graph.table.segment_of(rule.first_taker())] else {
                return None;
            };
            greatest = greatest.max(Some(level));
        }
        let Some(greatest) = greatest else { return Some(own) };
        let is_for_all = rules.clone().any(|rule| {
            self.get(rule.first_taker()) == greatest && rule.takes_all(segment.first..segment.end())
        });
        is_for_all.then_some(greatest.saturating_add(own))
    }

    fn list(
        &mut self,
        graph: &Graph,
        (number, segment): (usize, Segment),
        piece: Range<u32>,
        own: &impl Fn(TaskId) -> u32,
    ) {
        let at = match self.of_segment[number] {
            Level::Listed(at) => at,
            _ => {
                let at = self.listed.len();
                self.listed.resize(at + segment.count as usize, 0);
                self.of_segment[number] = Level::Listed(at as u32);
                at as u32
            }
        };
        for task in piece.rev().map(TaskId) {
            let below = graph.dependents(task).iter().map(|dependent| self.get(dependent)).max();
            let level = below.unwrap_or(0_u32).saturating_add(own(task));
            self.listed[(at + task.0 - segment.first) as usize] = level;
        }
        self.forget_equal(graph, (number, segment), at);
    }

    /// Keeps one number of a segment whose tasks have all got the same.
    fn forget_equal(&mut self, graph: &Graph, (number, segment): (usize, Segment), at: u32) {
        let own = &self.listed[at as usize..];
        let first = own[0];
        let are_equal = own.len() == segment.count as usize && own.iter().all(|level| *level == first);
        if first > 0 && are_equal && has_same_options(graph, segment) {
            self.listed.truncate(at as usize);
            self.of_segment[number] = Level::Same(first);
        }
    }
}

/// True if one set of options counts for all tasks of a segment, so that their numbers stay equal.
fn has_same_options(graph: &Graph, segment: Segment) -> bool {
    match segment.form {
        Form::Alike(_) => true,
        Form::Listed(at) => {
            let own = &graph.columns().options_of[at as usize..][..segment.count as usize];
            own.iter().all(|options| *options == own[0])
        }
    }
}
