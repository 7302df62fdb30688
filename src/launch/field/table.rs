//! The table of fields.

use super::{Field, Kind, Spelling};

use Spelling::{Line, Silent, Unknown};

/// All fields, in the order of the documentation.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    // Where, and what about.
    field("batch_system", Kind::Choice(&["slurm", "pbs", "torque", "local"]), Silent, Silent, Silent, "the batch system that is asked"),
    field("description", Kind::FreeText, Silent, Silent, Silent, "what `dagmar cluster list` says of the template"),
    field("name", Kind::Name, Line("--job-name"), Line("-N"), Line("-N"), "the job's name; the run's if nothing is said"),
    field("queue", Kind::Identifiers, Line("--partition"), Line("-q"), Line("-q"), "the queue, or partition"),
    field("account", Kind::Identifier, Line("--account"), Line("-A"), Line("-A"), "who pays"),
    field("project", Kind::Identifier, Unknown, Line("-P"), Unknown, "who pays, at PBS sites that say `-P`"),
    field("qos", Kind::Identifier, Line("--qos"), Unknown, Unknown, "the quality of service"),
    field("reservation", Kind::Identifier, Line("--reservation"), Line("-q"), Unknown, "a reservation; in PBS it is a queue and replaces it"),
    field("clusters", Kind::Identifiers, Line("--clusters"), Unknown, Unknown, "clusters that may take the job"),
    // How much.
    field("nodes", Kind::Count, Line("--nodes"), Line("-l select"), Line("-l nodes"), "nodes, all of which work"),
    field("workers_per_node", Kind::Workers, Line("--ntasks-per-node"), Line("mpiprocs="), Line("ppn="), "workers on each node: a number, `socket` or `gpu` for one each"),
    field("cpus_per_worker", Kind::Count, Line("--cpus-per-task"), Line("ncpus="), Line("ppn="), "cores of each worker"),
    field("cpus_per_node", Kind::Count, Silent, Silent, Silent, "cores that a node has; divided among its workers where `cpus_per_worker` is not said"),
    field("sockets_per_node", Kind::Count, Silent, Silent, Silent, "sockets that a node has, for `workers_per_node = \"socket\"`"),
    field("ntasks", Kind::Flag, Line("--ntasks"), Unknown, Unknown, "say the number of tasks as well, for sites that demand it"),
    field("form", Kind::Choice(&["select", "uniform", "nodes", "totals"]), Unknown, Silent, Silent, "how PBS is asked: `select` with a place for the scheduler, `uniform` chunks, old `nodes=N:ppn=P`, or `totals` without chunks"),
    field("memory", Kind::Memory, Line("--mem"), Line("mem="), Line("-l mem"), "memory of each node: a size, `none` to say nothing, `all`"),
    field("memory_per_cpu", Kind::Size, Line("--mem-per-cpu"), Line("mem="), Line("-l mem"), "memory of each core, instead of each node's"),
    field("gpus_per_node", Kind::Count, Line("--gpus-per-node"), Line("ngpus="), Line("gpus="), "GPUs of each node"),
    field("gpu_type", Kind::Word, Line("--gpus-per-node"), Unknown, Unknown, "which GPUs; in PBS see `constraint`"),
    field("gpu_request", Kind::Choice(&["gpus-per-node", "gres"]), Line("--gres"), Unknown, Unknown, "which of Slurm's two options asks for GPUs"),
    field("walltime", Kind::Time, Line("--time"), Line("-l walltime"), Line("-l walltime"), "how long the allocation lasts"),
    field("margin", Kind::Time, Silent, Silent, Silent, "time before the end at which the run is asked to stop"),
    field("signal", Kind::Choice(&["none", "USR1", "USR2", "TERM"]), Line("--signal"), Unknown, Unknown, "a signal that Slurm sends the script `margin` before the end"),
    // Which nodes.
    field("constraint", Kind::Constraint, Line("--constraint"), Line("-l select"), Line("-l nodes"), "features of the nodes; in PBS what follows each chunk: `model=rome`"),
    field("nodelist", Kind::Nodes, Line("--nodelist"), Unknown, Unknown, "nodes that must be among them"),
    field("exclude", Kind::Nodes, Line("--exclude"), Unknown, Unknown, "nodes that must not be among them"),
    field("exclusive", Kind::Flag, Line("--exclusive"), Line("-l place"), Line("-n"), "share the nodes with no other job"),
    // What happens to the job.
    field("stdout", Kind::Path, Line("--output"), Line("-o"), Line("-o"), "what the script prints; `batch.out` in the run directory if nothing is said"),
    field("stderr", Kind::Path, Line("--error"), Line("-e"), Line("-e"), "its errors; beside the output if nothing is said"),
    field("open_mode", Kind::Choice(&["append", "truncate"]), Line("--open-mode"), Unknown, Unknown, "what a restarted job does to its output"),
    field("requeue", Kind::Flag, Line("--requeue, --no-requeue"), Line("-r"), Line("-r"), "may the batch system start the job again"),
    field("survive_node_loss", Kind::Flag, Line("--no-kill"), Line("-W tolerate_node_failures"), Unknown, "keep the allocation when a node is lost"),
    field("dependency", Kind::Dependency, Line("--dependency"), Line("-W depend"), Line("-W depend"), "jobs to wait for: `afterok:123`"),
    field("mail.user", Kind::Identifiers, Line("--mail-user"), Line("-M"), Line("-M"), "who gets mail"),
    field("mail.types", Kind::Choices(&["none", "begin", "end", "fail", "requeue", "time_limit", "time_limit_90", "time_limit_80", "time_limit_50", "all"]), Line("--mail-type"), Line("-m"), Line("-m"), "when"),
    field("comment", Kind::FreeText, Line("--comment"), Unknown, Unknown, "words for people; dagmar's own mark follows them"),
    field("environment.export", Kind::Export, Line("--export"), Line("-V, -v"), Line("-V, -v"), "which of the submitting shell's variables the job sees"),
    field("environment.variables", Kind::Variables, Silent, Silent, Silent, "variables of the script, the ranks and the tasks"),
    // What the site wants otherwise.
    field("directives", Kind::Directives, Line("as it is"), Line("as it is"), Line("as it is"), "further options, each on a line of its own"),
    field("remove", Kind::Fields, Silent, Silent, Silent, "fields whose lines are left out"),
    field("require", Kind::Fields, Silent, Silent, Silent, "fields that the site does not do without"),
    field("job_script", Kind::File, Silent, Silent, Silent, "a job-script template instead of the built-in one, beside this file"),
    // What runs.
    field("shebang", Kind::Shebang, Silent, Silent, Silent, "the first line of the script: a bash"),
    field("modules", Kind::Modules, Silent, Silent, Silent, "modules to load"),
    field("prologue", Kind::Lines, Silent, Silent, Silent, "shell lines before the run"),
    field("epilogue", Kind::Lines, Silent, Silent, Silent, "shell lines after it"),
    field("node_start", Kind::Lines, Silent, Silent, Silent, "shell lines on every node before the ranks start"),
    field("node_stop", Kind::Lines, Silent, Silent, Silent, "shell lines on every node after they have ended"),
    field("scratch", Kind::Place, Silent, Silent, Silent, "a directory on every node for what need not outlive the run: `DAGMAR_SCRATCH` of every task; may name variables of the job, as `$TMPDIR`"),
    field("launcher.kind", Kind::Choice(&["srun", "mpirun", "mpiexec", "custom"]), Silent, Silent, Silent, "what starts the ranks"),
    field("launcher.command", Kind::Words, Silent, Silent, Silent, "its program, or for `custom` the whole command"),
    field("launcher.args", Kind::Words, Silent, Silent, Silent, "further arguments for it"),
    field("prefix", Kind::Words, Silent, Silent, Silent, "words before the program on every rank, such as a container's"),
    field("resources", Kind::Amounts, Silent, Silent, Silent, "amounts that each worker has: `licence = 1`"),
    field("commands.submit", Kind::Words, Silent, Silent, Silent, "instead of `sbatch` or `qsub`"),
    field("commands.status", Kind::Words, Silent, Silent, Silent, "instead of `squeue` or `qstat`"),
    field("commands.cancel", Kind::Words, Silent, Silent, Silent, "instead of `scancel` or `qdel`"),
    // What the site allows.
    field("limits.walltime_max", Kind::Time, Silent, Silent, Silent, "longest walltime"),
    field("limits.nodes_max", Kind::Count, Silent, Silent, Silent, "most nodes"),
    field("limits.queued_jobs_max", Kind::Count, Silent, Silent, Silent, "most jobs of a user that wait or run"),
];

const fn field(
    name: &'static str,
    kind: Kind,
    slurm: Spelling,
    pbs: Spelling,
    torque: Spelling,
    doc: &'static str,
) -> Field {
    Field { name, kind, slurm, pbs, torque, doc }
}
