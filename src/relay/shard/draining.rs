//! The drain, which is the orderly end: every member gets what it is owed, and then Close 1001.
//!
//! The host announces it with [`Shard::begin_drain`]. With `shutdown.spread`, members leave one after the other first, in a
//! random order. Each gets everything up to its head, and back what it has published. The others go on.
//!
//! Messages that were read before a Close count. So the turn has everything decoded that was read of a client, and only then
//! begins its Close.
//!
//! A request that publishes is declined if its messages are not offered. Otherwise they are numbered like all others, and it is
//! answered before its connection ends.
//!
//! A connection that waits between two requests stays until all others of the shard have left. A request that was on its way to
//! it is told to come back later. Nothing waits for such a connection.
//!
//! When the last Close of the shard has begun, the shard accepts no message any more and sends a `Fence` to every owner. An owner
//! with the fences of all shards has everything that will ever be published. It numbers and spreads that and answers `Fenced`
//! to all.
//!
//! Envelopes between two shards keep their order. So a shard with the answers of all owners has everything that its members
//! will ever be owed, and each member leaves when its cursor reaches the head. A member that does not read is not waited for
//! longer than `shutdown.timeout`: then the worker calls [`Shard::cut_all`].

use super::Shard;
use super::client::Client;
use super::exchange::Progress;
use super::phase::Phase;
use super::spread::Spread;
use crate::ids::ClientKey;
use crate::port::reply::Fault;
use crate::relay::envelope::Envelope;
use crate::relay::policy::departure::Departure;
use crate::time::Timestamp;
use crate::ws::handshake::Refusal;

impl Shard {
    /// Announces the drain. The turn begins it, at once or after the spread. Later calls change nothing.
    pub fn begin_drain(&mut self) {
        if !self.drain.announce() {
            return;
        }
        self.owner.begin_end();
        self.decide_undecided();
        self.refuse_newcomers();
        self.end_exchanges(Fault::ENDING);
        if !self.settings.spread.is_zero() {
            let is_to_be_closed = |phase| matches!(phase, Phase::Joining | Phase::Open);
            let clients = self.clients.keys_in(is_to_be_closed);
            let times = (self.settings.spread, self.settings.time_for_clients);
            self.spread = Spread::new(self.now, times, clients, &mut self.chance);
        }
    }

    /// Whether the drain is announced, and waits for nothing but the turn.
    pub(super) fn is_drain_due(&self) -> bool {
        self.drain.is_announced() && !self.drain.has_begun() && self.spread.next_due().is_none()
    }

    /// The members that are not heard any more once the Closes have begun that are due, and of which something is not decoded
    /// yet. The turn calls [`Shard::hear_out`] for each.
    pub(in crate::relay) fn last_heard(&self) -> Vec<ClientKey> {
        if !self.drain.is_announced() || self.drain.has_begun() {
            return Vec::new();
        }
        let mut keys = if self.spread.is_over_at(self.now) {
            self.clients.keys_in(|phase| phase == Phase::Open)
        } else {
            self.spread.due(self.now).to_vec()
        };
        keys.retain(|&key| self.has_undecoded(key) && !self.clients[key].leaves_at_head);
        keys
    }

    /// Begins the Closes that are due in a spread. With the last of them, messages are not accepted any more.
    pub(crate) fn close_due(&mut self) {
        if !self.drain.is_announced() {
            return;
        }
        while let Some(key) = self.spread.pop_due(self.now) {
            self.leave_at_head(key, None);
        }
        if self.spread.next_due().is_none() {
            self.drain.begin();
        }
    }

    /// The moment of the next Close in a spread.
    pub fn next_close(&self) -> Option<Timestamp> {
        self.spread.next_due()
    }

    /// Sends a client away whose moment in a spread came while it joined. Its early frames count, unless it is too late.
    pub(super) fn send_newcomer_away(&mut self, key: ClientKey) {
        let client = self.clients.get_mut(key);
        let Some(client) = client.filter(|client| client.leaves_at_head) else {
            return;
        };
        client.leaves_at_head = false;
        if self.drain.takes_messages() {
            self.hear_out(key);
        }
        self.leave_at_head(key, None);
    }

    fn refuse_newcomers(&mut self) {
        for key in self.clients.keys_in(|phase| phase == Phase::Requesting) {
            self.refuse_in_drain(key);
        }
    }

    /// Ends a connection that may have begun a request. One that waits for another request has asked for nothing, and is told
    /// nothing. It goes last.
    pub(super) fn refuse_in_drain(&mut self, key: ClientKey) {
        if !self.clients[key].is_idle() {
            self.refuse(key, Refusal::SHUTDOWN);
        } else if self.drain.is_abandoned() {
            self.end_with(key, None);
        } else {
            self.drain.idle.push(key);
        }
    }

