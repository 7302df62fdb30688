//! Whether the workers that are up can ever run every task of a plan.

use std::collections::BTreeSet;

use crate::core::id::TaskId;
use crate::core::resources::Resources;
use crate::core::task::TaskOptions;

use super::cluster::Plan;
use super::start::StartError;

/// The workers in the order of ranks, those that are up or those that are meant.
pub struct Fleet<'a> {
    /// The node of each.
    pub hosts: &'a [String],
    /// What each has.
    pub capacities: &'a [Resources],
}

/// Why a task can never run.
enum Misfit {
    /// A worker would have to have this much of a resource, and the most is that.
    Worker(String, u64, u64),
    /// There are so many nodes, and more are asked for.
    Nodes(u32, u32),
    /// This much of a resource is asked for on so many nodes, and so many have it.
    EachNode(String, u64, u32, u32),
}

impl Fleet<'_> {
    /// Refuses a plan with a task that can never run.
    pub fn check(&self, plan: &Plan) -> Result<(), StartError> {
        let graph = &plan.graph;
        let misfits: Vec<Option<Misfit>> =
            graph.columns().options.iter().map(|options| self.misfit(options)).collect();
        if misfits.iter().all(Option::is_none) {
            return Ok(());
        }
        let needed = graph.needed_by(&plan.asked);
        let is_needed = |task: &TaskId| needed.contains(*task) && !graph.is_join(*task);
        let refused = |task: TaskId| {
            let misfit = misfits[graph.options_id(task).index()].as_ref()?;
            Some(misfit.refusal(graph.key(task)))
        };
        graph.tasks().filter(is_needed).find_map(refused).map_or(Ok(()), Err)
    }

    fn misfit(&self, options: &TaskOptions) -> Option<Misfit> {
        let request = &options.resources;
        let able: BTreeSet<&String> = (self.hosts.iter().zip(self.capacities))
            .filter(|(_, capacity)| capacity.covers(request))
            .map(|(host, _)| host)
            .collect();
        let nodes = options.several_nodes().unwrap_or(1);
        if able.len() >= nodes as usize {
            return None;
        }
        let hosts: BTreeSet<&String> = self.hosts.iter().collect();
        if hosts.len() < nodes as usize {
            return Some(Misfit::Nodes(nodes, hosts.len() as u32));
        }
        let lacks = self.capacities.iter().filter_map(|capacity| capacity.first_lack(request));
        let (resource, asked, most) = lacks.max_by_key(|lack| lack.2).expect("not every worker covers it");
        match nodes {
            1 => Some(Misfit::Worker(resource, asked, most)),
            _ => Some(Misfit::EachNode(resource, asked, nodes, able.len() as u32)),
        }
    }
}

impl Misfit {
    fn refusal(&self, key: String) -> StartError {
        match self {
            Misfit::Worker(resource, asked, most) => StartError::Unfit(key, resource.clone(), *asked, *most),
            Misfit::Nodes(asked, here) => StartError::TooFewNodes(key, *asked, *here),
            Misfit::EachNode(resource, asked, nodes, able) => {
                StartError::UnfitNodes(key, resource.clone(), *asked, [*nodes, *able])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::scheduler::{CRASH_LIMIT, Persist};
    use crate::core::task::{Body, Call, Operation, Ranks};
    use crate::core::task_list::TaskList;
    use crate::record::resume::OnDamage;

    /// What is said of a task of so many nodes with so many cores on each.
    fn refusal(nodes: u32, cpus: u32, workers: &[(&str, u32)]) -> Option<String> {
        let mut builder = GraphBuilder::new("test", "/");
        builder.declare(Group::single("m")).unwrap();
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        let ranks = Some(Ranks { count: nodes, nodes, cpus });
        let resources = Resources::cores(cpus);
        let options = builder.options(TaskOptions { ranks, resources, ..TaskOptions::default() });
        builder.define(Definition { operation, options, values: vec![], orders: vec![] }).unwrap();
        let plan = Plan {
            graph: Arc::new(builder.build().unwrap()),
            asked: TaskList::from(&[TaskId(0)]),
            prints: false,
            persist: Persist::Kept,
            max_fails: None,
            crash_limit: CRASH_LIMIT,
            resumes: false,
            if_missing: false,
            on_damage: OnDamage::Refuse,
            client: None,
        };
        let hosts: Vec<String> = workers.iter().map(|(host, _)| (*host).to_owned()).collect();
        let capacities: Vec<Resources> = workers.iter().map(|(_, cpus)| Resources::cores(*cpus)).collect();
        let refused = Fleet { hosts: &hosts, capacities: &capacities }.check(&plan).err()?;
        Some(refused.to_string())
    }

    #[test]
    fn nodes_count_once_and_only_with_a_worker_that_is_large_enough() {
        assert_eq!(refusal(2, 2, &[("a", 1), ("a", 2), ("b", 2)]), None);
        let few = refusal(2, 1, &[("a", 1), ("a", 1)]);
        insta::assert_snapshot!(few.unwrap(), @"task `m` asks for 2 nodes, but there is 1 node");
        let small = refusal(3, 4, &[("a", 4), ("b", 4), ("c", 2), ("d", 1)]);
        insta::assert_snapshot!(small.unwrap(), @"task `m` asks for 4 of `cpus` on each of 3 nodes, but 2 nodes have a worker with as much");
        let worker = refusal(1, 4, &[("a", 2), ("b", 3)]);
        insta::assert_snapshot!(worker.unwrap(), @"task `m` asks for 4 of `cpus`, but no worker has more than 3");
    }
}
