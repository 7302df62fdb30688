//! What `scontrol show job -o` prints: one line of `Name=value` for each job that slurmctld remembers.

use crate::launch::batch::printed::{moment, span};

use super::record::Record;
use super::squeue::told;

/// The jobs in `scontrol show job`, whether each is on one line (`-o`) or on many.
pub(super) fn jobs(text: &str) -> Vec<Record> {
    let starts: Vec<usize> =
        text.match_indices("JobId=").map(|(at, _)| at).filter(|at| begins(text, *at)).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| job(&text[*start..end])).collect()
}

/// True at the beginning of a line: `ArrayJobId=` and `HetJobId=` contain the same letters.
fn begins(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes()[at - 1] == b'\n'
}

fn job(text: &str) -> Record {
    let (ids, rest) = around_the_name(text);
    let field = |name: &str| told(field(rest, name).unwrap_or_default());
    let limit = span(&field("TimeLimit"));
    let run = span(&field("RunTime"));
    Record {
        id: whole_id(ids),
        states: vec![field("JobState")],
        reason: field("Reason"),
        exit: exit(&field("ExitCode")),
        queue: field("Partition"),
        nodes: field("NodeList"),
        node_count: field("NumNodes").split('-').next().and_then(|count| count.parse().ok()),
        start: moment(&field("StartTime")),
        time_left: limit.zip(run).map(|(limit, run)| limit - run),
        restarts: field("Restarts").parse().unwrap_or(0),
        comment: field("Comment"),
    }
}

fn whole_id(text: &str) -> String {
    let field = |name: &str| field(text, name).unwrap_or_default();
    match (field("ArrayJobId"), field("ArrayTaskId"), field("HetJobId")) {
        ("", _, "") => field("JobId").to_owned(),
        ("", _, het) => format!("{het}+{}", field("HetJobOffset")),
        (array, element, _) if element.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{array}_{element}")
        }
        (array, waiting, _) => format!("{array}_[{waiting}]"),
    }
}

/// What stands before and after the job's name, which may be `x JobState=COMPLETED`.
fn around_the_name(text: &str) -> (&str, &str) {
    let (ids, rest) = text.split_once("JobName=").unwrap_or((text, text));
    (ids, rest.find("UserId=").map_or(rest, |end| &rest[end..]))
}

/// The value of `name`, up to the next space. The first one counts: a user's words, such as the
/// command's, stand after all that is asked for here.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut words = text.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// `3:0` is exit code 3, `0:9` signal 9.
pub(super) fn exit(text: &str) -> Option<(i32, i32)> {
    let (code, signal) = text.split_once(':')?;
    Some((code.parse().ok()?, signal.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::{Micros, Timestamp};
    use crate::launch::slurm::captured;

    fn of(name: &str) -> Record {
        let records = jobs(&captured(name));
        assert_eq!(records.len(), 1, "{name}");
        records.into_iter().next().unwrap()
    }

    #[test]
    fn a_running_job_is_read_from_one_line_and_from_many() {
        let many = of("scontrol-show-job-running.txt");
        assert_eq!(many, of("scontrol-show-job-oneliner.txt"));
        let view = many.view();
        assert_eq!(view.state.to_string(), "is running");
        assert_eq!((view.nodes.as_deref(), view.node_count), (Some("n[1-2]"), Some(2)));
        assert_eq!(view.time_left, Some(Micros::from_secs(118)));
    }

    #[test]
    fn ends_and_waits_are_told_apart() {
        assert_eq!(of("scontrol-show-job-completed.txt").state().to_string(), "completed");
        assert_eq!(of("scontrol-job-held.txt").state().to_string(), "is held");
        let waits = of("scontrol-job-failed.txt");
        assert_eq!(waits.view().reason.unwrap().words, "Priority");
    }

    #[test]
    fn elements_of_arrays_and_het_jobs_have_whole_ids() {
        let text = "JobId=30 ArrayJobId=24 ArrayTaskId=2 JobName=JobId=9 JobState=FAILED UserId=u(1) JobState=RUNNING\n\
                    JobId=24 ArrayJobId=24 ArrayTaskId=3-4%1 JobState=PENDING Reason=JobArrayTaskLimit\n\
                    JobId=5 HetJobId=4 HetJobOffset=1 JobState=FAILED ExitCode=0:9 Restarts=2 StartTime=77\n";
        let records = jobs(text);
        let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["24_2", "24_[3-4%1]", "4+1"]);
        assert_eq!(records[0].state().to_string(), "is running");
        assert_eq!(records[2].state().to_string(), "was killed by SIGKILL");
        assert_eq!((records[2].restarts, records[2].start), (2, Some(Timestamp(77_000_000))));
    }
}
