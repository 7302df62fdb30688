//! Which words call the commands of a batch system here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::System;

/// How long a command may take by default.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Which words call the commands of a batch system here, as a cluster template gives them. What is
/// empty is called by its usual name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// For `sbatch` or `qsub`. Its words before the program, such as `ssh login`, hold for the
    /// others as well, unless those are given.
    pub submit: Vec<String>,
    /// For `squeue` or `qstat`. The other questions (`scontrol`, `sacct`, `sinfo`, `qselect`) are
    /// called the same way.
    pub status: Vec<String>,
    /// For `scancel` or `qdel`.
    pub cancel: Vec<String>,
    /// The clusters that Slurm was asked for, with commas: whoever names no job asks these.
    pub clusters: Option<String>,
    /// How long one command may take.
    pub time_limit: Duration,
}

impl Default for Commands {
    fn default() -> Self {
        let (submit, status, cancel) = Default::default();
        Commands { submit, status, cancel, clusters: None, time_limit: TIME_LIMIT }
    }
}

/// The roles of commands, as a run's record calls them.
const ROLES: [&str; 3] = ["submit", "status", "cancel"];

impl Commands {
    /// The commands of a run's record.
    pub fn of_record(recorded: &BTreeMap<String, Vec<String>>) -> Commands {
        let [submit, status, cancel] = ROLES.map(|role| recorded.get(role).cloned().unwrap_or_default());
        Commands { submit, status, cancel, ..Commands::default() }
    }

    /// Those that are named, for a run's record.
    pub fn to_record(&self) -> BTreeMap<String, Vec<String>> {
        let all = ROLES.into_iter().zip([&self.submit, &self.status, &self.cancel]);
        let named = all.filter(|(_, words)| !words.is_empty());
        named.map(|(role, words)| (role.to_owned(), words.clone())).collect()
    }

    /// The words that call `program`, one of the system's own names.
    pub(crate) fn words(&self, system: System, program: &str) -> Vec<String> {
        let usual = usual_names(system);
        let given = [&self.submit, &self.status, &self.cancel];
        let own = usual.iter().position(|name| *name == program).map(|role| given[role]);
        if let Some(words) = own.filter(|words| !words.is_empty()) {
            return words.clone();
        }
        let siblings = [(usual[1], &self.status), (usual[0], &self.submit), (usual[2], &self.cancel)];
        let called_alike = siblings.iter().find_map(|(name, words)| beside(words, name, program));
        called_alike.unwrap_or_else(|| vec![program.to_owned()])
    }
}

/// The programs that submit, look and cancel.
fn usual_names(system: System) -> [&'static str; 3] {
    match system {
        System::Slurm => ["sbatch", "squeue", "scancel"],
        System::Pbs | System::Torque | System::Local => ["qsub", "qstat", "qdel"],
    }
}

/// How `program` is called where `words` call `name`: the same words before it, the same directory,
/// and nothing after it.
fn beside(words: &[String], name: &str, program: &str) -> Option<Vec<String>> {
    let place = words.iter().position(|word| word.rsplit('/').next() == Some(name))?;
    let directory = words[place].strip_suffix(name)?;
    let mut called = words[..place].to_vec();
    called.push(format!("{directory}{program}"));
    Some(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_come_back_from_a_record() {
        let commands = Commands { submit: words("ssh login sbatch"), ..Commands::default() };
        assert_eq!(commands.to_record().len(), 1);
        assert_eq!(Commands::of_record(&commands.to_record()), commands);
    }

    #[test]
    fn a_command_is_called_by_its_usual_name_if_nothing_is_said() {
        assert_eq!(Commands::default().words(System::Slurm, "squeue"), ["squeue"]);
        assert_eq!(Commands::default().words(System::Torque, "qselect"), ["qselect"]);
    }

    #[test]
    fn the_way_to_another_host_holds_for_all_commands() {
        let submit = words("ssh -o BatchMode=yes login /opt/slurm/bin/sbatch --clusters=a");
        let commands = Commands { submit: submit.clone(), ..Commands::default() };
        assert_eq!(commands.words(System::Slurm, "sbatch"), submit);
        let expected = words("ssh -o BatchMode=yes login /opt/slurm/bin/scontrol");
        assert_eq!(commands.words(System::Slurm, "scontrol"), expected);
    }

    #[test]
    fn a_wrapper_of_another_name_stands_for_its_own_command_only() {
        let commands = Commands { submit: words("/site/queue_job"), ..Commands::default() };
        assert_eq!(commands.words(System::Pbs, "qsub"), ["/site/queue_job"]);
        assert_eq!(commands.words(System::Pbs, "qstat"), ["qstat"]);
    }

    #[test]
    fn the_command_for_looking_is_the_model_of_the_other_questions() {
        let commands =
            Commands { submit: words("ssh a sbatch"), status: words("/b/squeue"), ..Commands::default() };
        assert_eq!(commands.words(System::Slurm, "sacct"), ["/b/sacct"]);
        assert_eq!(commands.words(System::Slurm, "squeue"), ["/b/squeue"]);
    }
}
