//! What `squeue` prints, as lines and as JSON.

use serde_json::Value;

use crate::core::time::Timestamp;
use crate::launch::batch::printed::{moment, moment_of, span};

use super::record::Record;

/// The fields asked for. The comment is last, as it alone may contain the separator.
pub(super) const FORMAT: &str = "%i|%T|%r|%P|%D|%N|%S|%L|%k";
const FIELDS: usize = 9;

/// The lines of `squeue -h -o FORMAT`. Lines that are not of that form are a site's banner, or the
/// name of a cluster, which `-M` prints above its jobs.
pub(super) fn lines(text: &str) -> Vec<Record> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Record> {
    let fields: Vec<&str> = line.splitn(FIELDS, '|').map(str::trim).collect();
    let [id, state, reason, queue, node_count, nodes, start, left, comment] = fields[..] else { return None };
    id.starts_with(|first: char| first.is_ascii_digit()).then(|| Record {
        id: id.to_owned(),
        states: vec![state.to_owned()],
        reason: told(reason),
        exit: None,
        queue: told(queue),
        nodes: told(nodes),
        node_count: node_count.parse().ok(),
        start: moment(start),
        time_left: span(left),
        restarts: 0,
        comment: told(comment),
    })
}

/// The text, unless it is one of the words for "nothing".
pub(super) fn told(text: &str) -> String {
    match text {
        "(null)" | "None" | "N/A" | "Unknown" | "none" => String::new(),
        _ => text.to_owned(),
    }
}

/// The jobs in `squeue --json`, of all versions: what was a number or a word in 22.05 is a record of
/// `set`, `infinite` and `number` or a list in later ones. `None` if it is not that. `now` turns the
/// moment of a job's end into the time it has left.
pub(super) fn json(text: &str, now: Timestamp) -> Option<Vec<Record>> {
    // A banner may stand above.
    let text = &text[text.find('{')?..];
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let answer = values.next()?.ok()?;
    answer.get("jobs")?.as_array()?.iter().map(|value| job(value, now)).collect()
}

fn job(job: &Value, now: Timestamp) -> Option<Record> {
    let id = whole_id(job)?;
    let start = number(&job["start_time"]).and_then(moment_of);
    Some(Record {
        id,
        states: words(&job["job_state"]),
        reason: told(&word(&job["state_reason"])),
        exit: exit(&job["exit_code"]),
        queue: word(&job["partition"]),
        nodes: word(&job["nodes"]),
        node_count: number(&job["node_count"]).and_then(|count| count.try_into().ok()),
        start,
        time_left: number(&job["end_time"]).and_then(moment_of).map(|end| end.since(now)),
        restarts: number(&job["restart_cnt"]).and_then(|count| count.try_into().ok()).unwrap_or(0),
        comment: comment(&job["comment"]),
    })
}

/// `24_2` of an array's element, `24_[3-4%1]` of those that wait together, `4+1` of a het job's part.
fn whole_id(job: &Value) -> Option<String> {
    let own = number(&job["job_id"])?;
    let array = number(&job["array_job_id"]).filter(|id| *id != 0);
    let het = number(&job["het_job_id"]).filter(|id| *id != 0);
    let waiting = word(&job["array_task_string"]);
    Some(match (array, number(&job["array_task_id"]), het) {
        (Some(array), _, _) if !waiting.is_empty() => format!("{array}_[{waiting}]"),
        (Some(array), Some(element), _) => format!("{array}_{element}"),
        (_, _, Some(het)) => format!("{het}+{}", number(&job["het_job_offset"]).unwrap_or(0)),
        _ => own.to_string(),
    })
}

/// 22.05 has the status that `wait` gave; later versions have its parts.
fn exit(value: &Value) -> Option<(i32, i32)> {
    if let Some(status) = number(value) {
        return Some((((status >> 8) & 0xff) as i32, (status & 0x7f) as i32));
    }
    let signal = &value["signal"];
    let signal = number(&signal["id"]).or_else(|| number(&signal["signal_id"]));
    let code = number(&value["return_code"]);
    // Of a script that a signal ended, newer versions tell no code.
    let is_told = code.is_some() || signal.is_some();
    let of = |part: Option<u64>| part.unwrap_or(0).try_into().ok();
    if is_told { of(code).zip(of(signal)) } else { None }
}

/// A number in any of its shapes, if there is one.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        Value::Object(parts) => {
            let is = |flag: &str| parts.get(flag).and_then(Value::as_bool);
            let is_told = is("set") != Some(false) && is("infinite") != Some(true);
            parts.get("number").filter(|_| is_told).and_then(Value::as_u64)
        }
        _ => None,
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// One word in older versions, a list of the state and its flags in newer ones.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().map(word).collect(),
        _ => vec![word(value)],
    }
}

