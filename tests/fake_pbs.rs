//! The fake PBS of the tests, held against what a real OpenPBS printed (`tests/captures`): the same
//! keys with values of the same kind, the same words, the same exit codes. And it really runs jobs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A PBS of its own, with nodes m1, m2 and m3 of four cores, as where the captures were taken.
struct Pbs {
    folder: TempDir,
}

impl Pbs {
    fn new() -> Self {
        Pbs { folder: TempDir::new().expect("a temporary folder") }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/fake_pbs");
        let mut command = Command::new(commands.join(arguments[0]));
        command.args(&arguments[1..]).current_dir(self.path()).env("HOME", self.path());
        command.env("DAGMAR_FAKE_PBS", self.path().join("state"));
        command.output().unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    fn submit(&self, arguments: &[&str]) -> String {
        let output = self.call(&[&["qsub"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).trim().to_owned()
    }

    /// The attributes of a job, once `is_there` says so.
    fn job(&self, id: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let output = self.call(&["qstat", "-x", "-f", "-F", "json", id]);
            let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let job = &answer["Jobs"][id];
            if is_there(job) {
                return job.clone();
            }
            assert!(began.elapsed() < PATIENCE, "{job:#}");
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn finished(&self, id: &str) -> Value {
        self.job(id, |job| job["job_state"] == "F")
    }

    fn script(&self, text: &str) -> &'static str {
        fs::write(self.path().join("job.sh"), text).expect("a script can be written");
        "job.sh"
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn capture(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/captures/openpbs-23.06", name].iter().collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The job `id` of a captured JSON answer.
fn captured_job(name: &str, id: &str) -> Value {
    let answer: Value = serde_json::from_str(&capture(name)).expect("JSON");
    answer["Jobs"][id].clone()
}

/// Every value's place and kind: `Resource_List.ncpus: number`.
fn shape(value: &Value) -> BTreeMap<String, &'static str> {
    let mut kinds = BTreeMap::new();
    let mut open = vec![(String::new(), value)];
    while let Some((place, value)) = open.pop() {
        let kind = match value {
            Value::Object(members) => {
                open.extend(members.iter().map(|(name, value)| (format!("{place}.{name}"), value)));
                continue;
            }
            Value::Number(_) => "number",
            Value::String(_) => "text",
            other => panic!("{place}: {other}"),
        };
        kinds.insert(place, kind);
    }
    kinds
}

/// What a captured command printed, and its exit code.
fn said(name: &str) -> (String, i32) {
    let all = capture(name);
    let (_, rest) = all.split_once('\n').expect("the first line is the command");
    let (printed, code) = rest.rsplit_once("[exit ").expect("the last line is the exit code");
    (printed.to_owned(), code.trim_end().trim_end_matches(']').parse().expect("a number"))
}

#[test]
fn errors_have_the_words_and_codes_of_a_real_pbs() {
    let pbs = Pbs::new();
    let cases: [(&str, &[&str]); 4] = [
        ("qsub-bad-queue.txt", &["qsub", "-q", "nosuch", "--", "/bin/true"]),
        ("qsub-bad-select.txt", &["qsub", "-l", "select=x", "--", "/bin/true"]),
        ("qstat-unknown.txt", &["qstat", "9999"]),
        ("qdel-unknown.txt", &["qdel", "9999"]),
    ];
    for (name, arguments) in cases {
        let (words, code) = said(name);
        let output = pbs.call(arguments);
        assert_eq!(text(&output.stderr).replace(".server", ".pbs"), words, "{name}");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), ""), "{name}");
    }
}

#[test]
fn a_running_job_has_the_attributes_of_a_real_one() {
    let pbs = Pbs::new();
    let resources = "select=2:ncpus=1:mpiprocs=1,place=scatter,walltime=00:10:00";
    let id = pbs.submit(&["-N", "run", "-l", resources, "--", "/bin/sleep", "60"]);
    let job = pbs.job(&id, |job| job["job_state"] == "R");
    let real = captured_job("qstat-f-running.json", "20.pbs");
    assert_eq!(shape(&job), shape(&real));
    for same in ["Job_Name", "queue", "Resource_List", "exec_host", "exec_vnode", "substate", "Join_Path"] {
        assert_eq!(job[same], real[same], "{same}");
    }
    assert!(pbs.call(&["qdel", &id]).status.success());
    let job = pbs.finished(&id);
    let words = job["comment"].as_str().expect("text");
    assert!(words.contains(" and terminated by "), "{words}");
    assert_eq!((job["substate"].as_i64(), job["Exit_status"].as_i64()), (Some(91), Some(256 + 15)));
}

#[test]
fn finished_jobs_have_the_attributes_of_real_ones() {
    let pbs = Pbs::new();
    let first = pbs.submit(&["-N", "exit3", "--", "/bin/bash", "-c", "exit 3"]);
    let second = pbs.submit(&["-N", "sig9", "--", "/bin/bash", "-c", "kill -9 $$"]);
    for (id, real) in [(&first, "6.pbs"), (&second, "7.pbs")] {
        let (mut job, mut real) = (pbs.finished(id), captured_job("qstat-xf-all.json", real));
        // The real one had dependents, and a session that PBS had already forgotten.
        for (value, names) in [(&mut real, ["depend"]), (&mut job, ["session_id"])] {
            let members = value.as_object_mut().expect("attributes");
            names.iter().for_each(|name| drop(members.remove(*name)));
        }
        assert_eq!(shape(&job), shape(&real));
        for same in ["job_state", "substate", "Exit_status", "Resource_List", "executable", "argument_list"] {
            assert_eq!(job[same], real[same], "{same}");
        }
    }
    let unasked = pbs.call(&["qstat", "-f", &first]);
    assert_eq!(unasked.status.code(), Some(35));
    assert!(text(&unasked.stderr).contains("Job has finished, use -x or -H"), "{unasked:?}");
}

#[test]
fn of_two_ids_json_answers_for_the_first() {
    let pbs = Pbs::new();
    let ids = ["one", "two"].map(|name| pbs.submit(&["-N", name, "--", "/bin/true"]));
    ids.iter().for_each(|id| drop(pbs.finished(id)));
    let output = pbs.call(&["qstat", "-x", "-f", "-F", "json", &ids[1], &ids[0]]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let real: Value = serde_json::from_str(&capture("qstat-xf-two-ids.json")).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&answer), keys(&real));
    assert_eq!(keys(&answer["Jobs"]), [ids[1].clone()]);
    assert_eq!(keys(&real["Jobs"]), ["6.pbs"]);
}

#[test]
fn a_table_looks_like_a_real_one() {
    let pbs = Pbs::new();
    pbs.submit(&["-h", "-N", "held", "--", "/bin/true"]);
    let table = text(&pbs.call(&["qstat"]).stdout);
    let (real, _) = said("qstat.txt");
    let head = |table: &str| table.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(&table), head(&real));
    let row = |table: &str, name: &str| table.lines().find(|line| line.contains(name)).map(str::to_owned);
    let (mine, real) = (row(&table, "held").expect("a row"), row(&real, "held").expect("a row"));
    // Names differ in length, columns do not.
    for column in [18, 35, 53, 62, 64] {
        assert_eq!(&mine[column - 1..column], " ", "{mine}");
        assert_eq!(&real[column - 1..column], " ", "{real}");
    }
    assert_eq!((&mine[53..], mine.len()), (&real[53..], real.len()));
}

