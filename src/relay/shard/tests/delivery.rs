//! Fan-outs that wait until other shards have delivered the last one: for how long, and what is not waited for.

use super::coalesce::{config_with, pass};
use super::*;
use crate::relay::coalesce::LOOK_GAP;

/// A fan-out of which the second of two shards has not heard, and what has come since, which waits.
struct UnderWay {
    owner: Shard,
    other: Shard,
    path: String,
    publisher: ClientKey,
    unheard: Vec<Envelope>,
    /// When the fan-out began.
    began: Timestamp,
    /// When the other message came.
    came: Timestamp,
}

impl UnderWay {
    const LISTENERS: usize = 38;
    const INTERVAL: Duration = Duration::from_micros(800);

    /// Of a topic with two members on the first shard, who send, and the listeners on the second. Before the interval is over,
    /// `message` has come.
    fn with(message: &mut [u8]) -> Self {
        Self::new(&config_with(Self::INTERVAL), message)
    }

    fn new(config: &Config, message: &mut [u8]) -> Self {
        Self::behind(&text(1), config, message)
    }

    /// The same with a fan-out of two messages like `first`.
    fn behind(first: &[u8], config: &Config, message: &mut [u8]) -> Self {
        let (mut shards, path) = two_shards(config);
        let publishers = [(); 2].map(|()| join(&mut shards[0], &path, b""));
        for _ in 0..Self::LISTENERS {
            join(&mut shards[1], &path, b"");
        }
        turns(&mut shards);
        for shard in &mut shards {
            pass(shard, Duration::from_secs(1));
        }
        let [mut owner, other] = shards;
        let began = owner.now;
        for publisher in publishers {
            // Large ones come in parts, and are batches of their own then.
            for part in first.chunks(first.len().div_ceil(2)) {
                owner.on_bytes(publisher, &mut part.to_vec());
            }
        }
        turn(&mut owner, usize::MAX, None);
        let said = owner.take_outbox().map(|(_, envelope)| envelope);
        let unheard: Vec<Envelope> = said.collect();
        pass(&mut owner, Self::INTERVAL * 5 / 8);
        owner.on_bytes(publishers[0], message);
        turn(&mut owner, usize::MAX, None);
        UnderWay {
            came: owner.now,
            owner,
            other,
            path,
            publisher: publishers[0],
            unheard,
            began,
        }
    }

    fn waits_until(&self) -> Option<Timestamp> {
        self.owner.waits_until(&self.path)
    }

    /// A turn of the owner that begins `now`. Says how many of its members are sent something.
    fn owner_turn(&mut self, now: Timestamp) -> usize {
        self.owner.begin_turn(now);
        turn(&mut self.owner, usize::MAX, None).len()
    }

    /// The other shard hears of the fan-out, `now`.
    fn other_hears(&mut self, now: Timestamp) {
        self.other_hears_of(self.unheard.len(), now);
    }

    /// It hears of the first batches of it.
    fn other_hears_of(&mut self, batches: usize, now: Timestamp) {
        self.other.begin_turn(now);
        for envelope in self.unheard.drain(..batches) {
            self.other.handle(envelope);
        }
    }

    fn overtaken(&self) -> u64 {
        self.owner.stats.value(Stat::Overtaken)
    }
}

/// What joining more to gains nothing.
fn enough() -> Vec<u8> {
    text(100).repeat(400)
}

#[test]
fn a_fan_out_begins_a_quarter_of_an_interval_after_other_shards_have_delivered_the_one_before() {
    const INTERVAL: Duration = UnderWay::INTERVAL;
    let mut topic = UnderWay::with(&mut text(1));
    let look = topic.came + INTERVAL / 2;
    assert_eq!(topic.waits_until(), Some(look));
    topic.owner_turn(look);
    assert_eq!(topic.waits_until(), Some(look + INTERVAL / 2));
    // It is not when it is heard that counts, but when all have been visited.
    topic.other_hears(look);
    assert_eq!(turn(&mut topic.other, 2, None).len(), 2);
    let delivered = look + INTERVAL * 3 / 8;
    topic.other.begin_turn(delivered);
    let rest = turn(&mut topic.other, usize::MAX, None);
    assert_eq!(rest.len(), UnderWay::LISTENERS - 2);
    assert_eq!(topic.owner_turn(look + INTERVAL / 2), 0);
    assert_eq!(topic.waits_until(), Some(delivered + INTERVAL / 4));
    assert_eq!(topic.owner_turn(delivered + INTERVAL / 4), 2);
    assert_eq!(topic.overtaken(), 0);
}

