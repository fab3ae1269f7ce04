//! A complete message, as the decoder returns it.
//!
//! The decoder makes it; the shard reads it and turns it into a frame.

use super::assembled::Assembled;
use super::frame::MessageKind;

/// A whole message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Text or binary. The decoder has checked that text is UTF-8.
    pub kind: MessageKind,
    /// The payload.
    pub payload: Payload<'a>,
}

impl Message<'_> {
    /// The payload in a buffer of its own.
    pub(crate) fn into_assembled(self) -> Assembled {
        match self.payload {
            Payload::Scratch(bytes) => Assembled::from(bytes),
            Payload::Assembled(assembled) => assembled,
        }
    }
}

/// The payload of a message, by its place in memory.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the scratch buffer, unmasked. Copy it before the next read.
    Scratch(&'a [u8]),
    /// In its own buffer, because it arrived in pieces.
    Assembled(Assembled),
}

impl Payload<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Scratch(bytes) => bytes,
            Payload::Assembled(assembled) => assembled.as_slice(),
        }
    }
}
