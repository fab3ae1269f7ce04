//! Logs how many connections were refused, and why: one line a minute at most, while there are any.
//!
//! The control thread asks it in each of its turns. A refusal costs nothing for that: the line is made from the counters
//! that the metrics show. It looks at them only while connections have come that may still be refused, so an idle relay
//! sleeps.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::labels::FAILED_HANDSHAKES;
use crate::metrics::stats::{Published, Stat};

/// The least time between two lines.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// The time between two looks at the counters while nothing was refused in the last minute. The first refusal is news.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// A connection is refused after `server.handshake_timeout` at the latest, and counted within this time. A pause of the process
/// moves both.
const TO_SPARE: Duration = Duration::from_secs(2);

/// The counters of all reasons, in the order of the catalogue.
type Counts = [u64; FAILED_HANDSHAKES.len()];

/// See the module.
#[derive(Debug)]
pub(super) struct Refusals {
    published: Vec<Arc<Published>>,
    /// The time after its arrival in which a connection may be refused.
    window: Duration,
    /// The arrivals that were counted at the last turn.
    arrivals: usize,
    /// The last arrivals cannot be refused after this time.
    until: Instant,
    /// The next look at the counters. There is none if nothing can have changed.
    next: Option<Instant>,
    /// The time of the last look.
    looked: Instant,
    /// The pauses that workers had noticed then.
    pauses: u64,
    /// The counters that are logged.
    logged: Counts,
    /// A line was logged already.
    is_known: bool,
}

impl Refusals {
    /// Another `server.handshake_timeout` is in force. Connections that are here keep the longer of the two.
    pub(super) fn set_handshake_timeout(&mut self, timeout: Duration, now: Instant) {
        let window = timeout + TO_SPARE;
        if self.until > now {
            self.until += window.saturating_sub(self.window);
        }
        self.window = window;
    }

    /// Nothing was refused yet.
    pub(super) fn new(
        published: Vec<Arc<Published>>,
        handshake_timeout: Duration,
        now: Instant,
    ) -> Refusals {
        Refusals {
            published,
            window: handshake_timeout + TO_SPARE,
            arrivals: 0,
            until: now,
            next: None,
            looked: now,
            pauses: 0,
            logged: [0; FAILED_HANDSHAKES.len()],
            is_known: false,
        }
    }

    /// The time until the next look; `None` if it waits for an arrival.
    pub(super) fn next_in(&self, now: Instant) -> Option<Duration> {
        Some(self.next?.saturating_duration_since(now))
    }

    /// Takes note of all `arrivals` so far. Returns a line for the log if one is due.
    pub(super) fn turn(&mut self, now: Instant, arrivals: usize) -> Option<String> {
        if self.arrivals != arrivals {
            self.arrivals = arrivals;
            self.until = now + self.window;
            if self.next.is_none() {
                self.looked = now;
                self.next = Some(now + BETWEEN_LOOKS);
            }
        }
        let next = self.next?;
        if now < next {
            return None;
        }
        // Much later than planned: it was a pause, and the workers may not have said so yet.
        self.until += now.saturating_duration_since(next);
        let pauses = self.sum(Stat::Pauses);
        if std::mem::replace(&mut self.pauses, pauses) != pauses {
            self.until = self.until.max(now + self.window);
        }
        let line = self.take_line(now);
        self.next = match &line {
            Some(_) => Some(now + BETWEEN_LINES),
            None if now < self.until => Some(now + BETWEEN_LOOKS),
            None => None,
        };
        line
    }

    /// A line about the refusals that were not logged yet.
    pub(super) fn take_line(&mut self, now: Instant) -> Option<String> {
        let since = now.saturating_duration_since(self.looked);
        self.looked = now;
        let counts = self.count();
        let before = std::mem::replace(&mut self.logged, counts);
        let named = FAILED_HANDSHAKES.iter().zip(counts.iter().zip(before));
        let mut refused: Vec<(&str, u64)> = named
            .map(|((reason, _stat), (after, before))| (*reason, after.saturating_sub(before)))
            .filter(|(_reason, count)| *count > 0)
            .collect();
        if refused.is_empty() {
            return None;
        }
        // The sort is stable, so equals keep the order of the catalogue.
        refused.sort_by_key(|(_reason, count)| std::cmp::Reverse(*count));
        let total: u64 = refused.iter().map(|(_reason, count)| count).sum();
        let mut line = format!("{total} refused in the last {}:", span(since));
        for (index, (reason, count)) in refused.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(line, "{comma} {reason} {count}").expect("a string takes all");
        }
        if !std::mem::replace(&mut self.is_known, true) {
            line.push_str("; more are summed up once a minute, and log.level debug shows each");
        }
        Some(line)
    }

    /// The counters, summed over the workers. Clients that left by themselves were not refused.
    fn count(&self) -> Counts {
        std::array::from_fn(|index| match FAILED_HANDSHAKES[index].1 {
            Stat::HandshakeLost => 0,
            stat => self.sum(stat),
        })
    }

    fn sum(&self, stat: Stat) -> u64 {
        self.published.iter().map(|shard| shard.value(stat)).sum()
    }
}

