//! Clients that a proxy names, before their first byte or in their request: read a proxy's header, and seat the client.
//!
//! [`Sockets`] calls it for connections from trusted proxies. It turns away a connection whose PROXY header is bad. It refuses
//! a client if the address that its proxy names has as many connections as it may have.

use super::sockets::{Sockets, conn_in};
use crate::ids::ClientKey;
use crate::net::admission::{Entry, Origin};
use crate::net::listener::Peer;
use crate::net::mail::may_refuse_in_order;
use crate::net::proxy::Arrived;
use crate::relay::shard::{End, Named, Shard};
use crate::ws::handshake::{Refusal, RefusalKind};

impl Sockets {
    /// Reads the header as far as it has come. Returns true once it is complete or wrong: from then on the bytes are for the
    /// shard, which throws them away after a refusal.
    pub(super) fn read_header(&mut self, shard: &mut Shard, key: ClientKey) -> bool {
        let Some(conn) = conn_in(&mut self.conns, key) else {
            return false;
        };
        let mut admission = conn.admission.take();
        let Some(Entry::Header(preface, proxy)) = admission.as_deref_mut() else {
            unreachable!("the caller has seen it");
        };
        match preface.read_from(conn.stream_mut(), &mut self.scratch.plain) {
            Arrived::Part => {
                conn.admission = admission;
                return false;
            }
            Arrived::Header(named) => {
                shard.end_preface(key);
                let is_trusted = match proxy {
                    Peer::Address(address) => shard.trusts(*address),
                    Peer::Unix => shard.trusts_unix(),
                };
                if is_trusted {
                    shard.believe(key);
                }
                if let Some(address) = named {
                    tracing::debug!(shard = self.id.0, client = key.slot, %address, "a proxy names its client");
                }
                let origin = named.map_or(Origin::from(*proxy), Origin::from);
                shard.note_origin(key, origin);
                match named {
                    // It is a proxy, too, and names its client in the request.
                    Some(named) if shard.trusts(named) => {
                        conn.admission = Some(Box::new(Entry::Proxy(Peer::Address(named))));
                        shard.trust(key);
                    }
                    Some(named) => {
                        self.seat(shard, key, named.into());
                    }
                    None => {}
                }
            }
            Arrived::Bad(error) => {
                tracing::debug!(
                    shard = self.id.0,
                    client = key.slot,
                    ?error,
                    "a proxy sends no header that can be used"
                );
                self.complaints
                    .about_preface(*proxy, preface.bytes(), error);
                shard.turn_away(key, RefusalKind::ProxyHeader);
            }
            Arrived::Eof => shard.on_end(key, End::Eof),
            Arrived::Failed => shard.on_end(key, End::Failed),
        }
        true
    }

    /// Seats a client that a proxy has named in its request. Returns false if it refused the client.
    pub(super) fn seat_client_of_proxy(&mut self, shard: &mut Shard, named: &Named) -> bool {
        let Some(conn) = conn_in(&mut self.conns, named.key) else {
            return false;
        };
        let Some(Entry::Proxy(proxy)) = conn.admission.take().map(|entry| *entry) else {
            unreachable!("only clients of a proxy are named");
        };
        if let Some(fault) = &named.forwarded.fault {
            self.complaints.about_request(proxy, fault);
        }
        let address = named.forwarded.address;
        let origin = address.map_or(proxy.into(), Origin::from);
        self.seat(shard, named.key, origin)
    }

    /// The proxy of a client that publishes has not named it well. The connection keeps its proxy for later requests.
    pub(super) fn complain_of_proxy(&mut self, named: &Named) {
        let conn = conn_in(&mut self.conns, named.key);
        let entry = conn.and_then(|conn| conn.admission.as_deref());
        if let (Some(Entry::Proxy(proxy)), Some(fault)) = (entry, &named.forwarded.fault) {
            self.complaints.about_request(*proxy, fault);
        }
    }

    /// Gives the client a seat of the address that its proxy has named. Returns false if it refused the client.
    fn seat(&mut self, shard: &mut Shard, key: ClientKey, origin: Origin) -> bool {
        let Ok(seat) = self.seats.take(origin) else {
            self.refuse_named(shard, key);
            return false;
        };
        if let (Some(seat), Some(conn)) = (seat, self.conn(key)) {
            conn.admission = Some(Box::new(Entry::Seat(seat)));
        }
        true
    }

    /// Refuses a client whose address has as many connections as it may have: with an answer, if there is room for that. It
    /// does not count as served any more, or refusals would fill the relay.
    fn refuse_named(&mut self, shard: &mut Shard, key: ClientKey) {
        // An answer would need a TLS handshake first, which costs too much for a refusal.
        let is_mute = self.conn(key).is_some_and(|conn| conn.is_handshaking());
        if is_mute || !may_refuse_in_order(&self.postboxes) {
            return shard.turn_away(key, RefusalKind::PerIp);
        }
        let postbox = &self.postboxes[self.id.index()];
        postbox.note_refusal();
        postbox.note_end();
        self.refuse_in_order(shard, key, Refusal::PER_IP);
    }

    /// Refuses a connection that counts among those refused in order. Over TLS it is cut, because the request that the answer
    /// depends on comes behind an expensive handshake.
    pub(super) fn refuse_in_order(&mut self, shard: &mut Shard, key: ClientKey, refusal: Refusal) {
        let mut is_handshaking = false;
        if let Some(conn) = self.conn(key) {
            conn.refused = true;
            is_handshaking = conn.is_handshaking();
        }
        if is_handshaking {
            shard.refuse_now(key, refusal);
        } else {
            shard.refuse(key, refusal);
        }
    }
}
