//! Names of tasks. A task array stores its axes, never one string per element.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::id::TaskId;

/// A single task, or a task array: the tasks that share one name and lie side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The name before the brackets.
    pub name: String,
    /// The array's axes; none for a single task.
    pub axes: Vec<Axis>,
    /// True when the axes advance together instead of making a product.
    pub zipped: bool,
    /// True for what dagmar adds by itself (joins): not shown and not counted.
    pub hidden: bool,
    /// The first task.
    pub first: TaskId,
}

/// The elements of a task array along one variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Axis {
    /// `first`, `first + step`, ...: `count` numbers, zero-padded to `width` digits.
    Range {
        /// The first number.
        first: i64,
        /// The distance between neighbours; not zero.
        step: i64,
        /// How many.
        count: u32,
        /// Least number of digits.
        width: u8,
    },
    /// Any words, each once, as the user wrote them.
    Words(Vec<String>),
}

impl Axis {
    /// How many elements there are.
    pub fn count(&self) -> usize {
        match self {
            Axis::Range { count, .. } => *count as usize,
            Axis::Words(words) => words.len(),
        }
    }

    /// The text of one element.
    ///
    /// # Panics
    /// When `place` is not below `count`.
    pub fn element(&self, place: usize) -> Cow<'_, str> {
        assert!(place < self.count(), "element {place} of {}", self.count());
        match self {
            Axis::Range { first, step, width, .. } => {
                let number = first + step * place as i64;
                Cow::Owned(pad(number, usize::from(*width)))
            }
            Axis::Words(words) => Cow::Borrowed(&words[place]),
        }
    }

    /// The number that an element of a range is.
    ///
    /// # Panics
    /// When `place` is not below `count`.
    pub fn number(&self, place: usize) -> Option<i64> {
        assert!(place < self.count(), "element {place} of {}", self.count());
        match self {
            Axis::Range { first, step, .. } => Some(first + step * place as i64),
            Axis::Words(_) => None,
        }
    }

    /// A number as a range writes its elements, whether it is one of them or not.
    pub fn written(&self, number: i64) -> String {
        match self {
            Axis::Range { width, .. } => pad(number, usize::from(*width)),
            Axis::Words(_) => number.to_string(),
        }
    }

    /// The place of the element that is written `text`. Numbers match by value: `3` finds `003`.
    pub fn find(&self, text: &str) -> Option<usize> {
        match self {
            Axis::Range { first, step, .. } => {
                let offset = text.parse::<i64>().ok()?.checked_sub(*first)?;
                (offset.checked_rem(*step)? == 0).then_some(())?;
                usize::try_from(offset.checked_div(*step)?).ok().filter(|&place| place < self.count())
            }
            Axis::Words(words) => words.iter().position(|word| word == text),
        }
    }

    /// True if every number of a range can be computed.
    fn is_computable(&self) -> bool {
        let Axis::Range { first, step, count, .. } = self else { return true };
        let last =
            step.checked_mul(i64::from(count.saturating_sub(1))).and_then(|span| first.checked_add(span));
        *step != 0 && last.is_some()
    }
}

/// `number` with at least `width` digits; a minus sign comes before the zeros.
fn pad(number: i64, width: usize) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:0width$}", number.unsigned_abs())
}

impl Group {
    /// A single task. Its place is set when the group enters a graph.
    pub fn single(name: impl Into<String>) -> Self {
        Group::array(name, Vec::new())
    }

    /// An array over the product of `axes`, the last one varying fastest.
    pub fn array(name: impl Into<String>, axes: Vec<Axis>) -> Self {
        Group { name: name.into(), axes, zipped: false, hidden: false, first: TaskId(0) }
    }

    /// True for a task array.
    pub fn is_array(&self) -> bool {
        !self.axes.is_empty()
    }

    /// How many tasks there are; `None` when the product does not fit into 32 bits.
    pub fn count(&self) -> Option<u32> {
        let mut counts = self.axes.iter().map(|axis| u32::try_from(axis.count()).ok());
        if self.zipped {
            return counts.next().unwrap_or(Some(1));
        }
        counts.try_fold(1_u32, |product, count| product.checked_mul(count?))
    }

