//! A client that comes back, until it has its place.

use super::effect::Resume;
use crate::cluster::place::Place;

/// See the module.
#[derive(Debug)]
pub(crate) struct Resumer {
    pub(crate) client: u64,
    pub(crate) place: Place,
    /// The engine was asked since the client came.
    pub(crate) is_asked: bool,
    /// The engine's place, as it said last since then.
    pub(crate) reach: Option<Place>,
    /// The engine is asked for these messages.
    pub(crate) finding: Option<Missing>,
}

/// Messages that this node never had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    /// The round in which the engine was asked.
    pub(crate) round: u64,
    /// The number of the first.
    pub(crate) first: u64,
    /// The number of the last.
    pub(crate) last: u64,
    /// Messages of the topic's life here that come before the next.
    pub(crate) then: u64,
}

impl Missing {
    /// The answer if none is found.
    pub(crate) fn all_lost(self) -> Resume {
        Resume::Found {
            lost: self.last + 1 - self.first,
            then: self.then,
        }
    }
}
