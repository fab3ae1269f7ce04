//! Clients that move to the worker that owns their topic, as long as that leaves the workers evenly loaded.

use super::Worker;
use crate::ids::{ClientKey, ShardId};
use crate::net::conn::Conn;
use crate::net::mail::{Mail, balance};
use crate::relay::shard::Transfer;

impl Worker {
    /// Hands over the clients that have just said what they want and that had better live elsewhere.
    pub(super) fn transfer_clients(&mut self) {
        while let Some((key, owner)) = self.shard.poll_undecided() {
            if balance(&self.postboxes).may_take_one(owner.index()) {
                self.transfer(key, owner);
            } else {
                self.shard.stay(key);
            }
        }
    }

    fn transfer(&mut self, key: ClientKey, owner: ShardId) {
        let transfer = self.shard.transfer_out(key);
        let slot = &mut self.conns[key.slot as usize];
        let mut conn = slot.take().expect("clients have a connection");
        if let Err(error) = self.poll.registry().deregister(conn.stream_mut()) {
            tracing::debug!(%error, "a connection was not watched");
        }
        let weight = transfer.weight_bytes();
        let postbox = &self.postboxes[owner.index()];
        postbox.note_arrival();
        self.postboxes[self.id.index()].note_departure();
        postbox
            .inbox
            .push(Mail::Client(Box::new((conn, transfer))), weight);
        // It is woken when the turn is decided, once for all.
        self.to_notify[owner.index()] = true;
    }

    /// Takes in a client that another worker has handed over.
    ///
    /// In a drain that is not cut short, none finds its new worker stopped: a shard is drained when it has the others'
    /// fences, which come behind the clients that they hand over.
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
