//! Scripts of what can happen to shards, checked against a small [`model`]. The fuzzer and `tests/corpora.rs` run them. Shards
//! take turns and sleep as in a worker, because the same [`Turn`](fanwire::internals::relay::Turn) drives them.
//!
//! The simulation in `tests/simulation` draws likely worlds. Here the fuzzer looks for the unlikely one. It chooses the bytes
//! that clients send, how much each socket takes, when mail arrives, which shard takes a turn, how early the steps of the turn
//! stop, and the time between turns.
//!
//! After every turn these are checked: [`Shard::check`](fanwire::internals::relay::Shard::check), the accounts, and each message
//! that leaves. All members of a topic get the same messages in the same order, without a gap and without a repetition, from
//! where they joined. A member whose socket takes more gets in the same turn all that its shard has.
//!
//! A host sleeps until something happens to it, or until its turn says. A wake that is forgotten shows at rest: then every client
//! has everything, and nobody waits. At the end, offered = delivered + dropped + discarded, and nothing is left.
//!
//! The input: five bytes of settings, then operations, each a byte and its operands; see [`Operation`].

mod client;
mod host;
mod model;
mod rest;
mod wire;
mod world;

use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy, Topics};
use fanwire::server::Stats;

use self::host::{Due, Portion};
use self::world::World;
use super::input::Input;

/// The most operations of a script: enough for any story, and a bound on its time.
const MAX_OPERATIONS: usize = 400;

/// Paths that clients ask for: two topics, one of them in two spellings.
const PATHS: [&str; 3] = ["/a", "/b?x=y", "/%61"];

/// Something that can happen. A shard hears of it in its next turn.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A client connects and says its request.
    Connect,
    /// A client connects and has said nothing yet.
    ConnectSilently,
    /// A client connects over the limit, and is refused.
    ConnectInVain,
    /// A client says a message, whole or in fragments.
    Say,
    /// A client says any bytes.
    SayRaw,
    /// A client says a control frame.
    SayControl,
    /// A client's socket brings some of what the client said, or else its end.
    Read,
    /// A client's socket has room for more.
    Room,
    /// A client's socket ends or fails, or its encryption does.
    End,
    /// Mail of one shard arrives at another.
    Mail,
    /// A shard takes a turn, unless it sleeps.
    Turn,
    /// Time passes: up to 199 ms, or more than a second. A host whose sleep ends much earlier takes the latter for a pause.
    Time,
    /// Sockets bring everything, all mail arrives, and each shard takes a turn, unless it sleeps.
    Everything,
    /// The same, over and over, until nobody can do anything. Sockets take no more than before.
    Rest,
    /// A shard is sent the order to drain.
    Drain,
    /// A shard is sent the order to cut what is left.
    Cut,
}

/// By their bytes. Operations that move a script on are here more than once.
const OPERATIONS: [Operation; 21] = [
    Operation::Connect,
    Operation::ConnectSilently,
    Operation::ConnectInVain,
    Operation::Say,
    Operation::SayRaw,
    Operation::SayControl,
    Operation::Read,
    Operation::Room,
    Operation::End,
    Operation::Mail,
    Operation::Turn,
    Operation::Time,
    Operation::Everything,
    Operation::Drain,
    Operation::Cut,
    Operation::Say,
    Operation::Read,
    Operation::Room,
    Operation::Turn,
    Operation::Everything,
    Operation::Rest,
];

/// See the module.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// The same. Returns the counters of all shards.
pub fn play(bytes: &[u8]) -> Stats {
    let mut input = Input::new(bytes);
    let shards = 1 + input.below(3);
    let (config, inbox_mark_bytes) = settings(&mut input);
    let mut world = World::new(&config, shards, inbox_mark_bytes);
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let operation = OPERATIONS[input.below(OPERATIONS.len())];
        perform(&mut world, operation, &mut input);
    }
    world.come_to_rest();
    world.end();
    world.stats()
}

