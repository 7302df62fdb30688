//! What was typed. No file is opened here; what it means is decided by each command.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::allocation_flags::AllocationFlags;
use super::cluster::ClusterCommand;
use super::failure::Failure;
use super::output::Format;
use crate::client::formats::units;
use crate::core::scheduler::CRASH_LIMIT;

/// Runs graphs of tasks: on this machine, under mpirun, or in a batch job.
#[derive(Clone, Debug, Parser)]
#[command(name = "dagmar", version, long_version = long_version(), about, arg_required_else_help = true, max_term_width = 100)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The version, and the MPI that this program is linked with.
fn long_version() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("{}\n{}", env!("CARGO_PKG_VERSION"), mpi_version()));
    &TEXT
}

#[cfg(feature = "mpi")]
fn mpi_version() -> String {
    format!("with {}", crate::transport::mpi::library::library())
}

#[cfg(not(feature = "mpi"))]
fn mpi_version() -> String {
    "without MPI".to_owned()
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a graph here: alone, or as one rank when started by mpirun
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunFlags>),
    /// Go on with a run whose processes ended: what is durable is not run again
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(Box<ResumeFlags>),
    /// Hand a graph to a batch system, and be done
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit(Box<SubmitFlags>),
    /// Start the ranks of a submitted run; job scripts call this in the allocation
    Launch(LaunchFlags),
    /// Tell how a run stands
    Status(StatusFlags),
    /// Sleep until a run is over, and end with its exit code
    Wait(WaitFlags),

    /// Print what tasks printed
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(LogsFlags),
    /// Connect standard input and output with a live run that waits for clients
    Attach(AttachFlags),
    /// End a run: its tasks are stopped
    Cancel(CancelFlags),
    /// Look at graphs, pack them, make them
    #[command(subcommand)]
    Graph(GraphCommand),
    /// Look at cluster templates: how batch systems are asked for nodes
    #[command(subcommand)]
    Cluster(Box<ClusterCommand>),
}

const RUN_EXAMPLES: &str = "\
Examples:
  dagmar run graph.toml                           everything in the graph
  dagmar run graph.toml merge                     what `merge` needs, and its output on stdout
  mpirun -n 3 dagmar run graph.toml               one scheduler and two workers
  dagmar run graph.toml --if-missing              only what has no files yet, or older ones than its inputs
  dagmar run --commands list.txt                  every line is a command
  dagmar run --each 1..1000 -- ./simulate {}      one command for each number
  dagmar run --each-line files.txt -- gzip {}     one command for each line of a file
  dagmar run --each 1..100000 --call noop         a function instead of a command

Exit codes: 0 done, 2 wrong usage or graph, 3 a task failed, 4 stopped by SIGTERM,
5 a rank was lost, 7 tasks ran out of memory, 130 interrupted, 1 a bug.";

const RESUME_EXAMPLES: &str = "\
Examples:
  dagmar resume                                   the latest run under ./dagmar-runs
  dagmar resume variants-0003
  mpirun -n 3 dagmar resume variants-0003         with two workers
  dagmar resume variants-0003 graph.toml          with the graph as it is now
  dagmar resume variants-0003 graph.toml merge    and what `merge` needs

Outputs of commands outlive a run; those of functions do if they were asked for by name, if
their tasks say `keep`, or if the run was begun with `--persist all`. Everything else that is
still needed runs again.

With a graph, a task is kept if its name and all that it does are what they were (command,
arguments, environment, declared files), and everything that it depends on is kept. Resources,
retries, times and priorities may change freely.";

const SUBMIT_EXAMPLES: &str = "\
Examples:
  dagmar submit graph.toml --cluster mysite --nodes 4 --walltime 2h
  dagmar submit graph.toml merge --cluster slurm -N 4 -t 2h -A myproject -p long
  dagmar submit graph.toml --cluster mysite --dry-run         print the job script and do nothing
  dagmar submit graph.toml --cluster mysite --wait            end with the run's exit code
  dagmar submit graph.toml --cluster mysite -t 24h --chain 5  as long as five jobs of 24 hours, if it takes that
  dagmar submit --each 1..1000 --cluster pbs -- ./simulate {}
  dagmar submit ./myprogram --cluster mysite -N 4 -- --size 8000      a program that uses dagmar
  dagmar submit script.py 100 --cluster mysite -N 4                   a Python script that does, and its argument

