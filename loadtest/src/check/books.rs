//! The books of one thread: every delivery to one of its connections is entered here. Connections call it; it touches
//! no socket.

use std::sync::Arc;

use super::agreement::{Life, Start};
use super::order::Record;
use super::position::{Counting, Judgement, Lost, Position, Word};
use super::posted::{PostBooks, Posted};
use super::received::{Expected, Received, Verdict};
use super::sent::Sent;
use super::tally::Tally;
use super::window::Window;
use crate::scenario::message::Head;
use crate::scenario::plan::{Kind, Plan};
use crate::scenario::scenarios::Scenario;

/// The most messages that are recorded, over all topics: 8 bytes each, 32 MiB. Connections that are not there all the
/// time are compared with these records.
const RECORDED_MESSAGES: usize = 4 << 20;

/// The most lives that are remembered until they can be compared.
const LIVES_REMEMBERED: usize = 1 << 20;

/// The books of a thread.
#[derive(Debug)]
pub(crate) struct Books {
    plan: Arc<Plan>,
    sent: Arc<Sent>,
    opcode: u8,
    /// The time; it is taken anew for each read.
    pub(crate) now: u64,
    measure_start: u64,
    /// Nanoseconds from the start to the end of the measurement.
    measure_span: u64,
    pub(crate) tally: Tally,
    pub(crate) window: Option<Window>,
    /// By topic: the record of its order, if one of this thread's connections keeps it.
    pub(crate) records: Vec<Option<Record>>,
    pub(crate) lives: Vec<Life>,
    pub(crate) forgotten_lives: u64,
    last_delivery: u64,
    /// Clients that came back, by what the relay said they have lost.
    pub(crate) resumes: Resumes,
    /// Answers to posts.
    pub(crate) posts: PostBooks,
    /// Room for the payload of an event, used again for each.
    pub(crate) decoded: Vec<u8>,
    /// Whether the run is over. Nothing is entered any more then.
    pub(crate) is_over: bool,
}

/// Clients that came back, by what the relay said they have lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resumes {
    /// Nothing.
    pub(crate) full: u64,
    /// A number of messages.
    pub(crate) partial: u64,
    /// It did not know.
    pub(crate) unknown: u64,
}

impl Books {
    pub(crate) fn new(plan: Arc<Plan>, sent: Arc<Sent>, thread: usize) -> Books {
        let in_flight = plan.window();
        let limit = RECORDED_MESSAGES / plan.topics;
        let mut records: Vec<Option<Record>> = (0..plan.topics).map(|_| None).collect();
        for wanted in plan.wanted[thread].iter().filter(|wanted| wanted.records) {
            records[wanted.topic as usize] = Some(Record::new(limit));
        }
        Books {
            opcode: plan.format.opcode().code(),
            now: 0,
            measure_start: u64::MAX,
            measure_span: 0,
            tally: Tally::default(),
            window: in_flight.map(|in_flight| Window::new(plan.places.len(), in_flight)),
            records,
            lives: Vec::new(),
            forgotten_lives: 0,
            last_delivery: 0,
            resumes: Resumes::default(),
            posts: PostBooks::default(),
            decoded: Vec::new(),
            is_over: false,
            plan,
            sent,
        }
    }

    /// Sets the start and the end of the measurement.
    pub(crate) fn set_measured(&mut self, (start, end): (u64, u64)) {
        self.measure_start = start;
        self.measure_span = end - start;
    }

    /// Whether `time` is in the measurement.
    #[inline]
    pub(crate) fn is_measured(&self, time: u64) -> bool {
        time.wrapping_sub(self.measure_start) < self.measure_span
    }

    /// Enters that a connection is open.
    pub(crate) fn on_open(&mut self, received: &Received, kind: Kind, publisher: Option<u32>) {
        self.tally.totals.connections += 1;
        let Some(window) = &mut self.window else {
            return;
        };
        if kind == Kind::Steady {
            for &of_topic in &self.plan.publishers_by_topic[received.topic() as usize] {
                if self.plan.echo || publisher != Some(of_topic) {
                    window.add_receiver(of_topic as usize, 0);
                }
            }
        }
    }

    /// Enters that a connection is gone.
    pub(crate) fn on_gone(&mut self, received: &Received, kind: Kind, publisher: Option<u32>) {
        self.tally.totals.connections -= 1;
        let Some(window) = self.window.as_mut().filter(|_| kind == Kind::Steady) else {
            return;
        };
        let of_topic = &self.plan.publishers_by_topic[received.topic() as usize];
        for (local, &of_topic) in of_topic.iter().enumerate() {
            if self.plan.echo || publisher != Some(of_topic) {
                let next = received.next_of(local).unwrap_or(0);
                window.remove_receiver(of_topic as usize, next);
            }
        }
    }

