//! Which MPI this program is linked with. It can be asked before MPI is started.

use std::fmt;

use super::fence;

/// The MPI library of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Whose it is.
    pub family: Family,
    /// Its version, as `4.1.4`; the library's own words if they name none.
    pub version: String,
}

/// The MPI libraries that differ in how their programs are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Open MPI.
    OpenMpi,
    /// MPICH, and what is made from it and says so, as Cray's.
    Mpich,
    /// Intel MPI.
    IntelMpi,
    /// MVAPICH.
    Mvapich,
    /// Any other.
    Other,
}

/// The library, in the words of its own `MPI_Get_library_version`.
pub fn library() -> Library {
    Library::read(&fence::library_version())
}

impl Library {
    fn read(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        // MVAPICH and Intel MPI are made from MPICH and may name it: they come first.
        let families = [
            ("open mpi", Family::OpenMpi),
            ("mvapich", Family::Mvapich),
            ("intel(r) mpi", Family::IntelMpi),
            ("mpich", Family::Mpich),
        ];
        let found = families.into_iter().find(|(name, _)| lower.contains(name));
        let (name, family) = found.unwrap_or(("", Family::Other));
        let rest = lower.find(name).map_or("", |at| &text[at + name.len()..]);
        let version = first_version(rest).unwrap_or_else(|| one_line(text));
        Library { family, version }
    }

    /// Which launcher starts programs of this library, and with what under Slurm.
    pub fn how_to_start(&self) -> &'static str {
        match self.family {
            Family::OpenMpi => "start it with Open MPI's `mpirun` or, in a Slurm job, with `srun --mpi=pmix`",
            Family::Mpich | Family::Mvapich => {
                "start it with this MPI's own `mpiexec` (on Debian `mpiexec.mpich`) or, in a Slurm job, with `srun --mpi=pmi2`"
            }
            Family::IntelMpi => {
                "start it with Intel MPI's `mpirun` or, in a Slurm job, with `srun --mpi=pmi2` and `I_MPI_PMI_LIBRARY`"
            }
            Family::Other => "start it with the mpirun of the MPI it was built with",
        }
    }

    /// True if ranks on several nodes may hang in `MPI_Finalize`.
    ///
    /// MPICH over UCX closes its connections while the other ranks already wait in its launcher's
    /// barrier and answer no more; they need not be closed at all.
    pub(super) fn may_hang_at_the_end(&self) -> bool {
        matches!(self.family, Family::Mpich | Family::Mvapich)
    }
}

impl fmt::Display for Library {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.family {
            Family::OpenMpi => "Open MPI",
            Family::Mpich => "MPICH",
            Family::IntelMpi => "Intel MPI",
            Family::Mvapich => "MVAPICH",
            Family::Other => "the MPI",
        };
        write!(out, "{name} {}", self.version)
    }
}

/// The first word that begins with a digit after a possible `v`, and has a dot.
fn first_version(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| c.is_whitespace() || ",:;()".contains(c));
    let version = |word: &str| {
        let word = word.strip_prefix('v').unwrap_or(word);
        (word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')).then(|| word.to_owned())
    };
    words.find_map(version)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_names_itself_and_its_version() {
        let told = [
            (
                "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022",
                "Open MPI 4.1.4",
            ),
            ("MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7 12:34:45 CDT 2022\n", "MPICH 4.0.2"),
            ("MPI VERSION    : CRAY MPICH version 8.1.25.17 (ANL base 3.4a2)\n", "MPICH 8.1.25.17"),
            ("Intel(R) MPI Library 2021.9 for Linux* OS\n", "Intel MPI 2021.9"),
            ("MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date : Wed March 2\n", "MVAPICH 2.3.7"),
            ("A library\nof one's own", "the MPI A library of one's own"),
        ];
        for (text, name) in told {
            assert_eq!(Library::read(text).to_string(), name);
        }
    }

    #[test]
    fn this_library_is_known_before_mpi_starts() {
        let library = library();
        assert_ne!(library.family, Family::Other, "{library}");
        assert!(library.version.starts_with(|c: char| c.is_ascii_digit()), "{library}");
    }
}