`dagmar cluster list` names the clusters that are known here.";

const LOGS_EXAMPLES: &str = "\
Examples:
  dagmar logs                                     the failed tasks of the latest run, or all
  dagmar logs variants-0003 'align[07]'           one task
  dagmar logs variants-0003 align --stderr        an array's standard error only
  dagmar logs -f                                  the latest run, as it prints";

/// What shall be run: a graph file, or a quick form.
#[derive(Clone, Debug, Args)]
pub struct SourceFlags {
    /// The graph: TOML, JSON or packed; or a Python script that uses dagmar; for `submit` also a program that does
    pub graph: Option<PathBuf>,
    /// Run only what these need, and print their outputs: tasks, arrays, elements, output files
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Run each line of this file as a command
    #[arg(long, value_name = "FILE", conflicts_with_all = ["graph", "each", "each_line", "call", "command"])]
    pub commands: Option<PathBuf>,
    /// Run the command after `--`, or the function, for each number of a range
    #[arg(long, value_name = "RANGE", allow_negative_numbers = true, conflicts_with_all = ["graph", "each_line"])]
    pub each: Option<String>,
    /// Run the command after `--`, or the function, for each line of a file
    #[arg(long, value_name = "FILE", conflicts_with = "graph")]
    pub each_line: Option<PathBuf>,
    /// Call this function instead of a command; arguments as JSON after `--`
    #[arg(long, value_name = "FUNCTION", conflicts_with = "graph")]
    pub call: Option<String>,
    /// Which outputs go into the run directory, where they outlive the run's processes: those of what is asked
    /// for, all, or none; those of commands do, unless none is said
    #[arg(long, value_enum, value_name = "WHICH")]
    pub persist: Option<PersistFlag>,
    /// Stop the run once more than so many tasks have failed for good; without it whatever does not depend on
    /// them is done
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub max_fails: Option<u32>,
    /// How often a function may kill the rank it runs in (by a crash, or `exit`) before its task has failed
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = CRASH_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    pub crash_limit: u32,
    /// As make does, run no task whose declared output files are all there and not older than its input files, unless
    /// something that it depends on runs, or a task that runs takes its value. Files are trusted as they are: with
    /// `publish = "rename"` none is left half written by a command that was killed
    #[arg(long)]
    pub if_missing: bool,
    /// The command, `{}` standing for the element
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `dagmar run`.
#[derive(Clone, Debug, Args)]
pub struct RunFlags {
    /// What shall be run.
    #[command(flatten)]
    pub source: SourceFlags,
    /// Where, and with what.
    #[command(flatten)]
    pub here: HereFlags,
    /// Use this run directory instead of a new one under `./dagmar-runs`; without a graph, one that
    /// `dagmar submit` made
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// The socket of a client, which submits the tasks
    #[arg(long, hide = true, value_name = "SOCKET", conflicts_with_all = ["graph", "commands", "each", "each_line"])]
    pub client: Option<PathBuf>,
    /// What a client's run is called
    #[arg(long, hide = true, requires = "client")]
    pub name: Option<String>,
}

/// `dagmar resume`.
#[derive(Clone, Debug, Args)]
pub struct ResumeFlags {
    /// A path, a name under `./dagmar-runs`, or nothing for the latest
    pub run: Option<String>,
    /// Go on with this graph instead, of the same name: what changed runs again, and what depends on it
    pub graph: Option<PathBuf>,
    /// Run only what these need, and print their outputs; without any, what was asked for before, as far as it is still
    /// there
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Where, and with what.
    #[command(flatten)]
    pub here: HereFlags,
    /// Stop the run once more than so many tasks have failed for good, instead of what was said when it was begun
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub max_fails: Option<u32>,
    /// How often a function may kill the rank it runs in, in all lives of the run together, instead of what was said
    /// when it was begun
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub crash_limit: Option<u32>,
    /// Go on although the run's journal is damaged, without the events that are lost: their tasks run again
    #[arg(long)]
    pub skip_damage: bool,
    /// Said by `dagmar launch`, which sees to orders and outcomes
    #[arg(long, hide = true)]
    pub launched: bool,
}

/// How a graph is run here, under mpirun or without it.
#[derive(Clone, Debug, Args)]
pub struct HereFlags {
    /// Workers when started without mpirun
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: Option<u32>,
    /// Cores of each worker, instead of what is found
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub cpus: Option<u32>,
    /// What outputs may take.
    #[command(flatten)]
    pub limits: LimitFlags,
    /// An amount that each worker has of a resource: `gpus=2`, `memory=8GiB`, `licence=1`
    #[arg(long = "resource", value_name = "NAME=N")]
    pub resources: Vec<String>,
    /// What each running task is kept on: the cores it asked for, or nothing
    #[arg(long, value_enum, default_value_t)]
    pub bind: BindFlag,
    /// Print no progress and no summary
    #[arg(short, long)]
    pub quiet: bool,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// What the outputs at each worker may take.
#[derive(Clone, Debug, Default, Args)]
pub struct LimitFlags {
    /// Memory that the outputs at each worker may take before cold ones go to its node's disk; 60 % of what
    /// the worker has if nothing is said
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_limit: Option<String>,
    /// What outputs may take there: in `$DAGMAR_SCRATCH`, else in `$TMPDIR`
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub scratch_limit: Option<String>,
}

impl LimitFlags {
    /// Bytes of memory, and of the disk.
    pub fn bytes(&self) -> Result<(Option<u64>, Option<u64>), Failure> {
        let memory = size("--memory-limit", self.memory_limit.as_deref())?;
        Ok((memory, size("--scratch-limit", self.scratch_limit.as_deref())?))
    }
}

fn size(flag: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let size = units::spoken_size(text);
    size.map(Some).map_err(|why| Failure::usage(format!("cannot understand `{flag} {text}`: {why}")))
}

/// `--persist`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PersistFlag {
    /// Outputs of keys that were named, or of what nothing else needs; and those of commands
    Asked,
    /// Every output
    All,
    /// No output: nothing is left of a run that is cut off
    None,
}

/// `--bind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BindFlag {
    /// Tasks run on any core of the worker's process
    #[default]
    None,
    /// A command runs on the cores of its slot, functions on those of their worker
    Cores,
}

