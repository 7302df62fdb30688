//! `dagmar cluster`: which cluster templates there are, what is in one, and what would be asked.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::clock;
use crate::launch::batch::{BatchSystem, System};
use crate::launch::field::{FIELDS, Field, Spelling};
use crate::launch::given::{Given, Value};
use crate::launch::limits;
use crate::launch::plan::LauncherKind;
use crate::launch::request::{Memory, Request};
use crate::launch::script::{ScriptContext, ScriptError, render, template};
use crate::launch::slurm::Slurm;
use crate::launch::template::Template;
use crate::launch::units;
use crate::record::publish;
use crate::runtime::exit;

use super::allocation_flags::{AllocationFlags, find, places};
use super::failure::Failure;
use super::output::{Format, Page};
use super::source::current_directory;
use super::{CommandResult, OK};

const CHECK_EXAMPLES: &str = "\
Examples:
  dagmar cluster check slurm --nodes 4 --walltime 2h     what would be asked of any Slurm
  dagmar cluster check mysite.toml -A proj1              a template of your own
  dagmar cluster check mysite --without memory           without the line that asks for memory

The script is on standard output, ready to be read; nothing is submitted.";

/// `dagmar cluster`.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Name the cluster templates that are there
    List(ListFlags),
    /// Print what a template says, and where each value comes from
    Show(ShowFlags),
    /// Render a job script with these flags, explain it, and ask the batch system what it thinks
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<CheckFlags>),
}

/// `dagmar cluster list`.
#[derive(Clone, Debug, Args)]
pub struct ListFlags {
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar cluster show`.
#[derive(Clone, Debug, Args)]
pub struct ShowFlags {
    /// The template: a name, or a file
    #[arg(required_unless_present = "fields")]
    pub name: Option<String>,
    /// Print its job-script template instead
    #[arg(long, conflicts_with = "fields")]
    pub template: bool,
    /// Print all fields that a template can have
    #[arg(long)]
    pub fields: bool,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar cluster check`.
#[derive(Clone, Debug, Args)]
pub struct CheckFlags {
    /// The template: a name, or a file
    #[arg(value_name = "NAME")]
    pub template: Option<String>,
    /// What is asked.
    #[command(flatten)]
    pub allocation: AllocationFlags,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// Runs the subcommand.
pub fn run(command: ClusterCommand) -> CommandResult {
    match command {
        ClusterCommand::List(flags) => list(&flags),
        ClusterCommand::Show(flags) => show(&flags),
        ClusterCommand::Check(flags) => check(&flags),
    }
}

fn list(flags: &ListFlags) -> CommandResult {
    let mut page = Page::open();
    let found = places()?.list();
    let width = found.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, origin) in found {
        // A broken template is in the list as well: its line says what is wrong.
        let said = match find(&name) {
            Ok(template) => template.value("description").map(Value::to_string).unwrap_or_default(),
            Err(failure) => failure.message,
        };
        match flags.output {
            Format::Json => {
                page.json(&json!({ "name": name, "origin": origin.to_string(), "description": said }))?
            }
            Format::Human => page.line(format!("{name:width$}  {said}  ({origin})"))?,
        }
    }
    page.flush()?;
    Ok(OK)
}

fn show(flags: &ShowFlags) -> CommandResult {
    let Some(name) = &flags.name else { return show_fields(flags.output) };
    let found = find(name)?;
    let mut page = Page::open();
    if flags.template {
        let request = Request::new(&without_demands(&found), &[])?;
        page.bytes(template(&request).1.as_bytes())?;
    } else if flags.output == Format::Json {
        let values = found.values.iter().map(|(field, given)| (*field, given));
        let origins: Vec<_> = found.origins.iter().map(ToString::to_string).collect();
        page.json(&json!({ "name": found.name, "origins": origins, "values": to_json(values) }))?;
    } else {
        page.line(format!("cluster template `{}`", found.name))?;
        for origin in &found.origins {
            page.line(format!("  from {origin}"))?;
        }
        print_values(&mut page, found.values.iter().map(|(field, given)| (*field, given)))?;
    }
    page.flush()?;
    Ok(OK)
}

/// A template as it is, whether a user has said by now what the site demands or not.
fn without_demands(template: &Template) -> Template {
    let mut template = template.clone();
    template.values.remove("require");
    template
}

fn show_fields(format: Format) -> CommandResult {
    let mut page = Page::open();
    for field in FIELDS {
        match format {
            Format::Json => page.json(&json!({
                "name": field.name, "doc": field.doc,
                "slurm": spelling(field, System::Slurm), "pbs": spelling(field, System::Pbs),
                "torque": spelling(field, System::Torque),
            }))?,
            Format::Human => page.line(format!("{:24}{}", field.name, field.doc))?,
        }
    }
    page.flush()?;
    Ok(OK)
}

fn spelling(field: &Field, system: System) -> Option<&'static str> {
    match field.spelling(system) {
        Spelling::Line(option) => Some(option),
        Spelling::Silent => Some(""),
        Spelling::Unknown => None,
    }
}

