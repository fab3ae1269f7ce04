//! The wire format of RFC 6455, section 5.2: opcodes, the client's frame header and the server's.
//!
//! The decoder and the encoder call it. It checks every rule that one header can break by itself, at the first byte
//! that breaks it. The decoder checks the rules about sequences of frames.

use super::error::DecodeError;
use super::mask::MaskKey;

/// The longest header of a client's frame: 2 bytes, 8 of length, 4 of mask.
pub(super) const MAX_CLIENT_HEADER_BYTES: usize = 14;

/// The longest header of a server's frame: 2 bytes and 8 of length. A payload with this much room in front can become a
/// frame in place.
pub(crate) const HEADROOM: usize = 10;

/// The longest payload of a control frame, in bytes (section 5.5).
pub(crate) const MAX_CONTROL_PAYLOAD_BYTES: usize = 125;

/// The longest payload length that the header's second byte can hold.
const MAX_SHORT_LEN: u64 = 125;
/// Instead of a length: two bytes of length follow.
pub(super) const LEN_IS_U16: u8 = 126;
/// Instead of a length: eight bytes of length follow.
pub(super) const LEN_IS_U64: u8 = 127;

const FIN: u8 = 0x80;
pub(super) const MASKED: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// RSV1: the message is compressed (RFC 7692, section 6).
const DEFLATED: u8 = 0x40;

/// The type of a message. The number is the opcode of its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// UTF-8 text.
    Text = 0x1,
    /// Any bytes.
    Binary = 0x2,
}

/// The payload of a control frame: at most 125 bytes, stored inline.
#[derive(Clone, Copy)]
pub struct ControlPayload {
    len: u8,
    bytes: [u8; MAX_CONTROL_PAYLOAD_BYTES],
}

impl ControlPayload {
    /// An empty payload.
    pub(crate) const EMPTY: ControlPayload = ControlPayload {
        len: 0,
        bytes: [0; MAX_CONTROL_PAYLOAD_BYTES],
    };

    /// A copy of `bytes`, or `None` if there are more than 125.
    pub fn new(bytes: &[u8]) -> Option<ControlPayload> {
        let mut payload = ControlPayload::EMPTY;
        payload.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        payload.len = bytes.len() as u8; // at most 125, or the line above has returned
        Some(payload)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }

    /// Appends `bytes`. The caller has checked that they fit.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let end = usize::from(self.len) + bytes.len();
        self.bytes[usize::from(self.len)..end].copy_from_slice(bytes);
        self.len = end as u8; // at most 125, or the line above has panicked
    }
}

impl std::fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ControlPayload")
            .field(&self.as_slice())
            .finish()
    }
}

impl PartialEq for ControlPayload {
    fn eq(&self, other: &ControlPayload) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ControlPayload {}

/// The kind of a frame, by its opcode (section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// The first frame of a message.
    First(MessageKind),
    /// A further frame of a message.
    Continuation,
    /// Not part of a message; may stand between two frames of a message.
    Control(ControlKind),
}

/// The three control frames. The number is the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ControlKind {
    /// The last frame in its direction.
    Close = 0x8,
    /// Asks for a Pong.
    Ping = 0x9,
    /// Answers a Ping, or comes unsolicited as a sign of life.
    Pong = 0xa,
}

impl FrameKind {
    fn parse(opcode: u8) -> Result<FrameKind, DecodeError> {
        match opcode {
            0x0 => Ok(FrameKind::Continuation),
            0x1 => Ok(FrameKind::First(MessageKind::Text)),
            0x2 => Ok(FrameKind::First(MessageKind::Binary)),
            0x8 => Ok(FrameKind::Control(ControlKind::Close)),
            0x9 => Ok(FrameKind::Control(ControlKind::Ping)),
            0xa => Ok(FrameKind::Control(ControlKind::Pong)),
            _ => Err(DecodeError::ReservedOpcode),
        }
    }

