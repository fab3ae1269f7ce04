//! What the relay itself costs per delivery: one shard, no socket, no thread, no kernel.
//!
//! ```text
//! cargo bench --bench fanout
//! ```
//!
//! Each iteration is a turn as the worker runs it: frames are decoded, numbered, appended to the topic's log, and for
//! each member listed and accounted for. Where the worker would write, the kernel is taken to accept everything. The
//! items that are counted are deliveries, so a nanosecond per delivery shows as a Gitem/s.

use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use fanwire::config::{Config, Topics};
use fanwire::ids::{ClientKey, ShardId};
use fanwire::metrics::stats::Stat;
use fanwire::relay::member::Slices;
use fanwire::relay::router::Router;
use fanwire::relay::shard::{Settings, Shard, Written};
use fanwire::time::Timestamp;

/// The binary's allocator.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUEST: &[u8] =
    b"GET /bench HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Of each message.
const PAYLOAD_BYTES: u8 = 100;

/// Time goes on by this much each turn: no keep-alive is due before millions of turns have passed.
const TURN_MICROS: u64 = 1;

fn main() {
    // `cargo test --benches` runs a benchmark once to see that it does; there is nothing to see here.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    divan::main();
}

#[divan::bench(args = [10, 100, 1000, 10_000])]
fn one_message_to_members(bencher: Bencher<'_, '_>, members: usize) {
    deliver(bencher, 1, members);
}

#[divan::bench(args = [10, 100, 1000, 10_000])]
fn sixty_four_messages_to_members(bencher: Bencher<'_, '_>, members: usize) {
    deliver(bencher, 64, members);
}

fn deliver(bencher: Bencher<'_, '_>, messages: usize, members: usize) {
    let mut relay = OneShard::new(members);
    let input: Vec<u8> = frame().repeat(messages);
    let mut scratch = input.clone();
    bencher
        .counter(ItemsCount::new(messages * members))
        .bench_local(|| {
            // Decoding unmasks in place, so each turn needs the bytes afresh, as from a socket.
            scratch.copy_from_slice(&input);
            relay.turn(&mut scratch);
        });
    let stats = relay.shard.stats();
    assert_eq!(stats.value(Stat::Offered), stats.value(Stat::Delivered));
}

/// A masked binary message (RFC 6455 5.2).
fn frame() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | PAYLOAD_BYTES, 1, 2, 3, 4];
    frame.resize(frame.len() + usize::from(PAYLOAD_BYTES), b'x');
    frame
}

/// A relay of one shard whose clients are all in one topic.
struct OneShard {
    shard: Shard,
    publisher: ClientKey,
    now: Timestamp,
}

impl OneShard {
    fn new(members: usize) -> OneShard {
        let router = Router::new(Topics::Path, 1, 0);
        let mut config = Config::default();
        // What is measured is a fan-out in every turn.
        config.relay.coalesce = Duration::ZERO;
        let settings = Settings::new(&config, 1);
        let now = Timestamp(0);
        let mut shard = Shard::new(ShardId(0), settings, router, now);
        shard.begin_turn(now);
        let clients: Vec<ClientKey> = (0..members)
            .map(|_| {
                let client = shard.accept();
                shard.on_bytes(client, &mut REQUEST.to_vec());
                client
            })
            .collect();
        let publisher = clients[0];
        let mut relay = OneShard {
            shard,
            publisher,
            now,
        };
        relay.finish_turn();
        relay
    }

    fn turn(&mut self, input: &mut [u8]) {
        self.now.0 += TURN_MICROS;
        self.shard.begin_turn(self.now);
        self.shard.on_bytes(self.publisher, input);
        self.finish_turn();
    }

    fn finish_turn(&mut self) {
        self.shard.decide();
        while let Some(client) = self.shard.poll_flush() {
            loop {
                let mut slices = Slices::new();
                let offered = self.shard.gather(client, &mut slices);
                black_box(&slices);
                drop(slices);
                if offered == 0 || !self.shard.advance(client, Written::plain(offered, offered)) {
                    break;
                }
            }
        }
        self.shard.end_turn(self.now);
    }
}
