//! A store alone, and one within a limit.

use super::*;
use crate::clock;
use crate::core::time::Micros;
use crate::core::value::Value;
use crate::worker::spilled::Coding;

const TERMS: Terms = Terms { attempt: Attempt(1), is_kept: true, is_persisted: false };

fn output(number: i64) -> Arc<Output> {
    Arc::new(Output::Value(Value::Int(number)))
}

fn wait(store: &Store, task: u32, inputs: &[u32]) -> Option<Terms> {
    let ticket = store.begin_wait(TaskId(task), TERMS);
    store.wait_for(ticket, inputs.iter().map(|&input| TaskId(input)))
}

/// Keeps an output and returns who became ready.
fn arrive(store: &Store, task: u32, attempt: u32) -> Vec<u32> {
    let waiters = store.insert(TaskId(task), Attempt(attempt), output(i64::from(task)), 8);
    waiters.filter(|&ticket| store.count_down(ticket).is_some()).map(|ticket| ticket.task().0).collect()
}

#[test]
fn a_task_is_ready_with_its_last_input() {
    let store = Store::new(5000);
    assert!(arrive(&store, 4000, 1).is_empty());
    assert_eq!(wait(&store, 7, &[4000, 8, 2000]), None);
    assert!(arrive(&store, 8, 1).is_empty());
    assert_eq!(arrive(&store, 2000, 1), [7]);
    assert_eq!(wait(&store, 9, &[4000, 8, 2000]), Some(TERMS));
}

#[test]
fn every_consumer_is_told_once() {
    let store = Store::new(10);
    for task in 1..6 {
        assert_eq!(wait(&store, task, &[0]), None);
    }
    let mut ready = arrive(&store, 0, 1);
    ready.sort_unstable();
    assert_eq!(ready, [1, 2, 3, 4, 5]);
    assert!(arrive(&store, 0, 2).is_empty());
}

#[test]
fn what_is_left_of_an_earlier_wait_does_not_count() {
    let store = Store::new(10);
    assert_eq!(wait(&store, 5, &[0, 1]), None);
    // 0 comes, but is counted down late.
    let late: Vec<Ticket> = store.insert(TaskId(0), Attempt(1), output(0), 8).collect();
    store.withdraw(TaskId(5));
    assert_eq!(wait(&store, 5, &[0, 1, 2]), None);
    assert_eq!(store.count_down(late[0]), None);
    assert!(arrive(&store, 1, 1).is_empty());
    assert_eq!(arrive(&store, 2, 1), [5]);
}

#[test]
fn an_output_goes_only_with_its_own_try() {
    let store = Store::new(1);
    assert_eq!(store.take(TaskId(0)).unwrap(), None);
    store.insert(TaskId(0), Attempt(1), output(1), 8);
    store.insert(TaskId(0), Attempt(2), output(2), 8);
    store.remove(TaskId(0), Attempt(1));
    assert_eq!(store.take(TaskId(0)).unwrap(), Some(output(2)));
    assert!(store.find(TaskId(0), Some(Attempt(1))).is_none());
    store.remove(TaskId(0), Attempt(2));
    assert_eq!(store.take(TaskId(0)).unwrap(), None);
}

/// A store that may hold 1 MiB, and blocks of 256 KiB.
fn within(scratch_limit_bytes: u64) -> Arc<Store> {
    let coding =
        Coding { encode: |_| unreachable!("bytes are plain"), decode: |_| Err("so are they".into()) };
    let (limit_bytes, scratch) = (1 << 20, std::env::temp_dir());
    Store::within(100, memory::Setup { limit_bytes, scratch_limit_bytes, scratch, coding })
}

fn block(number: u8) -> Arc<Output> {
    Arc::new(Output::Value(Value::Bytes(vec![number; 256 << 10])))
}

