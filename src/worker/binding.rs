//! What each running task is bound to: its slot, taken when it starts and given back when it ends.
//!
//! The worker's machine counts and decides what fits; here the counts become things. As long as every
//! request was counted before, there are always enough. Calls of functions run on threads that all
//! have the CPUs of their worker: they are not bound one by one, but they hold GPUs and instances of
//! named resources like commands do.

mod affinity;
mod environment;
mod places;

use std::collections::{BTreeMap, HashMap};

use crate::core::id::TaskId;
use crate::core::resources::Resources;
use crate::core::slot::Slot;

pub use affinity::{cpu_set, restrict_this_thread};
use places::{CpuPlaces, Places};

use super::share::Share;

/// Of how many a named resource may have before its instances have no numbers: `licence=3` means the
/// instances 0, 1 and 2, `scratch=1000000000` an amount.
const INSTANCES_MAX: u64 = 1024;

/// What one attempt was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// What it is bound to.
    pub slot: Slot,
    /// The variables that say so to a command.
    pub environment: Vec<(String, String)>,
}

/// Hands out the things of one worker.
#[derive(Debug)]
pub struct Slots {
    share: Share,
    cpus: CpuPlaces,
    gpus: Places,
    custom: BTreeMap<String, Places>,
    held: HashMap<TaskId, Held>,
}

/// The places that a running task occupies.
#[derive(Debug, Default)]
struct Held {
    cpus: Vec<u32>,
    gpus: Vec<u32>,
    custom: Vec<(String, Vec<u32>)>,
}

impl Slots {
    /// Everything is free.
    pub fn new(share: Share, capacity: &Resources) -> Self {
        let numbered = capacity.custom.iter().filter(|(_, amount)| **amount <= INSTANCES_MAX);
        let numbered = numbered.map(|(name, &amount)| (name.clone(), Places::new(amount as u32)));
        Slots {
            cpus: CpuPlaces::new(&share.cpus, capacity.cpus),
            gpus: Places::new(capacity.gpus),
            custom: numbered.collect(),
            held: HashMap::new(),
            share,
        }
    }

    /// Gives a command its slot.
    ///
    /// # Panics
    /// When there is not enough, which whoever counts must know before.
    pub fn take_for_command(&mut self, task: TaskId, request: &Resources) -> Box<Binding> {
        let held = Held { cpus: self.cpus.take(request.cpus), ..self.hold(request) };
        let cpus = self.cpus.ids(&held.cpus);
        let mut slot = self.slot(&held);
        let environment = environment::of(&self.share, &cpus, &slot);
        if self.share.is_binding() {
            slot.cpus = cpus;
        }
        self.enter(task, held);
        Box::new(Binding { slot, environment })
    }

    /// Gives the call of a function its slot. `None`, at no cost, if it asks for cores and memory only.
    ///
    /// # Panics
    /// When there is not enough, which whoever counts must know before.
    pub fn take_for_call(&mut self, task: TaskId, request: &Resources) -> Option<Box<Binding>> {
        if request.gpus == 0 && request.custom.is_empty() {
            return None;
        }
        let held = self.hold(request);
        let slot = self.slot(&held);
        self.enter(task, held);
        Some(Box::new(Binding { slot, environment: Vec::new() }))
    }

    /// Takes back what a task that has ended was given, if anything.
    pub fn give_back(&mut self, task: TaskId) {
        if self.held.is_empty() {
            return;
        }
        let Some(held) = self.held.remove(&task) else { return };
        self.cpus.give_back(&held.cpus);
        self.gpus.give_back(&held.gpus);
        for (name, places) in &held.custom {
            self.custom.get_mut(name).expect("what was taken has a pool").give_back(places);
        }
    }

    fn hold(&mut self, request: &Resources) -> Held {
        let gpus = self.gpus.take(request.gpus);
        let mut custom = Vec::new();
        for (name, &amount) in request.custom.iter().filter(|(_, amount)| **amount > 0) {
            if let Some(pool) = self.custom.get_mut(name) {
                custom.push((name.clone(), pool.take(u32::try_from(amount).unwrap_or(u32::MAX))));
            }
        }
        Held { cpus: Vec::new(), gpus, custom }
    }

    fn slot(&self, held: &Held) -> Slot {
        let mut gpus: Vec<String> = Vec::with_capacity(held.gpus.len());
        for gpu in held.gpus.iter().filter_map(|&place| self.share.gpus.get(place as usize)) {
            // A worker that was told to have more GPUs than there are has some of them twice.
            if !gpus.contains(&gpu.id) {
                gpus.push(gpu.id.clone());
            }
        }
        Slot { cpus: Vec::new(), gpus, custom: held.custom.iter().cloned().collect() }
    }

