//! What a file tells of its tasks: the plan (`specification`) and what came of it (`execution`), joined by id.

use std::collections::HashMap;

use crate::client::formats::schema::check_name;
use crate::client::formats::text::{Fault, Node, Outcome, Problem, Span, nearest};
use crate::core::resources::Resources;

use super::fields::Record;

/// The version that is read.
const VERSION: &str = "1.5";
/// No task ran for longer: ten years.
const SECONDS_MAX: f64 = 10.0 * 365.0 * 86_400.0;
/// No file is larger than 2^53 bytes, up to which a JSON number is exact.
const BYTES_MAX: f64 = 9_007_199_254_740_992.0;
/// More cores than any machine has.
const CORES_MAX: f64 = 1_000_000.0;

/// A recorded execution.
pub(super) struct Recording<'t> {
    /// In the order of the plan.
    pub tasks: Vec<RecordedTask<'t>>,
    /// The bytes of each file.
    pub files: HashMap<&'t str, f64>,
}

/// A task as planned and as run.
pub(super) struct RecordedTask<'t> {
    pub id: &'t str,
    pub span: Span,
    /// Names of tasks, and where they stand.
    pub parents: Vec<(&'t str, Span)>,
    pub children: Vec<(&'t str, Span)>,
    /// Names of files, and where they stand.
    pub inputs: Vec<(&'t str, Span)>,
    pub outputs: Vec<(&'t str, Span)>,
    pub ran_s: f64,
    pub resources: Resources,
}

/// Reads a whole file.
pub(super) fn read_recording(root: &Node) -> Outcome<Recording<'_>> {
    let file = Record::new(root, "top level", "the file")?;
    check_version(&file)?;
    let workflow = file.table("workflow")?;
    let plan = workflow.table("specification")?;
    let execution = workflow.table("execution")?;
    let files = read_files(&plan)?;
    let mut tasks = Vec::new();
    for node in plan.list("tasks")? {
        tasks.push(read_plan(&Record::new(node, "tasks", "the file")?)?);
    }
    if tasks.is_empty() {
        return Err(Fault::at(plan.span, Problem::NoTasks));
    }
    let numbers = number(&tasks)?;
    let mut recorded = vec![false; tasks.len()];
    for node in execution.list("tasks")? {
        let run = Record::new(node, "tasks", "the file")?;
        let number = find_planned(&run, &tasks, &numbers)?;
        recorded[number] = true;
        read_run(run, &mut tasks[number])?;
    }
    let missed = tasks.iter().zip(recorded).find(|(_, recorded)| !recorded);
    if let Some((task, _)) = missed {
        return Err(Fault::at(task.span, Problem::NotRecorded(task.id.to_owned()))
            .hint("every task of `specification` needs an entry in `tasks` of `execution`"));
    }
    Ok(Recording { tasks, files })
}

fn check_version(file: &Record<'_>) -> Outcome<()> {
    let (version, span) = file.name("schemaVersion")?;
    match version == VERSION {
        true => Ok(()),
        false => {
            let reason = format!("only `{VERSION}` is read");
            Err(Fault::bad_value(span, "schemaVersion", &file.of, version, &reason))
        }
    }
}

fn read_files<'t>(plan: &Record<'t>) -> Outcome<HashMap<&'t str, f64>> {
    let mut files = HashMap::new();
    for node in plan.list("files")? {
        let mut file = Record::new(node, "files", "the file")?;
        let (id, _) = file.name("id")?;
        file.of = format!("file `{id}`");
        files.insert(id, file.number("sizeInBytes", BYTES_MAX)?.unwrap_or(0.0));
    }
    Ok(files)
}

fn read_plan<'t>(record: &Record<'t>) -> Outcome<RecordedTask<'t>> {
    let (id, span) = record.name("id")?;
    check_name("task", id, span)?;
    let names = |field| record.names(field).map_err(|fault| fault.hint(format!("this is task `{id}`")));
    Ok(RecordedTask {
        id,
        span,
        parents: names("parents")?,
        children: names("children")?,
        inputs: names("inputFiles")?,
        outputs: names("outputFiles")?,
        ran_s: 0.0,
        resources: Resources::cores(1),
    })
}

/// The tasks' places by id.
fn number<'t>(tasks: &[RecordedTask<'t>]) -> Outcome<HashMap<&'t str, usize>> {
    let mut numbers = HashMap::new();
    for (number, task) in tasks.iter().enumerate() {
        if numbers.insert(task.id, number).is_some() {
            return Err(Fault::at(task.span, Problem::TwoTasks(task.id.to_owned())));
        }
    }
    Ok(numbers)
}

fn find_planned(
    run: &Record<'_>,
    tasks: &[RecordedTask<'_>],
    numbers: &HashMap<&str, usize>,
) -> Outcome<usize> {
    let (id, span) = run.name("id")?;
    numbers.get(id).copied().ok_or_else(|| {
        let meant = nearest(id, tasks.iter().map(|task| task.id));
        let meant = meant.map(|name| (name.to_owned(), Some(tasks[numbers[name]].span)));
        Fault::bad_value(span, "id", &run.of, id, "`specification` has no such task").meant(meant)
    })
}

fn read_run(mut run: Record<'_>, task: &mut RecordedTask<'_>) -> Outcome<()> {
    run.of = format!("task `{}`", task.id);
    run.need("runtimeInSeconds")?;
    task.ran_s = run.number("runtimeInSeconds", SECONDS_MAX)?.unwrap_or(0.0);
    let cores = run.number("coreCount", CORES_MAX)?.unwrap_or(1.0);
    task.resources.cpus = (cores.ceil() as u32).max(1);
    task.resources.memory_bytes = run.number("memoryInBytes", BYTES_MAX)?.unwrap_or(0.0) as u64;
    Ok(())
}
