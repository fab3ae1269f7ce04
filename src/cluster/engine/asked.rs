//! Questions that are under way: to which topic an answer, a confirmation or a token belongs.

use bytes::Bytes;

use crate::cluster::place::{Epoch, Place};
use crate::cluster::scripts::Script;

/// A topic of an engine. Slots are reused; the generation tells the topics of one slot apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
}

/// A topic's question, and the round in which it was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of {
    pub(crate) key: TopicKey,
    pub(crate) round: u64,
}

/// The question to which an answer on P belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// The greeting.
    Info,
    /// `SCRIPT LOAD`.
    Load(Script),
    /// Whether the server is still what it was.
    Still,
    /// A token that was published.
    Token(u64),
    /// Its answer means nothing.
    Nothing,
    Sync(Of),
    /// A batch. It is packed when it goes.
    Publish {
        of: Of,
        epoch: Epoch,
        seq: u64,
    },
    Fill(Of),
    Audit(Of),
    /// The entry with the first message that a client wants.
    FindFirst {
        of: Of,
        client: u64,
        number: u64,
        to: u64,
    },
    /// All that the engine knows of a topic.
    Describe(u64),
    /// All entries that it wants.
    FindAll {
        of: Of,
        client: u64,
    },
}

/// A token on the own channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// The topic that waits for it; none for a probe.
    pub(crate) fence: Option<Of>,
    /// P has said that it is published.
    pub(crate) is_published: bool,
}

/// A confirmation that S owes a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Confirmation {
    Subscribed { round: u64 },
    Unsubscribed,
}

/// A change that S is to be told.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionChange {
    pub(crate) is_on: bool,
    pub(crate) channel: Bytes,
}

/// The engine's knowledge of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// The place of the topic; `None` if the engine does not know it.
    pub at: Option<Place>,
    /// Members on other nodes.
    pub others: u64,
}
