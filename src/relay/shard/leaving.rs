//! How clients leave: departures, deadlines, and the one place where each is counted.

use std::time::Duration;

use super::{Effect, Shard};
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::policy::departure::{Departure, Farewell};
use crate::relay::shard::client::{Client, Failing, Phase, Reading, Stage, Step};
use crate::relay::shard::control::PendingControl;
use crate::time::Timestamp;
use crate::ws::encode::ControlFrame;
use crate::ws::error::DecodeError;
use crate::ws::handshake::{Refusal, RefusalKind};

/// The longest wait for a client's part of the closing handshake, and for the last bytes to be accepted.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest wait for a client's end once ours is shut, as long as web servers linger.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How a connection ended on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It shut its writing side.
    Eof,
    /// The connection failed: nothing can be read or written any more.
    Failed,
    /// The client broke the encryption, and has been told so beneath us: nothing more can be said.
    TlsFailed,
}

impl Shard {
    /// Nothing more will be read from the client.
    pub fn on_end(&mut self, key: ClientKey, end: End) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        match client.phase() {
            Phase::Finishing if end == End::Eof => {
                // Its last words are still on their way out; the deadline of the phase bounds them.
                client.ended = true;
                self.outflow.make_urgent(key, &mut self.clients);
            }
            Phase::Requesting if end == End::TlsFailed => self.refuse_silently(key),
            Phase::Requesting | Phase::Placing | Phase::Joining | Phase::Open => {
                self.cut(key, Departure::Lost);
            }
            Phase::Closing | Phase::Finishing | Phase::Lingering => self.remove(key),
        }
    }

    /// Closes in order a connection that has been told already why, so that a reset does not destroy that on its way.
    fn refuse_silently(&mut self, key: ClientKey) {
        let due = self.now + LINGER;
        self.stats.inc(Stat::HandshakeTls);
        let client = &mut self.clients[key];
        client.arrival = None;
        client.take(Step::QueueLast);
        client.due = due;
        self.gauge_client(key);
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
    }

    /// Ends a connection at once, whatever its phase.
    pub(super) fn cut(&mut self, key: ClientKey, departure: Departure) {
        let departure = self.take_first_reason(key, departure);
        let Some(client) = self.clients.get(key) else {
            return;
        };
        match client.phase() {
            Phase::Requesting | Phase::Placing | Phase::Joining => {
                self.stats.inc(departure.handshake_stat());
            }
            Phase::Open => self.count_departure(key, departure, false),
            Phase::Closing | Phase::Finishing | Phase::Lingering => {}
        }
        self.remove(key);
    }

    /// A member broke the protocol. What it published before that is good: it is sent to the member as well, before
    /// the Close, and until then the member stays one, but is not read.
    pub(super) fn fail(&mut self, key: ClientKey, error: DecodeError) {
        let now = self.now;
        let deadline = now + CLOSE_TIMEOUT;
        let client = &mut self.clients[key];
        let member = client.member.as_ref().expect("open clients are members");
        let topic = &self.topics[member.topic];
        if client.has_published {
            client.set_reading(Reading::AwaitsPhase, now);
            client.leaves_at_head = true;
            client.failing = Some(Box::new(Failing {
                error,
                published_bytes: topic.returned_bytes + topic.in_flight_bytes,
                deadline,
            }));
            self.outflow.make_urgent(key, &mut self.clients);
            self.reschedule(key);
        } else {
            self.depart(key, Departure::Protocol(error));
        }
    }

    /// The reason that a departure counts for: the violation, if there was one before.
    fn take_first_reason(&mut self, key: ClientKey, departure: Departure) -> Departure {
        let failing = self
            .clients
            .get_mut(key)
            .and_then(|client| client.failing.take());
        failing.map_or(departure, |failing| Departure::Protocol(failing.error))
    }

    /// A member leaves: its topic forgets it, and it is told why if it can be.
    pub(super) fn depart(&mut self, key: ClientKey, departure: Departure) {
        let departure = self.take_first_reason(key, departure);
        let Some(client) = self.clients.get(key) else {
            return;
        };
        debug_assert_eq!(client.phase(), Phase::Open, "{departure:?}");
        let (step, close) = match departure.farewell() {
            Farewell::Cut => return self.cut(key, departure),
            Farewell::Reply => (Step::QueueLast, None),
            Farewell::Fail(code, reason) => {
                (Step::QueueLast, Some(ControlFrame::close(code, reason)))
            }
            Farewell::Close(code, reason) => {
                (Step::BeginClose, Some(ControlFrame::close(code, reason)))
            }
        };
        self.count_departure(key, departure, true);
        // The drain has a deadline of its own, for all.
        let due = if departure == Departure::Shutdown {
            Timestamp(u64::MAX)
        } else {
            self.now + CLOSE_TIMEOUT
        };
        let client = &mut self.clients[key];
        client.take(step);
        client.due = due;
        if let Some(close) = close {
            client.queue_close(close);
        }
        self.gauge_client(key);
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
    }

    /// The one place where a member stops being one. `is_told` keeps the message that it is in the middle of, because
    /// a Close can only follow that.
    fn count_departure(&mut self, key: ClientKey, departure: Departure, is_told: bool) {
        self.stats.inc(Stat::Disconnections);
        self.stats.inc(departure.stat());
        if departure.is_odd() {
            tracing::debug!(
                shard = self.id.0,
                client = key.slot,
                ?departure,
                "a client is seen off"
            );
        }
        self.stats.dec(Stat::ConnectedClients);
        let client = &mut self.clients[key];
        let member = client.member.take().expect("open clients are members");
        let topic = &mut self.topics[member.topic];
        if client.blocked {
            self.stats.dec(Stat::MembersLagging);
            topic.log.unblock(member.cursor, key);
        }
        let mut discarded = member.owed(&topic.log);
        if is_told && member.is_mid_frame(&topic.log) {
            let sharing = self.memory.sharing();
            let rest = member.rest_of_frame(&topic.log, |batch| sharing.sharers(batch));
            client.carry_message(rest);
            discarded -= 1;
        }
        self.stats.add(Stat::Discarded, discarded);
        let (place, topic_key) = (member.place, member.topic);
        topic.audience.leave(member.form);
        member.leave(&mut topic.log);
        for (moved, place) in topic.remove(place) {
            let moved = self.clients[moved]
                .member
                .as_mut()
                .expect("listed clients are members");
            moved.place = place;
        }
        self.gauge_log(topic_key);
        self.topics.touch(topic_key);
        self.resume(key);
    }

    /// Forgets a client that is not a member any more.
    pub(super) fn remove(&mut self, key: ClientKey) {
        let Some(client) = self.clients.remove(key) else {
            return;
        };
        debug_assert!(client.member.is_none(), "members depart first");
        if client.carries_message() {
            self.stats.inc(Stat::Discarded);
        }
        self.memory.forget_client(key, &client, &mut self.stats);
        let stage = client.arrival.map(|arrival| arrival.stage);
        if let Some(Stage::Joining(terms, topic)) = stage {
            self.topics[topic].audience.leave(terms.form);
            self.topics.touch(topic);
        }
        self.effects.push(Effect::Close(key));
    }

    /// Does what is due at the turn's time.
    pub fn handle_timeouts(&mut self) {
        let mut due = Vec::new();
        if !self.wheel.take_due(self.now, &mut due) {
            return;
        }
        let now = self.now;
        for key in due {
            let Some(client) = self
                .clients
                .get_mut(key)
                .filter(|client| client.timer <= now)
            else {
                // Gone, or handed out by an earlier entry in the meantime.
                continue;
            };
            client.timer = Timestamp(u64::MAX);
            if self.deadline(key).is_some_and(|deadline| deadline <= now) {
                self.on_deadline(key);
            }
            self.reschedule(key);
        }
    }

    /// Makes sure that the wheel hands the client out by its deadline.
    pub(super) fn reschedule(&mut self, key: ClientKey) {
        let Some(deadline) = self.deadline(key) else {
            return;
        };
        let client = &mut self.clients[key];
        if deadline < client.timer {
            client.timer = self.wheel.schedule(key, deadline);
        }
    }

    fn deadline(&self, key: ClientKey) -> Option<Timestamp> {
        let client = self.clients.get(key)?;
        match client.phase() {
            Phase::Requesting
            | Phase::Placing
            | Phase::Joining
            | Phase::Closing
            | Phase::Finishing
            | Phase::Lingering => Some(client.due),
            Phase::Open => [
                self.stall_deadline(client),
                self.keepalive_deadline(client),
                client.failing.as_ref().map(|failing| failing.deadline),
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    fn stall_deadline(&self, client: &Client) -> Option<Timestamp> {
        let since = client.stalled_since()?;
        Some(since + self.settings.policy.stall_timeout)
    }

    fn keepalive_deadline(&self, client: &Client) -> Option<Timestamp> {
        // Whoever is blocked cannot be asked: the stall is its deadline. Whoever awaits its next phase has another.
        let is_mute = client.blocked || client.reading == Reading::AwaitsPhase;
        if self.settings.ping_interval.is_zero() || is_mute {
            return None;
        }
        if client.pinged {
            return Some(client.due);
        }
        Some(client.last_read + self.settings.ping_interval)
    }

    fn on_deadline(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self.clients.get(key) else {
            return;
        };
        match client.phase() {
            Phase::Requesting if client.awaits_preface() => {
                self.turn_away(key, RefusalKind::ProxyHeader);
            }
            Phase::Requesting => self.refuse(key, Refusal::TIMEOUT),
            Phase::Placing | Phase::Joining => self.cut(key, Departure::Lost),
            Phase::Closing | Phase::Finishing | Phase::Lingering => self.remove(key),
            Phase::Open
                if client
                    .failing
                    .as_ref()
                    .is_some_and(|failing| failing.deadline <= now) =>
            {
                // It reads so slowly that it would not get the Close either.
                self.cut(key, Departure::Lost);
            }
            Phase::Open
                if self
                    .stall_deadline(client)
                    .is_some_and(|deadline| deadline <= now) =>
            {
                self.depart(key, Departure::Stall);
            }
            // Whoever is not read cannot be heard. It is asked again and again all the same: if it is gone, its system
            // answers with a reset.
            Phase::Open if client.pinged && client.reading == Reading::Allowed => {
                self.depart(key, Departure::Pong);
            }
            Phase::Open => self.ping(key),
        }
    }

    fn ping(&mut self, key: ClientKey) {
        let due = self.now + self.settings.pong_timeout;
        let client = &mut self.clients[key];
        client.pinged = true;
        client.due = due;
        client.queue_control(PendingControl::ping);
        self.outflow.make_urgent(key, &mut self.clients);
    }
}
