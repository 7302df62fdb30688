//! Graph files in TOML and JSON, as far as no disk is looked at.

#![no_main]

use std::path::Path;

use dagmar::client::formats::{Functions, outline, read_bytes, resolve};
use dagmar::record::packed;
use dagmar_fuzz::walk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if looks_at_disk(bytes) {
        return;
    }
    for file in ["graph.toml", "graph.json"] {
        match read_bytes(Path::new(file), bytes, Path::new("/nonexistent"), &Functions::built_in()) {
            Ok(graph) => {
                walk(&graph);
                let _ =
                    (outline::outline(&graph), resolve(&graph, &["a".into(), "a[1]".into(), "b.txt".into()]));
                let mut written = Vec::new();
                packed::write(&graph, &mut written).expect("memory takes what it is given");
                assert_eq!(packed::read(&written).expect("what was written is read"), graph);
            }
            Err(error) => {
                let _ = (error.to_string(), format!("{error:?}"));
            }
        }
    }
});

/// True if files could be looked for by patterns or read, which takes as long as the disk is large.
fn looks_at_disk(bytes: &[u8]) -> bool {
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    has(b"glob") || has(b"lines") || (has(b"inputs") && (has(b"*") || has(b"?")))
}
