//! One connection as its shard sees it: where it is in its life, and what it is to be sent besides its topic's log.
//!
//! A client holds no buffer at rest. What it is sent comes from the log; what it sends is decoded in the worker's
//! scratch buffer; the exceptions (half a request, half a message, half a frame, a control frame) are on the heap as
//! long as they last.

use bytes::{Buf, Bytes};

use crate::access::Permission;
use crate::http::request::HeadScanner;
use crate::port::terms::Terms;
use crate::relay::policy::rate::Bucket;
use crate::relay::shard::control::PendingControl;
use crate::relay::shard::sharing::SharedKey;
use crate::relay::topic::TopicKey;
use crate::relay::topic::member::{Member, Rest};
use crate::time::Timestamp;
use crate::ws::decode::Decoder;
use crate::ws::encode::ControlFrame;
use crate::ws::error::DecodeError;

/// Where a client is in its life. [`Phase::after`] is the table of what follows what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The request is arriving.
    Requesting,
    /// The request is granted. The host has not said yet on which shard the client is to live.
    Placing,
    /// The topic's owner has been asked to confirm the subscription. The 101 waits for the answer.
    Joining,
    /// A member of its topic.
    Open,
    /// We began the closing handshake and await the client's Close.
    Closing,
    /// Nothing follows what is queued.
    Finishing,
    /// Our side is shut and we await the client's end. What it sends until then is thrown away: closing a socket with unread
    /// input resets the connection, which can destroy our last words on their way.
    Lingering,
}

/// What moves a client from one phase to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its request is granted.
    Grant,
    /// It stays on this shard, and its topic's owner is asked.
    Place,
    /// The owner has confirmed.
    Join,
    /// We send Close first.
    BeginClose,
    /// We queue the last that it is sent: a refusal, or a Close that the client need not answer.
    QueueLast,
    /// The last byte has left, and our side is shut.
    ShutWrite,
}

impl Phase {
    /// The phase after `step`; `None` where the step cannot happen.
    pub(crate) fn after(self, step: Step) -> Option<Phase> {
        let (from, to): (&[Phase], Phase) = match step {
            Step::Grant => (&[Phase::Requesting], Phase::Placing),
            Step::Place => (&[Phase::Placing], Phase::Joining),
            Step::Join => (&[Phase::Joining], Phase::Open),
            Step::BeginClose => (&[Phase::Open], Phase::Closing),
            Step::QueueLast => (
                &[Phase::Requesting, Phase::Open, Phase::Closing],
                Phase::Finishing,
            ),
            Step::ShutWrite => (&[Phase::Finishing], Phase::Lingering),
        };
        from.contains(&self).then_some(to)
    }

    /// Whether bytes may be written in this phase.
    pub(crate) fn may_send(self) -> bool {
        match self {
            Phase::Requesting | Phase::Placing | Phase::Joining | Phase::Lingering => false,
            Phase::Open | Phase::Closing | Phase::Finishing => true,
        }
    }

    /// Whether frames from the client are decoded. In [`Phase::Closing`] its answer to our Close may be among them.
    pub(crate) fn hears_frames(self) -> bool {
        match self {
            Phase::Open | Phase::Closing => true,
            Phase::Requesting
            | Phase::Placing
            | Phase::Joining
            | Phase::Finishing
            | Phase::Lingering => false,
        }
    }
}

/// Whether a client is read, and what it waits for if not. The shard resumes it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It is read when its socket has something.
    Allowed,
    /// It waits for its next phase: the 101, or the Close of a drain or of a violation.
    AwaitsPhase,
    /// It waits for its topic, whose publishers are held.
    AwaitsTopic,
    /// It waits for its own cursor, because it publishes faster than it reads.
    AwaitsItself,
}

/// What is known of a client until it is a member that has been heard.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// How far it has come.
    pub(crate) stage: Stage,
    /// Frames that came behind the request. They are decoded once the client has joined and may be read.
    pub(crate) early: Vec<u8>,
}

/// How far an arrival has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The host reads the header of a proxy in front of the request.
    Preface,
    /// The head of its request is arriving.
    Head {
        /// Knows where the head ends.
        scanner: HeadScanner,
        /// The head as far as earlier reads brought it.
        head: Vec<u8>,
    },
    /// The request is granted.
    Granted(Terms),
    /// The topic's owner has been asked.
    Joining(Terms, TopicKey),
    /// The client has joined, and its early frames wait.
    Joined,
}

impl Default for Stage {
    fn default() -> Self {
        Stage::Head {
            scanner: HeadScanner::default(),
            head: Vec::new(),
        }
    }
}

