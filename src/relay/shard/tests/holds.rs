//! Tests of holds: how long publishers wait for laggards, and when a laggard is judged. Some of the members are hostile.

use super::*;
use crate::relay::batch::draft::OVERHEAD_BYTES;
use crate::relay::envelope::Hold;
use crate::relay::policy::grace::{GRACE, RECOVERY};
use crate::relay::topic::member::Member;

/// A shard that visits `budget` members of a crowd in a turn. One of the members takes nothing any more.
struct Crowd {
    shard: Driven,
    stalled: ClientKey,
    budget: usize,
}

impl Crowd {
    const MEMBERS: usize = 600;

    /// A crowd whose publishers are held, because a member stalls that has read as well as the others.
    fn held(budget: usize) -> Crowd {
        let mut config = Config::default();
        config.limits.max_message_bytes = 125;
        config.slow_consumer.max_lag_bytes = 1 << 20;
        let mut shard = shard_with(&config);
        let publisher = join(&mut shard, "/", b"");
        let stalled = join(&mut shard, "/", b"");
        for _ in 0..Crowd::MEMBERS {
            join(&mut shard, "/", b"");
        }
        let mut crowd = Crowd {
            shard,
            stalled,
            budget,
        };
        let chunk = text(100).repeat(100);
        crowd.turns(Crowd::MEMBERS, None);
        while !crowd.is_trusted() {
            crowd.shard.sends(publisher, &chunk.clone());
            crowd.turns(Crowd::MEMBERS, None);
        }
        while !crowd.shard.has_unread(publisher) {
            crowd.shard.sends(publisher, &chunk.clone());
            crowd.turns(Crowd::MEMBERS, Some(stalled));
        }
        crowd.shard.take_unread(publisher);
        crowd
    }

    fn is_trusted(&self) -> bool {
        let client = self.shard.clients.get(self.stalled).unwrap();
        client.member.as_ref().unwrap().is_trusted
    }

    /// As many turns as `visits` take.
    fn turns(&mut self, visits: usize, stuck: Option<ClientKey>) {
        for _ in 0..=visits / self.budget {
            turn(&mut self.shard, self.budget, stuck);
        }
    }

    /// The time for which publishers are held. Every 20 ms a newcomer joins, sends a message and leaves. Between two of them
    /// the crowd is visited `visits` times.
    fn held_among_newcomers(mut self, visits: usize) -> Duration {
        let began = self.shard.time();
        while self.shard.stats.value(Stat::TopicsHeld) > 0 {
            assert!(self.shard.time().since(began) < Duration::from_secs(5));
            self.shard.pass(Duration::from_millis(20));
            let newcomer = join(&mut self.shard, "/", &text(0));
            self.turns(visits, Some(self.stalled));
            self.shard.fails(newcomer);
        }
        self.shard.time().since(began)
    }
}

#[test]
fn newcomers_with_a_message_do_not_prolong_the_wait_for_a_laggard() {
    // In the first case rounds end between two newcomers; in the second the round never ends.
    for (budget, visits) in [(512, Crowd::MEMBERS), (50, 100)] {
        let held = Crowd::held(budget).held_among_newcomers(visits);
        assert!(held <= Duration::from_millis(260), "{held:?} with {budget}");
    }
}

/// A publisher that sends as fast as it is read, and a reader of a small `max_lag_bytes`, watched every 10 ms.
struct Pace {
    shard: Driven,
    publisher: ClientKey,
    reader: ClientKey,
    held: Duration,
    elapsed: Duration,
}

impl Pace {
    const STEP: Duration = Duration::from_millis(10);
    const MAX_LAG_BYTES: usize = 64 << 10;

