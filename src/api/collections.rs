//! Many calls at once.

use super::delayed::Delayed;

/// Calls a task for each item.
///
/// ```
/// #[dagmar::task]
/// fn scale(x: f64, factor: f64) -> f64 {
///     x * factor
/// }
///
/// let scaled = dagmar::map(|x| scale(x, 2.0), [1.0, 2.0, 3.0]);
/// let again = dagmar::map(|x| scale(x, 0.5), &scaled);
/// assert_eq!(again.len(), 3); // and nothing has run yet
/// ```
pub fn map<I, T, F>(task: F, items: I) -> Vec<Delayed<T>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> Delayed<T>,
{
    items.into_iter().map(task).collect()
}

/// Puts items together two by two until one is left: a tree, so that as much as possible happens at
/// once. Neighbours stay neighbours. `None` if there are no items.
///
/// ```
/// #[dagmar::task]
/// fn larger(a: u32, b: u32) -> u32 {
///     a.max(b)
/// }
///
/// #[dagmar::task]
/// fn square(x: u32) -> u32 {
///     x * x
/// }
///
/// assert!(dagmar::reduce(larger, dagmar::map(square, 1..=9)).is_some());
/// assert!(dagmar::reduce(larger, []).is_none());
/// ```
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
