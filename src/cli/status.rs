//! `dagmar status`: how a run stands, from its directory.

use serde_json::json;

use crate::clock;
use crate::core::resources::Resources;
use crate::observe::report::ReportBuilder;
use crate::observe::snapshot::{Presence, WorkerView};
use crate::record::outcome::Finished;

use super::flags::StatusFlags;
use super::output::{Format, Page};
use super::past_run::PastRun;
use super::run_job::{self, Look, RunJob};
use super::{CommandResult, OK, failed_tasks};

/// Tells how a run stands.
pub fn run(flags: &StatusFlags) -> CommandResult {
    let run = PastRun::find(flags.run.as_deref())?;
    let (events, finished) = (run.events()?, run.finished()?);
    let job = RunJob::of(&run.directory)?;
    // A run that is over says more than its jobs, unless it was stopped and goes on.
    let is_asked = finished.as_ref().is_none_or(run_job::can_go_on);
    let look = job.as_ref().filter(|_| is_asked).map(|job| (job, job.look()));
    let answer = look.as_ref().map(|(_, look)| look);
    let finished = finished.filter(|finished| !run_job::goes_on(finished, answer));
    let story = Story { run: &run, events: &events, finished, look };
    match flags.output {
        Format::Json => print_json(&story)?,
        Format::Human => print(&story)?,
    }
    Ok(OK)
}

/// All that is known of a run.
struct Story<'a> {
    run: &'a PastRun,
    events: &'a ReportBuilder,
    finished: Option<Finished>,
    /// Its job, if it has one, and what the batch system said of it.
    look: Option<(&'a RunJob, Look)>,
}

fn print(story: &Story<'_>) -> Result<(), super::Failure> {
    let Story { run, events, .. } = story;
    let mut page = Page::open();
    page.line(format!("{}  {}", run.directory.name(), standing(story)))?;
    if run.place.path() != run.directory.path() {
        page.line(format!("  its computation {}:", run.place.name()))?;
    }
    if run.directory.has_begun() {
        for line in events.report().to_lines() {
            page.line(format!("  {}", line.trim_start()))?;
        }
    }
    let groups = run.graph.keys().groups().iter().zip(events.snapshot().groups());
    let shown: Vec<_> = groups.filter(|(group, _)| !group.hidden).collect();
    let width = shown.iter().map(|(group, _)| group.name.len()).max().unwrap_or(0);
    for (group, counts) in shown {
        let parts = [
            (counts.finished, "finished"),
            (counts.running, "running"),
            (counts.failed, "failed"),
            (counts.aborted, "aborted"),
            (counts.cancelled, "cancelled"),
            (counts.skipped, "skipped"),
            (counts.waiting, "not finished"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
        page.line(format!("  {:width$}  {}", group.name, parts.join(", ")))?;
    }
    for worker in events.snapshot().workers() {
        page.line(format!("  {}", worker_line(worker)))?;
    }
    if events.snapshot().counts().failed > 0 {
        page.line(failed_tasks::text(&run.graph, events.snapshot(), &run.place))?;
    }
    page.flush()
}

/// `finished with exit code 0`, or what else can be said.
fn standing(story: &Story<'_>) -> String {
    if let Some(finished) = &story.finished {
        return format!("over, exit code {}", finished.exit_code);
    }
    let silent = clock::now().since(story.events.snapshot().latest());
    let has_begun = story.run.directory.has_begun();
    match &story.look {
        None => format!("running, or cut off: the last event is {silent} old"),
        Some((job, look)) => {
            let (job, is_over) = (run_job::sentence(job, look), run_job::is_over(look));
            match (has_begun, is_over) {
                (false, false) => format!("not begun: {job}"),
                (false, true) => format!("never begun: {job}"),
                (true, false) => format!("running, the last event is {silent} old: {job}"),
                (true, true) => format!("cut off: {job}"),
            }
        }
    }
}

fn worker_line(worker: &WorkerView) -> String {
    let presence = match worker.presence {
        Presence::Here => "",
        Presence::Lost => ", lost",
        Presence::Left => ", left",
    };
    let (rank, host, has) = (worker.rank, &worker.host, amounts(&worker.capacity));
    format!("rank {rank} on {host} ({has}): {} tasks, busy {}{presence}", worker.tasks_finished, worker.busy)
}

/// `2 cpus, 1 gpu, 3.86 GiB, licence=3`.
fn amounts(capacity: &Resources) -> String {
    let counted = |count: u32, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut parts = vec![counted(capacity.cpus, "cpu")];
    if capacity.gpus > 0 {
        parts.push(counted(capacity.gpus, "gpu"));
    }
    parts.push(indicatif::HumanBytes(capacity.memory_bytes).to_string());
    parts.extend(capacity.custom.iter().map(|(name, amount)| format!("{name}={amount}")));
    parts.join(", ")
}

fn print_json(story: &Story<'_>) -> Result<(), super::Failure> {
    let Story { run, events, finished, look } = story;
    let lost = look.as_ref().and_then(|(_, look)| run_job::code_of_loss(look));
    let groups = run.graph.keys().groups().iter().zip(events.snapshot().groups());
    let groups = groups.filter(|(group, _)| !group.hidden).map(|(group, counts)| {
        json!({
            "name": group.name, "waiting": counts.waiting, "running": counts.running,
            "finished": counts.finished, "failed": counts.failed, "aborted": counts.aborted,
            "cancelled": counts.cancelled, "skipped": counts.skipped,
        })
    });
    let workers = events.snapshot().workers().map(|worker| {
        json!({
            "rank": worker.rank.0, "host": worker.host, "cpus": worker.capacity.cpus,
            "gpus": worker.capacity.gpus, "memory_bytes": worker.capacity.memory_bytes,
            "resources": worker.capacity.custom,
            "tasks": worker.tasks_finished, "busy_s": worker.busy.as_secs_f64(),
        })
    });
    Page::open().json(&json!({
        "run": run.directory.name(),
        "directory": run.directory.path(),
        "over": finished.is_some() || lost.is_some(),
        "exit_code": finished.as_ref().map(|finished| finished.exit_code).or(lost),
        "job": look.as_ref().map(|(job, look)| run_job::to_json(job, look)),
        "report": events.report(),
        "groups": groups.collect::<Vec<_>>(),
        "workers": workers.collect::<Vec<_>>(),
        "failures": failed_tasks::json(&run.graph, events.snapshot()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_by_what_it_has() {
        let custom = [("licence".to_owned(), 3)].into();
        let capacity = Resources { cpus: 2, gpus: 1, memory_bytes: 4 << 30, custom };
        insta::assert_snapshot!(amounts(&capacity), @"2 cpus, 1 gpu, 4.00 GiB, licence=3");
        insta::assert_snapshot!(amounts(&Resources::cores(1)), @"1 cpu, 0 B");
    }
}
