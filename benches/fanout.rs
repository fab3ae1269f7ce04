//! The cost of a delivery in the relay itself: one shard without sockets, threads and kernel.
//!
//! ```text
//! cargo bench --bench fanout
//! ```
//!
//! Each iteration is a turn as the worker runs it. Frames are decoded, numbered and appended to the topic's log. For each
//! member they are listed and accounted for. The worker's write is left out: the shard is told that the kernel accepted
//! everything. An item is a delivery, so 1 ns for a delivery shows as 1 Gitem/s.

#[path = "shared/one_shard.rs"]
mod one_shard;
#[path = "shared/streams.rs"]
mod streams;

use divan::Bencher;
use divan::counter::ItemsCount;

use self::one_shard::OneShard;
use self::streams::{BINARY, FIN, client_frame};

/// The binary's allocator.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The payload of each message, in bytes.
const PAYLOAD_BYTES: usize = 100;

/// The members of each topic, if there are many topics.
const PAIR: usize = 2;

fn main() {
    // `cargo test --benches` asks for a test. There is none here.
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

/// Each socket takes half of its message in one turn and the rest in the next.
#[divan::bench(args = [1000])]
fn one_message_in_two_writes(bencher: Bencher<'_, '_>, members: usize) {
    let mut relay = OneShard::new(1, members, true);
    let input = client_frame(FIN | BINARY, PAYLOAD_BYTES);
    bencher
        .counter(ItemsCount::new(members))
        .bench_local(|| relay.turn_in_halves([0], &input));
    relay.assert_all_delivered();
}

/// Topics of two members. Each topic has a message in every turn.
#[divan::bench(args = [100, 10_000])]
fn one_message_in_each_topic(bencher: Bencher<'_, '_>, topics: usize) {
    deliver_to_pairs(bencher, topics, 1);
}

/// Topics of two members. One topic in a hundred has a message in a turn. The next turn has others.
#[divan::bench(args = [200_000], sample_count = 20)]
fn one_message_in_every_hundredth_topic(bencher: Bencher<'_, '_>, topics: usize) {
    deliver_to_pairs(bencher, topics, 100);
}

fn deliver_to_pairs(bencher: Bencher<'_, '_>, topics: usize, step: usize) {
    let mut relay = OneShard::new(topics, PAIR, true);
    let input = client_frame(FIN | BINARY, PAYLOAD_BYTES);
    let mut turn = 0;
    bencher
        .counter(ItemsCount::new(topics / step * PAIR))
        .bench_local(|| {
            turn += 1;
            relay.turn((turn % step..topics).step_by(step), &input);
        });
    relay.assert_all_delivered();
}

fn deliver(bencher: Bencher<'_, '_>, messages: usize, members: usize) {
    let mut relay = OneShard::new(1, members, true);
    let input = client_frame(FIN | BINARY, PAYLOAD_BYTES).repeat(messages);
    bencher
        .counter(ItemsCount::new(messages * members))
        .bench_local(|| relay.turn([0], &input));
    relay.assert_all_delivered();
}
