//! All tasks of a file by name, with indexes that keep large arrays of words fast.

use std::cell::OnceCell;
use std::collections::HashMap;

use crate::client::formats::text::{Span, nearest};
use crate::core::id::TaskId;
use crate::core::key::{Axis, Group, decode_element};

/// Words from which on an axis is searched by hash.
const WORDS_SCANNED_MAX: usize = 8;

/// The declared groups and where they stand in the file.
#[derive(Default)]
pub(super) struct Names {
    groups: Vec<NamedGroup>,
    by_name: HashMap<String, usize>,
}

pub(super) struct NamedGroup {
    pub group: Group,
    pub span: Span,
    pub count: u32,
    words: Vec<OnceCell<HashMap<String, usize>>>,
}

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    One(TaskId),
    /// All elements of an array, by the number of its group.
    Whole(usize),
}

impl Names {
    /// Adds a group that the graph's builder has accepted.
    pub fn add(&mut self, group: Group, span: Span) {
        self.by_name.insert(group.name.clone(), self.groups.len());
        let words = group.axes.iter().map(|_| OnceCell::new()).collect();
        let count = group.count().expect("checked when the group was declared");
        self.groups.push(NamedGroup { group, span, count, words });
    }

    /// The number of the group of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A group by number.
    pub fn group(&self, number: usize) -> &NamedGroup {
        &self.groups[number]
    }

    /// The group that a task belongs to; none for hidden tasks.
    pub fn group_of(&self, task: TaskId) -> Option<&NamedGroup> {
        let after = self.groups.partition_point(|named| named.group.first <= task);
        let named = after.checked_sub(1).map(|before| &self.groups[before])?;
        named.contains(task).then_some(named)
    }

    /// The key of a task of the file.
    pub fn key(&self, task: TaskId) -> Option<String> {
        let named = self.group_of(task)?;
        Some(named.group.key((task.0 - named.group.first.0) as usize))
    }

    /// What a whole key names.
    pub fn find_key(&self, key: &str) -> Option<Found> {
        if let Some(number) = self.find(key) {
            return Some(self.groups[number].whole(number));
        }
        let (name, elements) = key.strip_suffix(']')?.split_once('[')?;
        let number = self.find(name)?;
        let named = &self.groups[number];
        if elements == "*" {
            return named.group.is_array().then_some(Found::Whole(number));
        }
        let parts: Option<Vec<String>> = elements.split(',').map(decode_element).collect();
        named.element(&parts?).map(Found::One)
    }

    /// The key that a wrong one was probably meant to be.
    pub fn nearest(&self, key: &str) -> Option<(String, Option<Span>)> {
        let (name, elements) = match key.strip_suffix(']').and_then(|key| key.split_once('[')) {
            Some((name, elements)) => (name, Some(elements)),
            None => (key, None),
        };
        let names = self.groups.iter().map(|named| named.group.name.as_str());
        let name = nearest(name, names)?;
        let named = &self.groups[self.find(name)?];
        let key = match elements {
            Some(elements) if elements != "*" => named.nearest(elements),
            _ => name.to_owned(),
        };
        Some((key, Some(named.span)))
    }
}

impl NamedGroup {
    /// True if the task is one of its elements.
    pub fn contains(&self, task: TaskId) -> bool {
        task.0.checked_sub(self.group.first.0).is_some_and(|element| element < self.count)
    }

    /// The group as what a bare name means.
    pub fn whole(&self, number: usize) -> Found {
        match self.group.is_array() {
            true => Found::Whole(number),
            false => Found::One(self.group.first),
        }
    }

    /// The element with these words, one for each axis.
    pub fn element(&self, parts: &[impl AsRef<str>]) -> Option<TaskId> {
        if parts.len() != self.group.axes.len() {
            return None;
        }
        let places: Option<Vec<usize>> =
            parts.iter().enumerate().map(|(axis, part)| self.place(axis, part.as_ref())).collect();
        self.at(&places?)
    }

    /// The element at these places, one for each axis.
    pub fn at(&self, places: &[usize]) -> Option<TaskId> {
        let element = self.group.element_at(places).filter(|_| self.group.is_array())?;
        Some(TaskId(self.group.first.0 + element as u32))
    }

    /// The place of a word along one axis.
    pub fn place(&self, axis: usize, word: &str) -> Option<usize> {
        match &self.group.axes[axis] {
            Axis::Words(words) if words.len() > WORDS_SCANNED_MAX => {
                let index = self.words[axis].get_or_init(|| {
                    words.iter().enumerate().map(|(place, word)| (word.clone(), place)).collect()
                });
                index.get(word).copied()
            }
            axis => axis.find(word),
        }
    }

    /// The key whose elements are nearest to these, which are written `a,b`.
    fn nearest(&self, elements: &str) -> String {
        if !self.group.is_array() {
            return self.group.name.clone();
        }
        let parts: Vec<&str> = elements.split(',').collect();
        let places: Vec<usize> = (0..self.group.axes.len())
            .map(|axis| parts.get(axis).map_or(0, |part| nearest_place(&self.group.axes[axis], part)))
            .collect();
        let element = match self.group.zipped {
            true => places.first().copied().unwrap_or(0),
            false => self.group.element_at(&places).unwrap_or(0),
        };
        self.group.key(element)
    }
}

fn nearest_place(axis: &Axis, part: &str) -> usize {
    match axis {
        Axis::Range { first, step, .. } => {
            let Ok(number) = part.parse::<i64>() else { return 0 };
            let place = (i128::from(number) - i128::from(*first)) / i128::from(*step);
            place.clamp(0, axis.count() as i128 - 1) as usize
        }
        Axis::Words(words) => nearest(part, words.iter().map(String::as_str))
            .and_then(|near| words.iter().position(|word| word == near))
            .unwrap_or(0),
    }
}
