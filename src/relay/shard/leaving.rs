//! Leaving clients: departures, and the one place that ends a membership and counts it.
//!
//! The other steps call [`Shard::depart`] for a member that is told why, [`Shard::cut`] for a connection that ends at once, and
//! [`Shard::remove`] for a client that is not a member any more. A client is removed once, and its socket closed once.

use std::time::Duration;

use bytes::Bytes;

use super::arrival::Stage;
use super::client::{Client, Leaving, Reading};
use super::exchange::{Exchange, Progress};
use super::joining::members_stat;
use super::phase::{Phase, Step};
use super::replaying::Replaying;
use super::{Effect, Shard};
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::position::Position;
use crate::port::words;
use crate::relay::policy::departure::{Departure, Farewell};
use crate::relay::topic::member::Rest;
use crate::time::Timestamp;
use crate::ws::close::CloseCode;
use crate::ws::encode::ControlFrame;
use crate::ws::error::DecodeError;
use crate::ws::handshake::Refusal;

/// The longest wait for a client's end when ours is shut. Web servers linger about as long.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The shortest pause that a client is asked for in a shutdown, in milliseconds. By then balancers know that the relay is gone.
const SHORTEST_RETRY_MS: u64 = 1_000;

/// Pauses differ by less than this, in milliseconds. So ten thousand clients that are closed at once come back at 2500 a second,
/// and none is away for long. A larger crowd needs `shutdown.spread`.
const RETRY_RANGE_MS: u64 = 4_000;

/// The end of a connection on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client shut its writing side.
    Eof,
    /// The connection failed: nothing can be read or written any more.
    Failed,
    /// The client broke TLS. The TLS layer has told it so, and nothing more can be sent.
    TlsFailed,
}

