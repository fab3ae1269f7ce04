//! The order of what shards say in a drain.

use super::*;
use crate::ids::Seq;

/// The envelopes that a shard sends in a turn, in order.
fn said(shard: &mut Shard) -> Vec<(ShardId, Envelope)> {
    shard.decide();
    shard.take_outbox().collect()
}

fn place(said: &[(ShardId, Envelope)], is_it: impl Fn(&Envelope) -> bool) -> usize {
    let place = said.iter().position(|(_, envelope)| is_it(envelope));
    place.expect("it is said")
}

/// The owner of a topic and a shard whose only member has published something, and then was told to drain.
fn published_before_a_drain() -> [Shard; 2] {
    let (mut shards, path) = two_shards(&Config::default());
    let member = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[1].on_bytes(member, &mut text(3));
    for shard in &mut shards {
        shard.begin_drain();
    }
    shards
}

#[test]
fn the_fence_goes_behind_what_was_published_in_its_turn() {
    let [_, mut shard] = published_before_a_drain();
    let said = said(&mut shard);
    let published = place(&said, |said| matches!(said, Envelope::Publish { .. }));
    let fence = place(&said, |said| matches!(said, Envelope::Fence));
    assert!(published < fence, "{said:?}");
}

#[test]
fn an_owner_answers_the_fences_behind_what_it_fans_out_in_that_turn() {
    let [mut owner, mut shard] = published_before_a_drain();
    for (_, envelope) in said(&mut shard) {
        owner.handle(envelope);
    }
    let said = said(&mut owner);
    let delivered = place(&said, |said| matches!(said, Envelope::Deliver { .. }));
    let answer = place(&said, |said| matches!(said, Envelope::Fenced));
    assert!(delivered < answer, "{said:?}");
}

#[test]
fn whoever_joins_a_relay_that_has_failed_meanwhile_is_seen_off_at_once() {
    let (mut shards, path) = two_shards(&Config::default());
    let late = join(&mut shards[1], &path, b"");
    shards[1].stay(late);
    shards[1].abandon();
    turns(&mut shards);
    assert_eq!(shards[1].stats.value(Stat::Connections), 1);
    assert_eq!(shards[1].stats.value(Stat::ConnectedClients), 0);
}

#[test]
fn a_close_behind_the_request_is_heard_although_the_drain_began_between() {
    let (shards, path) = two_shards(&Config::default());
    let [_, mut shard] = shards;
    let client = join(&mut shard, &path, &[0x88, 0x80, 0, 0, 0, 0]);
    shard.begin_drain();
    shard.handle(Envelope::Subscribed {
        topic: path.as_str().into(),
        client,
        next: Seq(0),
        held: None,
    });
    // The fence of the other shard, and its answer to ours.
    shard.handle(Envelope::Fence);
    shard.handle(Envelope::Fenced);
    shard.decide();
    while let Some(key) = shard.poll_flush() {
        writes(&mut shard, key);
    }
    let resumed: Vec<ClientKey> = std::iter::from_fn(|| shard.take_ready(false)).collect();
    assert!(resumed.contains(&client));
    assert_eq!(shard.permit(client), Permit::Parked);
    assert_eq!(shard.take_effects().next(), Some(Effect::Close(client)));
    assert!(shard.is_drained());
}

#[test]
fn a_proxy_that_has_sent_no_header_is_not_answered_in_a_drain() {
    let mut shard = shard_with(&Config::default());
    let before = shard.accept_with_preface();
    shard.begin_drain();
    let after = shard.accept_with_preface();
    assert_eq!(shard.poll_flush(), None);
    let effects: Vec<Effect> = shard.take_effects().collect();
    assert_eq!(effects, [Effect::Close(before), Effect::Close(after)]);
    assert_eq!(shard.stats().value(Stat::HandshakeShutdown), 2);
}
