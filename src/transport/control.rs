//! Frames between rank 0 and a client, over a socket of their node.
//!
//! A frame is its length in eight bytes, little-endian, and as many bytes; the first of them says what it is.

use std::io::{self, Read, Write};

/// What is reserved for a frame before its bytes are there.
const RESERVED_MAX: u64 = 1 << 20;
/// No frame is longer: a length beyond this is no length.
const FRAME_MAX: u64 = 1 << 40;

/// Reads a frame. `None` if the other side is gone.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    if let Err(error) = stream.read_exact(&mut length) {
        let is_gone = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
        return if is_gone { Ok(None) } else { Err(error) };
    }
    let length = u64::from_le_bytes(length);
    if length == 0 || length > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut frame = Vec::with_capacity(length.min(RESERVED_MAX) as usize);
    let read = stream.by_ref().take(length).read_to_end(&mut frame)?;
    if (read as u64) < length {
        return Ok(None);
    }
    Ok(Some(frame))
}

/// Writes a frame that is in pieces.
pub fn write_frame(stream: &mut impl Write, pieces: &[&[u8]]) -> io::Result<()> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let head = (length as u64).to_le_bytes();
    match length <= RESERVED_MAX as usize {
        true => stream.write_all(&[&[&head[..]], pieces].concat().concat()),
        false => {
            stream.write_all(&head)?;
            pieces.iter().try_for_each(|piece| stream.write_all(piece))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_one_by_one_and_cut_off_ones_not_at_all() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &[b"a", b"bc"]).unwrap();
        write_frame(&mut bytes, &[&vec![7; 2 << 20], b"!"]).unwrap();
        let mut read = &bytes[..];
        assert_eq!(read_frame(&mut read).unwrap().unwrap(), b"abc");
        assert_eq!(read_frame(&mut read).unwrap().unwrap().len(), (2 << 20) + 1);
        assert!(read_frame(&mut read).unwrap().is_none());
        for end in [4, 9, bytes.len() - 1] {
            let mut cut = &bytes[..end];
            while let Some(frame) = read_frame(&mut cut).unwrap() {
                assert_eq!(frame, b"abc");
            }
        }
        for length in [0, u64::MAX] {
            assert!(read_frame(&mut &length.to_le_bytes()[..]).is_err());
        }
    }
}
