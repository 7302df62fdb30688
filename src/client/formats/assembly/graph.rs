//! From what a file says to a graph: names first, then files, then every element of every task.

use std::collections::HashMap;

use crate::client::formats::description::{GraphSpec, Reference, TaskSpec};
use crate::client::formats::text::{Fault, Outcome, Problem};
use crate::core::graph::{Definition, Graph, GraphBuilder, GraphError};
use crate::core::id::{OperationId, OptionsId, TaskId};

use super::arguments::{Positions, Slot};
use super::declaration::{declare, index_files};
use super::expansion::{ElementKey, Places, Scope, scope};
use super::files::{Files, Match};
use super::hidden::Hidden;
use super::links;
use super::names::{Found, NamedGroup, Names};
use super::operations::build_operation;
use super::refusal::{cycle_fault, graph_fault};

/// Builds the graph of a file whose relative paths start at `directory`, which is absolute.
pub fn assemble(spec: &GraphSpec, directory: &str) -> Outcome<Graph> {
    let mut builder = GraphBuilder::new(spec.name.as_str(), directory);
    let names = declare(spec, &mut builder)?;
    let files = index_files(spec, &names, directory)?;
    let mut assembly =
        Assembly { builder, names: &names, files: &files, hidden: Hidden::default(), directory };
    for task in &spec.tasks {
        assembly.define_all(task)?;
    }
    let Assembly { mut builder, hidden, .. } = assembly;
    hidden.define(&mut builder).map_err(graph_fault)?;
    let keys = builder.keys().clone();
    builder.build().map_err(|error| match error {
        GraphError::Cycle(cycle) => cycle_fault(&cycle, spec, &keys, &names),
        other => graph_fault(other),
    })
}

/// A task that makes no file.
const NOBODY: TaskId = TaskId(u32::MAX);

/// True if a task of this group makes one of the files.
fn makes_any(named: &NamedGroup, found: &[Match]) -> bool {
    let own = named.group.first.0..named.group.first.0 + named.count;
    found.iter().any(|one| one.producer.is_some_and(|task| own.contains(&task.0)))
}

struct Assembly<'a> {
    builder: GraphBuilder,
    names: &'a Names,
    files: &'a Files,
    hidden: Hidden,
    directory: &'a str,
}

/// What is the same for all elements of a task.
struct Shared<'a> {
    task: &'a TaskSpec,
    count: u32,
    options: OptionsId,
    /// The variables that its operations depend on, a bit each.
    uses: u32,
    /// What inputs without variables found, by number.
    found: Vec<Option<Vec<Match>>>,
    /// The tasks to wait for in every element.
    orders: Vec<TaskId>,
    /// Operations made so far, by place along the variables in use, and by what references found.
    operations: HashMap<usize, Vec<(Vec<Slot>, OperationId)>>,
}

