//! What an edit changes: a task is what it was if its key and its operation are, and all that it depends on is.
//!
//! Options (retries, resources, times, priorities) may change freely: what a task gives does not follow from them.

use std::collections::BTreeMap;

use crate::core::graph::Graph;
use crate::core::id::{OperationId, TaskId};

use super::difference::{ARGUMENTS, difference};
use super::pairing::Pairing;
use super::{Edit, Move};

/// Two graphs side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Tasks that are what they were, and tasks that are not; graph and keys are the caller's.
    pub edit: Edit,
    /// Why each task of the new graph that is not what it was is not, hidden ones included.
    pub reasons: BTreeMap<TaskId, Reason>,
    /// The tasks of the old graph whose keys are not in the new one, hidden ones not included.
    pub gone: Vec<TaskId>,
}

/// Why a task is not what one was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none of its key.
    New,
    /// It does something else; in words that complete "`task` runs again: ".
    Changed(&'static str),
    /// It depends on other tasks than before, or takes them in another order.
    Inputs,
    /// It depends on this task, which is not what it was.
    DependsOn(TaskId),
}

impl Comparison {
    /// Compares the graph that a run had with the one that it shall go on with, as both began.
    ///
    /// Takes time for each task and each dependency.
    pub fn of(old: &Graph, new: &Graph) -> Self {
        let pairing = Pairing::of(old, new);
        let mut sides = Sides { old, new, pairing, is_carried: vec![false; new.len()], latest: None };
        let mut reasons = BTreeMap::new();
        for task in new.topological_order() {
            match sides.reason(task) {
                None => sides.is_carried[task.index()] = true,
                Some(reason) => drop(reasons.insert(task, reason)),
            }
        }
        let (carried, changed) = sides.moves();
        let edit = Edit { tasks: new.len() as u32, carried, changed, ..Edit::default() };
        Comparison { edit, reasons, gone: sides.gone() }
    }

    /// Completes "`task` runs again: "; for tasks of the new graph that are not what they were.
    pub fn why(&self, graph: &Graph, task: TaskId) -> String {
        match self.reasons.get(&task) {
            None | Some(Reason::New) => "it is new".to_owned(),
            Some(Reason::Changed(what)) => (*what).to_owned(),
            Some(Reason::Inputs) => "its dependencies changed".to_owned(),
            Some(Reason::DependsOn(input)) => self.why_by(graph, *input),
        }
    }

    /// Hidden tasks stand for others, and people know only those.
    fn why_by(&self, graph: &Graph, input: TaskId) -> String {
        if !graph.group_of(input).hidden {
            return format!("it depends on {}", graph.key(input));
        }
        let name = graph.key(input);
        match (self.reasons.get(&input), name.split_once(':')) {
            (Some(Reason::DependsOn(task)), _) => self.why_by(graph, *task),
            (_, Some((array, _))) if array.ends_with("[*]") => {
                format!("it depends on {array}, which has other elements")
            }
            _ => "its input files come from other tasks".to_owned(),
        }
    }
}

struct Sides<'a> {
    old: &'a Graph,
    new: &'a Graph,
    pairing: Pairing,
    is_carried: Vec<bool>,
    /// The operations that were compared last, and the result: many tasks in a row share theirs.
    latest: Option<((OperationId, OperationId), Option<&'static str>)>,
}