fn check(flags: &CheckFlags) -> CommandResult {
    let mut allocation = flags.allocation.clone();
    if let Some(name) = &flags.template {
        if allocation.cluster.is_some() {
            return Err(Failure::usage("two clusters are named").hint("leave `--cluster` out".to_owned()));
        }
        allocation.cluster = Some(name.clone());
    }
    let request = allocation.request()?;
    limits::check(&request, 1, None)?;
    let script = script(&request)?;
    let verdict = ask(&request, &script)?;
    let mut page = Page::open();
    match flags.output {
        Format::Json => page.json(&json!({
            "cluster": request.cluster,
            "system": request.system.name(),
            "asked": in_words(&request),
            "values": to_json(request.values()),
            "launcher": launcher(&request),
            "accepted": verdict.as_ref().map(Result::is_ok),
            "answer": verdict.as_ref().map(|verdict| verdict.as_ref().unwrap_or_else(|words| words)),
            "script": script,
        }))?,
        Format::Human => print(&mut page, &request, &script, verdict.as_ref())?,
    }
    page.flush()?;
    Ok(if matches!(verdict, Some(Err(_))) { exit::REFUSED } else { OK })
}

/// The script that a run of the name `example` would have.
fn script(request: &Request) -> Result<String, Failure> {
    let run = current_directory()?.join("dagmar-runs/example-0001");
    let program = program()?;
    let context =
        ScriptContext { run: &run, program: &program, name: "example-0001", mark: "dagmar-example" };
    render(request, &context).map_err(Failure::from)
}

fn program() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|error| Failure::broken(format!("cannot find this program: {error}")))
}

/// What the batch system thinks of the script, where there is one that tells; its words either way.
fn ask(request: &Request, script: &str) -> Result<Option<Result<String, String>>, Failure> {
    if request.system != System::Slurm
        || found("sbatch").is_none() && request.list("commands.submit").is_empty()
    {
        return Ok(None);
    }
    let file = PrivateScript::write(&env::temp_dir(), script)?;
    let answer = Slurm::new(request.commands()).test(&file.0);
    Ok(answer.map(|answer| answer.map_err(|error| error.to_string())))
}

/// A script in a directory that others write to as well, gone when this is. What lies there before,
/// a link above all, is neither followed nor changed.
struct PrivateScript(PathBuf);

impl PrivateScript {
    fn write(directory: &Path, script: &str) -> Result<Self, Failure> {
        let name = format!("dagmar-check-{}-{:x}.sh", publish::unique(), clock::now().0);
        let path = directory.join(name);
        let broken = |error| Failure::broken(format!("cannot write `{}`: {error}", path.display()));
        let mut file = publish::create_private(&path).map_err(broken)?;
        let written = Self(path.clone());
        file.write_all(script.as_bytes()).map_err(broken)?;
        Ok(written)
    }
}

