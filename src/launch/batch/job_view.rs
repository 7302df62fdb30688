//! What a batch system says about one job at one moment.

use serde::{Deserialize, Serialize};

use crate::core::time::{Micros, Timestamp};

use super::{JobState, Reason};

/// What a batch system says about one job at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Where it stands.
    #[serde(flatten)]
    pub state: JobState,
    /// Why it stands there, if the system says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The queue or partition it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The nodes it has or had, in the system's short form (`n[1-4]`, `m1/0*2+m2/0*2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// How many nodes it has, or asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_count: Option<u32>,
    /// When it started, or when the system expects it to start, which is a guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// How long it may still run, for one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left: Option<Micros>,
    /// How often it went back into the queue after having started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
}

impl JobView {
    /// A view that says nothing but the state.
    pub fn new(state: JobState) -> JobView {
        JobView {
            state,
            reason: None,
            queue: None,
            nodes: None,
            node_count: None,
            start: None,
            time_left: None,
            restarts: 0,
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
