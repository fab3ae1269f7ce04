//! The books of one thread: every delivery to one of its connections is entered here. It touches no socket.

use std::sync::Arc;

use super::agreement::Life;
use super::order::Record;
use super::received::{Received, Run, Verdict};
use super::sent::Sent;
use super::tally::Tally;
use super::window::Window;
use crate::scenario::message::Head;
use crate::scenario::plan::{Kind, Plan};
use crate::scenario::scenarios::Scenario;

/// Messages recorded, over all topics, for comparison with connections that are not there all the time: 32 MiB.
const RECORDED_MESSAGES: usize = 4 << 20;

/// Connections that have gone whose order is remembered until it can be compared.
const LIVES_REMEMBERED: usize = 1 << 20;

/// All that a thread has booked.
#[derive(Debug)]
pub(crate) struct Books {
    plan: Arc<Plan>,
    sent: Arc<Sent>,
    opcode: u8,
    /// The time of the turn, taken anew for each read.
    pub(crate) now: u64,
    measure_start: u64,
    /// Nanoseconds from the start to the end of the measurement.
    measure_span: u64,
    pub(crate) tally: Tally,
    pub(crate) window: Option<Window>,
    /// By topic: what the connection that records has seen.
    pub(crate) records: Vec<Option<Record>>,
    pub(crate) lives: Vec<Life>,
    pub(crate) forgotten_lives: u64,
    last_delivery: u64,
    /// Whether the run is over: what comes now is booked no more.
    pub(crate) is_over: bool,
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
            is_over: false,
            plan,
            sent,
        }
    }

    /// Learns when is measured.
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

    /// Enters the order that a connection has seen, whose life is over. Whoever does not get its own messages has seen
    /// another order than all others, and is left out.
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
        });
    }

    /// How many messages a connection has not received of what has been sent.
    pub(crate) fn owed(&self, received: &Received) -> u64 {
        received.owed(self.sent_in(received.topic()))
    }

    /// A late comer has joined for certain.
    pub(crate) fn on_joined(&self, received: &mut Received) {
        received.owe(self.sent_in(received.topic()));
    }

    /// By number of the publisher in a topic: messages sent.
    pub(crate) fn sent_in(&self, topic: u32) -> impl Fn(usize) -> u64 + '_ {
        let of_topic = &self.plan.publishers_by_topic[topic as usize];
        |local| self.sent.of(of_topic[local] as usize)
    }

    /// Enters a message that lies there whole.
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
            &run_of(&self.plan, self.opcode),
            |publisher| self.sent.of(publisher),
            &mut self.tally.totals.counts,
        );
        self.on_verdict(verdict, kind, records);
    }

    /// A message begins that comes in pieces.
    pub(crate) fn on_start(&mut self, received: &mut Received, opcode: u8) {
        received.on_start(opcode, self.opcode);
    }

    /// A piece of it: something comes, however long the whole takes.
    pub(crate) fn on_piece(&mut self, received: &mut Received, piece: &[u8]) {
        self.last_delivery = self.now;
        received.on_piece(piece, &self.plan.format);
    }

    /// Enters a message whose last piece has come.
    pub(crate) fn on_end(&mut self, received: &mut Received, kind: Kind, records: bool) {
        if self.is_over {
            return;
        }
        let counts = &mut self.tally.totals.counts;
        let verdict = received.on_end(
            &run_of(&self.plan, self.opcode),
            |publisher| self.sent.of(publisher),
            counts,
        );
        self.on_verdict(verdict, kind, records);
    }

    #[inline]
    fn on_verdict(&mut self, verdict: Verdict, kind: Kind, records: bool) {
        match verdict {
            Verdict::New { head, from } => {
                self.count(head, kind);
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
            Verdict::Late(head) => self.count(head, kind),
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
    fn count(&mut self, head: Head, kind: Kind) {
        // How late those are that do not read is their own doing, not the relay's.
        if kind == Kind::Slow {
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

    /// Enters that a read has brought so many messages.
    #[inline]
    pub(crate) fn on_read(&mut self, received_before: u64) {
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

    /// When something was last received.
    pub(crate) fn last_delivery(&self) -> u64 {
        self.last_delivery
    }

    /// Whether connections that are ended by the relay are part of what is tried out.
    pub(crate) fn expects_ends(&self, kind: Kind) -> bool {
        self.plan.scenario == Scenario::Slow && kind == Kind::Slow
    }
}

/// What the messages of a plan have in common.
#[inline]
fn run_of(plan: &Plan, opcode: u8) -> Run<'_> {
    Run {
        format: &plan.format,
        opcode,
        places: &plan.places,
    }
}
