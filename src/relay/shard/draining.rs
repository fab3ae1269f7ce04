//! The drain, which is the orderly end: every member gets what it is owed, and then Close 1001.
//!
//! The host begins it with [`Shard::begin_drain`]. With `shutdown.spread`, members leave one after the other first, in a random
//! order. Each gets everything up to its head, and back what it has published. The others go on.
//!
//! When the last Close of the shard has begun, the shard accepts no message any more and sends a `Fence` to every owner. An owner
//! with the fences of all shards has everything that will ever be published. It numbers and spreads that and answers `Fenced`
//! to all.
//!
//! Envelopes between two shards keep their order. So a shard with the answers of all owners has everything that its members
//! will ever be owed, and each member leaves when its cursor reaches the head. A member that does not read is not waited for
//! longer than `shutdown.timeout`: then the worker calls [`Shard::cut_all`].

use super::Shard;
use super::client::Leaving;
use super::phase::Phase;
use super::spread::Spread;
use crate::ids::ClientKey;
use crate::relay::envelope::Envelope;
use crate::relay::policy::departure::Departure;
use crate::time::Timestamp;
use crate::ws::handshake::Refusal;

impl Shard {
    /// Begins the drain, at once or after the spread. Later calls change nothing.
    pub fn begin_drain(&mut self) {
        if !self.drain.announce() {
            return;
        }
        self.decide_undecided();
        self.refuse_newcomers();
        if !self.settings.spread.is_zero() {
            let is_to_be_closed = |phase| matches!(phase, Phase::Joining | Phase::Open);
            let clients = self.clients.keys_in(is_to_be_closed);
            let span = self.settings.spread;
            self.spread = Spread::new(self.now, span, clients, &mut self.chance);
        }
        self.close_due();
    }

    /// Begins the Closes that are due in a spread. With the last of them, messages are not accepted any more.
    pub(crate) fn close_due(&mut self) {
        if !self.drain.is_announced() {
            return;
        }
        while let Some(key) = self.spread.pop_due(self.now) {
            self.send_away(key);
        }
        if self.spread.next_due().is_none() {
            self.drain.begin();
        }
    }

    /// The moment of the next Close in a spread.
    pub fn next_close(&self) -> Option<Timestamp> {
        self.spread.next_due()
    }

    /// From now on the client is not heard, and it leaves when it has everything, also its own messages if it has published. A
    /// client that joins leaves as soon as it has joined.
    fn send_away(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if client.leaves_at_head {
            return;
        }
        client.leaves_at_head = true;
        let member = client.member.as_ref().filter(|_| client.has_published);
        if let Some(member) = member {
            let published_bytes = self.topics[member.topic].published_bytes();
            client.leaving = Some(Box::new(Leaving {
                departure: None,
                published_bytes,
                deadline: None,
            }));
        }
        self.outflow.make_urgent(key, &mut self.clients);
    }

    fn refuse_newcomers(&mut self) {
        for key in self.clients.keys_in(|phase| phase == Phase::Requesting) {
            self.refuse(key, Refusal::SHUTDOWN);
        }
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
        if self.drain.take_answer() {
            self.send_to_all(|| Envelope::Fenced);
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
            self.clients[key].leaves_at_head = true;
            self.outflow.make_urgent(key, &mut self.clients);
        }
    }
}
