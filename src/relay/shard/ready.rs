//! The clients that are read, and those that have to wait.
//!
//! The turn visits each client on the ready list and asks [`Shard::permit`] before every read. A publisher whose topic is
//! closed, or that lags itself, is parked. It goes back on the list when its reason is gone, so no edge of its socket is lost.

use super::arrival::Arrival;
use super::client::Reading;
use super::phase::Phase;
use super::{End, Shard};
use crate::ids::ClientKey;
use crate::relay::topic::TopicKey;

/// A waiting list that is this much longer than twice the number of members is searched for clients that have left. Shorter
/// lists are not worth the search.
const FEW_WAITING: usize = 64;

/// The answer to whether a client's socket may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Permit {
    /// Read it now.
    Read,
    /// Ask again: a part of what was read before is decoded now, and the rest waits. Nothing is read until it is decoded.
    Again,
    /// Ask in the next turn. The host owes the client an answer in this one, and hears nothing of it before.
    Later,
    /// Wait until it is [ready](Shard::take_ready) again.
    Parked,
}

impl Shard {
    /// The client may have something to read.
    pub fn make_ready(&mut self, key: ClientKey) {
        self.ready.enter(key, &mut self.clients);
    }

    /// An event has said that the client's connection failed. The next visit finds that out by a read, or without one if the
    /// client is parked in this turn. A client that is parked already is not visited, so it ends at once.
    pub(in crate::relay) fn note_failure(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.has_failed = true;
        if client.reading == Reading::Allowed {
            self.make_ready(key);
        } else {
            self.on_end(key, End::Failed);
        }
    }

    /// Whether the client's connection is known to have failed.
    pub(in crate::relay) fn has_failed(&self, key: ClientKey) -> bool {
        let client = self.clients.get(key);
        client.is_some_and(|client| client.has_failed)
    }

    /// Takes the first client of a lane.
    pub(in crate::relay) fn take_ready(&mut self, is_heavy: bool) -> Option<ClientKey> {
        self.ready.take(is_heavy, &mut self.clients)
    }

    /// The length of a lane, with clients that are gone.
    pub(in crate::relay) fn ready_len(&self, is_heavy: bool) -> usize {
        self.ready.len(is_heavy)
    }

    /// Whether a client may have something to read.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sets the lane in which the client waits from the next time on.
    pub fn set_heavy(&mut self, key: ClientKey, is_heavy: bool) {
        if let Some(client) = self.clients.get_mut(key) {
            client.is_heavy = is_heavy;
        }
    }

    /// Whether the client may be read now. The turn asks before every read. The answer [`Permit::Read`] means that everything
    /// is decoded that was read before: early frames, which came with the request, and the rest of a read of many frames.
    ///
    /// A publisher is not read while its topic is held, while it has too much on its way, or while it lags itself. Clients
    /// that only listen are still read, so that their pongs and closes are heard. This ends when too many of them publish.
    pub(in crate::relay) fn permit(&mut self, key: ClientKey) -> Permit {
        let Some(client) = self.clients.get_mut(key) else {
            return Permit::Parked;
        };
        let reading = match client.topic() {
            _ if matches!(client.phase(), Phase::Placing | Phase::Joining) => Reading::AwaitsPhase,
            None if client.awaits_host() => return Permit::Later,
            None if client.phase() == Phase::Exchanging => return self.permit_exchange(key),
            None if client.has_early_request() => {
                self.on_early_request(key);
                return Permit::Again;
            }
            None => match client.source().cloned() {
                Some(topic) => return self.permit_source(key, &topic),
                None => Reading::Allowed,
            },
            Some(_) if self.drain.has_begun() || client.leaves_at_head => Reading::AwaitsPhase,
            Some(topic) => {
                let topic = &mut self.topics[topic];
                let lag_bytes = || {
                    let member = client.member.as_ref();
                    member.map_or(0, |member| member.lag_bytes(&topic.log))
                };
                if !topic.is_open_to(client.has_to_wait()) {
                    if client.reading != Reading::AwaitsTopic {
                        topic.waiting.push(key);
                    }
                    Reading::AwaitsTopic
                } else if client.publisher && !topic.conduct.policy.may_publish(lag_bytes()) {
                    Reading::AwaitsItself
                } else {
                    Reading::Allowed
                }
            }
        };
        client.set_reading(reading, self.now);
        if reading != Reading::Allowed {
            self.forget_who_waited(key);
            return Permit::Parked;
        }
        let is_heard = client.phase().hears_frames();
        let Some(arrival) = client.arrival.take_if(|_| is_heard) else {
            return Permit::Read;
        };
        self.decode_early(key, *arrival)
    }

    /// Decodes a part of the frames that were read before. Then the client may perhaps be read.
    pub(super) fn decode_early(&mut self, key: ClientKey, arrival: Arrival) -> Permit {
        self.on_undecoded(key, arrival.early);
        self.gauge_client(key);
        if self.has_undecoded(key) {
            return Permit::Again;
        }
        self.permit(key)
    }

    /// Whether frames of the client have been read and wait to be decoded.
    pub(crate) fn has_undecoded(&self, key: ClientKey) -> bool {
        let client = self.clients.get(key);
        client.is_some_and(|client| client.arrival.is_some() && client.phase().hears_frames())
    }

    /// Removes clients that have left from the waiting list of the client's topic, when they may be most of it.
    pub(super) fn forget_who_waited(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if let Some(topic) = client.source() {
            let clients = &self.clients;
            let is_there = |key: ClientKey| clients.get(key).is_some();
            return self.outside.forget_sources(topic, is_there);
        }
        let Some(topic) = client.topic() else {
            return;
        };
        let topic = &mut self.topics[topic];
        if topic.waiting.len() <= 2 * topic.members().len() + FEW_WAITING {
            return;
        }
        let clients = &self.clients;
        topic.waiting.retain(|&key| clients.get(key).is_some());
    }

    /// Lets a parked client be read again.
    pub(super) fn resume(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if client.set_reading(Reading::Allowed, now) != Reading::Allowed {
            // A parked client could not be heard, so its keep-alive starts anew.
            client.note_alive(now);
            self.make_ready(key);
            self.reschedule(key);
        }
    }

    /// Resumes all that wait for the topic, if it is open to publishers.
    pub(super) fn resume_publishers_if_open(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key];
        if !topic.is_open_to_publishers() {
            return;
        }
        topic.overdraft_bytes = 0;
        for publisher in std::mem::take(&mut topic.waiting) {
            self.resume(publisher);
        }
    }

    /// Resumes a publisher that was parked because it lagged, if it has caught up.
    pub(super) fn resume_publisher_that_caught_up(&mut self, key: ClientKey) {
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
        let lag_bytes = member.lag_bytes(&topic.log);
        if topic.conduct.policy.may_publish(lag_bytes) {
            self.resume(key);
        }
    }
}
