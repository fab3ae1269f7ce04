//! The lists of kept messages that clients of this shard replay, and the memory that they take.
//!
//! Many clients share a list, and lists share batches. A batch counts once, for as long as some client has a list with it. It
//! counts here as well as in the history of its owner, which may drop it at any time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use crate::ids::ClientKey;
use crate::metrics::stats::{Stat, Stats};
use crate::relay::batch::past::Past;

/// A list that some client replays. The key is valid as long as some client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PastKey(usize);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Replays {
    lists: Slab<List>,
    /// A list is told from others by its address. It stays there as long as some client has it.
    keys_by_address: HashMap<usize, PastKey>,
    /// The number of lists with each batch, by its address.
    lists_by_batch: HashMap<usize, u32>,
}

#[derive(Debug)]
struct List {
    past: Arc<Past>,
    clients: BTreeSet<ClientKey>,
}

impl Replays {
    /// `client` replays `past` from now on.
    pub(super) fn enter(
        &mut self,
        past: &Arc<Past>,
        client: ClientKey,
        stats: &mut Stats,
    ) -> PastKey {
        let address = Arc::as_ptr(past) as usize;
        let key = match self.keys_by_address.get(&address) {
            Some(&key) => key,
            None => self.add(address, past, stats),
        };
        self.lists[key.0].clients.insert(client);
        key
    }

    fn add(&mut self, address: usize, past: &Arc<Past>, stats: &mut Stats) -> PastKey {
        for kept in past.entries() {
            let lists = self
                .lists_by_batch
                .entry(Arc::as_ptr(&kept.batch) as usize)
                .or_default();
            *lists += 1;
            if *lists == 1 {
                stats.add(Stat::ReplayBytes, kept.batch.kept_bytes());
            }
        }
        let key = PastKey(self.lists.insert(List {
            past: past.clone(),
            clients: BTreeSet::new(),
        }));
        self.keys_by_address.insert(address, key);
        key
    }

    /// `client` does not replay the list any more. The last one gives it back.
    pub(super) fn leave(&mut self, key: PastKey, client: ClientKey, stats: &mut Stats) {
        let list = &mut self.lists[key.0];
        let was_there = list.clients.remove(&client);
        debug_assert!(was_there, "the client replays the list");
        if !list.clients.is_empty() {
            return;
        }
        let list = self.lists.remove(key.0);
        self.keys_by_address
            .remove(&(Arc::as_ptr(&list.past) as usize));
        for kept in list.past.entries() {
            let batch = Arc::as_ptr(&kept.batch) as usize;
            let lists = self.lists_by_batch.get_mut(&batch);
            let lists = lists.expect("each batch of a list is counted");
            *lists -= 1;
            if *lists == 0 {
                self.lists_by_batch.remove(&batch);
                stats.sub(Stat::ReplayBytes, kept.batch.kept_bytes());
            }
        }
        if self.lists.is_empty() {
            // The tables of a crowd are given back.
            *self = Replays::default();
        }
    }

    /// All clients that replay a list.
    pub(super) fn clients(&self) -> impl Iterator<Item = ClientKey> + '_ {
        let lists = self.lists.iter();
        lists.flat_map(|(_, list)| list.clients.iter().copied())
    }

    /// The clients of some list; none if there is no list.
    pub(super) fn some_clients(&self) -> Vec<ClientKey> {
        let first = self.lists.iter().next();
        first.map_or_else(Vec::new, |(_, list)| list.clients.iter().copied().collect())
    }

    /// Checks the gauge, and that each client's list is known. For tests.
    pub(super) fn check<'a>(
        &self,
        clients: impl Iterator<Item = (ClientKey, PastKey, &'a Arc<Past>)>,
        stats: &Stats,
    ) {
        let mut entered = 0;
        for (client, key, past) in clients {
            let list = &self.lists[key.0];
            assert!(Arc::ptr_eq(&list.past, past) && list.clients.contains(&client));
            entered += 1;
        }
        let listed: usize = self.lists.iter().map(|(_, list)| list.clients.len()).sum();
        assert_eq!(listed, entered, "only clients that replay are listed");
        let mut batches = BTreeSet::new();
        for (_, list) in &self.lists {
            for kept in list.past.entries() {
                batches.insert((Arc::as_ptr(&kept.batch) as usize, kept.batch.kept_bytes()));
            }
        }
        let bytes: u64 = batches.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, stats.value(Stat::ReplayBytes), "replayed batches");
    }
}
