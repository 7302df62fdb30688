//! Every letter that PBS and Torque have for where a job stands, and every number for how it ended.

use crate::core::time::Micros;
use crate::launch::batch::printed::span;
use crate::launch::batch::{JobEnd, JobState, JobView, Reason, System};

use super::attributes::Attributes;

/// The number that is added to a signal's.
const SIGNAL: i32 = 256;
/// The substate of a job that a person or the server took back.
const TERMINATED: &str = "91";

/// What a job's attributes come to.
pub(super) fn view(job: &Attributes, system: System) -> JobView {
    let state = state(job, system);
    let some = |name: &str| job.told(name).map(str::to_owned);
    JobView {
        reason: reason(job, &state),
        queue: some("queue"),
        nodes: some("exec_host"),
        node_count: job.get("Resource_List.nodect").parse().ok(),
        // PBS prints its times in the server's zone and does not name it.
        start: None,
        time_left: time_left(job).filter(|_| state.has_nodes()),
        restarts: job.get("run_count").parse::<u32>().unwrap_or(0).saturating_sub(1),
        state,
    }
}

fn state(job: &Attributes, system: System) -> JobState {
    match job.get("job_state") {
        "Q" | "T" | "W" => JobState::Queued,
        "H" => JobState::Held,
        "R" | "B" => JobState::Running,
        "E" => JobState::Ending,
        "S" | "U" => JobState::Suspended,
        "F" | "X" | "C" => JobState::Ended(end(job, system)),
        other => JobState::Unknown(other.to_owned()),
    }
}

/// How a job ended. Torque writes the attribute in small letters.
fn end(job: &Attributes, system: System) -> JobEnd {
    let status = job.told("Exit_status").or_else(|| job.told("exit_status"));
    let has_run = job.told("stime").or(job.told("start_time")).or(job.told("exec_host")).is_some();
    match status.and_then(|status| status.parse().ok()) {
        Some(status) => end_of_status(status, job, system),
        None if job.get("substate") == TERMINATED => JobEnd::Cancelled,
        None if !has_run && job.told("depend").is_some() => {
            never("what it waited for did not end as it demands")
        }
        None if !has_run && job.told("substate").is_some() => {
            never(job.told("comment").unwrap_or("it was not run"))
        }
        None => JobEnd::Unclear { words: job.told("comment").unwrap_or("no exit status").to_owned() },
    }
}

fn end_of_status(status: i32, job: &Attributes, system: System) -> JobEnd {
    if status < 0 {
        let known = if system == System::Torque { torque_end(status) } else { pbs_end(status) };
        return known.unwrap_or_else(|| never(&format!("exit status {status}")));
    }
    // Older servers say only in words why they killed.
    let comment = job.get("comment");
    if comment.contains("exceeded resource walltime") {
        JobEnd::WalltimeReached
    } else if comment.contains("exceeded resource mem") || comment.contains("exceeded resource vmem") {
        JobEnd::OutOfMemory
    } else if status < SIGNAL {
        JobEnd::of_script(status, 0)
    } else if job.get("substate") == TERMINATED {
        JobEnd::Cancelled
    } else if time_left(job) == Some(Micros::ZERO) {
        JobEnd::WalltimeReached
    } else {
        JobEnd::Killed { signal: status - SIGNAL }
    }
}

/// The negative statuses of OpenPBS 23.06 and PBS Pro.
fn pbs_end(status: i32) -> Option<JobEnd> {
    let limit = |resource: &str| JobEnd::LimitExceeded { resource: resource.to_owned() };
    Some(match status {
        -1 | -2 => never("the node could not start it"),
        -3 => never("the node could not start it, and it was to be tried again"),
        -6..=-4 => JobEnd::NodeLost,
        -7 => never("it could not be restarted from its checkpoint"),
        -10 => never("its owner is unknown on the node"),
        -11 | -14 | -15 | -16 | -18 => JobEnd::Unclear { words: "it was to be run again".to_owned() },
        -12 => JobEnd::Unclear { words: "it was checkpointed and ended".to_owned() },
        -13 | -23 => never("its owner's credentials were refused on the node"),
        -17 | -19 => never("a hook of the site deleted it"),
        -20 => JobEnd::NodeLost,
        -21 => never("the node's PBS directory is not safe"),
        -22 => never("a hook of the site failed"),
        -24 | -25 => limit("ncpus"),
        -26 | -27 => JobEnd::OutOfMemory,
        -28 => limit("cput"),
        -29 => JobEnd::WalltimeReached,
        -30 => never("its nodes did not join"),
        _ => return None,
    })
}

