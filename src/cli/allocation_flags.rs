//! What was typed about an allocation: the words that users of sbatch and qsub know.

use clap::Args;

use crate::launch::given::Typed;
use crate::launch::request::{Request, RequestError};
use crate::launch::template::{Places, Template, TemplateError};

use super::failure::Failure;
use super::source::current_directory;

/// What is asked of a batch system. Whatever is not typed is as the cluster template says.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Allocation")]
pub struct AllocationFlags {
    /// The cluster template: a name, or a file
    #[arg(long, value_name = "NAME|FILE")]
    pub cluster: Option<String>,
    /// Nodes, all of which work
    #[arg(short = 'N', long, value_name = "N", allow_hyphen_values = true)]
    pub nodes: Option<String>,
    /// How long: `2h`, `90m`, `1-12:00:00`, `HH:MM:SS`, or minutes
    #[arg(short = 't', long, visible_alias = "time", value_name = "TIME", allow_hyphen_values = true)]
    pub walltime: Option<String>,
    /// The queue, or partition
    #[arg(
        short = 'q',
        visible_short_alias = 'p',
        long,
        visible_alias = "partition",
        value_name = "NAME",
        allow_hyphen_values = true
    )]
    pub queue: Option<String>,
    /// Who pays
    #[arg(short = 'A', long, value_name = "NAME", allow_hyphen_values = true)]
    pub account: Option<String>,
    /// Who pays, at PBS sites that say `-P`
    #[arg(short = 'P', long, value_name = "NAME", allow_hyphen_values = true)]
    pub project: Option<String>,
    /// The quality of service
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub qos: Option<String>,
    /// A reservation
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub reservation: Option<String>,
    /// Features of the nodes
    #[arg(short = 'C', long, value_name = "WORDS", allow_hyphen_values = true)]
    pub constraint: Option<String>,
    /// GPUs of each node
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub gpus_per_node: Option<String>,
    /// Which GPUs
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub gpu_type: Option<String>,
    /// Memory of each node: `64GB`, `none`, `all`
    #[arg(long = "mem", visible_alias = "memory", value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory of each core
    #[arg(long = "mem-per-cpu", value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_per_cpu: Option<String>,
    /// Share the nodes with no other job
    #[arg(long)]
    pub exclusive: bool,
    /// Workers on each node: a number, `socket` or `gpu`
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub workers_per_node: Option<String>,
    /// Cores of each worker
    #[arg(short = 'c', long, visible_alias = "cpus-per-task", value_name = "N", allow_hyphen_values = true)]
    pub cpus_per_worker: Option<String>,
    /// Nodes that must be among them
    #[arg(short = 'w', long, value_name = "NODES", allow_hyphen_values = true)]
    pub nodelist: Option<String>,
    /// Nodes that must not be among them
    #[arg(short = 'x', long, value_name = "NODES", allow_hyphen_values = true)]
    pub exclude: Option<String>,
    /// Who gets mail
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    pub mail_user: Option<String>,
    /// When: begin, end, fail, all
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub mail_type: Option<String>,
    /// The job's name, instead of the run's
    #[arg(
        short = 'J',
        long = "name",
        visible_alias = "job-name",
        value_name = "NAME",
        allow_hyphen_values = true
    )]
    pub job_name: Option<String>,
    /// Words for people
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub comment: Option<String>,
    /// The batch system may start the job again
    #[arg(long, conflicts_with = "no_requeue")]
    pub requeue: bool,
    /// The batch system may not start the job again
    #[arg(long)]
    pub no_requeue: bool,
    /// Jobs to wait for: `afterok:123`
    #[arg(short = 'd', long, value_name = "WORDS", allow_hyphen_values = true)]
    pub dependency: Option<String>,
    /// A further option for the batch system, as it is: `--directive=--nice=5`
    #[arg(long = "directive", value_name = "RAW", allow_hyphen_values = true)]
    pub directives: Vec<String>,
    /// A field whose line is left out
    #[arg(long, value_name = "FIELD")]
    pub without: Vec<String>,
    /// What starts the ranks: srun, mpirun, mpiexec, custom
    #[arg(long, value_name = "NAME")]
    pub launcher: Option<String>,
    /// Any field: see `dagmar cluster show --fields`
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
}

