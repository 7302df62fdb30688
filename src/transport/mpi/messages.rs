//! The kinds of messages between ranks, and how parcels and numbers lie in them.

use crate::transport::arrivals::Announced;
use crate::transport::endpoint::Parcel;

/// The message is a head without a body.
pub(super) const TAG_HEAD: i32 = 1;
/// A head, its body, and the head's length in the last four bytes.
pub(super) const TAG_WHOLE: i32 = 2;
/// A head, or none if it comes in pieces, and the lengths of head and body in the last 16 bytes.
pub(super) const TAG_ANNOUNCEMENT: i32 = 3;
/// The next bytes of the first large parcel that is not complete.
pub(super) const TAG_PIECE: i32 = 4;

/// A worker has sent its last message; from rank 0: all ranks have.
pub(super) const TAG_PARTING: i32 = 5;

/// A head, and the offer of its body's file.
pub(super) const TAG_OFFER: i32 = 6;
/// The offer of this number was taken.
pub(super) const TAG_TAKEN: i32 = 7;
/// The offer of this number cannot be taken; what the receiver calls the parcel.
pub(super) const TAG_NOT_TAKEN: i32 = 8;
/// The body of the parcel that the receiver calls so, and how many bytes it has, follows in pieces.
pub(super) const TAG_BODY: i32 = 9;

/// A parcel as one message: head, body, and the head's length.
pub(super) fn in_one(parcel: Parcel) -> Vec<u8> {
    let mut bytes = parcel.head;
    let head_bytes = bytes.len() as u32;
    bytes.reserve_exact(parcel.body.len() + 4);
    bytes.extend_from_slice(&parcel.body);
    bytes.extend(head_bytes.to_le_bytes());
    bytes
}

/// What `in_one` made. None if it did not make it.
pub(super) fn whole(mut bytes: Vec<u8>) -> Option<Parcel> {
    let (rest, head_bytes) = bytes.split_last_chunk()?;
    let head_bytes = u32::from_le_bytes(*head_bytes) as usize;
    let body = rest.get(head_bytes..)?.to_vec();
    bytes.truncate(head_bytes);
    Some(Parcel { head: bytes, body: body.into() })
}

/// The announcement in `bytes`, if it is one.
pub(super) fn announced(mut bytes: Vec<u8>) -> Option<Announced> {
    let (rest, body_bytes) = bytes.split_last_chunk()?;
    let (head, head_bytes) = rest.split_last_chunk()?;
    let (head_bytes, body_bytes) = (u64::from_le_bytes(*head_bytes), u64::from_le_bytes(*body_bytes));
    let has_head = head.len() as u64 == head_bytes;
    bytes.truncate(bytes.len() - 16);
    Some(Announced { head: has_head.then_some(bytes), head_bytes, body_bytes })
}

/// The numbers that a message is made of.
pub(super) fn numbers<const N: usize>(message: &[u8]) -> Option<[u64; N]> {
    let numbers: Vec<u64> = message.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
    numbers.try_into().ok()
}
