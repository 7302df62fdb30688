//! Last words: what a rank says when a function of a task ends it, before it ends.
//!
//! A function runs in its rank. If it touches memory that is not there, aborts or calls `exit`, the rank goes with
//! it. Then the thread that does so writes which attempt it is at (`record/last_words`) and goes on to end as it
//! would have: the same core dump, the same message of the MPI, the same code. Only the thread's own attempt is
//! ever named; a signal from another process, or in a thread that runs no task, accuses nobody.
//!
//! What runs in here runs in the midst of a crash: no allocation, no lock, system calls only.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Once, OnceLock};

use nix::libc::{self, c_int, c_void, sigaction, siginfo_t};

use crate::core::id::{Attempt, Rank, TaskId};
use crate::record::last_words;

/// The signals by which a process ends itself.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What a process ends with whose function called `exit`: a rank is lost. The function's own code might say that all
/// is well.
const EXIT_CODE: c_int = 5;

/// Room for a line.
const LINE_BYTES: usize = 512;

/// How often a thread that would end the process looks whether another one has written its words, and how long it
/// sleeps between. A file system that takes longer than a second is not waited for.
const LOOKS: u32 = 200;
const LOOK_EVERY_NS: i64 = 5_000_000;

/// Where the functions of a worker leave their last words.
#[derive(Debug)]
pub struct Place {
    path: CString,
    rank: Rank,
}

impl Place {
    /// The place of the rank that writes this pack, for as long as the process lives: a function may outlive its run.
    pub fn beside(pack: &Path, rank: Rank) -> &'static Place {
        let path = CString::new(last_words::beside(pack).as_os_str().as_bytes());
        let path = path.expect("a path that was opened has no zero in it");
        Box::leak(Box::new(Place { path, rank }))
    }
}

thread_local! {
    /// The attempt that this thread is at, in one word; 0 if there is none, for tries count from 1.
    static ATTEMPT: Cell<u64> = const { Cell::new(0) };
    /// The name of the function that it calls.
    static FUNCTION: Cell<(*const u8, usize)> = const { Cell::new((ptr::null(), 0)) };
    static PLACE: Cell<Option<&'static Place>> = const { Cell::new(None) };
}

/// What was there before for each of the signals.
static BEFORE: [OnceLock<sigaction>; SIGNALS.len()] = [const { OnceLock::new() }; SIGNALS.len()];

/// True once something was said: what follows follows from it.
static HAS_SPOKEN: AtomicBool = AtomicBool::new(false);

/// True once what was said is written.
static IS_WRITTEN: AtomicBool = AtomicBool::new(false);

/// True once the process ends as it should. A function that still runs may find what it uses gone, and is not to blame.
static IS_LEAVING: AtomicBool = AtomicBool::new(false);

/// The process that writes last words, and not what a function forks; 0 before it does.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// From now on this process writes last words. What others do at these signals, they do after.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        PROCESS.store(this_process(), Ordering::SeqCst);
        for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
            if let Some(found) = exchange(signal, None) {
                let _ = before.set(found);
                exchange(signal, Some(&ours()));
            }
        }
        // SAFETY: the function lives as long as the process, and takes nothing.
        unsafe { libc::atexit(on_exit) };
    });
}

/// From now on the process ends as it should, and nobody is to blame for what happens meanwhile.
pub fn leave() {
    IS_LEAVING.store(true, Ordering::SeqCst);
}

fn this_process() -> c_int {
    // SAFETY: the call has no conditions.
    unsafe { libc::getpid() }
}

/// This thread runs functions of a worker with this place.
pub fn work_at(place: Option<&'static Place>) {
    PLACE.set(place);
}

/// Calls a function of a task. If it unwinds, whoever catches that calls `is_over`.
pub fn at_attempt<T>((task, attempt): (TaskId, Attempt), function: &str, call: impl FnOnce() -> T) -> T {
    FUNCTION.set((function.as_ptr(), function.len()));
    ATTEMPT.set(u64::from(task.0) << 32 | u64::from(attempt.0));
    let returned = call();
    is_over();
    returned
}

/// This thread is at no attempt any more.
pub fn is_over() {
    ATTEMPT.set(0);
}

/// Asks for what is done at a signal, or changes it; what it was before.
fn exchange(signal: c_int, to: Option<&sigaction>) -> Option<sigaction> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: both point to what the call expects, or to nothing; it fills `before` if it succeeds.
    unsafe {
        let done = libc::sigaction(signal, to.map_or(ptr::null(), ptr::from_ref), before.as_mut_ptr());
        (done == 0).then(|| before.assume_init())
    }
}

fn ours() -> sigaction {
    // SAFETY: zeros are a valid value: no flags, no signals in the mask.
    let mut action: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as *const () as usize;
    // Rust's threads have a second stack: the first may be what is at an end.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    action
}

