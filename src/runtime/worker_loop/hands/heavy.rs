//! Heavy tasks: executors run them, each in a slot of its own.

use std::sync::Arc;

use crate::clock;
use crate::core::batch::Batch;
use crate::core::event::{Cause, Failure, Success};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::message::Assignment;
use crate::core::worker::Input;
use crate::transport::endpoint::Endpoint;
use crate::worker::binding::Binding;
use crate::worker::executor::{Ended, Executor, Job, RankPlaces};
use crate::worker::output::Output;
use crate::worker::pool::Recorder;
use crate::worker::store::Terms;

use super::super::super::syncing::Written;
use super::super::WorkerError;
use super::{Come, Hands, terms_of};

impl<E: Endpoint> Hands<E> {
    /// Starts a heavy task.
    pub(super) fn start_with(&mut self, assignment: Assignment, inputs: Vec<Arc<Output>>) {
        let (task, attempt, terms) = (assignment.tasks.first, assignment.attempt, terms_of(&assignment));
        let is_function = self.graph.operation(task).body.is_function();
        self.heavy.insert(task, terms);
        let binding = self.bind(task, attempt, is_function);
        let job = Job {
            graph: self.graph.clone(),
            task,
            attempt,
            inputs,
            expected_files: expected_files(&self.graph, &assignment),
            fence: Some(self.fence.clone()),
            keep_value: terms.is_kept,
            persist: terms.is_persisted,
            ranks: self.rank_places(&assignment),
            binding,
        };
        let executors = self.executors.as_mut().expect("nothing starts after the worker left");
        match is_function {
            true => executors.functions.start(job),
            false => executors.commands.start(job),
        }
    }

    /// The nodes of an MPI program: those that came with a multi-node task, or this one.
    fn rank_places(&self, assignment: &Assignment) -> Option<RankPlaces> {
        let (task, attempt, hosts) = (assignment.tasks.first, assignment.attempt, assignment.hosts());
        self.graph.options(task).ranks?;
        let hosts = if hosts.is_empty() { vec![self.host.clone()] } else { hosts.to_vec() };
        Some(RankPlaces { hosts, hostfile: self.directory.hostfile(task, attempt) })
    }

    /// Takes a slot for a task that starts, and tells of it if there is anything to tell.
    fn bind(&mut self, task: TaskId, attempt: Attempt, is_function: bool) -> Option<Box<Binding>> {
        let request = &self.graph.options(task).resources;
        let binding = match is_function {
            true => self.slots.take_for_call(task, request)?,
            false => self.slots.take_for_command(task, request),
        };
        if !binding.slot.is_empty() {
            let slot = Box::new(binding.slot.clone());
            self.feed(Input::Bound { task, attempt, slot });
        }
        Some(binding)
    }

    /// Ends an attempt. Calls look at one table, whether the pool runs them or not.
    pub(super) fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        if self.recalls.stop(task, &cause) {
            return;
        }
        let is_function = self.graph.operation(task).body.is_function();
        let executors = self.executors.as_mut().expect("nothing runs after the worker left");
        match is_function {
            true => executors.functions.stop(task, attempt, cause),
            false => executors.commands.stop(task, attempt, cause),
        }
    }

    pub(super) fn on_ended(&mut self, ended: Ended) -> Result<Come, WorkerError> {
        let Ended { task, attempt, ending } = ended;
        if ending.as_ref().is_err_and(|failure| failure.cause == Cause::NoSpawner) {
            return Err(WorkerError::NoSpawner);
        }
        let terms = self.heavy.remove(&task).expect("what ends was started");
        self.slots.give_back(task);
        let ending = ending.and_then(|(success, output)| self.persist(task, terms, success, output));
        if ending.is_err() || !terms.is_persisted {
            self.pack.lock().leave_open(task, attempt);
        }
        match ending {
            Ok((success, output)) => {
                if let Some(output) = output.filter(|_| terms.is_kept) {
                    self.pool.deliver(task, attempt, output);
                }
                let finished = Input::Finished(Batch::one(task, attempt, success));
                if self.machine.is_waited_for_elsewhere(task) {
                    self.feed(finished);
                    return Ok(Come::Ends);
                }
                let now = clock::now();
                self.machine.handle(now, finished, &mut self.actions);
                self.untold.on_idle_end(now);
                Ok(Come::IdleEnds)
            }
            Err(failure) => {
                self.feed(Input::Failed { task, attempt, failure });
                Ok(Come::Ends)
            }
        }
    }

    /// Writes a call's value into the pack if it is wanted there. A command's is there already.
    fn persist(
        &self,
        task: TaskId,
        terms: Terms,
        success: Success,
        output: Option<Arc<Output>>,
    ) -> Result<(Success, Option<Arc<Output>>), Failure> {
        let (operation, attempt) = (self.graph.operation(task), terms.attempt);
        let is_function = operation.body.is_function();
        match output.as_deref() {
            _ if !terms.is_persisted => {}
            Some(output) if is_function => {
                let Success { started, ran, .. } = success;
                let recorded = self.pack.record(task, attempt, output, self.files_of(task, attempt));
                recorded.map_err(|cause| Failure { started, ran, cause })?;
            }
            None if is_function => {}
            _ => {
                self.pack.end(Written { task, attempt, files: self.files_of(task, attempt) });
            }
        }
        Ok((success, output))
    }
}

/// The files that tasks before this one reported, with their sizes.
fn expected_files(graph: &Graph, assignment: &Assignment) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    let Some(special) = &assignment.special else { return files };
    for (task, attempt, sizes) in &special.files {
        let outputs = graph.operation(*task).outputs.iter();
        let paths = outputs.map(|path| path.resolve(*attempt).into_owned());
        files.extend(paths.zip(sizes.iter().copied()));
    }
    files
}
