//! A bad graph is refused before anything is written or started, whoever reads it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Place, Ranks};

fn bad_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

/// The bad graphs by name, each with the report that it must give.
fn bad_graphs() -> Vec<(String, String)> {
    let entries = fs::read_dir(bad_folder()).expect("tests/bad is there");
    let names = entries.map(|entry| entry.expect("tests/bad can be read").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    let mut graphs: Vec<(String, String)> =
        names.filter_map(|name| Some((name.clone(), report(&name)?))).collect();
    graphs.sort();
    graphs
}

fn report(name: &str) -> Option<String> {
    let expected = match name.strip_suffix(".toml") {
        Some(stem) => format!("{stem}.expected"),
        None => format!("{}.expected", Some(name).filter(|name| name.ends_with(".json"))?),
    };
    Some(fs::read_to_string(bad_folder().join(expected)).expect("every bad graph has its report"))
}

/// A place that looks like `tests/bad`.
fn place() -> Place {
    let place = Place::new();
    for entry in fs::read_dir(bad_folder()).expect("tests/bad is there").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), place.path().join(entry.file_name())).expect("a graph is copied");
        }
    }
    place
}

/// Everything that lies in a place.
fn contents(place: &Place) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(place.path()).expect("it is there").map(|entry| entry.expect("listed").path()).collect();
    found.sort();
    found
}

#[test]
fn every_bad_graph_is_refused_with_its_report_and_leaves_nothing() {
    let (place, graphs) = (place(), bad_graphs());
    assert!(graphs.len() >= 30, "only {} bad graphs", graphs.len());
    let before = contents(&place);
    for (name, report) in graphs {
        let run = place.expect(2, Ranks::Alone, &["run", &name]);
        match name.as_str() {
            // To this command a packed graph is welcome by any name; this one is no more than a start.
            "packed.toml" => drop(run.tells("error: cannot read `packed.toml`: it is not a packed graph\n")),
            _ => assert_eq!(run.stderr, report, "{name}"),
        }
        assert!(run.stdout.is_empty(), "{name} {run}");
        assert_eq!(contents(&place), before, "{name}");
    }
    place.expect_nothing_left();
}

#[cfg(feature = "mpi")]
#[test]
fn bad_graphs_end_every_rank_with_one_report() {
    let place = place();
    let graphs = bad_graphs().into_iter().filter(|(name, _)| name != "packed.toml");
    for (name, report) in graphs.step_by(12) {
        let run = place.expect(2, Ranks::Mpi(3), &["run", &name]);
        assert_eq!(run.stderr.matches(&report).count(), 1, "{name} {run}");
        assert!(run.stdout.is_empty(), "{name} {run}");
        assert!(place.runs().is_empty());
        place.expect_nothing_left();
    }
}

#[cfg(feature = "mpi")]
#[test]
fn a_wrong_flag_is_told_once_by_many_ranks() {
    let place = Place::with("[tasks.a]\nrun = 'true'\n");
    for flags in [["--bogus", "1"], ["--resource", "licence"]] {
        let run = place.expect(2, Ranks::Mpi(3), &["run", "g.toml", flags[0], flags[1]]);
        assert_eq!(run.stderr.matches("error: ").count(), 1, "{run}");
        assert!(place.runs().is_empty());
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    let place = Place::with("[tasks.merge]\nrun = 'touch ran'\n");
    place.expect(2, Ranks::Alone, &["run", "g.toml", "merg"]).tells("`merge`");
    assert!(place.runs().is_empty() && !place.path().join("ran").exists());
}

#[test]
fn a_graph_that_is_missing_or_cut_short_is_refused() {
    let place = Place::with("[tasks.a]\nrun = 'true'\n");
    place.expect(2, Ranks::Alone, &["run", "nowhere.toml"]).tells("cannot read `nowhere.toml`");
    place.expect(0, Ranks::Alone, &["graph", "pack", "g.toml", "-o", "g.dagmar"]);
    let packed = fs::read(place.path().join("g.dagmar")).expect("the packed graph is there");
    for length in [packed.len() - 1, packed.len() / 2, 12] {
        place.write("cut.dagmar", &packed[..length]);
        let run = place.expect(2, Ranks::Alone, &["run", "cut.dagmar"]);
        run.tells("error: cannot read `cut.dagmar`");
    }
    assert!(place.runs().is_empty());
}