/// A violation by a member that has published: it departs for it once it has been sent what it published before.
#[derive(Debug)]
pub(crate) struct Failing {
    /// What it did.
    pub(crate) error: DecodeError,
    /// Where in what the shard published to the topic its own part ends; see `Topic::returned_bytes`.
    pub(crate) published_bytes: u64,
    /// How long that is waited for.
    pub(crate) deadline: Timestamp,
}

/// See the module.
///
/// What every delivery looks at comes first and fills one cache line: the kernel's part of a write leaves little of ours
/// in the caches, so each line that a delivery touches is a wait.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Client {
    /// Tells this client from the others that had its slot.
    pub(crate) generation: u32,
    phase: Phase,
    /// The socket accepted less than it was given; the writable edge is awaited.
    pub(crate) blocked: bool,
    /// The transport has bytes that the socket has not accepted yet: the last word is not said before they are.
    pub(crate) holds_back: bool,
    /// The socket has accepted nothing since `stalled_since`, although there was something.
    is_stalled: bool,
    /// In the shard's list of clients to be flushed on their own account.
    pub(crate) urgent: bool,
    /// Whether it may be read. Changed by [`Client::set_reading`] alone.
    pub(crate) reading: Reading,
    /// May send messages.
    pub(crate) may_publish: bool,
    /// Has sent a message in an earlier read: it is not read while its topic is closed to publishers.
    pub(crate) publisher: bool,
    /// Has sent a message.
    pub(crate) has_published: bool,
    /// A ping was sent at `due` − `pong_timeout`, and nothing has been read since.
    pub(crate) pinged: bool,
    /// Gets Close once it has been sent all that it is owed, and is not read until then.
    pub(crate) leaves_at_head: bool,
    /// The client has shut its writing side.
    pub(crate) ended: bool,
    /// Control frames for the next frame boundary.
    pub(crate) control: Option<Box<PendingControl>>,
    /// What goes out before anything else.
    carry: Option<Box<Carry>>,
    /// Its place in its topic, while it is in one.
    pub(crate) member: Option<Member>,
    /// Reads its frames.
    pub(crate) decoder: Decoder,
    /// Present until the client has joined.
    pub(crate) arrival: Option<Box<Arrival>>,
    /// Why it leaves at the head, if that is not the end of a drain.
    pub(crate) failing: Option<Box<Failing>>,
    /// When something was read last.
    pub(crate) last_read: Timestamp,
    /// What it has used of its rate.
    pub(crate) bucket: Bucket,
    stalled_since: Timestamp,
    /// The deadline of the present phase, or of the pong while `pinged`.
    pub(crate) due: Timestamp,
    /// When the timer wheel hands the client out next.
    pub(crate) timer: Timestamp,
    /// Bytes to be accepted until it is waited for when it lags.
    pub(crate) probation_bytes: u32,
    /// Bytes of requests and messages in part that the shard's gauge counts.
    pub(crate) gauged_partial_bytes: u32,
    /// Bytes of a carried message that the shard's gauge counts, if they are a copy.
    pub(crate) gauged_copied_bytes: u32,
    /// The batch that the shard's gauge counts the client's part in.
    pub(crate) shares: Option<SharedKey>,
    /// An event has said that the connection failed. It comes once.
    pub(crate) has_failed: bool,
    /// In the shard's list of clients that may have something to read.
    pub(crate) is_ready: bool,
    /// The last visit was expensive: the next one waits behind those to others.
    pub(crate) is_heavy: bool,
}

const _: () = assert!(std::mem::offset_of!(Client, decoder) == 64);

/// Bytes that go out before anything else.
#[derive(Debug)]
struct Carry {
    bytes: Bytes,
    cargo: Cargo,
}

/// What is carried, and thus kept in memory, until the last of it is sent.
#[derive(Debug)]
enum Cargo {
    /// Control frames or an HTTP response.
    Plain,
    /// A copy of so many bytes: the rest of a message, owed but not delivered.
    Copy(u32),
    /// A part of a batch: likewise.
    Part(Bytes),
}

/// What a write of carried bytes completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CarryProgress {
    /// Bytes of the write that were not carried ones.
    pub(crate) left: usize,
    /// Whether a message was completed.
    pub(crate) delivered: bool,
}

impl Client {
    /// A connection that was just accepted.
    pub(crate) fn new(generation: u32, now: Timestamp, due: Timestamp) -> Self {
        Client {
            generation,
            phase: Phase::Requesting,
            blocked: false,
            holds_back: false,
            is_stalled: false,
            urgent: false,
            reading: Reading::Allowed,
            may_publish: false,
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
            failing: None,
            last_read: now,
            bucket: Bucket::default(),
            stalled_since: now,
            due,
            timer: Timestamp(u64::MAX),
            probation_bytes: 0,
            gauged_partial_bytes: 0,
            gauged_copied_bytes: 0,
            shares: None,
            has_failed: false,
            is_ready: false,
            is_heavy: false,
        }
    }

