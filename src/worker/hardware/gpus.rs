//! Which GPUs a process may use, and what they are called.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::cpus::parse_list;
use super::grant::{is_same_host, slurm_speaks_of};
use super::surroundings::Surroundings;

/// One GPU, or the part of one that is offered as a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gpu {
    /// Which variable it is chosen by.
    pub kind: GpuKind,
    /// What it is called in that variable: an index, `GPU-...` or `MIG-...`.
    pub id: String,
}

/// Whose drivers run a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuKind {
    /// NVIDIA, by `CUDA_VISIBLE_DEVICES`.
    Nvidia,
    /// AMD, by `ROCR_VISIBLE_DEVICES`.
    Amd,
    /// Intel, by `ZE_AFFINITY_MASK`.
    Intel,
    /// Not known: a person said that it is there.
    Unknown,
}

/// The variables that name a process's GPUs.
const VISIBLE: [(GpuKind, &str); 4] = [
    (GpuKind::Nvidia, "CUDA_VISIBLE_DEVICES"),
    (GpuKind::Amd, "ROCR_VISIBLE_DEVICES"),
    (GpuKind::Amd, "HIP_VISIBLE_DEVICES"),
    (GpuKind::Intel, "ZE_AFFINITY_MASK"),
];

/// Every GPU that this process may use: what it was told to see, else what the batch system gave it,
/// else what the node has.
pub fn find(node: &dyn Surroundings, host: &str) -> Vec<Gpu> {
    let devices = devices(node);
    if let Some(visible) = visible(node, &devices) {
        return visible;
    }
    if let Some(ids) = granted(node, host) {
        return all_of(granted_kind(&devices), ids);
    }
    match granted_count(node, host) {
        Some(count) if count <= devices.len() => devices[..count].to_vec(),
        Some(count) => all_of(granted_kind(&devices), (0..count).map(|index| index.to_string())),
        None => devices,
    }
}

fn all_of(kind: GpuKind, ids: impl IntoIterator<Item = String>) -> Vec<Gpu> {
    ids.into_iter().map(|id| Gpu { kind, id }).collect()
}

/// What the visibility variables say; `None` if there are none.
///
/// Slurm sets several of them alike unless it was told whose GPUs they are: then the node's devices
/// decide.
fn visible(node: &dyn Surroundings, devices: &[Gpu]) -> Option<Vec<Gpu>> {
    let said = VISIBLE.iter().filter_map(|(kind, name)| Some((*kind, visible_ids(&node.variable(name)?))));
    let said: Vec<(GpuKind, Vec<String>)> = said.collect();
    if said.is_empty() {
        return None;
    }
    let mut named = said.into_iter().filter(|(_, ids)| !ids.is_empty());
    let Some((first, ids)) = named.next() else { return Some(Vec::new()) };
    let alike = named.filter(|(_, other)| *other == ids).map(|(kind, _)| kind);
    let kinds: BTreeSet<GpuKind> = alike.chain([first]).collect();
    let kind = match kinds.len() {
        1 => first,
        _ => devices.iter().map(|gpu| gpu.kind).find(|kind| kinds.contains(kind)).unwrap_or(GpuKind::Unknown),
    };
    Some(all_of(kind, ids))
}

/// The devices in a visibility variable. As the drivers do, reading ends at the first word that names
/// none, such as `-1` or `NoDevFiles`.
fn visible_ids(text: &str) -> Vec<String> {
    let is_index =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_name = |word: &str| word.starts_with("GPU-") || word.starts_with("MIG-");
    let words = text.split(',').map(str::trim).take_while(|word| is_index(word) || is_name(word));
    let mut ids: Vec<String> = Vec::new();
    for word in words {
        // One that is named twice makes the drivers see none; here it is counted once.
        if !ids.iter().any(|id| id == word) {
            ids.push(word.to_owned());
        }
    }
    ids
}

/// The indices that the batch system gave the job on this node.
fn granted(node: &dyn Surroundings, host: &str) -> Option<Vec<String>> {
    let of_slurm = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"].into_iter().find_map(|name| node.variable(name));
    if let Some(list) = of_slurm.filter(|_| slurm_speaks_of(node, host)) {
        return Some(parse_list(&list)?.iter().map(u32::to_string).collect());
    }
    let lines = node.text(&node.variable("PBS_GPUFILE")?)?;
    let of_line = |line: &str| {
        let (name, index) = line.trim().rsplit_once("-gpu")?;
        (is_same_host(name, host) && index.parse::<u32>().is_ok()).then(|| index.to_owned())
    };
    Some(lines.lines().filter_map(of_line).collect())
}

/// How many GPUs Slurm gave the job on this node, where its configuration counts GPUs without naming
/// devices.
fn granted_count(node: &dyn Surroundings, host: &str) -> Option<usize> {
    let count = node.variable("SLURM_GPUS_ON_NODE").filter(|_| slurm_speaks_of(node, host))?;
    count.parse::<u8>().ok().map(usize::from)
}

/// Whose GPUs a batch system means by a bare number.
fn granted_kind(devices: &[Gpu]) -> GpuKind {
    devices.first().map_or(GpuKind::Unknown, |gpu| gpu.kind)
}

/// The node's own GPUs, by their devices.
fn devices(node: &dyn Surroundings) -> Vec<Gpu> {
    let names = node.names("/dev");
    let mut numbers: Vec<u32> =
        names.iter().filter_map(|name| name.strip_prefix("nvidia")?.parse().ok()).collect();
    numbers.sort_unstable();
    if !numbers.is_empty() {
        return all_of(GpuKind::Nvidia, numbers.iter().map(u32::to_string));
    }
    all_of(GpuKind::Amd, (0..amd_count(node)).map(|index| index.to_string()))
}

