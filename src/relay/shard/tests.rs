//! Tests of a shard without a host: turns, crowds, holds.
//!
//! The helpers here are for the files in `tests/` as well. They call the steps of a turn one by one and use no sockets.

mod coalesce;
mod drain;
mod holds;
mod memory;
mod outsiders;
mod parts;
mod transfer;

use super::*;
use crate::config::{Publish, SlowConsumerPolicy};
use crate::relay::topic::member::Slices;

const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];
const UNMASKED: [u8; 2] = [0x89, 0x00];

fn shard_with(config: &Config) -> Shard {
    let router = Router::new(1, 0);
    Shard::new(ShardId(0), Settings::new(config, 1), router, Timestamp(0))
}

/// Two shards, and a topic that the first owns.
fn two_shards(config: &Config) -> ([Shard; 2], String) {
    shards(config)
}

/// `N` shards, and a topic that the first owns.
fn shards<const N: usize>(config: &Config) -> ([Shard; N], String) {
    let router = Router::new(N as u16, 0);
    let owned_by_first = |path: &String| router.owner(path) == ShardId(0);
    let mut paths = (0..100).map(|n| format!("/{n}"));
    let path = paths.find(owned_by_first).unwrap();
    let shards = std::array::from_fn(|id| {
        let (id, settings) = (ShardId(id as u16), Settings::new(config, N as u16));
        Shard::new(id, settings, router, Timestamp(1_000_000))
    });
    (shards, path)
}

/// Takes turns of all shards until none sends an envelope to another.
fn turns(shards: &mut [Shard]) {
    loop {
        let mut said = Vec::new();
        for shard in &mut *shards {
            turn(shard, usize::MAX, None);
            said.extend(shard.take_outbox());
        }
        if said.is_empty() {
            return;
        }
        for (to, envelope) in said {
            shards[to.index()].handle(envelope);
        }
    }
}

/// A text message of `len` bytes, below 126, masked with zeros.
fn text(len: u8) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | len, 0, 0, 0, 0];
    frame.resize(6 + usize::from(len), b'x');
    frame
}

/// A client that has joined `path`, with `frames` in the packet of its request.
fn join(shard: &mut Shard, path: &str, frames: &[u8]) -> ClientKey {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    let key = shard.accept();
    shard.on_bytes(key, &mut [request.as_bytes(), frames].concat());
    key
}