/// The configuration, and how many bytes of mail keep everybody from reading.
fn settings(input: &mut Input<'_>) -> (Config, usize) {
    let mut config = Config::default();
    let message = [16, 125, 1000, 130 << 10][input.below(4)];
    config.limits.max_message_bytes = message;
    config.limits.max_header_bytes = 512;
    config.slow_consumer.max_lag_bytes = 2 * message * [1, 2, 8][input.below(3)];
    let policies = [
        SlowConsumerPolicy::Disconnect,
        SlowConsumerPolicy::Drop,
        SlowConsumerPolicy::Backpressure,
    ];
    config.slow_consumer.policy = policies[input.below(3)];
    let flags = input.byte();
    config.relay.echo = flags & 1 == 0;
    if flags & 2 != 0 {
        config.relay.topics = Topics::Single;
    }
    if flags & 8 != 0 {
        config.limits.messages_per_second = 10;
        config.limits.burst = 3;
    }
    // Shorter than any deadline.
    config.relay.coalesce = Duration::from_millis(5 * u64::from(flags >> 4 & 1));
    let is_quiet = flags & 4 != 0;
    config.keepalive.ping_interval = Duration::from_millis(if is_quiet { 0 } else { 200 });
    config.keepalive.pong_timeout = Duration::from_millis(50);
    config.slow_consumer.stall_timeout = Duration::from_millis(150);
    config.server.handshake_timeout = Duration::from_millis(100);
    let inbox_mark_bytes = if flags & 32 != 0 { 200 } else { usize::MAX };
    (config, inbox_mark_bytes)
}

fn perform(world: &mut World, operation: Operation, input: &mut Input<'_>) {
    match operation {
        Operation::Connect => {
            let (shard, path) = (input.byte(), PATHS[input.below(PATHS.len())]);
            if let Some(client) = world.connect(shard, Due::Socket) {
                world.clients[client].ask_for(path);
            }
        }
        Operation::ConnectSilently => {
            world.connect(input.byte(), Due::Socket);
        }
        Operation::ConnectInVain => {
            world.connect(input.byte(), Due::Surplus);
        }
        Operation::Say => {
            let (client, flags, size) = (input.byte(), input.byte(), input.size());
            if let Some(client) = world.any_client(client) {
                world.clients[client].say(flags, size);
            }
        }
        Operation::SayRaw => {
            let (client, count) = (input.byte(), input.below(64));
            let bytes = input.take(count);
            if let Some(client) = world.any_client(client) {
                world.clients[client].unsent.extend(bytes);
            }
        }
        Operation::SayControl => {
            let (client, opcode) = (input.byte(), 0x8 + input.byte() % 3);
            let count = input.below(8);
            let payload = input.take(count);
            if let Some(client) = world.any_client(client) {
                world.clients[client].say_frame(0x80 | opcode, payload);
            }
        }
        Operation::Read => {
            let (client, size) = (input.byte(), input.size());
            if let Some(client) = world.any_client(client) {
                world.happens_to(client, |client| client.bring(size));
            }
        }
        Operation::Room => {
            let (client, size) = (input.byte(), input.size());
            if let Some(client) = world.any_client(client) {
                world.happens_to(client, |client| client.make_room(size));
            }
        }
        Operation::End => {
            let (client, end) = (input.byte(), input.byte() & 3);
            if let Some(client) = world.any_client(client) {
                world.happens_to(client, |client| match end {
                    1 => client.reset(),
                    3 if client.is_encrypted() => client.break_tls(),
                    _ => client.is_shut = true,
                });
            }
        }
        Operation::Mail => {
            let (host, from) = (world.any_host(input.byte()), world.any_host(input.byte()));
            let count = usize::from(input.byte());
            world.hosts[host].due.push_back(Due::Mail { from, count });
        }
        Operation::Turn => {
            let (host, budget) = (world.any_host(input.byte()), input.byte());
            let most = usize::from(budget >> 1);
            let most_taken_in = if budget & 1 != 0 { usize::MAX } else { most };
            let portion = Portion {
                most_taken_in,
                most_flushed: most,
            };
            world.wake(host, portion);
        }
        Operation::Time => world.pass(Duration::from_millis(input.size() as u64)),
        Operation::Everything => {
            world.step();
        }
        Operation::Rest => world.settle(),
        Operation::Drain => {
            let host = world.any_host(input.byte());
            world.hosts[host].due.push_back(Due::Drain);
        }
        Operation::Cut => {
            let host = world.any_host(input.byte());
            world.hosts[host].due.push_back(Due::Cut);
        }
    }
}
