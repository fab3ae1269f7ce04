//! What clients do: connect, ask for the upgrade, send frames, fall silent.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Permit;
use super::Shard;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::decision::Decision;
use crate::port::terms::Terms;
use crate::relay::batch::{Draft, OVERHEAD_BYTES};
use crate::relay::client::{Arrival, Client, Phase, Reading, Stage, Step};
use crate::relay::departure::{Departure, refusal_stat};
use crate::ws::close::CloseCode;
use crate::ws::decode::{Event, Message, Payload};
use crate::ws::encode::ControlFrame;
use crate::ws::error::DecodeError;
use crate::ws::handshake::{Refusal, RefusalKind};

/// A message that arrived in pieces is copied behind its neighbours when it is below this size, and keeps the buffer
/// it was read into from this size on: one write of many small messages is worth more than a copy saved.
const KEEP_BUFFER_FROM_BYTES: usize = 4 << 10;

/// A list of so many clients is not worth looking through for those that have left.
const FEW_WAITING: usize = 64;

impl Shard {
    /// Takes in a connection that was just accepted.
    pub fn accept(&mut self) -> ClientKey {
        let due = self.now + self.settings.handshake_timeout;
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let slot = self.clients.insert(Client::new(generation, self.now, due));
        self.peak_clients = self.peak_clients.max(self.clients.len());
        // Slots are bounded by descriptors.
        let key = ClientKey {
            slot: slot as u32,
            generation,
        };
        self.reschedule(key);
        if self.is_draining() {
            self.refuse(key, Refusal::SHUTDOWN);
        }
        key
    }

    /// Tells a connection of which nothing was read yet why it cannot stay, and closes it in order.
    pub fn refuse_unheard(&mut self, key: ClientKey, refusal: Refusal) {
        self.refuse(key, refusal);
    }

    /// Closes such a connection without a word. One that was refused already stays until that is over.
    pub fn turn_away(&mut self, key: ClientKey, kind: RefusalKind) {
        let is_requesting = |client: &Client| client.phase() == Phase::Requesting;
        if self.client(key).is_some_and(is_requesting) {
            self.stats.inc(refusal_stat(kind));
            self.remove(key);
        }
    }

    /// The host reads a proxy's header before anything is the shard's. Until [`Shard::end_preface`] the client cannot be
    /// answered: the bytes would reach a proxy that has not said that it speaks for somebody.
    pub fn await_preface(&mut self, key: ClientKey) {
        let client = self.client_mut(key);
        if let Some(arrival) = client.and_then(|client| client.arrival.as_mut()) {
            arrival.stage = Stage::Preface;
        }
    }

    /// The proxy's header has come. What follows is the client's.
    pub fn end_preface(&mut self, key: ClientKey) {
        let client = self
            .client_mut(key)
            .filter(|client| client.awaits_preface());
        if let Some(client) = client {
            client.arrival = Some(Box::default());
        }
    }

