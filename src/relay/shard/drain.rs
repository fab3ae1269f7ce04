//! How far an orderly end has come on a shard. [`draining`](super::draining) tells the story.

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: bool,
    /// The fences are to be sent once this turn's messages are.
    fence_due: bool,
    /// Shards that have sent their fence to this owner.
    fences: u16,
    /// The answer to the fences is to be sent once this turn's messages are.
    answer_due: bool,
    /// Owners that have answered.
    answers: u16,
    abandoned: bool,
    cut: bool,
}

impl Drain {
    /// Messages are accepted no more. Says whether that is news.
    pub(super) fn begin(&mut self) -> bool {
        self.fence_due |= !self.begun;
        !std::mem::replace(&mut self.begun, true)
    }

    /// Every connection was cut.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// The relay has failed, and everybody is to be told.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Whether messages are accepted no more.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the relay has failed.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Whether nothing is to wait that need not: there will be little more to join it with.
    pub(super) fn is_in_haste(&self) -> bool {
        self.begun || self.cut
    }

    /// Whether the shard's fences are to be sent now. Told once.
    pub(super) fn take_fence(&mut self) -> bool {
        std::mem::take(&mut self.fence_due)
    }

    /// A shard's fence has come, of `shards`.
    pub(super) fn on_fence(&mut self, shards: usize) {
        self.fences += 1;
        self.answer_due = usize::from(self.fences) == shards;
    }

    /// Whether the answer to all fences is to be sent now. Told once.
    pub(super) fn take_answer(&mut self) -> bool {
        std::mem::take(&mut self.answer_due)
    }

    /// An owner has answered, of `shards`. Says whether it was the last one.
    pub(super) fn on_answer(&mut self, shards: usize) -> bool {
        self.answers += 1;
        self.is_answered(shards)
    }

    /// Whether all of `shards` have answered.
    pub(super) fn is_answered(&self, shards: usize) -> bool {
        usize::from(self.answers) >= shards
    }
}
