//! `dagmar cancel`: asks rank 0, through the mailbox, to end a run.

use serde_json::json;

use crate::record::mailbox::{Mailbox, Order};

use super::failure::Failure;
use super::flags::CancelFlags;
use super::output::{Format, Page, tell};
use super::past_run::PastRun;
use super::{CommandResult, OK};

/// Asks for the end of a run. A run that is over is left alone.
pub fn run(flags: &CancelFlags) -> CommandResult {
    let run = PastRun::find(Some(&flags.run))?;
    let name = run.directory.name();
    if let Some(finished) = run.finished()? {
        let words = format!("`{name}` is over already, with exit code {}", finished.exit_code);
        return answer(flags, &name, Some(finished.exit_code), &words);
    }
    let posted = Mailbox::new(run.directory.control()).post(Order::Cancel);
    posted.map_err(|error| Failure::broken(format!("cannot write into the mailbox of `{name}`: {error}")))?;
    answer(flags, &name, None, &format!("`{name}` is asked to end; `dagmar status {name}` tells when it has"))
}

fn answer(flags: &CancelFlags, name: &str, exit_code: Option<u8>, words: &str) -> CommandResult {
    match flags.output {
        Format::Human => tell(words),
        Format::Json => Page::open()
            .json(&json!({ "run": name, "asked": exit_code.is_none(), "exit_code": exit_code }))?,
    }
    Ok(OK)
}
