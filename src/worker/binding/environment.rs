//! How a command learns what it is bound to.

use std::collections::BTreeSet;

use crate::core::slot::Slot;
use crate::worker::hardware::GpuKind;
use crate::worker::share::Share;

/// The variables for a command with this slot, on a worker with this share. `cpus` are the CPUs that
/// no other command of the worker was given, bound or not.
pub fn of(share: &Share, cpus: &[u32], slot: &Slot) -> Vec<(String, String)> {
    let mut variables =
        vec![("DAGMAR_CPU_LIST".to_owned(), listed(cpus)), ("DAGMAR_GPUS".to_owned(), slot.gpus.join(","))];
    for (name, instances) in &slot.custom {
        variables.push((resource_variable(name), listed(instances)));
    }
    let kinds: BTreeSet<GpuKind> = share.gpus.iter().map(|gpu| gpu.kind).collect();
    for kind in kinds {
        let is_of_kind = |id: &&String| share.gpus.iter().any(|gpu| gpu.kind == kind && gpu.id == **id);
        let ids: Vec<&str> = slot.gpus.iter().filter(is_of_kind).map(String::as_str).collect();
        visible(kind, &ids, &mut variables);
    }
    variables
}

/// Makes the drivers of one kind show these GPUs only; with none of them, none.
fn visible(kind: GpuKind, ids: &[&str], variables: &mut Vec<(String, String)>) {
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    if matches!(kind, GpuKind::Nvidia | GpuKind::Unknown) {
        // By default the fastest GPU has the index 0, whatever the batch system calls it.
        set("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned());
        set("CUDA_VISIBLE_DEVICES", ids.join(","));
    }
    if matches!(kind, GpuKind::Amd | GpuKind::Unknown) {
        set("ROCR_VISIBLE_DEVICES", ids.join(","));
        // Counted among those that the other variable leaves; an inherited value would hide them.
        let left: Vec<String> = (0..ids.len()).map(|index| index.to_string()).collect();
        set("HIP_VISIBLE_DEVICES", if left.is_empty() { "-1".to_owned() } else { left.join(",") });
    }
    // An empty mask would show all of Intel's GPUs, so the inherited one stays.
    if kind == GpuKind::Intel && !ids.is_empty() {
        set("ZE_AFFINITY_MASK", ids.join(","));
    }
}

/// `DAGMAR_RESOURCE_` and the name as variables are written: `my-licence` gives `MY_LICENCE`.
fn resource_variable(name: &str) -> String {
    let letter = |letter: char| match letter.is_ascii_alphanumeric() {
        true => letter.to_ascii_uppercase(),
        false => '_',
    };
    format!("DAGMAR_RESOURCE_{}", name.chars().map(letter).collect::<String>())
}

fn listed(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::hardware::Gpu;

    /// The variables of a command that has these GPUs on a worker that has two of a kind.
    fn told(kind: GpuKind, gpus: &[&str]) -> Vec<String> {
        let all = ["2", "3"].map(|id| Gpu { kind, id: id.to_owned() });
        let share = Share { gpus: all.to_vec(), ..Share::default() };
        let gpus = gpus.iter().map(|&id| id.to_owned()).collect();
        let variables = of(&share, &[], &Slot { gpus, ..Slot::default() });
        let told = variables.into_iter().filter(|(name, _)| !name.starts_with("DAGMAR_"));
        told.map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn every_kind_of_gpu_has_its_variables() {
        let nvidia = ["CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=3"];
        let amd = ["ROCR_VISIBLE_DEVICES=3", "HIP_VISIBLE_DEVICES=0"];
        assert_eq!(told(GpuKind::Nvidia, &["3"]), nvidia);
        assert_eq!(told(GpuKind::Amd, &["3"]), amd);
        assert_eq!(told(GpuKind::Intel, &["3"]), ["ZE_AFFINITY_MASK=3"]);
        assert_eq!(told(GpuKind::Unknown, &["3"]), [nvidia, amd].concat());
        assert_eq!(told(GpuKind::Amd, &["2", "3"])[1], "HIP_VISIBLE_DEVICES=0,1");
    }

    #[test]
    fn a_command_without_gpus_sees_none() {
        assert_eq!(told(GpuKind::Nvidia, &[])[1], "CUDA_VISIBLE_DEVICES=");
        assert_eq!(told(GpuKind::Amd, &[]), ["ROCR_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES=-1"]);
        assert_eq!(told(GpuKind::Intel, &[]), [""; 0]);
    }

    #[test]
    fn where_there_are_no_gpus_nothing_is_said_to_drivers() {
        let custom = [("my-lic.2".to_owned(), vec![0, 2])].into_iter().collect();
        let variables = of(&Share::default(), &[4, 6], &Slot { custom, ..Slot::default() });
        let told: Vec<String> =
            variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, ["DAGMAR_CPU_LIST=4,6", "DAGMAR_GPUS=", "DAGMAR_RESOURCE_MY_LIC_2=0,2"]);
    }
}
