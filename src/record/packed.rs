//! The packed graph, `.dagmar`: a graph checked once, read by every rank in a moment.
//!
//! ```text
//! magic "dagmar\0G" | version u32 | crc u32 | header length u32 | 0 u32 | header | zeros | columns
//! ```
//!
//! The header is bincode: what is few, and the lengths of the columns. These are little-endian `u32`s
//! from a multiple of eight bytes on, so that a file can be mapped and used as it lies. What is
//! derived from a graph is stored as well. The CRC-32 covers everything behind it.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use crc32fast::Hasher;

use crate::core::graph::{Columns, Derived, Graph, GraphError, Numbers, Rows};
use crate::core::key::{Group, KeyError, Keys};
use crate::core::task::{Operation, TaskOptions};

use super::encoding::{EncodingError, decode, encode};
use super::mapping::Mapping;

const MAGIC: [u8; 8] = *b"dagmar\0G";

/// The version that this dagmar writes and reads.
const VERSION: u32 = 4;

/// Where the checksum stands, and where what it covers starts.
const CRC: Range<usize> = 12..16;

/// Bytes before the header.
const START_BYTES: usize = 24;

/// Columns start at a multiple of this.
const ALIGNMENT: usize = 8;

/// Numbers converted at once while columns are written.
const CHUNK: usize = 8192;

/// Files of this size and more are mapped; smaller ones are read.
pub const MAPPED_BYTES_MIN: u64 = 1 << 20;

const COLUMNS: usize = 11;

/// Name, directory, groups, operations, options, and the lengths of the columns.
type Header = (String, String, Vec<Group>, Vec<Operation>, Vec<TaskOptions>, [u64; COLUMNS]);

/// Why bytes are not a packed graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackedError {
    /// The file cannot be read. Says why.
    Unreadable(String),
    /// They are something else.
    Foreign,
    /// They were written in another version of the format.
    Version(u32),
    /// They end too early: what is there, what should be.
    Truncated(usize, u64),
    /// The checksum is wrong, or bytes follow the last column.
    Damaged,
    /// The header is not what it should be.
    Header(EncodingError),
    /// The names contradict each other.
    Keys(KeyError),
    /// The columns are no graph.
    Graph(GraphError),
}

impl fmt::Display for PackedError {
    /// Completes "cannot read `graph.dagmar`: ...".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackedError::Unreadable(why) => write!(out, "{why}"),
            PackedError::Foreign => write!(out, "it is not a packed graph"),
            PackedError::Version(found) => {
                write!(out, "it has format version {found}, and this dagmar reads version {VERSION}")
            }
            PackedError::Truncated(found, expected) => {
                write!(out, "it ends after {found} of {expected} bytes")
            }
            PackedError::Damaged => write!(out, "it is damaged: its checksum does not fit"),
            PackedError::Header(why) => write!(out, "its header is damaged: {why}"),
            PackedError::Keys(why) => write!(out, "its names are wrong: {why}"),
            PackedError::Graph(GraphError::Inconsistent(why)) => write!(out, "it contradicts itself: {why}"),
            PackedError::Graph(GraphError::Cycle(_)) => write!(out, "its tasks wait for each other"),
            PackedError::Graph(_) => write!(out, "its columns are no graph"),
        }
    }
}

impl std::error::Error for PackedError {}