/// The negative statuses of Torque 6.
fn torque_end(status: i32) -> Option<JobEnd> {
    Some(match status {
        -1 | -2 => never("the node could not start it"),
        -3 | -13 | -14 => never("the node could not start it, and it was to be tried again"),
        -6..=-4 => JobEnd::NodeLost,
        -7 => never("it could not be restarted from its checkpoint"),
        -8 => never("its shell could not be started"),
        -9 => never("its output files could not be created"),
        -10 => JobEnd::OutOfMemory,
        -11 => JobEnd::WalltimeReached,
        -12 => JobEnd::LimitExceeded { resource: "cput".to_owned() },
        _ => return None,
    })
}

fn never(reason: &str) -> JobEnd {
    JobEnd::NeverStarted { reason: reason.to_owned() }
}

/// What is left of the walltime that was asked for; nothing once it is used up.
fn time_left(job: &Attributes) -> Option<Micros> {
    let asked = span(job.get("Resource_List.walltime"))?;
    let used = span(job.get("resources_used.walltime"))?;
    Some(asked - used)
}

/// Why it waits: PBS's comment, with what it means.
fn reason(job: &Attributes, state: &JobState) -> Option<Reason> {
    let comment = job.told("comment");
    let known = |meaning: &str, advice: &str, is_hopeless: bool| {
        Some(Reason::known(comment.unwrap_or(meaning), meaning, advice, is_hopeless))
    };
    match (state, job.get("job_state")) {
        (JobState::Held, _) => held(job, comment),
        (_, "M") => known("it was moved to another server", "ask that server", false),
        (_, "T") => known("it is on its way to a queue", "", false),
        (_, "W") => known("its earliest start has not come, or its files could not be staged", "", false),
        // Its end says the rest.
        (JobState::Ended(_), _) => None,
        _ => comment.map(|comment| explain(comment, state)),
    }
}

fn held(job: &Attributes, comment: Option<&str>) -> Option<Reason> {
    let holds = job.get("Hold_Types");
    let (meaning, advice, is_hopeless) = if job.told("depend").is_some() && holds.contains('s') {
        ("it waits for another job to end", "", false)
    } else if holds.contains('u') {
        ("its owner holds it", "`qrls JOB` lets it go", true)
    } else if holds.contains('p') {
        ("its owner's password is not valid", "ask the site's support", true)
    } else {
        (
            "the system or an operator holds it, perhaps because it failed to start too often",
            "ask the site's support",
            true,
        )
    };
    let words = comment.map_or_else(|| format!("Hold_Types = {holds}"), str::to_owned);
    Some(Reason::known(words, meaning, advice, is_hopeless))
}

