//! `dagmar cancel`: asks rank 0, through the mailbox, to end a run.

use crate::record::mailbox::{Mailbox, Order};

use super::failure::Failure;
use super::flags::CancelFlags;
use super::output::tell;
use super::past_run::PastRun;
use super::{CommandResult, OK};

/// Asks for the end of a run. A run that is over is left alone.
pub fn run(flags: &CancelFlags) -> CommandResult {
    let run = PastRun::find(Some(&flags.run))?;
    let name = run.directory.name();
    if let Some(finished) = run.finished()? {
        tell(&format!("`{name}` is over already, with exit code {}", finished.exit_code));
        return Ok(OK);
    }
    let posted = Mailbox::new(run.directory.control()).post(Order::Cancel);
    posted.map_err(|error| Failure::broken(format!("cannot write into the mailbox of `{name}`: {error}")))?;
    tell(&format!("`{name}` is asked to end; `dagmar status {name}` tells when it has"));
    Ok(OK)
}
