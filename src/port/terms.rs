//! The terms that a client negotiated: one value, made by the decision on its request.
//!
//! The terms stay with the client until it has joined, also when it moves to another shard. The 101 is built from them last.

use bytes::Bytes;

use super::topic_name::TopicName;
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
    /// The proof that its handshake was understood (RFC 6455, section 4.2.2).
    pub accept_key: AcceptKey,
}

impl Terms {
    /// The 101 response, with the time in its `Date`. After it, the connection speaks WebSocket.
    pub(crate) fn response(&self, now: Option<WallTime>) -> Bytes {
        Bytes::from(self.accept_key.response(self.subprotocol.name(), now))
    }
}