    /// Whether the client may be read now. Asked before every read; takes in first what came with the client's request
    /// and had to wait.
    ///
    /// A publisher is not read while its topic is held or has too much on its way, nor while it lags itself. Those who
    /// only listen are read even then, so that their pongs and closes are heard, as long as they do not turn publishers
    /// in numbers.
    pub fn permit(&mut self, key: ClientKey) -> Permit {
        let Some(client) = self
            .clients
            .get_mut(key.slot as usize)
            .filter(|client| client.generation == key.generation)
        else {
            return Permit::Parked;
        };
        let policy = &self.settings.policy;
        let reading = match &client.member {
            _ if matches!(client.phase(), Phase::Placing | Phase::Joining) => Reading::AwaitsPhase,
            None => Reading::Allowed,
            Some(_) if self.drain.has_begun() || client.leaves_at_head => Reading::AwaitsPhase,
            Some(member) => {
                let topic = &mut self.topics[member.topic.0 as usize];
                if !topic.is_open_to(client.publisher, policy.window_bytes) {
                    if client.reading != Reading::AwaitsTopic {
                        topic.waiting.push(key);
                    }
                    Reading::AwaitsTopic
                } else if client.publisher
                    && !policy.may_publish(topic.log.lag_bytes(member.cursor))
                {
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
        let member = self.client(key).and_then(|client| client.member.as_ref());
        let Some(topic) = member.map(|member| member.topic) else {
            return;
        };
        let topic = &mut self.topics[topic.0 as usize];
        if topic.waiting.len() <= 2 * topic.members().len() + FEW_WAITING {
            return;
        }
        let clients = &self.clients;
        topic.waiting.retain(|key| {
            clients
                .get(key.slot as usize)
                .is_some_and(|client| client.generation == key.generation)
        });
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
            .client_mut(key)
            .filter(|client| client.phase() == Phase::Open)?;
        client.decoder.direct_buffer()?;
        // The room counts whether anything comes or not.
        self.gauge_client(key);
        self.client_mut(key)?.decoder.direct_buffer()
    }

    /// Takes in the first `count` bytes of [`Shard::direct_buffer`].
    pub fn on_direct(&mut self, key: ClientKey, count: usize) {
        if self.note_read(key, count).is_none() {
            return;
        }
        match self.clients[key.slot as usize].decoder.decode_direct(count) {
            Ok(None) => {}
            Ok(Some(event)) => {
                // There is no more input to go on with either way.
                let _: ControlFlow<()> = self.on_event(key, event);
            }
            Err(error) => {
                let _: ControlFlow<()> = self.on_violation(key, error);
            }
        }
        if let Some(client) = self.client_mut(key) {
            client.publisher = client.has_published;
        }
        self.gauge_client(key);
    }

    fn note_read(&mut self, key: ClientKey, count: usize) -> Option<Phase> {
        let now = self.now;
        self.stats.add(Stat::BytesIn, count as u64);
        let client = self.client_mut(key)?;
        client.last_read = now;
        let phase = client.phase();
        if std::mem::take(&mut client.pinged) {
            // The timer was set to the pong's deadline, and the next ping may be due before that.
            self.reschedule(key);
        }
        Some(phase)
    }

    fn keep_early(&mut self, key: ClientKey, input: &[u8]) {
        let client = &mut self.clients[key.slot as usize];
        if let Some(arrival) = &mut client.arrival {
            arrival.early.extend_from_slice(input);
        }
    }

    fn on_request_bytes(&mut self, key: ClientKey, input: &mut [u8]) {
        let arrival = self.clients[key.slot as usize].arrival.as_mut();
        let Some(Stage::Head { scanner, head }) = arrival.map(|arrival| &mut arrival.stage) else {
            return;
        };
        let end = match scanner.push(input, self.settings.max_header_bytes) {
            Ok(end) => end,
            Err(error) => return self.refuse(key, Refusal::from(error)),
        };
        let Some(end) = end else {
            head.extend_from_slice(input);
            return;
        };
        let (last, rest) = input.split_at_mut(end);
        let decision = if head.is_empty() {
            self.settings.port.decide(last)
        } else {
            head.extend_from_slice(last);
            self.settings.port.decide(&std::mem::take(head))
        };
        match decision {
            // Frames may come in the same packet as the request: they need not wait for the 101.
            Ok(Decision::Upgrade(terms)) => self.grant(key, terms, rest.to_vec()),
            Err(refusal) => self.refuse(key, refusal),
        }
    }

    /// The request is granted: the client joins from here, or the host is asked where it is to live.
    fn grant(&mut self, key: ClientKey, terms: Terms, early: Vec<u8>) {
        let is_owned_here = self.router.owner(&terms.topic) == self.id;
        self.clients[key.slot as usize].grant(terms, early);
        if is_owned_here {
            self.join(key);
        } else {
            self.undecided.push(key);
        }
    }

    /// Frames that came with the request. They are subject to what [`Shard::permit`] says, as if they were read now, or
    /// a topic that is closed would be open to everybody who connects anew.
    pub(super) fn on_early_frames(&mut self, key: ClientKey, mut early: Vec<u8>) {
        if early.is_empty() || self.permit(key) == Permit::Read {
            return self.on_frames(key, &mut early);
        }
        if let Some(client) = self.client_mut(key) {
            client.arrival = Some(Box::new(Arrival {
                stage: Stage::Joined,
                early,
            }));
        }
    }

    /// Answers a request that is not granted, and closes the connection in order. Without a word, where a proxy's header is
    /// still awaited.
    pub(super) fn refuse(&mut self, key: ClientKey, refusal: Refusal) {
        let due = self.now + super::lifecycle::LINGER;
        let Some(client) = self
            .client_mut(key)
            .filter(|client| client.phase() == Phase::Requesting)
        else {
            return;
        };
        if client.awaits_preface() {
            return self.turn_away(key, refusal.kind);
        }
        client.arrival = None;
        client.take(Step::QueueLast);
        client.due = due;
        client.carry_plain(Bytes::from(refusal.encode()));
        self.stats.inc(refusal_stat(refusal.kind));
        tracing::debug!(shard = self.id.0, client = key.slot, kind = ?refusal.kind, "an upgrade is refused");
        self.make_urgent(key);
        self.gauge_client(key);
        self.reschedule(key);
    }

    /// Decodes frames and acts on each.
    pub(super) fn on_frames(&mut self, key: ClientKey, mut input: &mut [u8]) {
        let max_message_bytes = self.settings.max_message_bytes;
        let Some(client) = self.client_mut(key) else {
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
        if let Some(client) = self.client_mut(key) {
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
        let client = &mut self.clients[key.slot as usize];
        if client.member.is_none() || self.drain.has_begun() {
            // It is dropped in any case.
            return None;
        }
        if !client.may_publish {
            return Some(Departure::PublishDenied);
        }
        let rate = self.settings.rate.as_ref()?;
        (!rate.admits(&mut client.bucket, self.now, self.excuse)).then_some(Departure::Rate)
    }

    fn publish(&mut self, key: ClientKey, message: Message<'_>) {
        let origin = self.own(key);
        let client = &mut self.clients[key.slot as usize];
        let Some(member) = client.member.as_ref().filter(|_| !self.drain.has_begun()) else {
            // Behind our Close, or behind the fence: accepted no more.
            return;
        };
        client.has_published = true;
        let was_publisher = client.publisher;
        self.stats.inc(Stat::Messages);
        let topic_key = member.topic;
        let topic = &mut self.topics[topic_key.0 as usize];
        if !was_publisher && !topic.is_open_to(true, self.settings.policy.window_bytes) {
            // At its worst: each in a batch of its own.
            topic.overdraft_bytes += (message.payload.as_slice().len() + OVERHEAD_BYTES) as u64;
        }
        let (kind, payload) = match message.payload {
            Payload::Assembled(assembled) if assembled.len() >= KEEP_BUFFER_FROM_BYTES => {
                let frame = assembled.into_frame(message.kind);
                topic.in_flight_bytes += frame.len() as u64;
                topic.set_open_draft(self.turn, None);
                let draft = Draft::whole(self.id, self.now, frame, origin);
                return self.outgoing.push((topic_key, draft));
            }
            payload => (message.kind, payload),
        };
        let index = topic.open_draft(self.turn).unwrap_or_else(|| {
            self.outgoing
                .push((topic_key, Draft::new(self.id, self.now)));
            self.outgoing.len() as u32 - 1
        });
        topic.set_open_draft(self.turn, Some(index));
        let pushed = self.outgoing[index as usize]
            .1
            .push(kind, payload.as_slice(), origin);
        topic.in_flight_bytes += pushed as u64;
    }

    fn on_ping(&mut self, key: ClientKey, pong: &ControlFrame) {
        let Some(client) = self
            .client_mut(key)
            .filter(|client| client.phase() == Phase::Open)
        else {
            return;
        };
        client.queue_control(|control| control.pong(pong));
        self.make_urgent(key);
    }

    fn on_close(&mut self, key: ClientKey, code: Option<CloseCode>) {
        let Some(client) = self.client_mut(key) else {
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
                self.make_urgent(key);
            }
            Phase::Requesting
            | Phase::Placing
            | Phase::Joining
            | Phase::Finishing
            | Phase::Lingering => {}
        }
    }

    fn on_violation(&mut self, key: ClientKey, error: DecodeError) -> ControlFlow<()> {
        let Some(client) = self.client_mut(key) else {
            return ControlFlow::Break(());
        };
        if client.phase() == Phase::Open {
            self.fail(key, error);
        } else if client.phase() == Phase::Closing {
            // Our Close is said; an answer can no longer be made out.
            client.take(Step::QueueLast);
            self.make_urgent(key);
        }
        ControlFlow::Break(())
    }
}
