//! What rank 0 does before the first turn: the run directory becomes its own, and it learns what earlier
//! processes of the run have done, if there were any.

use std::env;
use std::fs;
use std::io;
use std::sync::Arc;

use crate::core::edit::{Comparison, Lineage};
use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::scheduler::{Killing, Left, Options, Past, Scheduler, Skipping};
use crate::core::task_set::TaskSet;
use crate::record::description::BatchJob;
use crate::record::edits;
use crate::record::journal::{JournalError, JournalReader, JournalWriter};
use crate::record::last_words::{self, LastWords};
use crate::record::layout::RunDirectory;
use crate::record::lease::{Lease, PATIENCE, Taken};
use crate::record::owner::Owner;
use crate::record::resume::{OnDamage, Resumed};
use crate::record::segment::NewSegment;

use super::edited::{self, TakenOver};
use super::left_outputs::look_at_outputs;
use super::scheduler_loop::{SchedulerError, Setup, Watcher};
use super::up_to_date;

/// The variable that tells how often a job was started again.
const RESTARTS: &str = "SLURM_RESTART_COUNT";
/// Tasks of an edit that the log names.
const LINES_LOGGED: usize = 100_000;

/// A run that can begin, or go on.
pub(super) struct Beginning {
    /// The right to schedule it.
    pub lease: Lease,
    /// What it is written into from now on.
    pub journal: JournalWriter,
    /// What decides.
    pub machine: Scheduler,
    /// What is to be recorded first,
    pub events: Vec<Event>,
    /// and whether the disk must have it before anything is run.
    pub must_last: bool,
}

impl Beginning {
    /// Takes a run. If it was begun before, `watcher` sees what happened.
    pub fn of(
        setup: &mut Setup,
        options: Options,
        watcher: &mut dyn Watcher,
    ) -> Result<Self, SchedulerError> {
        let TakenOver { taken, comparison } = match setup.taken.take() {
            Some(taken) => taken,
            None => TakenOver { taken: take(&setup.directory)?, comparison: None },
        };
        let (machine, events, journal) = match setup.resumes {
            true => {
                log::info!("the run is taken over: {}", taken.from);
                resume(setup, options, (taken.segment, comparison), watcher)?
            }
            false => {
                let (machine, events) = start(setup, options);
                (machine, events, begin(taken.segment)?)
            }
        };
        let decides = |event: &Event| matches!(event, Event::GraphEdited(_) | Event::TasksSkipped { .. });
        let must_last = events.iter().any(decides);
        Ok(Beginning { lease: taken.lease, journal, machine, events, must_last })
    }
}

/// Takes a run for this process, unless another one is at work on it. Nothing in its directory may be changed
/// before.
pub fn take(directory: &RunDirectory) -> Result<Taken, SchedulerError> {
    let taken = Lease::take(&directory.lease(), &directory.journal(), &owner(), PATIENCE);
    taken.map_err(|error| SchedulerError::Lease(Box::new(error)))
}

/// What is told before a run is taken that somebody else may have: `take` watches that one for a while.
pub fn doubt(directory: &RunDirectory) -> Option<String> {
    let holder = Lease::doubt(&directory.lease(), &directory.journal(), &owner()).ok()??;
    Some(format!("waiting up to {} s to see whether {holder} still runs it", PATIENCE.as_secs()))
}

/// This process, and the job that it is in.
fn owner() -> Owner {
    let variable = |name: &str| env::var(name).ok();
    let job = BatchJob::from_variables(variable).map(|job| job.id);
    let restarts = variable(RESTARTS).and_then(|count| count.parse().ok()).unwrap_or(0);
    Owner::this_process(job, restarts)
}

