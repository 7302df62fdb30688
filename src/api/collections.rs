//! Many calls at once.

use super::delayed::Delayed;

/// Calls a task for each item: `map(square, 0..100)`, or `map(|x| scale(x, 2.0), items)`.
pub fn map<I, T, F>(task: F, items: I) -> Vec<Delayed<T>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> Delayed<T>,
{
    items.into_iter().map(task).collect()
}

/// Puts items together two by two until one is left: a tree, so that as much as possible happens at
/// once. Neighbours stay neighbours. `None` if there are no items.
pub fn reduce<T, F>(mut task: F, items: impl IntoIterator<Item = Delayed<T>>) -> Option<Delayed<T>>
where
    F: FnMut(Delayed<T>, Delayed<T>) -> Delayed<T>,
{
    let mut level: Vec<Delayed<T>> = items.into_iter().collect();
    while level.len() > 1 {
        let mut next = Vec::with_capacity(level.len().div_ceil(2));
        let mut items = level.into_iter();
        while let Some(first) = items.next() {
            next.push(match items.next() {
                Some(second) => task(first, second),
                None => first,
            });
        }
        level = next;
    }
    level.pop()
}