impl AllocationFlags {
    /// What was typed, in the order of the fields; `--set` comes last.
    pub fn typed(&self) -> Result<Vec<Typed>, Failure> {
        let mut typed = Vec::new();
        for (field, flag, text) in self.texts() {
            typed.extend(text.map(|text| Typed::new(field, text, flag)));
        }
        for (field, flag, text, is_typed) in [
            ("exclusive", "--exclusive", "true", self.exclusive),
            ("requeue", "--requeue", "true", self.requeue),
            ("requeue", "--no-requeue", "false", self.no_requeue),
        ] {
            typed.extend(is_typed.then(|| Typed::new(field, text, flag)));
        }
        typed.extend(self.directives.iter().map(|text| Typed::new("directives", text, "--directive")));
        typed.extend(self.without.iter().map(|text| Typed::new("remove", text, "--without")));
        for text in &self.set {
            let (field, value) = text.split_once('=').ok_or_else(|| {
                Failure::usage(format!("`--set {text}` has no `=`"))
                    .hint("write `--set FIELD=VALUE`".to_owned())
            })?;
            typed.push(Typed::new(field, value, format!("--set {field}")));
        }
        Ok(typed)
    }

    fn texts(&self) -> [(&'static str, &'static str, Option<&String>); 22] {
        [
            ("nodes", "--nodes", self.nodes.as_ref()),
            ("walltime", "--walltime", self.walltime.as_ref()),
            ("queue", "--queue", self.queue.as_ref()),
            ("account", "--account", self.account.as_ref()),
            ("project", "--project", self.project.as_ref()),
            ("qos", "--qos", self.qos.as_ref()),
            ("reservation", "--reservation", self.reservation.as_ref()),
            ("constraint", "--constraint", self.constraint.as_ref()),
            ("gpus_per_node", "--gpus-per-node", self.gpus_per_node.as_ref()),
            ("gpu_type", "--gpu-type", self.gpu_type.as_ref()),
            ("memory", "--mem", self.memory.as_ref()),
            ("memory_per_cpu", "--mem-per-cpu", self.memory_per_cpu.as_ref()),
            ("workers_per_node", "--workers-per-node", self.workers_per_node.as_ref()),
            ("cpus_per_worker", "--cpus-per-worker", self.cpus_per_worker.as_ref()),
            ("nodelist", "--nodelist", self.nodelist.as_ref()),
            ("exclude", "--exclude", self.exclude.as_ref()),
            ("mail.user", "--mail-user", self.mail_user.as_ref()),
            ("mail.types", "--mail-type", self.mail_type.as_ref()),
            ("name", "--name", self.job_name.as_ref()),
            ("comment", "--comment", self.comment.as_ref()),
            ("dependency", "--dependency", self.dependency.as_ref()),
            ("launcher.kind", "--launcher", self.launcher.as_ref()),
        ]
    }

    /// The cluster template that was named.
    pub fn template(&self) -> Result<Template, Failure> {
        let Some(name) = &self.cluster else {
            let hint = "name a template with `--cluster`; `dagmar cluster list` shows them".to_owned();
            return Err(Failure::usage("no cluster is named").hint(hint));
        };
        find(name)
    }

    /// What all that comes to.
    pub fn request(&self) -> Result<Request, Failure> {
        Request::new(&self.template()?, &self.typed()?).map_err(Failure::from)
    }
}

/// The cluster template that a user means.
pub fn find(name: &str) -> Result<Template, Failure> {
    Ok(Template::find(name, &places()?)?)
}

/// Where templates are looked for.
pub fn places() -> Result<Places, Failure> {
    Ok(Places::usual(&current_directory()?))
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Failure::usage(error.to_string()).hint(error.hint)
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Failure::usage(error.to_string()).hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::flags::Flags;
    use super::*;
    use crate::launch::field::Field;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        allocation: AllocationFlags,
    }

    #[test]
    fn the_command_line_makes_sense() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_flag_says_a_field_and_slurms_own_words_work() {
        let words = "x -N 4 --time 2h -p short -A a -J n -c 2 --exclusive --directive=--nice=5 --without memory --set margin=5";
        let typed = Line::parse_from(words.split(' ')).allocation.typed().unwrap();
        assert!(typed.iter().all(|typed| Field::find(&typed.field).is_some()), "{typed:?}");
        let fields: Vec<&str> = typed.iter().map(|typed| typed.field.as_str()).collect();
        let expected = "nodes walltime queue account cpus_per_worker name exclusive directives remove margin";
        assert_eq!(fields.join(" "), expected);
        let flags = AllocationFlags::default();
        assert!(flags.texts().iter().all(|(field, _, _)| Field::find(field).is_some()));
    }
}
