//! Many looks at files at once: on a shared file system each of them waits for a server.

use std::num::NonZeroUsize;
use std::thread;

/// Threads that look, and how many looks are worth a thread.
const THREADS_MAX: usize = 16;
const LOOKS_MIN: usize = 32;

/// What `look` finds at each of these, in their order.
pub fn look_at_all<T: Sync, R: Send>(places: &[T], look: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = (places.len() / LOOKS_MIN).clamp(1, THREADS_MAX);
    let each = NonZeroUsize::new(places.len().div_ceil(threads)).unwrap_or(NonZeroUsize::MIN);
    if threads == 1 {
        return places.iter().map(look).collect();
    }
    let look = &look;
    thread::scope(|scope| {
        let chunks = places.chunks(each.get());
        let looking: Vec<_> =
            chunks.map(|some| scope.spawn(move || some.iter().map(look).collect::<Vec<R>>())).collect();
        let found = looking.into_iter().map(|thread| thread.join());
        found.flat_map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_stands_in_the_order_of_places() {
        for count in [0, 1, 31, 64, 1000, 1001] {
            let places: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = places.iter().map(|place| place * 2).collect();
            assert_eq!(look_at_all(&places, |place| place * 2), expected);
        }
    }
}
