//! A topic's sequencer: it gives messages their numbers.
//!
//! The owner submits drafts and spreads the batches that come back. The numbers are this process's own.
//!
//! A sequencer that several processes share would be a second variant, which hands batches back in a later turn. While it has
//! some, the topic is not unused ([`OwnedTopic::is_unused`](super::topic::OwnedTopic::is_unused)), and this shard may not
//! answer the fences of a drain.

use std::sync::Arc;

use crate::ids::Seq;
use crate::port::position::Epoch;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;

/// See the module.
#[derive(Debug)]
pub(super) enum Sequencer {
    /// Counts on from where no topic of the shard has been yet, for as long as the topic lives.
    Local {
        /// The number of the next message.
        next: Seq,
    },
}

impl Sequencer {
    /// A sequencer of this process whose first message is number `next`.
    pub(super) fn local(next: Seq) -> Self {
        Sequencer::Local { next }
    }

    /// The number of the next message that subscribers get.
    pub(super) fn next(&self) -> Seq {
        match self {
            Sequencer::Local { next } => *next,
        }
    }

    /// Takes drafts to number, and hands back what is numbered: batches in the forms that `audience` reads. If the topic keeps
    /// messages, their positions are in `epoch`.
    pub(super) fn submit(
        &mut self,
        drafts: Vec<Draft>,
        audience: Audience,
        epoch: Option<&Epoch>,
    ) -> Vec<Arc<Batch>> {
        match self {
            Sequencer::Local { next } => {
                let batches = Batch::seal(*next, drafts, audience, epoch);
                *next = batches.last().map_or(*next, |last| last.end());
                batches
            }
        }
    }
}
