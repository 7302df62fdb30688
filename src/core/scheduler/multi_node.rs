//! Multi-node tasks: each takes several whole workers on distinct hosts, its team, for itself.
//!
//! One task collects at a time, in the order of urgency: its workers are reserved, so that they get
//! nothing more, and once they are idle the first of them, the lead, is given the task. Who collects
//! always comes to its end, because its workers only run dry; who does not holds nothing. So no two
//! tasks wait for each other, and small tasks, which cannot enter a reserved worker, starve nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::event::{Cause, Event};
use crate::core::id::{Rank, TaskId};
use crate::core::message::Order;
use crate::core::resources::Resources;
use crate::core::span::Span;

use super::machine::{Action, Scheduler};
use super::placement::look_at;
use super::tasks::TaskState;
use super::workers::Workers;

/// The multi-node tasks that are ready or at work.
#[derive(Debug, Default)]
pub struct MultiNode {
    /// Ready tasks by level, the collecting one among them. What is ready no more is skipped.
    waiting: BTreeSet<(u32, TaskId)>,
    collection: Option<Collection>,
    /// The team of each assigned task, the lead first. Lost workers are not in it.
    teams: BTreeMap<TaskId, Vec<Rank>>,
    /// False if nothing changed since a team was looked for in vain.
    is_worth_looking: bool,
}

/// A team that is about to be complete.
#[derive(Debug)]
struct Collection {
    level: u32,
    task: TaskId,
    team: Vec<Rank>,
    /// How many workers at the head of the team are known to be idle. They stay so.
    idle: usize,
}

/// What looking for a team came to.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// These workers, in the order of ranks.
    Team(Vec<Rank>),
    /// There are enough hosts, but other multi-node tasks have their workers.
    Later,
    /// There are too few hosts with a worker that is large enough.
    Never,
}

impl MultiNode {
    /// Enters a task that became ready.
    pub fn push(&mut self, level: u32, task: TaskId) {
        self.waiting.insert((level, task));
        self.is_worth_looking = true;
    }

    /// Notes that other workers are there, or others are free.
    pub fn look_again(&mut self) {
        self.is_worth_looking = true;
    }

    /// Forgets the tasks that are ready. Teams at work stay.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// True if a ready task is known.
    pub fn contains(&self, level: u32, task: TaskId) -> bool {
        self.waiting.contains(&(level, task))
    }

    /// Every team, the collecting one included: the task, and its workers.
    pub fn teams(&self) -> impl Iterator<Item = (TaskId, &[Rank])> {
        let collecting = self.collection.iter().map(|collection| (collection.task, &collection.team[..]));
        collecting.chain(self.teams.iter().map(|(task, team)| (*task, &team[..])))
    }

    /// True if a task with a team is assigned.
    pub fn has_teams(&self) -> bool {
        !self.teams.is_empty()
    }

    /// The team of a task that was assigned.
    pub fn team_of(&self, task: TaskId) -> Option<&[Rank]> {
        self.teams.get(&task).map(Vec::as_slice)
    }
}

impl Scheduler {
    /// Collects workers for one task after the other, and gives each to its lead when they are idle.
    pub(super) fn serve_multi_node_tasks(&mut self, actions: &mut Vec<Action>) {
        while self.is_team_complete() {
            self.assign_to_team(actions);
        }
    }

    /// True if a task is collecting and its workers are idle.
    fn is_team_complete(&mut self) -> bool {
        let is_stale = |collection: &Collection| !self.is_ready(collection.task);
        if self.multi_node.collection.as_ref().is_some_and(is_stale) {
            self.give_up_collecting();
        }
        if self.multi_node.collection.is_none() {
            self.begin_collecting();
        }
        let Some(collection) = &mut self.multi_node.collection else { return false };
        let is_idle = |rank: &&Rank| self.workers.get(**rank).is_some_and(|record| record.assigned == 0);
        collection.idle += collection.team[collection.idle..].iter().take_while(is_idle).count();
        collection.idle == collection.team.len()
    }

    fn begin_collecting(&mut self) {
        if self.multi_node.waiting.is_empty() || !self.multi_node.is_worth_looking || self.is_outranked() {
            return;
        }
        self.multi_node.is_worth_looking = false;
        if let Some((level, task, team)) = self.choose_next() {
            for &worker in &team {
                self.workers.reserve(worker, task);
                self.call_back_queued(worker);
                self.unpark_all(worker);
            }
            self.multi_node.collection = Some(Collection { level, task, team, idle: 0 });
        }
    }

    /// True if an ordinary task of higher `priority` waits as well, and there is a worker for it: that is
    /// placed first.
    fn is_outranked(&mut self) -> bool {
        let Some(ordinary) = self.first_possible() else { return false };
        let priority = |task: TaskId| self.graph.options(task).priority;
        self.multi_node.waiting.first().is_some_and(|&(_, task)| priority(ordinary) > priority(task))
    }

    /// The first ordinary task that some worker is large enough for.
    fn first_possible(&mut self) -> Option<TaskId> {
        let mut after = None;
        while let Some((run, class)) = self.ready.next_head(after) {
            if !self.is_ready(run.tasks.first) {
                self.ready.take(class, 1);
            } else if self.workers.is_any_large_enough(class) {
                return Some(run.tasks.first);
            } else {
                after = Some((run, class));
            }
        }
        None
    }

