//! A topic's sequencer: it gives messages their numbers.
//!
//! The owner submits drafts and spreads the batches that come back. A local sequencer numbers them at once; the numbers are this
//! process's own. With an engine, drafts are offered to it, and come back in a later turn ([`Engined`]).

use std::sync::Arc;

use super::engined::Engined;
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
    /// An engine orders the messages of several relays.
    Engine(Box<Engined>),
}

impl Sequencer {
    /// A sequencer of this process whose first message is number `next`.
    pub(super) fn local(next: Seq) -> Self {
        Sequencer::Local { next }
    }

    /// A sequencer of this engine whose first message is number `next`.
    pub(super) fn of_engine(engine: usize, next: Seq) -> Self {
        Sequencer::Engine(Box::new(Engined::new(engine, next)))
    }

    /// The number of the next message that subscribers get.
    pub(super) fn next(&self) -> Seq {
        match self {
            Sequencer::Local { next } => *next,
            Sequencer::Engine(engined) => engined.next,
        }
    }

    /// Numbers drafts: batches in the forms that `audience` reads. If the topic keeps messages, their positions are in `epoch`.
    ///
    /// # Panics
    ///
    /// If an engine numbers the topic.
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
            Sequencer::Engine(_) => unreachable!("an engine is offered what it is to number"),
        }
    }
}
