//! `dagmar submit`: a graph or a program becomes a run directory, a job script and a batch job; then this
//! process is done.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::clock;
use crate::core::resources::Resources;
use crate::launch::batch::{BatchError, BatchSystem, Link, Submitted, System, open, submit_once};
use crate::launch::limits;
use crate::launch::request::Request;
use crate::launch::script::{self, ScriptContext};
use crate::record::layout::RunDirectory;
use crate::record::publish;
use crate::record::submission::Submission;
use crate::runtime::fit::Fleet;

use super::failure::Failure;
use super::flags::{SubmitFlags, WaitFlags};
use super::output::{Format, Page, tell};
use super::preparation::{Preparation, not_written};
use super::submission::Work;
use super::{CommandResult, OK, source, wait};

/// Submits a run.
pub fn run(flags: &SubmitFlags) -> CommandResult {
    let work = Work::of_flags(flags)?;
    let request = flags.allocation.request()?;
    let (program, limits) = (own_program()?, flags.limits.bytes()?);
    if let Work::Graph(graph) = &work {
        check_fit(graph, &request)?;
    }
    check_chain(flags.chain, &request, &work)?;
    if flags.dry_run {
        return print_script(&work, &request, &program, flags);
    }
    check_limits(&request, flags.chain, &*open(request.system, request.commands(), Path::new("")))?;
    let directory = work.set_down()?;
    let handover = Handover {
        directory: &directory,
        request: &request,
        program: &program,
        work: &work,
        limits,
        chain: flags.chain,
    };
    let handed = handover.hand_over().map_err(|error| refused(error, &directory))?;
    answer(flags, &directory, &request, &handed)?;
    if flags.wait {
        let run = Some(directory.path().to_string_lossy().into_owned());
        return wait::run(&WaitFlags { run, quiet: flags.output == Format::Json, output: flags.output });
    }
    Ok(OK)
}

/// Refuses a task that no worker of the allocation can ever run, as far as that is known before the
/// nodes are: what is not said counts as boundless.
fn check_fit(work: &Preparation, request: &Request) -> Result<(), Failure> {
    let shape = &request.shape;
    let plan = request.launch_plan("");
    let mut custom = plan.resources;
    let gpus = custom.remove("gpus").map_or(u32::MAX, |gpus| u32::try_from(gpus).unwrap_or(u32::MAX));
    let memory = shape.memory_per_node().map(|bytes| bytes / u64::from(shape.workers_per_node));
    let memory_bytes = custom.remove("memory").or(memory).unwrap_or(u64::MAX);
    let worker = Resources { cpus: plan.cpus_per_worker.unwrap_or(u32::MAX), memory_bytes, gpus, custom };
    let hosts: Vec<String> = (0..shape.nodes).map(|node| format!("node {node}")).collect();
    let capacities = vec![worker; hosts.len()];
    Fleet { hosts: &hosts, capacities: &capacities }.check(&work.plan).map_err(|error| {
        let hint = "ask for more with `--nodes`, `--cpus-per-worker`, `--mem` or `--gpus-per-node`, or name the \
                    resource in the cluster template (`resources = { licence = 1 }`)";
        Failure::new(error.exit_code(), error.to_string()).hint(hint.to_owned())
    })
}

/// The dagmar that the job script calls: this one.
fn own_program() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|error| Failure::broken(format!("cannot find the dagmar that runs: {error}")))
}

/// A chain needs a queue, and something that its later jobs can go on with.
fn check_chain(chain: u32, request: &Request, work: &Work) -> Result<(), Failure> {
    let refuse = |why: &str, hint: &str| {
        Err(Failure::usage(format!("cannot submit a chain of {chain} jobs: {why}")).hint(hint.to_owned()))
    };
    match (chain, work) {
        (..=1, _) => Ok(()),
        _ if request.system == System::Local => refuse(
            "this machine has no queue",
            "one job is enough here: nothing ends it but its own walltime",
        ),
        (_, Work::Graph(graph)) if !graph.has_client() => Ok(()),
        _ => refuse(
            "what submits its tasks begins anew in each job",
            "submit a graph, which later jobs can go on with",
        ),
    }
}

