//! Batches that outlive their log because clients are in the middle of one of their messages.
//!
//! However many share a batch, it is in memory once, and counts once. A client's part in it is what each would cost if
//! they split it: the more they are, the less it would help to see one of them off.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use slab::Slab;

use crate::ids::ClientKey;

/// A batch that is shared, valid as long as somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SharedKey(u32);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    batches: Slab<Shared>,
    /// Where a batch's bytes are tells it from others: they stay there as long as it is shared.
    keys_by_address: HashMap<usize, SharedKey>,
}

#[derive(Debug)]
struct Shared {
    batch: Bytes,
    clients: BTreeSet<ClientKey>,
}

/// What it made of a batch's cost that somebody shares it, or does no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Before that.
    pub(crate) before: Cost,
    /// Since then.
    pub(crate) after: Cost,
}

/// What a batch costs on account of those who share it, in bytes; nothing once nobody does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// All of it.
    pub(crate) total: u64,
    /// The part of each client that shares it.
    pub(crate) each: u64,
}

impl Sharing {
    /// How many clients share `batch`.
    pub(crate) fn sharers(&self, batch: &Bytes) -> usize {
        self.keys_by_address
            .get(&address(batch))
            .map_or(0, |key| self.batches[key.0 as usize].clients.len())
    }

    /// Has `client` share `batch`, which is not empty.
    pub(crate) fn enter(&mut self, batch: &Bytes, client: ClientKey) -> (SharedKey, Change) {
        let batches = &mut self.batches;
        let key = *self
            .keys_by_address
            .entry(address(batch))
            .or_insert_with(|| {
                // There is one for each client at most.
                SharedKey(batches.insert(Shared {
                    batch: batch.clone(),
                    clients: BTreeSet::new(),
                }) as u32)
            });
        let shared = &mut self.batches[key.0 as usize];
        let before = shared.cost();
        shared.clients.insert(client);
        let after = shared.cost();
        (key, Change { before, after })
    }

    /// Has `client` share it no more. The last one gives it back.
    pub(crate) fn leave(&mut self, key: SharedKey, client: ClientKey) -> Change {
        let shared = &mut self.batches[key.0 as usize];
        let before = shared.cost();
        let was_there = shared.clients.remove(&client);
        debug_assert!(was_there, "who shares a batch is known");
        let after = shared.cost();
        if shared.clients.is_empty() {
            self.forget(key);
        }
        Change { before, after }
    }

    fn forget(&mut self, key: SharedKey) {
        let shared = self.batches.remove(key.0 as usize);
        self.keys_by_address.remove(&address(&shared.batch));
        if self.batches.is_empty() {
            // What a crowd had needed is given back.
            *self = Sharing::default();
        }
    }

    /// Those who share it.
    pub(crate) fn clients(&self, key: SharedKey) -> impl Iterator<Item = ClientKey> + '_ {
        let shared = self.batches.get(key.0 as usize);
        shared
            .into_iter()
            .flat_map(|shared| shared.clients.iter().copied())
    }

    /// The cost of all of them together, in bytes, one by one. For tests.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.batches
            .iter()
            .map(|(_, shared)| shared.batch.len() as u64)
            .sum()
    }
}

impl Shared {
    fn cost(&self) -> Cost {
        let sharers = self.clients.len() as u64;
        if sharers == 0 {
            return Cost::default();
        }
        let total = self.batch.len() as u64;
        Cost {
            total,
            each: total.div_ceil(sharers),
        }
    }
}

fn address(batch: &Bytes) -> usize {
    batch.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> ClientKey {
        ClientKey {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn a_batch_costs_once_what_it_costs_until_the_last_one_leaves() {
        let mut sharing = Sharing::default();
        let (batch, other) = (Bytes::from(vec![0; 100]), Bytes::from(vec![0; 7]));
        let cost = |total, each| Cost { total, each };
        let (key, change) = sharing.enter(&batch, client(1));
        assert_eq!((change.before, change.after), (cost(0, 0), cost(100, 100)));
        assert_eq!(sharing.enter(&batch.clone(), client(2)).0, key);
        let (same, change) = sharing.enter(&batch, client(3));
        assert_eq!(same, key);
        assert_eq!(
            (change.before, change.after),
            (cost(100, 50), cost(100, 34))
        );
        assert_ne!(sharing.enter(&other, client(4)).0, key);
        assert_eq!((sharing.sharers(&batch), sharing.total_bytes()), (3, 107));
        assert_eq!(sharing.leave(key, client(2)).after, cost(100, 50));
        assert!(sharing.clients(key).eq([client(1), client(3)]));
        sharing.leave(key, client(1));
        let change = sharing.leave(key, client(3));
        assert_eq!((change.before, change.after), (cost(100, 100), cost(0, 0)));
        assert_eq!((sharing.sharers(&batch), sharing.total_bytes()), (0, 7));
    }
}
