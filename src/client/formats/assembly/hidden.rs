//! The tasks that dagmar adds by itself, so that arrays need no edge for each pair of elements.
//!
//! They are declared when first used and defined last, behind all tasks of the file. Their names
//! have characters that no task of a file can have.

use std::collections::HashMap;

use crate::core::graph::{Definition, GraphBuilder, GraphError, Progression};
use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::Group;
use crate::core::resources::Resources;
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};

use super::names::NamedGroup;

/// Hidden tasks in the making.
#[derive(Default)]
pub(super) struct Hidden {
    joins: HashMap<String, TaskId>,
    lists: HashMap<String, TaskId>,
    due: Vec<Due>,
}

enum Due {
    Join(Vec<TaskId>),
    JoinArray { first: TaskId, count: u32 },
    List { first: TaskId, count: u32 },
}

impl Hidden {
    /// The task that is finished once all elements of an array are.
    pub fn join(&mut self, named: &NamedGroup, builder: &mut GraphBuilder) -> Result<TaskId, GraphError> {
        let name = &named.group.name;
        if let Some(task) = self.joins.get(name) {
            return Ok(*task);
        }
        let due = Due::JoinArray { first: named.group.first, count: named.count };
        let task = self.declare(format!("{name}[*]:finished"), due, builder)?;
        self.joins.insert(name.clone(), task);
        Ok(task)
    }

    /// The task whose value is the list of all values of an array.
    pub fn list(&mut self, named: &NamedGroup, builder: &mut GraphBuilder) -> Result<TaskId, GraphError> {
        let name = &named.group.name;
        if let Some(task) = self.lists.get(name) {
            return Ok(*task);
        }
        let due = Due::List { first: named.group.first, count: named.count };
        let task = self.declare(format!("{name}[*]:values"), due, builder)?;
        self.lists.insert(name.clone(), task);
        Ok(task)
    }

    /// The task that is finished once those are that make the n-th input of a task.
    pub fn files(
        &mut self,
        name: &str,
        number: usize,
        producers: Vec<TaskId>,
        builder: &mut GraphBuilder,
    ) -> Result<TaskId, GraphError> {
        self.declare(format!("{name}:inputs:{number}"), Due::Join(producers), builder)
    }

    fn declare(&mut self, name: String, due: Due, builder: &mut GraphBuilder) -> Result<TaskId, GraphError> {
        let task = builder.declare(Group { hidden: true, ..Group::single(name) })?;
        self.due.push(due);
        Ok(task)
    }

    /// Defines all of them, in the order of their ids.
    pub fn define(self, builder: &mut GraphBuilder) -> Result<(), GraphError> {
        if self.due.is_empty() {
            return Ok(());
        }
        let no_work = Operation { body: Body::Join, inputs: vec![], outputs: vec![] };
        let join = builder.operation(no_work);
        let idle = TaskOptions { resources: Resources::default(), ..TaskOptions::default() };
        let idle = builder.options(idle);
        for due in self.due {
            match due {
                Due::Join(orders) => {
                    let join = Definition { operation: join, options: idle, orders, ..Definition::default() };
                    builder.define(join)?
                }
                Due::JoinArray { first, count } => {
                    builder.define_alike(1, (join, idle), &[], &[Progression::all(first, count)])?
                }
                Due::List { first, count } => {
                    let what = list_of(count, builder);
                    builder.define_alike(1, what, &[Progression::all(first, count)], &[])?
                }
            };
        }
        Ok(())
    }
}

/// A list that is passed on says the same as `list` with an argument for each element, in less.
fn list_of(count: u32, builder: &mut GraphBuilder) -> (OperationId, OptionsId) {
    let arguments = vec![Argument::Inputs { first: 0, count }];
    let body = Body::Call(Call { function: "identity".into(), arguments });
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    (operation, builder.options(TaskOptions::default()))
}

/// A hidden task's name in a user's words: what it stands for.
pub(super) fn shown(name: &str) -> &str {
    name.split_once(':').map_or(name, |(shown, _)| shown)
}