/// True if a file that starts with `bytes` is a packed graph, of whatever version.
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Writes a graph.
pub fn write(graph: &Graph, mut writer: impl Write) -> io::Result<()> {
    let front = front_bytes(graph)?;
    let mut hasher = Hasher::new();
    hasher.update(&front);
    each_chunk(graph, |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    writer.write_all(&MAGIC)?;
    writer.write_all(&VERSION.to_le_bytes())?;
    writer.write_all(&hasher.finalize().to_le_bytes())?;
    writer.write_all(&front)?;
    each_chunk(graph, |bytes| writer.write_all(bytes))?;
    writer.flush()
}

/// Reads a graph and checks all of it.
pub fn read(bytes: &[u8]) -> Result<Graph, PackedError> {
    read_with(bytes, |range| Numbers::from(numbers(&bytes[range])))
}

/// Reads a graph from a file and checks all of it. The columns of a large one stay in the file, which
/// must not change while the graph lives: it is replaced by another, never written into.
pub fn open(path: &Path) -> Result<Graph, PackedError> {
    let unreadable = |error: io::Error| PackedError::Unreadable(error.to_string());
    let file = fs::File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length < MAPPED_BYTES_MIN || cfg!(target_endian = "big") {
        return read(&fs::read(path).map_err(unreadable)?);
    }
    let mapping = Mapping::of(&file).map_err(unreadable)?;
    read_with(mapping.bytes(), |range| mapping.column(range))
}

/// What stands between the checksum and the columns.
fn front_bytes(graph: &Graph) -> io::Result<Vec<u8>> {
    let Columns { name, directory, keys, operations, options, .. } = graph.columns();
    let lengths = columns_of(graph).map(|column| column.len() as u64);
    let mut header = Vec::new();
    encode(&(name, directory, keys.groups(), operations, options, lengths), &mut header);
    let length = u32::try_from(header.len());
    let length = length.map_err(|_| io::Error::other("the operations take more than 4 GiB"))?;
    let mut front = Vec::with_capacity(header.len() + 2 * ALIGNMENT);
    front.extend(length.to_le_bytes());
    front.extend(0_u32.to_le_bytes());
    front.append(&mut header);
    front.resize(front.len().next_multiple_of(ALIGNMENT), 0);
    Ok(front)
}

/// All columns, in their order in the file.
fn columns_of(graph: &Graph) -> [&Numbers; COLUMNS] {
    let Columns { segments, rules, operation_of, options_of, values, orders, .. } = graph.columns();
    let (dependents, order) = graph.derived();
    [
        segments,
        rules,
        operation_of,
        options_of,
        &values.ends,
        &values.entries,
        &orders.ends,
        &orders.entries,
        &dependents.ends,
        &dependents.entries,
        order,
    ]
}

/// Hands the columns on as the bytes of a file.
fn each_chunk(graph: &Graph, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::new();
    for chunk in columns_of(graph).iter().flat_map(|column| column.chunks(CHUNK)) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|number| number.to_le_bytes()));
        take(&bytes)?;
    }
    Ok(())
}

/// Reads a graph whose columns `column` takes from their places.
fn read_with(bytes: &[u8], column: impl Fn(Range<usize>) -> Numbers) -> Result<Graph, PackedError> {
    let (header, start) = split(bytes)?;
    let (name, directory, groups, operations, options, lengths): Header =
        decode(header).map_err(PackedError::Header)?;
    let wanted = lengths.iter().try_fold(start as u64, |sum, length| sum.checked_add(length.checked_mul(4)?));
    match wanted {
        Some(wanted) if wanted == bytes.len() as u64 => (),
        Some(wanted) if wanted < bytes.len() as u64 => return Err(PackedError::Damaged),
        wanted => return Err(PackedError::Truncated(bytes.len(), wanted.unwrap_or(u64::MAX))),
    }
    let mut end = start;
    let columns = lengths.map(|length| {
        let from = end;
        end += length as usize * 4;
        column(from..end)
    });
    let [segments, rules, operation_of, options_of, columns @ ..] = columns;
    let [value_ends, value_entries, order_ends, order_entries, ends, entries, order] = columns;
    let columns = Columns {
        name,
        directory,
        keys: Keys::try_from(groups).map_err(PackedError::Keys)?,
        operations,
        options,
        segments,
        rules,
        operation_of,
        options_of,
        values: Rows { ends: value_ends, entries: value_entries },
        orders: Rows { ends: order_ends, entries: order_entries },
    };
    let derived = Derived { dependents: Rows { ends, entries }, order };
    Graph::from_parts(columns, derived).map_err(PackedError::Graph)
}

