//! `dagmar resume`: goes on with a run whose processes ended, here, alone or as one rank of several.

use super::CommandResult;
use super::flags::ResumeFlags;
use super::preparation::Preparation;
use super::run::run_here;

/// Takes a run up where its journal ends, or is one of the ranks that do.
pub fn run(flags: &ResumeFlags) -> CommandResult {
    run_here(&flags.here, || Preparation::of_resumed(flags))
}
