//! Frames that the server sends: final, unmasked, and the same for every receiver.
//!
//! The sender's shard calls [`push_message`] for each message of a turn. A message too large to copy becomes a frame in
//! its own buffer (`Assembled::into_frame`). Control frames are small values apart from the data, because they go out
//! between data frames and never wait behind them.

use super::close::CloseCode;
use super::frame::{
    ControlKind, ControlPayload, HEADROOM, LEN_IS_U16, LEN_IS_U64, MAX_CONTROL_PAYLOAD_BYTES,
    MessageKind, ServerHeader,
};

/// Appends one message as one frame: a header of 2, 4 or 10 bytes, then `payload`.
#[inline]
pub fn push_message(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
    let header = ServerHeader::new(kind as u8, payload.len());
    out.reserve(HEADROOM + payload.len());
    out.extend_from_slice(header.as_slice());
    out.extend_from_slice(payload);
}

/// The kind and the payload of a frame that [`push_message`] has made, or `Assembled::into_frame`.
pub(crate) fn parts_of(frame: &[u8]) -> (MessageKind, &[u8]) {
    let kind = if frame[0] & 0x0f == MessageKind::Text as u8 {
        MessageKind::Text
    } else {
        MessageKind::Binary
    };
    let header_len = match frame[1] {
        LEN_IS_U16 => 4,
        LEN_IS_U64 => 10,
        _ => 2,
    };
    (kind, &frame[header_len..])
}

/// The number of bytes that [`push_message`] appends for a payload of `payload_len` bytes.
pub fn frame_len(payload_len: usize) -> usize {
    ServerHeader::new(MessageKind::Binary as u8, payload_len)
        .as_slice()
        .len()
        + payload_len
}

/// The longest control frame: a header of two bytes and the payload.
const MAX_CONTROL_FRAME_BYTES: usize = 2 + MAX_CONTROL_PAYLOAD_BYTES;

/// A complete Close, Ping or Pong frame, stored inline.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    len: u8,
    bytes: [u8; MAX_CONTROL_FRAME_BYTES],
}

impl ControlFrame {
    /// A Ping. The answer is a Pong with the same payload (RFC 6455, section 5.5.2).
    pub fn ping(payload: &ControlPayload) -> ControlFrame {
        ControlFrame::new(ControlKind::Ping, payload.as_slice())
    }

    /// The answer to a Ping, with the Ping's payload (RFC 6455, section 5.5.3).
    pub(crate) fn pong(payload: &ControlPayload) -> ControlFrame {
        ControlFrame::new(ControlKind::Pong, payload.as_slice())
    }

    /// A Close (RFC 6455, section 5.5.1). A reason of more than 123 bytes is cut after the last character that fits.
    pub(crate) fn close(code: CloseCode, reason: &str) -> ControlFrame {
        let code = code.value().to_be_bytes();
        let fits = reason.floor_char_boundary(MAX_CONTROL_PAYLOAD_BYTES - code.len());
        let mut body = ControlPayload::EMPTY;
        body.extend(&code);
        body.extend(&reason.as_bytes()[..fits]);
        ControlFrame::new(ControlKind::Close, body.as_slice())
    }

    /// The answer to a Close: the same code, or no body if the Close had none.
    pub(crate) fn close_reply(received: Option<CloseCode>) -> ControlFrame {
        match received {
            Some(code) => ControlFrame::close(code, ""),
            None => ControlFrame::new(ControlKind::Close, &[]),
        }
    }

    /// The frame's bytes, header included.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// `payload` has at most 125 bytes, because every caller takes it from a [`ControlPayload`].
    fn new(kind: ControlKind, payload: &[u8]) -> ControlFrame {
        let header = ServerHeader::new(kind as u8, payload.len());
        let (header, mut bytes) = (header.as_slice(), [0; MAX_CONTROL_FRAME_BYTES]);
        let end = header.len() + payload.len();
        bytes[..header.len()].copy_from_slice(header);
        bytes[header.len()..end].copy_from_slice(payload);
        ControlFrame {
            len: end as u8,
            bytes,
        } // at most 127
    }
}

impl std::fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ControlFrame")
            .field(&self.as_slice())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{ControlFrame, frame_len, parts_of, push_message};
    use crate::ws::close::CloseCode;
    use crate::ws::frame::{ControlPayload, MessageKind};

    #[test]
    fn messages_are_appended_one_after_the_other() {
        let mut out = Vec::new();
        push_message(&mut out, MessageKind::Text, b"hi");
        push_message(&mut out, MessageKind::Binary, &[9]);
        assert_eq!(out, [0x81, 2, b'h', b'i', 0x82, 1, 9]);
    }

    #[test]
    fn a_frame_is_taken_apart_again_whatever_its_length() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for len in [0, 1, 125, 126, 65_535, 65_536] {
                let (mut frame, payload) = (Vec::new(), vec![b'x'; len]);
                push_message(&mut frame, kind, &payload);
                assert_eq!(parts_of(&frame), (kind, &*payload), "{len}");
            }
        }
    }

    #[test]
    fn the_length_of_a_frame_is_known_before_it_is_encoded() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            push_message(&mut out, MessageKind::Binary, &vec![0; len]);
            assert_eq!(frame_len(len), out.len());
        }
    }

    #[test]
    fn a_ping_and_its_pong_carry_the_same_payload() {
        let payload = ControlPayload::new(b"abc").expect("short");
        assert_eq!(ControlFrame::ping(&payload).as_slice(), b"\x89\x03abc");
        assert_eq!(ControlFrame::pong(&payload).as_slice(), b"\x8a\x03abc");
    }

    #[test]
    fn the_longest_control_payload_fits() {
        let payload = ControlPayload::new(&[5; 125]).expect("fits");
        let pong = ControlFrame::pong(&payload);
        assert_eq!(pong.as_slice(), [&[0x8a, 125][..], &[5; 125]].concat());
    }

    #[test]
    fn a_close_carries_code_and_reason() {
        let close = ControlFrame::close(CloseCode::GOING_AWAY, "bye");
        assert_eq!(close.as_slice(), b"\x88\x05\x03\xe9bye");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = format!("{}é", "x".repeat(122));
        let close = ControlFrame::close(CloseCode::POLICY, &reason);
        assert_eq!(close.as_slice()[1], 124);
        assert_eq!(close.as_slice()[4..], [b'x'; 122]);
    }

    #[test]
    fn a_close_is_answered_with_its_code_or_with_no_body() {
        let code = CloseCode::received(4321).expect("valid");
        assert_eq!(
            ControlFrame::close_reply(Some(code)).as_slice(),
            [0x88, 2, 0x10, 0xe1]
        );
        assert_eq!(ControlFrame::close_reply(None).as_slice(), [0x88, 0]);
    }
}
