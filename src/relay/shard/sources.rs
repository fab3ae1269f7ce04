//! Clients that may only publish: they speak WebSocket, are in no topic, and hear nothing.
//!
//! Such a client is open as soon as its place is decided: it asks the topic's owner for nothing. Its messages are from
//! outside, as those of requests are ([`outside`](super::outside)).
//!
//! It is not read while too many bytes from outside are on their way to its topic, and while the topic's publishers are held.

use super::Shard;
use super::arrival::Stage;
use super::client::{Client, Reading};
use super::phase::Step;
use super::reading::KEEP_BUFFER_FROM_BYTES;
use super::ready::Permit;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::terms::Welcome;
use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::{Draft, Source};
use crate::ws::decode::{Message, Payload};

impl Shard {
    /// Opens a client whose request is granted and who only publishes. Says whether it is one.
    pub(super) fn open_source(&mut self, key: ClientKey) -> bool {
        let now = self.date();
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        let is_source =
            |client: &Client| client.undecided_terms().is_some_and(|terms| !terms.hears());
        if !is_source(client) {
            return false;
        }
        let Some(arrival) = client.arrival.take() else {
            return false;
        };
        let Stage::Granted(mut terms) = arrival.stage else {
            return false;
        };
        self.agree_on_deflate(key, &mut terms);
        let client = &mut self.clients[key];
        client.take(Step::Place);
        client.take(Step::Join);
        client.carry_plain(terms.response(Welcome {
            now,
            ..Welcome::default()
        }));
        client.set_source(terms.topic);
        self.count_subprotocol(key, terms.subprotocol.selection(false));
        self.stats.inc(Stat::Connections);
        self.stats.inc(Stat::ConnectedClients);
        tracing::debug!(
            shard = self.id.0,
            client = key.slot,
            "a client may only publish, and hears nothing"
        );
        self.outflow.make_urgent(key, &mut self.clients);
        self.resume(key);
        self.reschedule(key);
        self.abandon_newcomer(key);
        self.on_undecoded(key, arrival.early);
        if self.has_undecoded(key) {
            // No event of its socket announces the rest.
            self.make_ready(key);
        }
        self.gauge_client(key);
        true
    }

    /// Takes in a message of such a client. Does nothing for other clients without a place in a topic, and behind the fence.
    pub(super) fn publish_as_source(&mut self, key: ClientKey, message: Message<'_>) {
        let client = &mut self.clients[key];
        let Some(topic) = client
            .source()
            .filter(|_| self.drain.takes_messages())
            .cloned()
        else {
            return;
        };
        client.has_published = true;
        self.stats.inc(Stat::Messages);
        let origin = (Source::Outsiders(self.id), self.now);
        match message.payload {
            Payload::Assembled(assembled) if assembled.len() >= KEEP_BUFFER_FROM_BYTES => {
                let frame = assembled.into_frame(message.kind);
                let draft = Draft::whole(origin.0, origin.1, frame, None);
                self.outside.push_draft(&topic, draft);
            }
            payload => {
                let message = (message.kind, payload.as_slice());
                self.outside.push_source(&topic, message, origin);
            }
        }
    }

    /// Whether such a client may be read, as [`Shard::permit`] says for members. If not, it waits for room in its topic.
    pub(super) fn permit_source(&mut self, key: ClientKey, topic: &TopicName) -> Permit {
        let is_open = self.is_open_from_outside(topic);
        let Some(client) = self.clients.get_mut(key) else {
            return Permit::Parked;
        };
        let reading = if self.drain.has_begun() {
            Reading::AwaitsPhase
        } else if is_open {
            Reading::Allowed
        } else {
            if client.reading != Reading::AwaitsTopic {
                self.outside.await_room(topic, key);
            }
            Reading::AwaitsTopic
        };
        client.set_reading(reading, self.now);
        if reading != Reading::Allowed {
            self.forget_who_waited(key);
            return Permit::Parked;
        }
        match client.arrival.take() {
            Some(arrival) => self.decode_early(key, *arrival),
            None => Permit::Read,
        }
    }

    /// There is room again in a topic: the clients that wait for it are read.
    pub(super) fn resume_sources(&mut self, topic: &TopicName) {
        for key in self.outside.take_sources(topic) {
            self.resume(key);
        }
    }
}
