//! Whatever a command prints, no parser panics: banners, torn answers, other programs altogether.

use proptest::prelude::*;

use crate::launch::{allocation, pbs, slurm};

use super::printed;

/// Pieces of real answers, torn and mixed with anything.
fn answer() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "JobId=",
        "ArrayJobId=",
        "JobName=",
        "UserId=",
        "JobState=",
        "ExitCode=0:9",
        " ",
        "\n",
        "\t",
        "|",
        "7",
        "24_[",
        "1-3%1]",
        "+1",
        "{\"jobs\":[",
        "{\"job_id\":3,",
        "\"exit_code\":",
        "{\"set\":true,\"number\":1}",
        "]}",
        "}",
        "Job Id: ",
        "Job Id:\t",
        "    job_state = ",
        " = ",
        "F",
        "Exit_status = -29",
        "{\"Jobs\":{\"1.s\":{",
        "\"Variable_List\":{}",
        "1-02:03:04",
        "99999999999999999999",
        ":",
        ";",
        "é",
        "\u{0}",
        "Submitted batch job ",
        "RUNNING",
        "N/A",
        "(null)",
        "slurm 23.",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(PIECES).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_answer_makes_a_parser_panic(text in answer()) {
        slurm::read_everything_from(&text);
        pbs::read_everything_from(&text);
        let _ = (printed::cleaned(&text), printed::span(&text), printed::moment(&text));
        let _ = (allocation::expand(&text), allocation::host_file(&text));
        let _ = allocation::Allocation::from_variables(&|name| (name != "PBS_NODEFILE").then(|| text.clone()));
    }

    #[test]
    fn a_torn_answer_does_not_make_a_parser_panic(cut in 0.0..1.0f64, flip in 0.0..1.0f64, byte in any::<u8>()) {
        for (system, name) in [
            ("slurm-22.05", "squeue.json"), ("slurm-22.05", "scontrol-show-job-oneliner.txt"),
            ("slurm-22.05", "squeue-batch-format.txt"), ("openpbs-23.06", "qstat-f-running.txt"),
            ("openpbs-23.06", "qstat-xf-two-ids.json"), ("openpbs-23.06", "qstat-f-all.json"),
        ] {
            let mut bytes = printed::captured(system, name).into_bytes();
            let flipped = (flip * (bytes.len() - 1) as f64) as usize;
            bytes[flipped] = byte;
            bytes.truncate((cut * bytes.len() as f64) as usize);
            let text = String::from_utf8_lossy(&bytes);
            slurm::read_everything_from(&text);
            pbs::read_everything_from(&text);
        }
    }
}
