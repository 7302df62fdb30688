//! The packed graph, `.dagmar`: a graph checked once, read by every rank in a moment.
//!
//! ```text
//! magic "dagmar\0G" | version u32 | header length u32 | header | columns | crc u32
//! ```
//!
//! The header is bincode: what is few. The columns are raw little-endian `u32`: what every task
//! has. Their lengths stand in the header; the CRC-32 covers everything before it.

use std::fmt;
use std::io::{self, Write};

use crc32fast::Hasher;

use crate::core::graph::{Columns, Graph, GraphError, Rows};
use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::{Group, KeyError, Keys};
use crate::core::task::{Operation, TaskOptions};

use super::encoding::{EncodingError, decode, encode};

const MAGIC: [u8; 8] = *b"dagmar\0G";

/// The version that this dagmar writes and reads.
const VERSION: u32 = 2;

/// Bytes before the header.
const START_BYTES: usize = 16;

/// Numbers converted at once while columns are written.
const CHUNK: usize = 8192;

/// Name, directory, groups, operations, options, and the numbers of tasks, of value inputs and of
/// other inputs.
type Header = (String, String, Vec<Group>, Vec<Operation>, Vec<TaskOptions>, [u32; 3]);

/// Why bytes are not a packed graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackedError {
    /// They are something else.
    Foreign,
    /// They were written in another version of the format.
    Version(u32),
    /// They end too early: what is there, what should be.
    Truncated(usize, u64),
    /// The checksum is wrong, or bytes follow it.
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
pub fn write(graph: &Graph, writer: impl Write) -> io::Result<()> {
    let columns = graph.columns();
    let header = header_bytes(columns);
    let length = u32::try_from(header.len());
    let length = length.map_err(|_| io::Error::other("the operations take more than 4 GiB"))?;
    let mut writer = Summing { writer, hasher: Hasher::new() };
    writer.put(&MAGIC)?;
    writer.put(&VERSION.to_le_bytes())?;
    writer.put(&length.to_le_bytes())?;
    writer.put(&header)?;
    writer.column(&columns.operation_of, |id| id.0)?;
    writer.column(&columns.options_of, |id| id.0)?;
    for rows in [&columns.values, &columns.orders] {
        writer.column(&rows.ends, |end| *end)?;
        writer.column(&rows.entries, |task| task.0)?;
    }
    let crc = writer.hasher.finalize();
    writer.writer.write_all(&crc.to_le_bytes())?;
    writer.writer.flush()
}

/// Reads a graph and checks all of it.
pub fn read(bytes: &[u8]) -> Result<Graph, PackedError> {
    let (header, columns) = split(bytes)?;
    let header: Header = decode(header).map_err(PackedError::Header)?;
    let (name, directory, groups, operations, options, [tasks, values, orders]) = header;
    let expected = (4 * u64::from(tasks) + u64::from(values) + u64::from(orders)) * 4;
    if expected != columns.len() as u64 {
        return Err(PackedError::Truncated(columns.len(), expected));
    }
    let mut rest = columns;
    let mut column = |length: usize| {
        let (column, behind) = rest.split_at(length * 4);
        rest = behind;
        column
    };
    let keys = Keys::try_from(groups).map_err(PackedError::Keys)?;
    let columns = Columns {
        name,
        directory,
        keys,
        operations,
        options,
        operation_of: numbers(column(tasks as usize), OperationId),
        options_of: numbers(column(tasks as usize), OptionsId),
        values: Rows {
            ends: numbers(column(tasks as usize), |end| end),
            entries: numbers(column(values as usize), TaskId),
        },
        orders: Rows {
            ends: numbers(column(tasks as usize), |end| end),
            entries: numbers(column(orders as usize), TaskId),
        },
    };
    Graph::from_columns(columns).map_err(PackedError::Graph)
}

fn header_bytes(columns: &Columns) -> Vec<u8> {
    let Columns { name, directory, keys, operations, options, values, orders, .. } = columns;
    let counts = [columns.operation_of.len(), values.entries.len(), orders.entries.len()];
    let counts = counts.map(|count| u32::try_from(count).expect("a valid graph counts in 32 bits"));
    let mut bytes = Vec::new();
    encode(&(name, directory, keys.groups(), operations, options, counts), &mut bytes);
    bytes
}

/// The header and the columns, once version and checksum are right.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), PackedError> {
    if !is_packed(bytes) {
        return Err(PackedError::Foreign);
    }
    let truncated = |expected| PackedError::Truncated(bytes.len(), expected);
    let number = |at: usize| -> Result<u32, PackedError> {
        let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
        Ok(u32::from_le_bytes(*four.ok_or(truncated(at as u64 + 4))?))
    };
    match number(8)? {
        VERSION => (),
        other => return Err(PackedError::Version(other)),
    }
    let header = number(12)? as usize;
    let (body, crc) = bytes.split_last_chunk::<4>().expect("16 bytes were read");
    if body.len() < START_BYTES + header {
        return Err(truncated((START_BYTES + header + 4) as u64));
    }
    match crc32fast::hash(body) == u32::from_le_bytes(*crc) {
        true => Ok(body[START_BYTES..].split_at(header)),
        false => Err(PackedError::Damaged),
    }
}

fn numbers<T>(bytes: &[u8], make: impl Fn(u32) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks.iter().map(|chunk| make(u32::from_le_bytes(*chunk))).collect()
}

/// Computes the checksum of what it passes on.
struct Summing<W> {
    writer: W,
    hasher: Hasher,
}

impl<W: Write> Summing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.writer.write_all(bytes)
    }

    fn column<T>(&mut self, column: &[T], number: impl Fn(&T) -> u32) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(CHUNK.min(column.len()) * 4);
        for chunk in column.chunks(CHUNK) {
            bytes.clear();
            chunk.iter().for_each(|item| bytes.extend_from_slice(&number(item).to_le_bytes()));
            self.put(&bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::Axis;
    use crate::core::resources::Resources;
    use crate::core::task::{Argument, Body, Call, Command, CommandLine, Ranks, Stdin, Stream, Text};
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
        bytes.truncate(bytes.len().saturating_sub(4));
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn random_graphs_come_back(groups in prop::collection::vec((0..4_u8, any::<Vec<u16>>(), any::<Vec<u16>>()), 0..12)) {
            let graph = graph(&groups);
            prop_assert_eq!(read(&packed(&graph)).unwrap(), graph);
        }
    }

    #[test]
    fn a_packed_graph_cut_anywhere_is_refused() {
        let whole = packed(&small());
        for length in 0..whole.len() {
            read(&whole[..length]).unwrap_err();
            if length > START_BYTES + 4 {
                read(&signed(whole[..length].to_vec())).unwrap_err();
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_and_never_a_panic() {
        let whole = packed(&small());
        for place in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] ^= flip;
                read(&bytes).unwrap_err();
                // With the right checksum it may be a graph, which must then be usable.
                if let Ok(graph) = read(&signed(bytes)) {
                    let keys: Vec<String> = graph.tasks().map(|task| graph.key(task)).collect();
                    assert_eq!(graph.needed_by(graph.sinks()).len(), keys.len());
                }
            }
        }
    }

    #[test]
    fn another_version_and_another_file_are_told_apart() {
        let mut bytes = packed(&small());
        assert!(is_packed(&bytes) && !is_packed(b"name = \"x\"") && !is_packed(b"dagmar\0J"));
        assert_eq!(read(b"{}"), Err(PackedError::Foreign));
        bytes[8] = 1;
        assert_eq!(read(&bytes), Err(PackedError::Version(1)));
    }
}
