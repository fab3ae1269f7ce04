//! The numbers of a worker's connections to engines, and the atomics that they are copied to once a turn.
//!
//! A relay without engines has none of them. The worker writes, and the exporter reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of one engine on one worker: a counter, or a gauge if its comment says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum EngineStat {
    /// Gauge: both connections are usable.
    Up,
    /// Batches that the engine was asked to number.
    Published,
    /// Batches that came back, also those of other nodes.
    Received,
    /// Messages on a topic's channel that were no batch.
    Refused,
    /// Commands, as bytes.
    BytesOut,
    /// Replies and messages, as bytes.
    BytesIn,
    /// Gauge: the time that the engine took to answer the last probe, in microseconds.
    RoundTripMicros,
    /// Probes that were answered.
    Probes,
    /// Fences.
    Fences,
    /// Questions for messages that were missed.
    Fills,
    /// Questions for messages that clients want who come back.
    Finds,
    /// SYNC.
    Syncs,
    /// Questions about quiet topics.
    Audits,
    /// Errors of the engine that an operator should look at.
    Errors,
    /// Gauge: memory of messages that are not back yet, and of arrivals that wait, in bytes.
    PendingBytes,
    /// Gauge: topics that are subscribed to.
    Topics,
    /// Gauge: other nodes that were heard lately.
    Peers,
    /// Gauge: those of them that do not fit to this one.
    MismatchedPeers,
}

impl EngineStat {
    const COUNT: usize = EngineStat::MismatchedPeers as usize + 1;

    /// Whether workers say the same, so that the largest counts and not the sum.
    fn is_shared(self) -> bool {
        matches!(
            self,
            EngineStat::RoundTripMicros | EngineStat::Peers | EngineStat::MismatchedPeers
        )
    }
}

/// A number of a worker's topics that engines number. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ClusterStat {
    /// Messages that were sent to an engine, and nobody knows whether they were published.
    GivenUp,
    /// Messages that were never sent to the engine, because it was away for too long.
    Dropped,
    /// Messages that an engine has numbered where members were told that they missed something.
    Passed,
    /// Changes of epoch without a loss, by topic.
    Moved,
    /// Breaks that could not be filled, by topic.
    Gap,
    /// Engines that had forgotten messages, by topic.
    Back,
    /// Breaks of which nothing is known, by topic.
    Unknown,
}

/// Why topics' clients were told something.
pub(crate) const TOLD: &[(&str, ClusterStat)] = &[
    ("moved", ClusterStat::Moved),
    ("gap", ClusterStat::Gap),
    ("back", ClusterStat::Back),
    ("unknown", ClusterStat::Unknown),
];

impl ClusterStat {
    /// How many there are.
    pub const COUNT: usize = ClusterStat::Unknown as usize + 1;
}

/// Why a connection was lost, or did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Loss {
    /// The engine has closed it, or the network has.
    Closed,
    /// Nobody listens there.
    Refused,
    /// It was not usable in time.
    Timeout,
    /// The engine owed an answer and was silent.
    Silent,
    /// The two connections are to two servers.
    Apart,
    /// The server has stopped being the master, or is another one than before.
    Role,
    /// The server cannot serve relays.
    Unfit,
    /// The server broke the protocol.
    Protocol,
    /// The server refuses the user or the password.
    Auth,
    /// TLS failed.
    Tls,
    /// No address was found.
    Lookup,
    /// The Sentinels name another server.
    Moved,
}

impl Loss {
    const COUNT: usize = Loss::Moved as usize + 1;
}

/// The values of the label `reason`, in the order of [`Loss`].
pub(crate) const LOSSES: [&str; Loss::COUNT] = [
    "closed", "refused", "timeout", "silent", "apart", "role", "unfit", "protocol", "auth", "tls",
    "lookup", "moved",
];

/// The numbers of one engine on one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineNumbers {
    values: [u64; EngineStat::COUNT],
    losses: [u64; Loss::COUNT],
}

impl EngineNumbers {
    /// Sets a number.
    pub(crate) fn set(&mut self, stat: EngineStat, value: u64) {
        self.values[stat as usize] = value;
    }

    /// Adds to a number.
    pub(crate) fn add(&mut self, stat: EngineStat, more: u64) {
        self.values[stat as usize] += more;
    }

    /// A connection was lost, or did not come about.
    pub(crate) fn note_loss(&mut self, loss: Loss) {
        self.losses[loss as usize] += 1;
    }

    /// Takes in the numbers of another worker.
    fn merge(&mut self, other: &Cell) {
        for (index, (mine, theirs)) in self.values.iter_mut().zip(&other.values).enumerate() {
            // Relaxed: see `Cell`.
            let theirs = theirs.load(Ordering::Relaxed);
            let is_shared = STATS[index].is_shared();
            *mine = if is_shared {
                theirs.max(*mine)
            } else {
                *mine + theirs
            };
        }
        for (mine, theirs) in self.losses.iter_mut().zip(&other.losses) {
            *mine += theirs.load(Ordering::Relaxed);
        }
    }
}