    /// Enters the order that a connection saw, whose life is over. A publisher that does not get its own messages saw
    /// another order than the rest, and is left out.
    pub(crate) fn on_life(&mut self, received: &Received, is_whole: bool, publisher: Option<u32>) {
        let is_comparable = received.is_clean() && (self.plan.echo || publisher.is_none());
        if !is_comparable || self.plan.places.is_empty() {
            return;
        }
        if self.lives.len() == LIVES_REMEMBERED {
            self.forgotten_lives += 1;
            return;
        }
        self.lives.push(Life {
            topic: received.topic(),
            fingerprint: received.fingerprint(),
            is_whole,
            start: received.start(),
        });
    }

    /// Enters what the relay says of a client's position.
    pub(crate) fn on_word(&mut self, received: &mut Received, counting: &mut Counting, word: Word) {
        match word {
            Word::Is(at) => self.on_position(counting, &at),
            Word::Begins(at, lost) => self.on_begin(received, counting, at, lost),
        }
    }

    /// Compares a position that the relay says with the count.
    pub(crate) fn on_position(&mut self, counting: &Counting, said: &Position) {
        self.judge(counting.compare(said));
    }

    /// Enters the id of an event that is not the counted position.
    #[cold]
    pub(crate) fn on_other_position(&mut self, counting: &mut Counting, id: &[u8]) {
        self.judge(Judgement::Misplaced);
        let said = std::str::from_utf8(id).ok().and_then(Position::parse);
        if let Some(said) = said {
            counting.correct(said);
        }
    }

    fn on_begin(
        &mut self,
        received: &mut Received,
        counting: &mut Counting,
        at: Position,
        lost: Lost,
    ) {
        let start = Start {
            epoch: at.epoch_hash(),
            number: at.number,
        };
        // A skip is said in the middle of a connection. A client that is new has asked for nothing.
        let is_return = counting.at().is_some() && !counting.has_begun();
        let is_known = counting.at().is_some();
        self.judge(counting.begin(at, lost));
        self.resumes.count(lost, is_return);
        if is_known && lost != Lost::Known(0) {
            self.end_stretch(received);
            match lost {
                Lost::Known(lost) => received.excuse_told(lost),
                Lost::Unknown => received.excuse_unknown(),
            }
        }
        received.begin_at(start);
    }

    /// The relay has skipped messages, in a topic without positions.
    pub(crate) fn on_skip(&mut self, received: &mut Received, lost: u64) {
        self.end_stretch(received);
        received.excuse_told(lost);
    }

    /// A client came back and asked for nothing.
    pub(crate) fn on_unasked(&mut self, received: &mut Received) {
        self.end_stretch(received);
        received.excuse_unasked();
    }

    /// Enters the answer to a post.
    pub(crate) fn on_answer(&mut self, posted: &Posted<'_>) {
        let topic = self.plan.places[posted.publisher as usize].topic;
        let is_alone = self.plan.publishers_by_topic[topic as usize].len() == 1;
        let latency = self.now.saturating_sub(posted.sent);
        let latency = self.is_measured(posted.sent).then_some(latency);
        let judgement = self.posts.enter(posted, topic, is_alone, latency);
        self.judge(judgement);
    }

    fn end_stretch(&mut self, received: &mut Received) {
        self.on_life(received, false, None);
        received.begin_stretch();
    }

    fn judge(&mut self, judgement: Judgement) {
        let counts = &mut self.tally.totals.counts;
        match judgement {
            Judgement::Right => {}
            Judgement::Misplaced => counts.misplaced += 1,
            Judgement::Forgetful => counts.forgotten += 1,
        }
    }

    /// Nothing more will come to a client: what it misses with an excuse is counted. Returns what it is still owed.
    pub(crate) fn conclude(&mut self, received: &mut Received) -> u64 {
        let topic = received.topic();
        let of_topic = &self.plan.publishers_by_topic[topic as usize];
        let sent = |local: usize| self.sent.of(of_topic[local] as usize);
        received.conclude(sent, &mut self.tally.totals.counts);
        received.owed(sent)
    }

    /// The number of messages that were sent and that a connection has not received.
    pub(crate) fn owed(&self, received: &Received) -> u64 {
        received.owed(self.sent_in(received.topic()))
    }

    /// Enters that a late comer has joined for certain.
    pub(crate) fn on_joined(&self, received: &mut Received) {
        received.owe(self.sent_in(received.topic()));
    }

