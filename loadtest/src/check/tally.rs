//! What a thread has counted: deliveries, messages, reads, and the distribution of latencies.

use hdrhistogram::Histogram;

use crate::report::latency;

/// Counts of deliveries; a thread has one for all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages of this run that came.
    pub(crate) received: u64,
    /// Owed, and jumped over or never come.
    pub(crate) lost: u64,
    /// Owed to connections that the relay ended with a Close.
    pub(crate) lost_to_closes: u64,
    /// Owed, and not waited for.
    pub(crate) outstanding: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came after a later one of the same publisher.
    pub(crate) out_of_order: u64,
    /// Payload or opcode are not what was sent.
    pub(crate) corrupt: u64,
    /// Sent to another topic.
    pub(crate) misrouted: u64,
    /// Came back to their sender, though the relay does not send senders their own.
    pub(crate) echoed: u64,
    /// None of this run's, before the first of them: a relay's greetings, or what it keeps of earlier times.
    pub(crate) foreign: u64,
}

impl Counts {
    /// Adds others.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.received += other.received;
        self.lost += other.lost;
        self.lost_to_closes += other.lost_to_closes;
        self.outstanding += other.outstanding;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.misrouted += other.misrouted;
        self.echoed += other.echoed;
        self.foreign += other.foreign;
    }

    /// Deliveries that were owed: each was received or is missing.
    pub(crate) fn expected(&self) -> u64 {
        self.received - self.duplicated + self.lost + self.lost_to_closes + self.outstanding
    }
}

/// What happened on a thread: counts from the beginning, distributions since they were last taken.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) totals: Totals,
    /// Latencies of what was due while measured.
    pub(crate) measured: Histogram<u64>,
    /// Of what was due before and after.
    pub(crate) outside: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            totals: Totals::default(),
            measured: latency::new(),
            outside: latency::new(),
        }
    }
}

/// Counts from the beginning of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// As of when; of several threads, the last.
    pub(crate) at: u64,
    pub(crate) counts: Counts,
    pub(crate) published: u64,
    pub(crate) published_while_measured: u64,
    /// Messages that waited to be sent, not in an open loop, when their publisher's connection ended, and so never were.
    pub(crate) taken_back: u64,
    pub(crate) received_while_measured: u64,
    pub(crate) sent_late: u64,
    pub(crate) reads: u64,
    /// CPU time in nanoseconds.
    pub(crate) cpu: u64,
    /// Connections open now.
    pub(crate) connections: usize,
}

impl Totals {
    /// Adds those of another thread.
    pub(crate) fn add(&mut self, other: &Totals) {
        self.at = self.at.max(other.at);
        self.counts.add(&other.counts);
        self.published += other.published;
        self.published_while_measured += other.published_while_measured;
        self.taken_back += other.taken_back;
        self.received_while_measured += other.received_while_measured;
        self.sent_late += other.sent_late;
        self.reads += other.reads;
        self.cpu += other.cpu;
        self.connections += other.connections;
    }
}
