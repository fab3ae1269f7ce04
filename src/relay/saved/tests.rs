//! The bytes of a history, from the shards of one process to those of the next.

use std::sync::Arc;
use std::time::Duration;

use super::restore::{Restored, Restoring, Taken};
use super::write::{Clocks, Writer};
use super::{Damage, MAGIC};
use crate::config::Config;
use crate::ids::{ClientKey, Seq, ShardId};
use crate::metrics::stats::Stats;
use crate::port::position::{Epoch, Position, Start};
use crate::port::terms::Form;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::conduct::Conducts;
use crate::relay::envelope::Envelope;
use crate::relay::outbox::Outbox;
use crate::relay::owner::keepsake::{Amount, Keepsake};
use crate::relay::owner::{Desk, Owner};
use crate::relay::router::Router;
use crate::relay::shard::Settings;
use crate::time::{Timestamp, WallTime};
use crate::ws::frame::MessageKind;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp(90_000_000_000);
const WALL: Duration = Duration::from_secs(1_700_000_000);

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.history.max_age = 60 * SECOND;
    config.limits.max_buffered_bytes = 64 << 20;
    change(&mut config);
    config
}

fn epoch() -> Epoch {
    Epoch::from_bits(7)
}

fn fresh() -> Epoch {
    Epoch::from_bits(8)
}

fn clocks(now: Timestamp, wall: Duration) -> Clocks {
    Clocks {
        now,
        wall: WallTime(wall),
    }
}

/// An owner with the topics `/0`, `/1`… of so many batches, one a second up to now, of two messages each.
fn keepsake(batches: &[u32]) -> Keepsake {
    let conducts = Arc::new(Conducts::new(
        &config(|config| config.relay.coalesce = Duration::ZERO),
        1,
    ));
    let mut owner = Owner::new(conducts, 64 << 20, epoch());
    let (mut stats, mut outbox) = (Stats::default(), Outbox::new(ShardId(0)));
    let most = batches.iter().copied().max().unwrap_or_default();
    for before in (0..most).rev() {
        let now = Timestamp(NOW.0 - SECOND.as_micros() as u64 * u64::from(before));
        for (topic, &batches) in batches.iter().enumerate() {
            if before >= batches {
                continue;
            }
            let mut draft = Draft::new(Source::Members(ShardId(0)), now);
            draft.push(MessageKind::Text, format!("{before}").as_bytes(), None);
            draft.push(MessageKind::Binary, &vec![0xff; 200 * topic], None);
            let name = format!("/{topic}").into();
            owner.on_publish(&name, draft, Audience::default(), &mut stats);
        }
        let mut desk = Desk {
            now,
            outbox: &mut outbox,
            stats: &mut stats,
        };
        owner.fan_out(false, &mut desk);
    }
    owner.keepsake()
}

fn written(keepsakes: Vec<Keepsake>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let writer = Writer::new(keepsakes, clocks(NOW, WALL));
    let amount = writer.write(epoch(), |piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, ()>(())
    });
    amount.unwrap();
    bytes
}

/// The shards of a process that starts `away` later with a clock of its own, fed in pieces of `step`.
fn restored(bytes: &[u8], shards: u16, away: Duration, step: usize, config: &Config) -> Restored {
    let settings = Settings::new(config, shards).in_epoch(fresh());
    let clocks = clocks(Timestamp(100_000_000), WALL + away);
    let router = Router::new(shards, 17);
    let mut restoring = Restoring::new(settings, router, clocks, bytes.len() as u64);
    for piece in bytes.chunks(step) {
        if !restoring.push(piece) {
            break;
        }
    }
    restoring.finish()
}

/// The first number and what is lost, for a client of a topic that was at `at`.
fn resume(restored: &mut Restored, topic: &str, at: u64) -> (u64, Option<u64>) {
    let shards = restored.shards.len() as u16;
    let owner = Router::new(shards, 17).owner(topic).index();
    let start = Start::At(Position {
        epoch: epoch(),
        next: Seq(at),
    });
    let shard = &mut restored.shards[owner];
    let from = ShardId(u16::MAX);
    shard.handle(Envelope::Subscribe {
        topic: topic.into(),
        from,
        client: ClientKey::first_in(0),
        audience: Audience::default(),
        form: Form::Frames,
        start: Some(Box::new(start)),
    });
    let mut answers = shard.take_outbox().map(|(_, envelope)| envelope);
    let answer = answers.next();
    drop(answers);
    let topic = topic.into();
    shard.handle(Envelope::Unsubscribe { topic, from });
    match answer {
        Some(Envelope::Subscribed { resumed, .. }) => {
            let resumed = resumed.expect("the topic keeps messages");
            (resumed.from.0, resumed.lost)
        }
        other => panic!("{other:?}"),
    }
}