    /// The reader has read enough already that publishers wait for it.
    fn new() -> Pace {
        let mut config = Config::default();
        config.limits.max_message_bytes = 125;
        config.slow_consumer.max_lag_bytes = Pace::MAX_LAG_BYTES;
        let mut shard = shard_with(&config);
        let publisher = join(&mut shard, "/", b"");
        let reader = join(&mut shard, "/", b"");
        let mut pace = Pace {
            shard,
            publisher,
            reader,
            held: Duration::ZERO,
            elapsed: Duration::ZERO,
        };
        for _ in 0..20 {
            pace.step(10, usize::MAX);
        }
        assert!(pace.member().unwrap().is_trusted);
        (pace.held, pace.elapsed) = (Duration::ZERO, Duration::ZERO);
        pace
    }

    fn member(&self) -> Option<&Member> {
        self.shard.clients.get(self.reader)?.member.as_ref()
    }

    /// The lag of the reader; `None` when it is disconnected.
    fn lag_bytes(&self) -> Option<usize> {
        let member = self.member()?;
        let log = &self.shard.topics[member.topic].log;
        Some(member.lag_bytes(log) as usize)
    }

    fn is_held(&self) -> bool {
        self.shard.stats.value(Stat::TopicsHeld) > 0
    }

    /// Lets 10 ms pass. The publisher sends up to `messages` of 100 bytes, as long as it is read, and the reader accepts up to
    /// `accepts` bytes. Returns how many messages were read.
    fn step(&mut self, messages: usize, accepts: usize) -> usize {
        let mut read = 0;
        let mut left = accepts;
        // In portions, as a socket is read, so that a hold takes effect in between.
        while read < messages {
            let portion = (messages - read).min(16);
            self.shard.sends(self.publisher, &text(100).repeat(portion));
            self.flush(&mut left);
            if self.shard.has_unread(self.publisher) {
                self.shard.take_unread(self.publisher);
                break;
            }
            read += portion;
        }
        self.flush(&mut left);
        self.elapsed += Pace::STEP;
        self.held += if self.is_held() {
            Pace::STEP
        } else {
            Duration::ZERO
        };
        self.shard.pass(Pace::STEP);
        read
    }

    fn flush(&mut self, left: &mut usize) {
        if *left > 0 {
            self.shard.accepts(self.reader);
        }
        let reader = self.reader;
        self.shard.forget_writes();
        self.shard.run(usize::MAX, &mut |client, offered| {
            let mut taken = offered;
            if client == reader {
                taken = offered.min(*left);
                *left -= taken;
            }
            Written::plain(taken, offered)
        });
    }
}

/// The time in 5 s for which a publisher of 20 messages each 10 ms is held for a hostile reader. In a hold the reader first
/// takes so much that it is below the mark, then a byte now and then, then nothing. After the hold it takes everything.
fn held_for_one_that_sips() -> Duration {
    let mut pace = Pace::new();
    let mut waited = Duration::ZERO;
    let mut is_thirsty = false;
    while pace.elapsed < Duration::from_secs(5) {
        let Some(lag_bytes) = pace.lag_bytes() else {
            break;
        };
        let over_bytes = lag_bytes.saturating_sub(Pace::MAX_LAG_BYTES / 2);
        let accepts = if pace.is_held() {
            waited += Pace::STEP;
            is_thirsty = true;
            let is_sipping = waited.as_millis().is_multiple_of(40) && waited.as_millis() < 190;
            over_bytes.max(usize::from(is_sipping))
        } else {
            waited = Duration::ZERO;
            is_thirsty &= lag_bytes > 0;
            if is_thirsty { usize::MAX } else { 0 }
        };
        pace.step(20, accepts);
    }
    pace.held
}

#[test]
fn the_wait_for_a_reader_that_sips_is_counted() {
    let held = held_for_one_that_sips();
    assert!(held >= Duration::from_millis(150), "{held:?}");
    assert!(held <= Duration::from_millis(260), "{held:?}");
}

/// Whether a reader survives a burst of `burst` times `max_lag_bytes`, sent as fast as the publisher is read. The reader takes
/// `pace_per_second` times `max_lag_bytes` a second.
fn survives(burst: usize, pace_per_second: usize) -> bool {
    let mut pace = Pace::new();
    let accepts = Pace::MAX_LAG_BYTES * pace_per_second / 100;
    // As the log counts them: the payload, its header, and its part of the overhead of a batch of sixteen.
    let mut messages = burst * Pace::MAX_LAG_BYTES / (100 + 2 + OVERHEAD_BYTES / 16);
    while messages > 0 || pace.lag_bytes().is_some_and(|lag_bytes| lag_bytes > 0) {
        messages -= pace.step(messages, accepts);
    }
    pace.lag_bytes().is_some()
}

