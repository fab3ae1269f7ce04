//! What leaves: which bytes each client gets, and what follows from how many of them the kernel took.
//!
//! The turn asks [`Shard::poll_flush`] for a client, [`Shard::gather`] for its bytes, has them written once, and reports
//! with [`Shard::advance`]. The policy for laggards stands in `gather`, so that no caller can forget it.

use std::io::IoSlice;

use super::leaving::LINGER;
use super::{Effect, Shard};
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::policy::Verdict;
use crate::relay::policy::departure::Departure;
use crate::relay::shard::client::{Phase, Reading, Step};
use crate::relay::topic::member::Slices;

/// What became of the bytes that [`Shard::gather`] listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the list that the transport took. They are not listed again.
    pub taken: usize,
    /// Whether the kernel accepted anything, of these bytes or of what the transport had taken before.
    pub has_progressed: bool,
    /// The kernel accepts no more for now; its writable edge is awaited.
    pub is_blocked: bool,
    /// The transport has taken bytes that the kernel has not accepted, as TLS does, which encrypts before it sends. Only
    /// while it is blocked.
    pub holds_back: bool,
}

impl Written {
    /// A write of a transport without a buffer of its own: the kernel accepted `taken` of `offered` bytes.
    pub fn plain(taken: usize, offered: usize) -> Self {
        Written {
            taken,
            has_progressed: taken > 0,
            is_blocked: taken < offered,
            holds_back: false,
        }
    }
}

impl Shard {
    /// The next client to be written to; `None` when everybody has what there is.
    pub fn poll_flush(&mut self) -> Option<ClientKey> {
        self.outflow.poll(&mut self.clients, &mut self.topics)
    }

