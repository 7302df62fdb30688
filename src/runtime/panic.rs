//! What a panic does: a bug in one rank ends the whole job, with a message, at once.
//!
//! A panic that unwinds out of a rank would leave the others waiting for it. One inside a task's
//! function is the task's failure and passes.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::Write;
use std::panic;
use std::sync::OnceLock;

use crate::worker::function::is_running_user_code;

use super::exit;

thread_local! {
    static IN_BODY: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of a user's program: its panics are told as any program's are, and are no bugs of ours.
pub fn in_body<T>(body: impl FnOnce() -> T) -> T {
    with_body(true, body)
}

/// Runs what is ours in the midst of such a body.
pub fn out_of_body<T>(ours: impl FnOnce() -> T) -> T {
    with_body(false, ours)
}

fn with_body<T>(is_in: bool, call: impl FnOnce() -> T) -> T {
    let before = IN_BODY.replace(is_in);
    let given = call();
    IN_BODY.set(before);
    given
}

/// What ends all ranks of this job.
static ABORT: OnceLock<fn(i32)> = OnceLock::new();

/// Installs the hook. `abort` ends all ranks with the code it is given, and may return when there
/// is only this process.
pub fn install(abort: fn(i32)) {
    let _ = ABORT.set(abort);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if is_running_user_code() {
            return;
        }
        if IN_BODY.get() {
            usual(panic);
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
