//! Tests of a shard without sockets: turns, crowds, holds.
//!
//! The helpers here are for the files in `tests/` as well. They take real turns; `driven` has their host.

mod closing;
mod coalesce;
mod deflate;
mod deflating;
mod drain;
mod driven;
mod exchanges;
mod expiring;
mod farewell;
mod holds;
mod keepalive;
mod memory;
mod outsiders;
mod parts;
mod probation;
mod reconfiguring;
mod rules;
mod sources;
mod spread;
mod streaming;
mod transfer;

use self::driven::{Driven, Mail};
use super::client::Reading;
use super::*;
use crate::config::{Publish, SlowConsumerPolicy};
use crate::port::terms::Form;

const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];
const UNMASKED: [u8; 2] = [0x89, 0x00];

fn shard_with(config: &Config) -> Driven {
    let router = Router::new(1, 0);
    let settings = Settings::new(config, 1);
    Driven::new(Shard::new(ShardId(0), settings, router, Timestamp(0)))
}

/// Two shards, and a topic that the first owns.
fn two_shards(config: &Config) -> ([Driven; 2], String) {
    shards(config)
}

/// `N` shards, and a topic that the first owns.
fn shards<const N: usize>(config: &Config) -> ([Driven; N], String) {
    let router = Router::new(N as u16, 0);
    let owned_by_first = |path: &String| router.owner(path) == ShardId(0);
    let mut paths = (0..100).map(|n| format!("/{n}"));
    let path = paths.find(owned_by_first).unwrap();
    let shards = std::array::from_fn(|id| {
        let (id, settings) = (ShardId(id as u16), Settings::new(config, N as u16));
        Driven::new(Shard::new(id, settings, router, Timestamp(1_000_000)))
    });
    (shards, path)
}

/// Forgets the writes so far, and takes turns until there is nothing to do.
fn turns(shards: &mut [Driven]) {
    for shard in &mut *shards {
        shard.forget_writes();
    }
    more_turns(shards);
}

/// Takes turns of all shards until each would sleep and none has said anything to another.
fn more_turns(shards: &mut [Driven]) {
    loop {
        let mut said = Vec::new();
        for shard in &mut *shards {
            rest(shard, None);
            said.extend(shard.take_said());
        }
        if said.is_empty() {
            return;
        }
        deliver(shards, said);
    }
}

/// Brings mail to the shards that it is for.
fn deliver(shards: &mut [Driven], said: Vec<(ShardId, Mail)>) {
    for (to, mail) in said {
        shards[to.index()].gets(mail);
    }
}

/// Takes a turn of the shard numbered `from`, and brings what it says to the others.
fn turn_and_deliver(shards: &mut [Driven], from: usize) {
    turn(&mut shards[from], usize::MAX, None);
    let said = shards[from].take_said();
    deliver(shards, said);
}

/// A text message of `len` bytes, below 126, masked with zeros.
fn text(len: u8) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | len, 0, 0, 0, 0];
    frame.resize(6 + usize::from(len), b'x');
    frame
}

/// A client that asks for `path`, with `frames` in the packet of its request. The next turn reads it.
fn join(shard: &mut Driven, path: &str, frames: &[u8]) -> ClientKey {
    let key = shard.accept();
    shard.sends(key, &[request(path).as_bytes(), frames].concat());
    key
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}

/// The write of a client that takes everything.
fn taking_all(_client: ClientKey, offered: usize) -> Written {
    Written::plain(offered, offered)
}

/// The writes of clients that take everything, but for one that takes nothing.
fn taking_all_but(stuck: Option<ClientKey>) -> impl FnMut(ClientKey, usize) -> Written {
    move |client, offered| {
        let taken = if stuck == Some(client) { 0 } else { offered };
        Written::plain(taken, offered)
    }
}

/// Takes a turn that flushes up to `budget` clients. All but `stuck` take everything. Returns the clients that were written to.
fn turn(shard: &mut Driven, budget: usize, stuck: Option<ClientKey>) -> Vec<ClientKey> {
    shard.forget_writes();
    shard.run(budget, &mut taking_all_but(stuck));
    shard.written_to()
}

