//! Whether the workers that are up can ever run every task of a plan.

use std::collections::BTreeSet;

use crate::core::id::TaskId;
use crate::core::resources::Resources;
use crate::core::task::TaskOptions;

use super::cluster::Plan;
use super::start::StartError;

/// The workers in the order of ranks: the node of each, and what it has.
pub struct Fleet<'a> {
    pub hosts: &'a [String],
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
        let needed = graph.needed_by(plan.asked.iter().copied());
        let misfits: Vec<Option<Misfit>> =
            graph.columns().options.iter().map(|options| self.misfit(options)).collect();
        let is_needed = |task: &TaskId| needed[task.index()] && !graph.is_join(*task);
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
