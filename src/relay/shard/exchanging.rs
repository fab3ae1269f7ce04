//! Requests that are no upgrades: their bodies, their answers, and the next request on the same connection.
//!
//! [`arriving`](super::arriving) decides on a head and hands the request over. One request is served at a time: the next one is
//! read when the answer to this one has left, so answers are in order.
//!
//! Bytes of the next request may have come with this one; they wait in the [`Arrival`](super::arrival::Arrival). An upgrade may
//! follow as well, and frames behind it.
//!
//! Nothing is written here. An answer goes out in the turn's write to the client.

use std::time::Duration;

use bytes::Bytes;

use super::Shard;
use super::arrival::Stage;
use super::client::{Client, Reading};
use super::exchange::{Exchange, Parts, Progress, Sender};
use super::offering::parts_mut;
use super::phase::{Phase, Step};
use super::ready::Permit;
use crate::http::reader::Reader;
use crate::http::response::{CONTINUE, Connection};
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::decision::Decline;
use crate::port::describe::{Describe, described};
use crate::port::post::Post;
use crate::port::reply::{Fault, Manner, Reply};
use crate::port::subject::Subject;
use crate::relay::batch::draft::Source;
use crate::relay::envelope::Envelope;
use crate::relay::policy::answers::post_stat;
use crate::relay::policy::departure::{Departure, refusal_stat};
use crate::relay::policy::senders::Excess;
use crate::relay::posting::{Described, Question};
use crate::time::Timestamp;

/// A connection that waits for its next request is closed after this time. It is longer than the time after which balancers and
/// proxies close a connection that they keep (60 s for most), so that they do not send a request into a closed one.
pub(super) const IDLE: Duration = Duration::from_secs(75);

/// A part that may not be offered waits for this long.
const WAIT: Duration = Duration::from_secs(10);

/// Lines of a body that are read in a step. It takes less than half a millisecond, as reading frames does.
const LINES_PER_STEP: usize = 256;

impl Shard {
    /// The request is no upgrade. `rest` came behind its head.
    fn begin_exchange(&mut self, key: ClientKey, manner: Manner, progress: Progress, rest: &[u8]) {
        let client = &mut self.clients[key];
        client.take(Step::Exchange);
        if let Some(arrival) = &mut client.arrival {
            arrival.stage = Stage::Exchange(Box::new(Exchange { manner, progress }));
            arrival.early.extend(rest);
        }
    }

    /// The client publishes. Its body follows.
    pub(super) fn on_post(&mut self, key: ClientKey, post: Box<Post>, rest: &[u8]) {
        let manner = post.manner.clone();
        let mut reader = Reader::default();
        let topics = self.settings.port.topics();
        let rule = post.topic.as_deref().map(|topic| topics.of(topic));
        // A body for many topics has the general limit, and each of its messages that of its topic.
        let max_bytes = rule.unwrap_or(topics.general()).max_message_bytes;
        if let Err(error) = reader.expect_body(post.framing, max_bytes) {
            let decline = Decline {
                fault: error.into(),
                kind: None,
                manner: manner.closing(),
            };
            return self.decline(key, decline);
        }
        // A client that has not waited needs no permission.
        let awaits_continue = post.awaits_continue && rest.is_empty() && !post.framing.is_empty();
        self.begin_exchange(key, manner, Progress::Body(reader, post), &[]);
        if awaits_continue {
            self.clients[key].carry_plain(Bytes::from_static(CONTINUE));
            self.outflow.make_urgent(key, &mut self.clients);
        }
        self.on_exchange_bytes(key, rest);
    }

    /// The client asks about a topic.
    pub(super) fn on_describe(&mut self, key: ClientKey, describe: Describe, rest: &[u8]) {
        self.stats.inc(Stat::Described);
        let Describe { topic, manner } = describe;
        self.begin_exchange(key, manner, Progress::Asked, rest);
        let client = &mut self.clients[key];
        client.due = Timestamp(u64::MAX);
        let owner = self.router.owner(&topic);
        let question = Question {
            topic,
            from: self.id,
            client: key,
        };
        self.outbox.send(owner, Envelope::Ask(Box::new(question)));
        self.hear_itself();
    }