/// Takes turns in which all but `stuck` take everything, until the shard would sleep.
fn rest(shard: &mut Driven, stuck: Option<ClientKey>) {
    shard.rest(&mut taking_all_but(stuck));
}

/// Whether the shard was asked for the client's next read and said that it has to wait.
fn is_parked(shard: &Shard, client: ClientKey) -> bool {
    let client = shard.clients.get(client);
    client.is_some_and(|client| client.reading != Reading::Allowed)
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
    shard.sends(bystander, &text(1));
    for client in crowd {
        shard.sends(client, &PING);
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
    shard.sends(crowd[0], &large);
    shard.sends(bystander, &text(1));
    // It waits for a row of 2 MiB, not for the 20 MiB of the whole crowd.
    assert!(turn(&mut shard, 5, None).contains(&bystander));
}

#[test]
fn other_shards_are_woken_before_members_here_are_written_to() {
    let (mut shards, path) = two_shards(&Config::default());
    let publisher = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[0].sends(publisher, &text(1));
    assert_eq!(turn(&mut shards[0], usize::MAX, None), [publisher]);
    assert_eq!(shards[0].said_before_writing(), Some(1));
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
            shard.fails(key);
        }
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    let log_bytes = shard.stats.value(Stat::LogBytes);
    assert!(log_bytes <= 4096 + 1024, "{log_bytes}");
    // The last newcomer is still there, and its message is not lost.
    assert!(is_parked(&shard, left.unwrap()));
    let before = shard.stats.value(Stat::Messages);
    shard.accepts(stuck);
    rest(&mut shard, None);
    assert!(!is_parked(&shard, left.unwrap()));
    assert_eq!(shard.stats.value(Stat::Messages), before + 1);
}

#[test]
fn messages_that_piled_up_during_a_hold_do_not_exceed_the_rate() {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.limits.messages_per_second = 10;
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    config.slow_consumer.max_lag_bytes = 4096;
    config.slow_consumer.stall_timeout = Duration::from_hours(1);
    let mut shard = shard_with(&config);
    let stuck = join(&mut shard, "/", b"");
    let publisher = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let later = |shard: &mut Driven, seconds| {
        let span = Duration::from_secs(seconds);
        shard.sleep(span, &mut taking_all_but(Some(stuck)));
    };
    while !shard.has_unread(publisher) {
        shard.sends(publisher, &text(100));
        later(&mut shard, 1);
    }
    shard.take_unread(publisher);
    let before = shard.stats.value(Stat::Messages);
    let piled_up = |count| text(0).repeat(count);
    shard.sends(publisher, &piled_up(200));
    later(&mut shard, 19);
    assert_eq!(shard.stats.value(Stat::Messages), before);
    shard.accepts(stuck);
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::Messages), before + 200);
    // It has only its burst left.
    shard.sends(publisher, &piled_up(51));
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.stats.value(Stat::Messages), before + 250);
    assert_eq!(shard.stats.value(Stat::DisconnectedRate), 1);
}

#[test]
fn a_violator_that_does_not_read_is_cut_and_counts_as_a_violator() {
    let mut shard = shard_with(&Config::default());
    let stuck = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.sends(stuck, &[&text(1)[..], &UNMASKED].concat());
    turn(&mut shard, usize::MAX, Some(stuck));
    shard.sends(stuck, &text(1));
    let mut takes = taking_all_but(Some(stuck));
    shard.sleep(Duration::from_secs(1), &mut takes);
    assert!(shard.has_unread(stuck) && !shard.is_empty());
    shard.sleep(Duration::from_secs(5), &mut takes);
    assert!(shard.is_empty());
    assert_eq!(shard.stats.value(Stat::Discarded), 1);
    assert_eq!(shard.stats.value(Stat::DisconnectedProtocol), 1);
}

#[test]
fn a_violator_that_is_lost_before_its_close_counts_as_a_violator() {
    let mut shard = shard_with(&Config::default());
    let violator = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.sends(violator, &[&text(1)[..], &UNMASKED].concat());
    shard.fails(violator);
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.stats.value(Stat::DisconnectedProtocol), 1);
    assert_eq!(shard.stats.value(Stat::DisconnectedLost), 0);
}

