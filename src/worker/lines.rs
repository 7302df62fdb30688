//! Whole lines of a stream that comes in pieces.

/// A line that is longer is handed on in parts.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The unfinished line of a stream.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes a piece, and gives the lines that are whole with it. The last is held back, unless it is too long.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let whole = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(place) => self.0.len() - bytes.len() + place + 1,
            None if self.0.len() >= LINE_BYTES_MAX => self.0.len(),
            None => return None,
        };
        let rest = self.0.split_off(whole);
        Some(std::mem::replace(&mut self.0, rest))
    }

    /// What is left at the end of the stream.
    pub fn rest(self) -> Option<Vec<u8>> {
        Some(self.0).filter(|line| !line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_handed_on_whole() {
        let mut lines = Lines::default();
        let taken = ["a", "b\nc", "\n\nd", "e"].map(|piece| lines.take(piece.as_bytes()));
        assert_eq!(taken, [None, Some(b"ab\n".to_vec()), Some(b"c\n\n".to_vec()), None]);
        assert_eq!(lines.rest(), Some(b"de".to_vec()));
        assert_eq!(Lines::default().rest(), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_handed_on_in_parts() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(&[b'a'; LINE_BYTES_MAX - 1]), None);
        assert_eq!(lines.take(b"bc").map(|line| line.len()), Some(LINE_BYTES_MAX + 1));
        assert_eq!(lines.rest(), None);
    }
}
