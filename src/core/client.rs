//! What a client and the scheduler say to each other while a run is live.

use super::addition::{Addition, AdditionError};
use super::event::Cause;
use super::graph::{Definition, Graph, GraphBuilder};
use super::id::{Attempt, Rank, TaskId};
use super::key::{Axis, Group};
use super::resources::Resources;
use super::task::{Body, Operation, TaskOptions};

/// What stands for the client in its graph.
pub const CLIENT: TaskId = TaskId(0);

/// The group of all tasks that a client submits.
const SUBMITTED: &str = "tasks";

/// The graph that a client's run begins with: nothing but what stands for the client, which waits until it is
/// gone. `directory` is where it works.
pub fn graph_of_client(name: &str, directory: &str) -> Graph {
    let mut builder = GraphBuilder::new(name, directory);
    let group = Group { hidden: true, ..Group::single("client") };
    builder.declare(group).expect("it is the first name");
    // What it submits is counted there.
    let nothing = Axis::Range { first: 0, step: 1, count: 0, width: 1 };
    builder.declare(Group::array(SUBMITTED, vec![nothing])).expect("it is another name");
    let operation = builder.operation(Operation { body: Body::Join, inputs: vec![], outputs: vec![] });
    let options = builder.options(TaskOptions { resources: Resources::default(), ..TaskOptions::default() });
    let client = Definition { operation, options, values: vec![], orders: vec![] };
    builder.define(client).expect("it takes nothing");
    builder.build().expect("one task is a graph")
}

/// True if a graph is that of a client's run.
pub fn is_of_client(graph: &Graph) -> bool {
    graph.count_begun() == 1 && graph.is_join(CLIENT)
}

/// What a client says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromClient {
    /// Do these as well.
    Submit(Box<Submission>),
    /// Give me this output, now or once it is there. I hold it.
    Fetch(TaskId),
    /// I have it.
    Fetched(TaskId),
    /// The worker that I was sent to has no such output.
    NotThere(TaskId, Attempt, Rank),
    /// I hold these outputs no longer. Tasks that nobody needs and that have not begun need not be done.
    Release(Vec<TaskId>),
    /// I come after another client, and hold nothing but these outputs. What it has submitted is done all the same.
    Hold(Vec<TaskId>),
    /// Is this output there?
    Ask(TaskId),
    /// Nobody submits anything more. What was submitted is done.
    Leave,
    /// I submit nothing more, and hold nothing. What runs runs on.
    Close,
    /// I am gone, and the run was mine alone: what runs is ended.
    Vanish,
}

/// Tasks that a client submits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// The tasks. They may take any that the client holds, or has submitted with them.
    pub addition: Addition,
    /// Those of them whose outputs it holds, in ascending order.
    pub held: Vec<u32>,
}

/// What a client is told. Of tasks whose outputs it does not hold only that they failed.
#[derive(Clone, Debug, PartialEq)]
pub enum ToClient {
    /// The output is there.
    Finished(TaskId),
    /// The task has failed for good.
    Failed(TaskId, Cause),
    /// It will not run, as that other one has failed or was cancelled.
    Aborted(TaskId, TaskId),
    /// It will not run.
    Cancelled(TaskId),
    /// The output that it fetches is in the run directory alone.
    Stored(TaskId, Attempt),
    /// Nothing of what it submitted last will be done.
    Refused(AdditionError),
}
