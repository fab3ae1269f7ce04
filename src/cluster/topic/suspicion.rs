//! The suspicion that the subscription has lost a batch without a word.
//!
//! An audit says where the engine is. If that is beyond the topic, it may be mail under way. A fence tells: it is published
//! after the answer, so all mail from before has come when it comes.

use crate::cluster::place::Place;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// None.
    #[default]
    None,
    /// The engine is asked where the topic is.
    Asked,
    /// It was at this place, and a fence is under way.
    Fenced(Place),
}

impl Suspicion {
    /// Whether the engine, at `at`, has messages that a topic at `place` has not got.
    pub(crate) fn is_beyond(place: Place, at: Place) -> bool {
        if at.epoch == place.epoch {
            at.last > place.last
        } else {
            at.last > 0
        }
    }
}
