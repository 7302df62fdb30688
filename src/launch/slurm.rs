//! Slurm, through its commands.
//!
//! What a job does is asked of `squeue`; what became of one that it does not list any more, of
//! `scontrol`, which forgets after some minutes, and then of `sacct`, which many sites do not have.
//! A job that none of them knows has vanished, and that is all that is said of it.

mod reasons;
mod record;
mod refusals;
mod sacct;
mod scontrol;
mod squeue;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{self, Path};
use std::sync::OnceLock;

use crate::clock;

use super::batch::printed::{beginning, cleaned, complaint};
use super::batch::{
    Answer, BatchError, BatchSystem, Commands, JobId, JobState, JobView, Link, Runner, System,
};
use record::{Record, representative};

/// The first version whose `squeue --json` keeps to the jobs that were asked for. Earlier ones print
/// every job of the site.
const JSON_SINCE: (u32, u32) = (23, 2);
/// How many jobs one question may name.
const IDS_MAX: usize = 200;

/// Slurm, as its commands answer here.
#[derive(Debug)]
pub struct Slurm {
    runner: Runner,
    speaks_json: OnceLock<bool>,
}

impl Slurm {
    /// Slurm, whose commands are called as `commands` says.
    pub fn new(commands: Commands) -> Slurm {
        Slurm { runner: Runner::new(System::Slurm, commands), speaks_json: OnceLock::new() }
    }

    /// The clusters that jobs were sent to, if they were named.
    fn clusters(&self) -> Option<&str> {
        self.runner.commands().clusters.as_deref()
    }

    /// What `squeue` lists of these jobs of one cluster. It lists what has ended for some minutes.
    fn listed(&self, cluster: Option<&str>, ids: &[&str]) -> Result<Vec<Record>, BatchError> {
        let mut records = Vec::new();
        for some in ids.chunks(IDS_MAX) {
            records.extend(self.listed_at_once(cluster, &some.join(","))?);
        }
        Ok(records)
    }

    fn listed_at_once(&self, cluster: Option<&str>, ids: &str) -> Result<Vec<Record>, BatchError> {
        let which = ["--states=all", "--jobs", ids];
        if self.speaks_json() {
            let answer = self.runner.run("squeue", &on(cluster, &[&["--json"], &which[..]].concat()))?;
            let records = Some(answer.is_success()).filter(|success| *success);
            if let Some(records) = records.and_then(|_| squeue::json(&answer.stdout, clock::now())) {
                return Ok(records);
            }
        }
        let arguments = [&["--noheader", "--format", squeue::FORMAT], &which[..]].concat();
        let answer = self.runner.run("squeue", &on(cluster, &arguments))?;
        let is_unknown = is_unknown_job(&answer.stderr);
        if answer.is_success() || is_unknown {
            Ok(squeue::lines(&answer.stdout))
        } else {
            Err(refusals::error(&answer))
        }
    }

    /// Asked once: it costs a process, and reaches nobody.
    fn speaks_json(&self) -> bool {
        *self.speaks_json.get_or_init(|| {
            let answer = self.runner.run("squeue", &["--version"]);
            answer
                .ok()
                .and_then(|answer| version(&answer.stdout))
                .is_some_and(|version| version >= JSON_SINCE)
        })
    }

    /// What slurmctld remembers of a job that is over.
    fn remembered(&self, cluster: Option<&str>, id: &str) -> Result<Vec<Record>, BatchError> {
        let answer = self.runner.run("scontrol", &on(cluster, &["--oneliner", "show", "job", id]))?;
        if answer.is_success() {
            return Ok(scontrol::jobs(&answer.stdout));
        }
        if is_unknown_job(&answer.stderr) { Ok(Vec::new()) } else { Err(refusals::error(&answer)) }
    }