fn default() -> sigaction {
    // SAFETY: as above.
    let mut action: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = libc::SIG_DFL;
    action
}

extern "C" fn on_signal(signal: c_int, told: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives the details of the signal to who asked for them.
    let (is_fault, sender) = unsafe { ((*told).si_code > 0, (*told).si_pid()) };
    let is_own = is_fault || sender == this_process();
    let has_spoken = is_own && speak(Some(signal));
    if !has_spoken {
        await_words();
    }
    pass_on(signal, (told, context), is_fault);
    let lives_on = exchange(signal, None).is_some_and(|now| now.sa_sigaction == ours().sa_sigaction);
    if has_spoken && lives_on {
        take_back();
    }
}

extern "C" fn on_exit() {
    if PROCESS.load(Ordering::SeqCst) != this_process() {
        return;
    }
    let has_spoken = speak(None);
    if !has_spoken {
        await_words();
    }
    if !is_at_attempt() {
        leave();
    }
    if has_spoken {
        // SAFETY: the first call writes what the function has printed; the second ends the process.
        unsafe {
            libc::fflush(ptr::null_mut());
            libc::_exit(EXIT_CODE);
        }
    }
}

/// Does what would have been done.
fn pass_on(signal: c_int, (told, context): (*mut siginfo_t, *mut c_void), is_fault: bool) {
    let place = SIGNALS.iter().position(|other| *other == signal);
    let before = place.and_then(|place| BEFORE[place].get());
    let before = before.filter(|before| ![libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction));
    match before {
        Some(before) => {
            if before.sa_flags & libc::SA_RESETHAND != 0 {
                exchange(signal, Some(&default()));
            }
            // SAFETY: the one who installed the action said by its flags which of the two it is.
            unsafe {
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    let action: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                        std::mem::transmute(before.sa_sigaction);
                    action(signal, told, context);
                } else {
                    let action: extern "C" fn(c_int) = std::mem::transmute(before.sa_sigaction);
                    action(signal);
                }
            }
        }
        None => drop(exchange(signal, Some(&default()))),
    }
    // A fault happens again once this returns; what was only sent does not.
    let is_default = exchange(signal, None).is_some_and(|now| now.sa_sigaction == libc::SIG_DFL);
    if !is_fault && is_default {
        // SAFETY: the call takes a number. The signal comes once this one has been handled.
        unsafe { libc::raise(signal) };
    }
}

fn is_at_attempt() -> bool {
    ATTEMPT.get() != 0 && PLACE.get().is_some()
}

/// Another thread may be about to write its words: this one ends the process only after that.
fn await_words() {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: LOOK_EVERY_NS };
    for _ in 0..LOOKS {
        let is_speaking = HAS_SPOKEN.load(Ordering::SeqCst) && !IS_WRITTEN.load(Ordering::SeqCst);
        if !is_speaking || PROCESS.load(Ordering::SeqCst) != this_process() {
            return;
        }
        // SAFETY: it reads the time, and is not asked for what is left of it.
        unsafe { libc::nanosleep(&raw const pause, ptr::null_mut()) };
    }
}

/// Writes which attempt this thread is at, if it is at any. True if that was done.
fn speak(signal: Option<c_int>) -> bool {
    let (attempt, place) = (ATTEMPT.get(), PLACE.get());
    let (true, Some(place)) = (attempt != 0, place) else { return false };
    if IS_LEAVING.load(Ordering::SeqCst) || PROCESS.load(Ordering::SeqCst) != this_process() {
        return false;
    }
    if HAS_SPOKEN.swap(true, Ordering::SeqCst) {
        return false;
    }
    let (task, attempt) = (attempt >> 32, attempt & u64::from(u32::MAX));
    let mut line = Line::default();
    line.text(b"task ").number(task).text(b" attempt ").number(attempt);
    match signal {
        Some(signal) => line.text(b" signal ").number(signal as u64),
        None => line.text(b" exit"),
    };
    line.text(b"\n");
    // SAFETY: the path lives until the call returns.
    let file = unsafe {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        libc::open(place.path.as_ptr(), flags, 0o600)
    };
    // A descriptor that was not opened fails every call.
    line.write_to(file);
    let (name, length) = FUNCTION.get();
    // SAFETY: the function's name is held by its caller, which has not returned.
    let name = unsafe { std::slice::from_raw_parts(name, length) };
    let mut line = Line::default();
    line.text(b"error: the function `").text(name).text(b"` (task number ").number(task);
    line.text(b" of the run, try ").number(attempt).text(b") killed rank ").number(u64::from(place.rank.0));
    match signal {
        Some(signal) => line.text(b" with signal ").number(signal as u64),
        None => line.text(b" by calling `exit`"),
    };
    line.text(b"\n  hint: a run of a graph file goes on with `dagmar resume`\n");
    line.write_to(libc::STDERR_FILENO);
    IS_WRITTEN.store(true, Ordering::SeqCst);
    // SAFETY: calls with a number.
    unsafe {
        libc::fsync(file);
        libc::close(file);
    }
    true
}

