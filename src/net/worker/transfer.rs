//! Clients that move to the worker that owns their topic, as long as that leaves the workers evenly loaded.

use std::sync::atomic::Ordering;

use super::Worker;
use crate::ids::{ClientKey, ShardId};
use crate::net::conn::Conn;
use crate::net::mail::Mail;
use crate::relay::shard::Transfer;

/// A worker may have more connections than the average, by one in so many. Where there are as many topics as make moving
/// worth while, chance spreads their owners more evenly than this, so that nearly all clients come to live with their
/// topics. Where they are few, or all clients are in one, clients are spread evenly nevertheless: once the owner has no
/// room, each other shard soon has a member, and then nobody moves for that topic.
const EXCESS_SHARE: usize = 8;

impl Worker {
    /// Hands over the clients that have just said what they want and that had better live elsewhere.
    pub(super) fn transfer_clients(&mut self) {
        while let Some((key, owner)) = self.shard.poll_undecided() {
            if self.has_room(owner) {
                self.transfer(key, owner);
            } else {
                self.shard.stay(key);
            }
        }
    }

    fn has_room(&self, owner: ShardId) -> bool {
        // Relaxed: counts for placement, which bear no other data.
        let connections = |of: usize| self.postboxes[of].connections.load(Ordering::Relaxed);
        let total = (0..self.postboxes.len()).map(connections).sum();
        may_take_one(connections(owner.index()), total, self.postboxes.len())
    }

    fn transfer(&mut self, key: ClientKey, owner: ShardId) {
        let Some(transfer) = self.shard.transfer_out(key) else {
            return self.shard.stay(key);
        };
        let slot = &mut self.conns[key.slot as usize];
        let mut conn = slot.take().expect("clients have a connection");
        if let Err(error) = self.poll.registry().deregister(conn.stream_mut()) {
            tracing::debug!(%error, "a connection was not watched");
        }
        let weight = transfer.weight_bytes();
        let postbox = &self.postboxes[owner.index()];
        // Relaxed: counts for placement, which bear no other data.
        postbox.connections.fetch_add(1, Ordering::Relaxed);
        self.postboxes[self.id.index()]
            .connections
            .fetch_sub(1, Ordering::Relaxed);
        postbox
            .inbox
            .push(Mail::Client(Box::new((conn, transfer))), weight);
        postbox.inbox.notify();
    }

    /// Takes in a client that another worker has handed over.
    pub(super) fn take_client(&mut self, mut conn: Conn, transfer: Transfer) {
        // A slot that was given up in this turn may be given out again.
        self.apply_effects();
        let key = self.shard.transfer_in(transfer);
        conn.generation = key.generation;
        conn.ready = false;
        self.watch_conn(key, conn);
        // What the other worker left unread may be in the transport and not in the socket, where no edge announces it.
        self.make_ready(key);
    }
}

/// Whether a worker with `connections` may take one more from another, where all have `total`.
fn may_take_one(connections: usize, total: usize, workers: usize) -> bool {
    connections < most_connections(total / workers)
}

/// The most connections that a worker has with those that others hand over, where `average` is the average.
pub fn most_connections(average: usize) -> usize {
    average + average / EXCESS_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_of_clients_is_spread_evenly() {
        assert!((0..8).all(|average| !may_take_one(average, 4 * average, 4)));
    }

    #[test]
    fn many_may_live_where_their_topics_are_as_long_as_the_others_have_nearly_as_many() {
        assert!(may_take_one(1124, 8 * 1000, 8));
        assert!(!may_take_one(1125, 8 * 1000, 8));
    }
}
