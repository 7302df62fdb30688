//! `dagmar launch`: in the allocation, starts the ranks of a run and sees them to their end.
//!
//! Job scripts call it. What it ends with is what the run directory says: the exit codes of
//! launchers lie once something went wrong.

mod chain;
mod ranks;
mod starts;

use std::env;
use std::fs;
use std::io;
use std::path::Path;

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::allocation::Allocation;
use crate::launch::batch::{self, System};
use crate::launch::plan::LaunchPlan;
use crate::launch::supervise::Supervisor;
use crate::record::claim::{Claim, ClaimError, Owner};
use crate::record::description::Description;
use crate::record::layout::RunDirectory;
use crate::record::mailbox::{Mailbox, Order};
use crate::record::outcome::Finished;
use crate::record::submission::Submission;
use crate::runtime::{exit, logger, margin, program};
use crate::transport::launcher;

use super::failure::Failure;
use super::flags::LaunchFlags;
use super::output::tell;
use super::preparation::{not_written, refused};
use super::run_job::can_go_on;
use super::{CommandResult, OK};
use chain::Chain;
use ranks::{Launch, linked_mpi};
use starts::ended_attempts;

/// How much earlier than it was asked to Slurm may send the signal that announces the end of a job.
const SIGNAL_EARLY: Micros = Micros::from_secs(60);

/// Starts a run's ranks and waits for their end.
pub fn run(flags: &LaunchFlags) -> CommandResult {
    let began = clock::now();
    // Signals may come while batch systems are asked, and end no process from here on.
    let supervisor = Supervisor::new();
    let mut supervisor =
        supervisor.map_err(|error| Failure::broken(format!("cannot listen for signals: {error}")))?;
    let directory = RunDirectory::open(&flags.run).map_err(refused)?;
    let plan = LaunchPlan::read(&directory.launch_plan()).map_err(|error| {
        Failure::usage(error.to_string()).hint("`dagmar submit` makes run directories to launch".to_owned())
    })?;
    if let Some((variable, _)) = launcher::launcher_rank_count() {
        let message =
            format!("`dagmar launch` starts the ranks itself, but `{variable}` says it is one of them");
        return Err(Failure::usage(message).hint("call it once, without mpirun or srun".to_owned()));
    }
    let allocation = Allocation::from_variables(&|name| env::var(name).ok());
    let allocation = allocation.map_err(|error| Failure::usage(error.to_string()))?;
    let chain = Chain::new(&directory, allocation.as_ref());
    if let Some(finished) = finished(&directory)?.filter(|finished| !can_go_on(finished)) {
        tell(&format!("{} is over already, with exit code {}", directory.name(), finished.exit_code));
        // A job that came in case it was needed has not failed.
        return Ok(if chain.is_further_job() { OK } else { finished.exit_code });
    }
    if let Some(job) = chain.gave_up() {
        tell(&format!("{} got nowhere in job {job}, so this one does not try", directory.name()));
        return Ok(OK);
    }
    check_place(&directory, allocation.as_ref())?;
    let restarts = allocation.as_ref().map_or(0, |allocation| allocation.restarts);
    let owner =
        Owner::this_process(allocation.as_ref().map(|allocation| allocation.id.to_string()), restarts);
    let claim = Claim::take(&directory.claim(), &owner, &|job| chain.is_over(job));
    let _claim = claim.map_err(|error| taken(&error, &directory))?;
    let ended = chain.is_of_several().then(|| ended_attempts(&directory));
    let end = ends(&directory, &plan, allocation.as_ref(), began);
    supervisor.set_end(end);
    let concluded = take_up(&directory, plan, (allocation.as_ref(), end), &mut supervisor);
    if let Some(ended) = ended.filter(|_| chain.has_more()) {
        let exit_code = concluded.as_ref().map_or_else(|failure| failure.exit_code, |code| *code);
        see_to_later_jobs(&chain, &directory, (ended, exit_code == exit::STOPPED), end)?;
    }
    concluded
}