    /// Where the client is in its life.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Moves the client on by `step`.
    pub(crate) fn take(&mut self, step: Step) {
        let next = self.phase.after(step);
        debug_assert!(next.is_some(), "{step:?} of a client in {:?}", self.phase);
        self.phase = next.unwrap_or(self.phase);
    }

    /// Grants its request. `early` is what came behind it.
    pub(crate) fn grant(&mut self, terms: Terms, early: Vec<u8>) {
        self.may_publish = terms.permission == Permission::Publish;
        let stage = Stage::Granted(terms);
        self.arrival = Some(Box::new(Arrival { stage, early }));
        self.take(Step::Grant);
    }

    /// The client stays on this shard and joins `topic` there.
    pub(crate) fn place(&mut self, topic: TopicKey) {
        if let Some(arrival) = &mut self.arrival {
            arrival.stage = match std::mem::take(&mut arrival.stage) {
                Stage::Granted(terms) => Stage::Joining(terms, topic),
                other @ (Stage::Preface
                | Stage::Head { .. }
                | Stage::Joining(..)
                | Stage::Joined) => other,
            };
        }
        self.take(Step::Place);
    }

    /// The terms of a client whose place is undecided.
    pub(crate) fn undecided_terms(&self) -> Option<&Terms> {
        match &self.arrival.as_ref()?.stage {
            Stage::Granted(terms) => Some(terms),
            Stage::Preface | Stage::Head { .. } | Stage::Joining(..) | Stage::Joined => None,
        }
    }

    /// Whether a proxy's header is awaited, in front of which nothing can be said to anybody.
    pub(crate) fn awaits_preface(&self) -> bool {
        let arrival = self.arrival.as_ref();
        arrival.is_some_and(|arrival| matches!(arrival.stage, Stage::Preface))
    }

    /// Notes whether the client is read from now on, and what it waits for if not; says what was so before.
    pub(crate) fn set_reading(&mut self, reading: Reading, now: Timestamp) -> Reading {
        let before = std::mem::replace(&mut self.reading, reading);
        match (before == Reading::Allowed, reading == Reading::Allowed) {
            (true, false) => self.bucket.pause(now),
            (false, true) => self.bucket.resume(now),
            (true, true) | (false, false) => {}
        }
        before
    }

    /// What goes out before anything else; never empty.
    pub(crate) fn carry(&self) -> Option<&[u8]> {
        self.carry.as_ref().map(|carry| carry.bytes.as_ref())
    }

    /// Bytes that a message which left the log keeps in memory for the client alone.
    pub(crate) fn copied_bytes(&self) -> u32 {
        match self.carry.as_ref().map(|carry| &carry.cargo) {
            Some(&Cargo::Copy(bytes)) => bytes,
            None | Some(Cargo::Plain | Cargo::Part(_)) => 0,
        }
    }

    /// The batch that a message which left the log keeps in memory, for others perhaps as well.
    pub(crate) fn carried_batch(&self) -> Option<&Bytes> {
        match self.carry.as_ref().map(|carry| &carry.cargo) {
            Some(Cargo::Part(batch)) => Some(batch),
            None | Some(Cargo::Plain | Cargo::Copy(_)) => None,
        }
    }

    /// Whether a message that left the log is still to be completed.
    pub(crate) fn carries_message(&self) -> bool {
        self.carry.as_ref().is_some_and(|carry| carry.is_message())
    }

    /// Carries bytes that are no message: control frames or an HTTP response.
    pub(crate) fn carry_plain(&mut self, bytes: Bytes) {
        self.set_carry(bytes, Cargo::Plain);
    }

    /// Carries the rest of a message; nothing, where it is empty.
    pub(crate) fn carry_message(&mut self, rest: Rest) {
        if rest.bytes.is_empty() {
            return;
        }
        // Messages are bounded far below 4 GiB.
        let copied = Cargo::Copy(rest.bytes.len() as u32);
        self.set_carry(rest.bytes, rest.batch.map_or(copied, Cargo::Part));
    }

    fn set_carry(&mut self, bytes: Bytes, cargo: Cargo) {
        debug_assert!(!bytes.is_empty(), "nothing to carry");
        debug_assert!(self.carry.is_none(), "carried bytes are never overtaken");
        self.carry = Some(Box::new(Carry { bytes, cargo }));
    }

