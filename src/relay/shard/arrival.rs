//! A client that has not been heard as a member yet: its requests, and the bytes behind the present one.
//!
//! [`arriving`](super::arriving) takes an arrival from stage to stage, and [`exchanging`](super::exchanging) from one request to
//! the next. The client drops it once it has joined and its early frames are decoded, so a member at rest does not pay for it.

use super::exchange::Exchange;
use crate::http::forwarded::Forwarded;
use crate::http::reader::Reader;
use crate::http::response::Body;
use crate::port::decision::Peer;
use crate::port::events;
use crate::port::subject::Origin;
use crate::port::terms::Terms;
use crate::relay::topic::TopicKey;
use crate::ws::handshake::Refusal;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// The progress so far.
    pub(super) stage: Stage,
    /// Bytes that came behind the request: frames, which are decoded once the client has joined and may be read, or the next
    /// request, which is read once this one is answered.
    pub(super) early: Undecoded,
    /// The origin of the connection.
    pub(super) origin: Origin,
    /// The other end of the connection. A trusted proxy names the client in each request.
    pub(super) peer: Peer,
    /// The client is refused for now. The rest of its head says how it is answered and counted.
    pub(super) refusal: Option<Refusal>,
    /// A request on this connection was answered before.
    pub(super) was_answered: bool,
}

/// Bytes that have been read and wait to be decoded.
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
    Head(Reader),
    /// The request is no upgrade.
    Exchange(Box<Exchange>),
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
        Stage::Head(Reader::default())
    }
}

impl Arrival {
    /// An arrival at `stage`, with these bytes behind its request.
    pub(super) fn at(stage: Stage, early: Undecoded) -> Self {
        Arrival {
            stage,
            early,
            ..Arrival::default()
        }
    }

    /// Whether the connection waits for another request, of which nothing has come.
    pub(super) fn is_idle(&self) -> bool {
        let is_empty = matches!(&self.stage, Stage::Head(reader) if reader.is_empty());
        self.was_answered && is_empty && self.early.is_empty()
    }

    /// The request that is being answered.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        match &self.stage {
            Stage::Exchange(exchange) => Some(exchange),
            Stage::Preface
            | Stage::Head(_)
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Granted(_)
            | Stage::Joining(..)
            | Stage::Joined => None,
        }
    }

    /// The same, to go on with it.
    pub(super) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match &mut self.stage {
            Stage::Exchange(exchange) => Some(exchange),
            Stage::Preface
            | Stage::Head(_)
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Granted(_)
            | Stage::Joining(..)
            | Stage::Joined => None,
        }
    }

    /// The client's request was granted, and it joins `topic`.
    pub(super) fn place(&mut self, topic: TopicKey) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Granted(terms) => Stage::Joining(terms, topic),
            other @ (Stage::Preface
            | Stage::Head(_)
            | Stage::Exchange(_)
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
            | Stage::Head(_)
            | Stage::Exchange(_)
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Joining(..)
            | Stage::Joined => None,
        }
    }

    /// Whether the part of the head that has come names the media type of event streams.
    pub(super) fn mentions_events(&self) -> bool {
        match &self.stage {
            Stage::Head(reader) => events::is_mentioned(reader.part_of_head()),
            Stage::Preface
            | Stage::Exchange(_)
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
            Stage::Head(reader) => reader.memory_bytes(),
            Stage::Exchange(exchange) => exchange.memory_bytes(),
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