impl Shard {
    /// Nothing more will be read from the client.
    pub(crate) fn on_end(&mut self, key: ClientKey, end: End) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        match client.phase() {
            Phase::Finishing if end == End::Eof => {
                // Our last words are still on their way out. The deadline of the phase limits the wait, or the cut of a drain.
                client.ended = true;
                self.outflow.make_urgent(key, &mut self.clients);
            }
            Phase::Closing if end == End::Eof && !client.has_sent_everything() => {
                // Our Close is among it. The client's answer to that will not come.
                client.ended = true;
                client.take(Step::QueueLast);
                self.outflow.make_urgent(key, &mut self.clients);
            }
            // It has no further request.
            Phase::Requesting if client.is_idle() => self.remove(key),
            // Its requests are whole, so it is answered. In the middle of a body it is not.
            Phase::Exchanging
                if end == End::Eof
                    && client.exchange().is_some_and(|exchange| {
                        !matches!(exchange.progress, Progress::Body(..))
                    }) =>
            {
                client.ended = true;
            }
            Phase::Requesting if end == End::TlsFailed => {
                // The TLS layer has refused it. A reset could destroy its alert on the way.
                match client.refusal() {
                    Some(refusal) => self.count_refusal(key, refusal),
                    None => self.stats.inc(Stat::HandshakeTls),
                }
                self.end_with(key, None);
            }
            Phase::Requesting if end == End::Eof && client.refusal().is_some() => {
                // The rest of its request does not come any more.
                client.ended = true;
                self.refuse_now(key, Refusal::SHUTDOWN);
            }
            Phase::Open if end == End::Eof => {
                client.ended = true;
                let departure = if client.is_stream() {
                    Departure::Hangup
                } else {
                    Departure::Ended
                };
                self.leave_at_head(key, Some(departure));
            }
            Phase::Requesting
            | Phase::Exchanging
            | Phase::Placing
            | Phase::Joining
            | Phase::Open => {
                self.cut(key, Departure::Lost);
            }
            Phase::Closing | Phase::Finishing | Phase::Lingering => self.remove(key),
        }
    }

    /// Closes a connection in order whose request is not granted: with these last words, or without any.
    pub(super) fn end_with(&mut self, key: ClientKey, words: Option<Bytes>) {
        let due = self.now + LINGER;
        let client = &mut self.clients[key];
        client.arrival = None;
        client.take(Step::QueueLast);
        client.due = due;
        if let Some(words) = words {
            client.carry_plain(words);
        }
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
            // Nobody is missed.
            Phase::Requesting if client.is_probe() || client.is_idle() => {}
            Phase::Exchanging => {
                if client.exchange().is_some_and(Exchange::is_open_post) {
                    self.stats.inc(Stat::PostsLost);
                }
            }
            Phase::Requesting | Phase::Placing | Phase::Joining => match client.refusal() {
                Some(refusal) => self.count_refusal(key, refusal),
                None => self.stats.inc(departure.handshake_stat()),
            },
            Phase::Open => self.end_membership(key, departure, false),
            Phase::Closing | Phase::Finishing | Phase::Lingering => {}
        }
        self.remove(key);
    }

    /// A member broke the protocol. Its earlier messages are good, and they are sent to it as well before the Close. A member
    /// that never published departs at once.
    pub(super) fn fail(&mut self, key: ClientKey, error: DecodeError) {
        if self.clients[key].has_published {
            self.leave_at_head(key, Some(Departure::Protocol(error)));
        } else {
            self.depart(key, Departure::Protocol(error));
        }
    }

    /// Lets a member depart once it has been sent what it is owed, its own messages among it. Until then it stays a member
    /// that is not read. A client that joins departs as soon as it has joined. Without a `departure`, the relay shuts down.
    ///
    /// The first call counts.
    pub(super) fn leave_at_head(&mut self, key: ClientKey, departure: Option<Departure>) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if !matches!(client.phase(), Phase::Joining | Phase::Open) || client.leaves_at_head {
            return;
        }
        if client.source().is_some() {
            // It is owed nothing.
            return self.depart(key, departure.unwrap_or(Departure::Shutdown));
        }
        client.leaves_at_head = true;
        let Some(topic) = client.topic() else {
            return;
        };
        if client.has_published || departure.is_some() {
            let topic = &self.topics[topic];
            client.set_leaving(Leaving {
                published_bytes: if client.has_published && departure != Some(Departure::Outage) {
                    topic.published_bytes()
                } else {
                    0
                },
                // A shutdown has one deadline for all, and the worker keeps it.
                latest: departure
                    .is_some()
                    .then_some(now + topic.conduct.policy.close_timeout),
                departure,
            });
        }
        client.hasten_end();
        client.set_reading(Reading::AwaitsPhase, now);
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
    }

    /// The reason that counts for a departure: an earlier one, if there was one.
    fn take_first_reason(&mut self, key: ClientKey, departure: Departure) -> Departure {
        let leaving = self.clients.get_mut(key).and_then(Client::take_leaving);
        let first = leaving.and_then(|leaving| leaving.departure);
        first.unwrap_or(departure)
    }

    /// A pause for a client that is to come back. Each gets its own.
    pub(super) fn draw_pause_ms(&mut self) -> u64 {
        SHORTEST_RETRY_MS + self.chance.below(RETRY_RANGE_MS)
    }

    /// A member leaves. Its topic forgets it, and it is told why if it can be.
    pub(super) fn depart(&mut self, key: ClientKey, departure: Departure) {
        let departure = self.take_first_reason(key, departure);
        let Some(client) = self.clients.get(key) else {
            return;
        };
        debug_assert_eq!(client.phase(), Phase::Open, "{departure:?}");
        let is_stream = client.is_stream();
        let close_timeout = self.policy_of(client).close_timeout;
        let (step, last_words) = match departure.farewell() {
            Farewell::Cut => return self.cut(key, departure),
            Farewell::Reply => (Step::QueueLast, None),
            Farewell::Fail(code, reason) => (Step::QueueLast, Some((code, reason, None))),
            Farewell::Close(code, reason) => (Step::BeginClose, Some((code, reason, None))),
            Farewell::CloseForNow(code, reason) => {
                let pause_ms = self.draw_pause_ms();
                (Step::BeginClose, Some((code, reason, Some(pause_ms))))
            }
        };
        // Nobody answers the end of an event stream.
        let step = if is_stream { Step::QueueLast } else { step };
        let (at, sent) = (self.sent_position(key), self.sent_number(key));
        self.end_membership(key, departure, true);
        // A drain has one deadline for all, and the worker keeps it. A spread may last much longer than a Close.
        let due = if departure == Departure::Shutdown && self.drain.has_begun() {
            Timestamp(u64::MAX)
        } else {
            self.now + close_timeout
        };
        let client = &mut self.clients[key];
        client.take(step);
        client.due = due;
        if let Some(control) = &mut client.control {
            control.settle(at, sent.map(|(_, next)| next));
        }
        if let Some((code, reason, pause_ms)) = last_words {
            client.queue_end(if is_stream {
                words::end(at, code, reason, pause_ms)
            } else {
                close(at, code, reason, pause_ms)
            });
        }
        self.gauge_client(key);
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
    }

    /// Ends a membership; nothing else does. If the client is told, it keeps the rest of the message that it is in the middle
    /// of, because a Close can only follow that.
    fn end_membership(&mut self, key: ClientKey, departure: Departure, is_told: bool) {
        self.count_departure(key, departure);
        let client = &mut self.clients[key];
        let Some(member) = client.member.take() else {
            if client.end_source() {
                // It was owed nothing. Its Close can be answered, even if it was not read.
                return self.resume(key);
            }
            return self.end_replay(key, is_told);
        };
        let topic = &mut self.topics[member.topic];
        if client.blocked {
            self.stats.dec(Stat::MembersLagging);
            topic.log.unblock(member.cursor, key);
        }
        let mut discarded = member.owed(&topic.log);
        if is_told {
            let sharing = self.memory.sharing();
            let rest = member.rest_of_frame(&topic.log, |batch| sharing.sharers(batch));
            discarded -= u64::from(!rest.bytes.is_empty());
            client.carry_message(rest);
        }
        self.stats.add(Stat::Discarded, discarded);
        let (place, topic_key) = (member.place, member.topic);
        topic.audience.leave(member.form());
        self.stats.dec(members_stat(member.form()));
        member.leave(&mut topic.log);
        for (moved, place) in topic.remove(place) {
            let moved = self.clients[moved].member.as_mut();
            moved.expect("a listed client is a member").place = place;
        }
        self.gauge_log(topic_key);
        self.topics.touch(topic_key);
        self.resume(key);
    }

    /// Ends the membership of a client that has no place in the log.
    fn end_replay(&mut self, key: ClientKey, is_told: bool) {
        let client = &mut self.clients[key];
        let Replaying { replay, list, .. } =
            client.take_replay().expect("an open client has a place");
        if client.blocked {
            self.stats.dec(Stat::MembersLagging);
        }
        let mut discarded = replay.owed();
        if is_told {
            let sharing = self.memory.sharing();
            let rest = Rest::of(replay.frame_in_progress(), |batch| sharing.sharers(batch));
            discarded -= u64::from(!rest.bytes.is_empty());
            client.carry_message(rest);
        }
        self.stats.add(Stat::Discarded, discarded);
        self.replays.leave(list, key, &mut self.stats);
        self.topics[replay.topic].audience.leave(replay.form);
        self.stats.dec(members_stat(replay.form));
        self.topics.touch(replay.topic);
        self.resume(key);
    }

    fn count_departure(&mut self, key: ClientKey, departure: Departure) {
        self.stats.inc(Stat::Disconnections);
        self.stats.inc(departure.stat());
        self.stats.dec(Stat::ConnectedClients);
        self.forget_deflate(key);
        if departure.is_odd() {
            tracing::debug!(
                shard = self.id.0,
                client = key.slot,
                ?departure,
                "a client is disconnected"
            );
        }
    }

    /// Forgets a client that is not a member any more, and has its socket closed.
    pub(super) fn remove(&mut self, key: ClientKey) {
        let Some(client) = self.clients.remove(key) else {
            return;
        };
        debug_assert!(client.topic().is_none(), "members depart first");
        if client.carries_message() {
            self.stats.inc(Stat::Discarded);
        }
        self.memory.forget_client(key, &client, &mut self.stats);
        self.subjects.forget(key);
        let stage = client.arrival.map(|arrival| arrival.stage);
        match stage {
            Some(Stage::Joining(terms, topic)) => {
                self.topics[topic].audience.leave(terms.form);
                self.topics.touch(topic);
            }
            Some(Stage::Exchange(exchange)) => self.abandon_exchange(*exchange),
            Some(
                Stage::Preface
                | Stage::Head(_)
                | Stage::Probe(_)
                | Stage::AwaitsSeat(..)
                | Stage::Granted(_)
                | Stage::Joined,
            )
            | None => {}
        }
        self.effects.push(Effect::Close(key));
    }
}

/// A Close. Its reason ends with the position that the client has reached, and a pause that it asks for comes last.
fn close(at: Option<Position>, code: CloseCode, reason: &str, pause_ms: Option<u64>) -> Bytes {
    let at = at.map_or_else(String::new, |at| format!("; at {at}"));
    let pause = pause_ms.map_or_else(String::new, |pause_ms| format!("; retry {pause_ms}"));
    let frame = ControlFrame::close(code, &format!("{reason}{at}{pause}"));
    Bytes::copy_from_slice(frame.as_slice())
}
