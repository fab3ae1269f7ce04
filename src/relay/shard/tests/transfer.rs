//! Clients that move to the shard of their topic.

use super::*;
use crate::relay::client::Phase;

/// A client of the second shard that asks for a topic of the first one's, with a ping behind its request.
fn undecided() -> ([Shard; 2], ClientKey) {
    let (mut shards, path) = two_shards(&Config::default());
    let client = join(&mut shards[1], &path, &PING);
    (shards, client)
}

fn phase(shard: &Shard, key: ClientKey) -> Option<Phase> {
    shard.client(key).map(|client| client.phase)
}

#[test]
fn a_client_moves_with_all_that_it_has_said() {
    let ([mut owner, mut shard], client) = undecided();
    assert_eq!(shard.poll_undecided(), Some((client, ShardId(0))));
    assert_eq!(shard.poll_undecided(), None);
    let transfer = shard.transfer_out(client);
    assert_eq!(transfer.weight_bytes(), PING.len());
    assert!(shard.is_empty() && shard.take_effects().next().is_none());
    shard.check();
    let client = owner.transfer_in(transfer);
    assert_eq!(phase(&owner, client), Some(Phase::Open));
    owner.decide();
    assert_eq!(owner.poll_flush(), Some(client));
    let mut sent = Vec::new();
    loop {
        let mut slices = Slices::new();
        let offered = owner.gather(client, &mut slices);
        slices
            .iter()
            .for_each(|slice| sent.extend_from_slice(slice));
        drop(slices);
        if offered == 0 || !owner.advance(client, Written::plain(offered, offered)) {
            break;
        }
    }
    assert!(sent.starts_with(b"HTTP/1.1 101 ") && sent.ends_with(b"\r\n\r\n\x8a\x00"));
    owner.check();
}

#[test]
fn whoever_is_left_undecided_stays() {
    let (mut shards, client) = undecided();
    shards[1].check();
    shards[1].decide();
    assert_eq!(shards[1].poll_undecided(), None);
    turns(&mut shards);
    assert_eq!(phase(&shards[1], client), Some(Phase::Open));
}

#[test]
fn nobody_moves_from_a_shard_that_drains() {
    let (mut shards, client) = undecided();
    shards[1].begin_drain();
    assert_eq!(shards[1].poll_undecided(), None);
    turns(&mut shards);
    assert_eq!(phase(&shards[1], client), Some(Phase::Open));
}

#[test]
fn a_drain_tells_those_who_arrive_too_late() {
    let ([mut owner, mut shard], client) = undecided();
    let transfer = shard.transfer_out(client);
    owner.begin_drain();
    let client = owner.transfer_in(transfer);
    assert_eq!(phase(&owner, client), Some(Phase::Finishing));
    assert_eq!(owner.stats.value(Stat::HandshakeShutdown), 1);
    owner.check();
}

#[test]
fn nobody_moves_whose_topic_has_members_where_it_is() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, b"");
    turns(&mut shards);
    join(&mut shards[1], &path, b"");
    assert_eq!(shards[1].poll_undecided(), None);
}

#[test]
fn of_two_that_ask_for_a_topic_in_one_turn_none_moves_when_the_other_has_stayed() {
    let (mut shards, path) = two_shards(&Config::default());
    let clients = [0, 1].map(|_| join(&mut shards[1], &path, b""));
    let (first, _) = shards[1].poll_undecided().unwrap();
    shards[1].stay(first);
    assert_eq!(shards[1].poll_undecided(), None);
    turns(&mut shards);
    for client in clients {
        assert_eq!(phase(&shards[1], client), Some(Phase::Open));
    }
}

#[test]
fn whoever_may_not_publish_may_not_where_it_lives_then() {
    let mut config = Config::default();
    config.relay.publish = Publish::Nobody;
    let (mut shards, path) = two_shards(&config);
    let client = join(&mut shards[1], &path, &text(5));
    let transfer = shards[1].transfer_out(client);
    let client = shards[0].transfer_in(transfer);
    turn(&mut shards[0], usize::MAX, None);
    assert_ne!(phase(&shards[0], client), Some(Phase::Open));
    assert_eq!(shards[0].stats.value(Stat::Messages), 0);
    assert_eq!(shards[0].stats.value(Stat::DisconnectedPublishDenied), 1);
}