/// Flushes a client that takes everything. Returns its bytes, write by write.
fn writes(shard: &mut Shard, client: ClientKey) -> Vec<Vec<u8>> {
    let mut writes = Vec::new();
    loop {
        let mut slices = Slices::new();
        let offered = shard.gather(client, &mut slices);
        if offered == 0 {
            return writes;
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        writes.push(bytes.collect());
        drop(slices);
        if !shard.advance(client, Written::plain(offered, offered)) {
            return writes;
        }
    }
}

/// Takes a turn that flushes up to `budget` clients. All but `stuck` take everything. Returns the flushed clients.
fn turn(shard: &mut Shard, budget: usize, stuck: Option<ClientKey>) -> Vec<ClientKey> {
    shard.decide();
    let mut flushed = Vec::new();
    while flushed.len() < budget
        && let Some(key) = shard.poll_flush()
    {
        flushed.push(key);
        let mut slices = Slices::new();
        let offered = shard.gather(key, &mut slices);
        drop(slices);
        if offered > 0 {
            let taken = if stuck == Some(key) { 0 } else { offered };
            shard.advance(key, Written::plain(taken, offered));
        }
    }
    shard.end_turn(shard.now);
    shard.begin_turn(shard.now);
    shard.check();
    flushed
}

#[test]
fn a_crowd_that_pings_does_not_keep_a_topic_waiting() {
    const CROWD: usize = 1000;
    let mut shard = shard_with(&Config::default());
    let crowd: Vec<ClientKey> = (0..CROWD)
        .map(|_| join(&mut shard, "/crowd", b""))
        .collect();
    let bystander = join(&mut shard, "/quiet", b"");
    turn(&mut shard, usize::MAX, None);
    shard.on_bytes(bystander, &mut text(1));
    for client in crowd {
        shard.on_bytes(client, &mut PING.to_vec());
    }
    assert!(turn(&mut shard, CROWD / 4, None).contains(&bystander));
}

#[test]
fn a_topic_with_large_messages_does_not_keep_another_waiting() {
    const CROWD: usize = 40;
    let mut shard = shard_with(&Config::default());
    let crowd: Vec<ClientKey> = (0..CROWD)
        .map(|_| join(&mut shard, "/large", b""))
        .collect();
    let bystander = join(&mut shard, "/quiet", b"");
    turn(&mut shard, usize::MAX, None);
    let mut large = vec![0x82, 0xff, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0];
    large.resize(14 + (512 << 10), 0);
    shard.on_bytes(crowd[0], &mut large);
    shard.on_bytes(bystander, &mut text(1));
    // It waits for a row of 2 MiB, not for the 20 MiB of the whole crowd.
    assert!(turn(&mut shard, 5, None).contains(&bystander));
}

#[test]
fn newcomers_do_not_get_round_a_hold() {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    config.slow_consumer.max_lag_bytes = 4096;
    let mut shard = shard_with(&config);
    let stuck = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let mut left = None;
    for _ in 0..1000 {
        if let Some(key) = left.replace(join(&mut shard, "/", &text(100))) {
            shard.on_end(key, End::Failed);
        }
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    let log_bytes = shard.stats.value(Stat::LogBytes);
    assert!(log_bytes <= 4096 + 1024, "{log_bytes}");
    // The last newcomer is still there, and its message is not lost.
    shard.on_writable(stuck);
    turn(&mut shard, usize::MAX, None);
    let resumed: Vec<ClientKey> = std::iter::from_fn(|| shard.take_ready(false)).collect();
    assert!(resumed.contains(&left.unwrap()));
    let before = shard.stats.value(Stat::Messages);
    assert_eq!(shard.permit(left.unwrap()), Permit::Read);
    assert_eq!(shard.stats.value(Stat::Messages), before + 1);
}

#[test]
fn messages_that_piled_up_during_a_hold_do_not_exceed_the_rate() {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.limits.messages_per_second = 10;
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    config.slow_consumer.max_lag_bytes = 4096;
    let mut shard = shard_with(&config);
    let stuck = join(&mut shard, "/", b"");
    let publisher = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let later = |shard: &mut Shard, stuck, seconds| {
        shard.begin_turn(shard.now + Duration::from_secs(seconds));
        turn(shard, usize::MAX, stuck);
    };
    while shard.permit(publisher) == Permit::Read {
        shard.on_bytes(publisher, &mut text(100));
        later(&mut shard, Some(stuck), 1);
    }
    later(&mut shard, Some(stuck), 20);
    shard.on_writable(stuck);
    later(&mut shard, None, 0);
    let before = shard.stats.value(Stat::Messages);
    let piled_up = |count| text(0).repeat(count);
    assert_eq!(shard.permit(publisher), Permit::Read);
    shard.on_bytes(publisher, &mut piled_up(200));
    assert_eq!(shard.stats.value(Stat::Messages), before + 200);
    // It has only its burst left.
    shard.on_bytes(publisher, &mut piled_up(51));
    assert_eq!(shard.stats.value(Stat::Messages), before + 250);
    assert_eq!(shard.stats.value(Stat::DisconnectedRate), 1);
}

/// The time at which the shard has to act even if nothing happens.
fn next_timeout(shard: &Shard) -> Option<Timestamp> {
    let next = [
        shard.next_review(),
        shard.next_deadline(),
        shard.next_fan_out(),
    ];
    next.into_iter().flatten().min()
}

#[test]
fn a_violator_that_does_not_read_is_cut_and_counts_as_a_violator() {
    let mut shard = shard_with(&Config::default());
    let stuck = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.on_bytes(stuck, &mut [&text(1)[..], &UNMASKED].concat());
    assert_eq!(shard.permit(stuck), Permit::Parked);
    turn(&mut shard, usize::MAX, Some(stuck));
    let due = next_timeout(&shard).expect("a deadline");
    assert!(due > shard.now && due <= shard.now + Duration::from_secs(6));
    shard.begin_turn(due);
    shard.handle_timeouts();
    assert!(shard.is_empty());
    assert_eq!(shard.stats.value(Stat::Discarded), 1);
    assert_eq!(shard.stats.value(Stat::DisconnectedProtocol), 1);
}

#[test]
fn a_violator_that_is_lost_before_its_close_counts_as_a_violator() {
    let mut shard = shard_with(&Config::default());
    let violator = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.on_bytes(violator, &mut [&text(1)[..], &UNMASKED].concat());
    shard.on_end(violator, End::Failed);
    assert_eq!(shard.stats.value(Stat::DisconnectedProtocol), 1);
    assert_eq!(shard.stats.value(Stat::DisconnectedLost), 0);
}

#[test]
fn a_close_that_the_transport_holds_back_is_sent_although_the_client_closes_too() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.begin_drain();
    shard.decide();
    assert_eq!(shard.poll_flush(), Some(client));
    let offered = shard.gather(client, &mut Slices::new());
    let mut written = Written {
        taken: offered,
        has_progressed: false,
        is_blocked: true,
        holds_back: true,
    };
    shard.advance(client, written);
    // The client closes as well, before our Close has left.
    shard.on_bytes(client, &mut [0x88, 0x80, 0, 0, 0, 0]);
    assert_eq!(shard.take_effects().next(), None);
    assert!(shard.on_writable(client));
    assert_eq!(shard.poll_flush(), Some(client));
    assert_eq!(shard.gather(client, &mut Slices::new()), 0);
    (written.taken, written.has_progressed) = (0, true);
    (written.is_blocked, written.holds_back) = (false, false);
    shard.advance(client, written);
    let shut = Effect::ShutdownWrite(client);
    assert_eq!(shard.take_effects().next(), Some(shut));
}

#[test]
fn the_shard_flushes_a_client_whose_transport_holds_bytes_back() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.on_bytes(client, &mut PING.to_vec());
    assert_eq!(shard.poll_flush(), Some(client));
    let taken = shard.gather(client, &mut Slices::new());
    let written = Written {
        taken,
        has_progressed: true,
        is_blocked: true,
        holds_back: true,
    };
    shard.advance(client, written);
    assert!(shard.on_writable(client));
    // A second edge may come before the flush gets to the client.
    assert!(shard.on_writable(client));
    assert_eq!(shard.poll_flush(), Some(client));
    shard.advance(client, Written::plain(0, 0));
    assert!(!shard.on_writable(client));
}

