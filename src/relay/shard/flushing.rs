//! The flush: the bytes that each client gets, and the consequences of each write.
//!
//! The turn takes a client from [`Shard::poll_flush`] and its bytes from [`Shard::gather`]. The host writes them once, and the
//! turn reports the result with [`Shard::advance`]. `gather` also disconnects or skips laggards, so no caller can forget to.
//! This file does no input or output of its own.

use std::io::IoSlice;

use super::client::{Client, Reading};
use super::leaving::LINGER;
use super::phase::{Phase, Step};
use super::topics::Topics;
use super::{Effect, Shard, place_of};
use crate::ids::{ClientId, ClientKey, Seq};
use crate::metrics::stats::Stat;
use crate::port::terms::Form;
use crate::relay::policy::Verdict;
use crate::relay::policy::departure::Departure;
use crate::relay::topic::log::Log;
use crate::relay::topic::member::{Member, Slices};

/// The result of a write of the bytes that `Shard::gather` listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the list that the transport took. They are not listed again.
    pub taken: usize,
    /// Whether the kernel accepted anything, of these bytes or of those that the transport had taken before.
    pub has_progressed: bool,
    /// The kernel accepts no more for now. The socket's writable edge is awaited.
    pub is_blocked: bool,
    /// The transport has taken bytes that the kernel has not accepted. TLS does this, because it encrypts before it sends.
    /// It is true only if `is_blocked` is.
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
    /// The next client to be written to; `None` when everybody has everything.
    pub(in crate::relay) fn poll_flush(&mut self) -> Option<ClientKey> {
        self.outflow.poll(&mut self.clients, &mut self.topics)
    }

    /// Lists the bytes of the client's next write, and says how many they are; 0 for no write.
    ///
    /// Carried bytes come first, then control frames, then the log. Control frames go in at the next frame boundary: in the
    /// middle of a frame, only the rest of that frame is listed.
    pub(in crate::relay) fn gather<'a>(
        &'a mut self,
        key: ClientKey,
        slices: &mut Slices<'a>,
    ) -> usize {
        self.prepare(key);
        let own = self.own_ahead(key);
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
                Some(_) => match client.goes_on_to() {
                    Some(until) => member.gather_until(log, own, slices, until),
                    None => member.gather_rest_of_frame(log, slices),
                },
            };
        } else if let Some(replaying) = client.replay() {
            total += match client.control {
                None => replaying.replay.gather(slices),
                Some(_) => match client.goes_on_to() {
                    Some(until) => replaying.replay.gather_until(slices, until),
                    None => replaying.replay.gather_rest_of_frame(slices),
                },
            };
        }
        total
    }

    /// Makes the client ready to be listed: judges it if it is blocked, takes up control frames at a frame boundary, and ends
    /// it if it has everything and is to leave.
    fn prepare(&mut self, key: ClientKey) {
        self.pass_over_own_messages(key);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(member) = &client.member else {
            return self.prepare_other(key);
        };
        if client.blocked {
            return self.judge(key);
        }
        let topic = &self.topics[member.topic];
        if member.is_mid_frame(&topic.log) {
            return;
        }
        let is_done = client.leaves_at_head
            && member.is_at_head(&topic.log)
            && client.has_back_what_it_published(topic.returned_bytes());
        if client.control.is_some() {
            let next = member.position(&topic.log);
            let at = place_of(&self.settings, topic, next);
            client.take_up_control(at, next);
        }
        if is_done && client.carry().is_none() {
            self.depart(key, Departure::Shutdown);
            self.prepare(key);
        }
    }

    /// Makes a client ready that has no place in a log: it replays, or its membership is over.
    fn prepare_other(&mut self, key: ClientKey) {
        let client = &self.clients[key];
        if let Some(replaying) = client.replay() {
            let replay = &replaying.replay;
            if client.blocked || replay.is_mid_frame() {
                return;
            }
            let (next, is_over) = (replay.position(), replay.is_over());
            let at = self.place_in_replay(replaying, next);
            let client = &mut self.clients[key];
            client.take_up_control(at, next);
            match client.ending() {
                None if is_over => self.ask_for_more(key),
                Some(ending) if is_over => self.end_stream_if_due(key, ending),
                None | Some(_) => {}
            }
            return;
        }
        let client = &mut self.clients[key];
        if client.phase().may_send() {
            client.take_up_control(None, Seq(u64::MAX));
            if client.carry().is_none() {
                self.finish_if_done(key);
            }
        }
    }

    /// Skips or disconnects a blocked member that lags too much, unless publishers still wait for it.
    fn judge(&mut self, key: ClientKey) {
        let Some(member) = self.clients.member(key) else {
            return;
        };
        let topic = &self.topics[member.topic];
        if member.is_trusted && !topic.grace.is_spent() {
            return;
        }
        let lag_bytes = member.lag_bytes(&topic.log);
        match topic.conduct.policy.verdict(lag_bytes) {
            Verdict::Keep => {}
            Verdict::Skip => self.skip(key),
            Verdict::Disconnect => self.depart(key, Departure::Lag),
        }
    }

    /// The name under which the client's own messages are left out; `None` if it has none ahead, like a member that
    /// only listens.
    fn own_ahead(&self, key: ClientKey) -> Option<ClientId> {
        let own = self.own(key)?;
        let member = self.clients.member(key)?;
        (member.own_ahead > 0).then_some(own)
    }

    /// If members do not get their own messages, moves this member on to the next message of another. Otherwise it would
    /// lag because of messages that it is not owed.
    fn pass_over_own_messages(&mut self, key: ClientKey) {
        let own = self.own_ahead(key);
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
        let expected = place_of_own(member, log, 0, own);
        member.advance(log, 0, own);
        postpone_trust(member, log, expected, &mut client.trusted_at_bytes);
        if member.cursor != before {
            if client.blocked {
                log.relocate_blocked(before, member.cursor, key);
            }
            // The log and the lag may have shrunk, as they do after a write.
            self.topics.touch(topic_key);
            self.resume_publisher_that_caught_up(key);
        }
    }

    /// Moves a laggard to the head. The message that it is in the middle of is completed first; the others are dropped.
    pub(super) fn skip(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        let Some(member) = &mut client.member else {
            return;
        };
        let topic_key = member.topic;
        let topic = &mut self.topics[topic_key];
        let log = &mut topic.log;
        let sharing = self.memory.sharing();
        let rest = member.rest_of_frame(log, |batch| sharing.sharers(batch));
        let dropped = member.owed(log) - u64::from(!rest.bytes.is_empty());
        let head = log.next();
        member.distrust(log);
        let before = member.cursor;
        member.jump_to_head(log);
        log.relocate_blocked(before, member.cursor, key);
        let takes_deflated = member.form() == Form::Deflated;
        client.carry_message(rest);
        client.trusted_at_bytes = log.end_bytes() + topic.conduct.policy.probation_bytes();
        client.skip_to(head, dropped);
        self.stats.add(Stat::Dropped, dropped);
        self.topics[topic_key].out_of_step += u32::from(takes_deflated);
        self.gauge_client(key);
        self.topics.touch(topic_key);
        self.resume_publisher_that_caught_up(key);
    }

    /// Takes note of a write of the bytes that [`Shard::gather`] listed, or that the transport held back. Says whether the
    /// client is to be gathered again at once.
    pub(in crate::relay) fn advance(&mut self, key: ClientKey, written: Written) -> bool {
        debug_assert!(written.is_blocked || !written.holds_back, "{written:?}");
        self.outflow.note_taken(written.taken);
        let own = self.own_ahead(key);
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        self.stats.add(Stat::BytesOut, written.taken as u64);
        client.holds_back = written.holds_back;
        if written.has_progressed {
            client.note_progress();
        }
        let carried = client.advance_carry(written.taken);
        let sent = advance_member(client, &mut self.topics, carried.left, own);
        // Read here, because to look the client up again costs 20 instructions for each delivery.
        let awaits_itself = client.reading == Reading::AwaitsItself;
        let is_open = client.phase() == Phase::Open;
        let is_behind = sent.is_behind || !client.has_nothing_to_send();
        let delivered = sent.messages + u64::from(carried.delivered);
        self.stats.add(Stat::Delivered, delivered);
        if carried.has_freed {
            self.gauge_client(key);
        }
        if awaits_itself {
            self.resume_publisher_that_caught_up(key);
        }
        if written.is_blocked {
            self.block(key);
            return false;
        }
        if !is_behind && !is_open {
            self.go_on_behind_answer(key);
        }
        is_behind
    }

    /// The socket takes no more for now. An edge will say when it does.
    fn block(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.block(now);
        if let Some(member) = &client.member {
            let topic = &mut self.topics[member.topic];
            topic.log.block(member.cursor, key);
        }
        if client.topic().is_some() {
            self.stats.inc(Stat::MembersLagging);
        }
        self.note_blocked(key);
        self.reschedule(key);
    }

    /// Whether the client's writable edge is awaited.
    pub fn is_blocked(&self, key: ClientKey) -> bool {
        self.clients.get(key).is_some_and(|client| client.blocked)
    }

    /// The socket takes bytes again. Says whether the shard flushes the client, now or when its turn comes.
    ///
    /// If so, and if the transport holds bytes back, the host sends these in that flush, and not on its own.
    /// [`Shard::advance`] then tells the shard the result.
    pub(in crate::relay) fn on_writable(&mut self, key: ClientKey) -> bool {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        if !client.blocked {
            // A further edge, while the client waits for its flush.
            return client.holds_back;
        }
        client.blocked = false;
        // The client's system has acknowledged bytes, so the client is alive.
        client.note_alive(now);
        if let Some(member) = &client.member {
            let topic = member.topic;
            let log = &mut self.topics[topic].log;
            log.unblock(member.cursor, key);
            self.topics.touch(topic);
        }
        if client.topic().is_some() {
            self.stats.dec(Stat::MembersLagging);
        }
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
        true
    }

    /// A client that is no member has been sent everything.
    #[cold]
    fn go_on_behind_answer(&mut self, key: ClientKey) {
        self.finish_if_done(key);
        self.end_exchange(key);
    }

    /// Shuts our side when the client has its last byte, and awaits its end.
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

