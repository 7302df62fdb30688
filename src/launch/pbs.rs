//! OpenPBS, PBS Pro and Torque, through their commands.
//!
//! All three have `qsub`, `qstat` and `qdel`, and differ in what these take: only PBS has JSON and a
//! history, which a site may have turned off. Without a history, a job that is over has vanished.

mod attributes;
mod refusals;
mod states;

use std::collections::BTreeMap;
use std::path::{self, Path};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{User, getuid};

use super::batch::printed::{beginning, cleaned};
use super::batch::{
    Answer, BatchError, BatchSystem, Commands, JobId, JobState, JobView, Link, MARK_VARIABLE, Runner, System,
};
use attributes::Jobs;

/// How many ended jobs a look for a mark goes through, latest first.
const ENDED_LOOKED_AT: usize = 20;

/// PBS or Torque, as its commands answer here.
#[derive(Debug)]
pub struct Pbs {
    runner: Runner,
    /// False once the server has said that it keeps none.
    has_history: AtomicBool,
}

impl Pbs {
    /// OpenPBS or PBS Pro, whose commands are called as `commands` says.
    pub fn new(commands: Commands) -> Pbs {
        Pbs { runner: Runner::new(System::Pbs, commands), has_history: AtomicBool::new(true) }
    }

    /// Torque, whose commands are called as `commands` says.
    pub fn torque(commands: Commands) -> Pbs {
        Pbs { runner: Runner::new(System::Torque, commands), has_history: AtomicBool::new(false) }
    }

    fn system(&self) -> System {
        self.runner.system()
    }

    /// All that is said of these jobs, those that are over included where a history is kept. Of no ids,
    /// all jobs that are not over, whoever owns them.
    fn told(&self, ids: &[&str]) -> Result<Jobs, BatchError> {
        let had_history = self.has_history.load(Ordering::Relaxed) && !ids.is_empty();
        let answer = self.runner.run("qstat", &[self.options(ids.len(), had_history), ids].concat())?;
        if had_history && lacks_history(&answer) {
            self.has_history.store(false, Ordering::Relaxed);
            return self.told(ids);
        }
        let Some(jobs) = self.read(&answer) else {
            // JSON that is none: the text form has no such faults.
            return self.told_in_text(ids, had_history);
        };
        self.checked(&answer, jobs)
    }

    fn told_in_text(&self, ids: &[&str], with_history: bool) -> Result<Jobs, BatchError> {
        let options: &[&str] = if with_history { &["-x", "-f"] } else { &["-f"] };
        let answer = self.runner.run("qstat", &[options, ids].concat())?;
        self.checked(&answer, attributes::text(&answer.stdout))
    }