#[test]
fn a_reader_of_twice_the_limit_a_second_survives_a_burst_of_twice_the_limit() {
    assert!(survives(2, 2));
    assert!(!survives(20, 2), "no wait lasts for ever");
    // Publishers wait more often for a faster reader, and for as long in all.
    assert!(survives(8, 8));
}

#[test]
fn a_reader_that_lags_on_purpose_holds_publishers_at_most_a_fifth_of_the_time() {
    let mut pace = Pace::new();
    let span = Duration::from_secs(30);
    while pace.elapsed < span {
        let lag_bytes = pace.lag_bytes().expect("it reads enough not to be cut");
        let accepts = if pace.is_held() {
            // Its lag falls from half the limit to a quarter in 200 ms.
            Pace::MAX_LAG_BYTES * 5 / 16 / 20
        } else if lag_bytes > Pace::MAX_LAG_BYTES * 3 / 4 {
            usize::MAX
        } else {
            0
        };
        pace.step(12, accepts);
    }
    assert!(pace.held >= span / 10, "{:?}", pace.held);
    assert!(pace.held <= span / 5, "{:?}", pace.held);
}

#[test]
fn a_member_that_blocks_over_the_limit_outside_a_wait_is_judged_although_nothing_more_comes() {
    let mut pace = Pace::new();
    let other = join(&mut pace.shard, "/", b"");
    while pace.lag_bytes().unwrap() < Pace::MAX_LAG_BYTES * 3 / 4 {
        pace.step(20, 0);
    }
    let much = text(100).repeat(Pace::MAX_LAG_BYTES / 100);
    pace.shard.sends(pace.publisher, &much);
    turn(&mut pace.shard, usize::MAX, Some(other));
    assert_eq!(pace.lag_bytes(), None);
    assert!(pace.shard.is_blocked(other));
    assert_eq!(pace.shard.stats.value(Stat::DisconnectedLag), 1);
    rest(&mut pace.shard, Some(other));
    assert_eq!(pace.shard.stats.value(Stat::DisconnectedLag), 2);
}

#[test]
fn a_member_over_the_limit_is_judged_when_the_wait_ends_although_nothing_more_comes() {
    // The shard gives up after 50 ms without a byte, the owner after 250 ms.
    for (sips, ms) in [(0, 50), (24, 250)] {
        let mut pace = Pace::new();
        // One read brings more than the limit, so the wait begins over it.
        let much = text(100).repeat(Pace::MAX_LAG_BYTES / 100);
        pace.shard.sends(pace.publisher, &much);
        pace.flush(&mut 0);
        assert!(pace.is_held() && pace.lag_bytes() > Some(Pace::MAX_LAG_BYTES));
        let mut waited = Duration::ZERO;
        let mut steps = 0;
        while pace.lag_bytes().is_some() && steps < 100 {
            pace.step(0, usize::from(steps < sips));
            steps += 1;
            waited += Pace::STEP;
        }
        let ends = Duration::from_millis(ms)..=Duration::from_millis(ms) + 3 * Pace::STEP;
        assert!(ends.contains(&waited), "{waited:?} with {sips} sips");
    }
}

#[test]
fn whoever_publishes_on_a_shard_that_comes_to_a_held_topic_waits() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[0], &path, b"");
    turns(&mut shards);
    shards[0].hears(Envelope::Hold {
        topic: path.as_str().into(),
        from: ShardId(0),
        hold: Hold::Open,
    });
    let late = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[1].sends(late, &text(1));
    turns(&mut shards);
    // From now on it is a publisher.
    shards[1].sends(late, &text(1));
    turns(&mut shards);
    assert!(shards[1].has_unread(late));
}