/// The nodes of the kernel's topology that compute: CPUs are listed there too, with no SIMD units.
fn amd_count(node: &dyn Surroundings) -> usize {
    let directory = "/sys/class/kfd/kfd/topology/nodes";
    let computes = |name: &String| {
        let text = node.text(&format!("{directory}/{name}/properties")).unwrap_or_default();
        let count =
            text.lines().find_map(|line| line.strip_prefix("simd_count ")?.trim().parse::<u32>().ok());
        count.is_some_and(|count| count > 0)
    };
    node.names(directory).iter().filter(|name| computes(name)).count()
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::Described;
    use super::*;

    /// The GPUs found, as `kind id`.
    fn found(entries: &[(&str, &str)]) -> Vec<String> {
        let gpus = find(&Described::new(entries), "n1.site");
        gpus.into_iter().map(|gpu| format!("{:?} {}", gpu.kind, gpu.id)).collect()
    }

    #[test]
    fn a_visibility_variable_is_believed_before_all_else() {
        let devices = ("/dev/nvidia0", "");
        assert_eq!(found(&[("CUDA_VISIBLE_DEVICES", "2,3"), devices]), ["Nvidia 2", "Nvidia 3"]);
        let uuids = "GPU-8f2a, MIG-0c1/1/0";
        assert_eq!(found(&[("CUDA_VISIBLE_DEVICES", uuids)]), ["Nvidia GPU-8f2a", "Nvidia MIG-0c1/1/0"]);
        assert_eq!(found(&[("ROCR_VISIBLE_DEVICES", "1")]), ["Amd 1"]);
        assert_eq!(found(&[("HIP_VISIBLE_DEVICES", "0,1")]), ["Amd 0", "Amd 1"]);
        assert_eq!(found(&[("ZE_AFFINITY_MASK", "0.1,1")]), ["Intel 0.1", "Intel 1"]);
    }

    #[test]
    fn an_empty_visibility_variable_means_no_gpu() {
        for text in ["", "-1", "NoDevFiles", "-1,0"] {
            let entries = [("CUDA_VISIBLE_DEVICES", text), ("/dev/nvidia0", ""), ("SLURM_JOB_GPUS", "0")];
            assert_eq!(found(&entries), [""; 0], "{text:?}");
        }
        assert_eq!(found(&[("CUDA_VISIBLE_DEVICES", "0,0,x,1")]), ["Nvidia 0"]);
    }

    #[test]
    fn variables_that_say_the_same_name_the_same_gpus() {
        let all =
            [("CUDA_VISIBLE_DEVICES", "0,1"), ("ROCR_VISIBLE_DEVICES", "0,1"), ("ZE_AFFINITY_MASK", "0,1")];
        assert_eq!(found(&all), ["Unknown 0", "Unknown 1"]);
        let node = Described::new(&all);
        let amd = node.with(&[("/sys/class/kfd/kfd/topology/nodes/1/properties", "simd_count 240\n")]);
        assert_eq!(find(&amd, "n1")[1], Gpu { kind: GpuKind::Amd, id: "1".into() });
        assert_eq!(find(&node.with(&[("/dev/nvidia0", "")]), "n1")[0].kind, GpuKind::Nvidia);
        assert_eq!(found(&[("CUDA_VISIBLE_DEVICES", "0"), ("ROCR_VISIBLE_DEVICES", "")]), ["Nvidia 0"]);
    }

    #[test]
    fn the_batch_system_is_believed_about_this_node_only() {
        let slurm = [("SLURM_JOB_GPUS", "1,3"), ("/dev/nvidia0", ""), ("/dev/nvidia1", "")];
        let node = Described::new(&slurm);
        assert_eq!(find(&node.with(&[("SLURMD_NODENAME", "n1")]), "n1")[1].id, "3");
        assert_eq!(find(&node.with(&[("SLURMD_NODENAME", "n9")]), "n1")[1].id, "1");
        let step = node.with(&[("SLURMD_NODENAME", "n1"), ("SLURM_STEP_GPUS", "2")]);
        assert_eq!(find(&step, "n1").len(), 1);
        let file = [("PBS_GPUFILE", "/var/aux/0gpu"), ("/var/aux/0gpu", "n1-gpu0\nn1-gpu2\nn2-gpu1\n")];
        assert_eq!(found(&file), ["Unknown 0", "Unknown 2"]);
    }

    #[test]
    fn gpus_that_slurm_only_counts_are_numbered() {
        let counted = [("SLURMD_NODENAME", "n1"), ("SLURM_GPUS_ON_NODE", "2")];
        assert_eq!(found(&counted), ["Unknown 0", "Unknown 1"]);
        let devices = [("/dev/nvidia0", ""), ("/dev/nvidia1", ""), ("/dev/nvidia2", "")];
        assert_eq!(found(&[&counted[..], &devices].concat()), ["Nvidia 0", "Nvidia 1"]);
        assert_eq!(found(&[("SLURMD_NODENAME", "n9"), ("SLURM_GPUS_ON_NODE", "2")]), [""; 0]);
    }

    #[test]
    fn the_devices_of_the_node_come_last() {
        let nvidia =
            [("/dev/nvidia1", ""), ("/dev/nvidia0", ""), ("/dev/nvidiactl", ""), ("/dev/nvidia-uvm", "")];
        assert_eq!(found(&nvidia), ["Nvidia 0", "Nvidia 1"]);
        let amd = [
            ("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 64\nsimd_count 0\n"),
            ("/sys/class/kfd/kfd/topology/nodes/1/properties", "cpu_cores_count 0\nsimd_count 440\n"),
        ];
        assert_eq!(found(&amd), ["Amd 0"]);
        assert_eq!(found(&[]), [""; 0]);
    }
}
