//! A client that has not been heard as a member yet: its request, and the frames behind it.
//!
//! [`arriving`](super::arriving) takes an arrival from stage to stage. The client drops it once it has joined and its early
//! frames are decoded, so a member at rest does not pay for it.

use crate::http::forwarded::Forwarded;
use crate::http::request::HeadScanner;
use crate::http::response::Body;
use crate::port::decision::Peer;
use crate::port::events;
use crate::port::terms::Terms;
use crate::relay::topic::TopicKey;
use crate::ws::handshake::Refusal;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// The progress so far.
    pub(super) stage: Stage,
    /// Frames that came behind the request. They are decoded once the client has joined and may be read.
    pub(super) early: Undecoded,
}

/// Frames that have been read and wait to be decoded.
#[derive(Debug, Default)]
pub(super) struct Undecoded {
    bytes: Vec<u8>,
    /// Bytes in front that are decoded.
    done: usize,
}

impl Undecoded {
    /// Frames of which nothing is decoded.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Undecoded { bytes, done: 0 }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    /// More frames have been read.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that wait.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.done..]
    }

    /// Notes that all but the last `left` bytes are decoded.
    pub(super) fn keep_last(&mut self, left: usize) {
        self.done = self.bytes.len() - left;
    }

    /// All bytes. Nothing of them is decoded.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        debug_assert_eq!(self.done, 0, "a part would be lost");
        self.bytes
    }
}

/// A step of an arrival.
#[derive(Debug)]
pub(super) enum Stage {
    /// The host reads a proxy's header, which comes before the request.
    Preface,
    /// The head of the request is arriving.
    Head {
        /// Finds the end of the head.
        scanner: HeadScanner,
        /// The part of the head that earlier reads brought.
        head: Vec<u8>,
        /// The other end of the connection.
        peer: Peer,
        /// The client is refused for now. The rest of its head says whether an event stream must say so.
        refusal: Option<Refusal>,
    },
    /// The request is a health check. Its answer has this body.
    Probe(Body),
    /// The request can be granted, if the host has a seat for the client that a proxy names.
    AwaitsSeat(Terms, Forwarded),
    /// The request is granted.
    Granted(Terms),
    /// The topic's owner has been asked.
    Joining(Terms, TopicKey),
    /// The client has joined, and frames wait: early ones, or more of a read than a step decodes.
    Joined,
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Head {
            scanner: HeadScanner::default(),
            head: Vec::new(),
            peer: Peer::default(),
            refusal: None,
        }
    }
}

impl Arrival {
    /// The client's request was granted, and it joins `topic`.
    pub(super) fn place(&mut self, topic: TopicKey) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Granted(terms) => Stage::Joining(terms, topic),
            other @ (Stage::Preface
            | Stage::Head { .. }
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Joining(..)
            | Stage::Joined) => other,
        };
    }

    /// The terms of a granted request whose client has no place yet.
    pub(super) fn undecided_terms(&self) -> Option<&Terms> {
        match &self.stage {
            Stage::Granted(terms) => Some(terms),
            Stage::Preface
            | Stage::Head { .. }
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Joining(..)
            | Stage::Joined => None,
        }
    }

    /// Whether the part of the head that has come names the media type of event streams.
    pub(super) fn mentions_events(&self) -> bool {
        match &self.stage {
            Stage::Head { head, .. } => events::is_mentioned(head),
            Stage::Preface
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Granted(_)
            | Stage::Joining(..)
            | Stage::Joined => false,
        }
    }

    /// Heap bytes of everything the client has sent.
    pub(super) fn bytes(&self) -> usize {
        let head = match &self.stage {
            Stage::Head { head, .. } => head.capacity(),
            Stage::Preface
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Granted(_)
            | Stage::Joining(..)
            | Stage::Joined => 0,
        };
        head + self.early.bytes.capacity()
    }
}
