//! Messages that the engine is to number, with whatever their owner needs when they come back.
//!
//! The topic's owner makes an [`Offer`] of what it has joined. It gets each offer back once: delivered, passed, given up or
//! dropped.

use super::receipts::Due;
use crate::cluster::topic::parcel::Parcel;
use crate::relay::batch::draft::Draft;

/// See the module.
#[derive(Debug)]
pub struct Offer {
    /// The messages.
    pub(super) draft: Draft,
    /// The parts of requests in it, in order. A part's number counts messages from the draft's first on.
    pub(super) dues: Vec<Due>,
}

impl Parcel for Offer {
    fn messages(&self) -> u32 {
        // A batch has fewer than 2³² messages.
        self.draft.len() as u32
    }

    fn len_bytes(&self) -> usize {
        self.draft.len_bytes()
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.draft.frames())
    }
}
