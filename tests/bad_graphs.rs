//! Every kind of bad graph file gives one clear error. `UPDATE=1` writes the errors anew.

use std::path::{Path, PathBuf};

use dagmar::client::formats::{Functions, read_bytes};

/// The bad files, in order of name.
fn bad_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let entries = std::fs::read_dir(directory).expect("tests/bad is there");
    let paths = entries.map(|entry| entry.expect("tests/bad can be read").path());
    let is_graph = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "toml" || kind == "json");
    let mut files: Vec<PathBuf> = paths.filter(is_graph).collect();
    files.sort();
    files
}

/// What the command line prints for a file.
fn report(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("a bad file can be read");
    let name = Path::new(path.file_name().expect("a file has a name"));
    let directory = path.parent().expect("a file is in a directory");
    match read_bytes(name, &bytes, directory, &Functions::built_in()) {
        Ok(_) => "it was read without an error\n".to_owned(),
        Err(error) => error.report(),
    }
}

#[test]
fn every_bad_graph_has_its_error() {
    let update = std::env::var_os("UPDATE").is_some();
    let files = bad_files();
    assert!(files.len() >= 34, "only {} bad files", files.len());
    let mut wrong = String::new();
    for path in files {
        // `x.json` and `x.toml` may stand side by side.
        let expected = PathBuf::from(format!("{}.expected", path.with_extension("").display()));
        let expected = match path.extension().is_some_and(|kind| kind == "json") {
            true => path.with_extension("json.expected"),
            false => expected,
        };
        let now = report(&path);
        assert!(now.starts_with("error: "), "{}: {now}", path.display());
        if update {
            std::fs::write(&expected, &now).expect("an expectation can be written");
        }
        let before = std::fs::read_to_string(&expected).unwrap_or_default();
        if now != before {
            wrong += &format!("{}\n  expected: {before}  is: {now}\n", path.display());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}run again with UPDATE=1 if the new errors are better");
}
