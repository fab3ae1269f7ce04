//! A complete message, as the decoder returns it.
//!
//! The decoder makes it; the shard reads it and turns it into a frame.

use super::assembled::Assembled;
use super::frame::MessageKind;

/// A whole message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Text or binary, as the client said. Text is UTF-8: it has been checked.
    pub kind: MessageKind,
    /// What it says.
    pub payload: Payload<'a>,
}

/// Where a message's payload lies.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the scratch buffer, unmasked; to be copied out before the next read.
    Scratch(&'a [u8]),
    /// In a buffer of its own, because it arrived in pieces.
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
