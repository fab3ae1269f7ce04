//! Requests between the shard that has a client's request and the shard that owns its topic.
//!
//! The [shard](super::shard) sends a [`Posting`] and the owner answers with [`Posted`]; or it sends a [`Question`], and gets
//! [`Described`]. Each message of a request is numbered or refused once, so each [`Ticket`] that was posted comes back once.
//!
//! A part with a key that has to wait may be a repeat. A [`Recall`] asks for that before, and gets [`Posted`] as well.

use std::sync::Arc;

use crate::cluster::place::Epoch;
use crate::ids::{ClientKey, Seq, ShardId};
use crate::port::describe::Description;
use crate::port::idempotency::{Digest, Key};
use crate::port::subject::Subject;
use crate::port::topic_name::TopicName;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;

/// The part of a request that goes to one topic, as its shard knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The client.
    pub(crate) client: ClientKey,
    /// The part.
    pub(crate) part: u32,
}

/// A part of a request within a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The part.
    pub ticket: Ticket,
    /// The index behind its last message.
    pub end: u32,
}

/// The name under which a part may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// The topic.
    pub topic: TopicName,
    /// The sender.
    pub subject: Subject,
    /// The key that it has chosen.
    pub key: Key,
}

/// A part that may be a repeat.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Its name.
    pub name: Arc<Name>,
    /// The digest of its messages.
    pub digest: Digest,
}

/// To a topic's owner: number these, and say when that is done.
#[derive(Debug)]
pub struct Posting {
    /// The topic.
    pub(crate) topic: TopicName,
    /// The shard with the requests.
    pub(crate) from: ShardId,
    /// The messages.
    pub(crate) draft: Draft,
    /// The topic's members on that shard, with those who are joining.
    pub(crate) audience: Audience,
    /// The parts that the messages belong to, in order.
    pub(crate) receipts: Vec<Receipt>,
    /// The messages may be a repeat. There is one part then.
    pub(crate) claim: Option<Claim>,
}

/// To a topic's owner: a part waits for the topic and is not offered. Is it a repeat?
#[derive(Debug)]
pub struct Recall {
    /// The shard with the request.
    pub(crate) from: ShardId,
    /// The part.
    pub(crate) ticket: Ticket,
    /// Its name.
    pub(crate) claim: Claim,
}

/// The fate of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is numbered.
    Numbered {
        /// The number behind its last message.
        next: Seq,
        /// The members of the topic.
        members: u32,
        /// The epoch that the number is in; `None` for that of this process.
        epoch: Option<Epoch>,
    },
    /// The engine has numbered it, and nobody here knows where.
    Passed,
    /// It was sent to the engine, and nobody knows whether it is published.
    Unsure,
    /// The engine was away for too long. It is not published.
    Out,
    /// Its key came with other messages before. It is not published.
    Reused,
    /// There is no room for its key. It is not published.
    NoRoom,
    /// It was not offered, and is no repeat. Its shard may offer it.
    New,
}

/// From a topic's owner: the fate of some parts.
#[derive(Debug)]
pub struct Posted {
    /// The topic.
    pub(crate) topic: TopicName,
    /// The parts.
    pub(crate) verdicts: Vec<(Ticket, Verdict)>,
    /// Bytes of frames that are not published, because they are repeats.
    pub(crate) dropped_bytes: u64,
    /// Publishers of the topic are held. The next `Arrived` comes at the end of the hold.
    pub(crate) is_held: bool,
}

/// To a topic's owner: what is the topic like?
#[derive(Debug)]
pub struct Question {
    /// The topic. It need not exist.
    pub(crate) topic: TopicName,
    /// The shard that asks.
    pub(crate) from: ShardId,
    /// The client that asks.
    pub(crate) client: ClientKey,
}

/// The owner's answer.
#[derive(Debug)]
pub struct Described {
    /// The client that asks.
    pub(crate) client: ClientKey,
    /// The description; `None` if the owner does not know the topic.
    pub(crate) found: Option<Description>,
}

impl Posted {
    /// The topic. For tests.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Bytes of frames that are not published, because they are repeats. For tests.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }
}

impl Posting {
    /// The topic. For tests.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The number of messages. For tests.
    pub fn messages(&self) -> usize {
        self.draft.len()
    }
}