/// A rounded time in words.
fn span(time: Duration) -> String {
    match (time + Duration::from_millis(500)).as_secs() {
        0 | 1 => "second".to_owned(),
        60 => "minute".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::stats::Stats;

    /// Two shards, whose counters are set by hand.
    struct World {
        refusals: Refusals,
        stats: [Stats; 2],
        shards: [Arc<Published>; 2],
        now: Instant,
        arrivals: usize,
    }

    impl World {
        fn new() -> World {
            let shards = [(); 2].map(|()| Arc::new(Published::default()));
            let now = Instant::now();
            World {
                refusals: Refusals::new(shards.to_vec(), Duration::from_secs(10), now),
                stats: Default::default(),
                shards,
                now,
                arrivals: 0,
            }
        }

        /// Some connections arrive and are refused at once.
        fn refuse(&mut self, shard: usize, stat: Stat, count: u64) {
            self.arrivals += count as usize;
            self.stats[shard].add(stat, count);
            self.shards[shard].publish(&self.stats[shard]);
        }

        fn turn(&mut self) -> Option<String> {
            self.refusals.turn(self.now, self.arrivals)
        }

        /// The lines of the next `seconds`, each with its second. The thread wakes only when it wants to.
        fn pass(&mut self, seconds: u64) -> (Vec<(u64, String)>, usize) {
            let (start, end) = (self.now, self.now + Duration::from_secs(seconds));
            let (mut lines, mut turns) = (Vec::new(), 0);
            lines.extend(self.turn().map(|line| (0, line)));
            while let Some(wait) = self.refusals.next_in(self.now) {
                if self.now + wait > end {
                    break;
                }
                assert!(!wait.is_zero(), "it spins");
                self.now += wait;
                turns += 1;
                let second = (self.now - start).as_secs();
                lines.extend(self.turn().map(|line| (second, line)));
            }
            self.now = end;
            (lines, turns)
        }
    }

    fn line(second: u64, text: &str) -> (u64, String) {
        (second, text.to_owned())
    }

    const HINT: &str = "; more are summed up once a minute, and log.level debug shows each";

    #[test]
    fn the_first_refusal_is_logged_at_once_and_the_others_each_minute() {
        let mut world = World::new();
        world.refuse(0, Stat::HandshakeOrigin, 1);
        let (lines, _) = world.pass(10);
        assert_eq!(
            lines,
            [line(
                1,
                &format!("1 refused in the last second: origin 1{HINT}")
            )]
        );
        world.refuse(0, Stat::HandshakePerIp, 12);
        world.refuse(0, Stat::HandshakeOrigin, 150);
        world.refuse(1, Stat::HandshakeOrigin, 250);
        let (lines, turns) = world.pass(60);
        assert_eq!(
            lines,
            [line(
                51,
                "412 refused in the last minute: origin 400, per_ip 12"
            )]
        );
        assert_eq!(turns, 1);
    }

    #[test]
    fn an_idle_relay_sleeps() {
        let mut world = World::new();
        assert_eq!(world.turn(), None);
        assert_eq!(world.refusals.next_in(world.now), None);
        // Somebody who is let in may still be refused, until the handshake times out.
        world.arrivals += 1;
        let (lines, turns) = world.pass(600);
        assert_eq!((lines.len(), turns), (0, 12));
        // After a line, it looks once more and sleeps again.
        world.refuse(0, Stat::HandshakeOrigin, 1);
        let (lines, turns) = world.pass(600);
        assert_eq!((lines.len(), turns), (1, 2));
        assert_eq!(world.refusals.next_in(world.now), None);
    }

    #[test]
    fn a_request_that_times_out_is_a_refusal_too() {
        let mut world = World::new();
        world.arrivals += 1;
        assert_eq!(world.pass(9).0, []);
        world.stats[1].inc(Stat::HandshakeTimeout);
        world.shards[1].publish(&world.stats[1]);
        let (lines, _) = world.pass(5);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].1.contains(": timeout 1"), "{lines:?}");
    }

    #[test]
    fn a_request_that_times_out_later_because_of_a_pause_is_logged() {
        // The pause is noticed by this thread first, or by a worker while this thread waits for its next line.
        for noticed_here in [true, false] {
            let mut world = World::new();
            if !noticed_here {
                world.refuse(0, Stat::HandshakeOrigin, 1);
                world.pass(45);
            }
            world.arrivals += 1;
            assert_eq!(world.turn(), None);
            if noticed_here {
                world.now += Duration::from_secs(30);
                assert_eq!(world.turn(), None);
            } else {
                world.stats[0].inc(Stat::Pauses);
                world.shards[0].publish(&world.stats[0]);
                assert_eq!(world.pass(18).0, []);
            }
            assert_eq!(world.pass(8).0, []);
            world.stats[0].inc(Stat::HandshakeTimeout);
            world.shards[0].publish(&world.stats[0]);
            assert_eq!(world.pass(5).0.len(), 1, "noticed here: {noticed_here}");
        }
    }

    #[test]
    fn one_that_left_by_itself_was_not_refused() {
        let mut world = World::new();
        world.refuse(0, Stat::HandshakeLost, 5);
        assert_eq!(world.pass(100).0, []);
    }

    #[test]
    fn the_end_takes_the_rest_of_the_minute() {
        let mut world = World::new();
        world.refuse(0, Stat::HandshakeOrigin, 1);
        world.pass(20);
        world.refuse(0, Stat::HandshakeShutdown, 3);
        assert_eq!(
            world.refusals.take_line(world.now),
            Some("3 refused in the last 19 seconds: shutdown 3".to_owned())
        );
        assert_eq!(world.refusals.take_line(world.now), None);
    }
}
