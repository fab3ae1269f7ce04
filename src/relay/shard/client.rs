//! One connection as its shard sees it: its phase, and what it is sent besides its topic's log.
//!
//! A client at rest has no buffer. The log has the bytes that it is sent, and the worker's scratch buffer those that it sends.
//! Half a request, half a message, half a frame and waiting control frames are on the heap, and only as long as they last.
//!
//! The steps of a shard change clients. A client knows neither the shard nor its topic.

mod requesting;

use bytes::Bytes;

use super::arrival::{Arrival, Stage, Undecoded};
use super::carry::{Carry, CarryProgress};
use super::control::PendingControl;
use super::exchange::Progress;
use super::phase::{Phase, Step};
use super::replaying::{Ending, Replaying};
use super::sharing::SharedKey;
use super::skills::{Skills, Voice};
use crate::access::Permission;
use crate::ids::Seq;
use crate::port::position::Position;
use crate::port::terms::{Form, Terms};
use crate::port::topic_name::TopicName;
use crate::relay::patience::Pause;
use crate::relay::policy::departure::Departure;
use crate::relay::policy::rate::Buckets;
use crate::relay::topic::TopicKey;
use crate::relay::topic::member::{Member, Rest};
use crate::time::Timestamp;
use crate::ws::decode::Decoder;
use crate::ws::inflate::Window;

/// Whether a client is read. If not, this is the event that makes the shard read it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is read when its socket has something.
    Allowed,
    /// It waits for its next phase: the 101, or the Close of a shutdown, of a violation, or of a client that ended its side.
    AwaitsPhase,
    /// It waits for its topic, whose publishers are held.
    AwaitsTopic,
    /// It waits for its own cursor, because it publishes faster than it reads.
    AwaitsItself,
}

/// The last that is known of a client's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The socket has accepted something since `output_since`.
    Flows,
    /// It has accepted nothing since then, as far as is known because there was nothing.
    Rests,
    /// It has accepted nothing since then, although there was something.
    Stalls,
}

/// A member that leaves: it has broken the protocol or ended its side, or the relay shuts down. It departs once it has been
/// sent what it is owed, its own messages among it.
#[derive(Debug)]
pub(super) struct Leaving {
    /// The reason; `None` for a shutdown.
    pub(super) departure: Option<Departure>,
    /// The member's messages end here, in bytes that this shard has published to the topic; see `Topic::published_bytes`.
    pub(super) published_bytes: u64,
    /// The member is cut if it has not departed by then; `None` in a shutdown, in which all connections are cut at once.
    pub(super) latest: Option<Timestamp>,
}

/// Parts of a client that few clients have at a time.
#[derive(Debug, Default)]
struct Rare {
    /// The rest of what it must have before it leaves at the head; `None` if the head is enough.
    leaving: Option<Leaving>,
    /// Its place in kept messages, while it is too far behind for a place in the log.
    replay: Option<Replaying>,
    /// The topic that it publishes to, if it may only publish.
    source: Option<TopicName>,
    /// The end of what it has sent, if its compressed messages may refer to that.
    window: Option<Window>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.leaving.is_none()
            && self.replay.is_none()
            && self.source.is_none()
            && self.window.is_none()
    }
}

/// Bytes that are held for one client alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Requests and messages that arrived in part.
    pub(super) partial_bytes: u32,
    /// A carried message, if it is a copy.
    pub(super) copied_bytes: u32,
}

impl Held {
    /// All of them.
    pub(super) fn total_bytes(self) -> u64 {
        u64::from(self.partial_bytes) + u64::from(self.copied_bytes)
    }
}

