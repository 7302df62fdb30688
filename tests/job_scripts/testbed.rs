//! Every script before a real batch system.
//!
//! `DAGMAR_BIG_TESTBED` names the directory of a running Slurm testbed of large nodes (`scripts/testbed/slurm up -c 64 -m 500000
//! -g 4`), as the scripts ask for more than the small nodes of other tests have.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dagmar::launch::batch::System;

use super::asking::Asked;
use super::cases::CASES;

fn in_testbed(testbed: &Path, program: &str, arguments: &[&str], directory: &Path) -> Output {
    let call = ". \"$1/env.sh\"; shift; exec timeout 30 \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", call, "bash"]).arg(testbed).arg(program).args(arguments).current_dir(directory);
    command.output().expect("bash runs")
}

#[test]
fn sbatch_takes_every_script_for_slurm() {
    let Some(testbed) = env::var_os("DAGMAR_BIG_TESTBED") else {
        println!("not run: DAGMAR_BIG_TESTBED names no testbed");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.sh");
    let mut refused = Vec::new();
    let mut asked = 0;
    for case in CASES {
        let one = Asked::of(case);
        if one.request.system != System::Slurm {
            continue;
        }
        asked += 1;
        fs::write(&path, one.script()).unwrap();
        let answer = in_testbed(
            Path::new(&testbed),
            "sbatch",
            &["--test-only", path.to_str().unwrap()],
            directory.path(),
        );
        if !answer.status.success() {
            refused.push(format!("{}: {}", case.name, String::from_utf8_lossy(&answer.stderr)));
        }
    }
    assert!(asked >= 30, "only {asked} scripts are for Slurm");
    assert!(refused.is_empty(), "{} of {asked} refused:\n{}", refused.len(), refused.join("\n"));
}

/// What the wrapper of `slurm-wlm-torque` understands of PBS: one kind of chunk, and the old form.
/// It knows neither `+` in `select` nor `-P`, `-n`, and no GPUs or constraints.
const UNDERSTOOD: &[(&str, &str)] = &[
    ("pbs_least", "NumNodes=1-1 NumTasks=2"),
    ("pbs_environment_mail", "NumNodes=1-1 NumTasks=2"),
    ("pbs_own_output", "NumNodes=1-1 NumTasks=2"),
    ("pbs_old_form", "NumNodes=2-2 NumTasks=4"),
    ("pbs_uniform", "NumNodes=4-4 NumTasks=4"),
    ("torque_least", "NumNodes=1-1 NumTasks=1"),
    ("torque_nodes", "NumNodes=2-2 NumTasks=8"),
];

#[test]
fn the_qsub_of_a_testbed_reads_the_geometry_that_is_meant() {
    let Some(testbed) = env::var_os("DAGMAR_BIG_TESTBED") else {
        println!("not run: DAGMAR_BIG_TESTBED names no testbed");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let call = |program: &str, arguments: &[&str]| {
        let output = in_testbed(Path::new(&testbed), program, arguments, directory.path());
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {arguments:?}: {said}{complaint}");
        said.trim().to_owned()
    };
    for (name, expected) in UNDERSTOOD {
        let case = CASES.iter().find(|case| case.name == *name).expect("there is such a case");
        fs::write(directory.path().join("job.sh"), Asked::of(case).script()).unwrap();
        // Held, so that it never runs.
        let job = call("qsub", &["-h", "job.sh"]);
        let shown = call("scontrol", &["show", "job", "-o", &job]);
        call("scancel", &[&job]);
        for figure in expected.split(' ') {
            assert!(shown.split(' ').any(|word| word == figure), "{name}: no {figure} in {shown}");
        }
    }
}

/// Chunks as PBS reads them: `N:key=value:...` joined by `+`.
fn chunks(select: &str) -> Vec<(u64, Vec<(String, String)>)> {
    let chunk = |text: &str| {
        let mut parts = text.split(':');
        let count = parts.next().and_then(|count| count.parse().ok()).expect("a chunk begins with its count");
        let pair = |part: &str| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        (count, parts.map(|part| pair(part).expect("a resource has a value")).collect())
    };
    select.split('+').map(chunk).collect()
}

#[test]
fn the_chunks_of_pbs_add_up_to_the_nodes_and_ranks_that_are_meant() {
    let mut seen = 0;
    for case in CASES {
        let asked = Asked::of(case);
        let (script, shape) = (asked.script(), asked.request.shape);
        let Some(select) = script.lines().find_map(|line| line.strip_prefix("#PBS -l select=")) else {
            continue;
        };
        seen += 1;
        let chunks = chunks(select);
        let total = |key: &str| -> u64 {
            let of = |pairs: &[(String, String)]| {
                pairs
                    .iter()
                    .find(|(name, _)| name == key)
                    .map_or(0, |(_, value)| value.parse::<u64>().unwrap())
            };
            chunks.iter().map(|(count, pairs)| count * of(pairs)).sum()
        };
        let ranks = if asked.request.form() == "uniform" { shape.workers() } else { shape.workers() + 1 };
        assert_eq!(
            chunks.iter().map(|(count, _)| count).sum::<u64>(),
            u64::from(shape.nodes),
            "{}",
            case.name
        );
        assert_eq!(total("mpiprocs"), ranks, "{}", case.name);
        assert_eq!(total("ncpus"), u64::from(shape.nodes) * shape.cpus_per_node(), "{}", case.name);
        assert!(script.contains("\n#PBS -l place=scatter"), "{}", case.name);
    }
    assert!(seen >= 8, "only {seen} scripts have chunks");
}