/// A scheduler for a run that begins, and what is to be recorded of that.
fn start(setup: &Setup, options: Options) -> (Scheduler, Vec<Event>) {
    let (graph, asked) = (&setup.graph, &setup.asked);
    if !setup.if_missing {
        let machine = Scheduler::new(graph.clone(), asked, options);
        let tasks = machine.task_count();
        return (machine, vec![Event::RunStarted { tasks }]);
    }
    let Skipping { runs, skipped } = up_to_date::skipping(graph, asked);
    let machine = Scheduler::of_tasks(graph.clone(), asked, &runs, options);
    let count: u32 = skipped.iter().map(|span| span.count).sum();
    let started = Event::RunStarted { tasks: machine.task_count() + count };
    (machine, vec![started, Event::TasksSkipped { tasks: skipped }])
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
    (segment, comparison): (NewSegment, Option<Comparison>),
    watcher: &mut dyn Watcher,
) -> Result<(Scheduler, Vec<Event>, JournalWriter), SchedulerError> {
    let directory = &setup.directory;
    let mut past = Past::new(graph_of(directory, &setup.graph, 0)?);
    let (mut folded, mut seen): (Result<(), SchedulerError>, usize) = (Ok(()), 0);
    let taken = JournalWriter::resume_in(segment, setup.on_damage, |_, event| {
        seen += 1;
        if folded.is_ok() {
            folded = fold(&mut past, event, (directory, &setup.graph));
        }
    });
    let (journal, resumed) = taken.map_err(|error| SchedulerError::Resume(Box::new(error)))?;
    folded?;
    tell(&resumed);
    if !resumed.damages.is_empty() {
        refuse_unnamed_graph(directory, &resumed.damages)?;
    }
    forget_outcome(directory)?;
    let mut news = comparison.map(|comparison| News::of(comparison, &past));
    if let Some(news) = &news {
        past.on_edit(&news.comparison.edit, setup.graph.clone()).map_err(SchedulerError::Past)?;
    }
    if !Arc::ptr_eq(past.graph(), &setup.graph) {
        return Err(SchedulerError::Edited);
    }
    // Earlier lives may have ended before they wrote what they decided. Nothing has run then.
    let skipping = (setup.if_missing && !past.is_under_way())
        .then(|| up_to_date::skipping(past.graph(), &setup.asked))
        .map(|skipping| Event::TasksSkipped { tasks: skipping.skipped });
    skipping.iter().try_for_each(|event| past.on_event(event)).map_err(SchedulerError::Past)?;
    let lost = look_at_outputs(setup, &mut past)?;
    look_at_earlier_words(directory, &mut past)?;
    look_at_last_words(directory, &mut past)?;
    let begun = Scheduler::resume(&past, setup.asked.clone(), options);
    let (machine, event, left) = begun.map_err(SchedulerError::Past)?;
    let Left { durable, to_do, repeated } = left;
    log::info!("life {} of the run: {durable} durable, {to_do} to do, {repeated} repeated", past.lives() + 1);
    show(setup, seen, watcher)?;
    let mut lines: Vec<String> = resumed.damages.iter().map(lost_events).collect();
    lines.extend(lost.lines(setup, &event));
    lines.extend(news.as_ref().map(|news| news.lines(setup, &event)).unwrap_or_default());
    lines.iter().take(LINES_LOGGED).for_each(|line| log::info!("{line}"));
    watcher.on_resumed(left, &lines);
    let edited = news.take().map(|news| {
        watcher.on_graph(setup.graph.clone());
        Event::GraphEdited(Box::new(news.comparison.edit))
    });
    Ok((machine, edited.into_iter().chain(skipping).chain([event]).collect(), journal))
}

/// Takes in what happened in earlier lives, whatever graph the run had then. An edit that this process does not know of came
/// from one that was taken for dead, after this one had looked: what this one compared is not what it goes on from.
fn fold(
    past: &mut Past,
    event: &Event,
    (directory, current): (&RunDirectory, &Arc<Graph>),
) -> Result<(), SchedulerError> {
    let folded = match event {
        Event::GraphEdited(edit) if !directory.lineage().edits().contains(edit) => {
            return Err(SchedulerError::Edited);
        }
        Event::GraphEdited(edit) => past.on_edit(edit, graph_of(directory, current, edit.graph)?),
        event => past.on_event(event),
    };
    folded.map_err(SchedulerError::Past)
}

/// A graph that the run had, as it began.
fn graph_of(
    directory: &RunDirectory,
    current: &Arc<Graph>,
    number: u32,
) -> Result<Arc<Graph>, SchedulerError> {
    match number == directory.lineage().current() {
        true => Ok(current.clone()),
        false => edited::open(directory, number).map(Arc::new),
    }
}

/// What is lost of a journal may have told of an edit. Whatever came behind that would be taken for what it is not.
fn refuse_unnamed_graph(directory: &RunDirectory, damages: &[JournalError]) -> Result<(), SchedulerError> {
    let unnamed = edits::unnamed_graph(directory, damages);
    match unnamed.map_err(|error| SchedulerError::Record("directory", error))? {
        None => Ok(()),
        Some(path) => {
            let why = "what is lost of the journal may say that the run went on with it; if it never did, remove the file"
                .to_owned();
            Err(SchedulerError::Graph(path, why))
        }
    }
}

fn lost_events(damage: &JournalError) -> String {
    format!("events are lost, and what they told is done again: {damage}")
}

/// An edit that this life brings, and what the tasks of the graph before were.
struct News {
    comparison: Comparison,
    old: Arc<Graph>,
    /// Tasks that have changed and had run to success, by their new numbers.
    had_finished: TaskSet,
    /// Tasks that submitted others, by their old ones.
    had_submitted: Vec<TaskId>,
}

