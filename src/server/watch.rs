//! Finds threads that stand still.
//!
//! A thread shows life by the number of its turns. The watcher looks at it once in [`LOOK_EVERY`] and wakes whoever has not
//! moved. So a thread that sleeps for want of work moves before the next look. This costs nothing while there is work, and a
//! wake every two seconds otherwise.
//!
//! Silence is counted in looks, not by the clock. If the whole process is stopped, its watcher is too, and nobody is judged
//! for that time.

use std::time::{Duration, Instant};

/// The time between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A thread that was silent for this long stands still. A turn takes some milliseconds.
pub(super) const FROZEN_AFTER: Duration = Duration::from_secs(10);

/// The most time that one look adds to a silence. Between two looks that are further apart, the watcher itself was stopped.
const MOST_PER_LOOK: Duration = Duration::from_millis(1500);

/// The watcher of some threads.
#[derive(Debug)]
pub(super) struct Watch {
    looked_at: Instant,
    threads: Vec<Watched>,
}

#[derive(Clone, Debug, Default)]
struct Watched {
    sign: u64,
    silent_for: Duration,
}

/// The news about a thread, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It did not move since the last look. If it sleeps, it has to be woken.
    Silent(usize),
    /// It stands still from now on.
    Froze(usize),
    /// It moves again, after this long.
    Thawed(usize, Duration),
}

impl Watch {
    /// A watcher of `threads` threads, which begins `now`.
    pub(super) fn new(threads: usize, now: Instant) -> Watch {
        Watch {
            looked_at: now,
            threads: vec![Watched::default(); threads],
        }
    }

    /// The next look.
    pub(super) fn due_at(&self) -> Instant {
        self.looked_at + LOOK_EVERY
    }

    /// Looks at the sign of each thread.
    pub(super) fn look(&mut self, now: Instant, signs: impl IntoIterator<Item = u64>) -> Vec<News> {
        let passed = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        let mut news = Vec::new();
        for (number, (thread, sign)) in self.threads.iter_mut().zip(signs).enumerate() {
            let was_frozen = thread.is_frozen();
            if sign != thread.sign {
                if was_frozen {
                    news.push(News::Thawed(number, thread.silent_for));
                }
                thread.sign = sign;
                thread.silent_for = Duration::ZERO;
                continue;
            }
            thread.silent_for += passed.min(MOST_PER_LOOK);
            news.push(News::Silent(number));
            if thread.is_frozen() && !was_frozen {
                news.push(News::Froze(number));
            }
        }
        news
    }

    /// The silence of a thread.
    pub(super) fn silence(&self, number: usize) -> Duration {
        self.threads[number].silent_for
    }

    /// The first of the threads that stand still.
    pub(super) fn frozen(&self) -> Option<usize> {
        self.threads.iter().position(Watched::is_frozen)
    }
}

impl Watched {
    fn is_frozen(&self) -> bool {
        self.silent_for >= FROZEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_thread_that_is_woken_and_does_not_move_for_ten_seconds_stands_still() {
        let start = Instant::now();
        let mut watch = Watch::new(2, start);
        let mut froze_at = None;
        for second in 1..=12 {
            // The first moves, the second does not.
            let now = start + second * LOOK_EVERY;
            let news = watch.look(now, [u64::from(second), 0]);
            assert!(news.contains(&News::Silent(1)));
            assert!(!news.contains(&News::Silent(0)));
            if news.contains(&News::Froze(1)) {
                assert_eq!(froze_at.replace(second), None, "it is news once");
            }
        }
        assert_eq!(froze_at, Some(10));
        assert_eq!(watch.frozen(), Some(1));
        let news = watch.look(start + 13 * LOOK_EVERY, [13, 1]);
        assert_eq!(news, [News::Thawed(1, 12 * LOOK_EVERY)]);
        assert_eq!(watch.frozen(), None);
    }

    #[test]
    fn a_sleeping_thread_moves_when_it_is_woken_and_is_never_judged() {
        let start = Instant::now();
        let mut watch = Watch::new(1, start);
        let (mut turns, mut woken) = (0, 0);
        for second in 1..=100 {
            for news in watch.look(start + second * LOOK_EVERY, [turns]) {
                assert_eq!(news, News::Silent(0));
                (turns, woken) = (turns + 1, woken + 1);
            }
        }
        assert_eq!(woken, 50, "it is woken every other time");
    }

    #[test]
    fn a_pause_of_the_whole_process_is_not_counted_against_a_thread() {
        let start = Instant::now();
        let mut watch = Watch::new(1, start);
        watch.look(start + LOOK_EVERY, [0]);
        let news = watch.look(start + MINUTE, [0]);
        assert_eq!(news, [News::Silent(0)]);
        assert!(watch.silence(0) < 3 * LOOK_EVERY);
    }
}