    /// Lists what the client is to be sent now, in one write, and says how many bytes these are; 0 for none.
    ///
    /// The order is: what is carried, then control frames, then the log. Control frames go in at the next frame
    /// boundary: while the client is in the middle of a frame, the rest of that frame is all there is to send.
    pub fn gather<'a>(&'a mut self, key: ClientKey, slices: &mut Slices<'a>) -> usize {
        self.prepare(key);
        let own = self.own(key);
        let Some(client) = self
            .clients
            .get(key)
            .filter(|client| !client.blocked && client.phase().may_send())
        else {
            return 0;
        };
        let mut total = 0;
        if let Some(carry) = client.carry() {
            slices.push(IoSlice::new(carry));
            total += carry.len();
        }
        if let Some(member) = &client.member {
            let log = &self.topics[member.topic].log;
            total += match client.control {
                None => member.gather(log, own, slices),
                Some(_) => member.gather_rest_of_frame(log, slices),
            };
        }
        total
    }

    /// Before anything is listed: passes the verdict on a laggard, and takes up control frames at a frame boundary.
    fn prepare(&mut self, key: ClientKey) {
        self.pass_over_own_messages(key);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(member) = &mut client.member else {
            if client.phase().may_send() {
                client.take_up_control();
                if client.carry().is_none() {
                    self.finish_if_done(key);
                }
            }
            return;
        };
        let topic = &mut self.topics[member.topic];
        let log = &mut topic.log;
        if client.blocked {
            let lag_bytes = member.lag_bytes(log);
            let is_judged = topic.grace.is_spent() || !member.is_trusted;
            match self.settings.policy.verdict(lag_bytes) {
                Verdict::Skip if is_judged => self.skip(key),
                Verdict::Disconnect if is_judged => self.depart(key, Departure::Lag),
                Verdict::Keep | Verdict::Skip | Verdict::Disconnect => {}
            }
            return;
        }
        if member.is_mid_frame(log) {
            return;
        }
        let is_done = client.leaves_at_head
            && member.is_at_head(log)
            && client.has_back_what_it_published(topic.returned_bytes);
        client.take_up_control();
        if is_done && client.carry().is_none() {
            self.depart(key, Departure::Shutdown);
            self.prepare(key);
        }
    }

    /// Where members do not get their own messages back: moves on to the next message of somebody else, so that what is
    /// left to send begins there, and nobody lags for messages that it is not owed.
    fn pass_over_own_messages(&mut self, key: ClientKey) {
        let own = self.own(key);
        if own.is_none() {
            return;
        }
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(member) = &mut client.member else {
            return;
        };
        let (topic_key, before) = (member.topic, member.cursor);
        let log = &mut self.topics[topic_key].log;
        member.advance(log, 0, own);
        if member.cursor != before {
            if client.blocked {
                log.relocate_blocked(before, member.cursor, key);
            }
            // What follows from a write follows from this as well: the log may have shrunk, and the lag.
            self.topics.touch(topic_key);
            self.resume_publisher_that_caught_up(key);
        }
    }

    /// Moves a laggard to the head. The message that it is in the middle of is completed first, the rest is dropped.
    pub(super) fn skip(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        let member = client.member.as_mut().expect("only members lag");
        let topic_key = member.topic;
        let log = &mut self.topics[topic_key].log;
        let sharing = self.memory.sharing();
        let rest = member.rest_of_frame(log, |batch| sharing.sharers(batch));
        let dropped = member.owed(log) - u64::from(!rest.bytes.is_empty());
        member.distrust(log);
        let before = member.cursor;
        member.jump_to_head(log);
        log.relocate_blocked(before, member.cursor, key);
        client.carry_message(rest);
        client.probation_bytes = self.settings.policy.probation_bytes();
        self.stats.add(Stat::Dropped, dropped);
        self.gauge_client(key);
        self.topics.touch(topic_key);
        self.resume_publisher_that_caught_up(key);
    }

    /// Takes account of a write of what [`Shard::gather`] listed, or of what the transport held back. Says whether the
    /// client is to be gathered again at once.
    pub fn advance(&mut self, key: ClientKey, written: Written) -> bool {
        debug_assert!(written.is_blocked || !written.holds_back, "{written:?}");
        self.outflow.note_taken(written.taken);
        let own = self.own(key);
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        self.stats.add(Stat::BytesOut, written.taken as u64);
        client.holds_back = written.holds_back;
        if written.has_progressed {
            client.note_progress();
        }
        let carried = client.advance_carry(written.taken);
        let mut delivered = u64::from(carried.delivered);
        let mut is_behind = !client.has_nothing_to_send();
        let earns_trust = client
            .member
            .as_ref()
            .is_some_and(|member| !member.is_trusted)
            && client.serve_probation(written.taken);
        if let Some(member) = &mut client.member {
            let topic_key = member.topic;
            let topic = &mut self.topics[topic_key];
            if earns_trust {
                member.trust(&mut topic.log);
            }
            if topic.grace.is_asked() && carried.left > 0 {
                let lag_bytes = member.lag_bytes(&topic.log);
                let is_awaited = member.is_trusted && self.settings.policy.is_behind(lag_bytes);
                topic.laggards_progress |= is_awaited;
            }
            let log = &mut topic.log;
            delivered += member.advance(log, carried.left, own);
            is_behind |= !member.is_at_head(log) || client.leaves_at_head;
            if !topic.touched {
                self.topics.touch(topic_key);
            }
        }
        // Rare, so the client is not looked up again for it: 20 instructions for each delivery.
        let (awaits_itself, is_finishing) = (
            client.reading == Reading::AwaitsItself,
            client.phase() == Phase::Finishing,
        );
        self.stats.add(Stat::Delivered, delivered);
        if carried.delivered {
            self.gauge_client(key);
        }
        if awaits_itself {
            self.resume_publisher_that_caught_up(key);
        }
        if written.is_blocked {
            self.block(key);
            return false;
        }
        if !is_behind && is_finishing {
            self.finish_if_done(key);
        }
        is_behind
    }

    /// The socket takes no more for now: an edge will say when it does.
    fn block(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.block(now);
        if let Some(member) = &client.member {
            let topic = &mut self.topics[member.topic];
            topic.log.block(member.cursor, key);
            self.stats.inc(Stat::MembersLagging);
        }
        self.note_blocked(key);
        self.reschedule(key);
    }

    /// Whether the client's writable edge is awaited.
    pub fn is_blocked(&self, key: ClientKey) -> bool {
        self.clients.get(key).is_some_and(|client| client.blocked)
    }

    /// The socket takes bytes again. Says whether the client is flushed on that account, now or when its turn comes: if
    /// its transport holds bytes back, it is then to be told with [`Shard::advance`], and not beside it, what becomes of
    /// them.
    pub fn on_writable(&mut self, key: ClientKey) -> bool {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        if !client.blocked {
            // An edge that comes while it waits for its turn.
            return client.holds_back;
        }
        client.blocked = false;
        // Its system has acknowledged bytes: it is there.
        client.last_read = now;
        client.pinged = false;
        if let Some(member) = &client.member {
            let topic = member.topic;
            let log = &mut self.topics[topic].log;
            log.unblock(member.cursor, key);
            self.stats.dec(Stat::MembersLagging);
            self.topics.touch(topic);
        }
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
        true
    }

    /// A publisher that was not read because it lagged itself is read again once it does not.
    fn resume_publisher_that_caught_up(&mut self, key: ClientKey) {
        let Some(client) = self
            .clients
            .get(key)
            .filter(|client| client.reading == Reading::AwaitsItself)
        else {
            return;
        };
        let Some(member) = &client.member else {
            return;
        };
        let topic = &self.topics[member.topic];
        if self
            .settings
            .policy
            .may_publish(member.lag_bytes(&topic.log))
        {
            self.resume(key);
        }
    }

    /// Once a client has been sent its last byte, our side is shut, and its end is awaited.
    fn finish_if_done(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.phase() == Phase::Finishing && !client.holds_back)
        else {
            return;
        };
        if client.ended {
            self.remove(key);
            return;
        }
        client.take(Step::ShutWrite);
        client.due = now + LINGER;
        self.effects.push(Effect::ShutdownWrite(key));
        self.reschedule(key);
    }
}
