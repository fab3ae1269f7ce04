//! Arriving clients: the connection, its request, and the shard where the client will live.
//!
//! A request that is no upgrade goes to [`exchanging`](super::exchanging), and the connection comes back with the next one.
//!
//! The acceptor places a connection before its request is known. When the request is granted, the owner of the topic may be the
//! better place: messages from there need no other shard.
//!
//! So a client can move, with its socket. It moves before it has joined, and the new shard treats it as just connected.
//!
//! The shard does not decide where a client lives. It asks the host with [`Shard::poll_undecided`]; the host lets the client
//! stay or takes it out. Clients that are still undecided when the turn decides stay.

use std::time::Duration;

use bytes::Bytes;

use super::Shard;
use super::arrival::{Arrival, Stage};
use super::client::Client;
use super::phase::Phase;
use crate::ids::{ClientKey, ShardId};
use crate::metrics::stats::Stat;
use crate::port::cors::Cors;
use crate::port::decision::Decision;
use crate::port::events;
use crate::port::for_now::ForNow;
use crate::port::page;
use crate::port::position::Start;
use crate::port::subject::Origin;
use crate::port::terms::{Form, Terms};
use crate::port::topic_name::TopicName;
use crate::relay::envelope::Envelope;
use crate::relay::policy::departure::refusal_stat;
use crate::relay::topic::TopicKey;
use crate::ws::handshake::{Refusal, RefusalKind};

/// A client on its way from one shard to another.
#[derive(Debug)]
pub struct Transfer {
    /// The terms that it negotiated.
    terms: Terms,
    /// Frames that came behind its request.
    early: Vec<u8>,
}

/// A client whose shard the host has not chosen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The client.
    pub key: ClientKey,
    /// The shard that owns its topic. It is not the present one.
    pub owner: ShardId,
}

/// The longest wait for the rest of a request that is refused for now. Clients send it at once.
const REST_OF_HEAD: Duration = Duration::from_secs(1);

/// The frames behind a request. The bytes behind the request for an event stream mean nothing.
fn early_frames(terms: &Terms, rest: &[u8]) -> Vec<u8> {
    match terms.form {
        Form::Frames | Form::Deflated => rest.to_vec(),
        Form::Events => Vec::new(),
    }
}

impl Transfer {
    /// Bytes of the client that are not decoded yet.
    pub fn weight_bytes(&self) -> usize {
        self.early.len()
    }
}

impl Shard {
    /// Takes in a connection that was just accepted.
    pub fn accept(&mut self) -> ClientKey {
        self.accept_with(Stage::default())
    }

    /// Takes in a connection whose first bytes are a proxy's header. The host reads that and then calls
    /// [`Shard::end_preface`]. Until then the client is not answered: a peer that has not sent the header may not be a proxy.
    pub(crate) fn accept_with_preface(&mut self) -> ClientKey {
        self.accept_with(Stage::Preface)
    }

    fn accept_with(&mut self, stage: Stage) -> ClientKey {
        let key = self.insert(stage);
        if self.drain.is_announced() {
            self.refuse(key, Refusal::SHUTDOWN);
        }
        key
    }

    fn insert(&mut self, stage: Stage) -> ClientKey {
        let due = self.now + self.settings.handshake_timeout;
        let key = self.clients.insert(self.now, due);
        let client = &mut self.clients[key];
        if let Some(arrival) = &mut client.arrival {
            arrival.stage = stage;
        }
        // So a crowd with tokens does not keep the others waiting.
        client.is_heavy = self.settings.port.is_costly();
        self.reschedule(key);
        key
    }

    /// Closes a connection without an answer whose request is not granted. A connection that was already refused stays until its
    /// end.
    pub(crate) fn turn_away(&mut self, key: ClientKey, kind: RefusalKind) {
        let is_requesting = |client: &Client| client.phase() == Phase::Requesting;
        if self.clients.get(key).is_some_and(is_requesting) {
            self.stats.inc(refusal_stat(kind));
            self.remove(key);
        }
    }

    /// The proxy's header has come. The bytes behind it are the client's.
    pub(crate) fn end_preface(&mut self, key: ClientKey) {
        let client = self
            .clients
            .get_mut(key)
            .filter(|client| client.awaits_preface());
        if let Some(client) = client {
            client.arrival = Some(Box::default());
        }
    }

    /// The connection comes from here. Requests that publish are counted by it.
    pub(crate) fn note_origin(&mut self, key: ClientKey, origin: Origin) {
        let client = self.clients.get_mut(key);
        if let Some(arrival) = client.and_then(|client| client.arrival.as_mut()) {
            arrival.origin = origin;
        }
    }