impl Assembly<'_> {
    fn define_all(&mut self, task: &TaskSpec) -> Outcome<()> {
        let number = self.names.find(&task.name).expect("every task was declared");
        let named = self.names.group(number);
        let mut shared = self.share(task, named.count)?;
        let mut places = Places::new(task);
        if named.count > 1 && shared.is_same_for_all() {
            let key = ElementKey::new(&named.group, 0);
            let definition =
                self.define_one(&mut shared, named.group.first, &scope(task, &places.places, &key))?;
            return self.builder.define_all(named.count, definition).map(drop).map_err(graph_fault);
        }
        for element in 0..named.count {
            let id = TaskId(named.group.first.0 + element);
            let key = ElementKey::new(&named.group, element as usize);
            let definition = self.define_one(&mut shared, id, &scope(task, &places.places, &key))?;
            self.builder.define(definition).map_err(graph_fault)?;
            places.advance();
        }
        Ok(())
    }

    fn share<'t>(&mut self, task: &'t TaskSpec, count: u32) -> Outcome<Shared<'t>> {
        let uses = task.uses();
        let options = self.builder.options(task.options.clone());
        let (found, orders, operations) = (Vec::new(), Vec::new(), HashMap::new());
        let mut shared = Shared { task, count, options, uses, found, orders, operations };
        let named = self.names.group(self.names.find(&task.name).expect("every task was declared"));
        let key = ElementKey::new(&named.group, 0);
        let places = vec![0; task.variables.len()];
        let scope = scope(task, &places, &key);
        for reference in task.after.iter().filter(|reference| reference.is_constant()) {
            shared.orders.extend(self.order(reference, &scope)?);
        }
        for (number, input) in task.inputs.iter().enumerate() {
            let found = match input.uses() {
                0 => Some(self.files.find(input, &scope, NOBODY)?),
                _ => None,
            };
            // A pattern that also finds what the array itself makes differs for every element.
            let found = found.filter(|found| !makes_any(named, found));
            if let Some(found) = &found {
                self.order_files(&mut shared, number, found)?;
            }
            shared.found.push(found);
        }
        Ok(shared)
    }

    /// Waits for the producers of files that all elements of a task need.
    fn order_files(&mut self, shared: &mut Shared<'_>, number: usize, found: &[Match]) -> Outcome<()> {
        let mut producers: Vec<TaskId> = found.iter().filter_map(|one| one.producer).collect();
        producers.dedup();
        if producers.len() > 1 && shared.count > 1 {
            let joined = self.hidden.files(&shared.task.name, number, producers, &mut self.builder);
            producers = vec![joined.map_err(graph_fault)?];
        }
        shared.orders.extend(producers);
        Ok(())
    }

    /// The task to wait for so that what a reference names is finished.
    fn order(&mut self, reference: &Reference, scope: &Scope<'_>) -> Outcome<Option<TaskId>> {
        let Some(found) = links::resolve(reference, self.names, scope)? else { return Ok(None) };
        match found {
            Found::One(task) => Ok(Some(task)),
            Found::Whole(number) if self.names.group(number).count == 1 => {
                Ok(Some(self.names.group(number).group.first))
            }
            Found::Whole(number) => {
                let join = self.hidden.join(self.names.group(number), &mut self.builder);
                join.map(Some).map_err(graph_fault)
            }
        }
    }

    fn define_one(&mut self, shared: &mut Shared<'_>, id: TaskId, scope: &Scope<'_>) -> Outcome<Definition> {
        let task = shared.task;
        let mut orders = shared.orders.clone();
        for reference in task.after.iter().filter(|reference| !reference.is_constant()) {
            orders.extend(self.order(reference, scope)?);
        }
        let mut positions = Positions::default();
        let mut slots = Vec::with_capacity(task.references.len());
        for reference in &task.references {
            slots.push(self.slot(reference, shared.count, scope, &mut positions)?);
        }
        let mut matches = Vec::new();
        for (input, found) in task.inputs.iter().zip(&shared.found) {
            if found.is_none() {
                let found = self.files.find(input, scope, id)?;
                orders.extend(found.iter().filter_map(|one| one.producer));
                matches.push(found);
            }
        }
        let operation = self.operation(shared, slots, matches, scope)?;
        Ok(Definition { operation, options: shared.options, values: positions.tasks, orders })
    }

    fn slot(
        &mut self,
        reference: &Reference,
        count: u32,
        scope: &Scope<'_>,
        positions: &mut Positions,
    ) -> Outcome<Slot> {
        let number = match links::resolve(reference, self.names, scope)? {
            None => return Ok(Slot::Missing),
            Some(Found::One(task)) => return Ok(Slot::Input(positions.of(task))),
            Some(Found::Whole(number)) => number,
        };
        let named = self.names.group(number);
        if reference.field == "stdin" {
            let (task, field) = (scope.key.text().to_owned(), "stdin".to_owned());
            let problem = Problem::WholeArray { task, field, array: named.group.name.clone() };
            let example = named.group.key(0);
            return Err(
                Fault::at(reference.span, problem).hint(format!("name an element, such as `@{example}`"))
            );
        }
        if count > 1 && named.count > 1 {
            let list = self.hidden.list(named, &mut self.builder);
            let list = list.map_err(graph_fault)?;
            return Ok(Slot::Input(positions.of(list)));
        }
        Ok(positions.of_all(named.group.first, named.count))
    }

    /// The operation of one element: one that an element before it has, if nothing differs.
    fn operation(
        &mut self,
        shared: &mut Shared<'_>,
        slots: Vec<Slot>,
        matches: Vec<Vec<Match>>,
        scope: &Scope<'_>,
    ) -> Outcome<OperationId> {
        let place = shared.place(scope.places);
        let known = place.and_then(|place| shared.operations.get(&place));
        if let Some((_, operation)) = known.and_then(|known| known.iter().find(|(other, _)| *other == slots))
        {
            return Ok(*operation);
        }
        let mut own = matches.into_iter();
        let found: Vec<Match> = shared
            .found
            .iter()
            .flat_map(|found| found.clone().or_else(|| own.next()).unwrap_or_default())
            .collect();
        let built = build_operation(shared.task, &slots, found, self.directory, scope)?;
        let operation = self.builder.operation(built);
        if let Some(place) = place {
            shared.operations.entry(place).or_default().push((slots, operation));
        }
        Ok(operation)
    }
}

impl Shared<'_> {
    /// True if no element differs from another in anything but its name.
    fn is_same_for_all(&self) -> bool {
        let mut references = self.task.references.iter().chain(&self.task.after);
        self.uses == 0 && self.found.iter().all(Option::is_some) && references.all(Reference::is_constant)
    }

    /// Where an element stands along the variables that operations depend on; none if no two
    /// elements stand at the same place, so that nothing is worth remembering.
    fn place(&self, places: &[usize]) -> Option<usize> {
        let variables = &self.task.variables;
        let used = |number: usize| self.uses & (1 << number) != 0;
        if !variables.is_empty() && (0..variables.len()).all(used) {
            return None;
        }
        if self.task.zipped && self.uses != 0 {
            return None;
        }
        let axes = places.iter().zip(variables).enumerate().filter(|(number, _)| used(*number));
        Some(axes.fold(0, |sum, (_, (place, variable))| sum * variable.axis.count() + place))
    }
}
