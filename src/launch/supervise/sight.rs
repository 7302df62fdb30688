//! Who schedules a run that is being launched, as far as its directory tells.

use crate::core::time::{Micros, Timestamp};
use crate::record::layout::RunDirectory;
use crate::record::lease::Lease;

/// How often it is looked.
const LOOK_EVERY: Micros = Micros::from_secs(2);

/// Looks at the lease of a run, and whether the run is finished.
pub(super) struct SchedulerWatch<'a> {
    run: &'a RunDirectory,
    /// The number of whoever had the run before, if anybody had; None while that is not known.
    earlier: Option<Option<u32>>,
    sight: Sight,
    /// Who looked dead the last time. To be sure it takes two looks.
    suspect: Option<u32>,
    next_look: Timestamp,
}

/// How it stands with the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// No rank has taken the run yet.
    Nobody,
    /// It is at work.
    AtWork,
    /// The one that has taken it has died since.
    Dead,
}

impl<'a> SchedulerWatch<'a> {
    /// Before the ranks are started.
    pub(super) fn new(run: &'a RunDirectory) -> Self {
        let earlier = Lease::last(&run.lease()).ok().map(|last| last.map(|(number, _)| number));
        SchedulerWatch { run, earlier, sight: Sight::Nobody, suspect: None, next_look: Timestamp(0) }
    }

    /// How it stands with the scheduler, and whether the run is finished. It is looked now and then, or at once.
    pub(super) fn look(&mut self, now: Timestamp, at_once: bool) -> (Sight, bool) {
        if at_once || now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            // What cannot be read now can be later.
            if let Ok(Some((number, is_dead))) = Lease::last(&self.run.lease()) {
                self.see(number, is_dead);
            }
        }
        (self.sight, self.run.finished().exists())
    }

    fn see(&mut self, number: u32, is_dead: bool) {
        // Nobody but the scheduler of this start can be alive.
        let earlier = self.earlier.get_or_insert(is_dead.then_some(number));
        if *earlier == Some(number) {
            return;
        }
        let was_suspect = std::mem::replace(&mut self.suspect, is_dead.then_some(number)) == Some(number);
        match (is_dead, was_suspect) {
            (false, _) => self.sight = Sight::AtWork,
            (true, true) => self.sight = Sight::Dead,
            // It was there, at least.
            (true, false) if self.sight == Sight::Nobody => self.sight = Sight::AtWork,
            (true, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_of_an_earlier_start_is_not_this_ones() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "g").unwrap();
        let watch = |earlier| SchedulerWatch { earlier, ..SchedulerWatch::new(&run) };
        let sights = |mut watch: SchedulerWatch<'_>, seen: &[(u32, bool)]| {
            let mut see = |&(number, is_dead)| {
                watch.see(number, is_dead);
                watch.sight
            };
            seen.iter().map(&mut see).collect::<Vec<Sight>>()
        };
        let (dead, alive) = (true, false);
        let resumed = [(3, dead), (3, dead), (4, alive), (4, dead), (4, dead)];
        let seen = [Sight::Nobody, Sight::Nobody, Sight::AtWork, Sight::AtWork, Sight::Dead];
        assert_eq!(sights(watch(Some(Some(3))), &resumed), seen);
        assert_eq!(sights(watch(None), &resumed), seen, "whose lease could not be read at first");
        let one_bad_look = [(1, alive), (1, dead), (1, alive), (1, dead), (1, alive)];
        assert_eq!(sights(watch(Some(None)), &one_bad_look), [Sight::AtWork; 5]);
        assert_eq!(sights(watch(Some(None)), &[(1, dead), (1, dead)]), [Sight::AtWork, Sight::Dead]);
    }
}
