//! What the simulation really did: a fault that never fires proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use TaskState::{Aborted, Assigned, Cancelled, Failed, Finished, Running, Waiting};
use dagmar::core::scheduler::TaskState;

/// Every step of a task that the scheduler's table allows.
const STEPS: [(TaskState, TaskState); 13] = [
    (Waiting, Assigned),
    (Waiting, Finished),
    (Waiting, Aborted),
    (Waiting, Cancelled),
    (Waiting, Failed),
    (Assigned, Running),
    (Assigned, Finished),
    (Assigned, Waiting),
    (Assigned, Failed),
    (Running, Finished),
    (Running, Waiting),
    (Running, Failed),
    (Finished, Waiting),
];

/// Everything worth counting that can happen in a simulated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    ClientSubmitted,
    ClientGotOutput,
    ClientReleased,
    ClientClosed,
    ClientLeft,
    ClientReplaced,
    ClientSentInVain,
    ClientReadStored,
    SubmissionRefused,
    OutputVanished,
    WorkerLost,
    WorkerCameBack,
    OldLifeSpoke,
    MessageToDeadWorker,
    TaskFailed,
    TaskRetried,
    OutputFetched,
    OutputUnknown,
    OutputMadeAgain,
    OutputReleased,
    TaskRetracted,
    RetractCameTooLate,
    PairOvertook,
    StoppedByInterrupt,
    StoppedByTerm,
    StoppedByCancel,
    EndedDone,
    EndedWithFailures,
    EndedDeserted,
    EndedShortOfWorkers,
    MultiNodeAssigned,
    TeamMemberLost,
    TeamStartedShort,
    LostRankReported,
    LightTaskStarted,
    EndsGathered,
    EndToldLater,
    RevokeCameTooLate,
    PoolYielded,
    OutputAwaited,
    SpanAssigned,
    OutputSpilled,
    OutputReadBack,
    DiskFull,
    TaskHeldBack,
    HeavyHeldBack,
    EndedWithoutRoom,
    TasksSubmitted,
    SubmittedTaskSubmitted,
    TaskBecameAnotherAlone,
    SubmittedTaskRetried,
    SubmittedOutputMadeAgain,
    HandedOnInVain,
    TurnGoesOn,
    OutputSynced,
    StoredOutputRead,
    StoredOutputUnreadable,
    EventsLost,
    PowerLost,
    AllKilled,
    TaskRepeated,
    DurableKept,
    StoppedRunResumed,
    OutputSaved,
    EndedForWantOfTime,
    OutputVolatile,
    FollowerAhead,
    FollowerCameBack,
    StoppedByFailures,
    GraphEdited,
    DoneRunEdited,
    CarriedTaskKept,
    KillingCarried,
    SkippedTaskOutdated,
    ChangedTaskRuns,
    EditAfterEdit,
    RankKilled,
    JobKilled,
    KillingTriedAgain,
    KillingRecordedLater,
    KillerQuarantined,
    KillerUnknown,
    MemoryRaised,
    MemoryAtMost,
    NobodyHasMore,
    MemoryRecalled,
    TasksSkipped,
}

