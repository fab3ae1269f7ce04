//! Scripts of events for shards. They drive the shards through the same public steps as a worker, and compare them with
//! a small [`model`].
//!
//! The simulation in `tests/simulation` draws likely worlds. Here the fuzzer looks for an unlikely one: it chooses the
//! clients' bytes, how much each socket accepts, the order of all steps and the time between them.
//!
//! After every turn, it checks [`Shard::check`](fanwire::relay::shard::Shard::check), the counters, and each sent
//! message. All members of a topic must get the same messages in the same order, without a gap or a repetition, from
//! their join on. At rest, every reader must have everything. At the end, offered = delivered + dropped + discarded,
//! and nothing is left.
//!
//! The input: five bytes of settings, then operations, each a byte and its operands; see [`Operation`].

mod client;
mod model;
mod rest;
mod wire;
mod world;

use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy, Topics};
use fanwire::metrics::stats::Stats;
use fanwire::relay::shard::End;

use self::world::World;
use super::input::Input;

/// The most operations in one script: enough for any story, in bounded time.
const MAX_OPERATIONS: usize = 400;

/// The paths that clients ask for: two topics, one of them in two spellings.
const PATHS: [&str; 3] = ["/a", "/b?x=y", "/%61"];

/// The events of a script.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A client connects and queues its request.
    Connect,
    /// A client connects and sends nothing yet.
    ConnectSilently,
    /// A client connects beyond the limit.
    ConnectInVain,
    /// A client queues a message, complete or in fragments.
    Say,
    /// A client queues any bytes.
    SayRaw,
    /// A client queues a control frame.
    SayControl,
    /// A client's socket is read.
    Read,
    /// A client's socket has room for more.
    Room,
    /// A client's socket ends or fails, or its encryption does.
    End,
    /// A shard takes mail.
    Mail,
    /// A shard ends its turn.
    Turn,
    /// Time passes.
    Time,
    /// Everything possible happens: reads, mail, turns.
    Everything,
    /// A shard is told to drain.
    Drain,
    /// A shard is told to cut the remaining clients.
    Cut,
}

/// By byte value. Operations that advance a script appear more than once.
const OPERATIONS: [Operation; 20] = [
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
];

/// The target.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// The same, but returns the counters of the shards.
pub fn play(bytes: &[u8]) -> Stats {
    let mut input = Input::new(bytes);
    let shards = 1 + input.below(3);
    let mut world = World::new(&settings(&mut input), shards);
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

fn settings(input: &mut Input<'_>) -> Config {
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
    // Shorter than a round at rest, longer than most turns.
    config.relay.coalesce = Duration::from_millis(5 * u64::from(flags >> 4 & 1));
    let is_quiet = flags & 4 != 0;
    config.keepalive.ping_interval = Duration::from_millis(if is_quiet { 0 } else { 200 });
    config.keepalive.pong_timeout = Duration::from_millis(50);
    config.slow_consumer.stall_timeout = Duration::from_millis(150);
    config.server.handshake_timeout = Duration::from_millis(100);
    config
}

fn perform(world: &mut World, operation: Operation, input: &mut Input<'_>) {
    match operation {
        Operation::Connect => {
            let (shard, path) = (input.byte(), PATHS[input.below(PATHS.len())]);
            if let Some(client) = world.connect(shard) {
                world.clients[client].ask_for(path);
            }
        }
        Operation::ConnectSilently => {
            world.connect(input.byte());
        }
        Operation::ConnectInVain => {
            let shard = input.byte();
            if let Some(client) = world.connect(shard) {
                world.refuse(client);
            }
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
                world.read(client, size, true);
            }
        }
        Operation::Room => {
            let (client, size) = (input.byte(), input.size());
            if let Some(client) = world.any_client(client) {
                world.make_room(client, size);
            }
        }
        Operation::End => {
            let (client, end) = (input.byte(), input.byte() & 3);
            if let Some(client) = world.any_client(client) {
                match end {
                    1 => world.end_of(client, End::Failed),
                    3 if world.clients[client].takes_ahead > 0 => {
                        world.end_of(client, End::TlsFailed);
                    }
                    _ => world.clients[client].is_shut = true,
                }
            }
        }
        Operation::Mail => {
            let (shard, from, count) = (input.byte(), input.byte(), input.byte());
            world.take_mail(shard, from, usize::from(count));
        }
        Operation::Turn => {
            let (shard, budget) = (input.byte(), input.byte());
            let host = world.any_host(shard);
            world.turn(host, usize::from(budget >> 1), budget & 1 != 0);
        }
        Operation::Time => world.pass(Duration::from_millis(input.size() as u64)),
        Operation::Everything => world.step(),
        Operation::Drain => {
            let host = world.any_host(input.byte());
            world.hosts[host].shard.begin_drain();
        }
        Operation::Cut => {
            let host = world.any_host(input.byte());
            world.hosts[host].shard.cut_all();
        }
    }
}