/// Accounting nests it; `squeue` does not.
fn comment(value: &Value) -> String {
    word(value.get("job").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Micros;
    use crate::launch::batch::JobState;
    use crate::launch::slurm::captured;

    fn find<'a>(records: &'a [Record], id: &str) -> &'a Record {
        records.iter().find(|record| record.id == id).unwrap_or_else(|| panic!("no {id} in {records:#?}"))
    }

    fn stand(records: &[Record], id: &str) -> String {
        find(records, id).state().to_string()
    }

    #[test]
    fn the_jobs_of_22_05_are_read_from_json() {
        let now = Timestamp(1_795_299_145_000_000);
        let records = json(&captured("squeue.json"), now).unwrap();
        assert_eq!(records.len(), 27);
        for (id, expected) in [
            ("1", "reached its walltime"),
            ("3", "failed with exit code 3"),
            ("4", "was killed by SIGKILL"),
            ("5_1", "completed"),
            ("5_3", "completed"),
            ("6", "is queued"),
            ("8", "never started: DependencyNeverSatisfied"),
            ("13", "never started: BadConstraints"),
            ("21", "is running"),
            ("24_[1-4%1]", "is queued"),
            ("25", "is held"),
        ] {
            assert_eq!(stand(&records, id), expected, "{id}");
        }
        assert_eq!(find(&records, "2").restarts, 1);
        let runs = find(&records, "21");
        assert_eq!((runs.nodes.as_str(), runs.node_count, runs.queue.as_str()), ("n[1-2]", Some(2), "short"));
        assert_eq!(runs.view().time_left, Some(Micros::from_secs(118)));
        assert_eq!(find(&records, "22").view().start, Some(Timestamp(1_795_299_263_000_000)));
    }

    #[test]
    fn the_jobs_of_later_versions_are_read_from_json() {
        // Shape per Slurm's 24.05 REST documentation (data_parser v0.0.41).
        let text = r#"{"jobs": [{
            "job_id": 31, "job_state": ["COMPLETED", "COMPLETING"], "state_reason": "None",
            "array_job_id": {"set": true, "infinite": false, "number": 0},
            "array_task_id": {"set": false, "infinite": false, "number": 0}, "array_task_string": "",
            "het_job_id": {"set": true, "infinite": false, "number": 0},
            "exit_code": {"status": ["SUCCESS"], "return_code": {"set": true, "infinite": false, "number": 0},
                "signal": {"id": {"set": false, "infinite": false, "number": 0}, "name": ""}},
            "node_count": {"set": true, "infinite": false, "number": 4}, "nodes": "n[1-4]",
            "partition": "cpu", "restart_cnt": 2, "comment": "mark",
            "start_time": {"set": true, "infinite": false, "number": 100},
            "end_time": {"set": true, "infinite": false, "number": 160}
          }, {
            "job_id": 33, "job_state": ["RUNNING"], "state_reason": "None",
            "array_job_id": {"set": true, "infinite": false, "number": 32},
            "array_task_id": {"set": true, "infinite": false, "number": 7},
            "end_time": {"set": true, "infinite": true, "number": 0}
          }, {
            "job_id": 40, "het_job_id": {"set": true, "infinite": false, "number": 39},
            "het_job_offset": {"set": true, "infinite": false, "number": 1}, "job_state": ["FAILED"],
            "state_reason": "NonZeroExitCode",
            "exit_code": {"status": ["SIGNALED"], "return_code": {"set": false, "infinite": false, "number": 0},
                "signal": {"id": {"set": true, "infinite": false, "number": 15}, "name": "TERM"}}
          }], "last_update": {"set": true, "infinite": false, "number": 130}, "errors": [], "warnings": []}"#;
        let records = json(text, Timestamp(130_000_000)).unwrap();
        assert_eq!(find(&records, "31").state(), JobState::Ending);
        assert_eq!(find(&records, "31").view().node_count, Some(4));
        assert_eq!((find(&records, "31").restarts, find(&records, "31").comment.as_str()), (2, "mark"));
        assert_eq!(find(&records, "31").view().time_left, Some(Micros::from_secs(30)));
        assert_eq!(
            (stand(&records, "32_7").as_str(), find(&records, "32_7").time_left),
            ("is running", None)
        );
        assert_eq!(stand(&records, "39+1"), "was killed by SIGTERM");
    }

    #[test]
    fn the_jobs_of_22_05_are_read_from_lines() {
        let records = lines(&captured("squeue-batch-format.txt"));
        let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["2", "1", "3_1", "3_2", "3_3", "4+0", "4+1", "32", "31"]);
        assert_eq!(stand(&records, "32"), "is held");
        assert_eq!(stand(&records, "2"), "was cancelled");
        assert_eq!(find(&records, "2").view().start, None);
        assert_eq!(stand(&records, "3_2"), "completed");
        assert_eq!(find(&records, "2").comment, "dagmar-mark-1");
        let view = find(&records, "31").view();
        assert_eq!((view.nodes.as_deref(), view.queue.as_deref()), (Some("n1"), Some("short")));
        assert_eq!(view.time_left, Some(Micros::from_secs(298)));
        assert_eq!(view.start, Some(Timestamp(1_795_316_013_000_000)));
        assert_eq!(find(&records, "4+1").comment, "");
    }

    #[test]
    fn a_comment_may_contain_the_separator() {
        let records =
            lines("CLUSTER: a\n** maintenance | on | monday **\n7|RUNNING|None|q|1|n1|5|1:00|a|b||c\n");
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].comment, "a|b||c");
    }

    #[test]
    fn what_is_not_an_answer_is_none() {
        for text in ["", "{", "[]", "{}", "{\"jobs\": 3}", "{\"jobs\": [{}]}", "Segmentation fault"] {
            assert_eq!(json(text, Timestamp(0)), None, "{text}");
        }
        assert_eq!(json("welcome to the cluster\n{\"jobs\": []}\n", Timestamp(0)), Some(Vec::new()));
    }
}