/// Takes back the jobs of the chain that nobody needs: the run is over, or gets nowhere. A job that was ended
/// long before its time, as by preemption, says nothing of what the next one can do.
fn see_to_later_jobs(
    chain: &Chain<'_>,
    directory: &RunDirectory,
    (ended, is_stopped): (u64, bool),
    end: Option<(Timestamp, Micros)>,
) -> Result<(), Failure> {
    let finished = finished(directory)?;
    if finished.as_ref().is_some_and(|finished| !can_go_on(finished)) {
        chain.cancel_later();
        return Ok(());
    }
    let is_cut_short = end.is_some_and(|(end, margin)| clock::now() + margin + SIGNAL_EARLY < end);
    if ended_attempts(directory) == ended && !(is_stopped && is_cut_short) {
        chain.give_up();
    }
    Ok(())
}

/// Begins a run or goes on with it, to the end of its ranks.
fn take_up(
    directory: &RunDirectory,
    mut plan: LaunchPlan,
    (allocation, ends): (Option<&Allocation>, Option<(Timestamp, Micros)>),
    supervisor: &mut Supervisor,
) -> CommandResult {
    let resumes = begin_again(directory, &plan)?;
    if let Some(scratch) = &plan.scratch {
        let place = expand(scratch, &|name| env::var(name).ok())?;
        plan.environment.insert("DAGMAR_SCRATCH".to_owned(), place);
    }
    logger::start(&directory.path().join("logs/launch.log")).map_err(not_written(directory))?;
    if let Some((end, margin)) = ends {
        let left = end.since(clock::now());
        log::info!("the allocation ends in {left}; the run is asked to stop {margin} before");
    }
    if let Some((end, margin)) = ends {
        // The ranks start nothing that would not be over by then.
        let until = end.0.saturating_sub(margin.0) / 1_000_000;
        plan.environment.insert(margin::UNTIL.to_owned(), until.to_string());
    }
    if plan.arguments.is_some() {
        set_environment(&mut plan, directory, allocation.is_some());
    }
    Launch { directory, plan, allocation, resumes }.run(supervisor)
}

/// When the allocation ends, and how long before that the run stops. Where nobody knew the walltime
/// beforehand, a quarter of it at most.
fn ends(
    directory: &RunDirectory,
    plan: &LaunchPlan,
    allocation: Option<&Allocation>,
    began: Timestamp,
) -> Option<(Timestamp, Micros)> {
    let walltime = plan.walltime_s.map(Micros::from_secs);
    let end = match allocation {
        Some(allocation) => {
            let submission = Submission::read(&directory.submission()).ok().flatten();
            let commands = submission.map(|submission| submission.commands).unwrap_or_default();
            let commands = batch::Commands::of_record(&commands);
            let system = batch::open(allocation.system, commands, directory.path());
            allocation.end(&*system, clock::now(), began, walltime)
        }
        None => walltime.map(|walltime| began + walltime),
    }?;
    let quarter = Micros(end.since(clock::now()).0 / 4);
    let margin = Micros::from_secs(plan.margin_s);
    Some((end, if plan.walltime_s.is_some() { margin } else { margin.min(quarter) }))
}

/// What `dagmar run` is told by flags, a user's own program is told by variables.
fn set_environment(plan: &mut LaunchPlan, directory: &RunDirectory, is_allocated: bool) {
    let resources: Vec<String> =
        plan.resources.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    let told = [
        (program::INTO, Some(directory.path().display().to_string())),
        (program::CPUS, plan.cpus_per_worker.map(|cpus| cpus.to_string())),
        (program::RESOURCES, Some(resources.join(",")).filter(|text| !text.is_empty())),
        (program::BIND, is_allocated.then(|| "cores".to_owned())),
        (program::WORKERS, linked_mpi().is_none().then(|| plan.workers_per_node.to_string())),
    ];
    let told = told.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
    plan.environment.extend(told);
}