impl Drop for PrivateScript {
    fn drop(&mut self) {
        // A file left behind harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

fn print(
    page: &mut Page,
    request: &Request,
    script: &str,
    verdict: Option<&Result<String, String>>,
) -> Result<(), Failure> {
    page.line(format!("`{}` asks {} for:", request.cluster, request.system.title()))?;
    for line in in_words(request) {
        page.line(format!("  {line}"))?;
    }
    page.line("where it comes from:")?;
    print_values(page, request.values())?;
    page.line(format!("launcher: {}", launcher(request)))?;
    page.line(format!("program: {}, which the nodes must see as well", program()?.display()))?;
    page.line(match verdict {
        Some(Ok(words)) => format!("accepted: {}", words.trim()),
        Some(Err(words)) => format!("refused: {words}"),
        None => format!("not asked: {} is not asked for its opinion here", request.system.title()),
    })?;
    page.line("the script:")?;
    page.line("")?;
    page.bytes(script.as_bytes())
}

fn print_values<'a>(
    page: &mut Page,
    values: impl Iterator<Item = (&'static str, &'a Given)>,
) -> Result<(), Failure> {
    for (field, given) in values {
        page.line(format!("  {field:24}{}  ({})", given.value, given.source))?;
    }
    Ok(())
}

fn to_json<'a>(values: impl Iterator<Item = (&'static str, &'a Given)>) -> Json {
    let entry = |(field, given): (&str, &Given)| {
        let value = match &given.value {
            Value::Count(count) => json!(count),
            Value::Flag(flag) => json!(flag),
            Value::Text(text) => json!(text),
            Value::List(list) => json!(list),
            Value::Pairs(pairs) => json!(pairs),
            Value::Amounts(amounts) => json!(amounts),
        };
        (field.to_owned(), json!({ "value": value, "source": given.source.to_string() }))
    };
    values.map(entry).collect::<serde_json::Map<_, _>>().into()
}

/// What is asked, as a person would say it.
fn in_words(request: &Request) -> Vec<String> {
    let shape = &request.shape;
    let plural = |count: u64, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut lines = vec![format!(
        "{}, {} on each, and the scheduler beside the first: {} ranks",
        plural(shape.nodes.into(), "node"),
        plural(shape.workers_per_node.into(), "worker"),
        shape.workers() + 1
    )];
    if let Some(cpus) = shape.cpus_per_worker {
        lines.push(format!("{} for each worker", plural(cpus.into(), "core")));
    }
    if let Some(gpus) = shape.gpus_per_node {
        lines.push(format!("{} on each node", plural(gpus.into(), "GPU")));
    }
    lines.push(match shape.memory {
        Memory::None => "as much memory as the site gives".into(),
        Memory::All => "all memory of the nodes".into(),
        Memory::PerNode(bytes) => format!("{} MiB of memory on each node", units::mebibytes(bytes)),
        Memory::PerCpu(bytes) => format!("{} MiB of memory for each core", units::mebibytes(bytes)),
    });
    lines.push(match request.seconds("walltime") {
        Some(seconds) => format!("{} of time", units::clock(seconds)),
        None => "as much time as the queue gives".into(),
    });
    lines
}

/// The launcher, and whether it is found here.
fn launcher(request: &Request) -> String {
    let usual = match request.launcher() {
        LauncherKind::Srun => "srun",
        LauncherKind::Mpirun => "mpirun",
        LauncherKind::Mpiexec => "mpiexec",
        LauncherKind::Custom => "",
    };
    let name = request.list("launcher.command").first().map_or(usual, String::as_str);
    match found(name) {
        Some(path) => format!("{name}, here at {}", path.display()),
        None if name.is_empty() => "custom, but `launcher.command` is not said".into(),
        None => format!("{name}, not found here; the nodes, or a module, may have it"),
    }
}

/// A program on `PATH`.
fn found(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).is_file().then(|| name.into());
    }
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|place| place.join(name)).find(|path| !name.is_empty() && path.is_file())
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        let hint = error.hint();
        Failure::usage(error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_script_to_be_checked_is_private_and_does_not_stay() {
        let place = tempfile::tempdir().unwrap();
        let [one, other] =
            [(); 2].map(|()| PrivateScript::write(place.path(), "#!/bin/bash\n").ok().unwrap());
        assert_ne!(one.0, other.0);
        assert_eq!(fs::metadata(&one.0).unwrap().permissions().mode() & 0o777, 0o600);
        drop((one, other));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
