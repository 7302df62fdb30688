//! What happened. The journal, the status, the report and every view are made of events alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::addition::{Addition, Numbering};
use super::batch::Batch;
use super::edit::Edit;
use super::id::{Attempt, Incarnation, Rank, TaskId};
use super::resources::{Resources, spoken_bytes};
use super::slot::Slot;
use super::span::Span;
use super::time::{Micros, Timestamp};

/// Something that happened, as rank 0 learned of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The run began.
    RunStarted {
        /// Tasks that this run will do, hidden joins not counted.
        tasks: u32,
    },
    /// The run goes on after all its processes ended. Workers are new, and what was not durable and is still
    /// needed waits again.
    RunResumed {
        /// Which life of the run this is; the first one began with `RunStarted`.
        life: u32,
        /// The tasks to do, hidden ones among them.
        to_do: Vec<Span>,
    },
    /// A worker reported for work.
    WorkerJoined {
        /// Which.
        worker: Rank,
        /// Which life of it.
        incarnation: Incarnation,
        /// The node it runs on.
        host: String,
        /// What it has.
        capacity: Resources,
    },
    /// A worker was given up.
    WorkerLost {
        /// Which.
        worker: Rank,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// A worker left in order.
    WorkerLeft {
        /// Which.
        worker: Rank,
        /// What it did over its life.
        totals: Totals,
    },
    /// An attempt has been running for a while. Short ones are only reported when they end.
    TaskStarted {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// Where.
        worker: Rank,
        /// When, on the worker's clock.
        started: Timestamp,
    },
    /// Tasks ran to success.
    TasksFinished {
        /// Where.
        worker: Rank,
        /// Which, when and how long, and how large their outputs are.
        batch: Batch,
    },
    /// Outputs of finished tasks are on the disk, synced: whatever ends now, these tasks need not run again.
    TasksDurable {
        /// Who wrote them.
        worker: Rank,
        /// Which try it was of each.
        attempt: Attempt,
        /// The tasks.
        tasks: Vec<Span>,
    },
    /// An attempt ended badly.
    AttemptFailed {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// Where.
        worker: Rank,
        /// When and why.
        failure: Failure,
        /// True if the task will be tried again.
        retried: bool,
    },
    /// A finished task's output is gone, and it must run again because the output is needed.
    OutputLost {
        /// The task.
        task: TaskId,
    },
    /// The task will not run because one it depends on failed.
    TaskAborted {
        /// The task.
        task: TaskId,
        /// The failed task upstream.
        because: TaskId,
    },
    /// The task will not run, or was ended, because a person said so.
    TaskCancelled {
        /// The task.
        task: TaskId,
    },
    /// The run is being stopped before its end.
    RunStopping {
        /// Why.
        reason: StopReason,
    },
    /// The run is over.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
    },
    /// The workers of a multi-node task were idle, and the first of them, its lead, was given it.
    MultiNodeAssigned {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// The workers, which run nothing else until it ends; the lead is the first.
        workers: Vec<Rank>,
        /// The node of each.
        hosts: Vec<String>,
    },
    /// An attempt holds particular things from its start to its end. Recorded only if there are any.
    TaskBound {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// Where.
        worker: Rank,
        /// What it holds.
        slot: Box<Slot>,
    },
    /// An attempt submitted tasks and left its output to them: its task has become another, which takes theirs.
    TasksAdded {
        /// The task that submitted them.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// Where.
        worker: Rank,
        /// When the attempt started, on the worker's clock.
        started: Timestamp,
        /// How long it ran.
        ran: Micros,
        /// What the new tasks, their operations and options are numbered from.
        numbering: Numbering,
        /// The tasks.
        addition: Box<Addition>,
    },
    /// Tasks that this run does not do, as their files are there and not older than what they are made of.
    TasksSkipped {
        /// The tasks.
        tasks: Vec<Span>,
    },
    /// The run goes on with another graph: from here on, numbers of tasks are those of this one. `RunResumed`
    /// comes next.
    GraphEdited(Box<Edit>),
    /// From now on a task asks for so much memory: it ran out of what it had, or nobody has as much any more.
    MemorySet {
        /// The task.
        task: TaskId,
        /// What its new options are numbered from.
        numbering: Numbering,
        /// Bytes.
        memory_bytes: u64,
    },
    /// A client submitted tasks.
    TasksSubmitted {
        /// What stands for the client in the graph.
        client: TaskId,
        /// What the new tasks, their operations and options are numbered from.
        numbering: Numbering,
        /// The tasks.
        addition: Box<Addition>,
    },
}

