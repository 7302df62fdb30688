//! Allocations of real jobs, and what is said when one is broken.

use std::collections::BTreeMap;

use super::*;
use crate::launch::batch::{BatchError, JobState, JobView, Link};

fn from(pairs: &[(&str, &str)]) -> Result<Option<Allocation>, AllocationError> {
    let variables: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Allocation::from_variables(&|name| variables.get(name).cloned())
}

fn slurm_job() -> Vec<(&'static str, &'static str)> {
    vec![
        ("SLURM_JOB_ID", "77"),
        ("SLURM_JOB_NODELIST", "n[1-3],big"),
        ("SLURM_JOB_CPUS_PER_NODE", "2(x3),64"),
        ("SLURM_TASKS_PER_NODE", "2,1(x3)"),
        ("SLURM_GPUS_ON_NODE", "4"),
        ("SLURM_RESTART_COUNT", "1"),
    ]
}

fn host(name: &str, slots: Option<u32>, cpus: Option<u32>) -> Host {
    Host { name: name.to_owned(), slots, cpus }
}

#[test]
fn outside_of_a_job_there_is_no_allocation() {
    assert!(
        from(&[("HOME", "/root"), ("SLURM_CONF", "/etc/slurm.conf"), ("SLURM_JOB_ID", "")])
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_slurm_job_names_its_hosts_cores_and_restarts() {
    let job = from(&slurm_job()).unwrap().unwrap();
    let hosts = [
        host("n1", Some(2), Some(2)),
        host("n2", Some(1), Some(2)),
        host("n3", Some(1), Some(2)),
        host("big", Some(1), Some(64)),
    ];
    assert_eq!(job.hosts, hosts);
    assert_eq!((job.system, job.id.as_str(), job.gpus, job.restarts), (System::Slurm, "77", Some(4), 1));
    assert_eq!((job.array_index, job.end), (None, None));
}

#[test]
fn newer_slurm_tells_when_the_job_ends() {
    let mut variables = slurm_job();
    variables.extend([
        ("SLURM_JOB_START_TIME", "100"),
        ("SLURM_JOB_END_TIME", "160"),
        ("SLURM_ARRAY_TASK_ID", "3"),
    ]);
    let job = from(&variables).unwrap().unwrap();
    assert_eq!((job.start, job.end), (Some(Timestamp(100_000_000)), Some(Timestamp(160_000_000))));
    assert_eq!(job.array_index, Some(3));
}

#[test]
fn counts_that_do_not_fit_the_hosts_say_nothing() {
    let mut variables = slurm_job();
    variables[2].1 = "2(x9)";
    assert!(from(&variables).unwrap().unwrap().hosts.iter().all(|host| host.cpus.is_none()));
    variables[2].1 = "2(x999999999999)";
    assert!(from(&variables).unwrap().is_some());
    variables[2].1 = "two";
    assert_eq!(
        from(&variables).unwrap_err().to_string(),
        "cannot understand `SLURM_JOB_CPUS_PER_NODE`: `two`"
    );
}

#[test]
fn a_pbs_job_names_its_hosts_in_a_file() {
    let capture = crate::launch::batch::printed::captured("openpbs-23.06", "job-environment.txt");
    let (variables, after) = capture.split_once("--- nodefile\n").unwrap();
    let file: String =
        after.lines().filter(|line| line.starts_with('m')).map(|line| format!("{line}\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodes");
    fs::write(&path, file).unwrap();
    let mut pairs: Vec<(&str, &str)> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    pairs.retain(|(name, _)| *name != "PBS_NODEFILE");
    pairs.push(("PBS_NODEFILE", path.to_str().unwrap()));
    let job = from(&pairs).unwrap().unwrap();
    assert_eq!((job.system, job.id.as_str()), (System::Pbs, "0.pbs"));
    assert_eq!(job.hosts[0].name, "m1");
    assert!(job.hosts[0].slots.is_some_and(|slots| slots > 1));
}

#[test]
fn the_hosts_of_a_file_keep_their_order_and_count_their_slots() {
    let hosts = host_file("m2\nm1\nm2\n\nm3\n m2 \n");
    assert_eq!(hosts, [host("m2", Some(3), None), host("m1", Some(1), None), host("m3", Some(1), None)]);
}

#[test]
fn torque_is_told_from_pbs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodes");
    fs::write(&path, "n1\nn1\n").unwrap();
    let pairs = [
        ("PBS_JOBID", "5[2].head"),
        ("PBS_VERSION", "TORQUE-6.1.2"),
        ("PBS_NODEFILE", path.to_str().unwrap()),
        ("PBS_ARRAYID", "2"),
        ("PBS_NUM_PPN", "2"),
    ];
    let job = from(&pairs).unwrap().unwrap();
    assert_eq!((job.system, job.array_index, job.hosts[0].cpus), (System::Torque, Some(2), Some(2)));
}

#[test]
fn a_broken_allocation_says_what_is_broken() {
    let message = |pairs: &[(&str, &str)]| from(pairs).unwrap_err().to_string();
    let missing = message(&[("SLURM_JOB_ID", "7")]);
    assert_eq!(missing, "this looks like a job of Slurm, but `SLURM_JOB_NODELIST` is not set");
    let strange = message(&[("SLURM_JOB_ID", "7"), ("SLURM_JOB_NODELIST", "n[1-")]);
    assert_eq!(strange, "cannot understand `SLURM_JOB_NODELIST`: a bracket without its other half in `n[1-`");
    let file = message(&[("PBS_JOBID", "7.pbs"), ("PBS_NODEFILE", "/nowhere/nodes")]);
    assert!(file.starts_with("cannot read the hosts from `/nowhere/nodes`: No such file"), "{file}");
}

/// A batch system that says of every job that it has this much left.
struct Says(Option<Micros>);

impl BatchSystem for Says {
    fn system(&self) -> System {
        System::Slurm
    }
    fn jobs(&self, ids: &[JobId]) -> Result<BTreeMap<JobId, JobView>, BatchError> {
        let view = JobView { time_left: self.0, ..JobView::new(JobState::Running) };
        Ok(ids.iter().map(|id| (id.clone(), view.clone())).collect())
    }
    fn submit(&self, _: &Path, _: &str, _: Option<&Link>) -> Result<JobId, BatchError> {
        unreachable!("an allocation submits nothing")
    }
    fn find(&self, _: &str) -> Result<Option<JobId>, BatchError> {
        unreachable!("an allocation looks for nothing")
    }
    fn cancel(&self, _: &JobId) -> Result<(), BatchError> {
        unreachable!("an allocation cancels nothing")
    }
    fn test(&self, _: &Path) -> Option<Result<String, BatchError>> {
        None
    }
    fn queued_jobs(&self) -> Result<usize, BatchError> {
        Ok(0)
    }
    fn queues(&self) -> Result<Vec<String>, BatchError> {
        Ok(Vec::new())
    }
}

#[test]
fn the_end_is_told_by_variables_then_by_the_system_then_computed() {
    let second = Micros::from_secs;
    let (now, started, walltime) = (Timestamp(0) + second(50), Timestamp(0) + second(40), Some(second(100)));
    let mut job = from(&slurm_job()).unwrap().unwrap();
    let end = |job: &Allocation, says| job.end(&Says(says), now, started, walltime);
    assert_eq!(end(&job, None), Some(Timestamp(0) + second(140)));
    job.start = Some(Timestamp(0) + second(30));
    assert_eq!(end(&job, None), Some(Timestamp(0) + second(130)));
    assert_eq!(end(&job, Some(second(20))), Some(Timestamp(0) + second(70)));
    job.end = Some(Timestamp(0) + second(60));
    assert_eq!(end(&job, Some(second(20))), Some(Timestamp(0) + second(60)));
    job.end = None;
    assert_eq!(job.end(&Says(None), now, started, None), None);
}
