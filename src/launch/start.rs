//! The command that starts the ranks: which launcher, with which words, on which hosts.
//!
//! The scheduler shares the first node with its workers and is counted by nobody, so every launcher
//! is told the layout host by host, and told not to bind: a worker divides what its node gives.

use std::fmt;
use std::path::Path;
use std::process::Command;

use super::plan::{LaunchPlan, LauncherKind};
use crate::core::launch_variables::PMIX_DIRECT_CONNECTIONS;

/// What MPI a program is linked with, or a launcher belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mpi {
    /// Open MPI, and what is made of it.
    OpenMpi,
    /// MPICH and its relatives that speak PMI and come with Hydra: Intel MPI, MVAPICH, Cray.
    Mpich,
}

impl Mpi {
    /// What the words of `mpirun --version` say.
    pub fn of_launcher(version: &str) -> Option<Self> {
        let is_there = |words: &[&str]| words.iter().any(|word| version.contains(word));
        if is_there(&["Open MPI", "OpenRTE", "PRTE", "prterun"]) {
            Some(Mpi::OpenMpi)
        } else if is_there(&["HYDRA", "Hydra", "Intel(R) MPI", "MPICH", "MVAPICH"]) {
            Some(Mpi::Mpich)
        } else {
            None
        }
    }

    /// The names under which its launcher may be found, the usual ones first.
    const fn launchers(self) -> [&'static str; 4] {
        match self {
            Mpi::OpenMpi => ["mpirun", "mpiexec", "mpirun.openmpi", "orterun"],
            Mpi::Mpich => ["mpiexec", "mpirun", "mpiexec.mpich", "mpiexec.hydra"],
        }
    }
}

impl fmt::Display for Mpi {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Mpi::OpenMpi => "Open MPI",
            Mpi::Mpich => "MPICH",
        })
    }
}

/// Why no launcher can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// There is none of these names.
    NoLauncher(Vec<String>),
    /// There are some, but of another MPI: which, whose, and what is needed.
    WrongLauncher(Vec<(String, Option<Mpi>)>, Mpi),
    /// The allocation has fewer nodes than the plan: how many, and how many were asked for.
    TooFewNodes(usize, u32),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoLauncher(names) => {
                write!(out, "cannot start the ranks: there is no {} on this node", listed(names))
            }
            StartError::WrongLauncher(found, mpi) => {
                let found: Vec<String> = found
                    .iter()
                    .map(|(name, of)| match of {
                        Some(of) => format!("`{name}` belongs to {of}"),
                        None => format!("`{name}` says of no MPI that is known"),
                    })
                    .collect();
                write!(
                    out,
                    "cannot start the ranks: this dagmar is linked with {mpi}, but {}",
                    found.join(", and ")
                )
            }
            StartError::TooFewNodes(here, asked) => {
                write!(out, "cannot start the ranks: the allocation has {here} of {asked} nodes")
            }
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            StartError::NoLauncher(_) | StartError::WrongLauncher(..) => {
                "load the module of the MPI that dagmar was built with (`modules` in the cluster template), or name \
                 its launcher: `launcher = { kind = \"mpirun\", command = [\"/path/to/mpirun\"] }`"
                    .to_owned()
            }
            StartError::TooFewNodes(..) => "`nodes` in the cluster template or `--nodes` must agree with what the \
                                            batch system was asked for"
                .to_owned(),
        }
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// Where the ranks go: rank 0 to the first host, then every host's workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    hosts: Vec<String>,
    workers_per_node: u32,
}

impl Layout {
    /// The first `plan.nodes` hosts of an allocation, each once.
    pub fn new(plan: &LaunchPlan, hosts: &[String]) -> Result<Self, StartError> {
        let hosts: Vec<String> = hosts.iter().take(plan.nodes as usize).cloned().collect();
        match hosts.len() < plan.nodes as usize {
            true => Err(StartError::TooFewNodes(hosts.len(), plan.nodes)),
            false => Ok(Layout { hosts, workers_per_node: plan.workers_per_node }),
        }
    }

    /// The hosts, the scheduler's first.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Scheduler and workers.
    pub fn rank_count(&self) -> u32 {
        self.hosts.len() as u32 * self.workers_per_node + 1
    }

    /// The file that tells every launcher alike which rank runs where: a line a rank, in their order.
    pub fn host_file(&self) -> String {
        let count = |number| self.workers_per_node as usize + usize::from(number == 0);
        let hosts = self.hosts.iter().enumerate();
        hosts.map(|(number, host)| format!("{host}\n").repeat(count(number))).collect()
    }

    /// The same for one process on each node.
    pub fn node_file(&self) -> String {
        self.hosts.iter().map(|host| format!("{host}\n")).collect()
    }
}