#[test]
fn a_job_script_runs_as_its_lines_say() {
    let pbs = Pbs::new();
    let script = pbs.script(
        "#!/bin/bash\n#PBS -N mpijob\n#PBS -l select=1:ncpus=2:mpiprocs=3+2:ncpus=2:mpiprocs=1,place=scatter\n\
         #PBS -j oe -A proj\n#PBS -v COLOUR=blue\n# a remark\n\nenv | grep -E 'PBS|^(NCPUS|OMP_|ENVIRONMENT|TMPDIR)' | cut -d= -f1 | sort\n\
         echo \"--- $COLOUR $PWD\"; cat $PBS_NODEFILE; echo gone wrong >&2\n#PBS -N toolate\n",
    );
    let id = pbs.submit(&[script]);
    let job = pbs.finished(&id);
    assert_eq!((job["Job_Name"].as_str(), job["Exit_status"].as_i64()), (Some("mpijob"), Some(0)), "{job:#}");
    let output = pbs.read("mpijob.o0");
    let (names, rest) = output.split_once("---").expect("names come first");
    let real = capture("job-environment.txt");
    let expected: Vec<&str> = real
        .lines()
        .take_while(|line| !line.starts_with("---"))
        .map(|line| line.split('=').next().unwrap_or(""))
        .collect();
    let names: Vec<&str> = names.lines().filter(|name| !name.starts_with("DAGMAR_")).collect();
    assert_eq!(names, expected);
    let folder = fs::canonicalize(pbs.path()).expect("it is there");
    assert_eq!(rest, format!(" blue {}\nm1\nm1\nm1\nm2\nm3\ngone wrong\n", folder.display()));
    assert!(!pbs.path().join("mpijob.e0").exists());
}

