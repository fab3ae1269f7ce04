//! The work before a shard gets a client's first byte: read a proxy's header, and seat the client that it names.
//!
//! [`Sockets`] calls it for connections from proxies that must send a header. It refuses a client with a bad header, and one
//! over the limit of its address.

use std::net::IpAddr;

use super::sockets::{Sockets, conn_in};
use crate::ids::ClientKey;
use crate::net::admission::Entry;
use crate::net::mail::may_refuse_in_order;
use crate::net::proxy::Arrived;
use crate::relay::shard::{End, Shard};
use crate::ws::handshake::{Refusal, RefusalKind};

impl Sockets {
    /// Reads the header as far as it has come. Returns true once it is complete or wrong: from then on the bytes are for the
    /// shard, which throws them away after a refusal.
    pub(super) fn read_header(&mut self, shard: &mut Shard, key: ClientKey) -> bool {
        let Some(conn) = conn_in(&mut self.conns, key) else {
            return false;
        };
        let mut admission = conn.admission.take();
        let Some(Entry::Header(preface)) = admission.as_deref_mut() else {
            unreachable!("the caller has seen it");
        };
        match preface.read_from(conn.stream_mut(), &mut self.scratch.plain) {
            Arrived::Part => {
                conn.admission = admission;
                return false;
            }
            Arrived::Header(named) => {
                shard.end_preface(key);
                if let Some(named) = named {
                    self.seat(shard, key, named);
                }
            }
            Arrived::Bad(error) => {
                tracing::debug!(
                    shard = self.id.0,
                    client = key.slot,
                    ?error,
                    "a proxy sends no header that can be used"
                );
                shard.turn_away(key, RefusalKind::ProxyHeader);
            }
            Arrived::Eof => shard.on_end(key, End::Eof),
            Arrived::Failed => shard.on_end(key, End::Failed),
        }
        true
    }

    /// Gives the client a seat of the address that its proxy has named.
    fn seat(&mut self, shard: &mut Shard, key: ClientKey, address: IpAddr) {
        let Some(seats) = &self.seats else {
            return;
        };
        let Some(seat) = seats.take(address) else {
            return self.refuse_named(shard, key);
        };
        if let Some(conn) = self.conn(key) {
            conn.admission = Some(Box::new(Entry::Seat(seat)));
        }
    }

    /// Refuses a client whose address has as many connections as it may have: with an answer, if there is room for that. It
    /// does not count as served any more, or refusals would fill the relay.
    fn refuse_named(&mut self, shard: &mut Shard, key: ClientKey) {
        // Over TLS an answer would need a handshake first, which costs too much for a refusal.
        let is_encrypted = self.conn(key).is_some_and(|conn| conn.is_encrypted());
        if is_encrypted || !may_refuse_in_order(&self.postboxes) {
            return shard.turn_away(key, RefusalKind::PerIp);
        }
        let postbox = &self.postboxes[self.id.index()];
        postbox.note_refusal();
        postbox.note_end();
        self.refuse_in_order(shard, key, Refusal::PER_IP);
    }

    /// Refuses a connection that counts among those refused in order.
    pub(super) fn refuse_in_order(&mut self, shard: &mut Shard, key: ClientKey, refusal: Refusal) {
        if let Some(conn) = self.conn(key) {
            conn.refused = true;
        }
        shard.refuse_unheard(key, refusal);
    }
}
