//! Frames on the wire (RFC 6455, 5.2): headers of a server's frames are read, and a client's frames are built with a
//! mask.

use crate::scenario::options::Opcode;

/// The longest header of a frame, its mask included.
pub(crate) const MAX_HEADER_BYTES: usize = 14;

/// The longest payload of a control frame.
pub(crate) const MAX_CONTROL_BYTES: usize = 125;

/// Opcode of a frame that goes on with a message.
pub(crate) const CONTINUATION: u8 = 0;
/// Opcode of text.
pub(crate) const TEXT: u8 = Opcode::Text.code();
/// Opcode of binary data.
pub(crate) const BINARY: u8 = Opcode::Binary.code();
/// Opcode of Close.
pub(crate) const CLOSE: u8 = 8;
/// Opcode of Ping.
pub(crate) const PING: u8 = 9;
/// Opcode of Pong.
pub(crate) const PONG: u8 = 10;

/// Set when the message is compressed: RSV1 in the first of its frames.
const DEFLATED: u8 = 0x40;

/// The error of a frame with a bit that nobody has agreed on.
pub(crate) const RESERVED: &str = "a frame with a reserved bit";

/// Set when the payload has a mask.
const MASKED: u8 = 0x80;
/// Says that a length of 16 bits follows.
const LENGTH_16: u8 = 126;
/// Says that one of 64 bits follows.
const LENGTH_64: u8 = 127;

/// The key of all our masks. A server cannot know that it is always the same, and has to unmask.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// The header of a server's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Whether the message ends with it.
    pub(crate) is_final: bool,
    /// Its opcode.
    pub(crate) opcode: u8,
    /// Its own length in bytes.
    pub(crate) bytes: usize,
    /// Bytes of payload.
    pub(crate) payload: u64,
    /// Whether it begins a compressed message (RFC 7692, 6).
    pub(crate) is_deflated: bool,
}

impl Header {
    /// Whether it is a control frame.
    pub(crate) fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }
}

/// Reads the header at the beginning of `input`; `Ok(None)` if a part of it is missing. An error says how the server
/// broke the protocol.
#[inline]
pub(crate) fn read_header(input: &[u8]) -> Result<Option<Header>, &'static str> {
    let [first, second, rest @ ..] = input else {
        return Ok(None);
    };
    if first & 0x30 != 0 {
        return Err(RESERVED);
    }
    if second & 0x80 != 0 {
        return Err("a frame with a mask");
    }
    let (bytes, payload) = match second & 0x7f {
        LENGTH_16 => {
            let Some(length) = rest.first_chunk() else {
                return Ok(None);
            };
            (4, u64::from(u16::from_be_bytes(*length)))
        }
        LENGTH_64 => {
            let Some(length) = rest.first_chunk() else {
                return Ok(None);
            };
            (10, u64::from_be_bytes(*length))
        }
        short => (2, u64::from(short)),
    };
    let header = Header {
        is_final: first & 0x80 != 0,
        opcode: first & 0x0f,
        bytes,
        payload,
        is_deflated: first & DEFLATED != 0,
    };
    check(&header)?;
    Ok(Some(header))
}

#[inline]
fn check(header: &Header) -> Result<(), &'static str> {
    let is_minimal = match header.bytes {
        2 => true,
        4 => header.payload >= 126,
        _ => header.payload > 0xffff && header.payload >> 63 == 0,
    };
    if !is_minimal {
        return Err("a frame whose length is not written in the fewest bytes");
    }
    match header.opcode {
        TEXT | BINARY => Ok(()),
        _ if header.is_deflated => Err(RESERVED),
        CONTINUATION => Ok(()),
        CLOSE | PING | PONG => {
            if header.is_final && header.payload <= MAX_CONTROL_BYTES as u64 {
                Ok(())
            } else {
                Err("a control frame in parts or too long")
            }
        }
        _ => Err("a frame of an unknown kind"),
    }
}

/// Appends a frame that is a whole message, masked.
pub(crate) fn push_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => out.push(MASKED | short as u8),
        medium @ 126..=0xffff => {
            out.push(MASKED | LENGTH_16);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(MASKED | LENGTH_64);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..]);
}

/// Masks the beginning of a payload.
pub(crate) fn mask(payload: &mut [u8]) {
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= MASK[index % MASK.len()];
    }
}

/// The code of a Close frame; 1005 stands for none (RFC 6455, 7.4.1).
pub(crate) fn close_code(payload: &[u8]) -> u16 {
    payload
        .first_chunk()
        .map_or(1005, |code| u16::from_be_bytes(*code))
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn an_independent_reader_understands_our_frames() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![0x42; length];
            let mut frame = Vec::new();
            push_frame(BINARY, &payload, &mut frame);
            let mut cursor = std::io::Cursor::new(&frame);
            let (header, bytes) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!(bytes, length as u64);
            assert_eq!(header.mask, Some(MASK));
            assert!(header.is_final);
            let start = cursor.position() as usize;
            let mut unmasked = frame[start..].to_vec();
            mask(&mut unmasked);
            assert_eq!(unmasked, payload);
        }
    }

    #[test]
    fn headers_are_read_when_they_are_whole() {
        let header = [0x82, 126, 1, 0];
        for short in 0..4 {
            assert_eq!(read_header(&header[..short]), Ok(None));
        }
        let whole = Header {
            is_final: true,
            opcode: BINARY,
            bytes: 4,
            payload: 256,
            is_deflated: false,
        };
        assert_eq!(read_header(&header), Ok(Some(whole)));
    }

    #[test]
    fn frames_that_a_server_may_not_send_are_errors() {
        let long = [0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        for bad in [
            &[0xd2, 0][..],
            &[0xc0, 0],
            &[0xc9, 0],
            &[0x82, 0x80],
            &[0x83, 0],
            &[0x09, 0],
            &[0x89, 126, 0, 126],
            &[0x82, 126, 0, 125],
            &long,
        ] {
            assert!(read_header(bad).is_err(), "{bad:02x?}");
        }
    }
}