    /// JSON of several jobs has only the first of them, so that several are asked for as text.
    fn options(&self, count: usize, with_history: bool) -> &'static [&'static str] {
        match (self.system(), count, with_history) {
            (System::Torque, ..) => &["-f"],
            (_, 0, _) => &["-f", "-F", "json"],
            (_, 1, true) => &["-x", "-f", "-F", "json"],
            (_, 1, false) => &["-f", "-F", "json"],
            (_, _, true) => &["-x", "-f"],
            (_, _, false) => &["-f"],
        }
    }

    /// `None` for JSON that cannot be read.
    fn read(&self, answer: &Answer) -> Option<Jobs> {
        let is_text = attributes::text(&answer.stdout);
        if !is_text.is_empty() || answer.stdout.trim().is_empty() {
            return Some(is_text);
        }
        match attributes::json(&answer.stdout) {
            None if answer.is_success() => None,
            jobs => Some(jobs.unwrap_or_default()),
        }
    }

    /// A command that failed only because some of the jobs are not there any more has answered.
    fn checked(&self, answer: &Answer, jobs: Jobs) -> Result<Jobs, BatchError> {
        let is_answer = answer.is_success() || refusals::is_unknown_job(answer) || refusals::is_over(answer);
        // Slurm's imitation of the command fails without a word.
        let is_silent = self.system() == System::Torque && answer.stderr.trim().is_empty();
        if is_answer || is_silent { Ok(jobs) } else { Err(refusals::error(answer, self.system())) }
    }

    /// The ids of this user's jobs, in the order of their submission; those that are over if asked.
    fn own_ids(&self, options: &[&str]) -> Result<Vec<String>, BatchError> {
        let user = user_name();
        let answer = self.runner.run("qselect", &[options, &["-u", user.as_str()]].concat())?;
        if !answer.is_success() {
            return Err(refusals::error(&answer, self.system()));
        }
        let ids = answer.stdout.lines().map(str::trim).filter(|line| JobId::new(*line).is_some());
        Ok(ids.map(str::to_owned).collect())
    }

    /// A job of the history that carries the mark: one that ended before it was looked for.
    fn find_ended(&self, mark: &str) -> Result<Option<JobId>, BatchError> {
        if !self.has_history.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // Without a history, or without the command, there is nothing to look through.
        let Ok(mut ids) = self.own_ids(&["-x", "-s", "F"]) else { return Ok(None) };
        ids.sort_by_key(|id| std::cmp::Reverse(number(id)));
        ids.truncate(ENDED_LOOKED_AT);
        if ids.is_empty() {
            return Ok(None);
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        Ok(marked(&self.told(&ids)?, mark))
    }

    fn not_understood(&self, answer: &Answer) -> BatchError {
        BatchError::NotUnderstood {
            system: self.system(),
            command: answer.program.clone(),
            output: beginning(&cleaned(&format!("{}\n{}", answer.stdout, answer.stderr))),
        }
    }

    fn refused(&self, answer: &Answer) -> BatchError {
        let mut error = refusals::error(answer, self.system());
        if let BatchError::Refused { words, hint, .. } = &mut error
            && refusals::is_about_the_queue(words)
            && let Ok(queues) = self.queues()
        {
            *hint = Some(format!("queues here: `{}`", queues.join("`, `")));
        }
        error
    }
}

impl BatchSystem for Pbs {
    fn system(&self) -> System {
        self.runner.system()
    }

    /// The mark is in the script, as a variable of the job.
    fn submit(&self, script: &Path, _mark: &str, link: Option<&Link>) -> Result<JobId, BatchError> {
        let script = path::absolute(script).unwrap_or_else(|_| script.to_owned());
        let script = script.to_string_lossy();
        let answer = match link {
            Some(Link { after, carrier }) => {
                let depend = format!("depend=afterany:{after}");
                self.runner.run("qsub", &["-W", &depend, "-v", carrier, &script])?
            }
            None => self.runner.run("qsub", &[&script])?,
        };
        match (answer.is_success(), submitted_id(&answer.stdout)) {
            (true, id) => id.ok_or_else(|| self.not_understood(&answer)),
            // It failed after it had been heard.
            (false, Some(_)) => Err(self.not_understood(&answer)),
            (false, None) => Err(self.refused(&answer)),
        }
    }

    fn find(&self, mark: &str) -> Result<Option<JobId>, BatchError> {
        match marked(&self.told(&[])?, mark) {
            Some(id) => Ok(Some(id)),
            None => self.find_ended(mark),
        }
    }

