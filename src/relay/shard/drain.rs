//! The orderly end: every member gets what it is owed, and then Close 1001.
//!
//! When a shard is told to drain it accepts no message any more and sends every owner a `Fence`. An owner that has the
//! fences of all shards has been sent everything that will ever be published; it numbers and spreads that, and then
//! answers `Fenced` to all. A shard that is `Fenced` by all owners thus has everything that its members will ever be
//! owed, because envelopes between two shards keep their order; each member leaves when its cursor reaches the head.
//! Who does not read is not waited for longer than `shutdown.timeout`: then the worker has the rest cut.

use super::Shard;
use crate::ids::ClientKey;
use crate::relay::client::Phase;
use crate::relay::departure::Departure;
use crate::relay::envelope::Envelope;
use crate::ws::handshake::Refusal;

/// How far the drain has come.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Messages are accepted no more.
    begun: bool,
    /// The fences are to be sent once this turn's messages are.
    fence_due: bool,
    /// Shards that have sent their fence to this owner.
    fences: u16,
    /// The answer to the fences is to be sent once this turn's messages are.
    answer_due: bool,
    /// Owners that have answered.
    answers: u16,
    /// The relay has failed, and everybody is to be told.
    abandoned: bool,
    /// Every connection was cut.
    cut: bool,
}

impl Drain {
    /// Whether messages are accepted no more.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Shard {
    /// Begins the drain. Calls after the first change nothing.
    pub fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.drain.begun, true) {
            return;
        }
        self.drain.fence_due = true;
        self.decide_undecided();
        for key in self.keys(|phase| phase == Phase::Requesting) {
            self.refuse(key, Refusal::SHUTDOWN);
        }
    }

    /// Whether messages are accepted no more.
    pub fn is_draining(&self) -> bool {
        self.drain.begun
    }

    /// Whether nothing is to wait that need not: there will be little more to join it with.
    pub(super) fn is_in_haste(&self) -> bool {
        self.drain.begun || self.drain.cut
    }

    /// Whether every shard has sequenced its last message and this one has seen off its last client.
    pub fn is_drained(&self) -> bool {
        usize::from(self.drain.answers) == self.router.shards().count() && self.clients.is_empty()
    }

    /// Cuts every connection that is left. The drain's last resort.
    pub fn cut_all(&mut self) {
        self.drain.cut = true;
        for key in self.keys(|_| true) {
            self.cut(key, Departure::Shutdown);
        }
    }

    /// Sends Close 1011 to every member, whatever it is still owed: a shard has failed, and its part of the topics' order
    /// with it, so that nothing more can be relayed.
    pub fn abandon(&mut self) {
        self.drain.abandoned = true;
        for key in self.keys(|phase| phase == Phase::Requesting) {
            self.refuse(key, Refusal::SHUTDOWN);
        }
        for key in self.keys(|phase| phase == Phase::Open) {
            self.depart(key, Departure::Internal);
        }
    }

    /// Who joins a relay that has failed is told at once.
    pub(super) fn abandon_newcomer(&mut self, key: ClientKey) {
        let is_open = self
            .client(key)
            .is_some_and(|client| client.phase() == Phase::Open);
        if self.drain.abandoned && is_open {
            self.depart(key, Departure::Internal);
        }
    }

    /// Sends the fences and their answers that are due, behind what the turn has published and spread.
    pub(super) fn send_fences(&mut self) {
        if std::mem::take(&mut self.drain.fence_due) {
            for shard in self.router.shards() {
                self.send(shard, Envelope::Fence);
            }
        }
        // In this order: the fence to oneself may be the one that makes the answer due.
        if std::mem::take(&mut self.drain.answer_due) {
            for shard in self.router.shards() {
                self.send(shard, Envelope::Fenced);
            }
        }
    }

    pub(super) fn on_fence(&mut self) {
        self.drain.fences += 1;
        self.drain.answer_due = usize::from(self.drain.fences) == self.router.shards().count();
    }

    pub(super) fn on_fenced(&mut self) {
        self.drain.answers += 1;
        if usize::from(self.drain.answers) < self.router.shards().count() {
            return;
        }
        for key in self.keys(|phase| phase == Phase::Open) {
            if let Some(client) = self.client_mut(key) {
                client.leaves_at_head = true;
            }
            self.make_urgent(key);
        }
    }

    fn keys(&self, wanted: impl Fn(Phase) -> bool) -> Vec<ClientKey> {
        let wanted = self
            .clients
            .iter()
            .filter(|(_, client)| wanted(client.phase()));
        wanted
            .map(|(slot, client)| ClientKey {
                slot: slot as u32,
                generation: client.generation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::ids::{Seq, ShardId};
    use crate::metrics::stats::Stat;
    use crate::relay::member::Slices;
    use crate::relay::router::Router;
    use crate::relay::shard::{Effect, Permit, Settings, Written};
    use crate::time::Timestamp;

    #[test]
    fn a_close_that_came_with_the_request_is_heard_although_the_drain_came_between() {
        let router = Router::new(2, 0);
        let elsewhere = |path: &String| router.owner(path) == ShardId(1);
        let path = (0..100).map(|n| format!("/{n}")).find(elsewhere).unwrap();
        let settings = Settings::new(&Config::default(), 2);
        let mut shard = Shard::new(ShardId(0), settings, router, Timestamp(0));
        let client = shard.accept();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        let close = [0x88, 0x80, 0, 0, 0, 0];
        shard.on_bytes(client, &mut [request.as_bytes(), &close].concat());
        shard.begin_drain();
        shard.handle(Envelope::Subscribed {
            topic: path.as_str().into(),
            client,
            next: Seq(0),
            held: None,
        });
        // The other shard's fence, and its answer to ours.
        shard.handle(Envelope::Fence);
        shard.handle(Envelope::Fenced);
        shard.decide();
        while let Some(key) = shard.poll_flush() {
            loop {
                let offered = shard.gather(key, &mut Slices::new());
                if offered == 0 || !shard.advance(key, Written::plain(offered, offered)) {
                    break;
                }
            }
        }
        let resumed: Vec<ClientKey> = std::iter::from_fn(|| shard.take_ready(false)).collect();
        assert!(resumed.contains(&client));
        assert_eq!(shard.permit(client), Permit::Parked);
        assert_eq!(shard.take_effects().next(), Some(Effect::Close(client)));
        assert!(shard.is_drained());
    }

    #[test]
    fn a_proxy_that_has_sent_no_header_is_not_answered_in_a_drain() {
        let settings = Settings::new(&Config::default(), 1);
        let mut shard = Shard::new(ShardId(0), settings, Router::new(1, 0), Timestamp(0));
        let client = shard.accept();
        shard.await_preface(client);
        shard.begin_drain();
        assert_eq!(shard.poll_flush(), None);
        assert_eq!(shard.take_effects().next(), Some(Effect::Close(client)));
        assert_eq!(shard.stats().value(Stat::HandshakeShutdown), 1);
    }
}
