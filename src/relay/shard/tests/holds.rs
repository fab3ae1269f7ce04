//! How long publishers are held for whom, and who is judged when: against time and members that mean it ill.

use super::*;
use crate::relay::batch::draft::OVERHEAD_BYTES;
use crate::relay::topic::member::Member;

/// A shard and what it takes to have it visit a crowd, so many members a turn, one of which takes nothing any more.
struct Crowd {
    shard: Shard,
    stalled: ClientKey,
    budget: usize,
}

impl Crowd {
    const MEMBERS: usize = 600;

    /// A crowd whose publishers are held, because one that had read as well as all stalls.
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
            crowd.shard.on_bytes(publisher, &mut chunk.clone());
            crowd.turns(Crowd::MEMBERS, None);
        }
        while crowd.shard.permit(publisher) == Permit::Read {
            crowd.shard.on_bytes(publisher, &mut chunk.clone());
            crowd.turns(Crowd::MEMBERS, Some(stalled));
        }
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

    /// How long publishers are held while one newcomer after the other, 20 ms apart, says a word and leaves. Between
    /// them the crowd is visited `visits` times.
    fn held_among_newcomers(mut self, visits: usize) -> Duration {
        let began = self.shard.now;
        while self.shard.stats.value(Stat::TopicsHeld) > 0 {
            assert!(self.shard.now.since(began) < Duration::from_secs(5));
            let now = self.shard.now + Duration::from_millis(20);
            self.shard.begin_turn(now);
            let newcomer = join(&mut self.shard, "/", &text(0));
            self.turns(visits, Some(self.stalled));
            self.shard.on_end(newcomer, End::Failed);
        }
        self.shard.now.since(began)
    }
}

#[test]
fn newcomers_with_a_word_to_say_do_not_prolong_the_wait_for_a_laggard() {
    // Rounds that end between two of them, and one that never does.
    for (budget, visits) in [(512, Crowd::MEMBERS), (50, 100)] {
        let held = Crowd::held(budget).held_among_newcomers(visits);
        assert!(held <= Duration::from_millis(260), "{held:?} with {budget}");
    }
}

/// A publisher that sends as fast as it is read, and a reader of a small `max_lag_bytes`, watched every 10 ms.
struct Pace {
    shard: Shard,
    publisher: ClientKey,
    reader: ClientKey,
    held: Duration,
    elapsed: Duration,
}

impl Pace {
    const STEP: Duration = Duration::from_millis(10);
    const MAX_LAG_BYTES: usize = 64 << 10;

    /// The reader has read already, enough to be waited for.
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

    /// How far the reader lags; none once it has been cut.
    fn lag_bytes(&self) -> Option<usize> {
        let member = self.member()?;
        let log = &self.shard.topics[member.topic].log;
        Some(member.lag_bytes(log) as usize)
    }

    fn is_held(&self) -> bool {
        self.shard.stats.value(Stat::TopicsHeld) > 0
    }

    /// Publishes so many messages of 100 bytes unless the publisher is held, has the reader accept so many bytes, and
    /// lets 10 ms pass. Says how many messages were read.
    fn step(&mut self, messages: usize, accepts: usize) -> usize {
        let mut read = 0;
        let mut left = accepts;
        // In portions, as a socket is read: a hold takes effect in between.
        while read < messages && self.shard.permit(self.publisher) == Permit::Read {
            self.shard.on_bytes(self.publisher, &mut text(100));
            read += 1;
            if read.is_multiple_of(16) || read == messages {
                self.flush(&mut left);
            }
        }
        self.flush(&mut left);
        self.elapsed += Pace::STEP;
        self.held += if self.is_held() {
            Pace::STEP
        } else {
            Duration::ZERO
        };
        self.shard.begin_turn(self.shard.now + Pace::STEP);
        read
    }