/// Somebody has dealt with the signal, as the runtimes of some languages do, and the process lives.
fn take_back() {
    if let Some(place) = PLACE.get() {
        // SAFETY: the path ends with a zero and lives as long as the process.
        unsafe { libc::unlink(place.path.as_ptr()) };
    }
    IS_WRITTEN.store(false, Ordering::SeqCst);
    HAS_SPOKEN.store(false, Ordering::SeqCst);
}

/// A line that is put together without memory from anywhere. What does not fit is left out.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line { bytes: [0; LINE_BYTES], length: 0 }
    }
}

impl Line {
    fn text(&mut self, text: &[u8]) -> &mut Self {
        let room = &mut self.bytes[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text[..length]);
        self.length += length;
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let (mut place, mut rest) = (digits.len(), number);
        loop {
            place -= 1;
            digits[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.text(&digits[place..]);
            }
        }
    }

    fn write_to(&self, file: c_int) {
        // SAFETY: the bytes are there, so many.
        unsafe { libc::write(file, self.bytes.as_ptr().cast(), self.length) };
    }
}

/// A function for trying out what a crash does: it ends its rank, in the way that it is told.
pub fn crash(how: &str) -> Result<(), String> {
    match how {
        "segv" => {
            // SAFETY: it is not: that is what it is for. No object lies there, and nothing goes on after it.
            unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
            Ok(())
        }
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "overflow" => {
            std::hint::black_box(overflow(1));
            Ok(())
        }
        "fork" => fork(),
        _ => Err(format!("`crash` knows `segv`, `abort`, `exit`, `overflow` and `fork`, not `{how}`")),
    }
}

/// Forks, and the child ends by `exit`: with that the rank has nothing to do.
fn fork() -> Result<(), String> {
    const CODE: c_int = 7;
    let mut status = 0;
    // SAFETY: the child calls nothing but `exit`, as a function of somebody else's library would.
    let child = unsafe {
        match libc::fork() {
            0 => libc::exit(CODE),
            child => child,
        }
    };
    // SAFETY: the status is there until the call returns.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    match waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == CODE {
        true => Ok(()),
        false => Err(format!("the forked process ended with status {status}")),
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + frame[depth as usize % 64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_what_fits() {
        let mut line = Line::default();
        line.text(b"a ").number(0).text(b" ").number(u64::MAX).text(&[b'x'; 1000]);
        let text = std::str::from_utf8(&line.bytes[..line.length]).unwrap();
        assert!(text.starts_with("a 0 18446744073709551615xxx"));
        assert_eq!(text.len(), LINE_BYTES);
    }

    #[test]
    fn words_are_written_once_and_only_by_a_process_that_is_not_leaving() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::beside(&directory.path().join("rank-3.pack"), Rank(3));
        let file = directory.path().join("rank-3.last-words");
        let at = |call: fn() -> bool| at_attempt((TaskId(3), Attempt(2)), "f", call);
        let speaks = || at(|| speak(Some(libc::SIGSEGV)));
        work_at(Some(place));
        assert!(!speaks(), "nobody listens yet");
        PROCESS.store(this_process(), Ordering::SeqCst);
        leave();
        assert!(!speaks() && !file.exists());
        IS_LEAVING.store(false, Ordering::SeqCst);
        assert!(!speak(None), "no attempt");
        assert!(speaks() && !speaks());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "task 3 attempt 2 signal 11\n");
        take_back();
        assert!(!file.exists());
        PROCESS.store(this_process() + 1, Ordering::SeqCst);
        assert!(!speaks() && !file.exists(), "what was forked");
        // Another thread is writing.
        PROCESS.store(this_process(), Ordering::SeqCst);
        HAS_SPOKEN.store(true, Ordering::SeqCst);
        let has_written = std::sync::Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let has_written = has_written.clone();
            move || {
                std::thread::sleep(std::time::Duration::from_millis(20));
                has_written.store(true, Ordering::SeqCst);
                IS_WRITTEN.store(true, Ordering::SeqCst);
            }
        });
        await_words();
        assert!(has_written.load(Ordering::SeqCst));
        writer.join().unwrap();
        take_back();
        PROCESS.store(0, Ordering::SeqCst);
        work_at(None);
    }

    #[test]
    fn a_thread_is_at_an_attempt_while_it_calls_the_function() {
        let at = at_attempt((TaskId(3), Attempt(2)), "f", || ATTEMPT.get());
        assert_eq!((at, ATTEMPT.get()), (3 << 32 | 2, 0));
    }
}
