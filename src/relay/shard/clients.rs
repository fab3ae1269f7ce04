//! The clients of a shard: a table that knows one tenant of a slot from the next.
//!
//! The steps of a shard look clients up here. A key of a client that is gone finds nothing, also when its slot is taken again.

use std::ops::{Index, IndexMut};

use slab::Slab;

use super::client::Client;
use super::phase::Phase;
use crate::ids::ClientKey;
use crate::relay::topic::member::Member;
use crate::time::Timestamp;

/// From this many clients on, the memory of the table is given back when the last of them has gone.
const CROWD: usize = 256;

/// See the module. Indexing panics for a client that is gone.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Slab<Client>,
    /// The number of clients that the table is made for.
    reserved: usize,
    /// The most clients there were since the table was made.
    peak: usize,
    next_generation: u32,
}

impl Clients {
    /// Makes room for `clients`, so that the table never grows. A table that doubles is copied while everybody waits, and
    /// leaves its old half behind. Room that was never used takes addresses, but no memory.
    pub(super) fn reserve(&mut self, clients: usize) {
        self.reserved = clients;
        self.slots.reserve_exact(clients);
    }

    /// Takes in a connection whose request is due at `due`.
    pub(super) fn insert(&mut self, now: Timestamp, due: Timestamp) -> ClientKey {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let slot = self.slots.insert(Client::new(generation, now, due));
        self.peak = self.peak.max(self.slots.len());
        key_of(slot, generation)
    }

    /// Takes a client out. The last of a crowd gives the table's memory back.
    pub(super) fn remove(&mut self, key: ClientKey) -> Option<Client> {
        self.get(key)?;
        let client = self.slots.remove(key.slot as usize);
        if self.slots.is_empty() && self.peak >= CROWD {
            // A new table takes no memory yet.
            self.slots = Slab::with_capacity(self.reserved);
            self.peak = 0;
        }
        Some(client)
    }

    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.slots
            .get(key.slot as usize)
            .filter(|client| client.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slots
            .get_mut(key.slot as usize)
            .filter(|client| client.generation == key.generation)
    }

    /// The client as a member of its topic, if it is one.
    pub(super) fn member(&self, key: ClientKey) -> Option<&Member> {
        self.get(key)?.member.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        let slots = self.slots.iter();
        slots.map(|(slot, client)| (key_of(slot, client.generation), client))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().map(|(_, client)| client)
    }

    /// The clients whose phase is `wanted`.
    pub(super) fn keys_in(&self, wanted: impl Fn(Phase) -> bool) -> Vec<ClientKey> {
        let clients = self.iter().filter(|(_, client)| wanted(client.phase()));
        clients.map(|(key, _)| key).collect()
    }
}

fn key_of(slot: usize, generation: u32) -> ClientKey {
    // Descriptors limit the number of slots.
    let slot = slot as u32;
    ClientKey { slot, generation }
}

impl Index<ClientKey> for Clients {
    type Output = Client;

    fn index(&self, key: ClientKey) -> &Client {
        self.get(key).expect("the client is there")
    }
}

impl IndexMut<ClientKey> for Clients {
    fn index_mut(&mut self, key: ClientKey) -> &mut Client {
        self.get_mut(key).expect("the client is there")
    }
}