/// An attempt that ran to success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// When it started, on its worker's clock.
    pub started: Timestamp,
    /// How long it ran.
    pub ran: Micros,
    /// Bytes of its value.
    pub size_bytes: u64,
    /// Bytes of each file it declared as an output, in the order of declaration.
    pub file_sizes: Vec<u64>,
}

/// An attempt that ended without an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When it started, on its worker's clock.
    pub started: Timestamp,
    /// How long it ran.
    pub ran: Micros,
    /// Why.
    pub cause: Cause,
}

/// Why an attempt ended without an output. Each failed attempt has exactly one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// The program ended with a code other than 0.
    ExitCode(i32),
    /// The program was ended by a signal that dagmar did not send.
    Signal(i32),
    /// It took longer than its `timeout`.
    Timeout(Micros),
    /// It took more memory than it may, or the system killed it for want of memory.
    OutOfMemory(Shortage),
    /// It ended well but did not write a file that it declares.
    MissingOutput(String),
    /// A file that it needs was not to be seen.
    MissingInput(String),
    /// It printed more than its `capture_limit`, in bytes.
    CaptureLimit(u64),
    /// It could not be started: the program, and why.
    NotStarted(String),
    /// The function refused its arguments or failed: its own words.
    Function(String),
    /// The function panicked: its message.
    Panic(String),
    /// Its output could not be written into the run directory: the path and why.
    NotRecorded(String),
    /// The rank it ran on was lost.
    LostRank(Rank),
    /// The rank it was given to has lost its spawner, and so can run no command any more.
    NoSpawner,
    /// A person cancelled it.
    Cancelled,
    /// The run was told to stop before its end.
    Stopped,
    /// It left its output to tasks that it submitted. This is no failure, and ends as none: its task becomes
    /// another.
    HandedOn(Box<Addition>),
    /// It ended the rank that it ran in, as that rank's last words say.
    KilledRank {
        /// How.
        death: Death,
        /// How often its task has done so by now.
        times: u32,
        /// How often a task may at the most, this time included.
        limit: u32,
    },
    /// An input of it, by position, is lost although it was there: its task must be done again. This is no failure of
    /// the attempt, and is never recorded.
    LostInput(u32),
    /// Its Python function raised an exception, which whoever waits for it gets.
    Raised(Box<Raised>),
}

/// An exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// In words, and where.
    pub text: String,
    /// As Python pickled it; empty if that could not be.
    #[serde(with = "crate::core::octets")]
    pub pickled: Vec<u8>,
}

/// What is known of a want of memory; numbers that are not are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// What the task may take.
    pub limit_bytes: u64,
    /// What it took.
    pub used_bytes: u64,
    /// True if it would have been tried again with more, and no worker has more.
    pub is_most: bool,
}

impl fmt::Display for Shortage {
    /// Follows "ran out of memory".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.limit_bytes, self.used_bytes) {
            (0, 0) => write!(out, ": the system killed it")?,
            (0, used) => write!(out, ": it used {}, and the system killed it", spoken_bytes(used))?,
            (limit, 0) => write!(out, ": its limit is {}", spoken_bytes(limit))?,
            (limit, used) => {
                write!(out, ": its limit is {}, it used {}", spoken_bytes(limit), spoken_bytes(used))?
            }
        }
        match self.is_most {
            true => write!(out, "; no worker has more for it"),
            false => Ok(()),
        }
    }
}

/// How a function ended the process that called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    /// By a signal that it raised.
    Signal(i32),
    /// By calling `exit`.
    Exit,
}

impl fmt::Display for Death {
    /// Completes "it ended its rank ...": `with signal 11 (SEGV)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Signal(signal) => write!(out, "with signal {signal}{}", signal_name(*signal)),
            Death::Exit => write!(out, "by calling `exit`"),
        }
    }
}

impl Cause {
    /// True if the fault lies with the machines and not with the task: it costs no retry.
    pub const fn is_infrastructure(&self) -> bool {
        matches!(self, Cause::LostRank(_) | Cause::NoSpawner)
    }
}

