//! What rank 0 does before the first turn: the run directory becomes its own, and it learns what earlier
//! processes of the run have done, if there were any.

use std::env;
use std::fs;
use std::io;

use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::scheduler::{Left, Options, Past, PastError, Scheduler};
use crate::record::description::BatchJob;
use crate::record::journal::{JournalReader, JournalWriter};
use crate::record::layout::RunDirectory;
use crate::record::lease::{Lease, PATIENCE, Taken};
use crate::record::owner::Owner;
use crate::record::pack_reader::PackReader;
use crate::record::resume::{OnDamage, Resumed};
use crate::record::segment::NewSegment;

use super::scheduler_loop::{SchedulerError, Setup, Watcher};

/// The variable that tells how often a job was started again.
const RESTARTS: &str = "SLURM_RESTART_COUNT";

/// A run that can begin, or go on.
pub(super) struct Beginning {
    /// The right to schedule it.
    pub lease: Lease,
    /// What it is written into from now on.
    pub journal: JournalWriter,
    /// What decides.
    pub machine: Scheduler,
    /// What is to be recorded first.
    pub event: Event,
}

impl Beginning {
    /// Takes a run. If it was begun before, `watcher` sees what happened.
    pub fn of(
        setup: &mut Setup,
        options: Options,
        watcher: &mut dyn Watcher,
    ) -> Result<Self, SchedulerError> {
        let taken = setup.taken.take().map_or_else(|| take(&setup.directory), Ok)?;
        let (machine, event, journal) = match setup.resumes {
            true => {
                log::info!("the run is taken over: {}", taken.from);
                resume(setup, options, taken.segment, watcher)?
            }
            false => {
                let machine = Scheduler::new(setup.graph.clone(), &setup.asked, options);
                let event = Event::RunStarted { tasks: machine.task_count() };
                (machine, event, begin(taken.segment)?)
            }
        };
        Ok(Beginning { lease: taken.lease, journal, machine, event })
    }
}

/// Takes a run for this process, unless another one is at work on it. Nothing in its directory may be changed
/// before.
pub fn take(directory: &RunDirectory) -> Result<Taken, SchedulerError> {
    let taken = Lease::take(&directory.lease(), &directory.journal(), &owner(), PATIENCE);
    taken.map_err(|error| SchedulerError::Lease(Box::new(error)))
}

/// This process, and the job that it is in.
fn owner() -> Owner {
    let variable = |name: &str| env::var(name).ok();
    let job = BatchJob::from_variables(variable).map(|job| job.id);
    let restarts = variable(RESTARTS).and_then(|count| count.parse().ok()).unwrap_or(0);
    Owner::this_process(job, restarts)
}

/// A new journal. Another process that was faster has begun the run.
fn begin(segment: NewSegment) -> Result<JournalWriter, SchedulerError> {
    let begun = JournalWriter::resume_in(segment, OnDamage::Refuse, |_, _| ());
    let (journal, resumed) = begun.map_err(|error| SchedulerError::Resume(Box::new(error)))?;
    match resumed.events {
        0 => Ok(journal),
        _ => Err(SchedulerError::Begun),
    }
}

fn resume(
    setup: &Setup,
    options: Options,
    segment: NewSegment,
    watcher: &mut dyn Watcher,
) -> Result<(Scheduler, Event, JournalWriter), SchedulerError> {
    let (directory, graph) = (&setup.directory, &setup.graph);
    let mut past = Past::new(graph.clone());
    let mut bad: Result<(), PastError> = Ok(());
    let taken = JournalWriter::resume_in(segment, OnDamage::Refuse, |_, event| {
        if bad.is_ok() {
            bad = past.on_event(event);
        }
    });
    let (journal, resumed) = taken.map_err(|error| SchedulerError::Resume(Box::new(error)))?;
    bad.map_err(SchedulerError::Past)?;
    tell(&resumed);
    forget_outcome(directory)?;
    look_at_outputs(directory, graph, &mut past)?;
    let begun = Scheduler::resume(&past, setup.asked.clone(), options);
    let (machine, event, left) = begun.map_err(SchedulerError::Past)?;
    let Left { durable, to_do, repeated } = left;
    log::info!("life {} of the run: {durable} durable, {to_do} to do, {repeated} repeated", past.lives() + 1);
    show(directory, resumed.events, watcher)?;
    watcher.on_resumed(left);
    Ok((machine, event, journal))
}

fn tell(resumed: &Resumed) {
    if resumed.torn_bytes > 0 {
        log::warn!("the last {} bytes of the journal were cut: they are no whole event", resumed.torn_bytes);
    }
    log::info!("{} events; this life writes segment {}", resumed.events, resumed.segment);
}

/// The run is not over any more.
fn forget_outcome(directory: &RunDirectory) -> Result<(), SchedulerError> {
    match fs::remove_file(directory.finished()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SchedulerError::Record("outcome", error))
        }
        _ => Ok(()),
    }
}

/// Durable outputs must be there, packs and files alike; and no number of a try is used twice.
fn look_at_outputs(directory: &RunDirectory, graph: &Graph, past: &mut Past) -> Result<(), SchedulerError> {
    let packs = PackReader::open(&directory.output())
        .map_err(|error| SchedulerError::Record("packs", io::Error::other(error.to_string())))?;
    for damage in packs.damages() {
        log::error!("the index `{}` is damaged from byte {} on", damage.path.display(), damage.offset);
    }
    for (task, attempt) in packs.latest_attempts() {
        past.on_trace(task, attempt);
    }
    let missing: Vec<(TaskId, String)> = past
        .durable()
        .filter_map(|(task, attempt)| Some((task, missing_output(graph, &packs, past, (task, attempt))?)))
        .collect();
    for (task, why) in missing {
        log::error!("task {task} was durable and runs again: {why}");
        past.forget(task);
    }
    Ok(())
}

fn missing_output(
    graph: &Graph,
    packs: &PackReader,
    past: &Past,
    (task, attempt): (TaskId, Attempt),
) -> Option<String> {
    if !packs.is_whole(task, attempt) {
        return Some("its output is in no pack, or not all of it is".to_owned());
    }
    if !graph.began_with(task) {
        return None;
    }
    let files = graph.operation(task).outputs.iter().map(|file| file.resolve(attempt).into_owned());
    let mut files = files.zip(past.file_sizes(task));
    files.find_map(|(file, size)| match fs::metadata(&file) {
        Ok(found) if found.len() == *size => None,
        Ok(found) => Some(format!("`{file}` has {} bytes, and had {size}", found.len())),
        Err(error) => Some(format!("`{file}`: {error}")),
    })
}

/// Shows a watcher what happened before.
fn show(directory: &RunDirectory, events: u64, watcher: &mut dyn Watcher) -> Result<(), SchedulerError> {
    let unread = |error: crate::record::journal::JournalError| {
        SchedulerError::Record("journal", io::Error::other(error.to_string()))
    };
    let journal = JournalReader::open(&directory.journal()).map_err(unread)?;
    for event in journal.take(usize::try_from(events).unwrap_or(usize::MAX)) {
        let (time, event) = event.map_err(unread)?;
        watcher.on_event(time, &event);
    }
    Ok(())
}
