//! Tests of the memory of a shard: which bytes count, which clients give way, and when publishers wait.

use super::*;

/// A binary message of `len` bytes, 126 or more, masked with zeros.
fn binary(len: u16) -> Vec<u8> {
    let mut frame = vec![0x82, 0xfe];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(8 + usize::from(len), b'x');
    frame
}

/// A shard with little memory. A member may lag by 16 kB, and a message may have 8 kB.
fn small_shard(policy: SlowConsumerPolicy, max_buffered_bytes: usize) -> Driven {
    shard_with(&small_config(policy, max_buffered_bytes))
}

/// The configuration of such a shard.
fn small_config(policy: SlowConsumerPolicy, max_buffered_bytes: usize) -> Config {
    let mut config = Config::default();
    config.limits.max_message_bytes = 8000;
    config.limits.max_buffered_bytes = max_buffered_bytes;
    config.slow_consumer.policy = policy;
    config.slow_consumer.max_lag_bytes = 16_000;
    config
}

/// Takes a turn in which each client takes as many of the offered bytes as `taken` says.
fn turn_in_which(shard: &mut Driven, taken: impl Fn(ClientKey, usize) -> usize) {
    shard.forget_writes();
    shard.run(usize::MAX, &mut |client, offered| {
        Written::plain(taken(client, offered).min(offered), offered)
    });
}

#[test]
fn a_topic_with_members_in_the_middle_of_a_message_does_not_shield_others() {
    for policy in [
        SlowConsumerPolicy::Disconnect,
        SlowConsumerPolicy::Drop,
        SlowConsumerPolicy::Backpressure,
    ] {
        let mut shard = small_shard(policy, 32_000);
        let limit = shard.settings.max_buffered_bytes;
        for n in 0..100 {
            let key = join(&mut shard, &format!("/{n}"), b"");
            turn(&mut shard, usize::MAX, None);
            let (len, taken) = if n < 8 { (7990, 5000) } else { (3500, 0) };
            shard.sends(key, &binary(len));
            turn_in_which(&mut shard, |_, _| taken);
            let held = shard.stats.value(Stat::LogBytes) + shard.stats.value(Stat::CarriedBytes);
            assert!(held <= limit, "{policy:?}: {held} of {limit} after {n}");
        }
        let given_way =
            shard.stats.value(Stat::DisconnectedMemory) + shard.stats.value(Stat::Dropped);
        assert!(given_way > 80, "{policy:?}: {given_way}");
    }
}

#[test]
fn messages_in_part_do_not_make_publishers_of_small_logs_wait() {
    let mut shard = small_shard(SlowConsumerPolicy::Backpressure, 64_000);
    let publisher = join(&mut shard, "/", b"");
    let stuck = join(&mut shard, "/", b"");
    for n in 0..7 {
        let key = join(&mut shard, &format!("/{n}"), b"");
        turn(&mut shard, usize::MAX, None);
        shard.sends(key, &binary(7900)[..7800]);
    }
    turn(&mut shard, usize::MAX, None);
    let partial = shard.stats.value(Stat::PartialBytes);
    assert!(partial > 48_000, "{partial}");
    shard.sends(publisher, &text(1));
    turn(&mut shard, usize::MAX, Some(stuck));
    shard.sends(publisher, &text(1));
    turn(&mut shard, usize::MAX, Some(stuck));
    assert!(!shard.has_unread(publisher));
    assert_eq!(shard.stats.value(Stat::TopicsHeld), 0);
}

#[test]
fn publishers_wait_before_a_laggard_gives_way_despite_messages_in_part() {
    let mut shard = small_shard(SlowConsumerPolicy::Backpressure, 64_000);
    let lanes: Vec<[ClientKey; 2]> = (0..9)
        .map(|n| [(); 2].map(|()| join(&mut shard, &format!("/{n}"), b"")))
        .collect();
    for n in 0..7 {
        let key = join(&mut shard, &format!("/part/{n}"), b"");
        turn(&mut shard, usize::MAX, None);
        shard.sends(key, &binary(7900)[..7800]);
    }
    let mut readers = lanes.iter().map(|lane| lane[1]);
    for _ in 0..30 {
        for &[publisher, _] in &lanes {
            if !shard.has_unread(publisher) {
                shard.sends(publisher, &binary(500));
            }
            turn_in_which(&mut shard, |key, offered| {
                if lanes.iter().any(|lane| lane[1] == key) {
                    0
                } else {
                    offered
                }
            });
        }
    }
    assert!(lanes.iter().all(|lane| shard.has_unread(lane[0])));
    assert!(readers.all(|reader| {
        shard
            .clients
            .get(reader)
            .is_some_and(|client| client.member.is_some())
    }));
    let log = shard.stats.value(Stat::LogBytes);
    assert!(log > 20_000 && log < 32_000, "{log}");
    // Only as many clients gave way as had to.
    assert!((1..5).contains(&shard.stats.value(Stat::DisconnectedMemory)));
}

/// The size of the frame of a message below.
const FRAME: u64 = 7994;

