//! Tasks that are held back while memory is short: those without inputs, which only add to what is held.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Item;

/// What is held back, oldest first.
#[derive(Debug, Default)]
pub struct Held {
    items: Mutex<VecDeque<Item>>,
    count: AtomicUsize,
    /// True while one of them runs all the same.
    is_one_running: AtomicBool,
}

impl Held {
    /// Holds an item back.
    pub fn push(&self, item: Item) {
        self.change(|items| items.push_back(item));
    }

    /// True if nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// True if one task could be had by `take_one`.
    pub fn has_one(&self) -> bool {
        !self.is_empty() && !self.is_one_running.load(Ordering::SeqCst)
    }

    /// The oldest item, now that there is room.
    pub fn take(&self) -> Option<Item> {
        if self.is_empty() {
            return None;
        }
        self.change(VecDeque::pop_front)
    }

    /// One task, if none of those held back runs. `end_one` follows.
    pub fn take_one(&self) -> Option<Item> {
        if self.is_empty() || self.is_one_running.swap(true, Ordering::SeqCst) {
            return None;
        }
        let one = self.change(|items| {
            let mut item = items.pop_front()?;
            let tasks = item.tasks.take(1);
            if item.tasks.count > 0 {
                items.push_front(item);
            }
            Some(Item { tasks, ..item })
        });
        if one.is_none() {
            self.end_one();
        }
        one
    }

    /// The one that ran all the same is at an end.
    pub fn end_one(&self) {
        self.is_one_running.store(false, Ordering::SeqCst);
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Item>) -> T) -> T {
        let mut items = self.items.lock().expect("no thread panics holding this lock");
        let result = change(&mut items);
        self.count.store(items.len(), Ordering::SeqCst);
        result
    }
}
