//! Tests of messages from senders that are not members of the topic.

use super::*;
use crate::port::topic_name::TopicName;
use crate::ws::frame::MessageKind;

/// Publishes a text of `len` bytes from outside.
fn publish(shard: &mut Driven, topic: &str, len: usize) -> Result<(), NotTaken> {
    let topic: TopicName = topic.into();
    shard.publish_from_outside(&topic, MessageKind::Text, &vec![b'x'; len])
}

#[test]
fn a_message_from_outside_reaches_the_members_on_all_shards_in_one_order() {
    let (mut shards, path) = shards::<3>(&Config::default());
    let members = [0, 1].map(|shard| {
        let client = join(&mut shards[shard], &path, b"");
        turns(&mut shards);
        client
    });
    publish(&mut shards[2], &path, 3).unwrap();
    shards[1].sends(members[1], &text(4));
    turn_and_deliver(&mut shards, 2);
    turn_and_deliver(&mut shards, 1);
    assert!(shards[2].outside.bytes(&path) > 0);
    for shard in [0, 1, 2] {
        turn_and_deliver(&mut shards, shard);
    }
    for (shard, &client) in shards[..2].iter().zip(&members) {
        let sent = shard.writes_to(client).concat();
        assert_eq!(sent, b"\x81\x03xxx\x81\x04xxxx");
    }
    assert_eq!(shards[2].outside.bytes(&path), 0, "it is numbered");
    turns(&mut shards);
    assert_eq!(
        shards[2].stats.value(Stat::Offered),
        0,
        "the shard has no members"
    );
}

#[test]
fn a_topic_without_members_is_numbered_and_forgotten() {
    let (mut shards, path) = two_shards(&Config::default());
    publish(&mut shards[1], &path, 3).unwrap();
    turns(&mut shards);
    assert_eq!(shards[1].outside.bytes(&path), 0);
    assert_eq!(shards[0].stats.value(Stat::OwnedTopics), 0);
}

#[test]
fn bytes_from_outside_on_their_way_are_limited_to_a_window() {
    let (mut shards, path) = two_shards(&Config::default());
    let window = shards[1].settings.conducts.general().policy.window_bytes as usize;
    publish(&mut shards[1], &path, window).unwrap();
    assert_eq!(publish(&mut shards[1], &path, 1), Err(NotTaken::Waits));
    publish(&mut shards[1], "/another", 1).unwrap();
    turns(&mut shards);
    publish(&mut shards[1], &path, 1).unwrap();
}

#[test]
fn messages_from_outside_wait_for_the_end_of_a_hold() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[0], &path, b"");
    turns(&mut shards);
    let topic: TopicName = path.as_str().into();
    shards[0].hears(Envelope::Hold {
        topic: topic.clone(),
        from: ShardId(0),
        hold: crate::relay::envelope::Hold::Open,
    });
    publish(&mut shards[1], &path, 3).unwrap();
    turns(&mut shards);
    assert!(shards[1].outside.bytes(&path) > 0);
    shards[0].hears(Envelope::Release {
        topic,
        from: ShardId(0),
        in_vain: false,
    });
    turns(&mut shards);
    assert_eq!(shards[1].outside.bytes(&path), 0);
}

#[test]
fn a_drain_takes_nothing_from_outside_and_numbers_everything_before_it() {
    let (mut shards, path) = two_shards(&Config::default());
    publish(&mut shards[1], &path, 3).unwrap();
    for shard in &mut shards {
        shard.begin_drain();
        turn(shard, usize::MAX, None);
    }
    assert_eq!(publish(&mut shards[1], &path, 1), Err(NotTaken::Draining));
    turns(&mut shards);
    assert_eq!(shards[1].outside.bytes(&path), 0);
    assert!(shards.iter().all(|shard| shard.is_drained()));
}

#[test]
fn envelopes_about_an_unknown_topic_change_nothing() {
    let (mut shards, path) = two_shards(&Config::default());
    let topic: TopicName = path.as_str().into();
    let from = ShardId(1);
    for envelope in [
        Envelope::Members {
            topic: topic.clone(),
            from,
            audience: crate::relay::batch::audience::Audience::default(),
        },
        Envelope::Release {
            topic: topic.clone(),
            from,
            in_vain: true,
        },
        Envelope::Arrived {
            topic: topic.clone(),
            bytes: 7,
        },
        Envelope::Unsubscribe { topic, from },
    ] {
        shards[0].hears(envelope);
    }
    turns(&mut shards);
    assert_eq!(shards[0].stats.value(Stat::OwnedTopics), 0);
}

#[test]
fn what_an_outsider_has_on_its_way_is_counted_to_the_byte() {
    let (mut shards, path) = two_shards(&Config::default());
    publish(&mut shards[1], &path, 3).unwrap();
    turn_and_deliver(&mut shards, 1);
    turn_and_deliver(&mut shards, 0);
    publish(&mut shards[1], &path, 20).unwrap();
    turn(&mut shards[1], usize::MAX, None);
    assert_eq!(shards[1].outside.bytes(&path), 2 + 20);
}

#[test]
fn nothing_is_taken_from_outside_once_the_relay_has_failed_or_was_cut() {
    for end in [Shard::abandon, Shard::cut_all] {
        let (mut shards, path) = two_shards(&Config::default());
        end(&mut shards[1]);
        assert_eq!(publish(&mut shards[1], &path, 1), Err(NotTaken::Draining));
    }
}

#[test]
fn messages_from_outside_to_several_topics_are_one_draft_for_each() {
    let (mut shards, path) = two_shards(&Config::default());
    let (one, other) = (format!("{path}?"), path);
    for _ in 0..100 {
        publish(&mut shards[1], &one, 1).unwrap();
        publish(&mut shards[1], &other, 1).unwrap();
    }
    assert_eq!(shards[1].outside.take().len(), 2);
}

#[test]
fn a_shard_that_has_learned_of_a_hold_takes_nothing_and_hears_once_what_was_numbered() {
    let mut config = Config::default();
    config.relay.coalesce = std::time::Duration::ZERO;
    let (mut shards, path) = two_shards(&config);
    join(&mut shards[0], &path, b"");
    turns(&mut shards);
    let topic: TopicName = path.as_str().into();
    let from = ShardId(0);
    let hold = crate::relay::envelope::Hold::Open;
    shards[0].hears(Envelope::Hold {
        topic: topic.clone(),
        from,
        hold,
    });
    for _ in 0..3 {
        publish(&mut shards[1], &path, 1).unwrap();
    }
    turns(&mut shards);
    assert_eq!(publish(&mut shards[1], &path, 1), Err(NotTaken::Waits));
    shards[0].hears(Envelope::Release {
        topic,
        from,
        in_vain: false,
    });
    turn(&mut shards[0], usize::MAX, None);
    let said = shards[0].take_said();
    let numbered: Vec<u64> = said
        .iter()
        .filter_map(|(_, mail)| match mail {
            Mail::Envelope(Envelope::Arrived { bytes, .. }) => Some(*bytes),
            _ => None,
        })
        .collect();
    assert_eq!(numbered, [3 * 3]);
    deliver(&mut shards, said);
    turns(&mut shards);
    assert_eq!(publish(&mut shards[1], &path, 1), Ok(()));
}
