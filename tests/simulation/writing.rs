//! What a host sends to its connections and does to them, as `net::worker` does it.

use std::time::Duration;

use fanwire::ids::ClientKey;
use fanwire::metrics::stats::Stat;
use fanwire::relay::member::Slices;
use fanwire::relay::shard::{Effect, End, Written};

use crate::peer::{Peer, Request};
use crate::stream::Item;
use crate::tally::Event;
use crate::world::World;

/// The longest wait for a client that is failed to take what it had published before.
const PATIENCE: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn flush(&mut self, host: usize) {
        let budget = if self.is_settling {
            self.plan.flush_budget.max(16)
        } else {
            self.rng.within(0..=self.plan.flush_budget)
        };
        for _ in 0..budget {
            let Some(key) = self.hosts[host].shard.poll_flush() else {
                return;
            };
            if let Some(id) = self.hosts[host].peer_of(key) {
                self.write(host, key, id);
            }
        }
    }

    fn write(&mut self, host_id: usize, key: ClientKey, id: usize) {
        loop {
            let most = match self.rng.below(100) {
                0..6 => 0,
                6..14 => self.rng.within(0..=200),
                _ => usize::MAX,
            };
            let host = &mut self.hosts[host_id];
            let Peer {
                pipe, transport, ..
            } = &mut self.peers[id];
            if transport.is_handshaking() {
                // A refusal, for which there is no way yet.
                host.shard.on_end(key, End::Failed);
                return;
            }
            // What is held back waits for the writable edge, with or without more to come behind it.
            let is_due = transport.holds_back() && !host.shard.is_blocked(key);
            let mut slices = Slices::new();
            let offered = host.shard.gather(key, &mut slices);
            if offered == 0 && !is_due {
                return;
            }
            let Ok(written) = transport.flush(pipe, &slices, offered, most) else {
                drop(slices);
                host.shard.on_end(key, End::Failed);
                return;
            };
            let taken = written.taken;
            let mut bytes: Vec<u8> = Vec::with_capacity(taken);
            for slice in &slices {
                bytes.extend_from_slice(&slice[..slice.len().min(taken - bytes.len())]);
            }
            drop(slices);
            let again = host.shard.advance(key, written);
            self.tell(|| {
                format!(
                    "shard {host_id} writes {taken} of {offered} bytes to client {id}: {written:?}"
                )
            });
            self.note_stall(id, written);
            self.take_written(host_id, id, &bytes, written.holds_back);
            self.raise(id);
            if !again {
                return;
            }
        }
    }

    /// Has the model look at what was written, and the client read it in its time.
    fn take_written(&mut self, host: usize, id: usize, bytes: &[u8], is_held_back: bool) {
        self.peers[id].note_taken(bytes);
        let items = self.peers[id].stream.push(bytes);
        let items = items.unwrap_or_else(|error| panic!("to client {id}: {error}"));
        for (offset, item) in items {
            self.tell(|| format!("client {id} is sent {}", describe(&item)));
            let may_be_refused = self.may_be_refused(host, id, &item);
            let is_out_of_patience = self.is_out_of_patience(host, id);
            self.model
                .written(id, &item, may_be_refused, is_out_of_patience);
            if is_held_back {
                self.tally.note(match item {
                    Item::Close { .. } => Event::CloseHeldBack,
                    _ => Event::DeliveryHeldBack,
                });
            }
            self.peers[id].expect(offset, item);
        }
    }

    fn note_stall(&mut self, id: usize, written: Written) {
        let now = self.now;
        let peer = &mut self.peers[id];
        let since = peer.blocked_at.unwrap_or(now);
        peer.has_stalled |= now.since(since) >= self.plan.config.slow_consumer.stall_timeout;
        let since = if written.has_progressed { now } else { since };
        peer.blocked_at = written.is_blocked.then_some(since);
    }

    /// Whether a client that broke the protocol has had its time to read what it had published, or may have had to give way
    /// because its host is short of memory: it hears of what it did first.
    fn is_out_of_patience(&self, host: usize, id: usize) -> bool {
        let peer = &self.peers[id];
        let is_late = |at| self.now.since(at) >= PATIENCE;
        let is_short = self.hosts[host].value(Stat::BufferLimitReached) > 0;
        is_short || peer.has_stalled || peer.offended_at.is_some_and(is_late)
    }

    fn may_be_refused(&self, host: usize, id: usize, item: &Item) -> bool {
        let host = &self.hosts[host];
        let is_full = host.shard.is_draining() || host.value(Stat::BufferLimitReached) > 0;
        let is_too_late = *item == Item::Response(408);
        let is_turned_away = *item == Item::Response(503) && is_full;
        self.peers[id].request != Request::Upgrade || is_too_late || is_turned_away
    }

    pub(crate) fn apply_effects(&mut self, host: usize) {
        let effects: Vec<Effect> = self.hosts[host].shard.take_effects().collect();
        for effect in effects {
            let (Effect::ShutdownWrite(key) | Effect::Close(key)) = effect;
            let Some(id) = self.hosts[host].peer_of(key) else {
                panic!("{effect:?} of a connection that is not there");
            };
            self.tell(|| format!("client {id}: {effect:?}"));
            match effect {
                Effect::ShutdownWrite(_) => self.shut(id),
                Effect::Close(_) => {
                    self.close(host, id);
                    self.hosts[host].conns[key.slot as usize] = None;
                }
            }
        }
    }

    fn shut(&mut self, id: usize) {
        let Peer {
            pipe,
            stream,
            transport,
            ..
        } = &mut self.peers[id];
        assert!(
            !stream.is_torn(),
            "client {id}: shut in the middle of a frame"
        );
        transport.shut(pipe);
        self.raise(id);
    }

    fn close(&mut self, host: usize, id: usize) {
        let Peer {
            pipe, transport, ..
        } = &self.peers[id];
        let is_over = pipe.is_reset() || pipe.is_shut_by_client() || transport.is_ended();
        if transport.held_back_bytes() > 0 {
            let host = &self.hosts[host];
            let is_short = host.value(Stat::BufferLimitReached) > 0;
            assert!(
                is_over || is_short || host.is_ruthless,
                "client {id}: closed before its transport has sent what it took"
            );
            for _ in 0..self.peers[id].messages_held_back() {
                self.tally.note(Event::LostInTransport);
            }
        }
        self.peers[id].pipe.close_by_server();
        self.model.close(id);
    }

    pub(crate) fn take_resumed(&mut self, host: usize) {
        let resumed: Vec<ClientKey> = self.hosts[host].shard.take_resumed().collect();
        for key in resumed {
            self.hosts[host].make_ready(key);
        }
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Message { payload, .. } => {
            let start = payload.get(..8).unwrap_or(payload);
            format!(
                "{} bytes, {:?}",
                payload.len(),
                String::from_utf8_lossy(start)
            )
        }
        other => format!("{other:?}"),
    }
}
