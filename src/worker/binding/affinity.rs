//! The system's side of binding: masks of CPUs.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// A mask of these CPUs. Numbers past the 1024 that a mask holds are an error.
pub fn cpu_set(cpus: &[u32]) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu as usize)?;
    }
    Ok(set)
}

/// Keeps this thread, and all that it starts from now on, on these CPUs.
pub fn restrict_this_thread(cpus: &[u32]) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), &cpu_set(cpus)?)
}