#[test]
fn walltime_ends_a_job_with_a_line_in_its_output() {
    let pbs = Pbs::new();
    let script = pbs.script("trap 'echo TERM; exit 1' TERM\necho run\nsleep 60 & wait\n");
    let id = pbs.submit(&["-N", "wall", "-j", "oe", "-l", "walltime=1", script]);
    let job = pbs.finished(&id);
    let real = captured_job("qstat-xf-all.json", "1.pbs");
    for same in ["Exit_status", "substate", "job_state", "Join_Path"] {
        assert_eq!(job[same], real[same], "{same}");
    }
    let ending =
        |job: &Value| job["comment"].as_str().map(|text| text.split(") ").last().unwrap_or("").to_owned());
    assert_eq!(ending(&job), ending(&real));
    let (output, real) = (pbs.read("wall.o0"), capture("job-output-walltime.txt"));
    let words = |line: &str| line.replace(|c: char| c.is_ascii_digit(), "");
    let killed = |text: &str| text.lines().find(|line| line.starts_with("=>>")).map(words);
    assert_eq!(killed(&output), killed(&real), "{output}");
    assert!(output.starts_with("run\n") && output.contains("TERM"), "{output}");
}

#[test]
fn dependencies_wait_and_decide() {
    let pbs = Pbs::new();
    let first =
        pbs.submit(&["-N", "exit3", "--", "/bin/bash", "-c", "until [ -e go ]; do sleep 0.05; done; exit 3"]);
    let [good, any] = ["afterok", "afterany"]
        .map(|kind| pbs.submit(&["-N", kind, "-W", &format!("depend={kind}:{first}"), "--", "/bin/true"]));
    assert_eq!(pbs.job(&any, |_| true)["job_state"], "H");
    fs::write(pbs.path().join("go"), "").expect("a file can be written");
    let (job, real) = (pbs.finished(&good), captured_job("qstat-xf-all.json", "8.pbs"));
    let without = |value: &Value| shape(value).into_keys().filter(|key| key != ".etime").collect::<Vec<_>>();
    assert_eq!(without(&job), without(&real));
    assert_eq!((&job["substate"], &job["Hold_Types"]), (&real["substate"], &real["Hold_Types"]));
    assert_eq!(pbs.finished(&any)["Exit_status"], 0);
}

#[test]
fn what_never_fits_stays_in_the_queue_and_says_why() {
    let pbs = Pbs::new();
    let id = pbs.submit(&["-l", "select=2:ncpus=9", "-N", "toobig", "--", "/bin/true"]);
    let (job, real) = (pbs.job(&id, |_| true), captured_job("qstat-xf-all.json", "14.pbs"));
    assert_eq!(shape(&job), shape(&real));
    for same in ["job_state", "substate", "comment", "Resource_List"] {
        assert_eq!(job[same], real[same], "{same}");
    }
    assert!(pbs.call(&["qdel", &id]).status.success());
    assert_eq!(pbs.finished(&id)["substate"], 91);
}

#[test]
fn queues_have_the_attributes_of_real_ones() {
    let (real, _) = said("qstat-Q-f.txt");
    // What is assigned appears once something is.
    let names = |text: &str| -> Vec<String> {
        let lines = text.split("\n\n").next().unwrap_or_default().lines();
        let names = lines.filter_map(|line| Some(line.split_once(" = ")?.0.trim().to_owned()));
        names.filter(|name| !name.starts_with("resources_assigned")).collect()
    };
    let output = text(&Pbs::new().call(&["qstat", "-Q", "-f"]).stdout);
    assert!(real.starts_with("Queue: workq\n") && output.starts_with("Queue: workq\n"), "{output}");
    assert_eq!(names(&output), names(&real));
}

#[test]
fn jobs_are_selected_by_what_became_of_them() {
    let pbs = Pbs::new();
    let over = pbs.submit(&["--", "/bin/true"]);
    pbs.finished(&over);
    let held = pbs.submit(&["-h", "--", "/bin/true"]);
    for (options, expected) in [
        (vec![], format!("{held}\n")),
        (vec!["-x"], format!("{over}\n{held}\n")),
        (vec!["-x", "-s", "F"], format!("{over}\n")),
        (vec!["-u", "nobody-here"], String::new()),
    ] {
        let output = pbs.call(&[vec!["qselect"], options.clone()].concat());
        assert_eq!(text(&output.stdout), expected, "{options:?}");
    }
    assert!(pbs.call(&["qdel", &held]).status.success());
}