/// The site's limits. How many jobs wait is asked only where a limit needs it.
fn check_limits(request: &Request, jobs: u32, system: &dyn BatchSystem) -> Result<(), Failure> {
    let queued = match request.count("limits.queued_jobs_max") {
        Some(_) => Some(system.queued_jobs()? as u64),
        None => None,
    };
    Ok(limits::check(request, jobs, queued)?)
}

fn print_script(work: &Work, request: &Request, program: &Path, flags: &SubmitFlags) -> CommandResult {
    limits::check(request, flags.chain, None)?;
    let run = RunDirectory::next(&source::current_directory()?, &work.name());
    let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mark = mark(&name);
    let context = ScriptContext { run: &run, program, name: &name, mark: &mark };
    let text = script::render(request, &context)?;
    match flags.output {
        Format::Human => Page::open().bytes(text.as_bytes())?,
        Format::Json => Page::open().json(&json!({ "script": text, "jobs": flags.chain }))?,
    }
    if flags.chain > 1 && flags.output == Format::Human {
        tell(&format!(
            "it would be submitted as {} jobs, each of which begins when the one before has ended",
            flags.chain
        ));
    }
    Ok(OK)
}

/// What this submission's job carries, and no other one: letters, digits, `-` and `_`.
fn mark(run: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let run: String = run.chars().map(plain).collect();
    format!("dagmar-{run}-{:x}-{:x}", clock::now().0, std::process::id())
}

/// A run directory on its way to the batch system.
struct Handover<'a> {
    directory: &'a RunDirectory,
    request: &'a Request,
    program: &'a Path,
    work: &'a Work,
    /// Bytes of memory that outputs may take, and of the disk.
    limits: (Option<u64>, Option<u64>),
    /// How many jobs it is handed to, one after the other.
    chain: u32,
}

/// A run that was handed over.
struct Handed {
    system: Box<dyn BatchSystem>,
    /// Its jobs, of which there is at least one.
    jobs: Vec<Submitted>,
    /// Why there are fewer than were asked for.
    refusal: Option<BatchError>,
}

/// Why a run was not handed over.
enum HandoverError {
    /// Something of ours went wrong before the batch system was asked.
    Before(Failure),
    /// The batch system's answer, and whether the script carries the mark.
    Batch(BatchError, bool),
}

impl Handover<'_> {
    /// Writes script, plan and record, and submits. The record is there before the batch system is
    /// asked: if this process dies in between, the job is found by its mark.
    fn hand_over(&self) -> Result<Handed, HandoverError> {
        let (directory, request) = (self.directory, self.request);
        let name = directory.name();
        let mark = mark(&name);
        let context =
            ScriptContext { run: directory.path(), program: self.program, name: &name, mark: &mark };
        let text = script::render(request, &context).map_err(|error| HandoverError::Before(error.into()))?;
        let (system, cluster, commands) =
            (request.system.name(), request.cluster.clone(), request.commands());
        let mut submission = Submission::new(system, cluster, mark.clone(), clock::now());
        submission.commands = commands.to_record();
        submission.clusters.clone_from(&commands.clusters);
        submission.chain = self.chain;
        let mut plan = request.launch_plan(self.program);
        self.work.enter_into(&mut plan);
        (plan.memory_limit, plan.scratch_limit) = self.limits;
        let write = || {
            publish::publish(&directory.job_script(), text.as_bytes())?;
            fs::set_permissions(directory.job_script(), fs::Permissions::from_mode(0o700))?;
            plan.write(&directory.launch_plan())?;
            submission.write(&directory.submission())
        };
        write().map_err(|error| HandoverError::Before(not_written(directory)(error)))?;
        let system = open(request.system, commands, directory.path());
        let is_marked = request.system == System::Local || text.contains(&mark);
        let first = submit_once(&*system, &directory.job_script(), &mark, None)
            .map_err(|error| HandoverError::Batch(error, is_marked))?;
        submission.jobs.push(first.id.to_string());
        self.record(&submission);
        let mut handed = Handed { system, jobs: vec![first], refusal: None };
        while !submission.is_whole() {
            match self.submit_next(&handed, &submission) {
                Ok(submitted) => {
                    submission.jobs.push(submitted.id.to_string());
                    handed.jobs.push(submitted);
                }
                Err(error) => {
                    // One that may be there all the same is looked for by its mark.
                    let is_open = error.is_ambiguous();
                    submission.chain = (submission.jobs.len() + usize::from(is_open)) as u32;
                    handed.refusal = Some(error);
                    self.record(&submission);
                    break;
                }
            }
            self.record(&submission);
        }
        Ok(handed)
    }

    /// Submits the job that goes on when the latest one has ended.
    fn submit_next(&self, handed: &Handed, submission: &Submission) -> Result<Submitted, BatchError> {
        let mark = submission.mark_of(handed.jobs.len());
        let after = handed.jobs.last().expect("the first job was submitted").id.clone();
        let link = Link { after, carrier: script::carrier(self.request, &mark) };
        submit_once(&*handed.system, &self.directory.job_script(), &mark, Some(&link))
    }

    /// The jobs are there whether this can be written or not; their marks still find them.
    fn record(&self, submission: &Submission) {
        if let Err(error) = submission.write(&self.directory.submission()) {
            tell(&format!("warning: {}", not_written(self.directory)(error).message));
        }
    }
}