    /// Refuses what would fail later: elements that cannot be computed, unequal zipped axes.
    fn check(&self) -> Result<(), KeyError> {
        if !self.axes.iter().all(Axis::is_computable) {
            return Err(KeyError::Inconsistent("the numbers of a range do not fit into 64 bits"));
        }
        let is_even = self.axes.windows(2).all(|pair| pair[0].count() == pair[1].count());
        match self.zipped && !is_even {
            true => Err(KeyError::Inconsistent("zipped axes have different lengths")),
            false => Ok(()),
        }
    }

    /// The place along each axis of the n-th element.
    pub fn places(&self, element: usize) -> Vec<usize> {
        if self.zipped {
            return vec![element; self.axes.len()];
        }
        let mut rest = element;
        let mut places = vec![0; self.axes.len()];
        for (place, axis) in places.iter_mut().zip(&self.axes).rev() {
            *place = rest % axis.count();
            rest /= axis.count();
        }
        places
    }

    /// The element at these places: the inverse of `places`. `None` when a place is out of range
    /// or, for zipped axes, when the places differ.
    pub fn element_at(&self, places: &[usize]) -> Option<usize> {
        if places.len() != self.axes.len() {
            return None;
        }
        let in_range = places.iter().zip(&self.axes).all(|(place, axis)| *place < axis.count());
        if !in_range {
            return None;
        }
        if self.zipped {
            return places
                .windows(2)
                .all(|pair| pair[0] == pair[1])
                .then(|| places.first().copied().unwrap_or(0));
        }
        Some(places.iter().zip(&self.axes).fold(0, |sum, (place, axis)| sum * axis.count() + place))
    }

    /// The key of the n-th element: `align[03]`, or the bare name of a single task.
    pub fn key(&self, element: usize) -> String {
        if self.axes.is_empty() {
            return self.name.clone();
        }
        let mut key = String::with_capacity(self.name.len() + 8);
        key.push_str(&self.name);
        for (number, (place, axis)) in self.places(element).into_iter().zip(&self.axes).enumerate() {
            key.push(if number == 0 { '[' } else { ',' });
            encode_element(&axis.element(place), &mut key);
        }
        key.push(']');
        key
    }
}

