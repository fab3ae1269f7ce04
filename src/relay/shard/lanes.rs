//! The clients that may have something to read, in two lanes.
//!
//! A visit to a connection may cost microseconds or, with TLS, milliseconds, and the client can choose which. So the turn
//! serves the light lane first. Of the heavy lane it serves as many as there is time for, but at least one. Expensive clients
//! keep only each other waiting.

use std::collections::VecDeque;

use super::clients::Clients;
use crate::ids::ClientKey;

/// See the module. A client is in the lanes at most once: its flags are in the client.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    light: VecDeque<ClientKey>,
    heavy: VecDeque<ClientKey>,
}

impl Lanes {
    /// Puts a client at the end of its lane, unless it is in one.
    pub(super) fn enter(&mut self, key: ClientKey, clients: &mut Clients) {
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.is_ready, true) {
            let is_heavy = client.is_heavy;
            self.lane_mut(is_heavy).push_back(key);
        }
    }

    /// Takes the first client of a lane, and drops those before it that are gone.
    pub(super) fn take(&mut self, is_heavy: bool, clients: &mut Clients) -> Option<ClientKey> {
        let lane = self.lane_mut(is_heavy);
        while let Some(key) = lane.pop_front() {
            if let Some(client) = clients.get_mut(key) {
                client.is_ready = false;
                return Some(key);
            }
        }
        None
    }

    /// The length of a lane, with clients that are gone.
    pub(super) fn len(&self, is_heavy: bool) -> usize {
        if is_heavy {
            self.heavy.len()
        } else {
            self.light.len()
        }
    }

    /// Whether both lanes are empty.
    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }

    fn lane_mut(&mut self, is_heavy: bool) -> &mut VecDeque<ClientKey> {
        if is_heavy {
            &mut self.heavy
        } else {
            &mut self.light
        }
    }
}
