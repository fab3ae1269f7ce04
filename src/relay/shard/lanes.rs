//! Clients that may have something to read, in two lanes.
//!
//! A visit to a connection may cost microseconds or, with TLS, milliseconds, and the client can choose which. So the light
//! lane is served first, and of the heavy one as much as there is time for, but at least one: expensive clients keep only each
//! other waiting.

use std::collections::VecDeque;

use crate::ids::ClientKey;

/// See the module. A client is in at most one lane, once: its flags are with the client.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    light: VecDeque<ClientKey>,
    heavy: VecDeque<ClientKey>,
}

impl Lanes {
    /// One of the lanes.
    pub(super) fn lane(&self, is_heavy: bool) -> &VecDeque<ClientKey> {
        if is_heavy { &self.heavy } else { &self.light }
    }

    /// One of the lanes, to be changed.
    pub(super) fn lane_mut(&mut self, is_heavy: bool) -> &mut VecDeque<ClientKey> {
        if is_heavy {
            &mut self.heavy
        } else {
            &mut self.light
        }
    }

    /// Whether nobody is in either.
    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }
}
