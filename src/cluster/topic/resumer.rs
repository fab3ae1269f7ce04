//! A client that comes back, until it has its place.

use super::lineage::Missing;
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
    /// The engine is asked for these messages, in this round.
    pub(crate) finding: Option<(u64, Missing)>,
}