    /// The messages sent in a topic, by the number of the publisher there.
    pub(crate) fn sent_in(&self, topic: u32) -> impl Fn(usize) -> u64 + '_ {
        let of_topic = &self.plan.publishers_by_topic[topic as usize];
        |local| self.sent.of(of_topic[local] as usize)
    }

    /// Enters a message that arrived in one piece.
    #[inline]
    pub(crate) fn on_message(
        &mut self,
        received: &mut Received,
        kind: Kind,
        records: bool,
        opcode: u8,
        payload: &[u8],
    ) {
        if self.is_over {
            return;
        }
        let verdict = received.on_message(
            opcode,
            payload,
            &expected(&self.plan, self.opcode),
            |publisher| self.sent.of(publisher),
            &mut self.tally.totals.counts,
        );
        self.on_verdict(verdict, received.back_since(), kind, records);
    }

    /// Begins a message that comes in pieces.
    pub(crate) fn on_start(&mut self, received: &mut Received, opcode: u8) {
        received.on_start(opcode, self.opcode);
    }

    /// Takes a piece of it. This counts as a delivery too, since a large message may take long.
    pub(crate) fn on_piece(&mut self, received: &mut Received, piece: &[u8]) {
        self.last_delivery = self.now;
        received.on_piece(piece, &self.plan.format);
    }

    /// Enters the message whose last piece has come.
    pub(crate) fn on_end(&mut self, received: &mut Received, kind: Kind, records: bool) {
        if self.is_over {
            return;
        }
        let counts = &mut self.tally.totals.counts;
        let verdict = received.on_end(
            &expected(&self.plan, self.opcode),
            |publisher| self.sent.of(publisher),
            counts,
        );
        self.on_verdict(verdict, received.back_since(), kind, records);
    }

    #[inline]
    fn on_verdict(&mut self, verdict: Verdict, back_since: u64, kind: Kind, records: bool) {
        match verdict {
            Verdict::New { head, from } => {
                self.count(head, back_since, kind);
                if records {
                    self.record(head);
                }
                if kind == Kind::Steady
                    && let Some(window) = &mut self.window
                {
                    for sequence in from..=head.sequence() {
                        window.on_received(head.publisher(), sequence);
                    }
                }
            }
            Verdict::Late(head) => self.count(head, back_since, kind),
            Verdict::Odd => {}
        }
    }

    fn record(&mut self, head: Head) {
        let topic = self.plan.places[head.publisher()].topic;
        if let Some(record) = &mut self.records[topic as usize] {
            record.push(head.key);
        }
    }

    #[inline]
    fn count(&mut self, head: Head, back_since: u64, kind: Kind) {
        // A subscriber that does not read, or was away, is late by its own doing, not the relay's.
        if kind == Kind::Slow || head.due < back_since {
            return;
        }
        let latency = self.now.saturating_sub(head.due);
        let is_due_in_time = head.due.wrapping_sub(self.measure_start) < self.measure_span;
        let histogram = if is_due_in_time {
            &mut self.tally.measured
        } else {
            &mut self.tally.outside
        };
        histogram.saturating_record(latency);
    }

    /// Enters whether the server may compress on a connection that has offered it.
    pub(crate) fn on_negotiated(&mut self, is_agreed: bool) {
        let totals = &mut self.tally.totals;
        let count = if is_agreed {
            &mut totals.agreed
        } else {
            &mut totals.declined
        };
        *count += 1;
    }

    /// Enters that a message begins on such a connection.
    #[inline]
    pub(crate) fn on_compression(&mut self, is_deflated: bool) {
        let totals = &mut self.tally.totals;
        let count = if is_deflated {
            &mut totals.came_compressed
        } else {
            &mut totals.came_plain
        };
        *count += 1;
    }

    /// Enters that a read has brought bytes, and perhaps messages.
    #[inline]
    pub(crate) fn on_read(&mut self, received_before: u64, wire_bytes: u64) {
        if self.is_measured(self.now) {
            self.tally.totals.wire_bytes_while_measured += wire_bytes;
        }
        let received = self.tally.totals.counts.received - received_before;
        if received == 0 {
            return;
        }
        self.last_delivery = self.now;
        self.tally.totals.reads += 1;
        if self.is_measured(self.now) {
            self.tally.totals.received_while_measured += received;
        }
    }

    /// The time at which something was last received.
    pub(crate) fn last_delivery(&self) -> u64 {
        self.last_delivery
    }

    /// Whether the scenario allows the relay to end a connection of this kind.
    pub(crate) fn expects_ends(&self, kind: Kind) -> bool {
        self.plan.scenario == Scenario::Slow && kind == Kind::Slow
    }
}

impl Resumes {
    fn count(&mut self, lost: Lost, is_return: bool) {
        if !is_return {
            return;
        }
        match lost {
            Lost::Known(0) => self.full += 1,
            Lost::Known(_) => self.partial += 1,
            Lost::Unknown => self.unknown += 1,
        }
    }
}

/// The traits that all messages of a plan share.
#[inline]
fn expected(plan: &Plan, opcode: u8) -> Expected<'_> {
    Expected {
        format: &plan.format,
        opcode,
        places: &plan.places,
    }
}