fn fill(store: &Store, tasks: std::ops::Range<u8>) {
    for number in tasks {
        store.insert(TaskId(number.into()), Attempt(1), block(number), 256 << 10);
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = clock::now();
    while !is_so() {
        assert!(clock::now().since(began) < Micros::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_too_much_is_on_the_disk_and_comes_back_whole() {
    let store = within(u64::MAX);
    fill(&store, 0..16);
    until("there is room", || store.room() < Room::Closed);
    let memory = store.memory().unwrap();
    assert!(memory.moved_bytes().0 >= 12 * (256 << 10), "{:?}", memory.moved_bytes());
    for number in (0..16).chain(0..16) {
        assert_eq!(store.take(TaskId(number.into())).unwrap(), Some(block(number)));
    }
    assert!(memory.moved_bytes().1 >= 12 * (256 << 10), "{:?}", memory.moved_bytes());
    (0..16).for_each(|number| store.remove(TaskId(number), Attempt(1)));
    until("everything is released", || store.room() == Room::Ample);
    assert!((0..16).all(|number| store.find(TaskId(number), None).is_none()));
}

#[test]
fn what_a_task_holds_counts_until_it_lets_go() {
    let store = within(u64::MAX);
    fill(&store, 0..3);
    let held: Vec<_> = (0..3).map(|number| store.take(TaskId(number)).unwrap()).collect();
    (0..3).for_each(|number| store.remove(TaskId(number), Attempt(1)));
    assert_eq!(store.room(), Room::Short);
    drop(held);
    store.settle();
    assert_eq!(store.room(), Room::Ample);
}

#[test]
fn a_full_disk_loses_nothing() {
    let store = within(512 << 10);
    fill(&store, 0..9);
    until("the disk is full", || store.room() == Room::Closed && store.memory().unwrap().no_room().is_some());
    for number in 0..9 {
        assert_eq!(store.take(TaskId(number.into())).unwrap(), Some(block(number)));
    }
    (0..9).for_each(|number| store.remove(TaskId(number), Attempt(1)));
    until("everything is released", || store.room() == Room::Ample);
}

#[test]
fn whoever_reads_while_others_release_finds_all_or_nothing() {
    let seed = fastrand::u64(..);
    let store = within(u64::MAX);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + thread);
                for _ in 0..200 {
                    let number = random.u8(0..16);
                    match random.u8(0..4) {
                        0 => drop(store.insert(TaskId(number.into()), Attempt(1), block(number), 256 << 10)),
                        1 => store.remove(TaskId(number.into()), Attempt(1)),
                        _ => {
                            let found = store.take(TaskId(number.into())).unwrap();
                            assert!(found.is_none_or(|output| output == block(number)), "seed {seed}");
                        }
                    }
                }
            });
        }
    });
    (0..16).for_each(|number| store.remove(TaskId(number), Attempt(1)));
    until(&format!("everything is released, seed {seed}"), || store.room() == Room::Ample);
}

#[test]
fn a_cell_is_small() {
    assert!(size_of::<Mutex<Cell>>() <= 80, "{}", size_of::<Mutex<Cell>>());
}

#[test]
fn what_makes_way_for_another_try_counts_as_long_as_it_is_held() {
    let store = within(u64::MAX);
    fill(&store, 0..2);
    let held = store.take(TaskId(0)).unwrap();
    drop(store.insert(TaskId(0), Attempt(2), block(0), 256 << 10));
    assert_eq!(store.room(), Room::Short, "three blocks are in memory");
    drop(held);
    store.settle();
    assert_eq!(store.room(), Room::Ample);
}

#[test]
fn what_is_read_for_somebody_else_counts_once_and_until_it_is_let_go() {
    let store = within(u64::MAX);
    fill(&store, 0..8);
    until("there is room", || store.room() < Room::Closed);
    let away = (0..8).find_map(|task| match store.find(TaskId(task), None)? {
        Found::Away(spilled) => Some((TaskId(task), spilled)),
        Found::Here(_) => None,
    });
    let (task, spilled) = away.expect("eight blocks do not fit");
    (0..8).map(TaskId).filter(|&other| other != task).for_each(|other| store.remove(other, Attempt(1)));
    assert_eq!(store.room(), Room::Ample);
    let held = |store: &Store| store.memory().unwrap().lock().held();
    until("the writer has let go", || {
        store.settle();
        held(&store) == 0
    });
    let memory = store.memory().unwrap();
    let read = || store.read_for_other(&spilled, memory).unwrap();
    let twice = [read(), read()];
    assert!(Arc::ptr_eq(&twice[0], &twice[1]));
    assert_eq!(held(&store), 256 << 10);
    assert_eq!(store.take(task).unwrap().as_ref(), Some(&twice[0]));
    assert_eq!(held(&store), 0, "it is kept again");
}