    /// The first task that can have a team now. One that cannot have any from the present workers is
    /// passed over; one that waits for other multi-node tasks lets nobody pass.
    fn choose_next(&mut self) -> Option<(u32, TaskId, Vec<Rank>)> {
        let mut impossible: Option<(&Resources, u32)> = None;
        let mut waiting = std::mem::take(&mut self.multi_node.waiting);
        waiting.retain(|&(_, task)| self.is_ready(task));
        self.multi_node.waiting = waiting;
        for &(level, task) in &self.multi_node.waiting {
            let options = self.graph.options(task);
            let request = (&options.resources, options.several_nodes().unwrap_or(1));
            if impossible == Some(request) {
                continue;
            }
            match choose(request.0, request.1 as usize, &self.workers) {
                Choice::Team(team) => return Some((level, task, team)),
                Choice::Later => return None,
                Choice::Never => impossible = Some(request),
            }
        }
        None
    }

    /// What a reserved worker has not started is better off elsewhere.
    fn call_back_queued(&mut self, worker: Rank) {
        let record = self.workers.get(worker).expect("a reserved worker lives");
        let tasks = self.workers.tasks_of(record);
        let mut queued: Vec<TaskId> = tasks.filter(|&task| self.state(task) == TaskState::Assigned).collect();
        queued.reverse();
        for task in queued {
            let order = Order::Retract(Span::one(task), self.tasks.attempt.get(task));
            self.workers.retract(worker, task, order);
        }
    }

    /// What waits for a reserved worker looks for another one.
    fn unpark_all(&mut self, worker: Rank) {
        while let Some(task) = self.workers.unpark(worker) {
            if self.is_ready(task) {
                let class = self.ready.class(self.graph.options_id(task));
                self.ready.push(class, self.urgency.level(task), Span::one(task));
            }
        }
    }

    fn assign_to_team(&mut self, actions: &mut Vec<Action>) {
        let Collection { level, task, team, .. } =
            self.multi_node.collection.take().expect("a complete team was collected");
        self.multi_node.waiting.remove(&(level, task));
        self.multi_node.is_worth_looking = true;
        let host = |rank: &Rank| self.workers.get(*rank).expect("a reserved worker lives").host.clone();
        let hosts: Vec<String> = team.iter().map(host).collect();
        let graph = Arc::clone(&self.graph);
        let facts = graph.facts(task);
        let inputs = look_at(facts.values, &self.tasks);
        self.assign(Span::one(task), team[0], (&facts, &inputs), Some(hosts.clone()));
        let attempt = self.tasks.attempt.get(task);
        let workers = team.clone();
        actions.push(Action::Record(Event::MultiNodeAssigned { task, attempt, workers, hosts }));
        self.multi_node.teams.insert(task, team);
    }

    /// Sets the workers of a task that is at no worker any more free; nothing for ordinary tasks.
    pub(super) fn disband(&mut self, task: TaskId) {
        if let Some(team) = self.multi_node.teams.remove(&task) {
            self.set_free(&team);
        }
    }

    /// Sets the workers that are being collected free. The task stays ready.
    pub(super) fn give_up_collecting(&mut self) {
        if let Some(collection) = self.multi_node.collection.take() {
            self.set_free(&collection.team);
        }
    }

    fn set_free(&mut self, team: &[Rank]) {
        team.iter().for_each(|&worker| self.workers.unreserve(worker));
        self.multi_node.look_again();
    }

    /// A reserved worker is lost, and what was assigned to it went back. A program that still runs at
    /// its lead is ended; the others stay reserved until the lead says that it is gone.
    pub(super) fn on_team_member_lost(&mut self, worker: Rank, task: TaskId) {
        let Some(team) = self.multi_node.teams.get_mut(&task) else {
            return self.give_up_collecting();
        };
        if team[0] == worker {
            return self.disband(task);
        }
        team.retain(|member| *member != worker);
        let lead = team[0];
        let attempt = self.tasks.attempt.get(task);
        self.workers.order(lead, Order::End(task, attempt, Cause::LostRank(worker)));
    }
}

/// The workers with the least to do, one on each host, that are large enough for `request`.
/// Looks at all workers: once for each multi-node task, and again when workers come or go.
fn choose(request: &Resources, nodes: usize, workers: &Workers) -> Choice {
    let mut hosts: BTreeMap<&str, Option<(u64, Rank)>> = BTreeMap::new();
    for (rank, record) in workers.iter().filter(|(_, record)| record.capacity.covers(request)) {
        let least_busy = hosts.entry(&record.host).or_default();
        if record.reserved_for.is_none() {
            let other = (record.expected_us as u64, rank);
            *least_busy = Some(least_busy.map_or(other, |known| known.min(other)));
        }
    }
    if hosts.len() < nodes {
        return Choice::Never;
    }
    let mut open: Vec<(u64, Rank)> = hosts.into_values().flatten().collect();
    if open.len() < nodes {
        return Choice::Later;
    }
    open.sort_unstable();
    let mut team: Vec<Rank> = open[..nodes].iter().map(|(_, rank)| *rank).collect();
    team.sort_unstable();
    Choice::Team(team)
}
