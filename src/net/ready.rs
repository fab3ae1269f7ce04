//! Connections that may have something to read, in two lanes.
//!
//! A visit to a connection may cost microseconds or, where TLS asks for arithmetic, milliseconds, and whoever connects can
//! choose which. So that those who cost much keep only each other waiting, a worker serves the light lane first, and of the
//! heavy one as much as there is time for, but at least one.

use std::collections::VecDeque;

use crate::ids::ClientKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The light one, then the heavy one.
    lanes: [VecDeque<ClientKey>; 2],
}

impl Ready {
    /// Puts a connection behind those in its lane.
    pub(super) fn push(&mut self, key: ClientKey, is_heavy: bool) {
        self.lanes[usize::from(is_heavy)].push_back(key);
    }

    /// Takes the first of a lane.
    pub(super) fn pop(&mut self, is_heavy: bool) -> Option<ClientKey> {
        self.lanes[usize::from(is_heavy)].pop_front()
    }

    /// How many a lane has.
    pub(super) fn len(&self, is_heavy: bool) -> usize {
        self.lanes[usize::from(is_heavy)].len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }
}
