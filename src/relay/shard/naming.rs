//! Clients that a trusted proxy names in their requests.
//!
//! The host counts connections by address. It says of which connections a proxy names the client ([`Shard::trust`]). Their
//! requests wait, when they can be granted, until the host has looked at the address: [`Shard::poll_unseated`]. It then calls
//! [`Shard::admit`], or refuses the client.

use core::net::IpAddr;

use super::Shard;
use super::arrival::{Arrival, Stage, Undecoded};
use crate::http::forwarded::Forwarded;
use crate::ids::ClientKey;
use crate::port::decision::Peer;
use crate::port::terms::Terms;

/// A client whose proxy has named it.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// The client.
    pub key: ClientKey,
    /// The words of the proxy about it.
    pub(crate) forwarded: Forwarded,
}

impl Shard {
    /// Whether a proxy at this address is trusted to name its clients.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.settings.port.trusts(address)
    }

    /// Whether proxies that connect through the Unix socket are trusted.
    pub(crate) fn trusts_unix(&self) -> bool {
        self.settings.port.trusts_unix()
    }

    /// The connection comes from a trusted proxy, which names the client in the request.
    pub fn trust(&mut self, key: ClientKey) {
        if let Some(peer) = self.peer(key) {
            peer.names_clients = true;
            peer.is_loopback = false;
        }
    }

    /// The connection comes from this machine. It does not count if a proxy is behind it that names its client.
    pub(crate) fn note_loopback(&mut self, key: ClientKey) {
        if let Some(peer) = self.peer(key) {
            peer.is_loopback = !peer.names_clients;
        }
    }

    /// The peer of a client that has not sent its request.
    fn peer(&mut self, key: ClientKey) -> Option<&mut Peer> {
        let arrival = self.clients.get_mut(key)?.arrival.as_mut()?;
        Some(&mut arrival.peer)
    }

    /// The peer of the socket is a trusted proxy, so what it says about its client's grants counts. An address that a header
    /// claims is not enough.
    pub(crate) fn believe(&mut self, key: ClientKey) {
        if let Some(peer) = self.peer(key) {
            peer.is_proxy = true;
        }
    }

    /// Keeps a request that can be granted until the host has a seat for its client.
    pub(super) fn await_seat(
        &mut self,
        key: ClientKey,
        terms: Terms,
        forwarded: Forwarded,
        early: Vec<u8>,
    ) {
        if let Some(address) = forwarded.address {
            tracing::debug!(shard = self.id.0, client = key.slot, %address, "a proxy names its client");
        }
        let arrival = Arrival::at(Stage::AwaitsSeat(terms, forwarded), Undecoded::new(early));
        self.clients[key].arrival = Some(Box::new(arrival));
        self.unseated.push(key);
    }

    /// Keeps what the proxy of a client that publishes has said wrongly about it, until the host asks for it.
    pub(super) fn note_misnaming(&mut self, key: ClientKey, forwarded: Option<Forwarded>) {
        let forwarded = forwarded.filter(|forwarded| forwarded.fault.is_some());
        self.misnamed
            .extend(forwarded.map(|forwarded| (key, forwarded)));
    }

    /// The next client that publishes and that its proxy has not named well. It needs no seat.
    pub(in crate::relay) fn poll_misnamed(&mut self) -> Option<Named> {
        let (key, forwarded) = self.misnamed.pop()?;
        Some(Named { key, forwarded })
    }

    /// The number of clients that need a seat. It includes some that are gone.
    pub(in crate::relay) fn unseated_len(&self) -> usize {
        self.unseated.len()
    }

    /// The next client that needs a seat. The host admits or refuses it before it asks for the next.
    pub(crate) fn poll_unseated(&mut self) -> Option<Named> {
        while let Some(key) = self.unseated.pop() {
            let arrival = self.clients.get_mut(key);
            let arrival = arrival.and_then(|client| client.arrival.as_mut());
            let stage = arrival.map(|arrival| &mut arrival.stage);
            if let Some(Stage::AwaitsSeat(_, forwarded)) = stage {
                let forwarded = std::mem::take(forwarded);
                return Some(Named { key, forwarded });
            }
        }
        None
    }

    /// Grants the request of a client that has got its seat.
    pub(crate) fn admit(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(arrival) = client
            .arrival
            .take_if(|arrival| matches!(arrival.stage, Stage::AwaitsSeat(..)))
        else {
            return;
        };
        let Arrival { stage, early, .. } = *arrival;
        if let Stage::AwaitsSeat(terms, _) = stage {
            self.grant(key, terms, early.into_bytes());
            self.gauge_client(key);
        }
    }
}
