//! Clients that move to the shard which owns their topic.
//!
//! The acceptor places a connection before anybody knows what it asks for. Once its request is read, a client whose topic
//! has no member here may as well live where the topic is sequenced: what it sends then needs no other shard, and if all
//! members are there, nothing of the topic crosses threads. A client moves with its socket and before it has asked to join,
//! so that to the owner it is one that has just connected.
//!
//! Whether there is room is not for the shard to know. It asks the host ([`Shard::poll_undecided`]), which has each client
//! stay or takes it out; whoever is left undecided when the turn is decided stays.

use bytes::Bytes;

use super::Shard;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::relay::client::{Destination, Phase};
use crate::relay::router::TopicName;
use crate::time::Timestamp;

/// All that a shard knows of a client that leaves it for another.
#[derive(Debug)]
pub struct Transfer {
    topic: TopicName,
    may_publish: bool,
    /// The 101, to be sent when the client has joined.
    response: Bytes,
    /// Frames that came with the request.
    early: Vec<u8>,
    /// When it must have joined.
    due: Timestamp,
}

impl Transfer {
    /// Bytes that the client has sent and that have not been looked at.
    pub fn weight_bytes(&self) -> usize {
        self.early.len()
    }
}

impl Shard {
    /// Begins to join a client whose request is granted, or leaves open for now where it is to live.
    pub(super) fn place(&mut self, key: ClientKey, topic: TopicName) {
        let is_here = self.router.owner(&topic) == self.id || self.has_topic(&topic);
        if is_here {
            return self.join(key, topic);
        }
        let client = &mut self.clients[key.slot as usize];
        client.phase = Phase::Joining;
        client.arrival_mut().destination = Destination::Named(topic);
        self.undecided.push(key);
    }

    /// The next client that may stay or go, and the shard that owns its topic.
    pub fn poll_undecided(&mut self) -> Option<(ClientKey, ShardId)> {
        while let Some(key) = self.undecided.pop() {
            if let Some(topic) = self.undecided_topic(key) {
                return Some((key, self.router.owner(topic)));
            }
        }
        None
    }

    fn undecided_topic(&self, key: ClientKey) -> Option<&TopicName> {
        let client = self.client(key)?;
        match &client.arrival.as_ref()?.destination {
            Destination::Named(topic) => Some(topic),
            Destination::Unknown | Destination::Joining(_) => None,
        }
    }

    /// Has an undecided client join from here.
    pub fn stay(&mut self, key: ClientKey) {
        if let Some(topic) = self.undecided_topic(key).cloned() {
            self.join(key, topic);
        }
    }

    /// Has all stay that the host has left undecided. Once a shard drains there are none, so that an owner that has its
    /// fence has heard the last of it.
    pub(super) fn decide_undecided(&mut self) {
        while let Some((key, _)) = self.poll_undecided() {
            self.stay(key);
        }
    }

    /// Takes an undecided client out: the shard forgets it. The host sends it to its topic's owner, and its socket too, in
    /// the order of the shard's envelopes. `None`: the client is gone, or stays.
    pub fn transfer_out(&mut self, key: ClientKey) -> Option<Transfer> {
        let topic = self.undecided_topic(key)?.clone();
        let client = self.clients.remove(key.slot as usize);
        self.forget_gauge(key, &client);
        self.shrink_if_empty();
        self.stats.inc(Stat::Transferred);
        let arrival = client.arrival?;
        Some(Transfer {
            topic,
            may_publish: client.may_publish,
            response: arrival.response,
            early: arrival.early,
            due: client.due,
        })
    }

    /// Takes in a client that another shard has taken out, and has it join the topic, which this shard owns.
    pub fn transfer_in(&mut self, transfer: Transfer) -> ClientKey {
        debug_assert_eq!(self.router.owner(&transfer.topic), self.id);
        let key = self.accept_until(transfer.due);
        let client = &mut self.clients[key.slot as usize];
        if client.phase != Phase::Upgrading {
            // It has come too late, and is told so.
            return key;
        }
        client.may_publish = transfer.may_publish;
        let arrival = client.arrival_mut();
        arrival.response = transfer.response;
        arrival.early = transfer.early;
        self.join(key, transfer.topic);
        key
    }
}
