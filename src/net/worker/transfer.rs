//! Clients that move to the worker where they are to live, once their topic is known.

use super::Worker;
use crate::ids::ClientKey;
use crate::net::conn::Conn;
use crate::net::mail::{Mail, balance};
use crate::relay::shard::{Transfer, Undecided};

impl Worker {
    /// Hands over the clients that have just said what they want and that had better live elsewhere.
    pub(super) fn transfer_clients(&mut self) {
        while let Some(Undecided {
            key,
            owner,
            is_topic_here,
        }) = self.shard.poll_undecided()
        {
            let balance = balance(&self.postboxes).without_one_of(self.id.index());
            let owner = owner.index();
            let home = if is_topic_here {
                balance.filled_by(owner, self.fill_to)
            } else {
                balance.home(owner, self.fill_to)
            };
            match home.filter(|home| *home != self.id.index()) {
                Some(home) => self.transfer(key, home),
                None => self.shard.stay(key),
            }
        }
    }

    fn transfer(&mut self, key: ClientKey, home: usize) {
        let Some(transfer) = self.shard.transfer_out(key) else {
            return;
        };
        let slot = &mut self.conns[key.slot as usize];
        let mut conn = slot.take().expect("clients have a connection");
        if let Err(error) = self.poll.registry().deregister(conn.stream_mut()) {
            tracing::debug!(%error, "a connection was not watched");
        }
        let weight = transfer.weight_bytes();
        let postbox = &self.postboxes[home];
        postbox.note_arrival();
        self.postboxes[self.id.index()].note_departure();
        postbox
            .inbox
            .push(Mail::Client(Box::new((conn, transfer))), weight);
        // It is woken when the turn is decided, once for all.
        self.to_notify[home] = true;
    }

    /// Takes in a client that another worker has handed over.
    ///
    /// In a drain that is not cut short, none finds its new worker stopped, whatever that owns: a shard is drained when it has
    /// the answers of all shards to its fence. Each comes behind that shard's own fence, and so behind the last client that it
    /// has handed over.
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
