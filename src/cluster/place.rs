//! Places in a topic's stream as the engine numbers it: an epoch, and the number of the last message before the place.

use std::fmt;

/// Numbers and epochs stay below this, so that JavaScript and Lua can count.
pub const MAX_NUMBER: u64 = 1 << 53;

/// A span in which the engine's numbers do not repeat. Only equality counts. 0 is no epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// No epoch, as the engine says it.
    pub const NONE: Epoch = Epoch(0);

    /// The epoch that random `bits` name. It is not [`Epoch::NONE`].
    pub fn from_bits(bits: u64) -> Self {
        Epoch((bits % MAX_NUMBER).max(1))
    }
}

/// A node, by a random number that its process has drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// See the module. The first message of an epoch that began from nothing is number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The epoch.
    pub epoch: Epoch,
    /// The number of the last message before the place. 0 if there is none.
    pub last: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.0, self.last)
    }
}
