//! Combinations of fields, as sites and users put them together.

use super::asking::Case;

const fn case(
    name: &'static str,
    site: &'static str,
    typed: &'static [(&'static str, &'static str)],
) -> Case {
    Case { name, site, typed }
}

const SLURM: &str = "extends = \"slurm\"\n";
const PBS: &str = "extends = \"pbs\"\n";
const TORQUE: &str = "extends = \"torque\"\n";

/// A site that forbids `--mem`.
pub const FORBIDS_MEMORY: &str = "extends = \"slurm\"\nmemory = \"60GiB\"\nremove = [\"memory\"]\n";
/// A site that demands `--ntasks`.
pub const DEMANDS_NTASKS: &str = "extends = \"slurm\"\nntasks = true\nrequire = [\"account\"]\n";
/// A PBS site with `-P` and without `select`.
pub const TOTALS: &str =
    "extends = \"pbs\"\nform = \"totals\"\nrequire = [\"project\"]\ncpus_per_node = 48\n";

pub const CASES: &[Case] = &[
    // Slurm.
    case("slurm_least", SLURM, &[]),
    case("slurm_nodes_and_walltime", SLURM, &[("nodes", "4"), ("walltime", "10m"), ("queue", "short")]),
    case("slurm_one_node", SLURM, &[("nodes", "1"), ("walltime", "5"), ("cpus_per_worker", "2")]),
    case(
        "slurm_several_workers",
        SLURM,
        &[("nodes", "2"), ("workers_per_node", "2"), ("cpus_per_worker", "2")],
    ),
    case(
        "slurm_worker_per_socket",
        "extends = \"slurm\"\nsockets_per_node = 2\ncpus_per_node = 4\nworkers_per_node = \"socket\"\n",
        &[("nodes", "3")],
    ),
    case(
        "slurm_worker_per_gpu",
        "extends = \"slurm\"\ngpus_per_node = 2\ncpus_per_node = 4\nworkers_per_node = \"gpu\"\n",
        &[("nodes", "2"), ("queue", "gpu")],
    ),
    case("slurm_memory_per_node", SLURM, &[("nodes", "2"), ("memory", "1GB")]),
    case("slurm_memory_per_cpu", SLURM, &[("nodes", "2"), ("memory_per_cpu", "512MiB")]),
    case("slurm_memory_all", SLURM, &[("memory", "all")]),
    case("slurm_memory_none", "extends = \"slurm\"\nmemory = \"1G\"\n", &[("memory", "none")]),
    case(
        "slurm_memory_typed_replaces_per_cpu",
        "extends = \"slurm\"\nmemory_per_cpu = \"1G\"\n",
        &[("memory", "512M")],
    ),
    case("slurm_site_forbids_memory", FORBIDS_MEMORY, &[("nodes", "2")]),
    case("slurm_site_demands_ntasks", DEMANDS_NTASKS, &[("nodes", "4"), ("account", "proj1")]),
    case(
        "slurm_account_and_qos",
        SLURM,
        &[("account", "m1234_g"), ("qos", "normal"), ("queue", "short,long")],
    ),
    case("slurm_gpus_by_option", SLURM, &[("gpus_per_node", "2"), ("queue", "gpu")]),
    case(
        "slurm_gpus_by_gres",
        "extends = \"slurm\"\ngpu_request = \"gres\"\n",
        &[("gpus_per_node", "2"), ("queue", "gpu")],
    ),
    case("slurm_constraint", SLURM, &[("constraint", "any&big"), ("nodes", "2")]),
    case("slurm_nodelist_and_exclude", SLURM, &[("nodelist", "n[1-2]"), ("exclude", "n4"), ("nodes", "2")]),
    case("slurm_exclusive", SLURM, &[("exclusive", "true"), ("nodes", "2")]),
    case("slurm_reservation", SLURM, &[("reservation", "kept"), ("nodes", "1")]),
    case("slurm_own_output", SLURM, &[("stdout", "out 100%j.txt"), ("stderr", "/tmp/it's err.txt")]),
    case(
        "slurm_truncate_and_requeue",
        "extends = \"slurm\"\nopen_mode = \"truncate\"\n",
        &[("requeue", "yes")],
    ),
    case("slurm_dependency", SLURM, &[("dependency", "singleton")]),
    case("slurm_comment", SLURM, &[("comment", "Ada's runs #4: 50 %, <b>; rm -rf & (\u{fc})")]),
    case("slurm_mail", SLURM, &[("mail.user", "ada@example.org"), ("mail.types", "END,fail,time_limit_80")]),
    case("slurm_name", SLURM, &[("name", "Variants.7+b")]),
    case(
        "slurm_signal",
        "extends = \"slurm\"\nsignal = \"USR1\"\nmargin = \"2m\"\n",
        &[("walltime", "8:30")],
    ),
    case("slurm_export_none", "extends = \"slurm\"\n[environment]\nexport = \"none\"\n", &[]),
    case(
        "slurm_export_some",
        "extends = \"slurm\"\n[environment]\nexport = [\"HOME\", \"LANG\"]\n",
        &[("nodes", "2")],
    ),
    case(
        "slurm_shell_parts",
        "extends = \"slurm\"\nshebang = \"#!/usr/bin/env bash\"\nmodules = [\"gcc/13.2\", \"openmpi\"]\n\
         prologue = \"\"\"\nulimit -c 0\nsource \"$HOME/venv/bin/activate\"\"\"\"\n\
         epilogue = [\"echo done\", \"sync\"]\n[environment.variables]\nOMP_NUM_THREADS = \"1\"\nGREETING = \"it's\\na \\\"b\\\" $HOME\"\n",
        &[("environment.variables.MORE", "a b")],
    ),
    case(
        "slurm_directives",
        "extends = \"slurm\"\ndirectives = [\"--nice=5\"]\n",
        &[("directives", "--spread-job")],
    ),
    case(
        "slurm_many_lines_removed",
        "extends = \"slurm\"\nremove = [\"name\", \"open_mode\", \"survive_node_loss\", \"requeue\", \"stdout\"]\n",
        &[("nodes", "2")],
    ),
    // PBS Pro.
    case("pbs_least", PBS, &[]),
    case(
        "pbs_nodes",
        PBS,
        &[("nodes", "4"), ("walltime", "2h"), ("queue", "workq"), ("cpus_per_worker", "4")],
    ),
    case(
        "pbs_workers_memory_gpus",
        "extends = \"pbs\"\ncpus_per_node = 32\nmemory = \"128GB\"\ngpus_per_node = 4\nworkers_per_node = \"gpu\"\n",
        &[("nodes", "3"), ("constraint", "model=rome:ib=true"), ("account", "physics")],
    ),
    case(
        "pbs_uniform",
        "extends = \"pbs\"\nform = \"uniform\"\n",
        &[("nodes", "4"), ("cpus_per_worker", "8"), ("exclusive", "true")],
    ),
    case("pbs_exclusive", PBS, &[("nodes", "2"), ("exclusive", "yes")]),
    case(
        "pbs_old_form",
        "extends = \"pbs\"\nform = \"nodes\"\n",
        &[("nodes", "2"), ("cpus_per_worker", "2")],
    ),
    case(
        "pbs_site_without_select",
        TOTALS,
        &[("project", "ab12"), ("nodes", "2"), ("memory", "190GB"), ("gpus_per_node", "1")],
    ),
    case("pbs_reservation_is_a_queue", PBS, &[("reservation", "R123"), ("queue", "workq")]),
    case(
        "pbs_environment_mail",
        "extends = \"pbs\"\n[environment]\nexport = [\"PATH\"]\n",
        &[("mail.user", "ada@example.org"), ("mail.types", "begin,end,fail")],
    ),
    case(
        "pbs_requeue_dependency",
        PBS,
        &[("requeue", "yes"), ("dependency", "afterok:12.server"), ("survive_node_loss", "yes")],
    ),
    case("pbs_own_output", PBS, &[("stdout", "a b.out"), ("stderr", "/tmp/e.txt"), ("name", "a1")]),
    case(
        "pbs_no_select_by_removal",
        "extends = \"pbs\"\nremove = [\"nodes\"]\ndirectives = [\"-l ncpus=4\"]\n",
        &[("memory_per_cpu", "1G")],
    ),
    // Torque and this machine.
    case("torque_least", TORQUE, &[]),
    case(
        "torque_nodes",
        TORQUE,
        &[
            ("nodes", "2"),
            ("workers_per_node", "2"),
            ("cpus_per_worker", "2"),
            ("memory", "2GiB"),
            ("walltime", "1h"),
        ],
    ),
    case(
        "torque_exclusive_property",
        TORQUE,
        &[("nodes", "2"), ("exclusive", "yes"), ("constraint", "bigmem"), ("gpus_per_node", "1")],
    ),
    case("local", "extends = \"local\"\n", &[("workers_per_node", "2")]),
];
