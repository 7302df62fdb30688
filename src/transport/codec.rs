//! Messages as bytes and back: bincode 2, little endian, variable-length integers.
//!
//! This file and `reader` alone know the format. Bytes from outside can be wrong in every way:
//! decoding them gives an error, never a panic, and reserves no more memory than the bytes that
//! are there justify.

use std::fmt;

use bincode::config::Configuration;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reader::Reader;

/// The format, in one place.
pub(super) const FORMAT: Configuration = bincode::config::standard();

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// A length is given that the rest of the bytes cannot hold.
    TooLong {
        /// The length that is given.
        claimed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// This many bytes follow after the end of the value.
    Trailing(usize),
    /// The bytes do not describe such a value: why.
    Malformed(String),
}

impl fmt::Display for CodecError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::TooLong { claimed, left } => {
                write!(out, "a length of {claimed} is given where {left} bytes are left")
            }
            CodecError::Trailing(bytes) => write!(out, "{bytes} bytes too many"),
            CodecError::Malformed(why) => out.write_str(why),
        }
    }
}

impl std::error::Error for CodecError {}

/// `value` as bytes.
///
/// # Panics
/// When the type cannot be written in this format at all, such as a sequence of unknown length:
/// a fault of the type's author, which the first test of it shows.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Appends `value` to `bytes`, whose memory is reused.
///
/// # Panics
/// As `encode` does.
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_writer(value, Appender(bytes), FORMAT)
        .expect("messages have only shapes that the format can hold");
}

/// How many bytes `encode` would give.
///
/// # Panics
/// As `encode` does.
pub fn encoded_size<T: Serialize>(value: &T) -> u64 {
    let mut counter = Counter(0);
    bincode::serde::encode_into_writer(value, &mut counter, FORMAT)
        .expect("messages have only shapes that the format can hold");
    counter.0
}

/// The value that `bytes` hold, all of them.
///
/// A sequence must not have more elements than bytes: elements that take no byte, as in
/// `Vec<()>`, are refused, because a few bytes could ask for an endless number of them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    match reader.left() {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

struct Counter(u64);