/// Finds the launcher of `plan` that belongs to `mpi`. `version` gives what a program prints with
/// `--version`, or nothing if there is no such program.
pub fn find_launcher(
    plan: &LaunchPlan,
    mpi: Mpi,
    version: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, StartError> {
    let command = &plan.launcher.command;
    match plan.launcher.kind {
        LauncherKind::Custom => return Ok(command.clone()),
        LauncherKind::Srun if command.is_empty() => return Ok(vec!["srun".to_owned()]),
        LauncherKind::Srun => return Ok(command.clone()),
        LauncherKind::Mpirun | LauncherKind::Mpiexec => {}
    }
    if command.len() > 1 {
        // A wrapper's words: whose launcher it calls cannot be asked.
        return Ok(command.clone());
    }
    let names: Vec<String> = match command.first() {
        Some(name) => vec![name.clone()],
        None => mpi.launchers().map(str::to_owned).to_vec(),
    };
    let mut others = Vec::new();
    for name in &names {
        let Some(version) = version(name) else { continue };
        match Mpi::of_launcher(&version) {
            Some(of) if of == mpi => return Ok(vec![name.clone()]),
            of => others.push((name.clone(), of)),
        }
    }
    match others.is_empty() {
        true => Err(StartError::NoLauncher(names)),
        false => Err(StartError::WrongLauncher(others, mpi)),
    }
}

/// What is started.
#[derive(Clone, Copy, Debug)]
pub struct Ranks<'a> {
    /// How.
    pub plan: &'a LaunchPlan,
    /// The launcher's words, as `find_launcher` gave them.
    pub launcher: &'a [String],
    /// The MPI of the program.
    pub mpi: Mpi,
    /// Where.
    pub layout: &'a Layout,
    /// The file that holds `Layout::host_file`.
    pub host_file: &'a Path,
}