const STATS: [EngineStat; EngineStat::COUNT] = [
    EngineStat::Up,
    EngineStat::Published,
    EngineStat::Received,
    EngineStat::Refused,
    EngineStat::BytesOut,
    EngineStat::BytesIn,
    EngineStat::RoundTripMicros,
    EngineStat::Probes,
    EngineStat::Fences,
    EngineStat::Fills,
    EngineStat::Finds,
    EngineStat::Syncs,
    EngineStat::Audits,
    EngineStat::Errors,
    EngineStat::PendingBytes,
    EngineStat::Topics,
    EngineStat::Peers,
    EngineStat::MismatchedPeers,
];

const _: () = {
    let mut at = 0;
    while at < EngineStat::COUNT {
        assert!(STATS[at] as usize == at, "the list is in order");
        at += 1;
    }
};

/// The numbers of one engine on one worker, for other threads.
// Relaxed throughout: each number stands for itself.
#[derive(Debug, Default)]
struct Cell {
    values: [AtomicU64; EngineStat::COUNT],
    losses: [AtomicU64; Loss::COUNT],
}

/// The numbers of all engines of a relay.
#[derive(Debug)]
pub(crate) struct PublishedEngines {
    names: Vec<String>,
    workers: usize,
    /// By engine, then by worker.
    cells: Vec<Cell>,
    /// By worker: the numbers of its topics.
    topics: Vec<[AtomicU64; ClusterStat::COUNT]>,
}

impl PublishedEngines {
    /// No numbers yet of the engines with these names.
    pub(crate) fn new(names: Vec<String>, workers: usize) -> Arc<Self> {
        let count = names.len() * workers;
        Arc::new(PublishedEngines {
            names,
            workers,
            cells: (0..count).map(|_| Cell::default()).collect(),
            topics: (0..workers).map(|_| Default::default()).collect(),
        })
    }

    /// Publishes the numbers of one engine. Only this worker may call it.
    pub(crate) fn publish(&self, engine: usize, worker: usize, numbers: &EngineNumbers) {
        let cell = &self.cells[engine * self.workers + worker];
        for (atomic, value) in cell.values.iter().zip(numbers.values) {
            atomic.store(value, Ordering::Relaxed);
        }
        for (atomic, value) in cell.losses.iter().zip(numbers.losses) {
            atomic.store(value, Ordering::Relaxed);
        }
    }

    /// Publishes the numbers of a worker's topics. Only this worker may call it.
    pub(crate) fn publish_topics(&self, worker: usize, numbers: [u64; ClusterStat::COUNT]) {
        for (atomic, value) in self.topics[worker].iter().zip(numbers) {
            atomic.store(value, Ordering::Relaxed);
        }
    }

    /// A number of all topics.
    pub(crate) fn total(&self, stat: ClusterStat) -> u64 {
        let workers = self.topics.iter();
        workers
            .map(|numbers| numbers[stat as usize].load(Ordering::Relaxed))
            .sum()
    }

    /// A number of each engine with its name, over all workers.
    pub(crate) fn totals(&self, stat: EngineStat) -> impl Iterator<Item = (&str, u64)> {
        self.read().map(move |(name, numbers)| {
            let value = numbers.values[stat as usize];
            // An engine is up if it is up for all workers.
            let is_up = stat == EngineStat::Up;
            let value = if is_up {
                u64::from(value == self.workers as u64)
            } else {
                value
            };
            (name, value)
        })
    }

    /// The losses of each engine with its name, in the order of [`LOSSES`].
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&str, [u64; Loss::COUNT])> {
        self.read().map(|(name, numbers)| (name, numbers.losses))
    }

    fn read(&self) -> impl Iterator<Item = (&str, EngineNumbers)> {
        let engines = self
            .names
            .iter()
            .zip(self.cells.chunks(self.workers.max(1)));
        engines.map(|(name, cells)| {
            let mut numbers = EngineNumbers::default();
            for cell in cells {
                numbers.merge(cell);
            }
            (name.as_str(), numbers)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_up_and_an_engine_is_up_if_it_is_for_all() {
        let published = PublishedEngines::new(vec!["a".into(), "b".into()], 2);
        for (worker, is_up) in [(0, 1), (1, 0)] {
            let mut numbers = EngineNumbers::default();
            numbers.set(EngineStat::Up, is_up);
            numbers.set(EngineStat::Peers, 3);
            numbers.add(EngineStat::Published, 5);
            numbers.note_loss(Loss::Moved);
            published.publish(0, worker, &numbers);
            numbers.set(EngineStat::Up, 1);
            published.publish(1, worker, &numbers);
        }
        let totals = |stat| published.totals(stat).collect::<Vec<_>>();
        assert_eq!(totals(EngineStat::Up), [("a", 0), ("b", 1)]);
        assert_eq!(totals(EngineStat::Peers), [("a", 3), ("b", 3)]);
        assert_eq!(totals(EngineStat::Published), [("a", 10), ("b", 10)]);
        let losses: Vec<_> = published.losses().collect();
        assert_eq!(losses[0].1[Loss::Moved as usize], 2);
    }
}