    /// The client is answered at once.
    pub(super) fn on_answerable(
        &mut self,
        key: ClientKey,
        reply: &Reply,
        manner: Manner,
        rest: &[u8],
    ) {
        self.stats.inc(Stat::Preflights);
        self.begin_exchange(key, manner, Progress::Asked, rest);
        self.send_answer(key, reply);
    }

    /// The request cannot be served. The connection is closed after the answer, because nobody reads a body that may follow.
    pub(super) fn decline(&mut self, key: ClientKey, decline: Decline) {
        let Decline {
            fault,
            kind,
            manner,
        } = decline;
        self.stats.inc(match kind {
            Some(kind) => refusal_stat(kind),
            None => post_stat(fault.status),
        });
        tracing::debug!(
            shard = self.id.0,
            client = key.slot,
            status = fault.code(),
            "a request is declined"
        );
        self.begin_exchange(key, manner, Progress::Asked, &[]);
        self.send_answer(key, &fault.reply());
    }

    /// Takes in bytes of the body, or of the next request.
    pub(super) fn on_exchange_bytes(&mut self, key: ClientKey, mut input: &[u8]) {
        let Some(arrival) = &mut self.clients[key].arrival else {
            return;
        };
        let Stage::Exchange(exchange) = &mut arrival.stage else {
            return;
        };
        let Progress::Body(reader, _) = &mut exchange.progress else {
            arrival.early.extend(input);
            return;
        };
        match reader.body(&mut input) {
            Ok(None) => {}
            Ok(Some(body)) => {
                arrival.early.extend(input);
                if let Progress::Body(_, post) =
                    std::mem::replace(&mut exchange.progress, Progress::Asked)
                {
                    self.on_body(key, *post, body);
                }
            }
            Err(error) => self.fail_post(key, error.into()),
        }
    }

    /// The body is whole.
    fn on_body(&mut self, key: ClientKey, post: Post, body: Vec<u8>) {
        let origin = (Source::Outsiders(self.id), self.now);
        let client = &mut self.clients[key];
        client.due = self.now + WAIT;
        let Some(arrival) = &mut client.arrival else {
            return;
        };
        let sender = Sender {
            subject: match post.judged.bearer() {
                Some(bearer) => Subject::from(bearer),
                None => Subject::Address(post.named.unwrap_or(arrival.origin)),
            },
            key: post.key,
        };
        let topics = self.settings.port.topics();
        let parts = match post.topic {
            Some(topic) => {
                let has_history = topics.reserves_texts(&topic);
                Parts::one(topic, post.content, &body, has_history, sender, origin)
            }
            None => Ok(Parts::many(body, post.judged, sender, origin)),
        };
        match parts {
            Ok(parts) => {
                if let Some(exchange) = arrival.exchange_mut() {
                    exchange.progress = Progress::Parts(Box::new(parts));
                }
                self.work_on_exchange(key);
            }
            Err(fault) => self.answer_post(key, &fault.reply()),
        }
    }

    /// A step of what can be done for a request without an event.
    fn work_on_exchange(&mut self, key: ClientKey) {
        let Some(parts) = parts_mut(&mut self.clients, key) else {
            return;
        };
        if !parts.is_read() {
            if let Err(fault) = parts.read_lines(LINES_PER_STEP, &self.settings.port) {
                self.answer_post(key, &fault.reply());
            }
            return;
        }
        if let Some(sender) = parts.unjudged() {
            let (rates, count) = (&self.settings.rates, parts.messages());
            match self.senders.admit(rates, sender.subject, count, self.now) {
                Ok(()) => parts.release(),
                Err(Excess::Never) => return self.answer_post(key, &Fault::BURST.reply()),
                Err(Excess::Until(wait)) => {
                    let seconds = wait.as_millis().div_ceil(1000).max(1);
                    let reply = Fault::RATE.reply();
                    let reply = reply.field("Retry-After", seconds.to_string());
                    return self.answer_post(key, &reply);
                }
            }
        }
        self.offer_parts(key);
        self.answer_if_resolved(key);
        self.settle_deadline(key);
    }

