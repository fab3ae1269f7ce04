//! The messages of a topic that are kept, as they were at one moment.
//!
//! The topic's owner makes the list when a client resumes. All who resume before the next message share it, and it is never
//! changed.

use std::sync::Arc;

use crate::ids::Seq;
use crate::relay::batch::Batch;
use crate::relay::places::Places;

/// A batch that is kept, and the cost of what lies before it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The batch.
    pub batch: Arc<Batch>,
    /// The cost as frames of all batches that the topic kept before this one, in bytes.
    pub cost_before: u64,
}

/// See the module. The batches follow one another without a gap.
#[derive(Debug, Default)]
pub struct Past {
    entries: Box<[Kept]>,
    cost_end: u64,
}

impl Past {
    /// The list of `entries`.
    pub(crate) fn new(entries: Box<[Kept]>) -> Self {
        let cost_end = entries
            .last()
            .map_or(0, |last| last.cost_before + last.batch.cost_bytes());
        Past { entries, cost_end }
    }

    /// The batches, oldest first.
    pub(crate) fn entries(&self) -> &[Kept] {
        &self.entries
    }

    /// The index of the batch with message `seq`; the number of batches if `seq` comes later.
    pub(crate) fn index_of(&self, seq: Seq) -> usize {
        self.entries.partition_point(|kept| kept.batch.end() <= seq)
    }

    /// The cost as frames of the batches from `index` on, in bytes.
    pub(crate) fn cost_from(&self, index: usize) -> u64 {
        let entry = self.entries.get(index);
        entry.map_or(0, |kept| self.cost_end - kept.cost_before)
    }

    /// The number of the message behind the last one, if there is one. For tests.
    #[cfg(test)]
    pub(crate) fn end(&self) -> Option<Seq> {
        self.entries.last().map(|kept| kept.batch.end())
    }
}

/// An owner's answer to a client that asked for earlier messages.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The number of the first message that the client gets.
    pub from: Seq,
    /// Messages that are gone between the place that the client asked for and `from`; `None` if their number is not known.
    pub lost: Option<u64>,
    /// The messages from `from` on, and perhaps earlier ones.
    pub past: Arc<Past>,
    /// The number behind the last message that the client can read there. If it is not that of the next message, the client
    /// asks for the rest when it has come so far.
    pub until: Seq,
    /// The places of these messages, if they are not those of the topic's numbers here. Then the list is this client's alone.
    pub places: Option<Box<Places>>,
}
