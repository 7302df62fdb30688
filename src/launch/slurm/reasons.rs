//! Why Slurm lets a job wait: what its words mean, and what helps.

use crate::launch::batch::Reason;

/// Only waiting helps, and it does.
const WAIT: &str = "";

/// Word, meaning, advice, and whether waiting alone is hopeless.
const KNOWN: &[(&str, &str, &str, bool)] = &[
    ("Resources", "not enough free nodes yet; it is next", WAIT, false),
    ("Priority", "other jobs are before it", WAIT, false),
    (
        "BeginTime",
        "its earliest start has not come; after a requeue Slurm waits about two minutes",
        WAIT,
        false,
    ),
    ("Cleaning", "its last attempt is still being cleaned up", WAIT, false),
    ("Prolog", "its nodes are being prepared", WAIT, false),
    ("Dependency", "it waits for another job to end", WAIT, false),
    ("JobArrayTaskLimit", "as many elements of its array run as may run at once", WAIT, false),
    ("Licenses", "it waits for a licence", WAIT, false),
    ("Reservation", "its reservation has not begun", WAIT, false),
    ("NodeDown", "a node that it needs is down", WAIT, false),
    (
        "ReqNodeNotAvail",
        "nodes that it needs are down, drained or reserved, often for a maintenance that begins before it would end",
        "ask for less time, so that it ends before the reservation; `scontrol show reservation` shows when",
        false,
    ),
    (
        "DependencyNeverSatisfied",
        "the job that it waits for ended in another way than it demands",
        "cancel it: it will never start",
        true,
    ),
    ("JobHeldUser", "its owner holds it", "`scontrol release JOB` lets it go", true),
    ("JobHeldAdmin", "an administrator holds it", "ask the site's support", true),
    (
        "JobHoldMaxRequeue",
        "it was requeued too often",
        "look at its output, then `scontrol release JOB`",
        true,
    ),
    ("ReservationDeleted", "its reservation was deleted", "submit without the reservation", true),
    ("BadConstraints", "no node has what it asks for", "submit with other constraints, memory or GPUs", true),
    (
        "PartitionConfig",
        "the partition cannot give what it asks for: too many nodes, or too long",
        "`sinfo -o '%P %l %D'` shows what each partition gives; submit with less",
        true,
    ),
    (
        "PartitionTimeLimit",
        "it asks for more time than the partition gives",
        "`sinfo -o '%P %l'` shows the limits; submit with a shorter walltime or to another partition",
        true,
    ),
    (
        "PartitionNodeLimit",
        "it asks for more nodes than the partition gives, or too many are down",
        "`sinfo -o '%P %D %s'` shows the limits; submit with fewer nodes or to another partition",
        true,
    ),
    ("PartitionDown", "the partition is down", "wait, or submit to another partition", false),
    ("PartitionInactive", "the partition is closed", "wait, or submit to another partition", false),
    ("AccountNotAllowed", "the account may not use this partition", "submit with another account", true),
    (
        "InvalidAccount",
        "the account is not valid",
        "`sacctmgr show associations user=$USER` lists yours",
        true,
    ),
    ("InvalidQOS", "the qos is not valid", "`sacctmgr show associations user=$USER` lists yours", true),
    ("QOSNotAllowed", "the account or partition does not allow this qos", "submit with another qos", true),
    ("QOSTimeLimit", "it asks for more time than the qos gives", "submit with a shorter walltime", true),
    (
        "AssociationTimeLimit",
        "it asks for more time than your account has",
        "submit with a shorter walltime",
        true,
    ),
    ("QOSJobLimit", "the qos has as many jobs as it may", "it starts when others end", false),
    ("AssociationJobLimit", "your account has as many jobs as it may", "it starts when others end", false),
    ("QOSResourceLimit", "the qos has used up what it may", "it starts when other jobs end", false),
    (
        "AssociationResourceLimit",
        "your account has used up what it may",
        "it starts when other jobs end",
        false,
    ),
    ("QOSUsageThreshold", "the qos has used up its share", "ask for another qos", false),
    ("MaxMemPerLimit", "it asks for more memory than a job may have", "submit with less memory", true),
    ("JobLaunchFailure", "its script could not be started", "is its directory there on the nodes?", false),
    (
        "launch failed requeued held",
        "its script could not be started, and it is held",
        "is its directory there on the nodes? Then `scontrol release JOB`",
        true,
    ),
    ("NonZeroExitCode", "its script failed", WAIT, false),
    ("RaisedSignal", "a signal ended its script", WAIT, false),
    ("TimeLimit", "it reached its walltime", WAIT, false),
    ("InactiveLimit", "it did nothing for too long", WAIT, false),
    ("SystemFailure", "Slurm or a node failed", "submit it again", false),
    ("OutOfMemory", "it needed more memory than it asked for", "submit with more memory", false),
    ("BurstBufferResources", "it waits for room in a burst buffer", WAIT, false),
    ("FrontEndDown", "no front end is up", WAIT, false),
];

