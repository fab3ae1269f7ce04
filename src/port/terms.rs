//! The terms that a client negotiated: one value, made by the decision on its request.
//!
//! The terms stay with the client until it has joined, also when it moves to another shard. The 101 is built from them last.

use std::fmt::Display;

use bytes::Bytes;

use super::position::{Position, Start};
use super::topic_name::TopicName;
use super::words::{self, Lost};
use crate::access::Permission;
use crate::time::WallTime;
use crate::ws::handshake::AcceptKey;

/// The encoding in which a member reads its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Frames of RFC 6455, without an extension.
    Frames,
}

impl Form {
    /// The number of forms.
    pub(crate) const COUNT: usize = 1;

    /// The form's place in a table of all forms.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

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
    /// Whether it may publish.
    pub permission: Permission,
    /// The answer to its offer of subprotocols.
    pub subprotocol: Selection,
    /// The beginning of its stream; `None` if its topic keeps no messages.
    pub start: Option<Start>,
    /// The proof that its handshake was understood (RFC 6455, section 4.2.2).
    pub accept_key: AcceptKey,
}

impl Terms {
    /// Whether the client understands the relay's own words.
    pub(crate) fn has_words(&self) -> bool {
        self.subprotocol.name() == Some(words::PROTOCOL)
    }

    /// The 101 response, with the time in its `Date`. After it, the connection speaks WebSocket. `beginning` is the place where
    /// the stream begins, if the topic keeps messages, and `may_skip` says that the relay may leave messages out later.
    pub(crate) fn response(
        &self,
        now: Option<WallTime>,
        beginning: Option<Beginning>,
        may_skip: bool,
    ) -> Bytes {
        let mut response = self.accept_key.response(self.subprotocol.name(), now);
        let Some(Beginning { at, lost }) = beginning else {
            return Bytes::from(response);
        };
        if self.has_words() {
            response.extend_from_slice(&words::hello(at, lost));
        } else if !may_skip {
            // A client that is not told of skips could not count on from there.
            push_field(&mut response, "Fanwire-Position", at);
            if self.start != Some(Start::Now) {
                match lost {
                    Some(lost) => push_field(&mut response, "Fanwire-Lost", lost),
                    None => push_field(&mut response, "Fanwire-Lost", "unknown"),
                }
            }
        }
        Bytes::from(response)
    }
}

/// Puts a field in front of the empty line that ends a response's head.
fn push_field(response: &mut Vec<u8>, name: &str, value: impl Display) {
    response.truncate(response.len() - 2);
    response.extend_from_slice(format!("{name}: {value}\r\n\r\n").as_bytes());
}