#[test]
fn a_reserved_table_keeps_its_size_during_and_after_a_crowd() {
    let mut shard = shard_with(&Config::default());
    shard.reserve(300);
    let reserved = shard.clients.capacity();
    // So many that the table is given back when they have left.
    let clients: Vec<ClientKey> = (0..300).map(|_| shard.accept()).collect();
    assert_eq!(shard.clients.capacity(), reserved);
    for client in clients {
        shard.on_end(client, End::Failed);
    }
    assert_eq!(shard.clients.capacity(), reserved);
}

/// The number of holds, under `drop`, for a member that reads `most` messages and then stops.
fn waits_for_one_that_reads(most: usize) -> u32 {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.policy = SlowConsumerPolicy::Drop;
    config.slow_consumer.max_lag_bytes = 4096;
    let mut shard = shard_with(&config);
    let publisher = join(&mut shard, "/", b"");
    let reader = join(&mut shard, "/", b"");
    let mut waits = 0;
    let mut was_held = false;
    for n in 0..1000 {
        // A wait ends after 50 ms in which the member takes nothing.
        shard.begin_turn(shard.now + Duration::from_millis(10));
        if shard.permit(publisher) == Permit::Read {
            shard.on_bytes(publisher, &mut text(100));
        }
        turn(&mut shard, usize::MAX, (n >= most).then_some(reader));
        let is_held = shard.stats.value(Stat::TopicsHeld) > 0;
        waits += u32::from(is_held && !was_held);
        was_held = is_held;
    }
    assert!(shard.stats.value(Stat::Dropped) > 800);
    waits
}

