//! What a panic does: a bug in one rank ends the whole job, with a message, at once.
//!
//! A panic that unwinds out of a rank would leave the others waiting for it. One inside a task's
//! function is the task's failure and passes.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic;
use std::sync::OnceLock;

use crate::worker::function::is_running_user_code;

use super::exit;

/// What ends all ranks of this job.
static ABORT: OnceLock<fn(i32)> = OnceLock::new();

/// Installs the hook. `abort` ends all ranks with the code it is given, and may return when there
/// is only this process.
pub fn install(abort: fn(i32)) {
    let _ = ABORT.set(abort);
    panic::set_hook(Box::new(move |panic| {
        if is_running_user_code() {
            return;
        }
        let backtrace = Backtrace::force_capture();
        let story = format!(
            "error: a bug in dagmar: {panic}\n  hint: please report it with these lines\n{backtrace}\n"
        );
        // `eprintln!` would panic again if nobody listens.
        let _ = std::io::stderr().write_all(story.as_bytes());
        log::error!("{panic}\n{backtrace}");
        log::logger().flush();
        end_all_ranks(exit::BROKEN);
    }));
}

/// Ends every rank at once, with this exit code.
pub fn end_all_ranks(exit_code: u8) -> ! {
    if let Some(abort) = ABORT.get() {
        abort(i32::from(exit_code));
    }
    std::process::exit(i32::from(exit_code))
}
