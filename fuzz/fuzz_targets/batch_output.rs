//! Whatever a batch system prints, in answers, variables and host files.

#![no_main]

use dagmar::launch::allocation::{self, Allocation};
use dagmar::launch::{pbs, slurm};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    slurm::read_everything_from(&text);
    pbs::read_everything_from(&text);
    let _ = allocation::expand(&text);
    let _ = allocation::host_file(&text);
    // The node file of PBS would be looked for on the disk.
    let lookup = |name: &str| (!name.starts_with("PBS")).then(|| text.to_string());
    let _ = Allocation::from_variables(&lookup);
});
