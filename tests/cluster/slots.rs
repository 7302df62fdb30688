//! What a running task holds, nobody else holds: measured from the journal and by the tasks themselves.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use dagmar::core::event::Event;
use dagmar::core::id::{Attempt, Rank, TaskId};
use dagmar::core::slot::Slot;
use dagmar::core::time::Timestamp;
use dagmar::record::journal::JournalReader;

use crate::harness::{BOTH, Place, Ran, Ranks, json_lines, until};

/// Variables by which a machine with GPUs would change what is found.
const GPU_VARIABLES: [&str; 5] = [
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "SLURM_JOB_GPUS",
];

/// An attempt that ran to success, as the journal tells it.
struct Span {
    task: TaskId,
    worker: Rank,
    from: Timestamp,
    to: Timestamp,
    slot: Slot,
}

/// Every attempt in the journal of the only run of a place.
fn spans(place: &Place) -> Vec<Span> {
    let mut slots: HashMap<(TaskId, Attempt), Slot> = HashMap::new();
    let mut spans = Vec::new();
    for event in JournalReader::open(&place.run().join("journal")).expect("the run has a journal") {
        match event.expect("the journal is whole").1 {
            Event::TaskBound { task, attempt, slot, .. } => drop(slots.insert((task, attempt), *slot)),
            Event::TasksFinished { worker, batch } => {
                for (task, from, ran, _) in batch.timings() {
                    let slot = slots.remove(&(task, batch.attempt)).unwrap_or_default();
                    spans.push(Span { task, worker, from, to: from + ran, slot });
                }
            }
            _ => {}
        }
    }
    spans
}

/// The most of these that ran at once.
fn most_at_once<'a>(spans: impl Iterator<Item = &'a Span>) -> usize {
    let mut changes: Vec<(Timestamp, i64)> = spans.flat_map(|span| [(span.from, 1), (span.to, -1)]).collect();
    // What ends at the moment at which another one starts does not run beside it.
    changes.sort_unstable();
    let running = changes.into_iter().scan(0, |running, (_, change)| {
        *running += change;
        Some(*running)
    });
    running.max().map_or(0, |most| most as usize)
}

/// Spans by what they hold.
fn holders<'a, K: Ord>(spans: &'a [Span], held: impl Fn(&'a Span) -> Vec<K>) -> BTreeMap<K, Vec<&'a Span>> {
    let mut holders: BTreeMap<K, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        for thing in held(span) {
            holders.entry(thing).or_default().push(span);
        }
    }
    holders
}

/// Runs dagmar with these GPUs, or none, whatever the machine has.
fn run_with_gpus(place: &Place, ranks: Ranks, gpus: Option<&str>, arguments: &[&str]) -> Ran {
    let mut command = place.command(ranks);
    for name in GPU_VARIABLES {
        command.env_remove(name);
    }
    command.args(arguments).envs(gpus.map(|gpus| ("CUDA_VISIBLE_DEVICES", gpus)));
    let ran = place.spawn(command).end();
    assert_eq!(ran.code(), Some(0), "{ranks:?} {arguments:?} {ran}");
    ran
}