/// The header, and where the columns start, once version and checksum are right.
fn split(bytes: &[u8]) -> Result<(&[u8], usize), PackedError> {
    if !is_packed(bytes) {
        return Err(PackedError::Foreign);
    }
    let truncated = |expected| PackedError::Truncated(bytes.len(), expected);
    let number = |at: usize| -> Result<u32, PackedError> {
        let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
        Ok(u32::from_le_bytes(*four.ok_or(truncated(at as u64 + 4))?))
    };
    match number(MAGIC.len())? {
        VERSION => (),
        other => return Err(PackedError::Version(other)),
    }
    let crc = number(CRC.start)?;
    let header = number(CRC.end)? as usize;
    let start = (START_BYTES + header).next_multiple_of(ALIGNMENT);
    if bytes.len() < start {
        return Err(truncated(start as u64));
    }
    match crc32fast::hash(&bytes[CRC.end..]) == crc {
        true => Ok((&bytes[START_BYTES..START_BYTES + header], start)),
        false => Err(PackedError::Damaged),
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder, Progression};
    use crate::core::id::TaskId;
    use crate::core::key::Axis;
    use crate::core::resources::Resources;
    use crate::core::task::{Argument, Body, Call, Command, CommandLine, Ranks, Stdin, Stream, Text};
    use crate::core::task_list::TaskList;
    use crate::core::value::Value;
    use proptest::prelude::*;

    fn command(words: &[&str], stdin: Stdin) -> Body {
        Body::Command(Box::new(Command {
            line: CommandLine::Arguments(words.iter().map(|word| Text::from(*word)).collect()),
            environment: vec![("A".into(), "1".into())],
            directory: "/tmp".into(),
            stdin,
            stdout: Stream::Capture,
            stderr: Stream::File(Text::AroundAttempt(vec!["/x".into(), ".err".into()])),
            capture_limit_bytes: 1 << 30,
        }))
    }

    /// A random graph: groups of one task or a few, each with inputs among the tasks before it.
    fn graph(groups: &[(u8, Vec<u16>, Vec<u16>)]) -> Graph {
        let mut builder = GraphBuilder::new("random", "/home");
        for (number, (count, _, _)) in groups.iter().enumerate() {
            let range = Axis::Range { first: -1, step: 2, count: u32::from(*count), width: 2 };
            let words = Axis::Words(vec!["a b".into(), "é".into()]);
            let axes = if *count == 0 { vec![] } else { vec![range, words] };
            builder.declare(Group::array(format!("g{}", 97 * number % 101), axes)).unwrap();
        }
        let ranks = Some(Ranks { count: 9, nodes: 2, cpus: 3 });
        let resources = Resources::cores(15);
        let options = builder.options(TaskOptions { retries: 3, ranks, resources, ..TaskOptions::default() });
        let groups_of_tasks: Vec<(u32, usize)> = builder
            .keys()
            .groups()
            .iter()
            .enumerate()
            .flat_map(|(number, group)| (0..group.count().unwrap()).map(move |_| (group.first.0, number)))
            .collect();
        for (first, number) in groups_of_tasks {
            let pick = |numbers: &[u16]| {
                let mut picked: Vec<TaskId> = numbers
                    .iter()
                    .filter(|_| first > 0)
                    .map(|at| TaskId(u32::from(*at) % first.max(1)))
                    .collect();
                picked.sort_unstable();
                picked.dedup();
                picked
            };
            let (values, orders) = (pick(&groups[number].1), pick(&groups[number].2));
            let arguments = vec![
                Argument::Value(Value::Int(-5)),
                Argument::List(vec![Argument::Inputs { first: 0, count: values.len() as u32 }]),
            ];
            let body = match number % 3 {
                0 => Body::Call(Call { function: "sum".into(), arguments }),
                1 if !values.is_empty() => command(&["cat", "-"], Stdin::Input(0)),
                _ => Body::Join,
            };
            let operation = builder.operation(Operation { body, outputs: vec!["/o".into()], inputs: vec![] });
            builder.define(Definition { operation, options, values, orders }).unwrap();
        }
        builder.build().unwrap()
    }

    fn packed(graph: &Graph) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(graph, &mut bytes).unwrap();
        bytes
    }

    fn small() -> Graph {
        graph(&[(0, vec![], vec![]), (2, vec![0], vec![]), (0, vec![1, 2], vec![0]), (1, vec![3], vec![4])])
    }

    /// `bytes` with a checksum that fits, so that what lies behind it is tested.
    fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32fast::hash(&bytes[CRC.end..]);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn random_graphs_come_back(groups in prop::collection::vec((0..4_u8, any::<Vec<u16>>(), any::<Vec<u16>>()), 0..12)) {
            let graph = graph(&groups);
            prop_assert_eq!(read(&packed(&graph)).unwrap(), graph);
        }
    }

    /// Arrays that are stored as rules beside tasks that are listed.
    fn ruled() -> Graph {
        let mut builder = GraphBuilder::new("ruled", "/");
        let axis = |count| vec![Axis::Range { first: 0, step: 1, count, width: 1 }];
        for (name, count) in [("late", 30), ("a", 60), ("b", 30), ("few", 3)] {
            builder.declare(Group::array(name, axis(count))).unwrap();
        }
        builder.declare(Group { hidden: true, ..Group::single("join") }).unwrap();
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, outputs: vec![], inputs: vec![] });
        let join = builder.operation(Operation { body: Body::Join, outputs: vec![], inputs: vec![] });
        let options = builder.options(TaskOptions::default());
        let what = (operation, options);
        let pairs = Progression { first: TaskId(30), advance: 2, count: 2, step: 1 };
        builder.define_alike(30, what, &[], &[Progression::all(TaskId(123), 1)]).unwrap();
        builder.define_alike(60, what, &[], &[]).unwrap();
        builder.define_alike(30, what, &[pairs], &[]).unwrap();
        for values in [vec![], vec![TaskId(33), TaskId(7)], vec![TaskId(120)]] {
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        builder.define_alike(1, (join, options), &[], &[Progression::all(TaskId(30), 60)]).unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn a_large_graph_is_used_where_it_lies() {
        let mut builder = GraphBuilder::new("large", "/");
        let count = 100_000;
        let range = Axis::Range { first: 0, step: 1, count, width: 1 };
        builder.declare(Group::array("t", vec![range])).unwrap();
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, outputs: vec![], inputs: vec![] });
        let options = builder.options(TaskOptions::default());
        for task in 0..count {
            let values =
                if task == 0 { vec![] } else { vec![TaskId(task.wrapping_mul(2_654_435_761) % task)] };
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        let graph = builder.build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.dagmar");
        fs::write(&path, packed(&graph)).unwrap();
        assert!(fs::metadata(&path).unwrap().len() > MAPPED_BYTES_MIN);
        let opened = open(&path).unwrap();
        // What is gone from its directory is still there for whoever has mapped it.
        directory.close().unwrap();
        assert_eq!(opened, graph);
        use_up(&opened.clone());
    }

    #[test]
    fn a_packed_graph_cut_anywhere_is_refused() {
        for whole in [packed(&small()), packed(&ruled())] {
            for length in 0..whole.len() {
                read(&whole[..length]).unwrap_err();
                if length >= CRC.end {
                    read(&signed(whole[..length].to_vec())).unwrap_err();
                }
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_and_never_a_panic() {
        for whole in [packed(&small()), packed(&ruled())] {
            flip_each_byte(&whole);
        }
    }

    fn flip_each_byte(whole: &[u8]) {
        for place in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[place] ^= flip;
                read(&bytes).unwrap_err();
                // With the right checksum it may be a graph, which must then be usable.
                if let Ok(graph) = read(&signed(bytes)) {
                    use_up(&graph);
                }
            }
        }
    }

    /// Asks whatever a run asks of a graph, and that the answers agree.
    fn use_up(graph: &Graph) {
        let mut order: Vec<TaskId> = graph.topological_order().collect();
        let mut unmet: Vec<usize> = graph.tasks().map(|task| graph.input_count(task)).collect();
        for task in &order {
            assert_eq!(unmet[task.index()], 0, "{}: {:?}", graph.key(*task), graph.operation(*task));
            graph.dependents(*task).iter().for_each(|dependent| unmet[dependent.index()] -= 1);
        }
        order.sort_unstable();
        assert!(order.into_iter().eq(graph.tasks()));
        let needed = graph.needed_by(graph.sinks().collect::<TaskList>());
        graph.sinks().for_each(|task| assert!(needed.contains(task) && graph.options(task).grace.0 > 0));
    }

    #[test]
    fn another_version_and_another_file_are_told_apart() {
        let mut bytes = packed(&small());
        assert!(is_packed(&bytes) && !is_packed(b"name = \"x\"") && !is_packed(b"dagmar\0J"));
        assert_eq!(read(b"{}"), Err(PackedError::Foreign));
        bytes[8] = 2;
        assert_eq!(read(&bytes), Err(PackedError::Version(2)));
    }
}