/// See the module.
///
/// The fields that every delivery looks at come first and fill one cache line. The kernel's part of a write leaves little of
/// ours in the caches, so each line that a delivery touches is a wait.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Client {
    /// Tells this client from the others that had its slot.
    pub(super) generation: u32,
    /// Changed by [`Client::take`] alone.
    phase: Phase,
    /// The socket accepted less than it was given. Its writable edge is awaited.
    pub(super) blocked: bool,
    /// The transport has bytes that the socket has not accepted yet. We shut our side only when it has.
    pub(super) holds_back: bool,
    /// Whether the socket has accepted something since `output_since`.
    output: Output,
    /// In the shard's list of clients with something of their own to be sent.
    pub(super) urgent: bool,
    /// Whether it may be read. Changed by [`Client::set_reading`] alone.
    pub(super) reading: Reading,
    /// May send messages.
    pub(super) may_publish: bool,
    /// Sent a message in an earlier read. Such a client is not read while its topic is closed to publishers.
    pub(super) publisher: bool,
    /// Has sent a message.
    pub(super) has_published: bool,
    /// A ping was sent at `due` − `pong_timeout`, and nothing has been read since.
    pub(super) pinged: bool,
    /// Gets Close when it has been sent all that it is owed. Until then it is not read.
    pub(super) leaves_at_head: bool,
    /// The client has shut its writing side.
    pub(super) ended: bool,
    /// Control frames for the next frame boundary.
    pub(super) control: Option<Box<PendingControl>>,
    /// Bytes that go out before anything else.
    carry: Option<Box<Carry>>,
    /// Its place in its topic, while it is a member.
    pub(super) member: Option<Member>,
    /// Reads its frames.
    pub(super) decoder: Decoder,
    /// Present until the client has joined and its early frames are decoded, and later while frames that have been read wait.
    pub(super) arrival: Option<Box<Arrival>>,
    /// Parts of a client that few clients have at a time; `None` if it has none of them.
    rare: Option<Box<Rare>>,
    /// The time of the last read that brought something.
    pub(super) last_read: Timestamp,
    /// The messages and control frames that it may still send at its rates.
    pub(super) buckets: Buckets,
    output_since: Timestamp,
    /// The deadline of the present phase, or of the pong while `pinged`.
    pub(super) due: Timestamp,
    /// The time at which the timer wheel hands the client out next.
    pub(super) timer: Timestamp,
    /// The place in its topic's log that the member must come to before publishers wait for it, as `Log::end_bytes` counts.
    pub(super) trusted_at_bytes: u64,
    /// The bytes that the shard's gauges count for it.
    pub(super) gauged: Held,
    /// The carried batch, as the shard's gauges know it.
    pub(super) shares: Option<SharedKey>,
    /// An event has said that the connection failed. It comes once.
    pub(super) has_failed: bool,
    /// In the shard's list of clients that may have something to read.
    pub(super) is_ready: bool,
    /// The things that it can do besides plain WebSocket. Until its request is granted, they may be any.
    pub(super) skills: Skills,
    /// The last visit was expensive. The next one waits behind those to other clients.
    pub(super) is_heavy: bool,
}

const _: () = assert!(std::mem::offset_of!(Client, decoder) == 64);

impl Client {
    /// A connection that was just accepted.
    pub(super) fn new(generation: u32, now: Timestamp, due: Timestamp) -> Self {
        Client {
            generation,
            phase: Phase::Requesting,
            blocked: false,
            holds_back: false,
            output: Output::Rests,
            urgent: false,
            reading: Reading::Allowed,
            may_publish: false,
            skills: Skills::default(),
            publisher: false,
            has_published: false,
            pinged: false,
            leaves_at_head: false,
            ended: false,
            control: None,
            carry: None,
            member: None,
            decoder: Decoder::default(),
            arrival: Some(Box::default()),
            rare: None,
            last_read: now,
            buckets: Buckets::default(),
            output_since: now,
            due,
            timer: Timestamp(u64::MAX),
            trusted_at_bytes: 0,
            gauged: Held::default(),
            shares: None,
            has_failed: false,
            is_ready: false,
            is_heavy: false,
        }
    }

    /// The client's phase.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it reads an event stream. Then nothing that it sends means anything.
    pub(super) fn is_stream(&self) -> bool {
        self.skills.voice() == Voice::Events
    }

    /// Whether it understands the relay's own words.
    pub(super) fn has_words(&self) -> bool {
        self.skills.voice() != Voice::Silent
    }

    /// Moves the client on by `step`.
    pub(super) fn take(&mut self, step: Step) {
        let Some(next) = self.phase.after(step) else {
            unreachable!("{step:?} of a client in {:?}", self.phase);
        };
        self.phase = next;
    }

    /// Grants its request. `early` are the bytes that came behind the request.
    pub(super) fn grant(&mut self, terms: Terms, early: Vec<u8>) {
        self.skills.set_voice(match terms.form {
            Form::Events => Voice::Events,
            // Its topic decides, when it has joined.
            Form::Frames | Form::Deflated => Voice::Silent,
        });
        self.may_publish = match terms.permission {
            Permission::Publish | Permission::PublishOnly => true,
            Permission::Listen => false,
        };
        let arrival = Arrival::at(Stage::Granted(terms), Undecoded::new(early));
        self.arrival = Some(Box::new(arrival));
        self.take(Step::Grant);
    }