    fn is_control(self) -> bool {
        match self {
            FrameKind::First(_) | FrameKind::Continuation => false,
            FrameKind::Control(_) => true,
        }
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientHeader {
    pub(super) fin: bool,
    pub(super) kind: FrameKind,
    pub(super) mask: MaskKey,
    /// As claimed by the client: at most 125 for control frames, below 2^63 for others.
    pub(super) payload_len: u64,
}

impl ClientHeader {
    /// Reads a header from the front of `bytes`. Returns the header and its length, or `None` if it is incomplete.
    ///
    /// Errors come in the order of the bytes that cause them, so they do not depend on how many bytes have arrived.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ClientHeader, usize)>, DecodeError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (fin, kind) = parse_first(first)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(DecodeError::Unmasked);
        }
        let short_len = second & !MASKED;
        if kind.is_control() && u64::from(short_len) > MAX_SHORT_LEN {
            return Err(DecodeError::ControlTooLong);
        }
        let Some((payload_len, rest)) = parse_length(short_len, &bytes[2..])? else {
            return Ok(None);
        };
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let header = ClientHeader {
            fin,
            kind,
            mask: MaskKey(*mask),
            payload_len,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }
}

/// The first byte of a message without the sign that the message is compressed. An error for all other bytes with reserved
/// bits: a compressed message bears the sign on its first frame, and control frames are never compressed.
pub(super) fn unmark_deflated(first: u8) -> Result<u8, DecodeError> {
    let unmarked = first & !DEFLATED;
    match parse_first(unmarked)? {
        (_, FrameKind::First(_)) => Ok(unmarked),
        (_, FrameKind::Continuation | FrameKind::Control(_)) => Err(DecodeError::ReservedBits),
    }
}

/// The opposite of [`unmark_deflated`].
pub(super) fn mark_deflated(first: u8) -> u8 {
    first | DEFLATED
}

/// FIN and the kind of frame, from the first byte.
pub(super) fn parse_first(first: u8) -> Result<(bool, FrameKind), DecodeError> {
    if first & RESERVED != 0 {
        return Err(DecodeError::ReservedBits);
    }
    let fin = first & FIN != 0;
    let kind = FrameKind::parse(first & 0x0f)?;
    if kind.is_control() && !fin {
        return Err(DecodeError::FragmentedControl);
    }
    Ok((fin, kind))
}

/// The payload length and the bytes after it. `short_len` is the 7-bit length of the second byte, and `bytes` follow
/// it.
pub(super) fn parse_length(
    short_len: u8,
    bytes: &[u8],
) -> Result<Option<(u64, &[u8])>, DecodeError> {
    match short_len {
        LEN_IS_U16 => {
            let Some((len, rest)) = bytes.split_first_chunk::<2>() else {
                return Ok(None);
            };
            let len = u64::from(u16::from_be_bytes(*len));
            if len <= MAX_SHORT_LEN {
                Err(DecodeError::LengthNotMinimal)
            } else {
                Ok(Some((len, rest)))
            }
        }
        LEN_IS_U64 => {
            if bytes.first().is_some_and(|&highest| highest & 0x80 != 0) {
                return Err(DecodeError::LengthHighBitSet);
            }
            let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
                return Ok(None);
            };
            let len = u64::from_be_bytes(*len);
            if u16::try_from(len).is_ok() {
                Err(DecodeError::LengthNotMinimal)
            } else {
                Ok(Some((len, rest)))
            }
        }
        short_len => Ok(Some((u64::from(short_len), bytes))),
    }
}

/// The header of a server's frame: final, unmasked, with the length in its shortest form.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerHeader {
    bytes: [u8; HEADROOM],
    len: u8,
}

