//! What a host does with its connections' input, as `net::worker` does it.

use std::collections::VecDeque;

use fanwire::ids::ClientKey;
use fanwire::metrics::stats::Stat;
use fanwire::net::conn::Filled;
use fanwire::relay::shard::{End, Permit};

use crate::peer::Peer;
use crate::tally::Event;
use crate::world::{Parcel, World};

/// Reads of one connection in one turn.
const READS_PER_CONN: usize = 4;

impl World {
    pub(crate) fn read_ready(&mut self, host: usize) {
        let weight =
            |link: &VecDeque<Parcel>| -> usize { link.iter().map(Parcel::weight_bytes).sum() };
        let is_full = |inbox: &Vec<VecDeque<Parcel>>| {
            inbox.iter().map(weight).sum::<usize>() > self.plan.inbox_high_water_bytes
        };
        let is_congested = self.links.iter().any(is_full);
        self.hosts[host].is_congested = is_congested;
        if is_congested {
            self.tally.note(Event::Congestion);
            return;
        }
        for _ in 0..self.portion(self.hosts[host].ready.len()) {
            let Some(key) = self.hosts[host].ready.pop_front() else {
                return;
            };
            let Some(conn) = self.hosts[host].conn(key) else {
                continue;
            };
            conn.is_ready = false;
            let (id, read_closed) = (conn.peer, conn.read_closed);
            if self.read_conn(host, key, id, read_closed) {
                self.hosts[host].make_ready(key);
            }
        }
    }

    /// Reads a connection; says whether there may be more that could be read now.
    fn read_conn(&mut self, host: usize, key: ClientKey, id: usize, read_closed: bool) -> bool {
        for _ in 0..READS_PER_CONN {
            // What came with the request and had to wait is taken in before anything is read.
            let before = self.counts(host);
            let permit = self.hosts[host].shard.permit(key);
            self.observe(host, key, before, true);
            if permit == Permit::Parked {
                self.tell(|| format!("client {id} is not read for now"));
                return false;
            }
            match self.fill(host, key, id, read_closed) {
                Filled::More(_) => {}
                Filled::Last(_) | Filled::Empty => return false,
                Filled::Eof => {
                    self.hosts[host].shard.on_end(key, End::Eof);
                    return false;
                }
                Filled::Failed => {
                    self.hosts[host].shard.on_end(key, End::Failed);
                    return false;
                }
                Filled::TlsFailed => unreachable!("clients make good records"),
            }
        }
        true
    }

    fn fill(&mut self, host_id: usize, key: ClientKey, id: usize, is_ending: bool) -> Filled {
        let before = self.counts(host_id);
        let host = &mut self.hosts[host_id];
        let Peer {
            pipe, transport, ..
        } = &mut self.peers[id];
        let is_plain = !transport.makes_records();
        let (filled, is_direct) = match host.shard.direct_buffer(key) {
            Some(buffer) if is_plain => (transport.fill(pipe, buffer, is_ending), true),
            _ => (transport.fill(pipe, &mut host.scratch, is_ending), false),
        };
        // A read may bring nothing but a part of a record.
        if let Filled::More(count @ 1..) | Filled::Last(count) = filled {
            self.model.consume(id, count);
            if is_direct {
                host.shard.on_direct(key, count);
            } else {
                host.shard.on_bytes(key, &mut host.scratch[..count]);
            }
            self.tell(|| format!("shard {host_id} reads {count} bytes of client {id}"));
            self.observe(host_id, key, before, true);
        }
        // The transport may have answered, and met a full buffer.
        self.raise(id);
        filled
    }

    /// Clients that joined and messages that were accepted, ever.
    pub(crate) fn counts(&self, host: usize) -> (u64, u64) {
        let host = &self.hosts[host];
        (host.value(Stat::Connections), host.value(Stat::Messages))
    }

    /// Tells the model what an input of the client has led to: it has joined, or messages of its were accepted.
    pub(crate) fn observe(
        &mut self,
        host: usize,
        key: ClientKey,
        before: (u64, u64),
        is_local: bool,
    ) {
        let after = self.counts(host);
        let (joined, accepted) = (after.0 - before.0, after.1 - before.1);
        let Some(id) = self.hosts[host].peer_of(key) else {
            assert_eq!((joined, accepted), (0, 0), "of a client that is gone");
            return;
        };
        match (joined, is_local) {
            (0, _) => {}
            (1, true) => self.model.join_at_head(id),
            (1, false) => self.model.join(id, key),
            (more, _) => panic!("{more} clients joined at once"),
        }
        if is_local && joined == 1 {
            let topic = self.plan.topics[self.peers[id].topic];
            let owner = self.router.owner(topic).index();
            assert_eq!(owner, host, "joined without a word from the topic's owner");
        }
        let is_shut = self.hosts[host].shard.is_draining();
        assert!(accepted == 0 || !is_shut, "accepted behind the fence");
        self.model.accept(id, accepted);
    }
}
