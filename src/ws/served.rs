//! Frames that a server has sent, read back: those that [`push_message`](super::encode::push_message) writes, and no others.
//!
//! The reader of saved histories calls it. Frames of clients are read by [`decode`](super::decode).

use std::ops::Range;

use super::frame::{HEADROOM, MessageKind, ServerHeader};

/// The kind of the first frame in `bytes`, and the place of its payload. `None` if it is not the whole frame of a message, with
/// its length in the shortest form.
pub(crate) fn first_frame(bytes: &[u8]) -> Option<(MessageKind, Range<usize>)> {
    let kind = match bytes.first()? {
        0x81 => MessageKind::Text,
        0x82 => MessageKind::Binary,
        _ => return None,
    };
    let len = match *bytes.get(1)? {
        126 => u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => u64::from_be_bytes(bytes.get(2..HEADROOM)?.try_into().ok()?),
        len => u64::from(len),
    };
    let len = usize::try_from(len).ok()?;
    if len > bytes.len() {
        return None;
    }
    // The header that we would write for it, so nothing else is taken: no mask, no longer form of the length.
    let header = ServerHeader::new(kind as u8, len);
    let header = header.as_slice();
    let end = header.len() + len;
    (bytes.starts_with(header) && end <= bytes.len()).then_some((kind, header.len()..end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::encode::push_message;

    #[test]
    fn frames_are_read_as_they_are_written() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = Vec::new();
            push_message(&mut bytes, MessageKind::Binary, &vec![7; len]);
            let end = bytes.len();
            bytes.push(0x81);
            let (kind, payload) = first_frame(&bytes).expect("a frame");
            assert_eq!(
                (kind, payload.len(), payload.end),
                (MessageKind::Binary, len, end)
            );
            assert!(first_frame(&bytes[..end - 1]).is_none(), "{len}");
        }
    }

    #[test]
    fn frames_that_no_server_sends_are_refused() {
        for bytes in [
            &b""[..],
            b"\x81",
            b"\x01\x00",
            b"\x80\x00",
            b"\x88\x00",
            b"\xc1\x00",
            b"\x81\x80\0\0\0\0",
            b"\x82\x7e\x00\x05abcde",
            b"\x82\x7f\0\0\0\0\0\0\0\x05abcde",
            b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(first_frame(bytes), None, "{bytes:?}");
        }
    }
}