fn explain(comment: &str, state: &JobState) -> Reason {
    if !state.is_waiting() {
        return Reason::new(comment);
    }
    const KNOWN: &[(&str, &str, &str, bool)] = &[
        (
            "Can Never Run",
            "no set of nodes here has what it asks for",
            "`pbsnodes -aSj` shows what there is; submit with less",
            true,
        ),
        (
            "would conflict with reservation or top job",
            "others are planned on the nodes before it would end",
            "with a shorter walltime it may start earlier",
            false,
        ),
        ("Not Running: Insufficient amount of", "not enough free nodes yet", "", false),
        ("Not Running: Not enough", "not enough free nodes yet", "", false),
        (
            "limit",
            "you or your group have as many jobs or resources as the site allows",
            "it starts when others end",
            false,
        ),
        ("Queue not started", "the queue is stopped", "wait, or submit to another queue", false),
        (
            "Not Running: Queue",
            "the queue is stopped, or does not take it now",
            "wait, or use another queue",
            false,
        ),
    ];
    let known = KNOWN.iter().find(|(words, ..)| comment.contains(words));
    known.map_or_else(
        || Reason::new(comment),
        |(_, meaning, advice, is_hopeless)| Reason::known(comment, meaning, advice, *is_hopeless),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::pbs::attributes::{json, text};
    use crate::launch::pbs::captured;

    fn of(printed: &str, system: System) -> JobView {
        let jobs = text(printed);
        assert_eq!(jobs.len(), 1);
        view(jobs.values().next().unwrap(), system)
    }

    #[test]
    fn every_job_that_a_real_server_had_is_understood() {
        let jobs = json(&captured("qstat-xf-all.json")).unwrap();
        for (id, expected) in [
            ("1.pbs", "reached its walltime"),
            ("2.pbs", "was cancelled"),
            ("3.pbs", "completed"),
            ("4.pbs", "reached its walltime"),
            ("6.pbs", "failed with exit code 3"),
            ("7.pbs", "was killed by SIGKILL"),
            ("8.pbs", "never started: what it waited for did not end as it demands"),
            ("11[].pbs", "completed"),
            ("14.pbs", "is queued"),
            ("16.pbs", "is held"),
            ("20.pbs", "is running"),
            ("21[].pbs", "is running"),
        ] {
            assert_eq!(view(&jobs[id], System::Pbs).state.to_string(), expected, "{id}");
        }
        assert!(jobs.values().all(|job| !matches!(view(job, System::Pbs).state, JobState::Unknown(_))));
    }

    #[test]
    fn each_single_answer_is_understood_as_the_full_one() {
        let all = json(&captured("qstat-xf-all.json")).unwrap();
        for (name, id) in [
            ("qstat-xf-walltime.txt", "1.pbs"),
            ("qstat-xf-qdel.txt", "2.pbs"),
            ("qstat-xf-exit3.txt", "6.pbs"),
            ("qstat-xf-signal9.txt", "7.pbs"),
            ("qstat-xf-depend-failed.txt", "8.pbs"),
        ] {
            assert_eq!(of(&captured(name), System::Pbs), view(&all[id], System::Pbs), "{name}");
        }
    }

    #[test]
    fn a_job_that_can_never_run_says_so() {
        let jobs = json(&captured("qstat-f-all.json")).unwrap();
        let reason = view(&jobs["14.pbs"], System::Pbs).reason.unwrap();
        assert!(reason.is_hopeless && reason.words.starts_with("Can Never Run: Insufficient"), "{reason:?}");
        assert_eq!(view(&jobs["16.pbs"], System::Pbs).reason.unwrap().words, "Hold_Types = u");
    }

    #[test]
    fn a_running_job_knows_its_nodes_and_its_time() {
        let view = of(&captured("qstat-f-running.txt"), System::Pbs);
        assert_eq!((view.nodes.as_deref(), view.node_count), (Some("m1/0+m2/0"), Some(2)));
        assert_eq!(view.time_left, Some(Micros::from_secs(600)));
        assert_eq!(view.queue.as_deref(), Some("workq"));
    }

    #[test]
    fn a_job_that_moved_to_another_server_is_not_over() {
        let view = of("Job Id: 7.pbs\n    job_state = M\n", System::Pbs);
        assert!(!view.state.is_final(), "{:?}", view.state);
        assert!(view.reason.is_some());
    }

    #[test]
    fn every_letter_is_known() {
        for letter in ["B", "C", "E", "F", "H", "Q", "R", "S", "T", "U", "W", "X"] {
            let state = of(&format!("Job Id: 1.s\n    job_state = {letter}\n"), System::Torque).state;
            assert!(!matches!(state, JobState::Unknown(_)), "{letter}");
            assert!(!state.is_success(), "{letter} alone is no success");
        }
        let state = of("Job Id: 1.s\n    job_state = Z\n", System::Pbs).state;
        assert_eq!(state, JobState::Unknown("Z".into()));
    }

    #[test]
    fn the_numbers_of_pbs_and_torque_differ() {
        let end = |status: i32, system| {
            let text = format!("Job Id: 1.s\n    job_state = C\n    exit_status = {status}\n");
            of(&text, system).state.to_string()
        };
        assert_eq!(end(-11, System::Torque), "reached its walltime");
        assert_eq!(end(-11, System::Pbs), "ended, nobody says how: it was to be run again");
        assert_eq!(end(-27, System::Pbs), "ran out of memory");
        assert_eq!(end(-10, System::Torque), "ran out of memory");
        assert_eq!(end(271, System::Torque), "was killed by SIGTERM");
        assert_eq!(end(0, System::Torque), "completed");
        assert_eq!(end(-99, System::Pbs), "never started: exit status -99");
    }

    #[test]
    fn a_torque_job_killed_at_its_walltime_is_known_by_its_time() {
        // Shape per the Torque 6.1 administrator's guide.
        let text = "Job Id: 5.head\n    Job_Name = a\n    resources_used.walltime = 00:10:07\n    job_state = C\n\
                    \u{20}   exec_host = n1/0-3\n    Resource_List.walltime = 00:10:00\n    exit_status = 271\n";
        assert_eq!(of(text, System::Torque).state, JobState::Ended(JobEnd::WalltimeReached));
    }
}