    /// A request whose last part is offered waits for its answer as long as that takes.
    fn settle_deadline(&mut self, key: ClientKey) {
        if let Some(parts) = parts_mut(&mut self.clients, key)
            && !parts.has_unoffered()
        {
            self.clients[key].due = Timestamp(u64::MAX);
        }
        self.reschedule(key);
    }

    /// Whether the client may be read in the middle of a request. Work that needs no reading is done first, in steps.
    pub(super) fn permit_exchange(&mut self, key: ClientKey) -> Permit {
        if self.has_exchange_work(key) {
            self.work_on_exchange(key);
            self.gauge_client(key);
            return Permit::Again;
        }
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return Permit::Parked;
        };
        let exchange = client.exchange();
        if exchange.is_some_and(|exchange| matches!(exchange.progress, Progress::Body(..))) {
            client.set_reading(Reading::Allowed, now);
            return Permit::Read;
        }
        client.set_reading(Reading::AwaitsPhase, now);
        Permit::Parked
    }

    fn has_exchange_work(&self, key: ClientKey) -> bool {
        let exchange = self.clients.get(key).and_then(Client::exchange);
        exchange.is_some_and(Exchange::has_work)
    }

    /// Whether something that was read of the client waits to be looked at, and no event announces it.
    pub(in crate::relay) fn has_backlog(&self, key: ClientKey) -> bool {
        self.has_undecoded(key) || self.has_exchange_work(key)
    }

    /// The client may have sent its next request with the last one: reads that.
    pub(super) fn on_early_request(&mut self, key: ClientKey) {
        let Some(arrival) = &mut self.clients[key].arrival else {
            return;
        };
        let early = std::mem::take(&mut arrival.early).into_bytes();
        self.on_request_bytes(key, &early);
        self.gauge_client(key);
    }

    /// The owner of a topic has answered a client that asks about it.
    pub(super) fn on_described(&mut self, answer: &Described) {
        let Described { client: key, found } = *answer;
        let exchange = self.clients.get(key).and_then(Client::exchange);
        if exchange.is_some_and(|exchange| matches!(exchange.progress, Progress::Asked)) {
            let reply = described(found);
            self.send_answer(key, &reply);
        }
    }

    /// Answers a request that publishes, if each of its parts has its result.
    pub(super) fn answer_if_resolved(&mut self, key: ClientKey) {
        let Some(parts) = parts_mut(&mut self.clients, key) else {
            return;
        };
        if parts.is_resolved() {
            let reply = parts.reply();
            self.answer_post(key, &reply);
        }
    }

    fn answer_post(&mut self, key: ClientKey, reply: &Reply) {
        self.stats.inc(post_stat(reply.status));
        self.send_answer(key, reply);
    }

    /// The body cannot be read to its end, so the connection is closed after the answer.
    fn fail_post(&mut self, key: ClientKey, fault: Fault) {
        if let Some(exchange) = self.clients[key].exchange_mut() {
            exchange.manner.connection = Connection::Close;
        }
        self.answer_post(key, &fault.reply());
    }

    /// Queues the answer. Another request may follow, unless the client does not want that or the relay shuts down.
    fn send_answer(&mut self, key: ClientKey, reply: &Reply) {
        let (date, is_ending) = (self.date(), self.drain.is_announced());
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let arrival = client.arrival.as_ref();
        let has_more = arrival.is_some_and(|arrival| !arrival.early.is_empty());
        // A client that has ended its side may have sent several requests before.
        let is_last = is_ending || client.ended && !has_more;
        let Some(exchange) = client.exchange_mut() else {
            return;
        };
        if is_last {
            exchange.manner.connection = Connection::Close;
        }
        let answer = reply.encode(&exchange.manner, date);
        let connection = exchange.manner.connection;
        exchange.progress = Progress::Answered;
        client.carry_answer(answer);
        if connection == Connection::Close {
            client.arrival = None;
            client.take(Step::QueueLast);
        }
        // It has as long as it takes something of the answer now and then, as a member has.
        client.due = Timestamp(u64::MAX);
        self.gauge_client(key);
        self.outflow.make_urgent(key, &mut self.clients);
        self.reschedule(key);
        if connection == Connection::Close {
            // Nothing that it says counts any more, but its end does.
            self.resume(key);
        }
    }

    /// The answer has left. The connection waits for the next request, which may have come already.
    pub(super) fn end_exchange(&mut self, key: ClientKey) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let is_answered = client
            .exchange()
            .is_some_and(|exchange| matches!(exchange.progress, Progress::Answered));
        if !is_answered || !client.has_sent_everything() {
            return;
        }
        let Some(arrival) = &mut client.arrival else {
            return;
        };
        arrival.stage = Stage::default();
        arrival.was_answered = true;
        let is_idle = arrival.early.is_empty();
        client.take(Step::NextRequest);
        client.due = now
            + if is_idle {
                IDLE
            } else {
                self.settings.handshake_timeout
            };
        self.gauge_client(key);
        self.resume(key);
        if !is_idle {
            self.make_ready(key);
        }
        self.reschedule(key);
        if self.drain.is_announced() {
            // A request that has come is read first, because its head says how it is refused.
            self.refuse_in_drain(key);
        }
    }

    /// The time for a request is over, or for its answer.
    pub(super) fn on_exchange_deadline(&mut self, key: ClientKey) {
        let Some(exchange) = self.clients.get(key).and_then(Client::exchange) else {
            return;
        };
        match &exchange.progress {
            Progress::Body(..) => self.fail_post(key, Fault::TOO_SLOW),
            Progress::Parts(_) => self.decline_parts(key, Fault::HELD),
            Progress::Asked | Progress::Answered => self.remove(key),
        }
    }

    /// Gives up the parts that are not offered. If none is, the request gets one status, because lines of it may be unread.
    fn decline_parts(&mut self, key: ClientKey, fault: Fault) {
        let Some(parts) = parts_mut(&mut self.clients, key) else {
            return;
        };
        let has_offered = parts.has_offered();
        self.give_up_parts(key, fault);
        if has_offered {
            self.answer_if_resolved(key);
            self.settle_deadline(key);
            self.gauge_client(key);
        } else {
            self.answer_post(key, &fault.reply());
        }
    }

    /// The relay ends with this fault. Requests that are not offered are declined; the others are answered when they are
    /// numbered.
    pub(super) fn end_exchanges(&mut self, fault: Fault) {
        for key in self.clients.keys_in(|phase| phase == Phase::Exchanging) {
            self.end_exchange_with(key, fault);
        }
    }

    /// The shard is short of memory. A request that holds some is declined if none of it was offered; otherwise its client would
    /// be told the wrong thing.
    pub(super) fn relieve_of_exchange(&mut self, key: ClientKey) {
        let exchange = self.clients.get(key).and_then(Client::exchange);
        let has_to_tell = exchange.is_some_and(|exchange| {
            let has_offered = exchange.parts().is_some_and(Parts::has_offered);
            exchange.is_open_post() && !has_offered
        });
        if has_to_tell {
            self.give_up_parts(key, Fault::MEMORY);
            self.fail_post(key, Fault::MEMORY);
        } else {
            self.cut(key, Departure::Memory);
        }
    }

    /// The client of a request is gone. Parts that are not offered are never published.
    pub(super) fn abandon_exchange(&mut self, mut exchange: Exchange) {
        if let Some(parts) = exchange.parts_mut() {
            let topics = parts.give_up(Fault::ENDING);
            self.leave_queues(&topics);
        }
    }

    /// The same for one client.
    pub(super) fn end_exchange_with(&mut self, key: ClientKey, fault: Fault) {
        let Some(exchange) = self.clients.get(key).and_then(Client::exchange) else {
            return;
        };
        match &exchange.progress {
            Progress::Body(..) => self.fail_post(key, fault),
            Progress::Parts(_) => self.decline_parts(key, fault),
            Progress::Asked | Progress::Answered => {}
        }
    }
}
