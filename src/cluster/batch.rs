//! A batch on its way through the engine: a header, then finished server frames.
//!
//! ```text
//! u64 first, u64 ms                                    the engine puts these in front
//! u8 version, u8 flags, u16 0, u32 count,              big-endian, packed here
//! u64 node, u64 seq, u64 epoch, u32 length
//! length bytes: count frames                           as clients get them
//! ```
//!
//! The receiver trusts nothing: it walks the frames' heads. A batch that is not exactly what its header says is refused, and so
//! is a text that begins with U+0000: it would speak in the relay's name.

use bytes::{Buf, BufMut, Bytes};

use super::place::{Epoch, MAX_NUMBER, NodeId};
use crate::port::words;
use crate::ws::walk::split_frame;

/// The version that this relay writes if all nodes read it.
pub const VERSION: u8 = 1;

/// The oldest version that it reads: the one before, once there is one.
pub const OLDEST_VERSION: u8 = 1;

/// Bytes that the engine puts in front: the number of the first message, and its time.
const STAMP_BYTES: usize = 16;

/// Bytes of the header that we pack.
const HEAD_BYTES: usize = 36;

/// Bytes that a batch takes beside its frames.
pub const OVERHEAD_BYTES: usize = STAMP_BYTES + HEAD_BYTES;

/// The header as a node packs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The version, from [`OLDEST_VERSION`] to [`VERSION`].
    pub version: u8,
    /// Messages in the batch, at least one.
    pub count: u32,
    /// The node that published it.
    pub node: NodeId,
    /// The node's number of the batch in this topic.
    pub seq: u64,
    /// The epoch in which it was to be numbered.
    pub epoch: Epoch,
}

/// A batch that the engine has numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The number of the first message, at least 1.
    pub first: u64,
    /// The engine's time of day, in milliseconds since the Unix epoch.
    pub ms: u64,
    /// The header.
    pub head: Head,
    /// `head.count` finished server frames.
    pub frames: Bytes,
}

impl Arrival {
    /// The number of the last message.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.head.count) - 1
    }

    /// Memory that it takes while it is kept, in bytes.
    pub fn cost_bytes(&self) -> u64 {
        (self.frames.len() + size_of::<Arrival>()) as u64
    }
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It ends before its header does, or its length is wrong.
    Length,
    /// A version that this relay does not read.
    Version,
    /// Flags or bits that this version does not know.
    Flags,
    /// A number, an epoch or a count that cannot be.
    Number,
    /// The frames are not what the header says.
    Frames,
    /// A text that begins with U+0000.
    Reserved,
}

/// Packs the header and the frames, in pieces, for the script that publishes. The engine puts the stamp in front.
pub fn pack<'a>(head: &Head, frames: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut out = Vec::new();
    out.put_u8(head.version);
    out.put_u8(0);
    out.put_u16(0);
    out.put_u32(head.count);
    out.put_u64(head.node.0);
    out.put_u64(head.seq);
    out.put_u64(head.epoch.0);
    out.put_u32(0);
    for piece in frames {
        out.extend_from_slice(piece);
    }
    // `max_batch_bytes` or one larger message; a cluster allows at most 16 MiB for both.
    let length = (out.len() - HEAD_BYTES) as u32;
    out[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    out.into()
}

/// Reads a batch as it comes from the channel or the stream.
pub fn read(mut bytes: Bytes) -> Result<Arrival, Refused> {
    if bytes.len() < OVERHEAD_BYTES {
        return Err(Refused::Length);
    }
    let (first, ms) = (bytes.get_u64(), bytes.get_u64());
    let version = bytes.get_u8();
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(Refused::Version);
    }
    if bytes.get_u8() != 0 || bytes.get_u16() != 0 {
        return Err(Refused::Flags);
    }
    let head = Head {
        version,
        count: bytes.get_u32(),
        node: NodeId(bytes.get_u64()),
        seq: bytes.get_u64(),
        epoch: Epoch(bytes.get_u64()),
    };
    let length = bytes.get_u32();
    if length as usize != bytes.len() {
        return Err(Refused::Length);
    }
    let is_number = (1..MAX_NUMBER - u64::from(head.count)).contains(&first);
    if head.count == 0 || !is_number || !(1..MAX_NUMBER).contains(&head.epoch.0) {
        return Err(Refused::Number);
    }
    check_frames(&bytes, head.count)?;
    Ok(Arrival {
        first,
        ms,
        head,
        frames: bytes,
    })
}

