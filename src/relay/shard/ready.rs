//! Who may have something to read: the shard keeps the list, and the turn visits those on it.

use super::Shard;
use crate::ids::ClientKey;

impl Shard {
    /// The client may have something to read.
    pub fn make_ready(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.is_ready, true) {
            let is_heavy = client.is_heavy;
            self.ready.lane_mut(is_heavy).push_back(key);
        }
    }

    /// An event has said that the client's connection failed. A read will find out, or a visit that may not read.
    pub fn note_failure(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            client.has_failed = true;
        }
        self.make_ready(key);
    }

    /// Whether the client's connection is known to have failed.
    pub fn has_failed(&self, key: ClientKey) -> bool {
        self.clients
            .get(key)
            .is_some_and(|client| client.has_failed)
    }

    /// Takes the first client of a lane. Clients that are gone are passed over.
    pub fn take_ready(&mut self, is_heavy: bool) -> Option<ClientKey> {
        while let Some(key) = self.ready.lane_mut(is_heavy).pop_front() {
            if let Some(client) = self.clients.get_mut(key) {
                client.is_ready = false;
                return Some(key);
            }
        }
        None
    }

    /// How many a lane has, clients that are gone included.
    pub fn ready_len(&self, is_heavy: bool) -> usize {
        self.ready.lane(is_heavy).len()
    }

    /// Whether somebody is in a lane.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Says in which lane the client waits the next time.
    pub fn set_heavy(&mut self, key: ClientKey, is_heavy: bool) {
        if let Some(client) = self.clients.get_mut(key) {
            client.is_heavy = is_heavy;
        }
    }
}