impl Sides<'_> {
    /// Why a task is not what it was; what it depends on was asked before.
    fn reason(&mut self, task: TaskId) -> Option<Reason> {
        let Some(before) = self.pairing.before(task) else { return Some(Reason::New) };
        let difference = self.difference(before, task);
        let takes_the_same = self.takes_the_same(before, task);
        if let Some(what) = difference.filter(|what| takes_the_same || *what != ARGUMENTS) {
            return Some(Reason::Changed(what));
        }
        let other = self.new.inputs(task).find(|input| !self.is_carried[input.index()]);
        match other {
            Some(other) => Some(Reason::DependsOn(other)),
            None => (!takes_the_same).then_some(Reason::Inputs),
        }
    }

    fn difference(&mut self, before: TaskId, task: TaskId) -> Option<&'static str> {
        let ids = (self.old.operation_id(before), self.new.operation_id(task));
        if let Some((_, latest)) = self.latest.filter(|(latest, _)| *latest == ids) {
            return latest;
        }
        let found = difference(self.old.operation(before), self.new.operation(task));
        self.latest = Some((ids, found));
        found
    }

    /// True if the inputs of both have the same keys: those whose values are taken in the same order.
    fn takes_the_same(&self, before: TaskId, task: TaskId) -> bool {
        let (old, new) = (self.old.value_inputs(before), self.new.value_inputs(task));
        let paired = |input: TaskId| self.pairing.before(input);
        if old.len() != new.len() || !new.iter().map(paired).eq(old.iter().map(Some)) {
            return false;
        }
        let (old, new) = (self.old.order_inputs(before), self.new.order_inputs(task));
        if old.len() != new.len() {
            return false;
        }
        let mut old: Vec<Option<TaskId>> = old.iter().map(Some).collect();
        let mut new: Vec<Option<TaskId>> = new.iter().map(paired).collect();
        old.sort_unstable();
        new.sort_unstable();
        old == new
    }

    /// What is carried, and what has changed, in the order of old numbers.
    fn moves(&self) -> (Vec<Move>, Vec<Move>) {
        let mut now = vec![None; self.old.len()];
        for task in self.new.tasks() {
            if let Some(before) = self.pairing.before(task) {
                now[before.index()] = Some(task);
            }
        }
        let (mut carried, mut changed) = (Vec::new(), Vec::new());
        for (before, task) in now.into_iter().enumerate() {
            let Some(task) = task else { continue };
            let moves = if self.is_carried[task.index()] { &mut carried } else { &mut changed };
            Move::add_to(moves, TaskId::from(before), task);
        }
        (carried, changed)
    }

    fn gone(&self) -> Vec<TaskId> {
        let known = self.pairing.known();
        let is_gone = |task: &TaskId| known.binary_search(&task.0).is_err();
        self.old.tasks().filter(is_gone).filter(|&task| !self.old.group_of(task).hidden).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::{Axis, Group};
    use crate::core::resources::Resources;
    use crate::core::task::{Body, Call, Operation, TaskOptions};
    use crate::core::value::Value;

    /// A graph from words such as `c=cat:a,b;d`: a task, what it does, whose values it takes and what it waits for.
    /// Names that begin with `~` are joins.
    fn graph(text: &str) -> Graph {
        let mut builder = GraphBuilder::new("test", "/");
        let words: Vec<(&str, &str)> =
            text.split_whitespace().map(|word| word.split_once('=').unwrap()).collect();
        for (name, _) in &words {
            builder.declare(Group { hidden: name.starts_with('~'), ..Group::single(*name) }).unwrap();
        }
        let options = builder.options(TaskOptions::default());
        for (name, what) in words {
            let (function, inputs) = what.split_once(':').unwrap_or((what, ""));
            let (values, orders) = inputs.split_once(';').unwrap_or((inputs, ""));
            let ids = |names: &str| -> Vec<TaskId> {
                let names = names.split(',').filter(|name| !name.is_empty());
                names.map(|name| builder.keys().group(name).unwrap().first).collect()
            };
            let (values, orders) = (ids(values), ids(orders));
            let call = Body::Call(Call { function: function.to_owned(), arguments: vec![] });
            let body = if name.starts_with('~') { Body::Join } else { call };
            let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
            builder.define(Definition { operation, options, values, orders }).unwrap();
        }
        builder.build().unwrap()
    }

    /// What the comparison tells of each task that is not what it was, and what is gone.
    fn told(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (graph(old), graph(new));
        let comparison = Comparison::of(&old, &new);
        assert_eq!(comparison.edit.check(old.len(), new.len()), Ok(()));
        let shown = comparison.reasons.keys().filter(|task| !new.group_of(**task).hidden);
        let lines = shown.map(|&task| format!("{}: {}", new.key(task), comparison.why(&new, task)));
        lines.chain(comparison.gone.iter().map(|&task| format!("{}: gone", old.key(task)))).collect()
    }

    #[test]
    fn what_depends_on_what_changed_is_not_what_it_was() {
        let old = "a=x b=x:a c=x:;b d=x e=x:d";
        assert_eq!(told(old, old), Vec::<String>::new());
        let expected =
            ["a: it calls another function", "b: it depends on a", "c: it depends on b"].map(str::to_owned);
        assert_eq!(told(old, "a=y b=x:a c=x:;b d=x e=x:d"), expected);
    }

    #[test]
    fn the_order_of_tasks_is_of_no_matter_and_that_of_values_is() {
        assert_eq!(told("a=x b=x c=x:a,b d=x:;a,b", "d=x:;b,a c=x:a,b b=x a=x"), Vec::<String>::new());
        assert_eq!(told("a=x b=x c=x:a,b", "a=x b=x c=x:b,a"), ["c: its dependencies changed"]);
        assert_eq!(told("a=x b=x c=x:a;b", "a=x b=x c=x:a"), ["c: its dependencies changed"]);
    }

    #[test]
    fn tasks_are_told_that_are_new_or_gone() {
        let expected = ["c: it is new", "b: it depends on c", "a: gone"].map(str::to_owned);
        assert_eq!(told("a=x b=x:a", "c=x b=x:c"), expected);
    }

    #[test]
    fn what_stands_behind_a_hidden_task_is_named() {
        let old = "a=x b=x ~j=:;a,b c=x:;~j";
        assert_eq!(
            told(old, "a=x b=y ~j=:;a,b c=x:;~j"),
            ["b: it calls another function", "c: it depends on b"]
        );
        assert_eq!(told(old, "a=x ~j=:;a c=x:;~j"), ["c: its input files come from other tasks", "b: gone"]);
    }

    #[test]
    fn options_may_change() {
        let old = graph("a=x b=x:a");
        let mut columns = old.columns().clone();
        let resources = Resources::cores(7);
        columns.options = vec![TaskOptions { retries: 9, resources, priority: 4, ..TaskOptions::default() }];
        let new = Graph::from_columns(columns).unwrap();
        let comparison = Comparison::of(&old, &new);
        assert_eq!((comparison.reasons.len(), comparison.edit.carried.len()), (0, 1));
    }

    fn arrays(axes: &[Axis], zipped: bool) -> Graph {
        let mut builder = GraphBuilder::new("test", "/");
        builder.declare(Group::single("before")).unwrap();
        let group = Group { zipped, ..Group::array("a", axes.to_vec()) };
        let count = group.count().unwrap();
        builder.declare(group).unwrap();
        let arguments = vec![crate::core::task::Argument::Value(Value::Int(3))];
        let body = Body::Call(Call { function: "x".into(), arguments });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        let options = builder.options(TaskOptions::default());
        builder.define_all(count + 1, Definition { operation, options, ..Definition::default() }).unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn elements_are_found_by_how_they_are_written() {
        let range = |first, count, width| Axis::Range { first, step: 1, count, width };
        let words = |text: &str| Axis::Words(text.split(' ').map(str::to_owned).collect());
        let cases: [(&[Axis], &[Axis], &[&str]); 5] = [
            (&[range(0, 9, 1)], &[range(2, 9, 1)], &["a[9]", "a[10]"]),
            (&[range(0, 3, 1)], &[range(0, 3, 2)], &["a[00]", "a[01]", "a[02]"]),
            (&[range(0, 3, 1)], &[words("2 x 0")], &["a[x]"]),
            (
                &[words("u v"), range(0, 2, 1)],
                &[words("v w"), range(1, 2, 1)],
                &["a[v,2]", "a[w,1]", "a[w,2]"],
            ),
            (&[words("u v")], &[words("u v"), range(0, 1, 1)], &["a[u,0]", "a[v,0]"]),
        ];
        for (old, new, expected) in cases {
            let (old, new) = (arrays(old, false), arrays(new, false));
            let comparison = Comparison::of(&old, &new);
            let keys: Vec<String> = comparison.reasons.keys().map(|&task| new.key(task)).collect();
            assert_eq!(keys, expected);
            for (from, to) in comparison.edit.carried.iter().flat_map(|tasks| tasks.tasks()) {
                assert_eq!(old.key(from), new.key(to));
            }
        }
        let pairs = [words("u v"), words("s t")];
        let comparison = Comparison::of(&arrays(&pairs, false), &arrays(&pairs, true));
        assert_eq!((comparison.reasons.len(), comparison.gone.len()), (0, 2));
    }
}