    /// Takes in a part of the request. Decides on it when its head is complete.
    pub(super) fn on_request_bytes(&mut self, key: ClientKey, mut input: &[u8]) {
        let (now, date) = (self.now, self.date());
        let client = &mut self.clients[key];
        let Some(arrival) = &mut client.arrival else {
            return;
        };
        let is_next = arrival.is_idle();
        let is_too_late = is_next && self.drain.is_announced();
        if is_too_late {
            arrival.refusal = Some(Refusal::SHUTDOWN);
        }
        let (peer, refusal) = (arrival.peer, arrival.refusal);
        let Stage::Head(reader) = &mut arrival.stage else {
            // The host has not looked at the request yet.
            arrival.early.extend(input);
            return;
        };
        if is_next {
            // The time for a request begins with its first byte.
            let most = self.settings.handshake_timeout;
            client.due = now
                + if is_too_late {
                    REST_OF_HEAD.min(most)
                } else {
                    most
                };
        }
        let head = match reader.head(&mut input, self.settings.max_header_bytes) {
            Ok(Some(head)) => head,
            Ok(None) => {
                if is_next {
                    self.reschedule(key);
                }
                return;
            }
            Err(error) => return self.refuse_now(key, Refusal::from(error)),
        };
        if let Some(refusal) = refusal {
            return self.answer_refused_request(key, &head, refusal);
        }
        match self.settings.port.decide(&head, peer, date) {
            // Frames may come in the same packet as the request: a client need not wait for the 101.
            Ok(Decision::Join(terms, None)) => {
                let early = early_frames(&terms, input);
                self.grant(key, terms, early);
            }
            Ok(Decision::Join(terms, Some(forwarded))) => {
                let early = early_frames(&terms, input);
                self.await_seat(key, terms, forwarded, early);
            }
            Ok(Decision::Probe(body)) => self.note_probe(key, body),
            Ok(Decision::Page) => {
                let page = page::answer(self.date());
                self.stats.inc(Stat::Pages);
                // It is far longer than a refusal, so it counts as memory.
                self.clients[key].carry_answer(page);
                self.end_with(key, None);
            }
            Ok(Decision::Publish(post, forwarded)) => {
                self.note_misnaming(key, forwarded);
                self.on_post(key, post, input);
            }
            Ok(Decision::Describe(describe)) => self.on_describe(key, *describe, input),
            Ok(Decision::Answer(reply, manner)) => self.on_answerable(key, &reply, manner, input),
            Ok(Decision::Decline(decline)) => self.decline(key, decline),
            Err(refusal) => {
                debug_assert!(
                    !refusal.is_temporary(),
                    "an event stream would end for good"
                );
                self.count_refusal(key, refusal);
                self.answer_refused(key, refusal, None);
            }
        }
        if is_next {
            self.reschedule(key);
        }
    }

    /// Grants the request. If this shard owns the topic, the client joins; otherwise the host is asked for its place.
    pub(super) fn grant(&mut self, key: ClientKey, terms: Terms, early: Vec<u8>) {
        let is_owned_here = self.router.owner(&terms.topic) == self.id;
        self.draw_end(key, terms.expires_at);
        self.subjects.set(key, terms.subject.as_deref());
        self.clients[key].grant(terms, early);
        if is_owned_here {
            self.stay(key);
        } else {
            self.undecided.push(key);
        }
    }

    /// Refuses a client, whether its request has come or not, and closes the connection in order. While a proxy's header is
    /// awaited, it closes without an answer. The first refusal counts.
    ///
    /// If the client may be granted the same later, its request is awaited for a short time: it is answered and counted as what
    /// it is.
    pub fn refuse(&mut self, key: ClientKey, refusal: Refusal) {
        let now = self.now;
        let Some(client) = self
            .clients
            .get_mut(key)
            .filter(|client| client.phase() == Phase::Requesting && client.refusal().is_none())
        else {
            return;
        };
        if client.awaits_preface() {
            return self.turn_away(key, refusal.kind);
        }
        let Some(arrival) = &mut client.arrival else {
            return self.refuse_now(key, refusal);
        };
        let cors = match &arrival.stage {
            Stage::Head(_) if refusal.is_temporary() => {
                arrival.refusal = Some(refusal);
                client.due = client.due.min(now + REST_OF_HEAD);
                return self.reschedule(key);
            }
            Stage::AwaitsSeat(terms, _) => terms.answer.cors().cloned(),
            Stage::Preface
            | Stage::Head(_)
            | Stage::Exchange(_)
            | Stage::Probe(_)
            | Stage::Granted(_)
            | Stage::Joining(..)
            | Stage::Joined => None,
        };
        self.count_refusal(key, refusal);
        self.answer_refused(key, refusal, cors.as_ref());
    }

    /// The head has come of a request that is refused for now.
    fn answer_refused_request(&mut self, key: ClientKey, head: &[u8], refusal: Refusal) {
        let cors = match self.settings.port.refuse_for_now(head, refusal) {
            Some(ForNow::Decline(decline)) => return self.decline(key, decline),
            Some(ForNow::Stream(cors)) => Some(cors),
            None => None,
        };
        self.count_refusal(key, refusal);
        self.answer_refused(key, refusal, cors.as_ref());
    }

