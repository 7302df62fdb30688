//! What `sacct -P -n -X` prints, where accounting runs: jobs that slurmctld has forgotten.

use crate::launch::batch::Answer;
use crate::launch::batch::printed::moment;

use super::record::Record;
use super::scontrol::exit;
use super::squeue::told;

/// The fields asked for.
pub(super) const FORMAT: &str = "JobID,State,Reason,ExitCode,Partition,NNodes,NodeList,Start";

/// The jobs that accounting knows, oldest first.
pub(super) fn jobs(text: &str) -> Vec<Record> {
    text.lines().filter_map(job).collect()
}

/// True if the answer says that nothing is written down here, which is no fault.
pub(super) fn is_disabled(answer: &Answer) -> bool {
    let says = |words: &str| answer.stderr.contains(words) || answer.stdout.contains(words);
    says("accounting storage is disabled") || says("accounting_storage/none") || says("not configured")
}

fn job(line: &str) -> Option<Record> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [id, state, reason, exit_code, queue, node_count, nodes, start] = fields[..] else { return None };
    let is_job = id.starts_with(|first: char| first.is_ascii_digit()) && !id.contains('.');
    is_job.then(|| Record {
        id: id.to_owned(),
        states: vec![state.to_owned()],
        reason: told(reason),
        exit: exit(exit_code),
        queue: queue.to_owned(),
        nodes: told(nodes.strip_prefix("None assigned").unwrap_or(nodes)),
        node_count: node_count.parse().ok(),
        start: moment(start),
        ..Record::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::slurm::captured;

    #[test]
    fn jobs_that_slurmctld_has_forgotten_are_read() {
        // Shape per sacct's manual for 22.05 to 24.11; no captured cluster had accounting.
        let text = "71|COMPLETED|None|0:0|cpu|2|n[1-2]|1795297185\n\
                    72|CANCELLED by 1000|None|0:15|cpu|1|None assigned|Unknown\n\
                    73|OUT_OF_MEMORY|None|0:125|cpu|1|n7|1795297185\n\
                    73.batch|OUT_OF_MEMORY||0:125||1|n7|1795297185\n\
                    74_[5-9]|PENDING|Priority|0:0|cpu|1|None assigned|Unknown\n\
                    75|FAILED|NonZeroExitCode|2:0|cpu|1|n1|1795297185\n";
        let read: Vec<(String, String)> =
            jobs(text).into_iter().map(|job| (job.id.clone(), job.state().to_string())).collect();
        let expected = [
            ("71", "completed"),
            ("72", "was cancelled"),
            ("73", "ran out of memory"),
            ("74_[5-9]", "is queued"),
            ("75", "failed with exit code 2"),
        ];
        assert_eq!(read, expected.map(|(id, end)| (id.to_owned(), end.to_owned())));
        assert_eq!(jobs(text)[1].nodes, "");
    }

    #[test]
    fn a_cluster_without_accounting_is_no_fault() {
        let stderr = captured("sacct-disabled.txt");
        let answer = Answer {
            program: "sacct".into(),
            exit_code: Some(1),
            signal: None,
            stdout: String::new(),
            stderr,
        };
        assert!(is_disabled(&answer));
        assert_eq!(jobs(&answer.stderr), []);
    }
}
