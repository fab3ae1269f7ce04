//! The terms that a client negotiated: one value, made by the decision on its request.
//!
//! The terms stay with the client until it has joined, also when it moves to another shard. The response is built from them
//! last: the 101, or the 200 of an event stream.

use std::fmt::Display;

use bytes::Bytes;

use super::cors::Cors;
use super::events;
pub use super::form::Form;
use super::position::{Position, Start};
use super::topic_name::TopicName;
use super::words::{self, Lost};
use crate::access::Permission;
use crate::time::WallTime;
use crate::ws::extension::Deflate;
use crate::ws::handshake::AcceptKey;

/// The answer to a client's offer of subprotocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// It has offered none.
    NotOffered,
    /// None of its offer is selected. Many clients then refuse the connection.
    Unmet {
        /// The number of names.
        count: usize,
    },
    /// This name is selected.
    Selected(Box<str>),
}

/// The subprotocol of a client. Whether its topic keeps messages is known when its owner has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subprotocols {
    /// The selection where no messages are kept.
    raw: Selection,
    /// The selection where messages are kept, if it is another one: the relay's own words.
    with_words: Option<Selection>,
}

impl Default for Subprotocols {
    fn default() -> Self {
        Subprotocols::new(Selection::NotOffered, None)
    }
}

impl Subprotocols {
    /// The selection where no messages are kept, and the one where they are, if they differ.
    pub(crate) fn new(raw: Selection, with_words: Option<Selection>) -> Self {
        Subprotocols { raw, with_words }
    }

    /// The selection in a topic that keeps messages, or in one that does not.
    pub(crate) fn selection(&self, keeps_history: bool) -> &Selection {
        let with_words = self.with_words.as_ref().filter(|_| keeps_history);
        with_words.unwrap_or(&self.raw)
    }
}

impl Selection {
    /// The name that is selected.
    fn name(&self) -> Option<&str> {
        match self {
            Selection::Selected(name) => Some(name),
            Selection::NotOffered | Selection::Unmet { .. } => None,
        }
    }
}

/// The place where a member's stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The position of its first message.
    pub at: Position,
    /// Messages that are gone before it.
    pub lost: Lost,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The topic that the client asked for.
    pub topic: TopicName,
    /// The form in which it reads the topic.
    pub form: Form,
    /// Its rights there.
    pub permission: Permission,
    /// The answer to its offer of subprotocols.
    pub subprotocol: Subprotocols,
    /// The extension that is agreed: its messages may be compressed. It reads compressed frames only with it.
    pub deflate: Option<Deflate>,
    /// The beginning of its stream. It has no effect if its topic keeps no messages.
    pub start: Start,
    /// The end of its grants, in seconds since the Unix epoch, if it has brought any.
    pub expires_at: Option<u64>,
    /// The name of its bearer, from the token or from the grants of a proxy.
    pub subject: Option<Box<str>>,
    /// The kind of response that it gets.
    pub answer: Answer,
}

/// The answer to a request that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A 101, with the proof that the handshake was understood (RFC 6455, section 4.2.2).
    Upgrade(AcceptKey),
    /// A 200, whose body is an event stream that these pages may read.
    Events(Cors),
}

impl Answer {
    /// The pages that may read the event stream, if it is one.
    pub(crate) fn cors(&self) -> Option<&Cors> {
        match self {
            Answer::Upgrade(_) => None,
            Answer::Events(cors) => Some(cors),
        }
    }
}

/// The moment of a response, and what the relay knows then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Welcome {
    /// The time for `Date`.
    pub now: Option<WallTime>,
    /// The place where the stream begins, if the topic keeps messages.
    pub beginning: Option<Beginning>,
    /// The relay may leave messages out later.
    pub may_skip: bool,
    /// The pause after which a client that has lost its event stream comes back.
    pub pause_ms: u64,
}

impl Terms {
    /// Whether the client hears its topic.
    pub(crate) fn hears(&self) -> bool {
        match self.permission {
            Permission::Listen | Permission::Publish => true,
            Permission::PublishOnly => false,
        }
    }

    /// Whether the client understands the relay's own words, if its topic keeps messages or not. In an event stream, they are
    /// events of their own.
    pub(crate) fn has_words(&self, keeps_history: bool) -> bool {
        let subprotocol = self.subprotocol.selection(keeps_history);
        self.form == Form::Events || subprotocol.name() == Some(words::PROTOCOL)
    }

    /// The response. After it, the connection speaks WebSocket or is an event stream.
    pub(crate) fn response(&self, welcome: Welcome) -> Bytes {
        match &self.answer {
            Answer::Upgrade(accept_key) => self.switch(*accept_key, welcome),
            Answer::Events(cors) => self.open_stream(cors, welcome),
        }
    }

    /// The 101.
    fn switch(&self, accept_key: AcceptKey, welcome: Welcome) -> Bytes {
        let subprotocol = self.subprotocol.selection(welcome.beginning.is_some());
        let mut response = accept_key.response(subprotocol.name(), self.deflate, welcome.now);
        let Some(Beginning { at, lost }) = welcome.beginning else {
            return Bytes::from(response);
        };
        if self.has_words(true) {
            words::push_hello(&mut response, self.form, at, lost);
        } else if !welcome.may_skip {
            // A client that is not told of skips could not count on from there.
            response.truncate(response.len() - 2);
            self.push_fields(&mut response, at, lost);
            response.extend_from_slice(b"\r\n");
        }
        Bytes::from(response)
    }

    /// The 200 of an event stream, with its first event.
    fn open_stream(&self, cors: &Cors, welcome: Welcome) -> Bytes {
        let mut response = events::head(cors, welcome.now);
        if let Some(Beginning { at, lost }) = welcome.beginning {
            self.push_fields(&mut response, at, lost);
        }
        response.extend_from_slice(b"\r\n");
        events::push_pause(&mut response, welcome.pause_ms);
        match welcome.beginning {
            Some(Beginning { at, lost }) => {
                words::push_hello(&mut response, self.form, at, lost);
            }
            None => response.push(b'\n'),
        }
        Bytes::from(response)
    }

    /// Appends the fields that say where the stream begins.
    fn push_fields(&self, response: &mut Vec<u8>, at: Position, lost: Lost) {
        push_field(response, "Fanwire-Position", at);
        if self.start != Start::Now {
            match lost {
                Some(lost) => push_field(response, "Fanwire-Lost", lost),
                None => push_field(response, "Fanwire-Lost", "unknown"),
            }
        }
    }
}

fn push_field(response: &mut Vec<u8>, name: &str, value: impl Display) {
    response.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
}