/// `dagmar status`.
#[derive(Clone, Debug, Args)]
pub struct StatusFlags {
    /// A path, a name under `./dagmar-runs`, or nothing for the latest
    pub run: Option<String>,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar submit`.
#[derive(Clone, Debug, Args)]
pub struct SubmitFlags {
    /// What shall be run.
    #[command(flatten)]
    pub source: SourceFlags,
    /// What is asked of the batch system.
    #[command(flatten)]
    pub allocation: AllocationFlags,
    /// What outputs may take.
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Begin a run whose tasks come from clients, which `dagmar attach` and the package for Python connect with it
    #[arg(long, conflicts_with_all = ["graph", "commands", "each", "each_line", "call", "command"])]
    pub client: bool,
    /// How long a run of clients goes on while none is there and nothing is left to do
    #[arg(long, requires = "client", value_name = "TIME", default_value = "10m")]
    pub idle_timeout: String,
    /// Submit so many jobs, each of which goes on with the run when the one before has ended
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 1, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..=999))]
    pub chain: u32,
    /// Print the job script and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the run is over, and end with its exit code
    #[arg(short = 'W', long)]
    pub wait: bool,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar attach`.
#[derive(Clone, Debug, Args)]
pub struct AttachFlags {
    /// A path, a name under `./dagmar-runs`, or nothing for the latest
    pub run: Option<String>,
    /// This is where its rank 0 is
    #[arg(long, hide = true)]
    pub here: bool,
}

/// `dagmar launch`.
#[derive(Clone, Debug, Args)]
pub struct LaunchFlags {
    /// The run directory that `dagmar submit` made
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
}

/// `dagmar wait`.
#[derive(Clone, Debug, Args)]
pub struct WaitFlags {
    /// A path, a name under `./dagmar-runs`, or nothing for the latest
    pub run: Option<String>,
    /// Tell nothing but failures
    #[arg(short, long)]
    pub quiet: bool,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsFlags {
    /// A path, a name under `./dagmar-runs`, or nothing for the latest
    pub run: Option<String>,
    /// A task, an array or an element; without one the failed tasks, or all if none failed
    pub key: Option<String>,
    /// Go on until the run is over
    #[arg(short, long)]
    pub follow: bool,
    /// Standard output only
    #[arg(long, conflicts_with = "stderr")]
    pub stdout: bool,
    /// Standard error only
    #[arg(long)]
    pub stderr: bool,
    /// How the result is told; as JSON, an object for each stream of each attempt
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar cancel`.
#[derive(Clone, Debug, Args)]
pub struct CancelFlags {
    /// A path or a name under `./dagmar-runs`
    pub run: String,
    /// End its batch job as well, without waiting for tasks to end
    #[arg(long)]
    pub now: bool,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar graph`.
#[derive(Clone, Debug, Subcommand)]
pub enum GraphCommand {
    /// Read a graph and say whether it can run
    Check(GraphFlags),
    /// List the tasks of a graph and what they need
    Show(GraphFlags),
    /// Count tasks, dependencies, depth and width
    Stats(GraphFlags),
    /// Write a graph in its packed form, which loads fastest
    Pack(PackFlags),
    /// Make a graph of a well-known shape, in its packed form
    Make(MakeFlags),
    /// Make a graph of what another tool wrote, in its packed form
    Import(ImportFlags),
}

/// What can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// An execution that WfCommons recorded: WfFormat 1.5
    Wfformat,
}

/// A graph to look at.
#[derive(Clone, Debug, Args)]
pub struct GraphFlags {
    /// The graph: TOML, JSON or packed
    pub graph: PathBuf,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar graph pack`.
#[derive(Clone, Debug, Args)]
pub struct PackFlags {
    /// The graph: TOML, JSON or packed
    pub graph: PathBuf,
    /// Where to write it; `GRAPH.dagmar` if nothing is said
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar graph make`.
#[derive(Clone, Debug, Args)]
pub struct MakeFlags {
    /// trivial, chain, tree, no_comm, stencil_1d, dom, fft, all_to_all, nearest, spread, random, fan_out, random_nearest
    pub shape: String,
    /// Tasks side by side
    #[arg(long, allow_negative_numbers = true, default_value_t = 1)]
    pub width: u32,
    /// Tasks one after the other
    #[arg(long, allow_negative_numbers = true, default_value_t = 1)]
    pub steps: u32,
    /// Where chance starts, in the shapes that have any
    #[arg(long, allow_negative_numbers = true, default_value_t = 0)]
    pub seed: u64,
    /// Lets every task compute for so many turns of a loop; the task `checksum` follows from all
    #[arg(long, allow_negative_numbers = true)]
    pub iterations: Option<u32>,
    /// Bytes that every task gives, with --iterations
    #[arg(long, allow_negative_numbers = true, default_value_t = 16, requires = "iterations")]
    pub bytes: u32,
    /// Where to write it; `SHAPE.dagmar` if nothing is said
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// `dagmar graph import`.
#[derive(Clone, Debug, Args)]
pub struct ImportFlags {
    /// The file
    pub file: PathBuf,
    /// What the file is
    #[arg(long, value_enum)]
    pub from: ImportFormat,
    /// Shorten times, and shrink values, by this factor
    #[arg(long, allow_negative_numbers = true, default_value_t = 1.0, value_name = "FACTOR")]
    pub scale: f64,
    /// Tasks keep a core busy instead of sleeping
    #[arg(long)]
    pub spin: bool,
    /// Where to write it; `FILE.dagmar` if nothing is said
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How the result is told
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use clap::{Command, CommandFactory};

    use super::*;

    fn each_command(command: &Command, see: &mut impl FnMut(&Command)) {
        see(command);
        command.get_subcommands().for_each(|command| each_command(command, see));
    }

    #[test]
    fn a_number_below_zero_is_taken_for_a_number() {
        let numbers = [TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<f64>()];
        let mut seen = 0;
        each_command(&Flags::command(), &mut |command| {
            let numeric = command
                .get_arguments()
                .filter(|flag| numbers.iter().any(|number| flag.get_value_parser().type_id() == *number));
            for flag in numeric {
                seen += 1;
                let (name, flag_name) = (command.get_name(), flag.get_id());
                assert!(flag.is_allow_negative_numbers_set(), "`{name}`: `{flag_name}`");
            }
        });
        assert!(seen > 10, "{seen} flags are numbers");
        let refused = Flags::try_parse_from(["dagmar", "run", "g.toml", "--max-fails", "-1"]).unwrap_err();
        let first = refused.to_string().lines().next().unwrap_or_default().to_owned();
        insta::assert_snapshot!(first, @"error: invalid value '-1' for '--max-fails <N>': -1 is not in 0..=4294967295");
    }
}