const HAPPENINGS: [Happening; 87] = [
    Happening::ClientSubmitted,
    Happening::ClientGotOutput,
    Happening::ClientReleased,
    Happening::ClientClosed,
    Happening::ClientLeft,
    Happening::ClientReplaced,
    Happening::ClientSentInVain,
    Happening::ClientReadStored,
    Happening::SubmissionRefused,
    Happening::OutputVanished,
    Happening::WorkerLost,
    Happening::WorkerCameBack,
    Happening::OldLifeSpoke,
    Happening::MessageToDeadWorker,
    Happening::TaskFailed,
    Happening::TaskRetried,
    Happening::OutputFetched,
    Happening::OutputUnknown,
    Happening::OutputMadeAgain,
    Happening::OutputReleased,
    Happening::TaskRetracted,
    Happening::RetractCameTooLate,
    Happening::PairOvertook,
    Happening::StoppedByInterrupt,
    Happening::StoppedByTerm,
    Happening::StoppedByCancel,
    Happening::EndedDone,
    Happening::EndedWithFailures,
    Happening::EndedDeserted,
    Happening::EndedShortOfWorkers,
    Happening::MultiNodeAssigned,
    Happening::TeamMemberLost,
    Happening::TeamStartedShort,
    Happening::LostRankReported,
    Happening::LightTaskStarted,
    Happening::EndsGathered,
    Happening::EndToldLater,
    Happening::RevokeCameTooLate,
    Happening::PoolYielded,
    Happening::OutputAwaited,
    Happening::SpanAssigned,
    Happening::OutputSpilled,
    Happening::OutputReadBack,
    Happening::DiskFull,
    Happening::TaskHeldBack,
    Happening::HeavyHeldBack,
    Happening::EndedWithoutRoom,
    Happening::TasksSubmitted,
    Happening::SubmittedTaskSubmitted,
    Happening::TaskBecameAnotherAlone,
    Happening::SubmittedTaskRetried,
    Happening::SubmittedOutputMadeAgain,
    Happening::HandedOnInVain,
    Happening::TurnGoesOn,
    Happening::OutputSynced,
    Happening::StoredOutputRead,
    Happening::StoredOutputUnreadable,
    Happening::EventsLost,
    Happening::PowerLost,
    Happening::AllKilled,
    Happening::TaskRepeated,
    Happening::DurableKept,
    Happening::StoppedRunResumed,
    Happening::OutputSaved,
    Happening::EndedForWantOfTime,
    Happening::OutputVolatile,
    Happening::FollowerAhead,
    Happening::FollowerCameBack,
    Happening::StoppedByFailures,
    Happening::GraphEdited,
    Happening::DoneRunEdited,
    Happening::CarriedTaskKept,
    Happening::KillingCarried,
    Happening::SkippedTaskOutdated,
    Happening::ChangedTaskRuns,
    Happening::EditAfterEdit,
    Happening::RankKilled,
    Happening::JobKilled,
    Happening::KillingTriedAgain,
    Happening::KillingRecordedLater,
    Happening::KillerQuarantined,
    Happening::KillerUnknown,
    Happening::MemoryRaised,
    Happening::MemoryAtMost,
    Happening::NobodyHasMore,
    Happening::MemoryRecalled,
    Happening::TasksSkipped,
];

/// Counts of steps and happenings.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub steps: BTreeMap<(TaskState, TaskState), u64>,
    pub happenings: BTreeMap<Happening, u64>,
    pub inputs: u64,
}

impl Coverage {
    pub fn happened(&mut self, happening: Happening) {
        *self.happenings.entry(happening).or_default() += 1;
    }

    pub fn stepped(&mut self, from: TaskState, to: TaskState) {
        *self.steps.entry((from, to)).or_default() += 1;
    }

    pub fn add(&mut self, other: &Coverage) {
        for (step, count) in &other.steps {
            *self.steps.entry(*step).or_default() += count;
        }
        for (happening, count) in &other.happenings {
            *self.happenings.entry(*happening).or_default() += count;
        }
        self.inputs += other.inputs;
    }

    /// Panics unless everything that can happen did.
    pub fn assert_complete(&self) {
        let missing_steps: Vec<_> = STEPS.iter().filter(|step| !self.steps.contains_key(step)).collect();
        let missing: Vec<_> = HAPPENINGS.iter().filter(|it| !self.happenings.contains_key(it)).collect();
        assert!(missing_steps.is_empty() && missing.is_empty(), "never seen: {missing_steps:?} {missing:?}");
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:>12} inputs", self.inputs)?;
        for ((from, to), count) in &self.steps {
            writeln!(out, "{count:>12} {from:?} -> {to:?}")?;
        }
        for (happening, count) in &self.happenings {
            writeln!(out, "{count:>12} {happening:?}")?;
        }
        Ok(())
    }
}
