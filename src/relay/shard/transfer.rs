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

use super::Shard;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::port::terms::Terms;
use crate::relay::client::{Arrival, Client, Phase, Stage};

/// All that a shard knows of a client that leaves it for another.
#[derive(Debug)]
pub struct Transfer {
    /// What it negotiated.
    terms: Terms,
    /// Frames that came behind its request.
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
    /// How many are undecided, clients that are gone included.
    pub fn undecided_len(&self) -> usize {
        self.undecided.len()
    }

    /// The next client that may stay or go. The host answers, by [`Shard::stay`] or [`Shard::transfer_out`], before it asks for
    /// the next.
    pub fn poll_undecided(&mut self) -> Option<Undecided> {
        while let Some(key) = self.undecided.pop() {
            if let Some(terms) = self.client(key).and_then(Client::undecided_terms) {
                return Some(Undecided {
                    key,
                    owner: self.router.owner(&terms.topic),
                    is_topic_here: self.has_topic(&terms.topic),
                });
            }
        }
        None
    }

    /// Has an undecided client join from here.
    pub fn stay(&mut self, key: ClientKey) {
        self.join(key);
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
    pub fn transfer_out(&mut self, key: ClientKey) -> Option<Transfer> {
        self.client(key)?.undecided_terms()?;
        let client = self.clients.remove(key.slot as usize);
        self.forget_gauge(key, &client);
        self.shrink_if_empty();
        self.stats.inc(Stat::Transferred);
        let Arrival { stage, early } = *client.arrival?;
        match stage {
            Stage::Granted(terms) => Some(Transfer { terms, early }),
            Stage::Preface | Stage::Head { .. } | Stage::Joining(..) | Stage::Joined => None,
        }
    }

    /// Takes in a client that another shard has taken out. It joins from here, whether or not this shard owns its topic:
    /// nobody moves twice.
    pub fn transfer_in(&mut self, transfer: Transfer) -> ClientKey {
        let key = self.accept();
        let client = &mut self.clients[key.slot as usize];
        if client.phase() != Phase::Requesting {
            // It has come too late, and is told so.
            return key;
        }
        client.grant(transfer.terms, transfer.early);
        self.join(key);
        // Where another shard owns the topic, what came with the request waits for its answer.
        self.gauge_client(key);
        key
    }
}
