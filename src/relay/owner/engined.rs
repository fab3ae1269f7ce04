//! A topic that an engine numbers, as its owner sees it: the messages that have come back, and the clients that wait.
//!
//! The shard counts the topic's messages on its own ([`Places`]). Messages that have come back are numbered when they are fanned
//! out, so they can be joined as drafts are.

use std::sync::Arc;

use super::coalesce::Coalesce;
use super::pending::{Gauged, Pending};
use crate::cluster::engine::asked::TopicKey;
use crate::ids::{ClientKey, Seq, ShardId};
use crate::port::position::Start;
use crate::port::terms::Form;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;
use crate::relay::places::Places;
use crate::time::Timestamp;

/// A client that waits until the topic is where the engine is.
#[derive(Debug)]
pub(super) struct Joiner {
    /// Its shard.
    pub(super) shard: ShardId,
    /// The client.
    pub(super) client: ClientKey,
    /// The form that it reads.
    pub(super) form: Form,
    /// The beginning of its stream, if the topic keeps messages.
    pub(super) start: Option<Start>,
    /// The engine's side is asked for its place, by this name.
    pub(super) asked: Option<u64>,
}

/// A topic in its engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The topic, as the engine's side knows it.
    pub(super) key: TopicKey,
    /// The number of the first message of its life there.
    pub(super) base: Seq,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Engined {
    /// The index of its engine.
    pub(super) engine: usize,
    /// Its life in the engine, while it is used.
    pub(super) link: Option<Link>,
    /// The number of the next message that is fanned out.
    pub(super) next: Seq,
    pub(super) places: Places,
    pub(super) joiners: Vec<Joiner>,
    /// Members that the engine's side knows of.
    pub(super) told_members: u64,
    /// The engine's side lets publishers wait.
    pub(super) is_held: bool,
    /// Messages that have come back and are not fanned out.
    arrived: Pending,
    is_listed: bool,
    /// The end of the interval after the last fan-out.
    open_from: Timestamp,
    is_waiting: bool,
}

impl Engined {
    /// A topic of this engine that is not used yet. Its first message is number `next`.
    pub(super) fn new(engine: usize, next: Seq) -> Self {
        Engined {
            engine,
            link: None,
            next,
            places: Places::default(),
            joiners: Vec::new(),
            told_members: 0,
            is_held: false,
            arrived: Pending::default(),
            is_listed: false,
            open_from: Timestamp(0),
            is_waiting: false,
        }
    }

    /// The number of the message behind all that have come back.
    pub(super) fn end(&self) -> Seq {
        Seq(self.next.0 + self.arrived.messages() as u64)
    }

    /// Messages that have come back and are not fanned out.
    pub(super) fn arrived(&self) -> &Pending {
        &self.arrived
    }

    /// Takes in messages that have come back. Says whether they are the topic's first of the turn.
    pub(super) fn take_in(&mut self, draft: Draft) -> bool {
        self.arrived.push(draft);
        !std::mem::replace(&mut self.is_listed, true)
    }

    /// Whether they have to wait: the interval is not over, and they are too few.
    pub(super) fn has_to_wait(&self, now: Timestamp, coalesce: &Coalesce) -> bool {
        now < self.open_from && !coalesce.is_enough(self.arrived.frame_bytes())
    }

    /// The moment at which they are due, if they wait.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.is_waiting.then_some(self.open_from)
    }

    /// Lets them wait. Returns when they are due.
    pub(super) fn postpone(&mut self) -> (Timestamp, Gauged) {
        self.is_listed = false;
        self.is_waiting = true;
        (self.open_from, self.arrived.gauge())
    }

    /// The turn is over for them, and they stay for a later one.
    pub(super) fn note_wait(&mut self) {
        self.arrived.note_wait();
    }

    /// Numbers them, for a fan-out that begins `now`.
    pub(super) fn sequence(
        &mut self,
        now: Timestamp,
        coalesce: &Coalesce,
        audience: Audience,
        has_places: bool,
    ) -> (Vec<Arc<Batch>>, Gauged) {
        self.is_listed = false;
        self.is_waiting = false;
        self.open_from = now + coalesce.interval(audience.total());
        let (drafts, gauged) = self.arrived.take();
        let at = self.places.at(self.next).filter(|_| has_places);
        let batches = Batch::seal_at(self.next, drafts, audience, at);
        self.next = batches.last().map_or(self.next, |last| last.end());
        (batches, gauged)
    }

    /// Whether nothing waits here, and the engine's side has forgotten the topic.
    pub(super) fn is_unused(&self) -> bool {
        self.link.is_none() && self.joiners.is_empty() && self.arrived.is_empty()
    }
}