impl fmt::Display for Cause {
    /// Completes "`task` ...": `exited with 1`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::ExitCode(code) => write!(out, "exited with {code}"),
            Cause::Signal(signal) => write!(out, "was killed by signal {signal}{}", signal_name(*signal)),
            Cause::Timeout(limit) => write!(out, "took longer than its timeout of {limit}"),
            Cause::OutOfMemory(shortage) => write!(out, "ran out of memory{shortage}"),
            Cause::MissingOutput(path) => write!(out, "did not write its declared output `{path}`"),
            Cause::MissingInput(path) => write!(out, "did not find its input `{path}`"),
            Cause::CaptureLimit(bytes) => write!(out, "printed more than its capture limit of {bytes} bytes"),
            Cause::NotStarted(why) => write!(out, "could not be started: {why}"),
            Cause::Function(why) => write!(out, "failed: {why}"),
            Cause::LostInput(place) => write!(out, "lost its input {place}"),
            Cause::Raised(raised) => write!(out, "failed: {}", raised.text),
            Cause::Panic(message) => write!(out, "panicked: {message}"),
            Cause::NotRecorded(why) => write!(out, "ended, but its output could not be recorded: {why}"),
            Cause::LostRank(rank) => write!(out, "was lost with rank {rank}"),
            Cause::NoSpawner => write!(out, "could not be started: the spawner of its rank is gone"),
            Cause::Cancelled => write!(out, "was cancelled"),
            Cause::Stopped => write!(out, "was stopped with the run"),
            Cause::HandedOn(_) => write!(out, "left its output to others"),
            Cause::KilledRank { death, times, limit } if times < limit => {
                write!(out, "killed its rank {death}: {times} of {limit} times that `--crash-limit` allows")
            }
            Cause::KilledRank { death, times: 1, .. } => {
                write!(out, "killed its rank {death}: its limit is 1 (`--crash-limit`)")
            }
            Cause::KilledRank { death, times, limit } => write!(
                out,
                "killed its rank {times} times, the last time {death}: its limit is `--crash-limit {limit}`"
            ),
        }
    }
}

/// The name of a signal that people know by name, in parentheses with a space before it.
const fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        15 => " (TERM)",
        24 => " (XCPU)",
        25 => " (XFSZ)",
        _ => "",
    }
}

/// What a worker did over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes of outputs sent to other workers.
    pub sent_bytes: u64,
    /// Bytes of outputs received from other workers.
    pub received_bytes: u64,
    /// Bytes of outputs that were written to the node's disk because memory was short.
    pub spilled_bytes: u64,
    /// Bytes of outputs that were read back from there.
    pub read_back_bytes: u64,
}

/// Why a run is stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// SIGINT: somebody pressed Ctrl-C.
    Interrupted,
    /// SIGTERM: the batch system, or somebody, wants it to end; it can be resumed.
    Terminated,
    /// `dagmar cancel`.
    Cancelled,
    /// More tasks failed than were allowed; it can be resumed.
    TooManyFailures,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything asked for is finished.
    Done,
    /// Some tasks failed, or were aborted because others did; the rest is finished.
    TasksFailed {
        /// Tasks that failed by their own fault.
        failed: u32,
        /// Tasks that were aborted because of them.
        aborted: u32,
        /// True if every one of them failed by running out of memory.
        out_of_memory: bool,
    },
    /// It was stopped before its end.
    Stopped(StopReason),
    /// So many workers were lost that nobody could run what was left, and none came back.
    WorkersLost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_memory_tells_what_is_known_of_it() {
        let told = |limit_bytes, used_bytes, is_most| {
            Cause::OutOfMemory(Shortage { limit_bytes, used_bytes, is_most }).to_string()
        };
        assert_eq!(
            told(2 << 30, 2_254_857_830, false),
            "ran out of memory: its limit is 2 GiB, it used 2.1 GiB"
        );
        assert_eq!(
            told(512, 1023 << 10, true),
            "ran out of memory: its limit is 512 B, it used 1 MiB; no worker has more for it"
        );
        assert_eq!(told(0, 1 << 20, false), "ran out of memory: it used 1 MiB, and the system killed it");
        assert_eq!(told(0, 0, false), "ran out of memory: the system killed it");
        assert_eq!(spoken_bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn who_killed_a_rank_is_told_with_how_often_it_may() {
        let told = |death, times, limit| Cause::KilledRank { death, times, limit }.to_string();
        let first = told(Death::Signal(11), 1, 3);
        assert_eq!(first, "killed its rank with signal 11 (SEGV): 1 of 3 times that `--crash-limit` allows");
        let last = told(Death::Exit, 3, 3);
        assert_eq!(
            last,
            "killed its rank 3 times, the last time by calling `exit`: its limit is `--crash-limit 3`"
        );
        let only = told(Death::Signal(6), 1, 1);
        assert_eq!(only, "killed its rank with signal 6 (ABRT): its limit is 1 (`--crash-limit`)");
    }
}
