//! Packed graphs, as they come and with the checksum that fits, so that what lies behind it is read.

#![no_main]

use dagmar::core::graph::Graph;
use dagmar::core::key::Group;
use dagmar::core::scheduler::{Precedence, Urgency};
use dagmar::record::encoding::Decoder;
use dagmar::record::packed;
use dagmar_fuzz::{TASKS_MAX, walk};
use libfuzzer_sys::fuzz_target;

/// Where the checksum stands, where what it covers starts, and where the header does.
const CRC: std::ops::Range<usize> = 12..16;
const HEADER: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let _ = packed::read(bytes).map_err(|error| error.to_string());
    let mut signed = bytes.to_vec();
    if signed.len() < HEADER || is_large(&signed[HEADER..]) {
        return;
    }
    let crc = crc32fast::hash(&signed[CRC.end..]);
    signed[CRC].copy_from_slice(&crc.to_le_bytes());
    match packed::read(&signed) {
        Ok(graph) => look_at(&graph),
        Err(error) => drop(error.to_string()),
    }
});

/// True if there are more tasks than there is time for: a rule of a few bytes stands for any number.
fn is_large(header: &[u8]) -> bool {
    let mut decoder = Decoder::new(header);
    let read = decoder.decode::<(String, String, Vec<Group>)>();
    let Ok((_, _, groups)) = read else { return false };
    groups.iter().map(|group| u64::from(group.count().unwrap_or(u32::MAX))).sum::<u64>() > TASKS_MAX
}

fn look_at(graph: &Graph) {
    walk(graph);
    let mut written = Vec::new();
    packed::write(graph, &mut written).expect("memory takes what it is given");
    assert!(packed::read(&written).expect("what was written is read") == *graph);
    for precedence in [Precedence::LongestPath, Precedence::DepthFirst] {
        let urgency = Urgency::of(graph, precedence);
        for task in graph.tasks() {
            let _ = (urgency.level(task), urgency.run_end(task));
        }
    }
}
