//! One line about one job, whichever of Slurm's commands it came from.

use crate::core::time::{Micros, Timestamp};
use crate::launch::batch::{JobState, JobView};

use super::{reasons, states};

/// What one of Slurm's commands says about one job, or one element of an array or het job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Its whole id: `24`, `24_2`, `24_[3-4%1]`, `4+1`.
    pub id: String,
    /// The state and flags, in Slurm's words.
    pub states: Vec<String>,
    pub reason: String,
    /// The exit code and signal of the script, if told.
    pub exit: Option<(i32, i32)>,
    pub queue: String,
    pub nodes: String,
    pub node_count: Option<u32>,
    pub start: Option<Timestamp>,
    pub time_left: Option<Micros>,
    pub restarts: u32,
    pub comment: String,
}

impl Record {
    /// The id that `sbatch` gave out: that of the whole array or het job.
    pub fn base(&self) -> &str {
        self.id.split(['_', '+']).next().unwrap_or_default()
    }

    /// True if `wanted` names this job, the array or het job that it belongs to, or an element of it.
    pub fn is_of(&self, wanted: &str) -> bool {
        if self.id == wanted || self.base() == wanted {
            return true;
        }
        let element = wanted.split_once('_').filter(|(base, _)| *base == self.base());
        let waiting = self.id.split_once("_[").map(|(_, ranges)| ranges);
        match (element.and_then(|(_, index)| index.parse().ok()), waiting) {
            (Some(index), Some(ranges)) => contains(ranges, index),
            _ => false,
        }
    }

    pub fn state(&self) -> JobState {
        states::state(&self.states, &self.reason, self.exit)
    }

    pub fn view(&self) -> JobView {
        let state = self.state();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let is_over = matches!(state, JobState::Ended(_));
        let reason = || states::flag_reason(&self.states).or_else(|| reasons::explain(&self.reason));
        JobView {
            // Of a job that is over Slurm goes on to print why it waited; its end says the rest.
            reason: if is_over { None } else { reason() },
            queue: some(&self.queue),
            nodes: some(&self.nodes),
            node_count: self.node_count,
            // A job that was cancelled in the queue "started" at that moment.
            start: self.start.filter(|_| !is_over || !self.nodes.is_empty()),
            // Of a job that waits Slurm prints all it asked for.
            time_left: self.time_left.filter(|_| state.has_nodes()),
            restarts: self.restarts,
            state,
        }
    }
}

/// The record that stands for all elements of a job: the one that is furthest from being over, and of
/// those that are over one that went wrong. Of one element the latest record counts.
pub(super) fn representative(records: &[&Record]) -> Option<Record> {
    let is_latest = |place: usize| !records[place + 1..].iter().any(|later| later.id == records[place].id);
    let latest = (0..records.len()).filter(|place| is_latest(*place)).map(|place| records[place]);
    latest.min_by_key(|record| rank(&record.state())).cloned()
}

fn rank(state: &JobState) -> u8 {
    match state {
        JobState::Running => 0,
        JobState::Suspended => 1,
        JobState::Starting => 2,
        JobState::Ending => 3,
        JobState::Queued => 4,
        JobState::Held => 5,
        JobState::Unknown(_) => 6,
        JobState::Vanished => 7,
        JobState::Ended(end) if !end.is_success() => 8,
        JobState::Ended(_) => 9,
    }
}

/// True if `3-4,7%1]` contains the index. Slurm cuts long lists with `...`: those contain whatever is
/// not named elsewhere.
fn contains(ranges: &str, index: u64) -> bool {
    let ranges = ranges.trim_end_matches(']');
    let ranges = ranges.split('%').next().unwrap_or_default();
    ranges.split(',').any(|range| match range.split_once('-') {
        None => range == "..." || range.parse() == Ok(index),
        Some((first, last)) => {
            let (last, step) = last.split_once(':').unwrap_or((last, "1"));
            match (first.parse::<u64>(), last.parse::<u64>(), step.parse::<u64>()) {
                (Ok(first), Ok(last), Ok(step)) if step > 0 => {
                    (first..=last).contains(&index) && (index - first).is_multiple_of(step)
                }
                _ => false,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, state: &str) -> Record {
        Record { id: id.to_owned(), states: vec![state.to_owned()], exit: Some((0, 0)), ..Record::default() }
    }

    #[test]
    fn an_array_answers_for_its_elements() {
        let waiting = record("24_[3-4,8-12:2%1]", "PENDING");
        for wanted in ["24", "24_3", "24_4", "24_10", "24_[3-4,8-12:2%1]"] {
            assert!(waiting.is_of(wanted), "{wanted}");
        }
        for wanted in ["24_2", "24_9", "2", "240", "23_3", "24_x"] {
            assert!(!waiting.is_of(wanted), "{wanted}");
        }
        assert!(record("4+1", "RUNNING").is_of("4"));
    }

    #[test]
    fn the_element_that_is_furthest_from_its_end_stands_for_all() {
        let done = record("24_1", "COMPLETED");
        let failed = record("24_2", "NODE_FAIL");
        let runs = record("24_3", "RUNNING");
        let waits = record("24_[4-9]", "PENDING");
        let of = |records: &[&Record]| representative(records).map(|record| record.id);
        assert_eq!(of(&[&done, &failed, &runs, &waits]).as_deref(), Some("24_3"));
        assert_eq!(of(&[&done, &failed, &waits]).as_deref(), Some("24_[4-9]"));
        assert_eq!(of(&[&done, &failed]).as_deref(), Some("24_2"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn of_a_requeued_job_the_latest_record_counts() {
        let lost = record("7", "NODE_FAIL");
        let again = record("7", "PENDING");
        assert_eq!(representative(&[&lost, &again]), Some(again.clone()));
        assert_eq!(representative(&[&again, &lost]), Some(lost));
    }

    #[test]
    fn what_a_waiting_job_asked_for_is_not_what_is_left() {
        let mut waits = record("1", "PENDING");
        waits.time_left = Some(Micros::from_secs(300));
        assert_eq!(waits.view().time_left, None);
        waits.states = vec!["RUNNING".to_owned()];
        assert_eq!(waits.view().time_left, Some(Micros::from_secs(300)));
    }
}
