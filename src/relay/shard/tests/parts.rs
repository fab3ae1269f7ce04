//! Members that have been sent a part of a message, and what they cost.

use super::*;
use crate::relay::batch::draft::OVERHEAD_BYTES;

const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

/// A member that `frames` of its own were offered to, of which it has taken `taken` bytes.
fn in_part(frames: &[u8], taken: usize) -> (Driven, ClientKey) {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.sends(client, frames);
    shard.forget_writes();
    shard.run(usize::MAX, &mut taking(taken));
    assert_eq!(shard.written_to(), [client]);
    (shard, client)
}

/// The writes of clients that take up to `taken` bytes of each.
fn taking(taken: usize) -> impl FnMut(ClientKey, usize) -> Written {
    move |_, offered| Written::plain(taken.min(offered), offered)
}

#[test]
fn a_pong_goes_right_behind_the_message_that_its_client_is_in_the_middle_of() {
    let (mut shard, client) = in_part(&text(9).repeat(2), 4);
    shard.accepts(client);
    shard.sends(client, &PING);
    turn(&mut shard, usize::MAX, None);
    let sent = shard.writes_to(client).concat();
    assert_eq!(sent, b"xxxxxxx\x8a\x00\x81\x09xxxxxxxxx");
}

#[test]
fn whoever_takes_a_little_now_and_then_has_not_stalled() {
    let (mut shard, client) = in_part(&text(100), 1);
    let stall = shard.settings.conducts.general().policy.stall_timeout;
    for _ in 0..3 {
        shard.sleep(stall * 2 / 3, &mut taking(0));
        shard.accepts(client);
        shard.run(usize::MAX, &mut taking(1));
    }
    assert_eq!(shard.stats.value(Stat::DisconnectedStall), 0);
    shard.sleep(stall * 2, &mut taking(0));
    assert_eq!(shard.stats.value(Stat::DisconnectedStall), 1);
}

#[test]
fn whoever_leaves_in_a_small_message_of_a_large_batch_does_not_keep_the_batch() {
    let (mut shard, client) = in_part(&text(100).repeat(10), 1);
    shard.sends(client, &CLOSE);
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.stats.value(Stat::CarriedBytes), 101);
}

#[test]
fn an_empty_message_that_waits_counts_with_what_stands_around_it() {
    let (shard, client) = in_part(&text(0), 0);
    assert!(shard.is_blocked(client));
    assert!(shard.stats.value(Stat::LogBytes) > OVERHEAD_BYTES as u64);
}

#[test]
fn whoever_ends_in_the_middle_of_a_message_gets_the_rest_and_what_else_it_is_owed() {
    let (mut shard, client) = in_part(&text(9).repeat(2), 4);
    shard.forget_writes();
    shard.ends(client);
    shard.run(usize::MAX, &mut taking(0));
    assert!(is_parked(&shard, client));
    shard.accepts(client);
    rest(&mut shard, None);
    let sent = shard.writes_to(client).concat();
    let reason = b"you ended the connection without a Close";
    let owed = b"xxxxxxx\x81\x09xxxxxxxxx\x88\x2a\x03\xe8";
    assert_eq!(sent, [owed.as_slice(), reason].concat());
    // Nothing more comes from it, so it is not waited for.
    assert!(shard.is_empty());
    assert_eq!(shard.stats.value(Stat::Discarded), 0);
    assert_eq!(shard.stats.value(Stat::DisconnectedLost), 1);
}

#[test]
fn whoever_ends_and_accepts_nothing_is_cut() {
    let (mut shard, client) = in_part(&text(9), 4);
    shard.ends(client);
    shard.sleep(Duration::from_secs(6), &mut taking(0));
    assert!(shard.is_empty());
    assert_eq!(shard.stats.value(Stat::DisconnectedLost), 1);
}

#[test]
fn a_close_that_waits_is_sent_although_the_client_ends() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    rest(&mut shard, None);
    shard.forget_writes();
    shard.abandon();
    shard.ends(client);
    rest(&mut shard, None);
    let sent = shard.writes_to(client).concat();
    assert_eq!(sent, b"\x88\x10\x03\xf3internal error");
    assert!(shard.is_empty());
    assert_eq!(shard.stats.value(Stat::DisconnectedInternal), 1);
}