    fn enter(&mut self, task: TaskId, held: Held) {
        let before = self.held.insert(task, held);
        assert!(before.is_none(), "task {task} runs twice on this worker");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::hardware::{Cpu, Gpu, GpuKind};
    use super::super::share::Bind;
    use super::*;

    fn share(cpus: u32, gpus: u32, bind: Bind) -> Share {
        Share {
            cpus: (0..cpus).map(|id| Cpu { node: id / 4, core: id, id, package: 0 }).collect(),
            gpus: (0..gpus).map(|id| Gpu { kind: GpuKind::Nvidia, id: id.to_string() }).collect(),
            bind,
            ..Share::default()
        }
    }

    fn request(cpus: u32, gpus: u32, licences: u64) -> Resources {
        let custom = [("licence".to_owned(), licences)].into_iter().filter(|(_, amount)| *amount > 0);
        Resources { cpus, gpus, custom: custom.collect(), ..Resources::default() }
    }

    #[test]
    fn a_slot_names_cpus_gpus_and_instances() {
        let mut slots = Slots::new(share(4, 2, Bind::Cores), &request(4, 2, 3));
        let first = slots.take_for_command(TaskId(0), &request(2, 1, 2));
        let second = slots.take_for_command(TaskId(1), &request(1, 1, 1));
        assert_eq!((&first.slot.cpus[..], &first.slot.gpus[..]), (&[0, 1][..], &["0".to_owned()][..]));
        assert_eq!((&second.slot.cpus[..], &second.slot.gpus[..]), (&[2][..], &["1".to_owned()][..]));
        assert_eq!((&first.slot.custom["licence"], &second.slot.custom["licence"]), (&vec![0, 1], &vec![2]));
        slots.give_back(TaskId(0));
        assert_eq!(slots.take_for_command(TaskId(2), &request(1, 1, 1)).slot.custom["licence"], [0]);
    }

    #[test]
    fn without_binding_a_slot_has_no_cpus_but_the_variable_lists_them() {
        let mut slots = Slots::new(share(4, 0, Bind::None), &request(4, 0, 0));
        slots.take_for_command(TaskId(0), &request(1, 0, 0));
        let binding = slots.take_for_command(TaskId(1), &request(2, 0, 0));
        assert!(binding.slot.is_empty());
        assert!(binding.environment.contains(&("DAGMAR_CPU_LIST".into(), "1,2".into())));
    }

    #[test]
    fn calls_hold_gpus_and_instances_but_no_cpus() {
        let mut slots = Slots::new(share(1, 1, Bind::Cores), &request(1, 1, 1));
        assert_eq!(slots.take_for_call(TaskId(0), &request(1, 0, 0)), None);
        let binding = slots.take_for_call(TaskId(1), &request(1, 1, 1)).unwrap();
        assert_eq!((binding.slot.cpus.len(), &binding.slot.gpus[..]), (0, &["0".to_owned()][..]));
        slots.give_back(TaskId(0));
        slots.give_back(TaskId(1));
        assert!(slots.take_for_call(TaskId(2), &request(1, 1, 1)).is_some());
    }

    #[test]
    fn a_large_amount_has_no_instances() {
        let mut slots = Slots::new(share(1, 0, Bind::None), &request(1, 0, 1_000_000_000_000));
        let binding = slots.take_for_command(TaskId(0), &request(1, 0, 999_999_999_999));
        assert!(binding.slot.custom.is_empty());
    }

    /// One step: start a task that asks for so much if it fits, or end the task at this place.
    #[derive(Clone, Debug)]
    enum Step {
        Start(u32, u32, u64, bool),
        End(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let start = (1_u32..6, 0_u32..3, 0_u64..4, any::<bool>())
            .prop_map(|(cpus, gpus, licences, call)| Step::Start(cpus, gpus, licences, call));
        let end = any::<prop::sample::Index>().prop_map(Step::End);
        prop::collection::vec(prop_oneof![start, end], 0..200)
    }

    proptest! {
        #[test]
        fn nothing_is_given_to_two_and_what_is_counted_is_there(steps in steps()) {
            let capacity = request(10, 4, 5);
            let mut slots = Slots::new(share(10, 4, Bind::Cores), &capacity);
            let mut free = capacity.clone();
            let mut running: Vec<(TaskId, Resources, Slot)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Start(cpus, gpus, licences, call) => {
                        let (task, asked) = (TaskId(number as u32), request(cpus, gpus, licences));
                        if !free.covers(&asked) {
                            continue;
                        }
                        free.take(&asked);
                        let slot = match call {
                            true => slots.take_for_call(task, &asked).unwrap_or_default().slot,
                            false => slots.take_for_command(task, &asked).slot,
                        };
                        prop_assert_eq!(slot.cpus.len(), if call { 0 } else { cpus as usize });
                        prop_assert_eq!(slot.gpus.len(), gpus as usize);
                        prop_assert_eq!(slot.custom.get("licence").map_or(0, Vec::len), licences as usize);
                        running.push((task, asked, slot));
                    }
                    Step::End(_) if running.is_empty() => {}
                    Step::End(place) => {
                        let (task, asked, _) = running.swap_remove(place.index(running.len()));
                        free.give(&asked);
                        slots.give_back(task);
                    }
                }
                let held = |things: Vec<String>| {
                    let count = things.len();
                    (count, things.into_iter().collect::<BTreeSet<_>>().len())
                };
                let slots_held = || running.iter().map(|(_, _, slot)| slot);
                for (count, distinct) in [
                    held(slots_held().flat_map(|slot| slot.cpus.iter().map(u32::to_string)).collect()),
                    held(slots_held().flat_map(|slot| slot.gpus.clone()).collect()),
                    held(slots_held().flat_map(|slot| slot.custom.values().flatten().map(u32::to_string)).collect()),
                ] {
                    prop_assert_eq!(count, distinct);
                }
            }
        }
    }
}