#[test]
fn publishers_never_wait_for_a_member_that_never_reads_and_once_for_one_that_stops() {
    assert_eq!(waits_for_one_that_reads(1), 0);
    assert_eq!(waits_for_one_that_reads(20), 1);
}

/// A shard with a topic that is held, the member that takes nothing, and the publisher that is parked.
fn held_by_backpressure() -> (Shard, ClientKey, ClientKey) {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    config.slow_consumer.max_lag_bytes = 4096;
    config.slow_consumer.stall_timeout = Duration::from_hours(1);
    let mut shard = shard_with(&config);
    let stuck = join(&mut shard, "/", b"");
    let publisher = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    while shard.permit(publisher) == Permit::Read {
        shard.on_bytes(publisher, &mut text(100));
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    (shard, stuck, publisher)
}

#[test]
fn messages_of_newcomers_are_limited_during_a_hold() {
    let (mut shard, stuck, _) = held_by_backpressure();
    let before = shard.stats.value(Stat::LogBytes);
    let many = text(100).repeat(100);
    for _ in 0..100 {
        let newcomer = join(&mut shard, "/", &many);
        turn(&mut shard, usize::MAX, Some(stuck));
        if shard.permit(newcomer) == Permit::Read {
            shard.on_bytes(newcomer, &mut many.clone());
        }
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    // At most one read, and the overhead that the log counts for it.
    let more = shard.stats.value(Stat::LogBytes) - before;
    assert!(more <= 100 * (102 + 192) + 4096, "{more}");
}

#[test]
fn a_parked_publisher_is_pinged_again_and_again_and_not_blamed() {
    let (mut shard, stuck, publisher) = held_by_backpressure();
    let mut pings = 0;
    for _ in 0..20 {
        shard.begin_turn(shard.now + Duration::from_secs(10));
        shard.handle_timeouts();
        let is_asked = shard
            .clients
            .get(publisher)
            .is_some_and(|client| client.control.is_some());
        pings += u32::from(is_asked);
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    assert!(pings >= 5, "{pings} pings in 200 s");
    // Its pongs are still unread when it is read again. It has the time of a ping from then on.
    shard.on_writable(stuck);
    turn(&mut shard, usize::MAX, None);
    shard.begin_turn(shard.now + Duration::from_secs(20));
    shard.handle_timeouts();
    assert!(shard.clients.get(publisher).is_some());
    assert_eq!(shard.stats.value(Stat::DisconnectedPong), 0);
}

#[test]
fn clients_that_leave_while_they_wait_for_a_topic_are_forgotten() {
    let (mut shard, stuck, _) = held_by_backpressure();
    for _ in 0..1000 {
        let visitor = join(&mut shard, "/", &text(1));
        turn(&mut shard, usize::MAX, Some(stuck));
        assert_eq!(shard.permit(visitor), Permit::Parked);
        shard.on_end(visitor, End::Failed);
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    let waiting: usize = shard
        .topics
        .iter()
        .map(|(_, topic)| topic.waiting.len())
        .sum();
    assert!(waiting < 100, "{waiting}");
}

#[test]
fn the_part_of_a_request_is_freed_when_tls_fails() {
    let mut shard = shard_with(&Config::default());
    let client = shard.accept();
    shard.on_bytes(client, &mut b"GET / HT".to_vec());
    assert!(shard.stats.value(Stat::PartialBytes) > 0);
    shard.on_end(client, End::TlsFailed);
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.stats.value(Stat::PartialBytes), 0);
}
