//! Tasks that come: where their inputs are, and who runs them.

use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::message::{Assignment, InputLocation, Report};
use crate::core::resources::Resources;
use crate::core::span::Span;

use super::machine::{Action, Stage, Worker};

impl Worker {
    pub(super) fn on_assigned(&mut self, assignment: Assignment, actions: &mut Vec<Action>) {
        let Assignment { tasks, attempt, .. } = assignment;
        if let Some(row) = assignment.special.as_ref().and_then(|special| special.row.as_ref()) {
            self.graph.learn(tasks.first, row.clone());
        }
        if self.is_stopping {
            tasks.tasks().for_each(|task| self.refuse(task, attempt, actions));
            return self.reports.push(Report::Returned(tasks, attempt));
        }
        if let Some((input, tried)) = assignment.follows()
            && !self.will_tell_of(input, tried, actions)
        {
            // When the scheduler hears this, it has heard how that one ended.
            for task in tasks.tasks() {
                self.make_way(task, attempt, actions);
                self.refuse(task, attempt, actions);
            }
            return self.reports.push(Report::Returned(tasks, attempt));
        }
        let stage = if is_light(&self.graph, &assignment) { Stage::Admitted } else { Stage::Heavy };
        let mut assignment = assignment;
        for task in tasks.tasks() {
            self.make_way(task, attempt, actions);
            if let Some(input) = self.first_lack(task, &assignment.inputs) {
                // What came before it may start, and what comes after it is looked at like any other.
                let before = assignment.tasks.take(task.0 - assignment.tasks.first.0);
                self.accept(Assignment { tasks: before, ..assignment.clone() }, stage, actions);
                assignment.tasks.take(1);
                self.reports.push(Report::InputMissing { task, attempt, input });
                self.refuse(task, attempt, actions);
            } else if stage == Stage::Admitted {
                self.enter(task, attempt, assignment.consumers, stage);
            }
        }
        self.accept(assignment, stage, actions);
    }

    /// Takes the tasks of an assignment on, whose inputs are here or will come.
    fn accept(&mut self, assignment: Assignment, stage: Stage, actions: &mut Vec<Action>) {
        let Assignment { tasks, attempt, consumers, .. } = assignment;
        if tasks.count == 0 {
            return;
        }
        self.fetch_inputs(&assignment, actions);
        if stage == Stage::Admitted {
            self.sharing.light_count += tasks.count;
            actions.push(Action::Admit(assignment));
            return self.watch_awaited(tasks, attempt, actions);
        }
        let follows = assignment.follows().map(|(input, _)| input);
        for task in tasks.tasks() {
            self.enter(task, attempt, consumers, stage);
            let inputs = self.graph.value_inputs(task).iter();
            let missing = inputs.filter(|&input| self.stage.get(input) != Stage::Here);
            let missing = missing.chain(follows).collect();
            self.heavies.insert(task, Assignment { tasks: Span::one(task), ..assignment.clone() }, missing);
        }
    }

    /// True if this try is still to end here; then its end is handed in at once.
    fn will_tell_of(&self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) -> bool {
        let stage = self.stage.get(task);
        let will_end = stage.is_in_progress() && self.attempt.get(task) == attempt;
        if will_end && stage == Stage::Admitted {
            actions.push(Action::Watch(task, attempt));
        }
        will_end
    }

    /// The task came and goes back at once: whoever awaits it here hears so, now or later.
    fn refuse(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        self.attempt.set(task, attempt);
        self.tell_subscribers_unknown(task, attempt, actions);
    }

    fn enter(&mut self, task: TaskId, attempt: Attempt, consumers: u32, stage: Stage) {
        self.stage.set(task, stage);
        self.attempt.set(task, attempt);
        self.left.set(task, if consumers == 0 { 0 } else { consumers.saturating_add(1) });
    }

    /// An output of an older try, and whoever waits for an older try, make way for this one.
    fn make_way(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        let stage = self.stage.get(task);
        assert!(!stage.is_in_progress(), "task {task} is assigned to this worker twice");
        if stage == Stage::Here {
            self.drop_output(task, actions);
        }
        self.tell_older_subscribers_unknown(task, attempt, actions);
    }

    /// The first value input that is neither here, nor about to be, nor to be fetched.
    fn first_lack(&self, task: TaskId, elsewhere: &[InputLocation]) -> Option<InputLocation> {
        let is_lacking = |input: &TaskId| {
            self.stage.get(*input) == Stage::Absent
                && !elsewhere.iter().any(|location| location.task == *input)
        };
        let input = self.graph.value_inputs(task).iter().find(is_lacking)?;
        let (attempt, owner, incarnation) = (self.attempt.get(input), self.rank, self.incarnation);
        Some(InputLocation { task: input, attempt, owner, incarnation, is_ahead: false })
    }

    /// Asks for the inputs that are elsewhere, each once.
    fn fetch_inputs(&mut self, assignment: &Assignment, actions: &mut Vec<Action>) {
        let task = assignment.tasks.first;
        for input in &assignment.inputs {
            let is_here =
                self.stage.get(input.task) == Stage::Here && self.attempt.get(input.task) == input.attempt;
            if !is_here && self.fetches.wait_for(input, task) {
                actions.push(self.want(input));
            }
        }
    }
}

/// True for calls that ask for one core and nothing else: the pool runs them.
fn is_light(graph: &Graph, assignment: &Assignment) -> bool {
    let task = assignment.tasks.first;
    let options = graph.options(task);
    let Resources { cpus, memory_bytes, gpus, ref custom } = options.resources;
    let is_function = graph.operation(task).body.is_function();
    is_function
        && (cpus, memory_bytes, gpus) == (1, 0, 0)
        && custom.is_empty()
        && options.ranks.is_none()
        && assignment.is_plain()
}
