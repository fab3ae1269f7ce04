//! Clients that move to the shard where they are to live.
//!
//! The acceptor places a connection before anybody knows what it asks for. Once its request is read, a client may as well
//! live where its topic is sequenced: what it sends then needs no other shard, and if all members are there, nothing of the
//! topic crosses threads. If not there, it may live where others of the topic do: each shard with members is one more to tell
//! of every batch. A client moves with its socket and before it has asked to join, so that to the shard that it comes to it is
//! one that has just connected.
//!
//! Where that is, is not for the shard to say, and any shard will do. It asks the host ([`Shard::poll_undecided`]), which has
//! each client stay or takes it out; those it has not asked for when the turn is decided stay.

use bytes::Bytes;

use super::Shard;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::relay::client::{Destination, Phase};
use crate::relay::router::TopicName;

/// All that a shard knows of a client that leaves it for another.
#[derive(Debug)]
pub struct Transfer {
    topic: TopicName,
    may_publish: bool,
    /// The 101, to be sent when the client has joined.
    response: Bytes,
    /// Frames that came with the request.
    early: Vec<u8>,
}

/// A client of which it is open where it is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The client.
    pub key: ClientKey,
    /// The shard that owns its topic, which is another than the one that it is on.
    pub owner: ShardId,
    /// Whether its topic is known where it is: it has members there, or somebody who is about to be one, or messages of theirs
    /// on the way.
    pub is_topic_here: bool,
}

impl Transfer {
    /// Bytes that the client has sent and that have not been looked at.
    pub fn weight_bytes(&self) -> usize {
        self.early.len()
    }
}

impl Shard {
    /// Begins to join a client whose request is granted, or leaves open for now where it is to live.
    pub(super) fn join_here_or_elsewhere(&mut self, key: ClientKey, topic: TopicName) {
        if self.router.owner(&topic) == self.id {
            return self.join(key, topic);
        }
        let client = &mut self.clients[key.slot as usize];
        client.phase = Phase::Joining;
        client.arrival_mut().destination = Destination::Named(topic);
        self.undecided.push(key);
    }

    /// The next client that may stay or go. The host answers, by [`Shard::stay`] or [`Shard::transfer_out`], before it asks for
    /// the next.
    pub fn poll_undecided(&mut self) -> Option<Undecided> {
        while let Some(key) = self.undecided.pop() {
            if let Some(topic) = self.undecided_topic(key) {
                return Some(Undecided {
                    key,
                    owner: self.router.owner(topic),
                    is_topic_here: self.has_topic(topic),
                });
            }
        }
        None
    }

    /// The topic of a client of which it is open where it is to live.
    pub(super) fn undecided_topic(&self, key: ClientKey) -> Option<&TopicName> {
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

    /// Has all stay that the host has left undecided. Once a shard drains there are none, so that a shard that has its fence
    /// has been sent the last of its clients.
    pub(super) fn decide_undecided(&mut self) {
        while let Some(undecided) = self.poll_undecided() {
            self.stay(undecided.key);
        }
    }

    /// Takes an undecided client out: the shard forgets it. The host sends it to another shard, with its socket, and not
    /// behind this shard's fence.
    ///
    /// # Panics
    ///
    /// If the client is not undecided.
    pub fn transfer_out(&mut self, key: ClientKey) -> Transfer {
        let topic = self.undecided_topic(key).cloned();
        let topic = topic.expect("the client is undecided");
        let client = self.clients.remove(key.slot as usize);
        self.forget_gauge(key, &client);
        self.shrink_if_empty();
        self.stats.inc(Stat::Transferred);
        let arrival = client.arrival.expect("who is undecided has just arrived");
        Transfer {
            topic,
            may_publish: client.may_publish,
            response: arrival.response,
            early: arrival.early,
        }
    }

    /// Takes in a client that another shard has taken out, and has it join the topic from here, whether or not this shard
    /// owns it: nobody moves twice.
    pub fn transfer_in(&mut self, transfer: Transfer) -> ClientKey {
        let key = self.accept();
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
        // Where another shard owns the topic, what came with the request waits for its answer.
        self.gauge_client(key);
        key
    }
}