    fn flush(&mut self, left: &mut usize) {
        if *left > 0 {
            self.shard.on_writable(self.reader);
        }
        self.shard.decide();
        while let Some(key) = self.shard.poll_flush() {
            let mut slices = Slices::new();
            let offered = self.shard.gather(key, &mut slices);
            drop(slices);
            if offered == 0 {
                continue;
            }
            let mut taken = offered;
            if key == self.reader {
                taken = offered.min(*left);
                *left -= taken;
            }
            if self.shard.advance(key, Written::plain(taken, offered)) {
                let Shard {
                    outflow, clients, ..
                } = &mut self.shard;
                outflow.make_urgent(key, clients);
            }
        }
        self.shard.end_turn(self.shard.now);
        self.shard.begin_turn(self.shard.now);
        self.shard.check();
    }
}

/// How long a publisher of 20 messages each 10 ms is held in 5 s for a reader that takes so much that its lag is no
/// longer over the mark, then a byte now and then, and then nothing until the wait has ended, whereupon it takes all.
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
fn one_that_sips_to_get_below_the_mark_has_its_wait_counted() {
    let held = held_for_one_that_sips();
    assert!(held >= Duration::from_millis(150), "{held:?}");
    assert!(held <= Duration::from_millis(260), "{held:?}");
}

/// Whether a reader is there still that takes so many times `max_lag_bytes` a second, after so many times
/// `max_lag_bytes` have been published as fast as the publisher was read.
fn survives(burst: usize, pace_per_second: usize) -> bool {
    let mut pace = Pace::new();
    let accepts = Pace::MAX_LAG_BYTES * pace_per_second / 100;
    // As the log counts them: the payload, its header, and what a batch of sixteen costs beside.
    let mut messages = burst * Pace::MAX_LAG_BYTES / (100 + 2 + OVERHEAD_BYTES / 16);
    while messages > 0 || pace.lag_bytes().is_some_and(|lag_bytes| lag_bytes > 0) {
        messages -= pace.step(messages, accepts);
    }
    pace.lag_bytes().is_some()
}

#[test]
fn a_burst_of_twice_the_limit_costs_nobody_its_connection_who_reads_twice_the_limit_a_second() {
    assert!(survives(2, 2));
    assert!(!survives(20, 2), "nobody is waited for for ever");
    // Who reads faster is waited for more often, and for as long in all.
    assert!(survives(8, 8));
}

#[test]
fn one_that_is_slow_on_purpose_and_catches_up_each_time_holds_publishers_a_fifth_of_the_time() {
    let mut pace = Pace::new();
    let span = Duration::from_secs(30);
    while pace.elapsed < span {
        let lag_bytes = pace.lag_bytes().expect("it reads enough not to be cut");
        let accepts = if pace.is_held() {
            // From half to a quarter in 200 ms.
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
fn one_that_blocks_over_the_limit_when_nobody_is_waited_for_is_judged_although_nothing_more_comes()
{
    let mut pace = Pace::new();
    let other = join(&mut pace.shard, "/", b"");
    while pace.lag_bytes().unwrap() < Pace::MAX_LAG_BYTES * 3 / 4 {
        pace.step(20, 0);
    }
    let mut much = text(100).repeat(Pace::MAX_LAG_BYTES / 100);
    pace.shard.on_bytes(pace.publisher, &mut much);
    turn(&mut pace.shard, usize::MAX, Some(other));
    assert_eq!(pace.lag_bytes(), None);
    assert!(pace.shard.is_blocked(other));
    assert_eq!(pace.shard.stats.value(Stat::DisconnectedLag), 1);
    turn(&mut pace.shard, usize::MAX, Some(other));
    assert_eq!(pace.shard.stats.value(Stat::DisconnectedLag), 2);
}

#[test]
fn one_over_the_limit_is_judged_when_the_wait_for_it_ends_although_nothing_more_comes() {
    // The shard gives it up after 50 ms without a byte, the owner after 250 ms.
    for (sips, ms) in [(0, 50), (24, 250)] {
        let mut pace = Pace::new();
        while !pace.is_held() {
            pace.step(20, 0);
        }
        let mut much = text(100).repeat(Pace::MAX_LAG_BYTES / 100);
        pace.shard.on_bytes(pace.publisher, &mut much);
        // It was asked for within the step before.
        let mut waited = Pace::STEP;
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
