//! Tests of clients that move to another shard before they join.

use super::*;
use crate::relay::shard::client::Client;
use crate::relay::shard::phase::Phase;

/// Two shards, and a client of the second that asks for a topic of the first. A ping follows its request.
fn undecided() -> ([Driven; 2], ClientKey) {
    let (mut shards, path) = two_shards(&Config::default());
    let client = join(&mut shards[1], &path, &PING);
    (shards, client)
}

/// Lets all undecided clients of shard `from` move to `home` in its next turn. Returns the last of them, which shard `home`
/// knows after a turn.
fn move_clients(shards: &mut [Driven], from: usize, home: usize) -> ClientKey {
    shards[from].set_home(ShardId(home as u16));
    turn_and_deliver(shards, from);
    turn(&mut shards[home], usize::MAX, None);
    *shards[home].moved_in().last().expect("one has moved")
}

fn phase(shard: &Shard, key: ClientKey) -> Option<Phase> {
    shard.clients.get(key).map(Client::phase)
}

#[test]
fn a_client_moves_with_its_early_frames() {
    let (mut shards, _) = undecided();
    shards[1].set_home(ShardId(0));
    turn(&mut shards[1], usize::MAX, None);
    let said = shards[1].take_said();
    assert!(
        matches!(&said[..], [(ShardId(0), Mail::Client(moved))] if moved.weight_bytes() == PING.len())
    );
    assert!(shards[1].is_empty() && shards[1].take_applied().is_empty());
    deliver(&mut shards, said);
    let [mut owner, _] = shards;
    turn(&mut owner, usize::MAX, None);
    let &[client] = owner.moved_in() else {
        panic!("one client has moved");
    };
    assert_eq!(phase(&owner, client), Some(Phase::Open));
    let sent = owner.writes_to(client).concat();
    assert!(sent.starts_with(b"HTTP/1.1 101 ") && sent.ends_with(b"\r\n\r\n\x8a\x00"));
}

#[test]
fn a_client_may_move_to_a_shard_that_does_not_own_its_topic() {
    let (mut shards, path) = shards::<3>(&Config::default());
    join(&mut shards[1], &path, &text(5));
    let client = move_clients(&mut shards, 1, 2);
    // The owner has not confirmed it yet.
    assert_eq!(phase(&shards[2], client), Some(Phase::Joining));
    turns(&mut shards);
    assert_eq!(phase(&shards[2], client), Some(Phase::Open));
    // Its own message has been to the owner and back.
    assert_eq!(shards[2].stats.value(Stat::Messages), 1);
    assert_eq!(shards[2].stats.value(Stat::Delivered), 1);
    assert!(shards[0].is_empty() && shards[1].is_empty());
}

#[test]
fn a_client_that_moves_to_a_shard_with_members_shares_their_topic() {
    let (mut shards, path) = shards::<3>(&Config::default());
    join(&mut shards[2], &path, b"");
    turns(&mut shards);
    join(&mut shards[1], &path, &text(5));
    move_clients(&mut shards, 1, 2);
    turns(&mut shards);
    assert_eq!(shards[2].stats.value(Stat::Topics), 1);
    assert_eq!(shards[2].stats.value(Stat::Delivered), 2);
}

#[test]
fn a_drain_closes_a_client_that_moved_to_a_shard_that_does_not_own_its_topic() {
    let (mut shards, path) = shards::<3>(&Config::default());
    join(&mut shards[1], &path, b"");
    let client = move_clients(&mut shards, 1, 2);
    // Before the owner hears of it.
    for shard in &mut shards {
        shard.begin_drain();
    }
    turns(&mut shards);
    // The Close follows the 101.
    let sent = shards[2].writes_to(client).concat();
    let (_, last) = sent.split_at(sent.len() - 24);
    assert!(last.starts_with(b"\x03\xe9going away; retry "));
    assert_eq!(phase(&shards[2], client), Some(Phase::Closing));
    assert!(shards[0].is_drained() && shards[1].is_drained() && !shards[2].is_drained());
}

#[test]
fn a_client_that_is_left_undecided_stays() {
    let (mut shards, path) = two_shards(&Config::default());
    let client = read_alone(&mut shards[1], &path);
    // Not a turn, because its host would be asked.
    shards[1].decide();
    assert_eq!(shards[1].poll_undecided(), None);
    turn_and_deliver(&mut shards, 1);
    turns(&mut shards);
    assert_eq!(phase(&shards[1], client), Some(Phase::Open));
}

/// An undecided client. Its request was read by a step alone, because a turn leaves nobody undecided.
fn read_alone(shard: &mut Driven, path: &str) -> ClientKey {
    let client = shard.accept();
    shard.on_bytes(client, &mut request(path).into_bytes());
    assert_eq!(phase(shard, client), Some(Phase::Placing));
    client
}

#[test]
fn clients_do_not_move_from_a_shard_that_drains() {
    let (mut shards, path) = two_shards(&Config::default());
    let client = read_alone(&mut shards[1], &path);
    shards[1].set_home(ShardId(0));
    shards[1].begin_drain();
    turns(&mut shards);
    assert_eq!(phase(&shards[1], client), Some(Phase::Open));
}

#[test]
fn a_client_that_moves_into_a_drain_is_refused() {
    let (mut shards, _) = undecided();
    shards[0].gets(Mail::Drain);
    let client = move_clients(&mut shards, 1, 0);
    assert_eq!(phase(&shards[0], client), Some(Phase::Lingering));
    let sent = shards[0].writes_to(client).concat();
    assert!(sent.starts_with(b"HTTP/1.1 503 "));
    assert_eq!(shards[0].stats.value(Stat::HandshakeShutdown), 1);
}

#[test]
fn a_client_may_move_although_its_topic_has_members_where_it_is() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, b"");
    turns(&mut shards);
    join(&mut shards[1], &path, b"");
    let moved = move_clients(&mut shards, 1, 0);
    turns(&mut shards);
    assert_eq!(phase(&shards[0], moved), Some(Phase::Open));
}

#[test]
fn a_client_that_may_not_publish_may_not_after_a_move() {
    let mut config = Config::default();
    config.relay.publish = Publish::Nobody;
    let (mut shards, path) = two_shards(&config);
    join(&mut shards[1], &path, &text(5));
    let client = move_clients(&mut shards, 1, 0);
    assert_ne!(phase(&shards[0], client), Some(Phase::Open));
    assert_eq!(shards[0].stats.value(Stat::Messages), 0);
    assert_eq!(shards[0].stats.value(Stat::DisconnectedPublishDenied), 1);
}

#[test]
fn only_an_undecided_client_can_be_taken_out() {
    let ([_, mut shard], path) = two_shards(&Config::default());
    let client = read_alone(&mut shard, &path);
    let stranger = shard.accept();
    assert!(shard.transfer_out(stranger).is_none());
    shard.stay(client);
    assert!(shard.transfer_out(client).is_none());
    assert_eq!(shard.len(), 2);
    shard.check();
}
