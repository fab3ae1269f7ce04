//! How clients come: a connection, its request, and the shard where it is to live.
//!
//! The acceptor places a connection before anybody knows what it asks for. Once its request is granted, a client had better live
//! where its topic is sequenced, or where others of the topic do. What it sends then needs no other shard, and each shard with
//! members is one more to tell of every batch. A client moves with its socket and before it has asked to join, so to the shard
//! that it comes to it has just connected.
//!
//! Where that is, is not for the shard to say. It asks the host ([`Shard::poll_undecided`]), which has each client stay or takes
//! it out. Clients that are still undecided when the turn is decided stay.

use bytes::Bytes;

use super::Shard;
use super::leaving::LINGER;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::port::decision::Decision;
use crate::port::terms::Terms;
use crate::relay::policy::departure::refusal_stat;
use crate::relay::shard::client::{Arrival, Client, Phase, Stage, Step};
use crate::ws::handshake::{Refusal, RefusalKind};

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
}

impl Transfer {
    /// Bytes that the client has sent and that have not been looked at.
    pub fn weight_bytes(&self) -> usize {
        self.early.len()
    }
}

impl Shard {
    /// Takes in a connection that was just accepted.
    pub fn accept(&mut self) -> ClientKey {
        let due = self.now + self.settings.handshake_timeout;
        let key = self.clients.insert(self.now, due);
        self.reschedule(key);
        if self.is_draining() {
            self.refuse(key, Refusal::SHUTDOWN);
        }
        key
    }

    /// Tells a connection of which nothing was read yet why it cannot stay, and closes it in order.
    pub fn refuse_unheard(&mut self, key: ClientKey, refusal: Refusal) {
        self.refuse(key, refusal);
    }

    /// Closes such a connection without a word. One that was refused already stays until that is over.
    pub fn turn_away(&mut self, key: ClientKey, kind: RefusalKind) {
        let is_requesting = |client: &Client| client.phase() == Phase::Requesting;
        if self.clients.get(key).is_some_and(is_requesting) {
            self.stats.inc(refusal_stat(kind));
            self.remove(key);
        }
    }

    /// The host reads a proxy's header before anything is the shard's. Until [`Shard::end_preface`] the client cannot be
    /// answered: the bytes would reach a proxy that has not said that it speaks for somebody.
    pub fn await_preface(&mut self, key: ClientKey) {
        let client = self.clients.get_mut(key);
        if let Some(arrival) = client.and_then(|client| client.arrival.as_mut()) {
            arrival.stage = Stage::Preface;
        }
    }

    /// The proxy's header has come. What follows is the client's.
    pub fn end_preface(&mut self, key: ClientKey) {
        let client = self
            .clients
            .get_mut(key)
            .filter(|client| client.awaits_preface());
        if let Some(client) = client {
            client.arrival = Some(Box::default());
        }
    }

    pub(super) fn on_request_bytes(&mut self, key: ClientKey, input: &mut [u8]) {
        let arrival = self.clients[key].arrival.as_mut();
        let Some(Stage::Head { scanner, head }) = arrival.map(|arrival| &mut arrival.stage) else {
            return;
        };
        let end = match scanner.push(input, self.settings.max_header_bytes) {
            Ok(end) => end,
            Err(error) => return self.refuse(key, Refusal::from(error)),
        };
        let Some(end) = end else {
            head.extend_from_slice(input);
            return;
        };
        let (last, rest) = input.split_at_mut(end);
        let decision = if head.is_empty() {
            self.settings.port.decide(last)
        } else {
            head.extend_from_slice(last);
            self.settings.port.decide(&std::mem::take(head))
        };
        match decision {
            // Frames may come in the same packet as the request: they need not wait for the 101.
            Ok(Decision::Upgrade(terms)) => self.grant(key, terms, rest.to_vec()),
            Err(refusal) => self.refuse(key, refusal),
        }
    }

    /// The request is granted: the client joins from here, or the host is asked where it is to live.
    fn grant(&mut self, key: ClientKey, terms: Terms, early: Vec<u8>) {
        let is_owned_here = self.router.owner(&terms.topic) == self.id;
        self.clients[key].grant(terms, early);
        if is_owned_here {
            self.stay(key);
        } else {
            self.undecided.push(key);
        }
    }

    /// Answers a request that is not granted, and closes the connection in order. Without a word, where a proxy's header is
    /// still awaited.
    pub(super) fn refuse(&mut self, key: ClientKey, refusal: Refusal) {
        let due = self.now + LINGER;
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.phase() == Phase::Requesting)
        else {
            return;
        };
        if client.awaits_preface() {
            return self.turn_away(key, refusal.kind);
        }
        client.arrival = None;
        client.take(Step::QueueLast);
        client.due = due;
        client.carry_plain(Bytes::from(refusal.encode()));
        self.stats.inc(refusal_stat(refusal.kind));
        tracing::debug!(shard = self.id.0, client = key.slot, kind = ?refusal.kind, "an upgrade is refused");
        self.outflow.make_urgent(key, &mut self.clients);
        self.gauge_client(key);
        self.reschedule(key);
    }

    /// How many are undecided, clients that are gone included.
    pub fn undecided_len(&self) -> usize {
        self.undecided.len()
    }

    /// The next client that may stay or go. The host answers, by [`Shard::stay`] or [`Shard::transfer_out`], before it asks for
    /// the next.
    pub fn poll_undecided(&mut self) -> Option<Undecided> {
        while let Some(key) = self.undecided.pop() {
            if let Some(terms) = self.clients.get(key).and_then(Client::undecided_terms) {
                return Some(Undecided {
                    key,
                    owner: self.router.owner(&terms.topic),
                });
            }
        }
        None
    }

    /// Has an undecided client join from here.
    pub fn stay(&mut self, key: ClientKey) {
        self.join(key);
        self.hear_itself();
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
        self.clients.get(key)?.undecided_terms()?;
        let client = self.clients.remove(key)?;
        self.memory.forget_client(key, &client, &mut self.stats);
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
        let client = &mut self.clients[key];
        if client.phase() != Phase::Requesting {
            // It has come too late, and is told so.
            return key;
        }
        client.grant(transfer.terms, transfer.early);
        self.join(key);
        self.hear_itself();
        // Where another shard owns the topic, what came with the request waits for its answer.
        self.gauge_client(key);
        key
    }
}
