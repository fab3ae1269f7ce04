//! The counts of a thread: deliveries, messages, reads, and the distribution of latencies. A new count of deliveries
//! goes here.

use hdrhistogram::Histogram;

use crate::report::latency;

/// Counts of deliveries, over all connections of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages of this run that came, each time that they came.
    pub(crate) received: u64,
    /// Owed, but jumped over or never received.
    pub(crate) lost: u64,
    /// Owed to connections that the relay ended with a Close.
    pub(crate) lost_to_closes: u64,
    /// Owed, but the run ended before they came.
    pub(crate) outstanding: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came after a later one of the same publisher.
    pub(crate) out_of_order: u64,
    /// Came with another payload or opcode than was sent.
    pub(crate) corrupt: u64,
    /// Came to another topic than they were sent to.
    pub(crate) misrouted: u64,
    /// Came back to their sender, although the relay kept senders' own messages from them in the probe.
    pub(crate) echoed: u64,
    /// Missing, and the relay said so to a client that came back, or that it had skipped.
    pub(crate) told: u64,
    /// Said to be lost, and not missing.
    pub(crate) falsely_told: u64,
    /// Sent while a client was away that asked for nothing when it came back.
    pub(crate) missed: u64,
    /// Positions that the relay said and that were not the counted ones.
    pub(crate) misplaced: u64,
    /// Positions of the relay's own epoch that it said it does not know.
    pub(crate) forgotten: u64,
    /// Not of this run, and before its first: a relay's greetings, or messages that it kept from earlier.
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
        self.told += other.told;
        self.falsely_told += other.falsely_told;
        self.missed += other.missed;
        self.misplaced += other.misplaced;
        self.forgotten += other.forgotten;
        self.foreign += other.foreign;
    }

    /// All deliveries that were owed: those received and those missing.
    pub(crate) fn expected(&self) -> u64 {
        let missing = self.lost + self.lost_to_closes + self.outstanding + self.told;
        self.received - self.duplicated + missing
    }
}

/// The tally of a thread: counts since the beginning, distributions since they were last taken.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) totals: Totals,
    /// Latencies of messages that were due while measured.
    pub(crate) measured: Histogram<u64>,
    /// Latencies of messages that were due before or after.
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
    /// The time of these counts. Of several threads, the latest.
    pub(crate) at: u64,
    pub(crate) counts: Counts,
    pub(crate) published: u64,
    pub(crate) published_while_measured: u64,
    /// Messages that were never sent because the connection of their publisher ended. Those of an open loop are counted
    /// elsewhere.
    pub(crate) taken_back: u64,
    pub(crate) received_while_measured: u64,
    /// Bytes that were read, with the headers of frames.
    pub(crate) wire_bytes_while_measured: u64,
    /// Connections that offered compression and got it.
    pub(crate) agreed: u64,
    /// Connections that offered it and did not get it.
    pub(crate) declined: u64,
    /// Messages on those that got it: compressed ones.
    pub(crate) came_compressed: u64,
    /// Plain ones.
    pub(crate) came_plain: u64,
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
        self.wire_bytes_while_measured += other.wire_bytes_while_measured;
        self.agreed += other.agreed;
        self.declined += other.declined;
        self.came_compressed += other.came_compressed;
        self.came_plain += other.came_plain;
        self.sent_late += other.sent_late;
        self.reads += other.reads;
        self.cpu += other.cpu;
        self.connections += other.connections;
    }
}