/// Percent-encodes all but `[A-Za-z0-9._/+-]`, so that keys can be typed and split again.
pub(crate) fn encode_element(element: &str, key: &mut String) {
    for byte in element.bytes() {
        if byte.is_ascii_alphanumeric() || b"._/+-".contains(&byte) {
            key.push(char::from(byte));
        } else {
            write!(key, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

/// Undoes `encode_element`. Text that is not encoded comes back as it is.
pub(crate) fn decode_element(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

/// All names of a graph. Its serialised form is its groups.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(into = "Vec<Group>", try_from = "Vec<Group>")]
pub struct Keys {
    groups: Vec<Group>,
    names: Names,
    count: u32,
}

/// Where the group of a name stands among the groups: an open hash table, at most half full. A
/// million single tasks are a million names, and searching sorted ones takes ten times as long.
/// Not the library's table, because that one differs from run to run.
#[derive(Clone, Debug, Default)]
struct Names {
    /// The hash of a name and the place of its group. The hash tells most others apart without a
    /// look at their names, which lie all over the memory.
    slots: Vec<(u32, u32)>,
}

impl Names {
    const EMPTY: (u32, u32) = (0, u32::MAX);

    /// The place of the group of this name, or the slot where it belongs.
    fn find(&self, groups: &[Group], name: &str) -> Result<usize, usize> {
        let hash = hash(name);
        for slot in self.slots_from(hash) {
            match self.slots[slot] {
                Self::EMPTY => return Err(slot),
                (other, place) if other == hash && groups[place as usize].name == name => {
                    return Ok(place as usize);
                }
                _ => (),
            }
        }
        Err(0) // only without any slot; otherwise half of them are empty
    }

    /// Makes room for `count` names.
    fn reserve(&mut self, count: usize) {
        if count * 2 <= self.slots.len() {
            return;
        }
        let length = (count * 2).next_power_of_two().max(16);
        let old = std::mem::replace(&mut self.slots, vec![Self::EMPTY; length]);
        for (hash, place) in old.into_iter().filter(|slot| *slot != Self::EMPTY) {
            let empty = self.slots_from(hash).find(|&slot| self.slots[slot] == Self::EMPTY);
            self.slots[empty.expect("more than half of the slots are empty")] = (hash, place);
        }
    }

    /// All slots, the one where a name of this hash belongs first.
    fn slots_from(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let count = self.slots.len();
        (0..count).map(move |step| (hash as usize + step) & (count - 1))
    }
}

/// The 64-bit FNV-1a hash, its halves folded together.
fn hash(name: &str) -> u32 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = name.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    (hash ^ hash >> 32) as u32
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.groups == other.groups // the rest follows from them
    }
}

impl Eq for Keys {}

impl From<Keys> for Vec<Group> {
    fn from(keys: Keys) -> Self {
        keys.groups
    }
}

impl TryFrom<Vec<Group>> for Keys {
    type Error = KeyError;

    /// Adds the groups again, so that whatever they claim is checked.
    fn try_from(groups: Vec<Group>) -> Result<Self, KeyError> {
        let mut keys = Keys::default();
        keys.names.reserve(groups.len());
        groups.into_iter().try_for_each(|group| keys.add(group).map(drop))?;
        Ok(keys)
    }
}

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// One task.
    Task(TaskId),
    /// Every element of a task array: the first task and their number.
    Array {
        /// The first element.
        first: TaskId,
        /// How many elements there are.
        count: u32,
    },
}

impl Named {
    /// The tasks named, in order.
    pub fn tasks(self) -> impl Iterator<Item = TaskId> {
        let (first, count) = match self {
            Named::Task(task) => (task, 1),
            Named::Array { first, count } => (first, count),
        };
        (first.0..first.0 + count).map(TaskId)
    }
}

/// Why a group could not be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A group of this name is there already.
    Duplicate(String),
    /// More than 2^32 - 1 tasks in all.
    TooMany,
    /// The group's elements cannot be computed. Says why.
    Inconsistent(&'static str),
}

impl fmt::Display for KeyError {
    /// Completes "cannot read `graph.dagmar`: ...".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Duplicate(name) => write!(out, "the name `{name}` is used twice"),
            KeyError::TooMany => write!(out, "there are more than 2^32 - 1 tasks"),
            KeyError::Inconsistent(why) => write!(out, "{why}"),
        }
    }
}

impl Keys {
    /// Adds a group behind the others and returns its first task.
    pub fn add(&mut self, mut group: Group) -> Result<TaskId, KeyError> {
        group.check()?;
        self.names.reserve(self.groups.len() + 1);
        let Err(slot) = self.names.find(&self.groups, &group.name) else {
            return Err(KeyError::Duplicate(group.name));
        };
        let end = group.count().and_then(|count| self.count.checked_add(count)).filter(|&end| end < u32::MAX);
        let end = end.ok_or(KeyError::TooMany)?;
        let first = TaskId(self.count);
        group.first = first;
        self.names.slots[slot] = (hash(&group.name), self.groups.len() as u32);
        self.groups.push(group);
        self.count = end;
        Ok(first)
    }

    /// All groups in the order of their tasks.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many tasks have a name.
    pub fn task_count(&self) -> usize {
        self.count as usize
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.names.find(&self.groups, name).ok().map(|place| &self.groups[place])
    }

    /// The group a task belongs to.
    ///
    /// # Panics
    /// When the task is not in the graph.
    pub fn group_of(&self, task: TaskId) -> &Group {
        assert!(task.0 < self.count, "task {task} of {}", self.count);
        // Empty groups share their first task with the next group, which is the right one.
        let after = self.groups.partition_point(|group| group.first <= task);
        &self.groups[after - 1]
    }

    /// The key of a task.
    ///
    /// # Panics
    /// When the task is not in the graph.
    pub fn key(&self, task: TaskId) -> String {
        let group = self.group_of(task);
        group.key(task.index() - group.first.index())
    }