fn numbers(restored: &Restored, topic: &str) -> Option<(u64, u64)> {
    let mut numbers = restored
        .shards
        .iter()
        .filter_map(|shard| shard.numbers(topic));
    numbers.next()
}

#[test]
fn a_history_is_read_as_it_was_written_by_any_number_of_shards_in_pieces_of_any_length() {
    let found = Amount {
        topics: 3,
        messages: 2 * (1 + 20 + 5),
        bytes: 0,
    };
    let bytes = written(vec![keepsake(&[1, 20, 5])]);
    for (shards, step) in [(1, 1), (3, 7), (4, 100_000)] {
        let mut restored = restored(&bytes, shards, SECOND, step, &config(|_| {}));
        let Taken {
            found: read,
            kept,
            away,
        } = restored.outcome.unwrap();
        assert_eq!(
            (read, away),
            (
                Amount {
                    bytes: read.bytes,
                    ..found
                },
                SECOND
            )
        );
        assert_eq!(kept, read);
        assert_eq!(restored.epoch, epoch());
        for (topic, batches) in [("/0", 1), ("/1", 20), ("/2", 5)] {
            assert_eq!(numbers(&restored, topic), Some((0, 2 * batches)));
            assert_eq!(resume(&mut restored, topic, 1), (1, Some(0)));
        }
        for shard in &restored.shards {
            shard.check();
        }
    }
}

#[test]
fn messages_grow_old_while_no_process_runs() {
    let bytes = written(vec![keepsake(&[20])]);
    // They were up to 19 s old, and those of the last 10 s are less than a minute old.
    let mut restored = restored(&bytes, 1, 50 * SECOND, 1000, &config(|_| {}));
    let taken = restored.outcome.unwrap();
    assert_eq!((taken.found.messages, taken.kept.messages), (40, 20));
    assert_eq!(numbers(&restored, "/0"), Some((0, 40)));
    assert_eq!(resume(&mut restored, "/0", 10), (20, Some(10)));
    assert_eq!(resume(&mut restored, "/0", 40), (40, Some(0)));
}

#[test]
fn after_a_long_time_nothing_is_left_but_the_numbers() {
    let bytes = written(vec![keepsake(&[20, 3])]);
    let restored = restored(&bytes, 2, 61 * SECOND, 1000, &config(|_| {}));
    assert_eq!(restored.outcome.unwrap().kept.messages, 0);
    assert_eq!((numbers(&restored, "/0"), restored.epoch), (None, epoch()));
    for shard in &restored.shards {
        // Every shard starts where no topic of any shard has been.
        assert_eq!(shard.high_water(), 40);
    }
}

#[test]
fn a_clock_that_was_set_back_makes_messages_new_and_not_future() {
    let bytes = written(vec![keepsake(&[3])]);
    let settings = Settings::new(&config(|_| {}), 1);
    let now = Timestamp(100_000_000);
    let early = clocks(now, WALL.saturating_sub(3600 * SECOND));
    let mut restoring = Restoring::new(settings, Router::new(1, 1), early, bytes.len() as u64);
    restoring.push(&bytes);
    let restored = restoring.finish();
    assert_eq!(restored.outcome.unwrap().kept.messages, 6);
    let expiry = restored.shards[0].next_expiry().unwrap();
    assert!(expiry <= now + 61 * SECOND, "{expiry:?}");
}

