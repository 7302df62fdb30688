//! Everything that ranks say to each other, in the one type that crosses the transport.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::edit::Lineage;
use crate::core::id::{Incarnation, Rank};
use crate::core::message::{FromWorker, PeerMessage, ToWorker};
use crate::core::resources::Resources;
use crate::transport::codec::{self, CodecError};
use crate::transport::endpoint::{Body, Endpoint, Lender, Parcel, TransportError};
use crate::worker::hardware::Hardware;
use crate::worker::output::Output;
use crate::worker::plain::{self, Form};
use crate::worker::share::Share;
use crate::worker::typed::Typed;

const CAPTURED: u8 = 0;
const VALUE: u8 = 1;
const TYPED: u8 = 2;

/// A message. What its parcel's body holds stands with each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Envelope {
    /// A worker's first word: what it runs on. No body.
    Hello(Hardware),
    /// The scheduler's answer once the run is sure to start. Body: the packed graph.
    Welcome(Welcome),
    /// The scheduler's orders. No body.
    ToWorker(ToWorker),
    /// A worker's reports. No body.
    FromWorker(FromWorker),
    /// Between workers. Body: the encoded output, for `PeerWord::Output`.
    Peer(PeerMessage),
    /// The same of an output that is bytes already. Body: those, from where they lie.
    Plain(PeerMessage, Form),
    /// What a client pickled: calls of it follow. Body: the bytes.
    Block(u32),
    /// No calls of these blocks will follow. No body.
    Unlearn(Vec<u32>),
    /// Part of a stream that goes to the standard stream of `dagmar run`. Body: its bytes.
    Forward(StandardStream),
    /// This worker cannot go on; why. No body.
    Broken(String),
    /// The run is over: wait for the next one, or for goodbye. No body.
    Rest,
    /// Rank 0 wants the outputs that are kept under these numbers, each in a message. No body.
    Fetch(Vec<u64>),
    /// Here is one. Body: the encoded output, or none if there is no such output.
    Fetched(u64),
    /// Nobody needs the outputs that are kept under these numbers. No body.
    Forget(Vec<u64>),
    /// The run is over, or does not begin: end with this exit code. No body.
    Goodbye(u8),
}

/// What a worker must know to begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Which life of the worker this is.
    pub incarnation: Incarnation,
    /// What its node is called by all.
    pub host: String,
    /// How much it may use.
    pub capacity: Resources,
    /// Which CPUs and GPUs those are.
    pub share: Share,
    /// The run directory, an absolute path on a shared file system.
    pub run_directory: String,
    /// The edits that the run has had.
    pub lineage: Lineage,
    /// True if what Python functions print goes to the standard streams of rank 0 as well.
    pub is_echoed: bool,
}

/// A standard stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StandardStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// An output that is lent to the transport while its bytes are sent.
pub struct Lent(Arc<Output>);

impl Lent {
    /// The output, and what its bytes mean, if it need not be encoded.
    pub fn of(output: &Arc<Output>) -> Option<(Form, Arc<Lent>)> {
        plain::plain(output).map(|(form, _)| (form, Arc::new(Lent(output.clone()))))
    }
}

impl Lender for Lent {
    fn bytes(&self) -> &[u8] {
        plain::bytes_of(&self.0).unwrap_or(&[])
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        plain::file_of(&self.0)
    }
}

impl Envelope {
    /// Sends the message with a body.
    pub fn send_with(&self, body: Body, to: Rank, endpoint: &mut dyn Endpoint) -> Result<(), TransportError> {
        endpoint.send(to, Parcel { head: codec::encode(self), body })
    }

    /// Sends the message alone.
    pub fn send(&self, to: Rank, endpoint: &mut dyn Endpoint) -> Result<(), TransportError> {
        self.send_with(Body::default(), to, endpoint)
    }

    /// The output that the plain bytes of a parcel stand for.
    pub fn plain_output_of(form: Form, body: Body) -> Result<Output, CodecError> {
        if let Some(output) = body.file().and_then(|file| plain::output_in(&form, file)) {
            return Ok(output);
        }
        let strange = |_| CodecError::Malformed("an output that is not what it is said to be".to_owned());
        plain::output_of(form, body.into_vec()).map_err(strange)
    }

    /// An output as the body of a parcel: a byte for its kind, then captured bytes as they are, the
    /// encoded value, or the name of a type (its length in two bytes before it) and a value of that type.
    pub fn body_of(output: &Output) -> Vec<u8> {
        match output {
            Output::Captured(bytes) => {
                let mut body = Vec::with_capacity(bytes.len() + 1);
                body.push(CAPTURED);
                body.extend_from_slice(bytes);
                body
            }
            Output::Value(value) => {
                let mut body = vec![VALUE];
                codec::encode_into(value, &mut body);
                body
            }
            Output::Typed(typed) => {
                let name = typed.type_name().as_bytes();
                let name = &name[..name.len().min(usize::from(u16::MAX))];
                let mut body = Vec::with_capacity(name.len() + 3 + typed.size_bytes() as usize);
                body.push(TYPED);
                body.extend_from_slice(&(name.len() as u16).to_le_bytes());
                body.extend_from_slice(name);
                typed.encode_into(&mut body);
                body
            }
        }
    }

    /// The output in the body of a parcel. A value of a program's own type stays where it is, and
    /// is decoded when it is asked for.
    pub fn output_of(body: &Arc<Vec<u8>>) -> Result<Output, CodecError> {
        let Some((&TYPED, rest)) = body.split_first() else { return Self::output_in(body) };
        let malformed = || CodecError::Malformed("a value without its type".to_owned());
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        let name = rest.get(..usize::from(u16::from_le_bytes(*length))).ok_or_else(malformed)?;
        let name = std::str::from_utf8(name).map_err(|_| malformed())?;
        Ok(Output::Typed(Typed::arrived(name.to_owned(), body.clone(), name.len() + 3)))
    }

    /// The output in bytes that stay with their owner.
    pub fn output_in(body: &[u8]) -> Result<Output, CodecError> {
        match body.split_first() {
            Some((&TYPED, _)) => Self::output_of(&Arc::new(body.to_vec())),
            Some((&CAPTURED, bytes)) => Ok(Output::Captured(bytes.to_vec())),
            Some((&VALUE, bytes)) => codec::decode(bytes).map(Output::Value),
            _ => Err(CodecError::Malformed("an output of no known kind".to_owned())),
        }
    }

    /// Reads the message of a parcel.
    pub fn read(parcel: &Parcel) -> Result<Envelope, CodecError> {
        codec::decode(&parcel.head)
    }
}