    /// What a user's key names: a task, an element (`a[3]`), or an array (`a` or `a[*]`).
    pub fn find(&self, key: &str) -> Option<Named> {
        if let Some(group) = self.group(key) {
            let count = group.count().expect("checked when the group was added");
            return Some(match group.is_array() {
                true => Named::Array { first: group.first, count },
                false => Named::Task(group.first),
            });
        }
        let (name, elements) = key.strip_suffix(']')?.split_once('[')?;
        let group = self.group(name).filter(|group| group.is_array())?;
        if elements == "*" {
            return self.find(name);
        }
        let parts = elements.split(',').map(decode_element).collect::<Option<Vec<_>>>()?;
        if parts.len() != group.axes.len() {
            return None;
        }
        let places: Option<Vec<_>> =
            parts.iter().zip(&group.axes).map(|(part, axis)| axis.find(part)).collect();
        let element = group.element_at(&places?)?;
        Some(Named::Task(TaskId(group.first.0 + element as u32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, count: u32, width: u8) -> Axis {
        Axis::Range { first, step: 1, count, width }
    }

    fn words(words: &[&str]) -> Axis {
        Axis::Words(words.iter().map(|word| word.to_string()).collect())
    }

    fn keys(groups: Vec<Group>) -> Keys {
        let mut keys = Keys::default();
        for group in groups {
            keys.add(group).unwrap();
        }
        keys
    }

    #[test]
    fn every_key_finds_its_task_again() {
        let keys = keys(vec![
            Group::single("index"),
            Group::array("empty", vec![words(&[])]),
            Group::array("align", vec![range(-2, 5, 2), words(&["a b", "x,y", "50%", "é"])]),
            Group { zipped: true, ..Group::array("pair", vec![range(0, 3, 1), words(&["u", "v", "w"])]) },
        ]);
        assert_eq!(keys.task_count(), 1 + 20 + 3);
        for number in 0..keys.task_count() {
            let task = TaskId::from(number);
            assert_eq!(keys.find(&keys.key(task)), Some(Named::Task(task)), "{}", keys.key(task));
        }
    }

    #[test]
    fn padding_is_kept_and_numbers_match_by_value() {
        let keys = keys(vec![Group::array("align", vec![range(0, 16, 2)])]);
        assert_eq!(keys.key(TaskId(3)), "align[03]");
        assert_eq!(keys.find("align[3]"), Some(Named::Task(TaskId(3))));
        assert_eq!(keys.find("align[16]"), None);
    }

    #[test]
    fn a_bare_name_and_a_star_name_the_whole_array() {
        let keys = keys(vec![Group::single("x"), Group::array("a", vec![range(1, 4, 1)])]);
        let all = Named::Array { first: TaskId(1), count: 4 };
        assert_eq!(keys.find("a"), Some(all));
        assert_eq!(keys.find("a[*]"), Some(all));
        assert_eq!(keys.find("x[*]"), None);
    }

    #[test]
    fn a_second_group_of_one_name_is_refused() {
        let mut keys = keys(vec![Group::single("x")]);
        assert_eq!(keys.add(Group::single("x")), Err(KeyError::Duplicate("x".into())));
    }

    #[test]
    fn many_names_in_any_order_are_found() {
        let name = |number: u32| format!("task{}", number.wrapping_mul(2_654_435_761));
        let keys = keys((0..5000).map(|number| Group::single(name(number))).collect());
        for number in 0..5000 {
            assert_eq!(keys.find(&name(number)), Some(Named::Task(TaskId(number))));
        }
        assert_eq!(keys.find("task"), None);
        let again = Keys::try_from(keys.groups().to_vec()).unwrap();
        assert_eq!(again.find(&name(77)), Some(Named::Task(TaskId(77))));
        assert_eq!(again, keys);
    }

    #[test]
    fn groups_that_cannot_be_expanded_are_refused() {
        let axis = |first, step, count| Axis::Range { first, step, count, width: 1 };
        let bad = [
            Group::array("a", vec![axis(0, 0, 2)]),
            Group::array("a", vec![axis(i64::MAX, 1, 2)]),
            Group::array("a", vec![axis(0, i64::MIN, 3)]),
            Group { zipped: true, ..Group::array("a", vec![axis(0, 1, 2), axis(0, 1, 3)]) },
        ];
        for group in bad {
            assert!(matches!(Keys::try_from(vec![group]), Err(KeyError::Inconsistent(_))));
        }
    }

    #[test]
    fn more_tasks_than_numbers_are_refused() {
        let mut keys = Keys::default();
        let axes = vec![range(0, 70_000, 1), range(0, 70_000, 1)];
        assert_eq!(keys.add(Group::array("a", axes)), Err(KeyError::TooMany));
    }
}
