//! Recorded executions, imported and played again.

use std::path::Path;

use crate::harness::{BOTH, Place, Ranks, json};

/// Where further recordings are, if anywhere: a directory of WfFormat files.
const RECORDINGS: &str = "DAGMAR_WFINSTANCES";

fn pipeline() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/pipeline.json");
    path.to_str().expect("the path is text").to_owned()
}

#[test]
fn a_recorded_execution_runs_again_at_another_speed() {
    for ranks in BOTH {
        let place = Place::new();
        let scaled = ["--from", "wfformat", "--scale", "0.001", "-o", "again.dagmar"];
        let imported =
            place.expect(0, Ranks::Alone, &[&["graph", "import", &pipeline()][..], &scaled].concat());
        imported.tells("5 tasks packed into `again.dagmar`");
        let split = place.expect(0, ranks, &["run", "again.dagmar", "split"]);
        assert_eq!(split.stdout.len(), 800, "two files of 400,000 bytes, a thousandth of each");
        place.expect(0, ranks, &["run", "again.dagmar", "--quiet"]);
        assert_eq!(place.status()["report"]["tasks"]["finished"], 5);
    }
}

#[test]
fn an_import_is_written_beside_its_file_and_says_what_it_needs() {
    let place = Place::new();
    place.write("here.json", std::fs::read(pipeline()).expect("the recording is there"));
    place.expect(0, Ranks::Alone, &["graph", "import", "here.json", "--from", "wfformat", "--spin"]);
    let shown = place.expect(0, Ranks::Alone, &["graph", "show", "here.dagmar", "--output", "json"]);
    let shown = json(&shown.stdout);
    assert_eq!(shown["groups"][3]["needs"], serde_json::json!(["map_0", "map_1"]), "{shown}");
    assert_eq!(shown["groups"][3]["work"], "call spin", "{shown}");
}

#[test]
fn an_import_that_cannot_be_is_refused() {
    let place = Place::new();
    place.write("g.json", "{\n \"schemaVersion\": \"1.4\" }");
    let refused = place.expect(2, Ranks::Alone, &["graph", "import", "g.json", "--from", "wfformat"]);
    refused.tells("cannot read `g.json`: line 2, column 19: `schemaVersion` of the file cannot be `1.4`");
    for scale in ["0", "-1", "nan", "1e9"] {
        let scale = format!("--scale={scale}");
        let wrong = ["graph", "import", &pipeline(), "--from", "wfformat", &scale];
        place.expect(2, Ranks::Alone, &wrong).tells("`--scale` cannot be");
    }
}

#[test]
fn all_recordings_at_hand_become_graphs() {
    let mut files = vec![Path::new(&pipeline()).to_owned()];
    match std::env::var_os(RECORDINGS) {
        None => eprintln!("{RECORDINGS} names no directory: only the small recording is read"),
        Some(directory) => {
            let entries = std::fs::read_dir(directory).expect("the directory of recordings can be read");
            files.extend(entries.map(|entry| entry.expect("it can be listed").path()));
        }
    }
    for file in files {
        let place = Place::new();
        let file = file.to_str().expect("the path is text");
        place.expect(0, Ranks::Alone, &["graph", "import", file, "--from", "wfformat", "-o", "g"]);
        let stats = place.expect(0, Ranks::Alone, &["graph", "stats", "g", "--output", "json"]);
        let stats = json(&stats.stdout);
        assert!(stats["depth"].as_u64() >= Some(2), "{file}: depth {}", stats["depth"]);
        assert!(stats["tasks"].as_u64() >= Some(5), "{file}: {} tasks", stats["tasks"]);
    }
}
