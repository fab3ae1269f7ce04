//! The engine's deeds, and so all that clients may hear.
//!
//! The model of the engine notes every message that it numbers, and every epoch that it begins with the place that it follows.
//! From this the distance between two places is known: messages on the way from one to the other, if there is a way.

use std::collections::BTreeMap;

use fanwire::internals::cluster::{Epoch, Place};

/// A message. No two are the same.
pub(crate) type MessageId = u64;

/// An epoch follows a place of another.
#[derive(Clone, Copy, Debug)]
struct Edge {
    /// The last place of the epoch before.
    from: Place,
    /// The place of the new epoch that is the same.
    to: Place,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Messages by topic, epoch and number.
    names: BTreeMap<(String, Epoch, u64), MessageId>,
    edges: BTreeMap<(String, Epoch), Vec<Edge>>,
    /// The places of each message.
    places: BTreeMap<MessageId, Vec<Place>>,
    /// How often each message was numbered.
    times: BTreeMap<MessageId, u32>,
}

impl Truth {
    /// The engine has numbered a message. An epoch and a number name one message, for ever.
    pub(crate) fn note_message(&mut self, topic: &str, epoch: Epoch, number: u64, id: MessageId) {
        let before = self.names.insert((topic.into(), epoch, number), id);
        assert!(
            before.is_none_or(|before| before == id),
            "{topic}: {}-{number} names {before:?} and {id}",
            epoch.0
        );
        *self.times.entry(id).or_default() += 1;
        let last = number;
        self.places
            .entry(id)
            .or_default()
            .push(Place { epoch, last });
    }

    /// The engine has begun an epoch at `to`, which is the place `from` of another one.
    pub(crate) fn note_epoch(&mut self, topic: &str, from: Place, to: Place) {
        let edges = self.edges.entry((topic.into(), from.epoch)).or_default();
        edges.push(Edge { from, to });
    }

    /// Whether the engine ever numbered a message.
    pub(crate) fn was_numbered(&self, id: MessageId) -> bool {
        self.times.contains_key(&id)
    }

    /// The message that a number names.
    pub(crate) fn message(&self, topic: &str, epoch: Epoch, number: u64) -> Option<MessageId> {
        self.names.get(&(topic.into(), epoch, number)).copied()
    }

    /// The places right behind a message: more than one if the engine has forgotten the first.
    pub(crate) fn places(&self, id: MessageId) -> &[Place] {
        self.places.get(&id).map_or(&[], |places| places)
    }

    /// Messages between two places, if the second can be reached from the first.
    pub(crate) fn distance(&self, topic: &str, from: Place, to: Place) -> Option<u64> {
        if from.epoch == to.epoch {
            return to.last.checked_sub(from.last);
        }
        let edges = self.edges.get(&(topic.into(), from.epoch))?.iter();
        let ways = edges.filter_map(|edge| {
            let before = edge.from.last.checked_sub(from.last)?;
            Some(before + self.distance(topic, edge.to, to)?)
        });
        ways.min()
    }
}
