//! The bytes that clients send, and their meaning.
//!
//! The host reads a client that [`Shard::permit`] allows and hands the bytes in. Requests go to [`arriving`](super::arriving);
//! frames are decoded here. Messages are collected in [`publishing`](super::publishing) until the turn decides, and nothing is
//! written in reaction. A client that breaks a rule departs.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Shard;
use super::arrival::{Arrival, Stage, Undecoded};
use super::client::Client;
use super::control::PendingControl;
use super::phase::{Phase, Step};
use super::publishing::Route;
use super::ready::Permit;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::words;
use crate::relay::batch::draft::OVERHEAD_BYTES;
use crate::relay::policy::departure::Departure;
use crate::ws::close::CloseCode;
use crate::ws::decode::{Event, Message, Payload};
use crate::ws::encode::ControlFrame;
use crate::ws::error::DecodeError;

/// A message that arrived in pieces keeps the buffer it was read into from this size on. Below, it is copied behind its
/// neighbours: one write of many small messages is worth more than a copy saved.
pub(super) const KEEP_BUFFER_FROM_BYTES: usize = 4 << 10;

impl Shard {
    /// Takes in bytes of the client from the worker's scratch buffer, and unmasks them in place.
    pub fn on_bytes(&mut self, key: ClientKey, input: &mut [u8]) {
        let Some(phase) = self.note_read(key, input.len()) else {
            return;
        };
        match phase {
            Phase::Requesting => self.on_request_bytes(key, input),
            Phase::Exchanging => self.on_exchange_bytes(key, input),
            Phase::Placing | Phase::Joining | Phase::Open if self.clients[key].is_stream() => {
                self.on_surplus(key);
            }
            Phase::Placing | Phase::Joining => self.keep_early(key, input),
            Phase::Open | Phase::Closing => {
                let left = self.on_frames(key, input);
                if left > 0 {
                    let rest = input[input.len() - left..].to_vec();
                    self.keep_undecoded(key, Undecoded::new(rest));
                }
            }
            Phase::Finishing | Phase::Lingering => {}
        }
        self.gauge_client(key);
    }

    /// The buffer to read into instead of the scratch buffer, while the client is in the middle of a large message. The host
    /// reports the read with [`Shard::on_direct`].
    pub fn direct_buffer(&mut self, key: ClientKey) -> Option<&mut [u8]> {
        let client = self
            .clients
            .get_mut(key)
            .filter(|client| client.phase() == Phase::Open)?;
        client.decoder.direct_buffer()?;
        // The buffer counts as soon as it is there, whether anything comes or not.
        self.gauge_client(key);
        self.clients.get_mut(key)?.decoder.direct_buffer()
    }

