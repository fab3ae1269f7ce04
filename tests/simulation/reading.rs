//! The input of connections, as a host handles it.

use std::collections::VecDeque;

use fanwire::internals::ClientKey;
use fanwire::internals::relay::{Filled, Shard};
use fanwire::server::Stat;

use crate::peer::Peer;
use crate::tally::Event;
use crate::world::{Parcel, World};

impl World {
    /// Whether some inbox is full.
    pub(crate) fn find_congestion(&mut self, host: usize) -> bool {
        let weight =
            |link: &VecDeque<Parcel>| -> usize { link.iter().map(Parcel::weight_bytes).sum() };
        let is_full = |inbox: &Vec<VecDeque<Parcel>>| {
            inbox.iter().map(weight).sum::<usize>() > self.plan.inbox_high_water_bytes
        };
        let is_congested = self.links.iter().any(is_full);
        self.hosts[host].is_congested = is_congested;
        if is_congested {
            self.tally.note(Event::Congestion);
        }
        is_congested
    }

    /// Reads a connection once.
    pub(crate) fn fill(
        &mut self,
        host_id: usize,
        shard: &mut Shard,
        key: ClientKey,
        id: usize,
    ) -> Filled {
        let host = &mut self.hosts[host_id];
        let is_ending = host.conn(key).is_some_and(|conn| conn.read_closed);
        let Peer {
            pipe, transport, ..
        } = &mut self.peers[id];
        let is_plain = !transport.makes_records();
        let (filled, is_direct) = match shard.direct_buffer(key) {
            Some(buffer) if is_plain => (transport.fill(pipe, buffer, is_ending), true),
            _ => (transport.fill(pipe, &mut host.scratch, is_ending), false),
        };
        // A read may return only a part of a record.
        if let Filled::More(count @ 1..) | Filled::Last(count) = filled {
            self.model.consume(id, count);
            if is_direct {
                shard.on_direct(key, count);
            } else {
                shard.on_bytes(key, &mut host.scratch[..count]);
            }
            self.tell(|| format!("shard {host_id} reads {count} bytes of client {id}"));
            self.observe(host_id, shard, key, true);
        }
        // The transport may have answered and filled a buffer.
        self.raise(id);
        filled
    }

    /// Tells the model the effect of a client's input: it has joined, or messages of it were accepted.
    pub(crate) fn observe(&mut self, host: usize, shard: &Shard, key: ClientKey, is_local: bool) {
        let stats = shard.stats();
        let after = [Stat::Connections, Stat::Messages, Stat::PostedMessages];
        let after = after.map(|stat| stats.value(stat));
        let before = std::mem::replace(&mut self.hosts[host].seen, after);
        let [joined, accepted, offered] = [0, 1, 2].map(|index| after[index] - before[index]);
        let Some(id) = self.hosts[host].peer_of(key) else {
            assert_eq!(
                [joined, accepted, offered],
                [0; 3],
                "of a client that is gone"
            );
            return;
        };
        if offered > 0 {
            self.note_offers(host, shard, key, id, offered);
        }
        match (joined, is_local) {
            (0, _) => {}
            (1, true) => self.model.join_at_head(id, shard.now()),
            (1, false) => self.model.join(id, key),
            (more, _) => panic!("{more} clients joined at once"),
        }
        if is_local && joined == 1 {
            let topic = self.plan.topics[self.peers[id].topic];
            let owner = self.router.owner(topic).index();
            assert_eq!(owner, host, "joined without a word from the topic's owner");
        }
        let is_shut = shard.is_draining();
        assert!(accepted == 0 || !is_shut, "accepted behind the fence");
        self.model.accept(id, accepted);
    }
}