/// The part of a write that was from the log.
struct Sent {
    /// Messages that it completed.
    messages: u64,
    /// Whether the member is owed more, or is to leave.
    is_behind: bool,
}

/// Moves a member on by `n` bytes of its log. Does nothing for a client that is not a member.
fn advance_member(
    client: &mut Client,
    topics: &mut Topics,
    n: usize,
    own: Option<ClientId>,
) -> Sent {
    let Some(member) = &mut client.member else {
        return advance_replay(client, n);
    };
    let topic_key = member.topic;
    let topic = &mut topics[topic_key];
    if topic.grace.is_asked() && n > 0 {
        let lag_bytes = member.lag_bytes(&topic.log);
        topic.laggards_progress |= member.is_trusted && topic.conduct.policy.is_behind(lag_bytes);
    }
    let expected = place_of_own(member, &topic.log, n, own);
    let messages = member.advance(&mut topic.log, n, own);
    if !member.is_trusted {
        postpone_trust(member, &topic.log, expected, &mut client.trusted_at_bytes);
        // Nobody is further than the log. So most deliveries on probation cost no more than this comparison.
        let log_bytes = topic.log.end_bytes();
        let is_over = client.trusted_at_bytes <= log_bytes
            && client.trusted_at_bytes <= member.place_bytes(&topic.log);
        if is_over {
            member.trust(&mut topic.log);
        }
    }
    let is_behind = !member.is_at_head(&topic.log) || client.leaves_at_head;
    if !topic.touched {
        topics.touch(topic_key);
    }
    Sent {
        messages,
        is_behind,
    }
}

