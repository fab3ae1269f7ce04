//! The state of a drain on one shard.
//!
//! [`draining`](super::draining) explains the protocol and is the only file that changes this. It counts; it sends nothing.

use crate::ids::ClientKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// The shutdown has begun. Clients are closed one after the other, and messages are still relayed.
    announced: bool,
    /// Messages are not accepted any more.
    begun: bool,
    /// The fences are to be sent, behind this turn's messages.
    fence_due: bool,
    /// Shards that have sent their fence to this owner.
    fences: u16,
    /// All fences are here, and the engines' topics have something on its way.
    awaits_engines: bool,
    /// The answer to the fences is to be sent, behind this turn's messages.
    answer_due: bool,
    /// The answer was sent: the owner has everything that will ever be published.
    is_final: bool,
    /// Owners that have answered.
    answers: u16,
    abandoned: bool,
    cut: bool,
    /// Connections between two requests, with some that have left or asked for something.
    pub(super) idle: Vec<ClientKey>,
}

impl Drain {
    /// From now on no client is taken in. Says whether this is the first call.
    pub(super) fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.announced, true)
    }

    /// Whether no client is taken in any more.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// From now on no message is accepted. Says whether this is the first call.
    pub(super) fn begin(&mut self) -> bool {
        self.fence_due |= !self.begun;
        !std::mem::replace(&mut self.begun, true)
    }

    /// Every connection is cut.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// The relay has failed, and every client is told.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Whether the drain has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether messages are still accepted: the drain has not begun, and the relay has neither failed nor been cut.
    pub(super) fn takes_messages(&self) -> bool {
        !(self.begun || self.abandoned || self.cut)
    }

    /// Whether the relay has failed.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Whether messages go out without waiting for others. Few more will come.
    pub(super) fn is_in_haste(&self) -> bool {
        self.begun || self.cut
    }

    /// Whether fences or an answer are to be sent.
    pub(super) fn has_something_due(&self) -> bool {
        self.fence_due || self.answer_due
    }

    /// Whether the shard's fences are to be sent now. True once.
    pub(super) fn take_fence(&mut self) -> bool {
        std::mem::take(&mut self.fence_due)
    }

    /// One of `shards` has sent its fence.
    pub(super) fn on_fence(&mut self, shards: usize) {
        self.fences += 1;
        self.answer_due = usize::from(self.fences) == shards;
    }

    /// Whether the answer to all fences is to be sent.
    pub(super) fn has_answer_due(&self) -> bool {
        self.answer_due
    }

    /// The answer waits until engines have given back what is on its way.
    pub(super) fn await_engines(&mut self) {
        self.awaits_engines = std::mem::take(&mut self.answer_due);
    }

    /// Whether engines are awaited.
    pub(super) fn awaits_engines(&self) -> bool {
        self.awaits_engines
    }

    /// Engines have given back all.
    pub(super) fn end_wait(&mut self) {
        self.answer_due |= std::mem::take(&mut self.awaits_engines);
    }

    /// Whether the answer to all fences is to be sent now. True once.
    pub(super) fn take_answer(&mut self) -> bool {
        self.is_final |= self.answer_due;
        std::mem::take(&mut self.answer_due)
    }

    /// Whether the owner has numbered everything that will ever be published.
    pub(super) fn is_final(&self) -> bool {
        self.is_final
    }

    /// One of `shards` has answered as an owner. Says whether it was the last.
    pub(super) fn on_answer(&mut self, shards: usize) -> bool {
        self.answers += 1;
        self.is_answered(shards)
    }

    /// Whether all of `shards` have answered.
    pub(super) fn is_answered(&self, shards: usize) -> bool {
        usize::from(self.answers) >= shards
    }
}