/// Members of `path` that were skipped in the middle of a message. All share its batch.
fn viewers_skipped(shard: &mut Driven, path: &str, viewers: usize) -> Vec<ClientKey> {
    let publisher = join(shard, path, b"");
    let viewers: Vec<ClientKey> = (0..viewers).map(|_| join(shard, path, b"")).collect();
    turn(shard, usize::MAX, None);
    let dropped = shard.stats.value(Stat::Dropped);
    for _ in 0..3 {
        shard.sends(publisher, &binary(7990));
        turn_in_which(
            shard,
            |key, offered| if key == publisher { offered } else { 1000 },
        );
    }
    let dropped = shard.stats.value(Stat::Dropped) - dropped;
    assert_eq!(dropped, 2 * viewers.len() as u64);
    viewers
}

#[test]
fn a_message_counts_once_although_many_are_in_the_middle_of_it() {
    let mut shard = small_shard(SlowConsumerPolicy::Drop, 64_000);
    for viewer in viewers_skipped(&mut shard, "/", 100) {
        assert_eq!(shard.stats.value(Stat::LogBytes), 0);
        assert_eq!(shard.stats.value(Stat::CarriedBytes), FRAME);
        shard.accepts(viewer);
        turn(&mut shard, usize::MAX, None);
    }
    assert_eq!(shard.stats.value(Stat::CarriedBytes), 0);
    assert_eq!(shard.stats.value(Stat::DisconnectedMemory), 0);
}

#[test]
fn clients_that_share_a_message_give_way_after_those_that_hold_as_much_alone() {
    let mut shard = small_shard(SlowConsumerPolicy::Drop, 64_000);
    let viewers = viewers_skipped(&mut shard, "/", 10);
    for n in 0..20 {
        let key = join(&mut shard, &format!("/part/{n}"), b"");
        turn(&mut shard, usize::MAX, None);
        shard.sends(key, &binary(3000)[..2900]);
    }
    turn(&mut shard, usize::MAX, None);
    assert!(shard.stats.value(Stat::DisconnectedMemory) > 0);
    let is_there = |key: &ClientKey| shard.clients.get(*key).is_some();
    assert!(viewers.iter().all(is_there));
}

#[test]
fn clients_that_share_messages_give_way_when_there_are_too_many_messages() {
    let mut shard = small_shard(SlowConsumerPolicy::Drop, 64_000);
    for n in 0..20 {
        viewers_skipped(&mut shard, &format!("/{n}"), 3);
    }
    // The logs take a part of the share as well, until the members are skipped.
    let carried = shard.stats.value(Stat::CarriedBytes);
    assert!(carried > 32_000 && carried <= 64_000, "{carried}");
    let gone = 20 - carried / FRAME;
    assert_eq!(shard.stats.value(Stat::DisconnectedMemory), 3 * gone);
}

#[test]
fn one_that_keeps_the_newer_half_of_a_log_does_not_give_way_for_one_that_was_not_visited() {
    let config = small_config(SlowConsumerPolicy::Disconnect, 64_000);
    let (mut shards, path) = two_shards(&config);
    let publisher = join(&mut shards[0], &path, b"");
    for _ in 0..2 {
        join(&mut shards[1], &path, b"");
    }
    turns(&mut shards);
    // The owner takes four turns while the other shard takes one, so no hold comes between the messages.
    for _ in 0..4 {
        shards[0].pass(Duration::from_secs(1));
        shards[0].sends(publisher, &binary(7990));
        turn_and_deliver(&mut shards, 0);
    }
    let [_, mut shard] = shards;
    shard.forget_writes();
    shard.run(1, &mut |_, offered| Written::plain(offered - 1, offered));
    assert_eq!(shard.written_to().len(), 1);
    assert_eq!(shard.stats.value(Stat::BufferLimitReached), 1);
    assert_eq!(shard.stats.value(Stat::Disconnections), 0);
}

#[test]
fn kept_messages_give_way_before_a_member_that_lags() {
    let mut config = small_config(SlowConsumerPolicy::Disconnect, 120_000);
    config.slow_consumer.max_lag_bytes = 60_000;
    config.history.max_age = Duration::from_mins(1);
    let mut shard = shard_with(&config);
    let writer = join(&mut shard, "/kept", b"");
    for _ in 0..10 {
        shard.sends(writer, &binary(7900));
        turn(&mut shard, usize::MAX, None);
    }
    let publisher = join(&mut shard, "/", b"");
    let stuck = join(&mut shard, "/", b"");
    for _ in 0..3 {
        shard.sends(publisher, &binary(7900));
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    let kept = shard.stats.value(Stat::HistoryBytes);
    assert!(kept < 13 * 7900, "{kept}");
    assert_eq!(shard.stats.value(Stat::Disconnections), 0);
    assert_eq!(shard.stats.value(Stat::BufferLimitReached), 0);
    shard.accepts(stuck);
    turn(&mut shard, usize::MAX, None);
    let taken = shard.writes_to(stuck).concat().len();
    assert!(taken > 3 * 7900, "{taken}");
}
