//! Gives each accepted connection to a worker, to be served or to be refused.
//!
//! The control loop calls it. It neither reads from a connection nor writes to it: workers send refusals, too.

use std::sync::Arc;

use tracing::debug;

use crate::config::ProxySource;
use crate::net::admission::{Admission, Entry, NoSeat, Seats};
use crate::net::balance::Rotation;
use crate::net::listener::Peer;
use crate::net::mail::{Mail, Postbox, Postboxes, ended, may_refuse_in_order};
use crate::net::proxy::Preface;
use crate::net::stream::Stream;
use crate::net::vitals::Vitals;
use crate::ws::handshake::Refusal;

/// Decides on the next connection.
#[derive(Debug)]
pub(super) struct Placement {
    /// All workers.
    pub(super) postboxes: Postboxes,
    /// Chooses the worker that serves the next connection.
    pub(super) serving: Rotation,
    /// Chooses the worker that refuses the next one. If one rotation did both, refusals could make one worker serve all the
    /// rest.
    pub(super) refusing: Rotation,
    /// All connections so far, let in or not.
    pub(super) arrivals: usize,
    /// Counts the connections that are let in.
    pub(super) vitals: Arc<Vitals>,
    /// The connections of each address.
    pub(super) seats: Arc<Seats>,
    /// The proxies that name their clients before the first byte.
    pub(super) proxies: Vec<ProxySource>,
    /// The proxies that name their clients in each request.
    pub(super) trusted: Vec<ProxySource>,
}

impl Placement {
    /// Hands a connection to a worker. The worker refuses it if the relay or its address has as many as it may have.
    pub(super) fn place(&mut self, stream: Stream, peer: Peer) {
        self.arrivals += 1;
        // Connections are let in here only, so the limit is never exceeded.
        debug_assert!(
            ended(&self.postboxes) <= self.vitals.admitted(),
            "more have ended than were let in"
        );
        if self.vitals.is_full() {
            return self.refuse(stream, peer, Refusal::CAPACITY);
        }
        match self.admit(peer) {
            Ok(admission) => {
                self.vitals.note_admitted();
                let worker = next_running(&mut self.serving, &self.postboxes);
                worker.note_arrival();
                worker.inbox.send(Mail::Socket(stream, peer, admission));
            }
            Err(refusal) => self.refuse(stream, peer, refusal),
        }
    }

    /// Counts a connection among those of its address. The connection of a proxy is counted once it has named the client.
    fn admit(&self, peer: Peer) -> Result<Admission, Refusal> {
        let is_among = |proxies: &[ProxySource]| proxies.iter().any(|proxy| is_from(*proxy, peer));
        if is_among(&self.proxies) {
            return Ok(Some(Box::new(Entry::Header(Preface::default(), peer))));
        }
        if is_among(&self.trusted) {
            return Ok(Some(Box::new(Entry::Proxy(peer))));
        }
        match peer {
            Peer::Address(address) => match self.seats.take(address) {
                Ok(seat) => Ok(seat.map(|seat| Box::new(Entry::Seat(seat)))),
                Err(NoSeat) => Err(Refusal::PER_IP),
            },
            // A client on the Unix socket has no address.
            Peer::Unix => Ok(None),
        }
    }

    fn refuse(&mut self, stream: Stream, peer: Peer, refusal: Refusal) {
        debug!(?peer, kind = ?refusal.kind, "a connection is refused");
        let worker = next_running(&mut self.refusing, &self.postboxes);
        if may_refuse_in_order(&self.postboxes) {
            worker.note_refusal();
            return worker.inbox.send(Mail::Refusal(stream, refusal));
        }
        // Too many are being refused in order. This one is closed at once, and the worker only counts it.
        drop(stream);
        worker.inbox.send(Mail::Surplus(refusal.kind));
    }
}

/// The worker whose turn it is. A worker that stands still is passed over, unless all do.
fn next_running<'a>(rotation: &mut Rotation, postboxes: &'a [Postbox]) -> &'a Postbox {
    let mut worker = &postboxes[rotation.next(postboxes.len())];
    for _ in 1..postboxes.len() {
        if !worker.is_frozen() {
            break;
        }
        worker = &postboxes[rotation.next(postboxes.len())];
    }
    worker
}

fn is_from(proxy: ProxySource, peer: Peer) -> bool {
    match peer {
        Peer::Address(address) => proxy.contains(address),
        Peer::Unix => proxy == ProxySource::Unix,
    }
}