/// The place at which a member on probation would be `n` bytes further, if it does not get its own messages and some are
/// ahead. It is then moved on past these as well.
fn place_of_own(member: &Member, log: &Log, n: usize, own: Option<ClientId>) -> Option<u64> {
    (own.is_some() && !member.is_trusted)
        .then(|| member.place_bytes(log) + member.cost_of(log, n, own))
}

/// The member has passed over own messages since it was at `expected`. These do not shorten its probation.
fn postpone_trust(member: &Member, log: &Log, expected: Option<u64>, trusted_at_bytes: &mut u64) {
    if let Some(expected) = expected {
        *trusted_at_bytes += member.place_bytes(log) - expected;
    }
}

/// Moves a client that replays on by `n` bytes. Does nothing for other clients without a place in a log.
#[cold]
fn advance_replay(client: &mut Client, n: usize) -> Sent {
    let Some(replaying) = client.replay_mut() else {
        return Sent {
            messages: 0,
            is_behind: false,
        };
    };
    Sent {
        messages: replaying.replay.advance(n),
        // At the end of the list, the next look at the client asks for more, or ends it.
        is_behind: match replaying.ending {
            None => !replaying.has_asked,
            Some(ending) => ending.is_due || !replaying.replay.is_over(),
        },
    }
}