#[test]
fn a_close_that_the_transport_holds_back_is_sent_although_the_client_closes_too() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.begin_drain();
    shard.run(usize::MAX, &mut |_, offered| Written {
        taken: offered,
        has_progressed: false,
        is_blocked: true,
        holds_back: true,
    });
    // The client closes as well, before our Close has left.
    shard.sends(client, &[0x88, 0x80, 0, 0, 0, 0]);
    rest(&mut shard, None);
    assert_eq!(shard.take_applied(), []);
    shard.accepts(client);
    shard.forget_writes();
    shard.run(usize::MAX, &mut sending_what_is_held_back);
    assert_eq!(shard.writes_to(client), [b""]);
    assert_eq!(shard.take_applied(), [Effect::ShutdownWrite(client)]);
}

/// The write of a transport that gets rid of the bytes that it held back.
fn sending_what_is_held_back(_client: ClientKey, offered: usize) -> Written {
    Written {
        taken: offered,
        has_progressed: true,
        is_blocked: false,
        holds_back: false,
    }
}

#[test]
fn the_shard_flushes_a_client_whose_transport_holds_bytes_back() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.sends(client, &PING);
    shard.run(usize::MAX, &mut |_, offered| Written {
        taken: offered,
        has_progressed: true,
        is_blocked: true,
        holds_back: true,
    });
    // A second edge may come before the flush gets to the client.
    shard.accepts(client);
    shard.accepts(client);
    shard.forget_writes();
    shard.run(usize::MAX, &mut sending_what_is_held_back);
    assert_eq!(shard.writes_to(client), [b""]);
    assert_eq!(shard.take_flushed_own(), []);
    // Bytes of which the shard knows nothing do not wait for its flush.
    shard.holds_back_own(client);
    shard.accepts(client);
    assert_eq!(turn(&mut shard, usize::MAX, None), []);
    assert_eq!(shard.take_flushed_own(), [client]);
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
        shard.fails(client);
    }
    turn(&mut shard, usize::MAX, None);
    assert!(shard.is_empty());
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
        shard.pass(Duration::from_millis(10));
        if !shard.has_unread(publisher) {
            shard.sends(publisher, &text(100));
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
fn held_by_backpressure() -> (Driven, ClientKey, ClientKey) {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    config.slow_consumer.max_lag_bytes = 4096;
    config.slow_consumer.stall_timeout = Duration::from_hours(1);
    let mut shard = shard_with(&config);
    let stuck = join(&mut shard, "/", b"");
    let publisher = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    while !shard.has_unread(publisher) {
        shard.sends(publisher, &text(100));
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    shard.take_unread(publisher);
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
        shard.sends(newcomer, &many);
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
        shard.forget_writes();
        let mut takes = taking_all_but(Some(stuck));
        shard.sleep(Duration::from_secs(10), &mut takes);
        pings += shard.writes_to(publisher).len();
    }
    assert!(pings >= 5, "{pings} pings in 200 s");
    // It has the time of a ping from the moment on at which it is read again.
    shard.accepts(stuck);
    shard.sleep(Duration::from_secs(20), &mut taking_all);
    assert!(shard.clients.get(publisher).is_some());
    assert_eq!(shard.stats.value(Stat::DisconnectedPong), 0);
}

#[test]
fn clients_that_leave_while_they_wait_for_a_topic_are_forgotten() {
    let (mut shard, stuck, _) = held_by_backpressure();
    for _ in 0..1000 {
        let visitor = join(&mut shard, "/", &text(1));
        turn(&mut shard, usize::MAX, Some(stuck));
        shard.sends(visitor, &text(1));
        turn(&mut shard, usize::MAX, Some(stuck));
        assert!(shard.has_unread(visitor));
        shard.fails(visitor);
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
    shard.sends(client, b"GET / HT");
    turn(&mut shard, usize::MAX, None);
    assert!(shard.stats.value(Stat::PartialBytes) > 0);
    shard.breaks_tls(client);
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.stats.value(Stat::PartialBytes), 0);
}