#[test]
fn the_limits_of_the_new_process_count_and_the_oldest_messages_give_way() {
    let bytes = written(vec![keepsake(&[20, 20])]);
    let few = restored(
        &bytes,
        1,
        SECOND,
        999,
        &config(|config| config.history.max_messages = 6),
    );
    assert_eq!(few.outcome.unwrap().kept.messages, 12);
    // A batch of `/1` is larger than what a topic may keep.
    let small = restored(
        &bytes,
        1,
        SECOND,
        999,
        &config(|config| config.history.max_bytes = 100),
    );
    assert_eq!(small.outcome.unwrap().kept.messages, 0);
    assert_eq!(numbers(&small, "/1"), Some((0, 40)));
    let short = |config: &mut Config| {
        config.slow_consumer.max_lag_bytes = 1 << 10;
        config.limits.max_buffered_bytes = 8 << 10;
    };
    let short = restored(&bytes, 1, SECOND, 999, &config(short));
    let kept = short.outcome.unwrap().kept;
    assert!((4..60).contains(&kept.messages), "{kept:?}");
    let held = short.shards[0]
        .stats()
        .value(crate::metrics::stats::Stat::HistoryBytes);
    assert!(held <= 8 << 10, "{held}");
    short.shards[0].check();
}

#[test]
fn clients_of_a_topic_without_messages_come_back_to_their_place() {
    let mut one = keepsake(&[4]);
    one.topics[0].batches = Box::default();
    let mut restored = restored(&written(vec![one]), 2, SECOND, 5, &config(|_| {}));
    assert_eq!(restored.outcome.unwrap().kept.topics, 1);
    assert_eq!(resume(&mut restored, "/0", 8), (8, Some(0)));
    assert_eq!(resume(&mut restored, "/0", 5), (8, Some(3)));
    for shard in &restored.shards {
        shard.check();
    }
}

#[test]
fn every_byte_that_is_changed_or_missing_makes_a_new_epoch() {
    let bytes = written(vec![keepsake(&[2, 1])]);
    let outcome = |bytes: &[u8]| {
        let restored = restored(bytes, 2, SECOND, 64, &config(|_| {}));
        if restored.outcome.is_err() {
            assert_eq!(restored.epoch, fresh());
            assert_eq!(numbers(&restored, "/0"), None);
            assert!(restored.shards.iter().all(|shard| shard.high_water() == 0));
            assert_eq!(restored.shards.len(), 2);
        }
        restored.outcome
    };
    outcome(&bytes).unwrap();
    for len in 0..bytes.len() {
        outcome(&bytes[..len]).unwrap_err();
    }
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            outcome(&changed).unwrap_err();
        }
    }
    assert_eq!(outcome(&[&bytes[..], b"x"].concat()), Err(Damage::TooLong));
    assert_eq!(outcome(b"something else"), Err(Damage::NotAHistory));
    let mut later = bytes.clone();
    later[MAGIC.len()] = 2;
    assert_eq!(outcome(&later), Err(Damage::OtherVersion(2)));
}

/// The file with another checksum, as somebody would make it on purpose.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn numbers_that_contradict_each_other_are_damage_whatever_the_checksum_says() {
    type Change = fn(&mut Keepsake);
    let changes: [(&str, Change); 5] = [
        ("numbers of a topic", |one| one.high_water = Seq(5)),
        ("numbers of a topic", |one| one.topics[0].born = Seq(1)),
        ("numbers of a batch", |one| one.topics[0].next = Seq(5)),
        ("too high", |one| one.high_water = Seq(1 << 53)),
        ("there twice", |one| one.topics[0].name = "/1".into()),
    ];
    for (what, change) in changes {
        let mut one = keepsake(&[3, 3]);
        change(&mut one);
        let bytes = written(vec![one]);
        let outcome = restored(&bytes, 1, SECOND, 4096, &config(|_| {})).outcome;
        let Err(Damage::Impossible(found)) = outcome else {
            panic!("{outcome:?}, but not {what}");
        };
        assert!(found.contains(what), "{found}");
    }
}

#[test]
fn a_huge_count_is_damage_and_reserves_nothing() {
    let bytes = written(vec![keepsake(&[1])]);
    // The last fields of the only batch's head: how many messages, and how many bytes.
    let mut threes = bytes.windows(3);
    let frames = threes
        .position(|three| three == b"\x81\x010")
        .expect("a frame");
    for (at, problem) in [
        (frames - 4, Damage::Truncated),
        (frames - 8, Damage::Impossible("the numbers of a batch")),
    ] {
        let mut huge = bytes.clone();
        huge[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let outcome = restored(&signed(huge), 1, SECOND, 4096, &config(|_| {})).outcome;
        assert_eq!(outcome, Err(problem));
    }
}