#[test]
fn a_task_with_a_gpu_never_shares_it() {
    for ranks in BOTH {
        let place = Place::with(
            "[tasks.t]\neach = { i = '0..15' }\nrun = 'echo $DAGMAR_GPUS; sleep 0.05'\nresources = { gpus = 1 }\n",
        );
        // Workers that see the same GPUs divide them.
        let ran = run_with_gpus(&place, ranks, Some("0,1,2,3"), &["run", "g.toml", "t", "--cpus", "6"]);
        let spans = spans(&place);
        assert_eq!(spans.len(), 16);
        assert!(spans.iter().all(|span| span.slot.gpus.len() == 1));
        let holders = holders(&spans, |span| span.slot.gpus.clone());
        assert_eq!(holders.keys().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{ranks:?}");
        for (gpu, spans) in holders {
            assert_eq!(most_at_once(spans.into_iter()), 1, "gpu {gpu}, {ranks:?}");
        }
        assert!((2..=4).contains(&most_at_once(spans.iter())), "{ranks:?}");
        // What the tasks were told is what the journal says, array elements being in order.
        let told: Vec<String> = json_lines(&ran.stdout)
            .iter()
            .map(|line| line["value"].as_str().unwrap_or_default().trim().to_owned())
            .collect();
        let first = spans.iter().map(|span| span.task.0).min().expect("there are spans");
        for span in &spans {
            assert_eq!(told[(span.task.0 - first) as usize], span.slot.gpus[0], "{ranks:?}");
        }
    }
}

#[test]
fn gpus_that_a_person_says_are_there_are_not_shared_by_the_workers_of_a_node() {
    for ranks in BOTH {
        let place = Place::with(
            "[tasks.t]\neach = { i = '0..11' }\nrun = 'sleep 0.05'\nresources = { gpus = 1, licence = 1 }\n",
        );
        let said = ["--resource", "gpus=2", "--resource", "licence=3"];
        run_with_gpus(&place, ranks, None, &[&["run", "g.toml", "--cpus", "4"], &said[..]].concat());
        let spans = spans(&place);
        assert_eq!(spans.len(), 12);
        for (gpu, spans) in holders(&spans, |span| span.slot.gpus.clone()) {
            assert_eq!(most_at_once(spans.into_iter()), 1, "gpu {gpu}, {ranks:?}");
        }
        let licences = |span: &Span| vec![(span.worker, span.slot.custom["licence"][0])];
        for (licence, spans) in holders(&spans, licences) {
            assert_eq!(most_at_once(spans.into_iter()), 1, "licence {licence:?}, {ranks:?}");
        }
    }
}

#[test]
fn eight_tasks_of_one_cpu_on_two_cpus_never_run_more_than_two_at_once() {
    for ranks in BOTH {
        let place = Place::with("[tasks.t]\neach = { i = '0..7' }\nrun = 'sleep 0.1'\n");
        run_with_gpus(&place, ranks, None, &["run", "g.toml", "--cpus", "2"]);
        let spans = spans(&place);
        assert_eq!(spans.len(), 8);
        assert!(spans.iter().all(|span| span.slot.is_empty()), "nothing is recorded where nothing is bound");
        for (worker, spans) in holders(&spans, |span| vec![span.worker]) {
            assert_eq!(most_at_once(spans.into_iter()), 2, "worker {worker}, {ranks:?}");
        }
    }
}

#[test]
fn a_bound_command_runs_on_the_cores_of_its_slot_alone() {
    for ranks in BOTH {
        let place = Place::with(
            "[tasks.t]\neach = { i = '0..7' }\n\
             run = 'grep Cpus_allowed_list /proc/self/status; echo $DAGMAR_CPU_LIST; sleep 0.05'\n",
        );
        let ran = run_with_gpus(&place, ranks, None, &["run", "g.toml", "t", "--bind", "cores"]);
        if ran.stderr.contains("it is not known which") {
            eprintln!("cannot run here: a quota limits the cores, and says not which: {}", ran.stderr);
            return;
        }
        for line in json_lines(&ran.stdout) {
            let value = line["value"].as_str().unwrap_or_default();
            let words: Vec<&str> = value.split_whitespace().skip(1).collect();
            assert!(words.len() == 2 && words[0] == words[1], "{ranks:?} {value}");
        }
        let spans = spans(&place);
        assert!(spans.iter().all(|span| span.slot.cpus.len() == 1), "{ranks:?}");
        let cores = holders(&spans, |span| vec![(span.worker, span.slot.cpus[0])]);
        let has = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(cores.len() >= has.min(2), "{:?}", cores.keys());
        for (core, spans) in cores {
            assert_eq!(most_at_once(spans.into_iter()), 1, "core {core:?}, {ranks:?}");
        }
    }
}

#[test]
fn functions_of_bound_workers_stay_on_the_cores_of_their_worker() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        eprintln!("cannot run here: there is one core");
        return;
    }
    let place = Place::with("[tasks.t]\neach = { i = '0..1' }\ncall = 'sleep'\nargs = [60]\n");
    let arguments = ["run", "g.toml", "--workers", "2", "--cpus", "1", "--bind", "cores"];
    let running = place.start(Ranks::Alone, &arguments);
    let slots = |pid: i32| {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let read = |path: &std::path::Path, name| fs::read_to_string(path.join(name)).unwrap_or_default();
        let slots = threads.map(|thread| thread.path()).filter(|path| read(path, "comm").trim() == "slot 0");
        let allowed = slots.map(|path| {
            let status = read(&path, "status");
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.unwrap_or_default().trim().to_owned()
        });
        allowed.collect::<Vec<String>>()
    };
    let pid = running.pid();
    let allowed = until("both workers have a thread for functions", || match slots(pid) {
        found if found.len() == 2 => Ok(found),
        found => Err(format!("{found:?} {}", running.stderr())),
    });
    if running.stderr().contains("it is not known which") {
        eprintln!("cannot run here: a quota limits the cores, and says not which");
        return;
    }
    assert!(allowed.iter().all(|list| list.parse::<u32>().is_ok()), "{allowed:?}");
    assert_ne!(allowed[0], allowed[1]);
    running.signal("TERM");
    assert_eq!(running.end().code(), Some(4));
}

