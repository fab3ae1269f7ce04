//! The messages from shard to shard.
//!
//! Envelopes from one shard to another arrive in the order they were sent in, and none is ever lost. Joining, ordering and
//! the drain rest on this alone.

use std::sync::Arc;

use crate::ids::{ClientKey, Seq, ShardId};
use crate::port::position::Start;
use crate::port::terms::Form;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;
use crate::relay::batch::past::Resumed;
use crate::relay::conduct::Conduct;
pub(crate) use crate::relay::hold::Hold;
use crate::relay::places::{Mark, Places};
use crate::relay::posting::{Described, Posted, Posting, Question, Recall};

/// A message from shard to shard.
#[derive(Debug)]
pub enum Envelope {
    /// To a topic's owner: `client` of `from` joins; from now on send the topic's batches to `from`.
    Subscribe {
        /// The topic.
        topic: TopicName,
        /// The shard that asks.
        from: ShardId,
        /// The client that joins.
        client: ClientKey,
        /// The topic's members on that shard, with those who are joining.
        audience: Audience,
        /// The form that the client reads.
        form: Form,
        /// The beginning of its stream, which only topics that keep messages look at; `None` for the next message.
        start: Option<Box<Start>>,
    },
    /// The owner's answer: the client's first message will be number `next`.
    Subscribed {
        /// The topic.
        topic: TopicName,
        /// The client that joins.
        client: ClientKey,
        /// The number that the topic's next message will have.
        next: Seq,
        /// The settings of the topic.
        conduct: Arc<Conduct>,
        /// The answer to `start`, if the topic keeps messages.
        resumed: Option<Box<Resumed>>,
        /// The places of its messages, if an engine numbers them.
        places: Option<Box<Places>>,
        /// The hold on the topic's publishers, if there is one.
        held: Option<Hold>,
    },
    /// The owner's other answer: the client cannot join now, because the engine of the topic is away.
    Refused {
        /// The topic.
        topic: TopicName,
        /// The client that wants to join.
        client: ClientKey,
    },
    /// To a topic's owner: `from` has no member left and wants no more batches.
    Unsubscribe {
        /// The topic.
        topic: TopicName,
        /// The shard that leaves.
        from: ShardId,
    },
    /// To a topic's owner: `from` has far fewer members than it said last.
    Members {
        /// The topic.
        topic: TopicName,
        /// The shard that members have left.
        from: ShardId,
        /// The members there now, with those who are joining.
        audience: Audience,
    },
    /// To a topic's owner: members of `from` fell out of step with the window of compressed frames, and wait until it is
    /// emptied. It is told once until then.
    Waits {
        /// The topic.
        topic: TopicName,
        /// The shard of the members.
        from: ShardId,
        /// The number of members.
        members: u32,
    },
    /// To a topic's owner: number these and spread them.
    Publish {
        /// The topic.
        topic: TopicName,
        /// Messages of one source in a turn.
        draft: Draft,
        /// The topic's members on the sender's shard, with those who are joining.
        audience: Audience,
    },
    /// To a topic's owner: messages of requests. The box keeps envelopes of members small.
    Post(Box<Posting>),
    /// To a topic's owner: is a part that waits a repeat? It is answered as a posting is.
    Recall(Box<Recall>),
    /// From a topic's owner: what became of them.
    Posted(Box<Posted>),
    /// To a topic's owner: a client asks about the topic.
    Ask(Box<Question>),
    /// From a topic's owner: the answer.
    Described(Box<Described>),
    /// From a topic's owner: messages of the shard's outsiders are numbered, so they are not on their way any more.
    Arrived {
        /// The topic.
        topic: TopicName,
        /// Bytes of frames.
        bytes: u64,
    },
    /// From a topic's owner: the next batch of the topic's log.
    Deliver {
        /// The topic.
        topic: TopicName,
        /// The messages.
        batch: Arc<Batch>,
    },
    /// From a topic's owner: the engine's numbers do not simply go on, behind the last batch.
    Mark {
        /// The topic.
        topic: TopicName,
        /// The place, and the news for members.
        mark: Box<Mark>,
    },
    /// From a topic's owner: messages of the shard's members will not be delivered.
    Returned {
        /// The topic.
        topic: TopicName,
        /// Bytes of frames.
        bytes: u64,
        /// They were never sent to the engine. Their senders are to know.
        is_dropped: bool,
    },
    /// From a topic's owner: nothing could be published for so long that publishers need not wait any more.
    Out {
        /// The topic.
        topic: TopicName,
    },
    /// To a topic's owner: `from` cannot keep up; hold the topic's publishers.
    Hold {
        /// The topic.
        topic: TopicName,
        /// The shard that lags.
        from: ShardId,
        /// Open if the shard itself lags, or members under `backpressure`.
        hold: Hold,
    },
    /// To a topic's owner: `from` has caught up, or gives up on its laggards.
    Release {
        /// The topic.
        topic: TopicName,
        /// The shard that lagged.
        from: ShardId,
        /// Publishers waited for its laggards in vain.
        in_vain: bool,
    },
    /// From a topic's owner: whether publishers of the topic may be read.
    Held {
        /// The topic.
        topic: TopicName,
        /// The hold, from the first `Hold` to the last `Release`.
        held: Option<Hold>,
    },
    /// From a topic's owner: publishers do not wait for laggards, or no longer.
    Judge {
        /// The topic.
        topic: TopicName,
    },
    /// Drain, from every shard to every owner: the sender publishes nothing after this.
    Fence,
    /// Drain, from every owner to every shard: all fences are here, so the sender delivers nothing after this.
    Fenced,
}

impl Envelope {
    /// Bytes that its messages take in memory, in all forms. They count towards the limit of an inbox.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Envelope::Publish { draft, .. } => draft.len_bytes(),
            Envelope::Post(posting) => posting.draft.len_bytes(),
            Envelope::Deliver { batch, .. } => batch.kept_bytes() as usize,
            Envelope::Subscribe { .. }
            | Envelope::Subscribed { .. }
            | Envelope::Refused { .. }
            | Envelope::Mark { .. }
            | Envelope::Returned { .. }
            | Envelope::Out { .. }
            | Envelope::Unsubscribe { .. }
            | Envelope::Members { .. }
            | Envelope::Arrived { .. }
            | Envelope::Waits { .. }
            | Envelope::Recall(_)
            | Envelope::Posted(_)
            | Envelope::Ask(_)
            | Envelope::Described(_)
            | Envelope::Hold { .. }
            | Envelope::Release { .. }
            | Envelope::Held { .. }
            | Envelope::Judge { .. }
            | Envelope::Fence
            | Envelope::Fenced => 0,
        }
    }
}
