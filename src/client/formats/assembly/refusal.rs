//! What the graph's builder refuses, in the words and at the places of the file.

use crate::client::formats::description::TASKS_MAX;
use crate::client::formats::text::{Fault, Problem};
use crate::core::graph::{GraphBuilder, GraphError};
use crate::core::id::TaskId;
use crate::core::key::{KeyError, Keys};

use super::hidden;
use super::names::Names;

/// The builder's error as a fault of the file.
pub(super) fn graph_fault(error: GraphError, builder: &GraphBuilder, names: &Names) -> Box<Fault> {
    match error {
        GraphError::Cycle(cycle) => cycle_fault(&cycle, builder.keys(), names),
        GraphError::Key(KeyError::Duplicate(name)) => Fault::whole(Problem::DuplicateKey(name)),
        GraphError::Key(KeyError::TooMany) => {
            Fault::whole(Problem::TooManyTasks { name: String::new(), limit: TASKS_MAX })
        }
        GraphError::TooManyDependencies => Fault::whole(Problem::TooManyDependencies),
        GraphError::Key(KeyError::Inconsistent(how)) | GraphError::Inconsistent(how) => {
            Fault::whole(Problem::Inconsistent(how))
        }
    }
}

/// The cycle stands where its first task does.
pub(super) fn cycle_fault(cycle: &[TaskId], keys: &Keys, names: &Names) -> Box<Fault> {
    let shown = cycle.iter().map(|task| hidden::shown(&keys.key(*task)).to_owned());
    let problem = Problem::Cycle(shown.collect());
    match cycle.iter().find_map(|task| names.group_of(*task)) {
        Some(named) => Fault::at(named.span, problem),
        None => Fault::whole(problem),
    }
}