    fn jobs(&self, ids: &[JobId]) -> Result<BTreeMap<JobId, JobView>, BatchError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let told = self.told(&ids.iter().map(JobId::as_str).collect::<Vec<_>>())?;
        let view = |id: &JobId| {
            let exact = told.get(id.as_str());
            // The server's name may be longer in one place than in another.
            let job = exact
                .or_else(|| told.iter().find(|(other, _)| local(other) == local(id.as_str())).map(|it| it.1));
            job.map_or_else(|| JobView::new(JobState::Vanished), |job| states::view(job, self.system()))
        };
        Ok(ids.iter().map(|id| (id.clone(), view(id))).collect())
    }

    fn cancel(&self, id: &JobId) -> Result<(), BatchError> {
        let answer = self.runner.run("qdel", &[id.as_str()])?;
        let (system, id) = (self.system(), id.clone());
        if answer.is_success() {
            Ok(())
        } else if refusals::is_unknown_job(&answer) {
            Err(BatchError::NoSuchJob { system, id })
        } else if refusals::is_over(&answer) {
            Err(BatchError::AlreadyEnded { system, id })
        } else {
            Err(refusals::error(&answer, system))
        }
    }

    /// `qsub` can only be asked by submitting.
    fn test(&self, _script: &Path) -> Option<Result<String, BatchError>> {
        None
    }

    fn queued_jobs(&self) -> Result<usize, BatchError> {
        match self.own_ids(&[]) {
            Ok(ids) => Ok(ids.len()),
            Err(BatchError::NoCommand { .. }) => {
                let owner = format!("{}@", user_name());
                let jobs = self.told(&[])?;
                let is_own = |job: &&attributes::Attributes| job.get("Job_Owner").starts_with(&owner);
                let is_live =
                    |job: &&attributes::Attributes| !states::view(job, self.system()).state.is_final();
                Ok(jobs.values().filter(is_own).filter(is_live).count())
            }
            Err(error) => Err(error),
        }
    }

    fn queues(&self) -> Result<Vec<String>, BatchError> {
        let answer = self.runner.run("qstat", &["-Q", "-f"])?;
        if !answer.is_success() {
            return Err(refusals::error(&answer, self.system()));
        }
        Ok(queue_names(&answer.stdout))
    }
}

/// The queues in `qstat -Q -f`.
fn queue_names(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("Queue:")).map(|name| name.trim().to_owned()).collect()
}

/// The job that carries the mark, of several the latest.
fn marked(jobs: &Jobs, mark: &str) -> Option<JobId> {
    let carriers = jobs.iter().filter(|(_, job)| job.has_variable(MARK_VARIABLE, mark));
    carriers.map(|(id, _)| id).max_by_key(|id| number(id)).and_then(|id| JobId::new(id.as_str()))
}

/// `7` of `7[].pbs`.
fn number(id: &str) -> u64 {
    let digits = id.bytes().take_while(u8::is_ascii_digit).count();
    id[..digits].parse().unwrap_or(0)
}

/// An id without its server.
fn local(id: &str) -> &str {
    id.split('.').next().unwrap_or_default()
}

/// The id in what `qsub` printed, with its suffix: `7.pbs`, `7[].pbs`, `7`. A banner may stand above.
fn submitted_id(output: &str) -> Option<JobId> {
    output.lines().rev().map(str::trim).find(|line| number_is_all_of_local(line)).and_then(JobId::new)
}

fn number_is_all_of_local(line: &str) -> bool {
    let local = local(line).trim_end_matches("[]");
    !local.is_empty() && local.bytes().all(|byte| byte.is_ascii_digit())
}

/// True if the server keeps no history, which only the option for it finds out.
fn lacks_history(answer: &Answer) -> bool {
    let is_about_it = answer.stderr.to_ascii_lowercase().contains("history");
    !answer.is_success() && is_about_it && !refusals::is_over(answer)
}

fn user_name() -> String {
    let user = User::from_uid(getuid()).ok().flatten();
    user.map_or_else(|| getuid().to_string(), |user| user.name)
}

/// What one of PBS's commands printed once, without the lines that say which command and how it ended.
#[cfg(test)]
fn captured(name: &str) -> String {
    super::batch::printed::captured("openpbs-23.06", name)
}

/// Hands a text to every parser, and asks every job found for its view. Public for the package `fuzz`, which
/// sees no more of a system's words than anybody else.
#[doc(hidden)]
pub fn read_everything_from(text: &str) {
    let jobs = attributes::text(text).into_iter().chain(attributes::json(text).unwrap_or_default());
    for (id, job) in jobs {
        let _ =
            (states::view(&job, System::Pbs), states::view(&job, System::Torque), number(&id), local(&id));
        let _ = job.has_variable(MARK_VARIABLE, text);
    }
    let _ = (marked(&attributes::text(text), text), submitted_id(text), queue_names(text));
    let answer = Answer::printed("qsub", text);
    let error = refusals::error(&answer, System::Pbs);
    let _ = (error.to_string(), error.cause(), error.hint(), lacks_history(&answer));
}

#[cfg(test)]
mod tests;