impl ServerHeader {
    #[inline]
    pub(super) fn new(opcode: u8, payload_len: usize) -> ServerHeader {
        let mut bytes = [0; HEADROOM];
        bytes[0] = FIN | opcode;
        let len = if payload_len as u64 <= MAX_SHORT_LEN {
            bytes[1] = payload_len as u8; // at most 125
            2
        } else if let Ok(short) = u16::try_from(payload_len) {
            bytes[1] = LEN_IS_U16;
            bytes[2..4].copy_from_slice(&short.to_be_bytes());
            4
        } else {
            bytes[1] = LEN_IS_U64;
            bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        ServerHeader { bytes, len }
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientHeader, ControlKind, ControlPayload, FrameKind, MessageKind, ServerHeader};
    use crate::ws::error::DecodeError;
    use crate::ws::mask::MaskKey;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn parse(bytes: &[u8]) -> Result<Option<(ClientHeader, usize)>, DecodeError> {
        ClientHeader::parse(bytes)
    }

    /// The header of a masked binary frame with `len` as its length field.
    fn header(len: &[u8]) -> Vec<u8> {
        [&[0x82], len, &MASK].concat()
    }

    fn parsed_len(len: &[u8]) -> Result<u64, DecodeError> {
        parse(&header(len)).map(|complete| complete.expect("a complete header").0.payload_len)
    }

    #[test]
    fn a_header_is_read_and_the_rest_is_left() {
        let expected = ClientHeader {
            fin: false,
            kind: FrameKind::First(MessageKind::Text),
            mask: MaskKey(MASK),
            payload_len: 5,
        };
        assert_eq!(
            parse(&[0x01, 0x85, 1, 2, 3, 4, b'x', b'y']),
            Ok(Some((expected, 6)))
        );
    }

    #[test]
    fn every_defined_opcode_has_its_kind() {
        for (first, kind) in [
            (0x80, FrameKind::Continuation),
            (0x81, FrameKind::First(MessageKind::Text)),
            (0x82, FrameKind::First(MessageKind::Binary)),
            (0x88, FrameKind::Control(ControlKind::Close)),
            (0x89, FrameKind::Control(ControlKind::Ping)),
            (0x8a, FrameKind::Control(ControlKind::Pong)),
        ] {
            let (header, _) = parse(&[first, 0x80, 1, 2, 3, 4])
                .expect("legal")
                .expect("complete");
            assert_eq!((header.fin, header.kind), (true, kind));
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_incomplete() {
        for len in [&[0x85][..], &[0xfe, 1, 0], &[0xff, 0, 0, 0, 0, 0, 1, 0, 0]] {
            let bytes = header(len);
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} of {bytes:x?}");
            }
        }
    }

    #[test]
    fn lengths_are_read_in_all_three_forms() {
        assert_eq!(parsed_len(&[0xfd]), Ok(125));
        assert_eq!(parsed_len(&[0xfe, 0, 126]), Ok(126));
        assert_eq!(parsed_len(&[0xfe, 0xff, 0xff]), Ok(65_535));
        assert_eq!(parsed_len(&[0xff, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(65_536));
        assert_eq!(
            parsed_len(&[&[0xff, 0x7f][..], &[0xff; 7]].concat()),
            Ok(u64::MAX >> 1)
        );
    }

    #[test]
    fn a_length_in_more_bytes_than_needed_is_refused() {
        assert_eq!(
            parsed_len(&[0xfe, 0, 125]),
            Err(DecodeError::LengthNotMinimal)
        );
        assert_eq!(
            parsed_len(&[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            Err(DecodeError::LengthNotMinimal)
        );
    }

    #[test]
    fn a_length_of_two_to_the_63_is_refused_at_its_first_byte() {
        assert_eq!(
            parse(&[0x82, 0xff, 0x80]),
            Err(DecodeError::LengthHighBitSet)
        );
    }

    #[test]
    fn each_reserved_bit_is_refused_at_the_first_byte() {
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(parse(&[0x82 | bit]), Err(DecodeError::ReservedBits));
        }
    }

    #[test]
    fn reserved_opcodes_are_refused_at_the_first_byte() {
        for opcode in (0x3..=0x7).chain(0xb..=0xf) {
            assert_eq!(
                parse(&[0x80 | opcode]),
                Err(DecodeError::ReservedOpcode),
                "{opcode}"
            );
        }
    }

    #[test]
    fn fragmented_control_frames_are_refused_at_the_first_byte() {
        for opcode in 0x8..=0xa {
            assert_eq!(parse(&[opcode]), Err(DecodeError::FragmentedControl));
        }
    }

    #[test]
    fn long_control_frames_are_refused_at_the_second_byte() {
        for len in [126, 127] {
            assert_eq!(parse(&[0x89, 0x80 | len]), Err(DecodeError::ControlTooLong));
        }
    }

    #[test]
    fn unmasked_frames_are_refused_at_the_second_byte() {
        assert_eq!(parse(&[0x82, 5]), Err(DecodeError::Unmasked));
    }

    #[test]
    fn a_server_header_takes_the_shortest_form() {
        for (len, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(
                ServerHeader::new(MessageKind::Binary as u8, len).as_slice(),
                expected
            );
        }
    }

    #[test]
    fn a_control_payload_holds_125_bytes_and_no_more() {
        assert_eq!(
            ControlPayload::new(&[7; 125]).expect("fits").as_slice(),
            [7; 125]
        );
        assert_eq!(ControlPayload::new(&[7; 126]), None);
    }
}
