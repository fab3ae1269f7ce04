//! Questions of a topic to the engine, and news for its owner.

use super::verdict::Why;
use crate::cluster::batch::Arrival;
use crate::cluster::place::{Epoch, Place};

/// A question or an order to the engine. Its answer comes back with the round in which it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Subscribe to the topic. The answer is the confirmation.
    Subscribe,
    /// End the subscription, and say that no member is left.
    Unsubscribe,
    /// Say where the topic is. `base` is the first batch that the engine may get from us.
    Sync {
        /// See above.
        base: u64,
    },
    /// Number the batch on its way and publish it.
    Publish {
        /// The epoch that must be in force.
        epoch: Epoch,
        /// The batch.
        seq: u64,
    },
    /// Say when all has arrived that was published before this.
    Fence,
    /// Give the batches from number `from` to number `to`.
    Fill {
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
    },
    /// Give the batch that has number `number`, and all behind it up to `to`. For a client that resumes.
    Find {
        /// The client.
        client: u64,
        /// Its first number.
        number: u64,
        /// The last number.
        to: u64,
    },
    /// Say where the topic is, without a change.
    Audit,
    /// Forget the topic: its hash and its stream contradict each other.
    Reset,
    /// The engine contradicts itself: see whether the server is still what it was.
    Suspect,
}

/// The place at which a client's stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Behind so many messages of the topic's life on this node. The owner may have them.
    Here(u64),
    /// Messages that this node never had come first. The engine had the end of them, or nothing.
    Found {
        /// Messages that are gone for good, before those that were found.
        lost: u64,
        /// Behind those that were found, the stream goes on behind so many messages of the topic's life on this node.
        then: u64,
    },
    /// It is not known where the client was. It gets all that is kept.
    Unknown,
}

/// See the module.
#[derive(Debug, PartialEq)]
pub enum Effect<T> {
    /// Ask the engine.
    Ask {
        /// The question.
        request: Request,
        /// Goes back with the answer.
        round: u64,
    },
    /// Members are to get this.
    Deliver {
        /// The batch.
        arrival: Arrival,
        /// If it is ours: what was handed in. The same frames, from memory.
        ours: Option<Vec<T>>,
    },
    /// Members are told that there is a break, or another epoch, at this place of their stream.
    Told {
        /// Why.
        why: Why,
        /// The place behind the break.
        at: Place,
        /// Messages that are missing, if it is known.
        lost: Option<u64>,
    },
    /// The node's history of the topic does not lead up to the next message, so it goes.
    ForgetHistory,
    /// The engine has numbered these, at a place that our members are told they missed.
    Passed(Vec<T>),
    /// These were sent, and nobody will know whether they arrived.
    GivenUp(Vec<T>),
    /// These were never sent, and never will be.
    Dropped(Vec<T>),
    /// The batch on its way has been so for too long. Its publishers may be told that it is unknown.
    Unsure,
    /// Nothing could be published for too long: publishers need not wait any more, until they are let go on.
    Out,
    /// Publishers wait, or go on.
    Hold(bool),
    /// A client that comes back goes on here.
    Resumed {
        /// The client.
        client: u64,
        /// The place.
        resume: Resume,
        /// Batches that the engine had for it, in order.
        found: Vec<Arrival>,
        /// The place of the topic now.
        at: Place,
    },
    /// Nothing is pending any more, and nothing will be delivered: a fence may be answered.
    Drained,
}
