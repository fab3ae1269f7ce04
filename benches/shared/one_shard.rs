//! A relay of one shard, driven in turns as the worker drives it: no socket, no thread, no kernel.

use std::time::Duration;

use divan::black_box;

use fanwire::config::Config;
use fanwire::ids::{ClientKey, ShardId};
use fanwire::metrics::stats::Stat;
use fanwire::relay::member::Slices;
use fanwire::relay::router::Router;
use fanwire::relay::shard::{Settings, Shard, Written};
use fanwire::time::Timestamp;

use crate::streams::{BINARY, FIN, client_frame};

/// Time goes on by this much each turn: no keep-alive is due before millions of turns have passed.
const TURN_MICROS: u64 = 1;

/// Clients that are admitted in one turn.
const ADMITTED_AT_ONCE: usize = 1000;

/// How much of an offer the kernel takes.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    /// Everything.
    TakesAll,
    /// Half, and no more until the next turn.
    TakesHalf,
}

/// See the module. The first member of each topic is its publisher.
pub(crate) struct OneShard {
    shard: Shard,
    publishers: Vec<ClientKey>,
    scratch: Vec<u8>,
    blocked: Vec<ClientKey>,
    now: Timestamp,
}

impl OneShard {
    /// A relay that fans out in every turn.
    pub(crate) fn new(topics: usize, members: usize, echo: bool) -> OneShard {
        let mut config = Config::default();
        config.relay.coalesce = Duration::ZERO;
        config.relay.echo = echo;
        OneShard::with(&config, topics, members)
    }

    /// A relay whose one topic has just been fanned out, and waits.
    #[allow(dead_code, reason = "not for every benchmark")]
    pub(crate) fn coalescing(members: usize) -> OneShard {
        let mut relay = OneShard::with(&Config::default(), 1, members);
        relay.turn([0], &client_frame(FIN | BINARY, 1));
        relay
    }

    fn with(config: &Config, topics: usize, members: usize) -> OneShard {
        let router = Router::new(1, 0);
        let settings = Settings::new(config, 1);
        let now = Timestamp(0);
        let mut relay = OneShard {
            shard: Shard::new(ShardId(0), settings, router, now),
            publishers: Vec::with_capacity(topics),
            scratch: Vec::new(),
            blocked: Vec::new(),
            now,
        };
        let places: Vec<usize> = (0..topics * members).collect();
        for places in places.chunks(ADMITTED_AT_ONCE) {
            relay.begin_turn();
            for place in places {
                let client = relay.admit(place / members);
                if place % members == 0 {
                    relay.publishers.push(client);
                }
            }
            relay.finish_turn(Kernel::TakesAll);
        }
        relay
    }

    fn admit(&mut self, topic: usize) -> ClientKey {
        let client = self.shard.accept();
        let request = format!(
            "GET /bench/{topic} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\n\r\n"
        );
        self.shard.on_bytes(client, &mut request.into_bytes());
        client
    }

    /// A turn in which the publishers of `topics` send `input` each.
    pub(crate) fn turn(&mut self, topics: impl IntoIterator<Item = usize>, input: &[u8]) {
        self.begin_turn();
        self.publish(topics, input);
        self.finish_turn(Kernel::TakesAll);
    }

    /// A turn in which half of what there is goes out, and one in which the sockets take bytes again.
    pub(crate) fn turn_in_halves(&mut self, topics: impl IntoIterator<Item = usize>, input: &[u8]) {
        self.begin_turn();
        self.publish(topics, input);
        self.finish_turn(Kernel::TakesHalf);
        self.begin_turn();
        for client in self.blocked.drain(..) {
            self.shard.on_writable(client);
        }
        self.finish_turn(Kernel::TakesAll);
    }

    /// The turn in which what waits is due.
    #[allow(dead_code, reason = "not for every benchmark")]
    pub(crate) fn turn_at_fan_out(&mut self) {
        let due = self.shard.next_fan_out().expect("something waits");
        self.now = Timestamp(due.0 - TURN_MICROS);
        self.turn([], &[]);
        assert_eq!(self.shard.next_fan_out(), None);
    }

    /// That everybody got everything, so that what was measured was not its failure.
    pub(crate) fn assert_all_delivered(&self) {
        let stats = self.shard.stats();
        assert_eq!(stats.value(Stat::Offered), stats.value(Stat::Delivered));
    }

    fn publish(&mut self, topics: impl IntoIterator<Item = usize>, input: &[u8]) {
        for topic in topics {
            // Decoding unmasks in place, so each needs the bytes afresh, as from a socket.
            self.scratch.clear();
            self.scratch.extend_from_slice(input);
            self.shard
                .on_bytes(self.publishers[topic], &mut self.scratch);
        }
    }

    fn begin_turn(&mut self) {
        self.now.0 += TURN_MICROS;
        self.shard.begin_turn(self.now);
    }

    fn finish_turn(&mut self, kernel: Kernel) {
        self.shard.decide();
        while let Some(client) = self.shard.poll_flush() {
            loop {
                let mut slices = Slices::new();
                let offered = self.shard.gather(client, &mut slices);
                black_box(&slices);
                drop(slices);
                let taken = match kernel {
                    Kernel::TakesAll => offered,
                    Kernel::TakesHalf => offered / 2,
                };
                if taken < offered {
                    self.blocked.push(client);
                }
                let written = Written::plain(taken, offered);
                if offered == 0 || !self.shard.advance(client, written) {
                    break;
                }
            }
        }
        self.shard.end_turn(self.now);
    }
}
