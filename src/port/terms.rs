//! What a client negotiated: one value, made by the decision on its request.
//!
//! The terms stay with the client until it has joined. They move whole when the client moves to another shard, and the 101
//! is built from them last.

use bytes::Bytes;

use super::topic_name::TopicName;
use crate::access::Permission;
use crate::ws::handshake::AcceptKey;

/// The encoding in which a member reads its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Frames of RFC 6455, without an extension.
    Frames,
}

impl Form {
    /// How many forms there are.
    pub const COUNT: usize = 1;

    /// All of them, in the order of [`Form::index`].
    pub const ALL: [Form; Form::COUNT] = [Form::Frames];

    /// The form's place in a table of all forms.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The topic that the client asked for.
    pub topic: TopicName,
    /// How it reads the topic.
    pub form: Form,
    /// What it may do beside listening.
    pub permission: Permission,
    /// The proof that its handshake was understood (RFC 6455, section 4.2.2).
    pub accept_key: AcceptKey,
}

impl Terms {
    /// The 101 response. Behind it, the connection speaks WebSocket.
    pub fn response(&self) -> Bytes {
        Bytes::from(self.accept_key.response())
    }
}