/// A run that was surely not taken leaves nothing behind.
fn refused(error: HandoverError, directory: &RunDirectory) -> Failure {
    let (failure, is_lost) = match error {
        HandoverError::Before(failure) => (failure, true),
        HandoverError::Batch(error, is_marked) => {
            let is_unasked = matches!(error, BatchError::NoCommand { .. });
            let is_lost = is_unasked || is_marked && !error.is_ambiguous();
            let mut failure = Failure::from(error);
            if !is_marked && !is_unasked {
                let unmarked =
                    "the site's job-script template does not use `mark`, by which a job could be found";
                failure.causes.push(unmarked.to_owned());
            }
            (failure, is_lost)
        }
    };
    if is_lost {
        let _ = fs::remove_dir_all(directory.path());
        return failure;
    }
    let mut failure = failure;
    let kept = format!("there may be a job, so the run directory is kept: `{}`", directory.path().display());
    failure.causes.push(kept);
    failure
}

fn answer(
    flags: &SubmitFlags,
    directory: &RunDirectory,
    request: &Request,
    handed: &Handed,
) -> Result<(), Failure> {
    let (name, system) = (directory.name(), handed.system.system());
    let ids: Vec<&str> = handed.jobs.iter().map(|job| job.id.as_str()).collect();
    let was_looked_up = handed.jobs.iter().any(|job| job.was_looked_up);
    if let Some(error) = &handed.refusal {
        tell_refusal(error, ids.len(), flags.chain);
    }
    let mut page = Page::open();
    if flags.output == Format::Json {
        return page.json(&json!({
            "run": name,
            "directory": directory.path(),
            "job": ids[0],
            "jobs": ids,
            "system": system.name(),
            "cluster": request.cluster,
            "was_looked_up": was_looked_up,
            "refused": handed.refusal.as_ref().map(BatchError::to_string),
        }));
    }
    match ids[..] {
        [id] => page.line(format!("submitted {name} as job {id} of {system}"))?,
        _ => page
            .line(format!("submitted {name} as jobs {} of {system}, one after the other", ids.join(", ")))?,
    }
    page.flush()?;
    if was_looked_up {
        tell("the batch system's answer was lost; the job was found by its mark");
    }
    let is_whole = request.flag("exclusive").unwrap_or(false) || request.system == System::Local;
    if request.shape.cpus_per_worker.is_none() && !is_whole {
        tell(
            "note: a worker has what the batch system gives by itself, often one core: \
              `--cpus-per-worker N` or `--exclusive` asks for more",
        );
    }
    tell(&format!("  `dagmar status {name}` tells how it stands, `dagmar wait {name}` waits for its end"));
    Ok(())
}

/// The jobs before the one that was refused stay: they are as good as a shorter chain.
fn tell_refusal(error: &BatchError, taken: usize, asked: u32) {
    tell(&format!("warning: only {taken} of {asked} jobs were submitted: {error}"));
    if let Some(cause) = error.cause() {
        tell(&format!("  cause: {cause}"));
    }
    if let Some(hint) = error.hint() {
        tell(&format!("  hint: {hint}"));
    }
}