/// What `words`, the reason that Slurm gives, mean. Nothing if it gives none.
pub(super) fn explain(words: &str) -> Option<Reason> {
    let words = words.trim();
    if words.is_empty() || words == "None" {
        return None;
    }
    // `ReqNodeNotAvail, UnavailableNodes:n[1-4]`, `launch_failed_requeued_held`
    let word = words.split(',').next().unwrap_or_default().trim().replace('_', " ");
    let known = KNOWN.iter().find(|(known, ..)| *known == word);
    Some(match known {
        Some((_, meaning, advice, is_hopeless)) => Reason::known(words, meaning, advice, *is_hopeless),
        None => limit(words, &word).unwrap_or_else(|| Reason::new(words)),
    })
}

/// The family of limits, of which there are over a hundred: whose limit it is, whether it is on all
/// jobs together or on each, and on what.
fn limit(words: &str, word: &str) -> Option<Reason> {
    const WHOSE: [(&str, &str); 2] = [("QOS", "the qos"), ("Assoc", "your account")];
    let (rest, whose) = WHOSE.iter().find_map(|(prefix, whose)| Some((word.strip_prefix(prefix)?, whose)))?;
    let what = |rest: &str| rest.trim_end_matches("Limit").trim_end_matches("PerUser").to_owned();
    if let Some(rest) = rest.strip_prefix("Grp") {
        let is_budget = rest.contains("Minutes") || rest.contains("RunMins") || rest.contains("Mins");
        let advice =
            if is_budget { "the budget must be refilled: ask the site" } else { "it starts when others end" };
        let meaning = format!("all jobs of {whose} together have used up `{}`", what(rest));
        return Some(Reason::known(words, &meaning, advice, false));
    }
    let rest = rest.strip_prefix("Max").or_else(|| rest.strip_prefix("Min"))?;
    let is_of_each = rest.contains("PerJob") || rest.contains("PerNode") || rest.contains("WallDuration");
    let meaning = format!("it asks for something beyond the limit that {whose} has on `{}`", what(rest));
    if is_of_each {
        return Some(Reason::known(words, &meaning, "submit with less", true));
    }
    let meaning = format!("you have as much of `{}` as {whose} allows at once", what(rest));
    Some(Reason::known(words, &meaning, "it starts when your other jobs end, if they are the cause", false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(words: &str) -> String {
        explain(words).and_then(|reason| reason.meaning).unwrap_or_default()
    }

    #[test]
    fn slurms_own_words_are_kept_beside_what_they_mean() {
        let reason = explain("ReqNodeNotAvail, UnavailableNodes:n[1-4]").unwrap();
        assert_eq!(reason.words, "ReqNodeNotAvail, UnavailableNodes:n[1-4]");
        assert!(reason.advice.unwrap().contains("less time"));
    }

    #[test]
    fn what_will_never_start_is_said_to_be_hopeless() {
        let is_hopeless = |words| explain(words).unwrap().is_hopeless;
        for words in [
            "DependencyNeverSatisfied",
            "PartitionTimeLimit",
            "QOSMaxCpuPerJobLimit",
            "launch_failed_requeued_held",
        ] {
            assert!(is_hopeless(words), "{words}");
        }
        for words in ["Priority", "Resources", "QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "SomethingNew"] {
            assert!(!is_hopeless(words), "{words}");
        }
    }

    #[test]
    fn a_limit_is_explained_by_its_parts() {
        assert_eq!(
            meaning("AssocGrpCPUMinutesLimit"),
            "all jobs of your account together have used up `CPUMinutes`"
        );
        assert_eq!(meaning("QOSMaxJobsPerUserLimit"), "you have as much of `Jobs` as the qos allows at once");
        let wall = meaning("AssocMaxWallDurationPerJobLimit");
        assert_eq!(
            wall,
            "it asks for something beyond the limit that your account has on `WallDurationPerJob`"
        );
    }

    #[test]
    fn no_reason_is_none_and_a_new_one_speaks_for_itself() {
        assert_eq!(explain("None"), None);
        assert_eq!(explain("MoonIsFull"), Some(Reason::new("MoonIsFull")));
    }
}
