//! Members that have been sent a part of a message, and what they cost.

use super::*;
use crate::relay::batch::draft::OVERHEAD_BYTES;

const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

/// A member that `frames` of its own were offered to, of which it has taken `taken` bytes.
fn in_part(frames: &[u8], taken: usize) -> (Shard, ClientKey) {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.on_bytes(client, &mut frames.to_vec());
    shard.decide();
    assert_eq!(shard.poll_flush(), Some(client));
    take(&mut shard, client, taken);
    (shard, client)
}

/// The member takes so many bytes of what it is offered.
fn take(shard: &mut Shard, client: ClientKey, taken: usize) {
    let offered = shard.gather(client, &mut Slices::new());
    shard.advance(client, Written::plain(taken, offered));
}

#[test]
fn a_pong_goes_right_behind_the_message_that_its_client_is_in_the_middle_of() {
    let (mut shard, client) = in_part(&text(9).repeat(2), 4);
    shard.on_writable(client);
    shard.on_bytes(client, &mut PING.clone());
    let sent = writes(&mut shard, client).concat();
    assert_eq!(sent, b"xxxxxxx\x8a\x00\x81\x09xxxxxxxxx");
}

#[test]
fn whoever_takes_a_little_now_and_then_has_not_stalled() {
    let (mut shard, client) = in_part(&text(100), 1);
    let stall = shard.settings.policy.stall_timeout;
    for _ in 0..3 {
        shard.begin_turn(shard.now + stall * 2 / 3);
        shard.handle_timeouts();
        shard.on_writable(client);
        take(&mut shard, client, 1);
    }
    assert_eq!(shard.stats.value(Stat::DisconnectedStall), 0);
    shard.begin_turn(shard.now + stall * 2);
    shard.handle_timeouts();
    assert_eq!(shard.stats.value(Stat::DisconnectedStall), 1);
}

#[test]
fn whoever_leaves_in_a_small_message_of_a_large_batch_does_not_keep_the_batch() {
    let (mut shard, client) = in_part(&text(100).repeat(10), 1);
    shard.on_bytes(client, &mut CLOSE.clone());
    assert_eq!(shard.stats.value(Stat::CarriedBytes), 101);
}

#[test]
fn an_empty_message_that_waits_counts_with_what_stands_around_it() {
    let (mut shard, client) = in_part(&text(0), 0);
    assert!(shard.is_blocked(client));
    shard.end_turn(shard.now);
    assert!(shard.stats.value(Stat::LogBytes) > OVERHEAD_BYTES as u64);
}
