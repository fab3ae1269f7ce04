//! Deadlines: the request, the closing handshake, a stalled socket, keep-alive, and the end of grants.
//!
//! The turn calls [`Shard::handle_timeouts`]. The other steps call [`Shard::reschedule`] when a client's deadline may have moved
//! to an earlier time. The [wheel](super::timers) only says which clients to look at; the deadline itself is in the client.

use super::Shard;
use super::client::{Client, Reading};
use super::phase::Phase;
use crate::ids::ClientKey;
use crate::relay::policy::departure::Departure;
use crate::time::Timestamp;
use crate::ws::handshake::{Refusal, RefusalKind};

/// The client's output is reviewed this often in a ping's interval. A client that was sent nothing between two reviews is
/// pinged. So every client is sent something at least once in an interval, and no delivery has to note its time.
const REVIEWS_PER_PING: u32 = 2;

impl Shard {
    /// Acts on all deadlines that have passed.
    pub(in crate::relay) fn handle_timeouts(&mut self) {
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
                // It is gone, or an earlier entry has put it in again.
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
            Phase::Exchanging | Phase::Finishing if client.takes_answer() => {
                self.stall_deadline(client)
            }
            Phase::Requesting
            | Phase::Exchanging
            | Phase::Placing
            | Phase::Joining
            | Phase::Closing
            | Phase::Finishing
            | Phase::Lingering => Some(client.due),
            Phase::Open => [
                self.stall_deadline(client),
                self.keepalive_deadline(client),
                client.leaving_deadline(),
                client
                    .ending()
                    .filter(|ending| !ending.is_due)
                    .map(|ending| ending.at),
                self.end_of_grants(key, client),
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    fn stall_deadline(&self, client: &Client) -> Option<Timestamp> {
        let since = client.stalled_since()?;
        Some(since + self.policy_of(client).stall_timeout)
    }

    fn keepalive_deadline(&self, client: &Client) -> Option<Timestamp> {
        // A blocked client cannot be sent a ping, and the stall is its deadline. A client that awaits its next
        // phase has another deadline as well.
        let is_mute = client.blocked || client.reading == Reading::AwaitsPhase;
        if self.settings.ping_interval.is_zero() || is_mute {
            return None;
        }
        if client.pinged {
            return Some(client.due);
        }
        let next_review = client.output_since() + self.settings.ping_interval / REVIEWS_PER_PING;
        if client.is_stream() {
            return Some(next_review);
        }
        Some(next_review.min(client.last_read + self.settings.ping_interval))
    }

    fn on_deadline(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        match client.phase() {
            Phase::Requesting if client.awaits_preface() => {
                self.turn_away(key, RefusalKind::ProxyHeader);
            }
            Phase::Requesting if client.is_idle() => self.end_with(key, None),
            Phase::Requesting => self.refuse_now(key, Refusal::TIMEOUT),
            Phase::Exchanging => self.on_exchange_deadline(key),
            Phase::Placing | Phase::Joining => self.cut(key, Departure::Lost),
            Phase::Closing | Phase::Finishing | Phase::Lingering => self.remove(key),
            Phase::Open => self.on_deadline_of_member(key),
        }
    }

    fn on_deadline_of_member(&mut self, key: ClientKey) {
        let now = self.now;
        let client = &self.clients[key];
        let deadline = client.leaving_deadline();
        if client
            .ending()
            .is_some_and(|ending| !ending.is_due && ending.at <= now)
        {
            self.hasten_end(key);
        } else if deadline.is_some_and(|deadline| deadline <= now) {
            // It reads so slowly that it would not get the Close either.
            self.cut(key, Departure::Lost);
        } else if self
            .end_of_grants(key, client)
            .is_some_and(|end| end <= now)
        {
            self.depart(key, Departure::Expired);
        } else if self
            .stall_deadline(client)
            .is_some_and(|deadline| deadline <= now)
        {
            self.depart(key, Departure::Stall);
        } else if client.pinged && client.reading == Reading::Allowed {
            self.depart(key, Departure::Pong);
        } else if client.is_stream() {
            self.keep_stream_alive(key);
        } else if client.pinged || self.is_silent(key) {
            // A parked client is pinged again and again: its pong cannot be read, but if it is gone, its system answers
            // with a reset.
            let due = now + self.settings.pong_timeout;
            self.clients[key].ping(now, due);
            self.outflow.make_urgent(key, &mut self.clients);
        }
    }

    /// Whether nothing was heard of the client for a ping's interval, or nothing was sent to it.
    fn is_silent(&mut self, key: ClientKey) -> bool {
        let now = self.now;
        let client = &mut self.clients[key];
        client.last_read + self.settings.ping_interval <= now || client.review_output(now)
    }
}