    /// What accounting has written down. A site without it knows nothing, and a site whose accounting
    /// does not answer is asked again later: what it would say may be that the job succeeded.
    fn accounted(&self, cluster: Option<&str>, ids: &[&str]) -> Result<Vec<Record>, BatchError> {
        let jobs = ids.join(",");
        let arguments =
            ["--parsable2", "--noheader", "--allocations", "--format", sacct::FORMAT, "--jobs", &jobs];
        match self.runner.run("sacct", &on(cluster, &arguments)) {
            Ok(answer) if answer.is_success() => Ok(sacct::jobs(&answer.stdout)),
            Ok(answer) if sacct::is_disabled(&answer) => Ok(Vec::new()),
            Ok(answer) if refusals::is_unreachable(&answer.stderr) => Err(refusals::error(&answer)),
            Ok(_) | Err(BatchError::NoCommand { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The views of jobs of one cluster.
    fn views(&self, cluster: Option<&str>, ids: &[&str]) -> Result<BTreeMap<String, JobView>, BatchError> {
        let listed = self.listed(cluster, ids)?;
        let mut found: BTreeMap<&str, Record> = BTreeMap::new();
        for id in ids {
            let record = of(&listed, id);
            // `squeue` says that a job is over, but not how.
            let is_enough =
                record.as_ref().is_some_and(|record| !record.state().is_final() || record.exit.is_some());
            let told = if is_enough { None } else { of(&self.remembered(cluster, id)?, id) };
            if let Some(record) = told.or(record) {
                found.insert(id, record);
            }
        }
        let missing: Vec<&str> = ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
        for some in missing.chunks(IDS_MAX) {
            let accounted = self.accounted(cluster, some)?;
            found.extend(some.iter().filter_map(|id| Some((*id, of(&accounted, id)?))));
        }
        let view = |id: &&str| found.get(id).map_or_else(|| JobView::new(JobState::Vanished), Record::view);
        Ok(ids.iter().map(|id| ((*id).to_owned(), view(id))).collect())
    }

    /// A refused submission. If the partition is the trouble, those that exist are named.
    fn refused(&self, answer: &Answer) -> BatchError {
        let mut error = refusals::error(answer);
        if let BatchError::Refused { words, hint, .. } = &mut error
            && refusals::is_about_the_partition(words)
            && let Ok(queues) = self.queues()
        {
            *hint = Some(format!("partitions here: `{}`", queues.join("`, `")));
        }
        error
    }
}

impl BatchSystem for Slurm {
    fn system(&self) -> System {
        System::Slurm
    }

    /// The mark is in the script, as its comment. A further job of a chain goes to the cluster of the one
    /// before it, which alone knows that.
    fn submit(&self, script: &Path, _mark: &str, link: Option<&Link>) -> Result<JobId, BatchError> {
        let mut arguments = vec!["--parsable".to_owned()];
        if let Some(link) = link {
            let (number, cluster) = parts(&link.after);
            arguments.extend(cluster.map(|cluster| format!("--clusters={cluster}")));
            arguments.push(format!("--dependency=afterany:{number}"));
            arguments.push(format!("--comment={}", link.carrier));
        }
        arguments.push(absolute(script));
        let answer = self.runner.run("sbatch", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        match (answer.is_success(), submitted_id(&answer.stdout)) {
            (true, id) => id.ok_or_else(|| not_understood(&answer)),
            // It failed after it had been heard.
            (false, Some(_)) => Err(not_understood(&answer)),
            (false, None) => Err(self.refused(&answer)),
        }
    }

    fn find(&self, mark: &str) -> Result<Option<JobId>, BatchError> {
        let arguments = ["--noheader", "--me", "--states=all", "--format", squeue::FORMAT];
        let answer = self.runner.run("squeue", &on(self.clusters(), &arguments))?;
        if !answer.is_success() {
            return Err(refusals::error(&answer));
        }
        Ok(marked(&answer.stdout, mark))
    }

    fn jobs(&self, ids: &[JobId]) -> Result<BTreeMap<JobId, JobView>, BatchError> {
        let clusters: BTreeSet<Option<&str>> = ids.iter().map(|id| parts(id).1).collect();
        let mut views = BTreeMap::new();
        for cluster in clusters {
            let here: Vec<&JobId> = ids.iter().filter(|id| parts(id).1 == cluster).collect();
            let numbers: Vec<&str> = here.iter().map(|id| parts(id).0).collect();
            let mut found = self.views(cluster, &numbers)?;
            views.extend(here.into_iter().filter_map(|id| Some((id.clone(), found.remove(parts(id).0)?))));
        }
        Ok(views)
    }

    /// `scancel` ends with code 0 whatever it was told; only its talk says what became of it.
    fn cancel(&self, id: &JobId) -> Result<(), BatchError> {
        let (number, cluster) = parts(id);
        let answer = self.runner.run("scancel", &on(cluster, &["--verbose", number]))?;
        let (system, id) = (System::Slurm, id.clone());
        if is_unknown_job(&answer.stderr) {
            Err(BatchError::NoSuchJob { system, id })
        } else if answer.stderr.contains("already completing or completed") {
            Err(BatchError::AlreadyEnded { system, id })
        } else if answer.is_success() && !answer.stderr.contains("error:") {
            Ok(())
        } else {
            Err(refusals::error(&answer))
        }
    }

    fn test(&self, script: &Path) -> Option<Result<String, BatchError>> {
        Some(self.runner.run("sbatch", &["--test-only", &absolute(script)]).and_then(|answer| {
            if answer.is_success() { Ok(complaint(&answer)) } else { Err(self.refused(&answer)) }
        }))
    }

    fn queued_jobs(&self) -> Result<usize, BatchError> {
        let answer = self.runner.run(
            "squeue",
            &on(self.clusters(), &["--noheader", "--me", "--array", "--format", squeue::FORMAT]),
        )?;
        if answer.is_success() {
            Ok(squeue::lines(&answer.stdout).len())
        } else {
            Err(refusals::error(&answer))
        }
    }

    fn queues(&self) -> Result<Vec<String>, BatchError> {
        let answer = self.runner.run("sinfo", &on(self.clusters(), &["--noheader", "--format", "%P"]))?;
        if !answer.is_success() {
            return Err(refusals::error(&answer));
        }
        let mut names: Vec<String> = Vec::new();
        for name in answer.stdout.lines().map(|line| line.trim().trim_end_matches('*')) {
            if !name.is_empty() && !name.contains(' ') && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// The job whose comment ends with the mark; a user's own words stand before it. Of several clusters
/// each is named above its jobs, and is part of their ids.
fn marked(listed: &str, mark: &str) -> Option<JobId> {
    let mut cluster = None;
    for line in listed.lines() {
        if let Some(name) = line.strip_prefix("CLUSTER: ") {
            cluster = Some(name.trim());
        }
        let records = squeue::lines(line);
        let carries = |record: &&Record| record.comment.split_whitespace().next_back() == Some(mark);
        if let Some(record) = records.iter().find(carries) {
            let number = record.base();
            return JobId::new(cluster.map_or(number.to_owned(), |cluster| format!("{number};{cluster}")));
        }
    }
    None
}

/// The arguments, on another cluster if one is named.
fn on<'a>(cluster: Option<&'a str>, arguments: &[&'a str]) -> Vec<&'a str> {
    let place = cluster.map(|cluster| ["--clusters", cluster]);
    place.into_iter().flatten().chain(arguments.iter().copied()).collect()
}

/// The number and the cluster in `123;cluster`.
fn parts(id: &JobId) -> (&str, Option<&str>) {
    id.as_str().split_once(';').map_or((id.as_str(), None), |(number, cluster)| (number, Some(cluster)))
}

fn of(records: &[Record], id: &str) -> Option<Record> {
    representative(&records.iter().filter(|record| record.is_of(id)).collect::<Vec<_>>())
}

fn is_unknown_job(complaint: &str) -> bool {
    complaint.contains("Invalid job id specified")
}

/// Paths reach commands as absolute ones, so that none looks like an option.
fn absolute(script: &Path) -> String {
    path::absolute(script).unwrap_or_else(|_| script.to_owned()).to_string_lossy().into_owned()
}

/// The id in what `sbatch` printed: `123`, `123;cluster`, or a sentence that ends with it. A site's
/// banner may stand above.
fn submitted_id(output: &str) -> Option<JobId> {
    output.lines().rev().find_map(|line| {
        let line = line.trim();
        let number = line.split(';').next().unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            return JobId::new(line);
        }
        let rest = line.split_once("Submitted batch job ")?.1;
        match rest.split_once(" on cluster ") {
            Some((number, cluster)) => JobId::new(format!("{number};{cluster}")),
            None => JobId::new(rest),
        }
    })
}

/// `slurm-wlm 22.05.8` is version 22.5.
fn version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn not_understood(answer: &Answer) -> BatchError {
    let output = beginning(&cleaned(&format!("{}\n{}", answer.stdout, answer.stderr)));
    BatchError::NotUnderstood { system: System::Slurm, command: answer.program.clone(), output }
}

/// What one of Slurm's commands printed once, without the lines that say which command and how it ended.
#[cfg(test)]
fn captured(name: &str) -> String {
    super::batch::printed::captured("slurm-22.05", name)
}

/// Hands a text to every parser, and asks every job found for its view. Public for the package `fuzz`, which
/// sees no more of a system's words than anybody else.
#[doc(hidden)]
pub fn read_everything_from(text: &str) {
    let mut records = [squeue::lines(text), scontrol::jobs(text), sacct::jobs(text)].concat();
    records.extend(squeue::json(text, clock::now()).unwrap_or_default());
    for record in &records {
        let _ = (record.view(), record.is_of("24_7"), record.is_of("7"));
    }
    let _ = (representative(&records.iter().collect::<Vec<_>>()), submitted_id(text), version(text));
    let _ = (states::state(&[text.to_owned()], text, None), reasons::explain(text), marked(text, "mark"));
    let answer = Answer::printed("sbatch", text);
    let error = refusals::error(&answer);
    let _ = (error.to_string(), error.cause(), error.hint(), sacct::is_disabled(&answer));
}

#[cfg(test)]
mod tests;
