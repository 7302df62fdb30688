//! Which task of one graph has the key of which task of another.

use std::collections::BTreeMap;

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::key::{Axis, Group};

/// Stands for no task.
const NONE: u32 = u32::MAX;

/// For each task of the new graph the one of the old graph that has its key.
pub(super) struct Pairing {
    before: Vec<u32>,
}

impl Pairing {
    /// Pairs the tasks that two graphs began with.
    pub fn of(old: &Graph, new: &Graph) -> Self {
        let mut before = vec![NONE; new.len()];
        for group in new.keys().groups() {
            if let Some(other) = old.keys().group(&group.name) {
                pair(group, other, &mut before[group.first.index()..]);
            }
        }
        Pairing { before }
    }

    /// The task that had the key of this one.
    pub fn before(&self, task: TaskId) -> Option<TaskId> {
        Some(self.before[task.index()]).filter(|&before| before != NONE).map(TaskId)
    }

    /// The tasks of the old graph whose keys are in the new one, in order.
    pub fn known(&self) -> Vec<u32> {
        let mut known: Vec<u32> = self.before.iter().copied().filter(|&before| before != NONE).collect();
        known.sort_unstable();
        known
    }
}

/// Enters the element of `other` that has the key of each element of `group`.
fn pair(group: &Group, other: &Group, before: &mut [u32]) {
    if group.axes.len() != other.axes.len() || group.hidden != other.hidden {
        return;
    }
    let count = group.count().unwrap_or(0) as usize;
    let places: Vec<Places> =
        group.axes.iter().zip(&other.axes).map(|(axis, other)| Places::of(axis, other)).collect();
    let is_same_shape = (group.zipped, other.count()) == (other.zipped, group.count());
    if is_same_shape && places.iter().all(|places| matches!(places, Places::Same)) {
        (0..count).zip(before).for_each(|(element, before)| *before = other.first.0 + element as u32);
        return;
    }
    for (element, before) in (0..count).zip(before) {
        let there: Option<Vec<usize>> = group
            .places(element)
            .into_iter()
            .zip(&places)
            .map(|(place, places)| places.find(place))
            .collect();
        if let Some(element) = there.and_then(|places| other.element_at(&places)) {
            *before = other.first.0 + element as u32;
        }
    }
}

/// Where the elements of an axis stand on another one.
enum Places {
    /// At the same places.
    Same,
    /// At these, or nowhere.
    Other(Vec<Option<usize>>),
}

impl Places {
    /// Elements are the same if they are written in the same way.
    fn of(axis: &Axis, other: &Axis) -> Self {
        if axis == other {
            return Places::Same;
        }
        let count = axis.count();
        if let (Axis::Range { width, .. }, Axis::Range { width: other_width, .. }) = (axis, other)
            && width == other_width
        {
            let number = |place| axis.number(place).expect("it is a range").to_string();
            return Places::Other((0..count).map(|place| other.find(&number(place))).collect());
        }
        let there: BTreeMap<_, usize> =
            (0..other.count()).map(|place| (other.element(place), place)).collect();
        Places::Other((0..count).map(|place| there.get(&axis.element(place)).copied()).collect())
    }

    fn find(&self, place: usize) -> Option<usize> {
        match self {
            Places::Same => Some(place),
            Places::Other(places) => places[place],
        }
    }
}
