//! Batches that outlive their log because clients are in the middle of one of their messages.
//!
//! [`memory`](super::memory) counts them here. A batch is in memory once however many clients share it, so it counts once. A
//! client's part is the size of the batch, divided by the number of clients that share it: the more they are, the less it
//! helps to disconnect one.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;

use bytes::Bytes;
use slab::Slab;

use crate::ids::ClientKey;

/// A shared batch. The key is valid as long as some client shares it. It is one more than the batch's index, so that a client
/// without such a batch needs no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SharedKey(NonZeroU32);

impl SharedKey {
    fn of(index: usize) -> Self {
        // There are no more batches than clients, and their number has 32 bits.
        SharedKey(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    batches: Slab<Shared>,
    /// The address of its bytes tells a batch from others. They stay there as long as it is shared.
    keys_by_address: HashMap<usize, SharedKey>,
}

#[derive(Debug)]
struct Shared {
    batch: Bytes,
    clients: BTreeSet<ClientKey>,
}

/// The change of a batch's cost when a client begins or ceases to share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The cost before that.
    pub(super) before: Cost,
    /// The cost since then.
    pub(super) after: Cost,
}

/// The bytes that a batch costs; 0 when nobody shares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// The whole batch.
    pub(super) total: u64,
    /// The part of each client that shares it.
    pub(super) each: u64,
}

impl Sharing {
    /// The number of clients that share `batch`.
    pub(super) fn sharers(&self, batch: &Bytes) -> usize {
        self.keys_by_address
            .get(&address(batch))
            .map_or(0, |key| self.batches[key.index()].clients.len())
    }

    /// `client` shares `batch` from now on. The batch is not empty.
    pub(super) fn enter(&mut self, batch: &Bytes, client: ClientKey) -> (SharedKey, Change) {
        let batches = &mut self.batches;
        let key = *self
            .keys_by_address
            .entry(address(batch))
            .or_insert_with(|| {
                SharedKey::of(batches.insert(Shared {
                    batch: batch.clone(),
                    clients: BTreeSet::new(),
                }))
            });
        let shared = &mut self.batches[key.index()];
        let before = shared.cost();
        shared.clients.insert(client);
        let after = shared.cost();
        (key, Change { before, after })
    }

    /// `client` does not share the batch any more. The last one gives it back.
    pub(super) fn leave(&mut self, key: SharedKey, client: ClientKey) -> Change {
        let shared = &mut self.batches[key.index()];
        let before = shared.cost();
        let was_there = shared.clients.remove(&client);
        debug_assert!(was_there, "the client shares the batch");
        let after = shared.cost();
        if shared.clients.is_empty() {
            self.forget(key);
        }
        Change { before, after }
    }

    fn forget(&mut self, key: SharedKey) {
        let shared = self.batches.remove(key.index());
        self.keys_by_address.remove(&address(&shared.batch));
        if self.batches.is_empty() {
            // The tables of a crowd are given back.
            *self = Sharing::default();
        }
    }

    /// The clients that share it.
    pub(super) fn clients(&self, key: SharedKey) -> impl Iterator<Item = ClientKey> + '_ {
        let shared = self.batches.get(key.index());
        shared
            .into_iter()
            .flat_map(|shared| shared.clients.iter().copied())
    }

    /// The size of all batches together, counted anew. For tests.
    pub(super) fn total_bytes(&self) -> u64 {
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

    #[test]
    fn a_shared_batch_counts_once_until_the_last_client_leaves() {
        let mut sharing = Sharing::default();
        let (batch, other) = (Bytes::from(vec![0; 100]), Bytes::from(vec![0; 7]));
        let cost = |total, each| Cost { total, each };
        let (key, change) = sharing.enter(&batch, ClientKey::first_in(1));
        assert_eq!((change.before, change.after), (cost(0, 0), cost(100, 100)));
        assert_eq!(sharing.enter(&batch.clone(), ClientKey::first_in(2)).0, key);
        let (same, change) = sharing.enter(&batch, ClientKey::first_in(3));
        assert_eq!(same, key);
        assert_eq!(
            (change.before, change.after),
            (cost(100, 50), cost(100, 34))
        );
        assert_ne!(sharing.enter(&other, ClientKey::first_in(4)).0, key);
        assert_eq!((sharing.sharers(&batch), sharing.total_bytes()), (3, 107));
        assert_eq!(
            sharing.leave(key, ClientKey::first_in(2)).after,
            cost(100, 50)
        );
        assert!(
            sharing
                .clients(key)
                .eq([ClientKey::first_in(1), ClientKey::first_in(3)])
        );
        sharing.leave(key, ClientKey::first_in(1));
        let change = sharing.leave(key, ClientKey::first_in(3));
        assert_eq!((change.before, change.after), (cost(100, 100), cost(0, 0)));
        assert_eq!((sharing.sharers(&batch), sharing.total_bytes()), (0, 7));
    }
}
