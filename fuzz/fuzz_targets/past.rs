//! Any events: a run goes on from them, or says why it cannot. What goes on comes to an end, too.
//!
//! The first byte says which graph, the others are records as in the frames of a journal.

#![no_main]

use dagmar::record::encoding::Decoder;
use dagmar_fuzz::{Record, go_on, graph, views};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let mut decoder = Decoder::new(bytes);
    let records: Vec<Record> = std::iter::from_fn(|| decoder.decode().ok()).collect();
    views(which, &records);
    go_on(graph(which), &records);
});