impl News {
    fn of(comparison: Comparison, past: &Past) -> Self {
        let old = past.graph().clone();
        let mut had_finished = TaskSet::new(comparison.edit.tasks as usize);
        for (from, to) in comparison.edit.changed.iter().flat_map(|tasks| tasks.tasks()) {
            if past.is_durable(from) || past.is_to_be_repeated(from) {
                had_finished.insert(to);
            }
        }
        News { comparison, old, had_finished, had_submitted: past.submitters().collect() }
    }

    fn lines(&self, setup: &Setup, event: &Event) -> Vec<String> {
        let due = edited::tasks_to_do(event, setup.graph.len());
        let had_finished = |task| self.had_finished.contains(task);
        let graphs = (&*self.old, &*setup.graph);
        edited::lines(&self.comparison, graphs, &due, had_finished, &self.had_submitted)
    }
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

/// What ranks said before they were ended by a task. What cannot be read accuses nobody.
pub(super) fn last_words(directory: &RunDirectory) -> Vec<Killing> {
    let words = last_words::read(directory).unwrap_or_else(|error| {
        log::warn!("cannot read what ranks said last: {error}");
        Vec::new()
    });
    let killing =
        |LastWords { rank: worker, task, attempt, death, .. }| Killing { worker, task, attempt, death };
    words.into_iter().map(killing).collect()
}

/// What was said before the run was edited counts for tasks that are still what they were.
fn look_at_earlier_words(directory: &RunDirectory, past: &mut Past) -> Result<(), SchedulerError> {
    let lineage = directory.lineage();
    let mut earlier = Lineage::default();
    for edit in lineage.edits() {
        let words = last_words::read(&directory.clone().with_lineage(Arc::new(earlier.clone())));
        let words = words.map_err(|error| SchedulerError::Record("last words", error))?;
        for LastWords { rank: worker, task, attempt, death, .. } in words {
            if let Some(task) = lineage.now(earlier.current(), task) {
                past.on_last_words(Killing { worker, task, attempt, death });
            }
        }
        earlier.push(edit.clone());
    }
    Ok(())
}

/// Words of tasks that the events do not tell of are removed: their numbers will be those of others.
fn look_at_last_words(directory: &RunDirectory, past: &mut Past) -> Result<(), SchedulerError> {
    let unread = |error| SchedulerError::Record("last words", error);
    for LastWords { path, rank: worker, task, attempt, death } in
        last_words::read(directory).map_err(unread)?
    {
        log::warn!("try {attempt} of task {task} killed rank {worker} {death}");
        if !past.on_last_words(Killing { worker, task, attempt, death }) {
            log::warn!("that task was submitted by another, and the record of that is lost");
            fs::remove_file(path).map_err(unread)?;
        }
    }
    Ok(())
}

/// Shows a watcher what happened before: so many events.
fn show(setup: &Setup, events: usize, watcher: &mut dyn Watcher) -> Result<(), SchedulerError> {
    let Setup { directory, on_damage, .. } = setup;
    let unread = |error: JournalError| SchedulerError::Resume(Box::new(error.into()));
    let is_passed = |error: &JournalError| *on_damage == OnDamage::GoOn && error.is_damage();
    let graph = |number: u32| graph_of(directory, &setup.graph, number);
    if !directory.lineage().edits().is_empty() {
        watcher.on_graph(graph(0)?);
    }
    if events == 0 {
        return Ok(());
    }
    let mut journal = JournalReader::open(&directory.journal()).map_err(unread)?;
    let mut shown = 0;
    while shown < events {
        match journal.next() {
            None => break,
            Some(Err(error)) if is_passed(&error) => drop(journal.skip_damage()),
            Some(Err(error)) => return Err(unread(error)),
            Some(Ok((time, event))) => {
                if let Event::GraphEdited(edit) = &event {
                    watcher.on_graph(graph(edit.graph)?);
                }
                watcher.on_event(time, &event);
                shown += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::edit::Edit;
    use crate::core::graph::GraphBuilder;

    #[test]
    fn an_edit_of_a_process_that_was_taken_for_dead_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(place.path(), "g").unwrap();
        let graph = Arc::new(GraphBuilder::new("g", "/").build().unwrap());
        let edit = |number| Box::new(Edit { graph: number, ..Edit::default() });
        let mut own = Lineage::default();
        own.push(*edit(6));
        let directory = directory.with_lineage(Arc::new(own));
        let mut past = Past::new(graph.clone());
        let folded = fold(&mut past, &Event::GraphEdited(edit(5)), (&directory, &graph));
        assert!(matches!(folded, Err(SchedulerError::Edited)), "{folded:?}");
        fold(&mut past, &Event::GraphEdited(edit(6)), (&directory, &graph)).unwrap();
    }
}
