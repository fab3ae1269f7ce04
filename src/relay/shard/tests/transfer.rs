//! Tests of clients that move to another shard before they join.

use super::*;
use crate::relay::shard::Undecided;
use crate::relay::shard::client::Client;
use crate::relay::shard::phase::Phase;

/// Two shards, and a client of the second that asks for a topic of the first. A ping follows its request.
fn undecided() -> ([Shard; 2], ClientKey) {
    let (mut shards, path) = two_shards(&Config::default());
    let client = join(&mut shards[1], &path, &PING);
    (shards, client)
}

fn phase(shard: &Shard, key: ClientKey) -> Option<Phase> {
    shard.clients.get(key).map(Client::phase)
}

#[test]
fn a_client_moves_with_its_early_frames() {
    let ([mut owner, mut shard], client) = undecided();
    let undecided = Undecided {
        key: client,
        owner: ShardId(0),
    };
    assert_eq!(shard.poll_undecided(), Some(undecided));
    assert_eq!(shard.poll_undecided(), None);
    let transfer = shard.transfer_out(client).expect("undecided");
    assert_eq!(transfer.weight_bytes(), PING.len());
    assert!(shard.is_empty() && shard.take_effects().next().is_none());
    shard.check();
    let client = owner.transfer_in(transfer);
    assert_eq!(phase(&owner, client), Some(Phase::Open));
    owner.decide();
    assert_eq!(owner.poll_flush(), Some(client));
    let sent = writes(&mut owner, client).concat();
    assert!(sent.starts_with(b"HTTP/1.1 101 ") && sent.ends_with(b"\r\n\r\n\x8a\x00"));
    owner.check();
}

#[test]
fn a_client_may_move_to_a_shard_that_does_not_own_its_topic() {
    let (mut shards, path) = shards::<3>(&Config::default());
    let undecided = join(&mut shards[1], &path, &text(5));
    let transfer = shards[1].transfer_out(undecided).expect("undecided");
    let client = shards[2].transfer_in(transfer);
    // The owner has not confirmed it yet.
    assert_eq!(phase(&shards[2], client), Some(Phase::Joining));
    shards[2].check();
    turns(&mut shards);
    assert_eq!(phase(&shards[2], client), Some(Phase::Open));
    // Its own message has been to the owner and back.
    assert_eq!(shards[2].stats.value(Stat::Messages), 1);
    assert_eq!(shards[2].stats.value(Stat::Delivered), 1);
    assert!(shards[0].is_empty() && shards[1].is_empty());
    for shard in &mut shards {
        shard.check();
    }
}

#[test]
fn a_client_that_moves_to_a_shard_with_members_shares_their_topic() {
    let (mut shards, path) = shards::<3>(&Config::default());
    let undecided = join(&mut shards[2], &path, b"");
    shards[2].stay(undecided);
    turns(&mut shards);
    let another = join(&mut shards[1], &path, &text(5));
    let transfer = shards[1].transfer_out(another).expect("undecided");
    shards[2].transfer_in(transfer);
    turns(&mut shards);
    assert_eq!(shards[2].stats.value(Stat::Topics), 1);
    assert_eq!(shards[2].stats.value(Stat::Delivered), 2);
}

#[test]
fn a_drain_closes_a_client_that_moved_to_a_shard_that_does_not_own_its_topic() {
    let (mut shards, path) = shards::<3>(&Config::default());
    let undecided = join(&mut shards[1], &path, b"");
    let transfer = shards[1].transfer_out(undecided).expect("undecided");
    let client = shards[2].transfer_in(transfer);
    // Before the owner hears of it.
    for shard in &mut shards {
        shard.begin_drain();
    }
    turns(&mut shards);
    // The Close follows the 101.
    let sent = writes(&mut shards[2], client).concat();
    assert!(sent.ends_with(b"\x03\xe9going away"));
    assert_eq!(phase(&shards[2], client), Some(Phase::Closing));
    assert!(shards[0].is_drained() && shards[1].is_drained() && !shards[2].is_drained());
}

#[test]
fn a_client_that_is_left_undecided_stays() {
    let (mut shards, client) = undecided();
    shards[1].check();
    shards[1].decide();
    assert_eq!(shards[1].poll_undecided(), None);
    turns(&mut shards);
    assert_eq!(phase(&shards[1], client), Some(Phase::Open));
}

#[test]
fn clients_do_not_move_from_a_shard_that_drains() {
    let (mut shards, client) = undecided();
    shards[1].begin_drain();
    assert_eq!(shards[1].poll_undecided(), None);
    turns(&mut shards);
    assert_eq!(phase(&shards[1], client), Some(Phase::Open));
}

#[test]
fn a_client_that_moves_into_a_drain_is_refused() {
    let ([mut owner, mut shard], client) = undecided();
    let transfer = shard.transfer_out(client).expect("undecided");
    owner.begin_drain();
    let client = owner.transfer_in(transfer);
    assert_eq!(phase(&owner, client), Some(Phase::Finishing));
    assert_eq!(owner.stats.value(Stat::HandshakeShutdown), 1);
    owner.check();
}

#[test]
fn a_client_may_move_although_its_topic_has_members_where_it_is() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, b"");
    turns(&mut shards);
    let newcomer = join(&mut shards[1], &path, b"");
    let transfer = shards[1].transfer_out(newcomer).expect("undecided");
    let moved = shards[0].transfer_in(transfer);
    turns(&mut shards);
    assert_eq!(phase(&shards[0], moved), Some(Phase::Open));
}

#[test]
fn a_client_that_may_not_publish_may_not_after_a_move() {
    let mut config = Config::default();
    config.relay.publish = Publish::Nobody;
    let (mut shards, path) = two_shards(&config);
    let client = join(&mut shards[1], &path, &text(5));
    let transfer = shards[1].transfer_out(client).expect("undecided");
    let client = shards[0].transfer_in(transfer);
    turn(&mut shards[0], usize::MAX, None);
    assert_ne!(phase(&shards[0], client), Some(Phase::Open));
    assert_eq!(shards[0].stats.value(Stat::Messages), 0);
    assert_eq!(shards[0].stats.value(Stat::DisconnectedPublishDenied), 1);
}

#[test]
fn only_an_undecided_client_can_be_taken_out() {
    let ([_, mut shard], client) = undecided();
    let stranger = shard.accept();
    assert!(shard.transfer_out(stranger).is_none());
    shard.stay(client);
    assert!(shard.transfer_out(client).is_none());
    assert_eq!(shard.len(), 2);
    shard.check();
}
