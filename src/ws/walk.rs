//! A walk over finished server frames: one whole, unmasked message each, as [`super::encode`] makes them.
//!
//! The cluster checks what another node calls frames before it hands them to clients. It looks at heads only.

use super::error::DecodeError;
use super::frame::{FrameKind, MASKED, MessageKind, parse_first, parse_length};

/// Takes the first frame off `bytes`. Returns its kind, its payload and the rest.
///
/// `None` if the frame is cut, masked, in fragments, a control frame, or breaks RFC 6455, section 5.2.
pub(crate) fn split_frame(bytes: &[u8]) -> Option<(MessageKind, &[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let kind = whole_message(parse_first(first))?;
    if second & MASKED != 0 {
        return None;
    }
    let (len, rest) = parse_length(second, rest).ok()??;
    let len = usize::try_from(len).ok()?;
    let (payload, rest) = rest.split_at_checked(len)?;
    Some((kind, payload, rest))
}

fn whole_message(parsed: Result<(bool, FrameKind), DecodeError>) -> Option<MessageKind> {
    match parsed {
        Ok((true, FrameKind::First(kind))) => Some(kind),
        Ok((_, FrameKind::First(_) | FrameKind::Continuation | FrameKind::Control(_))) | Err(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::encode::push_message;

    #[test]
    fn frames_are_split_as_they_were_joined() {
        let (mut bytes, long) = (Vec::new(), vec![7; 70_000]);
        push_message(&mut bytes, MessageKind::Text, b"hi");
        push_message(&mut bytes, MessageKind::Binary, &long);
        let (kind, payload, rest) = split_frame(&bytes).expect("a frame");
        assert_eq!((kind, payload), (MessageKind::Text, &b"hi"[..]));
        let (kind, payload, rest) = split_frame(rest).expect("a frame");
        assert_eq!((kind, payload), (MessageKind::Binary, &long[..]));
        assert_eq!(split_frame(rest), None);
    }

    #[test]
    fn only_whole_messages_of_a_server_are_frames() {
        for bytes in [
            &[0x81][..],
            &[0x81, 2, b'h'],
            &[0x81, 0x80, 1, 2, 3, 4],
            &[0x01, 0],
            &[0x80, 0],
            &[0x88, 0],
            &[0xc1, 0],
            &[0x81, 126, 0, 1, 7],
            &[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(split_frame(bytes), None, "{bytes:x?}");
        }
    }
}
