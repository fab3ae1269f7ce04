//! What clients send: whether they may be read, and what their bytes mean.

use std::ops::ControlFlow;

use super::Permit;
use super::Shard;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::batch::draft::OVERHEAD_BYTES;
use crate::relay::policy::departure::Departure;
use crate::relay::shard::client::{Arrival, Phase, Reading, Stage, Step};
use crate::ws::close::CloseCode;
use crate::ws::decode::{Event, Message, Payload};
use crate::ws::encode::ControlFrame;
use crate::ws::error::DecodeError;

/// A message that arrived in pieces is copied behind its neighbours when it is below this size, and keeps the buffer
/// it was read into from this size on: one write of many small messages is worth more than a copy saved.
const KEEP_BUFFER_FROM_BYTES: usize = 4 << 10;

/// A list of so many clients is not worth looking through for those that have left.
const FEW_WAITING: usize = 64;

impl Shard {
    /// Whether the client may be read now. Asked before every read; takes in first what came with the client's request
    /// and had to wait.
    ///
    /// A publisher is not read while its topic is held or has too much on its way, nor while it lags itself. Those who
    /// only listen are read even then, so that their pongs and closes are heard, as long as they do not turn publishers
    /// in numbers.
    pub fn permit(&mut self, key: ClientKey) -> Permit {
        let Some(client) = self.clients.get_mut(key) else {
            return Permit::Parked;
        };
        let policy = &self.settings.policy;
        let reading = match &client.member {
            _ if matches!(client.phase(), Phase::Placing | Phase::Joining) => Reading::AwaitsPhase,
            None => Reading::Allowed,
            Some(_) if self.drain.has_begun() || client.leaves_at_head => Reading::AwaitsPhase,
            Some(member) => {
                let topic = &mut self.topics[member.topic];
                if !topic.is_open_to(client.publisher, policy.window_bytes) {
                    if client.reading != Reading::AwaitsTopic {
                        topic.waiting.push(key);
                    }
                    Reading::AwaitsTopic
                } else if client.publisher && !policy.may_publish(member.lag_bytes(&topic.log)) {
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
        self.on_early_frames(key, arrival.early);
        self.gauge_client(key);
        self.permit(key)
    }

    /// Drops from the list of those who wait for the client's topic whoever has left, once they may be most of it.
    fn forget_who_waited(&mut self, key: ClientKey) {
        let member = self
            .clients
            .get(key)
            .and_then(|client| client.member.as_ref());
        let Some(topic) = member.map(|member| member.topic) else {
            return;
        };
        let topic = &mut self.topics[topic];
        if topic.waiting.len() <= 2 * topic.members().len() + FEW_WAITING {
            return;
        }
        let clients = &self.clients;
        topic.waiting.retain(|&key| clients.get(key).is_some());
    }

    /// Takes in what was read from the client, in the worker's scratch buffer, which it unmasks in place.
    pub fn on_bytes(&mut self, key: ClientKey, input: &mut [u8]) {
        let Some(phase) = self.note_read(key, input.len()) else {
            return;
        };
        match phase {
            Phase::Requesting => self.on_request_bytes(key, input),
            Phase::Placing | Phase::Joining => self.keep_early(key, input),
            Phase::Open | Phase::Closing => self.on_frames(key, input),
            Phase::Finishing | Phase::Lingering => {}
        }
        self.gauge_client(key);
    }

    /// The buffer to read into instead of the scratch, when the client is in the middle of a large message. What was
    /// read is announced with [`Shard::on_direct`].
    pub fn direct_buffer(&mut self, key: ClientKey) -> Option<&mut [u8]> {
        let client = self
            .clients
            .get_mut(key)
            .filter(|client| client.phase() == Phase::Open)?;
        client.decoder.direct_buffer()?;
        // The room counts whether anything comes or not.
        self.gauge_client(key);
        self.clients.get_mut(key)?.decoder.direct_buffer()
    }

    /// Takes in the first `count` bytes of [`Shard::direct_buffer`].
    pub fn on_direct(&mut self, key: ClientKey, count: usize) {
        if self.note_read(key, count).is_none() {
            return;
        }
        match self.clients[key].decoder.decode_direct(count) {
            Ok(None) => {}
            Ok(Some(event)) => {
                // There is no more input to go on with either way.
                let _: ControlFlow<()> = self.on_event(key, event);
            }
            Err(error) => {
                let _: ControlFlow<()> = self.on_violation(key, error);
            }
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.publisher = client.has_published;
        }
        self.gauge_client(key);
    }

    fn note_read(&mut self, key: ClientKey, count: usize) -> Option<Phase> {
        let now = self.now;
        self.stats.add(Stat::BytesIn, count as u64);
        let client = self.clients.get_mut(key)?;
        client.last_read = now;
        let phase = client.phase();
        if std::mem::take(&mut client.pinged) {
            // The timer was set to the pong's deadline, and the next ping may be due before that.
            self.reschedule(key);
        }
        Some(phase)
    }

    fn keep_early(&mut self, key: ClientKey, input: &[u8]) {
        let client = &mut self.clients[key];
        if let Some(arrival) = &mut client.arrival {
            arrival.early.extend_from_slice(input);
        }
    }

    /// Frames that came with the request. They are subject to what [`Shard::permit`] says, as if they were read now, or
    /// a topic that is closed would be open to everybody who connects anew.
    pub(super) fn on_early_frames(&mut self, key: ClientKey, mut early: Vec<u8>) {
        if early.is_empty() || self.permit(key) == Permit::Read {
            return self.on_frames(key, &mut early);
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.arrival = Some(Box::new(Arrival {
                stage: Stage::Joined,
                early,
            }));
        }
    }

    /// Decodes frames and acts on each.
    pub(super) fn on_frames(&mut self, key: ClientKey, mut input: &mut [u8]) {
        let max_message_bytes = self.settings.max_message_bytes;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let mut decoder = std::mem::take(&mut client.decoder);
        loop {
            let flow = match decoder.decode(&mut input, max_message_bytes) {
                Ok(None) => ControlFlow::Break(()),
                Ok(Some(event)) => self.on_event(key, event),
                Err(error) => self.on_violation(key, error),
            };
            if flow.is_break() {
                break;
            }
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.decoder = decoder;
            client.publisher = client.has_published;
        }
    }

    fn on_event(&mut self, key: ClientKey, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Message(message) => return self.on_message(key, message),
            Event::Ping(payload) => self.on_ping(key, &ControlFrame::pong(&payload)),
            Event::Pong => {}
            Event::Close(code) => {
                self.on_close(key, code);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn on_message(&mut self, key: ClientKey, message: Message<'_>) -> ControlFlow<()> {
        if let Some(departure) = self.objection(key) {
            self.depart(key, departure);
            return ControlFlow::Break(());
        }
        self.publish(key, message);
        ControlFlow::Continue(())
    }

    /// Why a message of this client is not relayed and ends its membership, if there is a reason.
    fn objection(&mut self, key: ClientKey) -> Option<Departure> {
        let client = &mut self.clients[key];
        if client.member.is_none() || self.drain.has_begun() {
            // It is dropped in any case.
            return None;
        }
        if !client.may_publish {
            return Some(Departure::PublishDenied);
        }
        let rate = self.settings.rate.as_ref()?;
        (!rate.admits(&mut client.bucket, self.now)).then_some(Departure::Rate)
    }

    fn publish(&mut self, key: ClientKey, message: Message<'_>) {
        let author = self.own(key);
        let client = &mut self.clients[key];
        let Some(member) = client.member.as_ref().filter(|_| !self.drain.has_begun()) else {
            // Behind our Close, or behind the fence: accepted no more.
            return;
        };
        client.has_published = true;
        let was_publisher = client.publisher;
        self.stats.inc(Stat::Messages);
        let topic_key = member.topic;
        let topic = &mut self.topics[topic_key];
        if !was_publisher && !topic.is_open_to(true, self.settings.policy.window_bytes) {
            // At its worst: each in a batch of its own.
            topic.overdraft_bytes += (message.payload.as_slice().len() + OVERHEAD_BYTES) as u64;
        }
        let (topic, turn) = ((topic_key, topic), (self.id, self.turn, self.now));
        match message.payload {
            Payload::Assembled(assembled) if assembled.len() >= KEEP_BUFFER_FROM_BYTES => {
                let frame = assembled.into_frame(message.kind);
                self.publishing.push_whole(topic, turn, frame, author);
            }
            payload => {
                let message = (message.kind, payload.as_slice());
                self.publishing.push(topic, turn, message, author);
            }
        }
    }

    fn on_ping(&mut self, key: ClientKey, pong: &ControlFrame) {
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.phase() == Phase::Open)
        else {
            return;
        };
        client.queue_control(|control| control.pong(pong));
        self.outflow.make_urgent(key, &mut self.clients);
    }

    fn on_close(&mut self, key: ClientKey, code: Option<CloseCode>) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        match client.phase() {
            Phase::Open => {
                client.queue_close(ControlFrame::close_reply(code));
                self.depart(key, Departure::ByClient);
            }
            // It has our Close and has answered: nothing is on its way that a reset could destroy.
            Phase::Closing if client.has_nothing_to_send() && !client.holds_back => {
                self.remove(key);
            }
            Phase::Closing => {
                client.take(Step::QueueLast);
                self.outflow.make_urgent(key, &mut self.clients);
            }
            Phase::Requesting
            | Phase::Placing
            | Phase::Joining
            | Phase::Finishing
            | Phase::Lingering => {}
        }
    }

    fn on_violation(&mut self, key: ClientKey, error: DecodeError) -> ControlFlow<()> {
        let Some(client) = self.clients.get_mut(key) else {
            return ControlFlow::Break(());
        };
        if client.phase() == Phase::Open {
            self.fail(key, error);
        } else if client.phase() == Phase::Closing {
            // Our Close is said; an answer can no longer be made out.
            client.take(Step::QueueLast);
            self.outflow.make_urgent(key, &mut self.clients);
        }
        ControlFlow::Break(())
    }
}
