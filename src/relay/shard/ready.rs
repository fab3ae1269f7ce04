//! Clients that may have something to read, in two lanes.
//!
//! A visit to a connection may cost microseconds or, with TLS, milliseconds, and the client can choose which. So the light
//! lane is served first, and of the heavy one as much as there is time for, but at least one: expensive clients keep only each
//! other waiting.

use std::collections::VecDeque;

use super::Shard;
use crate::ids::ClientKey;

/// See the module. A client is in at most one lane, once; its flags are with the client.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The light one, then the heavy one.
    lanes: [VecDeque<ClientKey>; 2],
}

impl Ready {
    pub(super) fn push(&mut self, key: ClientKey, is_heavy: bool) {
        self.lanes[usize::from(is_heavy)].push_back(key);
    }
}

impl Shard {
    /// The client may have something to read.
    pub fn make_ready(&mut self, key: ClientKey) {
        let Some(client) = self.client_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.is_ready, true) {
            let is_heavy = client.is_heavy;
            self.ready.push(key, is_heavy);
        }
    }

    /// Takes the first client of a lane. Clients that are gone are passed over.
    pub fn take_ready(&mut self, is_heavy: bool) -> Option<ClientKey> {
        while let Some(key) = self.ready.lanes[usize::from(is_heavy)].pop_front() {
            if let Some(client) = self.client_mut(key) {
                client.is_ready = false;
                return Some(key);
            }
        }
        None
    }

    /// How many a lane has, clients that are gone included.
    pub fn ready_len(&self, is_heavy: bool) -> usize {
        self.ready.lanes[usize::from(is_heavy)].len()
    }

    /// Whether somebody is in a lane.
    pub fn has_ready(&self) -> bool {
        self.ready.lanes.iter().any(|lane| !lane.is_empty())
    }

    /// Says in which lane the client waits the next time.
    pub fn set_heavy(&mut self, key: ClientKey, is_heavy: bool) {
        if let Some(client) = self.client_mut(key) {
            client.is_heavy = is_heavy;
        }
    }
}