#[test]
fn tasks_are_told_what_they_hold_and_env_wins() {
    let place = Place::with(
        r#"
[tasks.none]
run = 'env'
[tasks.one]
run = 'env'
resources = { gpus = 1, cpus = 2, my-licence = 2 }
[tasks.own]
run = 'env'
resources = { gpus = 1 }
env = { CUDA_VISIBLE_DEVICES = '7', DAGMAR_CPU_LIST = 'mine' }
"#,
    );
    let resources = ["--resource", "gpus=2", "--resource", "my-licence=2"];
    let arguments = [&["run", "g.toml", "none", "one", "own", "--cpus", "2"], &resources[..]].concat();
    let ran = run_with_gpus(&place, Ranks::Alone, None, &arguments);
    let told: BTreeMap<String, String> = json_lines(&ran.stdout)
        .iter()
        .map(|line| (line["key"].to_string(), line["value"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let has = |task: &str, variable: &str| {
        let environment = &told[&format!("\"{task}\"")];
        assert!(environment.lines().any(|line| line == variable), "{task} {variable}: {environment}");
    };
    for variable in ["DAGMAR_GPUS=", "CUDA_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES="] {
        has("none", variable);
    }
    has("one", "CUDA_DEVICE_ORDER=PCI_BUS_ID");
    has("one", "DAGMAR_CPUS=2");
    has("one", "DAGMAR_RESOURCE_MY_LICENCE=0,1");
    let spans = spans(&place);
    let gpu =
        spans.iter().find(|span| span.slot.custom.contains_key("my-licence")).map(|span| &span.slot.gpus[0]);
    let gpu = gpu.expect("the journal tells of the slot");
    has("one", &format!("DAGMAR_GPUS={gpu}"));
    has("one", &format!("CUDA_VISIBLE_DEVICES={gpu}"));
    has("own", "CUDA_VISIBLE_DEVICES=7");
    has("own", "DAGMAR_CPU_LIST=mine");
    let status = place.status();
    let worker = &status["workers"][0];
    assert_eq!((&worker["gpus"], &worker["resources"]["my-licence"]), (&2.into(), &2.into()), "{status}");
    assert!(worker["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
}

#[test]
fn half_a_gpu_is_refused_by_name() {
    let place = Place::with("[tasks.t]\nrun = 'true'\nresources = { gpus = 0.5 }\n");
    let run = place.expect(2, Ranks::Alone, &["run", "g.toml"]);
    run.tells("`resources.gpus`").tells("a whole number");
    place.write("whole.toml", "[tasks.t]\nrun = 'true'\n");
    let run = place.expect(2, Ranks::Alone, &["run", "whole.toml", "--resource", "gpus=0.5"]);
    run.tells("cannot understand `--resource gpus=0.5`");
}