#[test]
fn a_shard_whose_laggards_are_waited_for_no_longer_is_told_to_judge_them() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[0].hears(Envelope::Hold {
        topic: path.as_str().into(),
        from: ShardId(1),
        hold: Hold::Grace,
    });
    turns(&mut shards);
    shards[0].sleep(GRACE, &mut taking_all);
    let said = shards[0].take_said();
    let is_judge = |mail: &Mail| matches!(mail, Mail::Envelope(Envelope::Judge { .. }));
    assert!(
        said.iter()
            .any(|(to, mail)| *to == ShardId(1) && is_judge(mail))
    );
}

#[test]
fn a_wait_that_is_granted_while_the_owner_says_no_to_an_earlier_wish_is_given_back() {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.max_lag_bytes = Pace::MAX_LAG_BYTES;
    let (mut shards, path) = two_shards(&config);
    let publisher = join(&mut shards[1], &path, b"");
    let reader = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    // The reader has read enough that publishers wait for it.
    for _ in 0..20 {
        shards[1].sends(publisher, &text(100).repeat(10));
        turns(&mut shards);
    }
    // Another wait, which was in vain, has used up the topic's time.
    shards[0].hears(Envelope::Hold {
        topic: path.as_str().into(),
        from: ShardId(0),
        hold: Hold::Grace,
    });
    turns(&mut shards);
    shards[0].sleep(GRACE, &mut taking_all);
    turns(&mut shards);
    // The reader lags, and the owner says no.
    let much = text(100).repeat(Pace::MAX_LAG_BYTES * 5 / 8 / 100);
    let lag = |shards: &mut [Driven; 2]| {
        shards[1].sends(publisher, &much);
        turn_and_deliver(shards, 1);
        turn_and_deliver(shards, 0);
        turn(&mut shards[1], usize::MAX, Some(reader));
        assert_eq!(shards[1].stats.value(Stat::TopicsHeld), 1);
    };
    lag(&mut shards);
    let asked = shards[1].take_said();
    deliver(&mut shards, asked);
    turn(&mut shards[0], usize::MAX, None);
    let no = shards[0].take_said();
    let is_no = |mail: &Mail| matches!(mail, Mail::Envelope(Envelope::Judge { .. }));
    assert!(no.iter().any(|(_, mail)| is_no(mail)), "{no:?}");
    // Before it hears that, the reader catches up and lags again. Meanwhile the owner has time to give.
    shards[1].accepts(reader);
    turn_and_deliver(&mut shards, 1);
    assert_eq!(shards[1].stats.value(Stat::TopicsHeld), 0);
    shards[0].pass(RECOVERY);
    lag(&mut shards);
    let asked_again = shards[1].take_said();
    deliver(&mut shards, asked_again);
    turn(&mut shards[0], usize::MAX, None);
    let yes = shards[0].take_said();
    let is_yes = |mail: &Mail| {
        let yes = Some(Hold::Grace);
        matches!(mail, Mail::Envelope(Envelope::Held { held, .. }) if *held == yes)
    };
    assert!(yes.iter().any(|(_, mail)| is_yes(mail)), "{yes:?}");
    deliver(&mut shards, no);
    deliver(&mut shards, yes);
    turns(&mut shards);
    // It judges its laggards now, so nobody has to wait for them.
    shards[1].sends(publisher, &text(1));
    turns(&mut shards);
    assert!(!shards[1].has_unread(publisher));
    assert!(shards[1].is_blocked(reader));
}

#[test]
fn a_topic_stays_on_its_shard_until_what_was_published_there_is_back() {
    let (mut shards, path) = two_shards(&Config::default());
    let member = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[1].sends(member, &text(1));
    shards[1].fails(member);
    turn_and_deliver(&mut shards, 1);
    assert_eq!(shards[1].stats.value(Stat::Topics), 1);
    turns(&mut shards);
    assert_eq!(shards[1].stats.value(Stat::Topics), 0);
    assert_eq!(shards[0].stats.value(Stat::OwnedTopics), 0);
}