    /// Closes the connections between two requests once no other connection is left and every owner has answered.
    pub(super) fn close_idle(&mut self) {
        let is_answered = self.drain.is_answered(self.router.shards().count());
        // The list may have connections that are gone, but it lacks none. So it is searched seldom.
        if !is_answered || self.drain.idle.is_empty() || self.clients.len() > self.drain.idle.len()
        {
            return;
        }
        let clients = &self.clients;
        let is_idle = |&key: &ClientKey| clients.get(key).is_some_and(Client::is_idle);
        self.drain.idle.retain(is_idle);
        if self.clients.len() > self.drain.idle.len() {
            return;
        }
        for key in std::mem::take(&mut self.drain.idle) {
            self.remove(key);
        }
    }

    /// Whether a connection is between two requests, and a drain closes it when the others have left. For tests.
    pub fn goes_last(&self, key: ClientKey) -> bool {
        self.is_known_as_idle(key) && self.clients.get(key).is_some_and(Client::is_idle)
    }

    /// Whether a connection between two requests is in the list of those. For tests.
    pub(super) fn is_known_as_idle(&self, key: ClientKey) -> bool {
        self.drain.idle.contains(&key)
    }

    /// Whether no message is accepted any more. During a spread, messages are.
    pub fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Whether every owner has answered and the last client of this shard has left.
    pub fn is_drained(&self) -> bool {
        self.drain.is_answered(self.router.shards().count()) && self.clients.is_empty()
    }

    /// Cuts every connection that is left: the last resort of a drain.
    pub fn cut_all(&mut self) {
        self.drain.cut();
        for key in self.clients.keys_in(|_| true) {
            self.cut(key, Departure::Shutdown);
        }
    }

    /// Sends Close 1011 to every member, whatever it is still owed. A shard has failed and taken the order of its topics with
    /// it, so nothing more can be relayed.
    pub(crate) fn abandon(&mut self) {
        self.drain.abandon();
        self.refuse_newcomers();
        self.end_exchanges(Fault::ENDING);
        for key in self.clients.keys_in(|phase| phase == Phase::Exchanging) {
            let is_answered = matches!(
                self.clients[key]
                    .exchange()
                    .map(|exchange| &exchange.progress),
                Some(Progress::Answered)
            );
            if !is_answered {
                // The owner may have failed, and then nobody knows whether its messages were published.
                self.cut(key, Departure::Internal);
            }
        }
        for key in self.clients.keys_in(|phase| phase == Phase::Open) {
            self.depart(key, Departure::Internal);
        }
    }

    /// Sends Close 1011 to a client that has joined after the relay has failed.
    pub(super) fn abandon_newcomer(&mut self, key: ClientKey) {
        let client = self.clients.get(key);
        let is_open = client.is_some_and(|client| client.phase() == Phase::Open);
        if self.drain.is_abandoned() && is_open {
            self.depart(key, Departure::Internal);
        }
    }

    /// Sends the fences and answers that are due, behind everything that the turn has published and spread.
    pub(super) fn send_fences(&mut self) {
        if self.drain.take_fence() {
            self.send_to_all(|| Envelope::Fence);
        }
        // In this order, because the fence to this shard itself may make its answer due.
        self.await_engines();
        if self.drain.take_answer() {
            self.send_to_all(|| Envelope::Fenced);
        }
    }

    /// An owner with all fences has offered everything to the engines. It answers when that has come back, or will not.
    fn await_engines(&mut self) {
        if !self.is_clustered() {
            return;
        }
        if self.drain.has_answer_due() {
            let until = self.now + self.time_for_engines();
            let (owner, mut desk) = self.owner_desk();
            owner.drain_engines(until, &mut desk);
            self.drain.await_engines();
            self.hear_itself();
        }
        if self.drain.awaits_engines() && self.owner.are_engines_drained() {
            self.drain.end_wait();
        }
    }

    fn send_to_all(&mut self, envelope: impl Fn() -> Envelope) {
        for shard in self.router.shards() {
            self.outbox.send(shard, envelope());
        }
        self.hear_itself();
    }

    pub(super) fn on_fence(&mut self) {
        self.drain.on_fence(self.router.shards().count());
    }

    pub(super) fn on_fenced(&mut self) {
        if !self.drain.on_answer(self.router.shards().count()) {
            return;
        }
        for key in self.clients.keys_in(|phase| phase == Phase::Open) {
            self.leave_at_head(key, None);
        }
    }
}