    /// Takes in the first `count` bytes of [`Shard::direct_buffer`].
    pub fn on_direct(&mut self, key: ClientKey, count: usize) {
        if self.note_read(key, count).is_none() {
            return;
        }
        let mut event = self.clients[key].decoder.decode_direct(count);
        loop {
            let flow = match event {
                Ok(None) => break,
                Ok(Some(event)) => self.on_event(key, event),
                Err(error) => self.on_violation(key, error),
            };
            // Nothing follows here, but perhaps the message itself.
            let plain = self.inflation.take_plain().filter(|_| flow.is_break());
            event = Ok(plain.map(|(kind, payload)| {
                let payload = Payload::Assembled(payload);
                Event::Message(Message { kind, payload })
            }));
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
        let phase = client.phase();
        if client.note_alive(now) {
            // The timer was set to the pong's deadline, and the next ping may be due before that.
            self.reschedule(key);
        }
        Some(phase)
    }

    fn keep_early(&mut self, key: ClientKey, input: &[u8]) {
        let client = &mut self.clients[key];
        if let Some(arrival) = &mut client.arrival {
            arrival.early.extend(input);
        }
    }

    /// Takes in a part of the frames that came with the request, or of a read of many frames, if [`Shard::permit`] allows it.
    /// Otherwise they wait: a closed topic must not be open to clients that connect anew.
    pub(super) fn on_undecoded(&mut self, key: ClientKey, mut undecoded: Undecoded) {
        if undecoded.is_empty() || self.permit(key) == Permit::Read {
            let left = self.on_frames(key, undecoded.rest());
            if left == 0 {
                return;
            }
            undecoded.keep_last(left);
        }
        self.keep_undecoded(key, undecoded);
    }

    /// Decodes everything that was read of a member, whether it may be read now or not. It is one read at most. Compressed
    /// messages may be much longer than that, so they end where the topic has as many bytes on their way as it may have.
    pub(in crate::relay) fn hear_out(&mut self, key: ClientKey) {
        while self.has_undecoded(key) && !self.has_inflated_enough(key) {
            let Some(arrival) = self.clients[key].arrival.take() else {
                return;
            };
            let mut undecoded = arrival.early;
            let left = self.on_frames(key, undecoded.rest());
            if left > 0 {
                undecoded.keep_last(left);
                self.keep_undecoded(key, undecoded);
            }
        }
        self.gauge_client(key);
    }

    fn keep_undecoded(&mut self, key: ClientKey, early: Undecoded) {
        if let Some(client) = self.clients.get_mut(key) {
            client.arrival = Some(Box::new(Arrival::at(Stage::Joined, early)));
        }
    }

    /// Decodes frames and acts on each, up to the number of a step. Says how many bytes at the end are left.
    fn on_frames(&mut self, key: ClientKey, mut input: &mut [u8]) -> usize {
        let Some(client) = self.clients.get(key) else {
            return 0;
        };
        let max_message_bytes = self.max_message_bytes(client);
        let client = &mut self.clients[key];
        debug_assert!(
            client.arrival.is_none(),
            "frames are decoded in their order"
        );
        let mut decoder = std::mem::take(&mut client.decoder);
        let mut frames_left = self.step_frames;
        let left = loop {
            let flow = match decoder.decode(&mut input, max_message_bytes) {
                Ok(None) => ControlFlow::Break(()),
                Ok(Some(event)) => self.on_event(key, event),
                Err(_) if decoder.is_in_deflated() => continue,
                Err(error) => self.on_violation(key, error),
            };
            if flow.is_break() {
                let Some((kind, payload)) = self.inflation.take_plain() else {
                    break 0;
                };
                decoder.put_back(kind, payload);
                // One frame is left in any case, for the message itself.
                let cost_frames = self.inflation.take_cost_frames();
                frames_left = frames_left.saturating_sub(cost_frames).max(1);
                continue;
            }
            frames_left -= 1;
            if frames_left == 0 {
                break input.len();
            }
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.decoder = decoder;
            client.publisher = client.has_published;
        }
        left
    }

    /// The longest message that the client may send.
    pub(super) fn max_message_bytes(&self, client: &Client) -> usize {
        match (client.topic(), client.source()) {
            (Some(topic), _) => self.topics[topic].conduct.max_message_bytes,
            (None, Some(topic)) => self.settings.port.topics().of(topic).max_message_bytes,
            (None, None) => self.settings.conducts.general().max_message_bytes,
        }
    }

    fn on_event(&mut self, key: ClientKey, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Message(message) => return self.on_message(key, message),
            Event::Deflated(message) => return self.on_deflated(key, &message),
            Event::Ping(payload) => {
                self.count_control(key)?;
                self.on_ping(key, &ControlFrame::pong(&payload));
            }
            Event::Pong | Event::Fragment { is_empty: true } => return self.count_control(key),
            Event::Fragment { is_empty: false } => {}
            Event::Close(code) => {
                self.on_close(key, code);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn on_message(&mut self, key: ClientKey, message: Message<'_>) -> ControlFlow<()> {
        if words::is_reserved(message.kind, message.payload.as_slice()) && self.reserves_texts(key)
        {
            return self.on_reserved(key, message.payload.as_slice());
        }
        if let Some(departure) = self.objection(key) {
            self.depart(key, departure);
            return ControlFlow::Break(());
        }
        self.publish(key, message);
        ControlFlow::Continue(())
    }

    /// Whether nobody may send the client's topic a text that begins like the relay's own words.
    fn reserves_texts(&self, key: ClientKey) -> bool {
        let client = &self.clients[key];
        match (client.topic(), client.source()) {
            (Some(topic), _) => self.topics[topic].conduct.keeps_history(),
            (None, Some(topic)) => self.settings.port.topics().reserves_texts(topic),
            (None, None) => false,
        }
    }

    /// A text that begins like the relay's own words. It is a question of a client that understands the answer, or it would
    /// speak in the relay's name.
    fn on_reserved(&mut self, key: ClientKey, payload: &[u8]) -> ControlFlow<()> {
        let client = &mut self.clients[key];
        if !client.has_outlet() {
            return ControlFlow::Continue(());
        }
        if !client.has_words() || payload != words::PROBE {
            self.depart(key, Departure::ReservedText);
            return ControlFlow::Break(());
        }
        client.queue_control(PendingControl::probe);
        self.outflow.make_urgent(key, &mut self.clients);
        ControlFlow::Continue(())
    }

    /// The reason why a message of this client ends its membership, if there is one.
    fn objection(&mut self, key: ClientKey) -> Option<Departure> {
        let client = &mut self.clients[key];
        if !client.has_outlet() || !self.drain.takes_messages() {
            // The message is dropped in any case.
            return None;
        }
        if !client.may_publish {
            return Some(Departure::PublishDenied);
        }
        let rates = &self.settings.rates;
        (!rates.admit_message(&mut client.buckets, self.now)).then_some(Departure::Rate)
    }

    /// Counts a control frame, or a frame that brings nothing. A client that sends too many departs. Frames behind our Close do
    /// not count.
    fn count_control(&mut self, key: ClientKey) -> ControlFlow<()> {
        let client = &mut self.clients[key];
        let rates = &self.settings.rates;
        if !client.has_outlet() || rates.admit_control(&mut client.buckets, self.now) {
            return ControlFlow::Continue(());
        }
        self.depart(key, Departure::ControlRate);
        ControlFlow::Break(())
    }

    fn publish(&mut self, key: ClientKey, message: Message<'_>) {
        let author = self.own(key);
        let client = &mut self.clients[key];
        let Some(topic_key) = client.topic().filter(|_| self.drain.takes_messages()) else {
            // It comes behind our Close, behind the fence, or with the request of a client that joins behind the fence. Or its
            // client only publishes.
            return self.publish_as_source(key, message);
        };
        client.has_published = true;
        let has_to_wait = client.has_to_wait();
        self.stats.inc(Stat::Messages);
        let topic = &mut self.topics[topic_key];
        let author = author.filter(|_| !topic.conduct.echo);
        if !has_to_wait && !topic.is_open_to(true) {
            // The most that the message can cost: it is alone in its batch.
            topic.overdraft_bytes += (message.payload.as_slice().len() + OVERHEAD_BYTES) as u64;
        }
        let route = Route {
            key: topic_key,
            topic,
            author,
            now: self.now,
        };
        match message.payload {
            Payload::Assembled(assembled) if assembled.len() >= KEEP_BUFFER_FROM_BYTES => {
                let frame = assembled.into_frame(message.kind);
                self.publishing.push_whole(route, frame);
            }
            payload => {
                self.publishing
                    .push(route, message.kind, payload.as_slice());
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
                let reply = ControlFrame::close_reply(code);
                client.queue_end(Bytes::copy_from_slice(reply.as_slice()));
                self.depart(key, Departure::ByClient);
            }
            // It has our Close and has answered. Nothing is on its way that a reset could destroy.
            Phase::Closing if client.has_sent_everything() => {
                self.remove(key);
            }
            Phase::Closing => {
                client.take(Step::QueueLast);
                self.outflow.make_urgent(key, &mut self.clients);
            }
            Phase::Requesting
            | Phase::Exchanging
            | Phase::Placing
            | Phase::Joining
            | Phase::Finishing
            | Phase::Lingering => {}
        }
    }

    pub(super) fn on_violation(&mut self, key: ClientKey, error: DecodeError) -> ControlFlow<()> {
        let Some(client) = self.clients.get_mut(key) else {
            return ControlFlow::Break(());
        };
        if client.phase() == Phase::Open {
            self.fail(key, error);
        } else if client.phase() == Phase::Closing {
            // Our Close is sent or queued, and the client's answer can no longer be read.
            client.take(Step::QueueLast);
            self.outflow.make_urgent(key, &mut self.clients);
        }
        ControlFlow::Break(())
    }
}
