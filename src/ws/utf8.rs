//! Validation of UTF-8 that arrives in pieces (RFC 6455, section 8.1).
//!
//! The decoder collects an unfinished text in one contiguous buffer, so there is no state machine: the length of the
//! valid prefix is enough, and each check starts there. A check fails at the first byte that no continuation could make
//! valid. It reads no byte more than four times.

use simdutf8::compat;

/// A byte of the text is not valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

/// The length of the prefix that is valid and ends with a complete code point.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8Progress {
    valid_bytes: usize,
}

impl Utf8Progress {
    /// A text of this length that has been checked otherwise.
    pub(super) fn checked(len: usize) -> Self {
        Utf8Progress { valid_bytes: len }
    }

    /// Checks the bytes that were appended. `text` is the whole message so far and may end inside a code point.
    pub(super) fn check(&mut self, text: &[u8]) -> Result<(), NotUtf8> {
        match compat::from_utf8(&text[self.valid_bytes..]) {
            Ok(_) => self.valid_bytes = text.len(),
            Err(error) if error.error_len().is_none() => self.valid_bytes += error.valid_up_to(),
            Err(_) => return Err(NotUtf8),
        }
        Ok(())
    }

    /// Whether a checked text of `len` bytes may end here, that is, after a complete code point.
    pub(super) fn is_whole(self, len: usize) -> bool {
        self.valid_bytes == len
    }
}

#[cfg(test)]
mod tests {
    use super::{NotUtf8, Utf8Progress};

    /// Feeds `text` byte by byte. Returns after how many bytes it failed, or else whether the text may end.
    fn byte_by_byte(text: &[u8]) -> Result<bool, usize> {
        let mut progress = Utf8Progress::default();
        for end in 1..=text.len() {
            progress.check(&text[..end]).map_err(|NotUtf8| end)?;
        }
        Ok(progress.is_whole(text.len()))
    }

    #[test]
    fn code_points_of_every_width_may_be_cut_anywhere() {
        assert_eq!(byte_by_byte("a é € 😀 \u{10FFFF}".as_bytes()), Ok(true));
    }

    #[test]
    fn a_text_must_not_end_inside_a_code_point() {
        assert_eq!(byte_by_byte(&"😀".as_bytes()[..3]), Ok(false));
    }

    #[test]
    fn the_first_invalid_byte_fails_at_once() {
        let cases: [(&[u8], usize); 8] = [
            (b"ab\x80", 3),           // a continuation byte alone
            (b"\xc0\x80", 1),         // overlong, two bytes
            (b"\xe0\x80\x80", 2),     // overlong, three bytes
            (b"\xf0\x80\x80\x80", 2), // overlong, four bytes
            (b"\xed\xa0\x80", 2),     // a surrogate
            (b"\xf4\x90\x80\x80", 2), // above U+10FFFF
            (b"\xf5", 1),             // no such lead byte
            (b"\xe2\x82a", 3),        // cut short by another character
        ];
        for (text, at) in cases {
            assert_eq!(byte_by_byte(text), Err(at), "{text:x?}");
        }
    }
}