    /// Takes account of `n` bytes that the kernel accepted.
    pub(crate) fn advance_carry(&mut self, n: usize) -> CarryProgress {
        let Some(carry) = &mut self.carry else {
            return CarryProgress {
                left: n,
                delivered: false,
            };
        };
        let taken = n.min(carry.bytes.len());
        carry.bytes.advance(taken);
        if !carry.bytes.is_empty() {
            return CarryProgress {
                left: 0,
                delivered: false,
            };
        }
        let delivered = carry.is_message();
        self.carry = None;
        CarryProgress {
            left: n - taken,
            delivered,
        }
    }

    /// Notes that the socket takes nothing more for now.
    pub(crate) fn block(&mut self, now: Timestamp) {
        self.blocked = true;
        if !std::mem::replace(&mut self.is_stalled, true) {
            self.stalled_since = now;
        }
    }

    /// Takes account of `n` bytes that it has accepted; says whether it has accepted enough to be waited for.
    pub(crate) fn serve_probation(&mut self, n: usize) -> bool {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.probation_bytes = self.probation_bytes.saturating_sub(n);
        self.probation_bytes == 0
    }

    /// Notes that the socket has taken something.
    pub(crate) fn note_progress(&mut self) {
        self.is_stalled = false;
    }

    /// Since when the socket has taken nothing, if it is waited for.
    pub(crate) fn stalled_since(&self) -> Option<Timestamp> {
        (self.blocked && self.is_stalled).then_some(self.stalled_since)
    }

    /// Queues a control frame or more.
    pub(crate) fn queue_control(&mut self, queue: impl FnOnce(&mut PendingControl)) {
        queue(self.control.get_or_insert_default());
    }

    /// Queues Close as the last frame.
    pub(crate) fn queue_close(&mut self, frame: ControlFrame) {
        self.queue_control(|control| control.close(frame));
    }

    /// Moves pending control frames to the front. Only at a frame boundary.
    pub(crate) fn take_up_control(&mut self) {
        if self.carry.is_some() {
            return;
        }
        if let Some(control) = self.control.take() {
            self.carry_plain(control.into_bytes());
        }
    }

    /// Whether the topic's log has, or has had, what the client published before it broke the protocol, if it did.
    pub(crate) fn has_back_what_it_published(&self, returned_bytes: u64) -> bool {
        let failing = self.failing.as_ref();
        failing.is_none_or(|failing| failing.published_bytes <= returned_bytes)
    }

    /// Whether nothing waits besides what the log has.
    pub(crate) fn has_nothing_to_send(&self) -> bool {
        self.carry.is_none() && self.control.is_none()
    }

    /// Heap bytes of requests and messages that arrived in part.
    pub(crate) fn partial_bytes(&self) -> usize {
        let arrival = self.arrival.as_ref().map_or(0, |arrival| arrival.bytes());
        arrival + self.decoder.buffered_bytes()
    }
}

impl Arrival {
    /// Heap bytes of what the client has sent.
    fn bytes(&self) -> usize {
        let head = match &self.stage {
            Stage::Head { head, .. } => head.capacity(),
            Stage::Preface | Stage::Granted(_) | Stage::Joining(..) | Stage::Joined => 0,
        };
        head + self.early.capacity()
    }
}

impl Carry {
    /// Whether it is the rest of a message, owed but not delivered.
    fn is_message(&self) -> bool {
        match self.cargo {
            Cargo::Plain => false,
            Cargo::Copy(_) | Cargo::Part(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(0, Timestamp(0), Timestamp(0))
    }

    fn rest() -> Rest {
        Rest {
            bytes: Bytes::from_static(b"rest"),
            batch: None,
        }
    }

    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<Client>() <= 192, "{}", size_of::<Client>());
    }

    #[test]
    fn a_carried_message_is_delivered_with_its_last_byte() {
        let mut client = client();
        client.carry_message(rest());
        assert_eq!(
            client.advance_carry(3),
            CarryProgress {
                left: 0,
                delivered: false
            }
        );
        assert_eq!(
            client.advance_carry(5),
            CarryProgress {
                left: 4,
                delivered: true
            }
        );
        assert!(!client.carries_message());
    }

    #[test]
    fn control_frames_wait_for_what_is_carried() {
        let mut client = client();
        client.carry_message(rest());
        client.queue_control(PendingControl::ping);
        client.take_up_control();
        assert_eq!(client.carry().unwrap(), b"rest");
        client.advance_carry(4);
        client.take_up_control();
        assert_eq!(client.carry().unwrap(), b"\x89\x00");
    }
}