    /// The client understands the relay's own words, between its messages.
    pub(super) fn give_words(&mut self) {
        if self.skills.voice() == Voice::Silent {
            self.skills.set_voice(Voice::Frames);
        }
    }

    /// The client stays on this shard and joins `topic` there.
    pub(super) fn place(&mut self, topic: TopicKey) {
        if let Some(arrival) = &mut self.arrival {
            arrival.place(topic);
        }
        self.take(Step::Place);
    }

    /// The topic of an open client.
    pub(super) fn topic(&self) -> Option<TopicKey> {
        let replayed = || self.replay().map(|replaying| replaying.replay.topic);
        let member = self.member.as_ref();
        member.map(|member| member.topic).or_else(replayed)
    }

    /// Its place in kept messages, if it has no place in the log.
    pub(super) fn replay(&self) -> Option<&Replaying> {
        self.rare.as_ref()?.replay.as_ref()
    }

    /// The same, to move on.
    pub(super) fn replay_mut(&mut self) -> Option<&mut Replaying> {
        self.rare.as_mut()?.replay.as_mut()
    }

    /// Gives it a place in kept messages.
    pub(super) fn set_replay(&mut self, replaying: Replaying) {
        self.rare.get_or_insert_default().replay = Some(replaying);
    }

    /// The end of its stream, if that has a break.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.replay()?.ending
    }

    /// Its stream ends with its list.
    pub(super) fn end_replay(&mut self, ending: Ending) {
        if let Some(replaying) = self.replay_mut()
            && replaying.ending.is_none()
        {
            replaying.end_with(ending);
        }
    }

    /// It may leave from now on. Says whether its stream ends with its list.
    pub(super) fn hasten_end(&mut self) -> bool {
        let ending = self.replay_mut().and_then(|it| it.ending.as_mut());
        ending.map(|ending| ending.is_due = true).is_some()
    }

    /// Takes that place.
    pub(super) fn take_replay(&mut self) -> Option<Replaying> {
        let replaying = self.rare.as_mut()?.replay.take();
        self.rare.take_if(|rare| rare.is_empty());
        replaying
    }

    /// The topic that it publishes to, if it is open and hears nothing.
    pub(super) fn source(&self) -> Option<&TopicName> {
        self.rare.as_ref()?.source.as_ref()
    }

    /// Makes it a client that only publishes.
    pub(super) fn set_source(&mut self, topic: TopicName) {
        self.rare.get_or_insert_default().source = Some(topic);
    }

    /// Ends that. Says whether it was one.
    pub(super) fn end_source(&mut self) -> bool {
        let source = self.rare.as_mut().and_then(|rare| rare.source.take());
        self.rare.take_if(|rare| rare.is_empty());
        source.is_some()
    }

    /// Whether its messages go to a topic.
    pub(super) fn has_outlet(&self) -> bool {
        self.topic().is_some() || self.source().is_some()
    }

    /// The end of what it has sent, if its compressed messages may refer to that and it has sent one.
    pub(super) fn window(&self) -> Option<&Window> {
        self.rare.as_ref()?.window.as_ref()
    }

    /// The same, to inflate a message with.
    pub(super) fn window_mut(&mut self) -> Option<&mut Window> {
        self.rare.as_mut()?.window.as_mut()
    }

    /// Keeps the end of what it sends from now on.
    pub(super) fn set_window(&mut self, window: Window) {
        self.rare.get_or_insert_default().window = Some(window);
    }

    /// Takes that. Says whether there was any.
    pub(super) fn drop_window(&mut self) -> bool {
        let window = self.rare.as_mut().and_then(|rare| rare.window.take());
        self.rare.take_if(|rare| rare.is_empty());
        window.is_some()
    }

    fn leaving(&self) -> Option<&Leaving> {
        self.rare.as_ref()?.leaving.as_ref()
    }

    /// Sets what it must have before it leaves at the head.
    pub(super) fn set_leaving(&mut self, leaving: Leaving) {
        self.rare.get_or_insert_default().leaving = Some(leaving);
    }

    /// Takes that.
    pub(super) fn take_leaving(&mut self) -> Option<Leaving> {
        let leaving = self.rare.as_mut()?.leaving.take();
        self.rare.take_if(|rare| rare.is_empty());
        leaving
    }

    /// Whether it waits with other publishers while its topic is closed to them. A client with the relay's own words does not:
    /// it may ask where it is at any time.
    pub(super) fn has_to_wait(&self) -> bool {
        self.publisher && !self.has_words()
    }

    /// Sets whether the client is read from now on. Returns the state before.
    pub(super) fn set_reading(&mut self, reading: Reading, now: Timestamp) -> Reading {
        let before = std::mem::replace(&mut self.reading, reading);
        match (before == Reading::Allowed, reading == Reading::Allowed) {
            (true, false) => self.buckets.pause(now),
            (false, true) => self.buckets.resume(now),
            (true, true) | (false, false) => {}
        }
        before
    }

    /// The bytes that go out before anything else; never empty.
    pub(super) fn carry(&self) -> Option<&[u8]> {
        self.carry.as_ref().map(|carry| carry.bytes())
    }

    /// The batch that is kept in memory because the client carries a part of it.
    pub(super) fn carried_batch(&self) -> Option<&Bytes> {
        self.carry.as_ref()?.batch()
    }

    /// Whether the client carries the rest of a message.
    pub(super) fn carries_message(&self) -> bool {
        self.carry.as_ref().is_some_and(|carry| carry.is_message())
    }

    /// Carries control frames or an HTTP response.
    pub(super) fn carry_plain(&mut self, bytes: Bytes) {
        debug_assert!(!bytes.is_empty(), "nothing to carry");
        self.set_carry(Carry::plain(bytes));
    }

    /// Carries an answer to a request. It goes behind an interim answer that is still on its way.
    pub(super) fn carry_answer(&mut self, answer: Vec<u8>) {
        let answer = match self.carry.take() {
            Some(interim) => [interim.bytes(), &answer].concat(),
            None => answer,
        };
        self.set_carry(Carry::answer(Bytes::from(answer)));
    }

    /// Carries the rest of a message, unless it is empty.
    pub(super) fn carry_message(&mut self, rest: Rest) {
        if let Some(carry) = Carry::message(rest) {
            self.set_carry(carry);
        }
    }

    fn set_carry(&mut self, carry: Carry) {
        debug_assert!(self.carry.is_none(), "carried bytes are never overtaken");
        self.carry = Some(Box::new(carry));
    }

    /// Takes note of `n` bytes that the kernel accepted.
    pub(super) fn advance_carry(&mut self, n: usize) -> CarryProgress {
        let nothing = CarryProgress {
            left: n,
            delivered: false,
            has_freed: false,
        };
        let Some(carry) = &mut self.carry else {
            return nothing;
        };
        let left = carry.advance(n);
        if !carry.is_over() {
            return CarryProgress { left, ..nothing };
        }
        let (delivered, has_freed) = (carry.is_message(), carry.is_counted());
        self.carry = None;
        CarryProgress {
            left,
            delivered,
            has_freed,
        }
    }

    /// Notes that the socket takes nothing more for now.
    pub(super) fn block(&mut self, now: Timestamp) {
        self.blocked = true;
        if self.output != Output::Stalls {
            self.output = Output::Stalls;
            self.output_since = now;
        }
    }

    /// The relay stood still. All times at which something was due or last happened move on by as much. The messages that the
    /// client could have sent meanwhile are excused. A client that is not being read gets its excuse when reading resumes.
    pub(super) fn excuse(&mut self, pause: Pause) {
        let span = pause.span();
        for time in [&mut self.last_read, &mut self.output_since, &mut self.due] {
            *time = *time + span;
        }
        if let Some(leaving) = self.rare.as_mut().and_then(|rare| rare.leaving.as_mut()) {
            leaving.latest = leaving.latest.map(|latest| latest + span);
        }
        if let Some(ending) = self.replay_mut().and_then(|it| it.ending.as_mut()) {
            ending.at = ending.at + span;
        }
        if self.reading == Reading::Allowed {
            self.buckets.pause(pause.began);
            self.buckets.resume(pause.ended);
        }
    }

    /// The client has been heard, or must be taken for alive. Says whether a pong was awaited.
    pub(super) fn note_alive(&mut self, now: Timestamp) -> bool {
        self.last_read = now;
        std::mem::take(&mut self.pinged)
    }

    /// Notes that the socket has taken something.
    pub(super) fn note_progress(&mut self) {
        self.output = Output::Flows;
    }

    /// The time since which a blocked socket has taken nothing.
    pub(super) fn stalled_since(&self) -> Option<Timestamp> {
        (self.blocked && self.output == Output::Stalls).then_some(self.output_since)
    }

    /// Whether an answer is on its way to it, for which it has no time but that of a stall.
    pub(super) fn takes_answer(&self) -> bool {
        let exchange = self.exchange();
        let is_answered = exchange.is_none_or(|one| matches!(one.progress, Progress::Answered));
        is_answered && self.due == Timestamp(u64::MAX)
    }

    /// The last review of the output, or the last ping if that was later.
    pub(super) fn output_since(&self) -> Timestamp {
        self.output_since
    }

    /// Reviews the output of a client that is not blocked. Says whether it was sent nothing since the last review.
    pub(super) fn review_output(&mut self, now: Timestamp) -> bool {
        match self.output {
            Output::Rests => true,
            Output::Flows | Output::Stalls => {
                self.output = Output::Rests;
                self.output_since = now;
                false
            }
        }
    }

    /// Queues a ping, which must be answered by `due`.
    pub(super) fn ping(&mut self, now: Timestamp, due: Timestamp) {
        self.pinged = true;
        self.due = due;
        self.output_since = now;
        self.queue_control(PendingControl::ping);
    }

    /// Queues control frames.
    pub(super) fn queue_control(&mut self, queue: impl FnOnce(&mut PendingControl)) {
        queue(self.control.get_or_insert_default());
    }

    /// It skips to message `to`, past `dropped` messages. If it understands the relay's own words, it is told what it misses.
    pub(super) fn skip_to(&mut self, to: Seq, dropped: u64) {
        let passed = match &mut self.control {
            Some(control) => control.skip_notes(to),
            None => Some(0),
        };
        self.control.take_if(|control| control.is_empty());
        if !self.has_words() {
            return;
        }
        match passed {
            Some(passed) if passed + dropped > 0 => {
                self.queue_control(|control| control.skipped(passed + dropped));
            }
            Some(_) => {}
            None => self.queue_control(PendingControl::skipped_unknown),
        }
    }

    /// Queues the last words: a Close, or the last event.
    pub(super) fn queue_end(&mut self, words: Bytes) {
        self.queue_control(|control| control.end(words));
    }

    /// Queues a comment, which shows the client and everything on the way that the stream lives.
    pub(super) fn keep_stream_alive(&mut self, now: Timestamp) {
        self.output_since = now;
        self.queue_control(PendingControl::ping);
    }

    /// Moves pending control frames, and the relay's own words, to the front. Only at a frame boundary: in front of message
    /// `reached`, which is `at`. `None` for a client without a place in a topic.
    pub(super) fn take_up_control(&mut self, at: Option<Position>, reached: Seq) {
        if self.carry.is_some() {
            return;
        }
        let Some(control) = &mut self.control else {
            return;
        };
        let due = control.split_at(reached);
        if control.is_empty() {
            self.control = None;
        }
        if !due.is_empty() {
            self.carry_plain(due.into_bytes(self.is_stream(), at));
        }
    }

    /// The message up to which its stream may go on, if control frames wait for that and for nothing else.
    pub(super) fn goes_on_to(&self) -> Option<Seq> {
        self.control.as_ref()?.goes_on_to()
    }

    /// Whether all messages that the client published before it was to leave have come back to the topic's log.
    pub(super) fn has_back_what_it_published(&self, returned_bytes: u64) -> bool {
        let leaving = self.leaving();
        leaving.is_none_or(|leaving| leaving.published_bytes <= returned_bytes)
    }

    /// The latest moment until which a leaving member is waited for; `None` in a shutdown.
    pub(super) fn leaving_deadline(&self) -> Option<Timestamp> {
        self.leaving()?.latest
    }

    /// Whether nothing waits besides what the log has.
    pub(super) fn has_nothing_to_send(&self) -> bool {
        self.carry.is_none() && self.control.is_none()
    }

    /// Whether the kernel has all that is to be sent besides what the log has.
    pub(super) fn has_sent_everything(&self) -> bool {
        self.has_nothing_to_send() && !self.holds_back
    }

    /// The heap bytes that are held for the client alone.
    pub(super) fn held(&self) -> Held {
        let arrival = self.arrival.as_ref().map_or(0, |arrival| arrival.bytes());
        let partial = arrival + self.decoder.buffered_bytes();
        Held {
            // The limits on messages and heads fit 32 bits.
            partial_bytes: partial as u32,
            copied_bytes: self.carry.as_ref().map_or(0, |carry| carry.copied_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