impl Ranks<'_> {
    /// The command that starts the ranks of a run, whose arguments these are.
    pub fn command(&self, arguments: &[String]) -> Command {
        let mut command = self.start(self.layout.rank_count(), self.host_file);
        command.args(&self.plan.prefix).arg(&self.plan.program).args(arguments);
        command
    }

    /// The command that runs a shell line once on every node. `host_file` is to hold
    /// `Layout::node_file`.
    pub fn node_command(&self, line: &str, host_file: &Path) -> Command {
        let mut command = self.start(self.layout.hosts.len() as u32, host_file);
        command.args(["/bin/sh", "-c", line]);
        command
    }

    /// The launcher with everything but what it shall start.
    fn start(&self, ranks: u32, host_file: &Path) -> Command {
        let mut command = Command::new(&self.launcher[0]);
        match self.plan.launcher.kind {
            LauncherKind::Srun => self.add_srun(&mut command, ranks, host_file),
            LauncherKind::Custom => self.add_custom(&mut command, ranks, host_file),
            LauncherKind::Mpirun | LauncherKind::Mpiexec => match self.mpi {
                Mpi::OpenMpi => self.add_open_mpi(&mut command, ranks, host_file),
                Mpi::Mpich => self.add_mpich(&mut command, ranks, host_file),
            },
        }
        // By it `srun`, which mpirun calls as well, would give the ranks only what the job was given of
        // the submitting shell's variables: no PATH, and nothing that the script has set.
        command.env_remove("SLURM_EXPORT_ENV");
        // A step keeps what it has until Slurm has given up a node of it that was lost. What is started after the
        // loss must not wait for that.
        command.env("SLURM_OVERLAP", "1");
        command.envs(&self.plan.environment);
        command
    }

    fn add_open_mpi(&self, command: &mut Command, ranks: u32, host_file: &Path) {
        command.args(&self.launcher[1..]);
        command.arg("--hostfile").arg(host_file).args(["-n", &ranks.to_string()]);
        // The batch system counts no slot for the scheduler.
        command.args(["--map-by", "seq", "--oversubscribe", "--bind-to", "none"]);
        // Version 5 calls the same things by other names; each ignores what is not its own.
        for (name, value) in [
            // What mpirun gives its ranks between TERM and KILL, in seconds; it is 1 by itself. Version 4
            // sleeps that long several times when ranks fail, dead or alive.
            ("OMPI_MCA_odls_base_sigkill_timeout", "5"),
            ("PRTE_MCA_odls_base_sigkill_timeout", "5"),
        ] {
            command.env(name, value);
        }
        // Its daemons may be started by ssh, which brings no environment along.
        for name in ["PATH", "LD_LIBRARY_PATH"].into_iter().filter(|name| std::env::var_os(name).is_some()) {
            command.args(["-x", name]);
        }
        for name in self.plan.environment.keys() {
            command.args(["-x", name]);
        }
        command.args(&self.plan.launcher.args);
    }

    fn add_mpich(&self, command: &mut Command, ranks: u32, host_file: &Path) {
        command.args(&self.launcher[1..]);
        command.arg("-f").arg(host_file).args(["-n", &ranks.to_string()]);
        command.env("HYDRA_BINDING", "none");
        command.args(&self.plan.launcher.args);
    }

    fn add_srun(&self, command: &mut Command, ranks: u32, host_file: &Path) {
        command.args(&self.launcher[1..]);
        let nodes = self.layout.hosts.len();
        command.args([format!("--nodes={nodes}"), format!("--ntasks={ranks}")]);
        command.env("SLURM_HOSTFILE", host_file);
        let (name, value) = PMIX_DIRECT_CONNECTIONS;
        command.env(name, std::env::var_os(name).unwrap_or_else(|| value.into()));
        // What the job asked for in other words contradicts the layout.
        for name in ["SLURM_NTASKS_PER_NODE", "SLURM_TRES_PER_TASK", "SLURM_DISTRIBUTION", "SLURM_EXACT"] {
            command.env_remove(name);
        }
        command.args([
            "--distribution=arbitrary",
            // The scheduler shares its node's cores, and tasks start steps beside this one.
            "--overlap",
            "--overcommit",
            "--cpu-bind=none",
            "--mem=0",
            // Ranks end together, after the outcome is written: one that dies alone ends the others,
            // which would wait for it until the walltime.
            "--kill-on-bad-exit=1",
        ]);
        if !self.plan.launcher.args.iter().any(|word| word.starts_with("--mpi")) {
            command.arg(match self.mpi {
                Mpi::OpenMpi => "--mpi=pmix",
                Mpi::Mpich => "--mpi=pmi2",
            });
        }
        command.args(&self.plan.launcher.args);
    }

    /// A template's own command, with what it names by placeholders.
    fn add_custom(&self, command: &mut Command, ranks: u32, host_file: &Path) {
        let (nodes, hosts) = (self.layout.hosts.len().to_string(), self.layout.hosts.join(","));
        let known = [
            ("{ranks}", ranks.to_string()),
            ("{nodes}", nodes),
            ("{hosts}", hosts),
            ("{hostfile}", host_file.display().to_string()),
            ("{workers_per_node}", self.plan.workers_per_node.to_string()),
        ];
        let fill =
            |word: &String| known.iter().fold(word.clone(), |word, (name, value)| word.replace(name, value));
        command.args(self.launcher[1..].iter().map(fill));
        command.args(self.plan.launcher.args.iter().map(fill));
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn plan(kind: LauncherKind, nodes: u32, workers_per_node: u32) -> LaunchPlan {
        let mut plan = LaunchPlan::new("test", nodes, "/opt/dagmar".into());
        plan.launcher.kind = kind;
        plan.workers_per_node = workers_per_node;
        plan
    }

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn words(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    const OPEN_MPI: &str = "mpirun (Open MPI) 4.1.4\n\nReport bugs to ...";
    const HYDRA: &str = "HYDRA build details:\n    Version:  4.0.2";

    fn versions<'a>(known: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| known.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn the_scheduler_shares_the_first_node() {
        let layout = Layout::new(&plan(LauncherKind::Mpirun, 2, 2), &hosts(&["a", "b", "c"])).unwrap();
        assert_eq!((layout.rank_count(), layout.hosts().len()), (5, 2));
        assert_eq!(layout.host_file(), "a\na\na\nb\nb\n");
        assert_eq!(layout.node_file(), "a\nb\n");
    }

    #[test]
    fn an_allocation_that_is_too_small_is_refused() {
        let refused = Layout::new(&plan(LauncherKind::Srun, 3, 1), &hosts(&["a", "b"]));
        assert_eq!(refused, Err(StartError::TooFewNodes(2, 3)));
    }

    #[test]
    fn the_launcher_of_the_right_mpi_is_found() {
        let both = [("mpirun", OPEN_MPI), ("mpiexec.mpich", HYDRA)];
        let plan = plan(LauncherKind::Mpirun, 1, 1);
        let found = |mpi| find_launcher(&plan, mpi, &versions(&both)).unwrap();
        assert_eq!(found(Mpi::OpenMpi), ["mpirun"]);
        assert_eq!(found(Mpi::Mpich), ["mpiexec.mpich"]);
    }

    #[test]
    fn the_launcher_of_another_mpi_is_refused_in_words() {
        let known = [("mpirun", OPEN_MPI), ("mpiexec", OPEN_MPI)];
        let plan = plan(LauncherKind::Mpirun, 1, 1);
        let text = |mpi, known: &[(&str, &str)]| {
            find_launcher(&plan, mpi, &versions(known)).unwrap_err().to_string()
        };
        insta::assert_snapshot!(text(Mpi::Mpich, &known), @"cannot start the ranks: this dagmar is linked with MPICH, but `mpiexec` belongs to Open MPI, and `mpirun` belongs to Open MPI");
        insta::assert_snapshot!(text(Mpi::OpenMpi, &[]), @"cannot start the ranks: there is no `mpirun` or `mpiexec` or `mpirun.openmpi` or `orterun` on this node");
        insta::assert_snapshot!(text(Mpi::OpenMpi, &[("mpirun", "mystery 7")]), @"cannot start the ranks: this dagmar is linked with Open MPI, but `mpirun` says of no MPI that is known");
    }

    #[test]
    fn what_a_template_names_is_used() {
        let mut plan = plan(LauncherKind::Mpirun, 1, 1);
        plan.launcher.command = vec!["/opt/openmpi/bin/mpirun".into()];
        let known = [("/opt/openmpi/bin/mpirun", OPEN_MPI)];
        assert_eq!(
            find_launcher(&plan, Mpi::OpenMpi, &versions(&known)).unwrap(),
            ["/opt/openmpi/bin/mpirun"]
        );
        plan.launcher.command = vec!["wrapper".into(), "mpirun".into()];
        assert_eq!(find_launcher(&plan, Mpi::Mpich, &versions(&[])).unwrap(), ["wrapper", "mpirun"]);
    }

    #[test]
    fn the_ranks_get_the_environment_of_the_script() {
        let layout = Layout::new(&plan(LauncherKind::Srun, 1, 1), &hosts(&["a"])).unwrap();
        for kind in [LauncherKind::Srun, LauncherKind::Mpirun, LauncherKind::Mpiexec, LauncherKind::Custom] {
            let (plan, launcher) = (plan(kind, 1, 1), hosts(&["start"]));
            let ranks = Ranks {
                plan: &plan,
                launcher: &launcher,
                mpi: Mpi::OpenMpi,
                layout: &layout,
                host_file: "h".as_ref(),
            };
            let command = ranks.command(&[]);
            let is_removed =
                |(name, value): (&OsStr, Option<_>)| name == "SLURM_EXPORT_ENV" && value.is_none();
            assert!(command.get_envs().any(is_removed), "{kind:?}");
            let (name, value) = PMIX_DIRECT_CONNECTIONS;
            let told = command.get_envs().any(|variable| variable == (name.as_ref(), Some(value.as_ref())));
            assert_eq!(told, kind == LauncherKind::Srun, "{kind:?}");
        }
    }

    #[test]
    fn every_launcher_is_told_the_layout() {
        let line = |kind, mpi, command: &[&str]| {
            let mut plan = plan(kind, 2, 1);
            plan.launcher.args = vec!["--extra".into(), "{nodes}".into()];
            plan.prefix = vec!["apptainer".into(), "exec".into()];
            plan.environment.insert("LANG".into(), "C".into());
            let layout = Layout::new(&plan, &hosts(&["a", "b"])).unwrap();
            let launcher = hosts(command);
            let ranks =
                Ranks { plan: &plan, launcher: &launcher, mpi, layout: &layout, host_file: "h".as_ref() };
            let text = words(&ranks.command(&["run".to_owned()]));
            text.replace(" -x LD_LIBRARY_PATH", "")
        };
        let lines = [
            line(LauncherKind::Mpirun, Mpi::OpenMpi, &["mpirun"]),
            line(LauncherKind::Mpiexec, Mpi::Mpich, &["mpiexec"]),
            line(LauncherKind::Srun, Mpi::OpenMpi, &["srun"]),
            line(LauncherKind::Srun, Mpi::Mpich, &["srun"]),
            line(LauncherKind::Custom, Mpi::Mpich, &["start", "-n{ranks}", "{hostfile}", "{hosts}"]),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        mpirun --hostfile h -n 3 --map-by seq --oversubscribe --bind-to none -x PATH -x LANG --extra {nodes} apptainer exec /opt/dagmar run
        mpiexec -f h -n 3 --extra {nodes} apptainer exec /opt/dagmar run
        srun --nodes=2 --ntasks=3 --distribution=arbitrary --overlap --overcommit --cpu-bind=none --mem=0 --kill-on-bad-exit=1 --mpi=pmix --extra {nodes} apptainer exec /opt/dagmar run
        srun --nodes=2 --ntasks=3 --distribution=arbitrary --overlap --overcommit --cpu-bind=none --mem=0 --kill-on-bad-exit=1 --mpi=pmi2 --extra {nodes} apptainer exec /opt/dagmar run
        start -n3 h a,b --extra 2 apptainer exec /opt/dagmar run
        ");
    }
}
