//! A relay of one shard, on a host without sockets, threads and kernel.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use divan::black_box;

use fanwire::config::Config;
use fanwire::internals::relay::{
    Budgets, Effect, Envelope, Filled, Host, Readiness, Router, Settings, Shard, Transfer, Turn,
    Written,
};
use fanwire::internals::{ClientKey, ShardId, Timestamp};
use fanwire::server::Stat;

use crate::streams::{BINARY, FIN, client_frame};

/// The time that passes with each turn. No keep-alive is due before millions of turns.
const TURN_MICROS: u64 = 1;

/// The number of clients that connect in one turn.
const ADMITTED_AT_ONCE: usize = 1000;

/// Budgets that let one turn write to everybody.
const BUDGETS: Budgets = Budgets {
    step_frames: usize::MAX,
    read_bytes: usize::MAX,
    read_time: Duration::MAX,
    flush_clients: usize::MAX,
    flush_bytes: usize::MAX,
};

/// The part of the offered bytes that a socket accepts.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    /// All of them.
    TakesAll,
    /// Half of them, and no more until the next turn.
    TakesHalf,
}

/// See the module. The first member of each topic is its publisher.
pub(crate) struct OneShard {
    turn: Turn,
    publishers: Vec<ClientKey>,
    host: Sockets,
}

/// The host: it stands for the kernel and its sockets.
struct Sockets {
    now: Timestamp,
    kernel: Kernel,
    events: VecDeque<(ClientKey, Readiness)>,
    /// The bytes that each readable socket brings.
    input: Vec<u8>,
    scratch: Vec<u8>,
    blocked: Vec<ClientKey>,
}

impl Host for Sockets {
    fn now(&mut self) -> Timestamp {
        self.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        self.events.pop_front()
    }

    fn take_mail(&mut self, _shard: &mut Shard) {}

    fn is_congested(&mut self) -> bool {
        false
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        // The decoder unmasks in place, so each client needs its own copy of the bytes.
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.input);
        shard.on_bytes(key, &mut self.scratch);
        Filled::Last(self.scratch.len())
    }

    fn hand_over(&mut self, _key: ClientKey, _home: ShardId, _transfer: Transfer) {
        unreachable!("there is one shard");
    }

    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        black_box(slices);
        let taken = match self.kernel {
            Kernel::TakesAll => offered,
            Kernel::TakesHalf => offered / 2,
        };
        if taken < offered {
            self.blocked.push(key);
        }
        Some(Written::plain(taken, offered))
    }

    fn post(&mut self, _to: ShardId, _envelope: Envelope) {
        unreachable!("there is one shard");
    }

    fn apply(&mut self, _effect: Effect) {}
}

impl OneShard {
    /// A relay that fans out in every turn, because nothing is coalesced.
    pub(crate) fn new(topics: usize, members: usize, echo: bool) -> OneShard {
        let mut config = Config::default();
        config.relay.coalesce = Duration::ZERO;
        config.relay.echo = echo;
        OneShard::with(&config, topics, members)
    }

    /// A relay with one topic, which has just been fanned out. Its next messages wait.
    #[allow(dead_code, reason = "not for every benchmark")]
    pub(crate) fn coalescing(members: usize) -> OneShard {
        let mut relay = OneShard::with(&Config::default(), 1, members);
        relay.turn([0], &client_frame(FIN | BINARY, 1));
        relay
    }

    fn with(config: &Config, topics: usize, members: usize) -> OneShard {
        let now = Timestamp(0);
        let shard = Shard::new(ShardId(0), Settings::new(config, 1), Router::new(1, 0), now);
        let mut relay = OneShard {
            turn: Turn::new(shard, BUDGETS, now),
            publishers: Vec::with_capacity(topics),
            host: Sockets {
                now,
                kernel: Kernel::TakesAll,
                events: VecDeque::new(),
                input: Vec::new(),
                scratch: Vec::new(),
                blocked: Vec::new(),
            },
        };
        let places: Vec<usize> = (0..topics * members).collect();
        for places in places.chunks(ADMITTED_AT_ONCE) {
            for place in places {
                let client = relay.admit(place / members);
                if place % members == 0 {
                    relay.publishers.push(client);
                }
            }
            relay.take_turn();
        }
        relay
    }

    fn admit(&mut self, topic: usize) -> ClientKey {
        let shard = &mut self.turn.shard;
        let client = shard.accept();
        let request = format!(
            "GET /bench/{topic} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\n\r\n"
        );
        shard.on_bytes(client, &mut request.into_bytes());
        client
    }

    /// A turn in which each publisher of `topics` sends `input`.
    pub(crate) fn turn(&mut self, topics: impl IntoIterator<Item = usize>, input: &[u8]) {
        self.publish(topics, input);
        self.take_turn();
    }

    /// A turn that sends half of the waiting bytes, and one in which the sockets accept bytes again.
    pub(crate) fn turn_in_halves(&mut self, topics: impl IntoIterator<Item = usize>, input: &[u8]) {
        self.host.kernel = Kernel::TakesHalf;
        self.turn(topics, input);
        self.host.kernel = Kernel::TakesAll;
        let is_writable = Readiness {
            is_writable: true,
            ..Readiness::default()
        };
        let blocked = self.host.blocked.drain(..);
        self.host
            .events
            .extend(blocked.map(|client| (client, is_writable)));
        self.take_turn();
    }

    /// The turn in which the waiting messages are due.
    #[allow(dead_code, reason = "not for every benchmark")]
    pub(crate) fn turn_at_fan_out(&mut self) {
        let due = self.turn.shard.next_fan_out().expect("something waits");
        self.host.now = Timestamp(due.0 - TURN_MICROS);
        self.take_turn();
        assert_eq!(self.turn.shard.next_fan_out(), None);
    }

    /// Checks that everybody got everything. Otherwise the benchmark measured a failure.
    pub(crate) fn assert_all_delivered(&self) {
        let stats = self.turn.shard.stats();
        assert_eq!(stats.value(Stat::Offered), stats.value(Stat::Delivered));
    }

    fn publish(&mut self, topics: impl IntoIterator<Item = usize>, input: &[u8]) {
        self.host.input.clear();
        self.host.input.extend_from_slice(input);
        let is_readable = Readiness {
            is_readable: true,
            ..Readiness::default()
        };
        for topic in topics {
            self.host
                .events
                .push_back((self.publishers[topic], is_readable));
        }
    }

    fn take_turn(&mut self) {
        self.host.now.0 += TURN_MICROS;
        self.turn.run(&mut self.host);
    }
}