#[test]
fn a_fan_out_waits_for_the_last_one_as_long_as_a_wave_may_follow_it() {
    let mut topic = UnderWay::with(&mut text(1));
    let quiet = topic.began + UnderWay::INTERVAL * 2;
    let mut looks = 0;
    while let Some(due) = topic.waits_until().filter(|&due| due < quiet) {
        assert_eq!(topic.owner_turn(due), 0);
        looks += 1;
    }
    assert_eq!((looks, topic.overtaken()), (2, 0));
    assert_eq!(topic.waits_until(), Some(quiet));
    assert_eq!(topic.owner_turn(quiet), 2);
    assert_eq!(topic.overtaken(), 1);
}

#[test]
fn a_fan_out_of_several_batches_has_been_delivered_when_the_last_of_them_has() {
    let mut large = vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    large.resize(14 + (64 << 10), 0);
    let config = config_with(UnderWay::INTERVAL);
    let mut topic = UnderWay::behind(&large, &config, &mut text(1));
    assert_eq!(topic.unheard.len(), 2);
    topic.other_hears_of(1, topic.came);
    turn(&mut topic.other, usize::MAX, None);
    let look = topic.waits_until().expect("it waits");
    assert_eq!(topic.owner_turn(look), 0);
    topic.other_hears(look);
    turn(&mut topic.other, usize::MAX, None);
    assert_eq!(topic.owner_turn(look + UnderWay::INTERVAL / 2), 2);
    assert_eq!(topic.overtaken(), 0);
}

#[test]
fn what_is_enough_waits_for_nothing_but_the_last_fan_out_and_is_looked_at_often() {
    let mut topic = UnderWay::with(&mut enough());
    let look = topic.came + LOOK_GAP;
    assert_eq!(topic.waits_until(), Some(look));
    topic.owner.on_bytes(topic.publisher, &mut text(1));
    assert_eq!(topic.owner_turn(topic.came + LOOK_GAP / 2), 0);
    assert_eq!(topic.waits_until(), Some(look));
    assert_eq!(topic.owner_turn(look), 0);
    topic.other_hears(look);
    turn(&mut topic.other, usize::MAX, None);
    assert_eq!(topic.owner_turn(look + LOOK_GAP), 2);
    assert_eq!(topic.overtaken(), 0);
}

#[test]
fn what_has_become_enough_is_looked_at_earlier_than_it_was_to_be() {
    let mut topic = UnderWay::with(&mut text(1));
    assert_eq!(
        topic.waits_until(),
        Some(topic.came + UnderWay::INTERVAL / 2)
    );
    topic.owner.on_bytes(topic.publisher, &mut enough());
    assert_eq!(topic.owner_turn(topic.came), 0);
    assert_eq!(topic.waits_until(), Some(topic.came + LOOK_GAP));
}

#[test]
fn what_fills_the_window_waits_for_no_delivery() {
    let mut config = config_with(UnderWay::INTERVAL);
    config.limits.max_message_bytes = 1 << 10;
    config.slow_consumer.max_lag_bytes = 128 << 10;
    let topic = UnderWay::new(&config, &mut enough());
    assert_eq!((topic.waits_until(), topic.overtaken()), (None, 1));
}

#[test]
fn a_shard_whose_members_have_left_is_not_waited_for() {
    let mut topic = UnderWay::with(&mut text(1));
    topic.other.abandon();
    turn(&mut topic.other, usize::MAX, None);
    topic.other_hears(topic.other.now);
    let due = topic.waits_until().expect("it waits");
    assert_eq!(topic.owner_turn(due), 2);
}