    /// Refuses a client at once, whatever it asks for. A refusal that waited for the rest of its request counts instead.
    pub(crate) fn refuse_now(&mut self, key: ClientKey, refusal: Refusal) {
        let waiting = self.clients.get(key).and_then(Client::refusal);
        let refusal = waiting.unwrap_or(refusal);
        self.count_refusal(key, refusal);
        self.answer_refused(key, refusal, None);
    }

    pub(super) fn count_refusal(&mut self, key: ClientKey, refusal: Refusal) {
        self.stats.inc(refusal_stat(refusal.kind));
        tracing::debug!(shard = self.id.0, client = key.slot, kind = ?refusal.kind, "a request is refused");
    }

    /// Answers a client that is refused. If it asks for an event stream that it may get later, `cors` says which pages may read
    /// the answer.
    pub(super) fn answer_refused(&mut self, key: ClientKey, refusal: Refusal, cors: Option<&Cors>) {
        let answer = match cors {
            Some(cors) if refusal.is_temporary() => {
                let pause_ms = self.draw_pause_ms();
                events::refusal(&refusal, cors, pause_ms, self.date())
            }
            Some(_) | None => Bytes::from(refusal.encode(self.date())),
        };
        self.end_with(key, Some(answer));
    }

    /// The number of undecided clients. It includes some that are gone.
    pub(in crate::relay) fn undecided_len(&self) -> usize {
        self.undecided.len()
    }

    /// The next client that may stay or move. The host answers with [`Shard::stay`] or [`Shard::transfer_out`] before it asks
    /// for the next.
    pub(in crate::relay) fn poll_undecided(&mut self) -> Option<Undecided> {
        while let Some(key) = self.undecided.pop() {
            if let Some(terms) = self.clients.get(key).and_then(Client::undecided_terms) {
                return Some(Undecided {
                    key,
                    owner: self.router.owner(&terms.topic),
                });
            }
        }
        None
    }

    /// Lets an undecided client join from here.
    pub(in crate::relay) fn stay(&mut self, key: ClientKey) {
        if !self.open_source(key) {
            self.join(key);
        }
        self.hear_itself();
    }

    /// Lets all undecided clients stay. A draining shard has no undecided clients. So any shard that
    /// has its fence has also been sent the last client that it hands over.
    pub(super) fn decide_undecided(&mut self) {
        while let Some(undecided) = self.poll_undecided() {
            self.stay(undecided.key);
        }
    }

    /// Takes an undecided client out: the shard forgets it. The host sends it to another shard, with its socket, and not
    /// behind this shard's fence.
    pub(in crate::relay) fn transfer_out(&mut self, key: ClientKey) -> Option<Transfer> {
        self.clients.get(key)?.undecided_terms()?;
        let client = self.clients.remove(key)?;
        self.memory.forget_client(key, &client, &mut self.stats);
        self.stats.inc(Stat::Transferred);
        let Arrival { stage, early, .. } = *client.arrival?;
        match stage {
            Stage::Granted(terms) => Some(Transfer {
                terms,
                early: early.into_bytes(),
            }),
            Stage::Preface
            | Stage::Head(_)
            | Stage::Exchange(_)
            | Stage::Probe(_)
            | Stage::AwaitsSeat(..)
            | Stage::Joining(..)
            | Stage::Joined => None,
        }
    }

    /// Takes in a client from another shard. It joins from here, even if this shard does not own its topic: no client moves
    /// twice.
    pub fn transfer_in(&mut self, transfer: Transfer) -> ClientKey {
        let key = self.insert(Stage::default());
        if self.drain.is_announced() {
            self.count_refusal(key, Refusal::SHUTDOWN);
            self.answer_refused(key, Refusal::SHUTDOWN, transfer.terms.answer.cors());
            return key;
        }
        self.draw_end(key, transfer.terms.expires_at);
        self.subjects.set(key, transfer.terms.subject.as_deref());
        self.clients[key].grant(transfer.terms, transfer.early);
        self.stay(key);
        // If another shard owns the topic, the early frames wait for its answer.
        self.gauge_client(key);
        key
    }

    /// Asks the topic's owner to confirm a client whose request is granted. The 101 is sent when the answer comes.
    fn join(&mut self, client: ClientKey) {
        let Some(terms) = self.clients.get(client).and_then(Client::undecided_terms) else {
            return;
        };
        let (name, form) = (terms.topic.clone(), terms.form);
        let start = (terms.start != Start::Now).then(|| Box::new(terms.start));
        let key = self.topic_named(&name);
        let topic = &mut self.topics[key];
        topic.audience.enter(form);
        let (owner, audience) = (topic.owner, topic.tell_audience());
        self.clients[client].place(key);
        let subscribe = Envelope::Subscribe {
            topic: name,
            from: self.id,
            client,
            audience,
            form,
            start,
        };
        self.outbox.send(owner, subscribe);
    }

    fn topic_named(&mut self, name: &TopicName) -> TopicKey {
        if let Some(key) = self.topics.find(name) {
            return key;
        }
        self.stats.inc(Stat::Topics);
        let conduct = **self.settings.conducts.general();
        self.topics.insert(name, self.router.owner(name), conduct)
    }
}