/// A run that waits for a job of a batch system is not launched elsewhere: the job would come all the same.
fn check_place(directory: &RunDirectory, allocation: Option<&Allocation>) -> Result<(), Failure> {
    let submission = Submission::read(&directory.submission());
    let submission = submission.map_err(|error| Failure::broken(error.to_string()))?;
    let waits = submission.filter(|submission| submission.system != System::Local.name());
    match (waits, allocation) {
        (Some(submission), None) => {
            let (name, jobs) = (directory.name(), submission.jobs.join(", "));
            Err(Failure::usage(format!(
                "cannot launch `{name}` here: it was submitted as job {jobs}, and this is no job"
            ))
            .hint("its job script launches it; `dagmar run GRAPH` runs a graph here".to_owned()))
        }
        _ => Ok(()),
    }
}

fn taken(error: &ClaimError, directory: &RunDirectory) -> Failure {
    let hint = match error {
        ClaimError::Taken(_, path) => {
            format!("if that process is gone for sure, remove `{}`", path.display())
        }
        ClaimError::Io(..) => "`launch` writes into the run directory".to_owned(),
    };
    Failure::usage(format!("cannot launch `{}`: {error}", directory.name())).hint(hint)
}

/// The scratch directory, with the variables in it that a batch system sets: `$TMPDIR`, `${PBS_JOBFS}`.
fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        let (name, behind) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, behind)) => (name, behind),
            None => {
                let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                after.split_at(after.find(|letter| !is_part(letter)).unwrap_or(after.len()))
            }
        };
        let value = lookup(name).ok_or_else(|| {
            let message = format!("cannot use `scratch = {text}`: `{name}` is not set in this job");
            Failure::usage(message).hint("mend `scratch` in the cluster template".to_owned())
        })?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = behind;
    }
    Ok(expanded + rest)
}

fn finished(directory: &RunDirectory) -> Result<Option<Finished>, Failure> {
    Finished::read(&directory.finished()).map_err(|error| Failure::broken(error.to_string()))
}

/// What an earlier start of the run left is gone on with. True if there is anything.
///
/// A user's own program cannot be, nor can what a client submitted: it begins anew, and what it did before is put
/// aside.
fn begin_again(directory: &RunDirectory, plan: &LaunchPlan) -> Result<bool, Failure> {
    let mailbox = Mailbox::new(directory.control());
    // An order to stop was meant for an earlier start; that a person cancelled the run still holds.
    let mail = mailbox.collect().map_err(not_written(directory))?;
    let is_cancelled = mail.orders.contains(&Order::Cancel);
    let has_begun = directory.has_begun();
    let is_whole_again = plan.arguments.is_some() || description(directory)?.has_client();
    if has_begun && is_whole_again {
        let aside = directory.set_aside().map_err(refused)?;
        tell(&format!("it begins anew: what it did before is in `{}`", aside.display()));
    } else if has_begun {
        tell(&format!("going on with `{}`", directory.name()));
        // It is not over any more: whoever waits for the launcher must not take it for that.
        remove_if_there(&directory.finished()).map_err(not_written(directory))?;
    }
    if is_cancelled {
        mailbox.post(Order::Cancel).map_err(not_written(directory))?;
    }
    Ok(has_begun && !is_whole_again)
}

fn description(directory: &RunDirectory) -> Result<Description, Failure> {
    let path = directory.description();
    Description::read(&path)
        .map_err(|error| Failure::broken(format!("cannot read `{}`: {error}", path.display())))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_may_name_variables() {
        let lookup = |name: &str| (name == "TMPDIR").then(|| "/local/7".to_owned());
        assert_eq!(expand("$TMPDIR/x", &lookup).unwrap(), "/local/7/x");
        assert_eq!(expand("a${TMPDIR}b", &lookup).unwrap(), "a/local/7b");
        assert_eq!(expand("/scratch", &lookup).unwrap(), "/scratch");
        let refused = expand("$PBS_JOBFS/x", &lookup).unwrap_err();
        assert!(refused.message.contains("`PBS_JOBFS` is not set"), "{refused:?}");
    }
}