impl Writer for &mut Counter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::core::addition::{Addition, Grown, NewTask, Origin, Source, Work};
    use crate::core::batch::Batch;
    use crate::core::event::{Cause, Death, Event, Failure, Shortage, Success, Totals};
    use crate::core::id::{Attempt, Incarnation, OperationId, OptionsId, Rank, TaskId};
    use crate::core::message::{
        Assignment, FromWorker, InputLocation, Order, PeerMessage, PeerWord, Report, Special, ToWorker,
    };
    use crate::core::resources::Resources;
    use crate::core::span::Span;
    use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
    use crate::core::time::{Micros, Timestamp};
    use crate::core::value::Value;

    fn attempt() -> impl Strategy<Value = (TaskId, Attempt)> {
        (any::<u32>(), any::<u32>()).prop_map(|(task, attempt)| (TaskId(task), Attempt(attempt)))
    }

    prop_compose! {
        fn location()(
            (task, attempt) in attempt(), owner: u32, incarnation: u32, is_ahead: bool,
        ) -> InputLocation {
            InputLocation { task, attempt, owner: Rank(owner), incarnation: Incarnation(incarnation), is_ahead }
        }
    }

    prop_compose! {
        fn assignment()(
            (task, attempt) in attempt(),
            inputs in vec(location(), 0..4),
            files in vec((any::<u32>().prop_map(TaskId), any::<u32>().prop_map(Attempt), vec(any::<u64>(), 0..3)), 0..3),
            (count, urgency, consumers, persist) in any::<(u32, u32, u32, bool)>(),
            hosts in vec(".*", 0..3),
            (row, follows) in (proptest::option::of(row()), proptest::option::of(attempt())),
            is_special: bool,
        ) -> Assignment {
            let tasks = Span { first: task, count };
            let special = is_special.then(|| Box::new(Special { files, follows, hosts, row }));
            Assignment { tasks, attempt, urgency, consumers, persist, inputs, special }
        }
    }

    fn work() -> impl Strategy<Value = Work> {
        let source = prop_oneof![
            any::<u32>().prop_map(Source::New),
            any::<u32>().prop_map(Source::Taken),
            any::<u32>().prop_map(|task| Source::Known(TaskId(task))),
        ];
        (any::<(u32, u32, u32)>(), vec(source, 0..4)).prop_map(|((operation, place, options), values)| Work {
            operation,
            place,
            options,
            values,
        })
    }

    fn operation() -> impl Strategy<Value = Arc<Operation>> {
        (".*", vec(any::<u8>(), 0..9)).prop_map(|(function, bytes)| {
            let arguments = vec![Argument::Value(Value::Bytes(bytes)), Argument::Input(7)];
            let body = Body::Call(Call { function, arguments });
            Arc::new(Operation { body, inputs: vec![], outputs: vec![] })
        })
    }

    fn options() -> impl Strategy<Value = Arc<TaskOptions>> {
        (resources(), any::<(u32, i32)>()).prop_map(|(resources, (retries, priority))| {
            Arc::new(TaskOptions { resources, retries, priority, ..TaskOptions::default() })
        })
    }

    fn row() -> impl Strategy<Value = Arc<Grown>> {
        let origin = (any::<(u32, u32, u32)>(), ".*").prop_map(|((by, root, number), name)| {
            let (by, root) = (TaskId(by), TaskId(root));
            Origin { by, root, name, number }
        });
        let numbers = any::<(u32, u32, u32, u32, u32)>();
        (proptest::option::of(origin), operation(), options(), numbers, vec(any::<u32>(), 0..4)).prop_map(
            |(origin, operation, options, (version, submitted, operation_id, place, options_id), values)| {
                let (operation_id, options_id) = (OperationId(operation_id), OptionsId(options_id));
                Arc::new(Grown {
                    version,
                    origin,
                    submitted,
                    operation,
                    operation_id,
                    place,
                    options,
                    options_id,
                    orders: values.clone(),
                    values,
                })
            },
        )
    }

    fn addition() -> impl Strategy<Value = Addition> {
        let tasks = vec((any::<u32>(), work()).prop_map(|(name, work)| NewTask { name, work }), 0..4);
        let shared = (vec(operation(), 0..3), vec(options(), 0..3), vec(".*", 0..3));
        (shared, tasks, proptest::option::of(work())).prop_map(
            |((operations, options, names), tasks, becomes)| Addition {
                operations,
                options,
                names,
                tasks,
                becomes,
            },
        )
    }

    fn order() -> impl Strategy<Value = Order> {
        prop_oneof![
            assignment().prop_map(Order::Assign),
            attempt().prop_map(|(task, attempt)| Order::Retract(Span::one(task), attempt)),
            (attempt(), cause()).prop_map(|((task, attempt), cause)| Order::End(task, attempt, cause)),
            attempt().prop_map(|(task, attempt)| Order::Release(task, attempt)),
            Just(Order::Stop),
            Just(Order::Leave),
        ]
    }

    fn to_worker() -> impl Strategy<Value = ToWorker> {
        (any::<u32>(), vec(order(), 0..6))
            .prop_map(|(life, orders)| ToWorker { incarnation: Incarnation(life), orders })
    }

    fn cause() -> impl Strategy<Value = Cause> {
        prop_oneof![
            any::<i32>().prop_map(Cause::ExitCode),
            any::<u64>().prop_map(|limit| Cause::Timeout(Micros(limit))),
            Just(Cause::KilledRank { death: Death::Signal(11), times: 2, limit: 3 }),
            Just(Cause::OutOfMemory(Shortage { limit_bytes: 1, used_bytes: 2, is_most: true })),
            ".*".prop_map(Cause::Panic),
            addition().prop_map(|addition| Cause::HandedOn(Box::new(addition))),
        ]
    }

    prop_compose! {
        fn resources()(cpus: u32, memory_bytes: u64, gpus: u32, custom: BTreeMap<String, u64>) -> Resources {
            Resources { cpus, memory_bytes, gpus, custom }
        }
    }

    fn report() -> impl Strategy<Value = Report> {
        let success = (any::<u64>(), any::<u64>(), any::<u64>(), vec(any::<u64>(), 0..3));
        prop_oneof![
            (".*", resources()).prop_map(|(host, capacity)| Report::Joined { host, capacity }),
            (attempt(), success).prop_map(|((task, attempt), (started, ran, size_bytes, file_sizes))| {
                let (started, ran) = (Timestamp(started), Micros(ran));
                let batch = Batch::one(task, attempt, Success { started, ran, size_bytes, file_sizes });
                // What serves only to add to a batch does not travel.
                Report::Finished(decode(&encode(&batch)).expect("a batch can be read"))
            }),
            (attempt(), any::<u64>(), cause()).prop_map(|((task, attempt), started, cause)| {
                let failure = Failure { started: Timestamp(started), ran: Micros::ZERO, cause };
                Report::Failed(task, attempt, failure)
            }),
            (attempt(), location()).prop_map(|((task, attempt), input)| Report::InputMissing {
                task,
                attempt,
                input
            }),
            any::<bool>().prop_map(Report::Heartbeat),
            any::<u64>().prop_map(Report::WritesPerSecond),
            any::<(u64, u64, u64, u64)>().prop_map(
                |(sent_bytes, received_bytes, spilled_bytes, read_back_bytes)| {
                    Report::Left(Totals { sent_bytes, received_bytes, spilled_bytes, read_back_bytes })
                }
            ),
        ]
    }

    fn from_worker() -> impl Strategy<Value = FromWorker> {
        (any::<u32>(), vec(report(), 0..6))
            .prop_map(|(life, reports)| FromWorker { incarnation: Incarnation(life), reports })
    }

    prop_compose! {
        fn peer_message()(from: u32, to: u32, (task, attempt) in attempt(), word in 0..5) -> PeerMessage {
            let word = match word {
                4 => PeerWord::Await(task, attempt),
                0 => PeerWord::Want(task, attempt),
                1 => PeerWord::Unwant(task, attempt),
                2 => PeerWord::Output(task, attempt),
                _ => PeerWord::Unknown(task, attempt),
            };
            PeerMessage { from: Incarnation(from), to: Incarnation(to), word }
        }
    }

    proptest! {
        #[test]
        fn every_message_comes_back_as_it_was(
            down in to_worker(), up in from_worker(), across in peer_message(),
        ) {
            prop_assert_eq!(decode::<ToWorker>(&encode(&down)), Ok(down));
            prop_assert_eq!(decode::<FromWorker>(&encode(&up)), Ok(up));
            prop_assert_eq!(decode::<PeerMessage>(&encode(&across)), Ok(across));
        }

        #[test]
        fn our_reader_and_bincodes_own_agree(up in from_worker()) {
            let bytes = encode(&up);
            let theirs = bincode::serde::decode_from_slice::<FromWorker, _>(&bytes, FORMAT);
            prop_assert_eq!(theirs.expect("bincode reads what it wrote"), (up, bytes.len()));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = decode::<ToWorker>(&bytes);
            let _ = decode::<FromWorker>(&bytes);
            let _ = decode::<PeerMessage>(&bytes);
            let _ = decode::<Event>(&bytes);
        }

        #[test]
        fn a_damaged_message_is_decoded_or_refused(up in from_worker(), place: usize, byte: u8) {
            let mut bytes = encode(&up);
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = decode::<FromWorker>(&bytes);
            prop_assert!(decode::<FromWorker>(&encode(&up)[..place]).is_err());
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct EveryShape {
        small: (u8, i8, u16, i16, bool, char),
        large: (u128, i128, i64, f32, f64),
        perhaps: [Option<String>; 2],
        nothing: (),
        by_name: BTreeMap<String, Vec<u32>>,
        boxed: Box<[u8]>,
        choices: Vec<Choice>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        Newtype(u64),
        Tuple(u8, String),
        Struct { left: i32, right: f64 },
    }

    #[test]
    fn every_shape_that_serde_knows_comes_back() {
        let value = EveryShape {
            small: (1, -2, 300, -400, true, 'ü'),
            large: (u128::MAX, i128::MIN, i64::MIN, 0.5, -1e300),
            perhaps: [None, Some("a".into())],
            nothing: (),
            by_name: BTreeMap::from([("x".into(), vec![1, 250, 251, 70_000])]),
            boxed: Box::new([0, 255]),
            choices: vec![
                Choice::Unit,
                Choice::Newtype(u64::MAX),
                Choice::Tuple(1, "b".into()),
                Choice::Struct { left: -1, right: 2.0 },
            ],
        };
        assert_eq!(decode::<EveryShape>(&encode(&value)), Ok(value));
    }

    /// A u64 that the format writes as 253 and eight bytes.
    fn hostile_length(length: u64) -> Vec<u8> {
        let mut bytes = vec![253];
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn a_hostile_length_is_refused_before_memory_is_reserved() {
        for length in [17, 1 << 20, 1 << 40, u64::MAX] {
            let bytes = hostile_length(length);
            let refused = CodecError::TooLong { claimed: length, left: 16 };
            assert_eq!(decode::<String>(&bytes), Err(refused.clone()));
            assert_eq!(decode::<Vec<u8>>(&bytes), Err(refused.clone()));
            assert_eq!(decode::<Vec<u64>>(&bytes), Err(refused.clone()));
            assert_eq!(decode::<Vec<()>>(&bytes), Err(refused.clone()));
            assert_eq!(decode::<BTreeMap<u8, u8>>(&bytes), Err(refused));
        }
    }

    #[test]
    fn bytes_in_one_piece_are_written_as_a_sequence_of_bytes_is() {
        for length in [0, 1, 250, 251, 70_000] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let list = Value::List(vec![Value::Null, Value::Bytes(bytes.clone()), Value::Int(-1)]);
            // The list, its length, null, then bytes by their place among the kinds of values, and -1.
            let expected = encode(&(6_u32, 3_u64, 0_u32, 5_u32, &bytes, 2_u32, -1_i64));
            assert_eq!(encode(&list), expected, "{length} bytes");
            assert_eq!(decode::<Value>(&expected), Ok(list));
        }
    }

    #[test]
    fn what_follows_the_value_is_an_error() {
        let mut bytes = encode(&7_u32);
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn a_missing_end_is_an_error() {
        assert!(matches!(decode::<u32>(&[]), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<u32>(&[251, 1]), Err(CodecError::Malformed(_))));
    }
}