fn check_frames(mut bytes: &[u8], count: u32) -> Result<(), Refused> {
    // The frames end before a wrong count does: each has two bytes at least.
    for _ in 0..count {
        let (kind, payload, rest) = split_frame(bytes).ok_or(Refused::Frames)?;
        if words::is_reserved(kind, payload) {
            return Err(Refused::Reserved);
        }
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(Refused::Frames)
    }
}

/// Puts the engine's stamp in front of a packed batch, as the script does.
pub fn stamp(first: u64, ms: u64, packed: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(STAMP_BYTES + packed.len());
    out.put_u64(first);
    out.put_u64(ms);
    out.extend_from_slice(packed);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::encode::push_message;
    use crate::ws::frame::MessageKind;

    const HEAD: Head = Head {
        version: VERSION,
        count: 2,
        node: NodeId(0x0102_0304_0506_0708),
        seq: 9,
        epoch: Epoch(77),
    };

    fn frames(texts: &[&str]) -> Vec<u8> {
        let mut frames = Vec::new();
        for text in texts {
            push_message(&mut frames, MessageKind::Text, text.as_bytes());
        }
        frames
    }

    fn stamped(head: &Head, frames: &[u8]) -> Vec<u8> {
        stamp(5, 1_000, &pack(head, std::iter::once(frames))).to_vec()
    }

    fn read_bytes(bytes: Vec<u8>) -> Result<Arrival, Refused> {
        read(bytes.into())
    }

    #[test]
    fn a_batch_is_read_as_it_was_packed() {
        let frames = frames(&["hello", "you"]);
        let (one, other) = frames.split_at(7);
        let packed = pack(&HEAD, [one, other].into_iter());
        let arrival = read(stamp(5, 1_000, &packed)).expect("a batch");
        assert_eq!((arrival.first, arrival.last(), arrival.ms), (5, 6, 1_000));
        assert_eq!((arrival.head, arrival.frames), (HEAD, frames.into()));
    }

    #[test]
    fn a_batch_that_is_cut_or_longer_is_refused() {
        let whole = stamped(&HEAD, &frames(&["hello", "you"]));
        for cut in 0..whole.len() {
            assert_eq!(read_bytes(whole[..cut].to_vec()), Err(Refused::Length));
        }
        assert_eq!(
            read_bytes([&whole[..], b"x"].concat()),
            Err(Refused::Length)
        );
    }

    #[test]
    fn other_versions_and_flags_are_refused() {
        let whole = stamped(&HEAD, &frames(&["hello", "you"]));
        let with = |at: usize, byte| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            read_bytes(bytes)
        };
        for version in [OLDEST_VERSION - 1, VERSION + 1, 255] {
            assert_eq!(with(16, version), Err(Refused::Version));
        }
        for at in 17..20 {
            assert_eq!(with(at, 1), Err(Refused::Flags));
        }
    }

    #[test]
    fn frames_must_be_what_the_header_says() {
        for texts in [&["hello"][..], &["a", "b", "c"]] {
            let bytes = stamped(&HEAD, &frames(texts));
            assert_eq!(read_bytes(bytes), Err(Refused::Frames));
        }
        let bytes = stamped(&HEAD, b"\x81\x05hellooo\x81");
        assert_eq!(read_bytes(bytes), Err(Refused::Frames));
        let bytes = stamped(&HEAD, &frames(&["hello", "\0{\"at\":\"x-1\"}"]));
        assert_eq!(read_bytes(bytes), Err(Refused::Reserved));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let packed = pack(&HEAD, std::iter::once(&frames(&["a", "b"])[..]));
        for first in [0, MAX_NUMBER - 2, MAX_NUMBER, u64::MAX] {
            assert_eq!(
                read(stamp(first, 0, &packed)),
                Err(Refused::Number),
                "{first}"
            );
        }
        let none = Head { count: 0, ..HEAD };
        assert_eq!(read_bytes(stamped(&none, b"")), Err(Refused::Number));
        for epoch in [0, MAX_NUMBER] {
            let head = Head {
                epoch: Epoch(epoch),
                ..HEAD
            };
            let bytes = stamped(&head, &frames(&["a", "b"]));
            assert_eq!(read_bytes(bytes), Err(Refused::Number));
        }
    }
}
