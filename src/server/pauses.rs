//! Tells the operator of pauses of the process, in one line for all workers.
//!
//! Each worker counts the pauses that it notices (`relay/patience.rs`). The control thread looks at these numbers once a
//! second. The workers notice the same pause at slightly different times, so a line waits for the next look.

use std::time::Duration;

use tracing::info;

/// See the module.
#[derive(Debug)]
pub(super) struct Pauses {
    /// For each worker, the microseconds of its pauses that the operator was told of.
    told: Vec<u64>,
    is_news: bool,
}

/// The pauses that a line tells of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The workers that stood still.
    workers: usize,
    /// The longest time that a worker stood still.
    longest: Duration,
}

impl Pauses {
    /// No pause so far.
    pub(super) fn new(workers: usize) -> Pauses {
        Pauses {
            told: vec![0; workers],
            is_news: false,
        }
    }

    /// The news at a look, if there are any. `paused` has the microseconds that each worker stood still so far.
    pub(super) fn look(&mut self, paused: impl Iterator<Item = u64>) -> Option<News> {
        let paused: Vec<u64> = paused.collect();
        let was_news = self.is_news;
        self.is_news = paused != self.told;
        if was_news { self.tell(paused) } else { None }
    }

    /// The news at the end: there is no next look.
    pub(super) fn rest(&mut self, paused: impl Iterator<Item = u64>) -> Option<News> {
        self.tell(paused.collect())
    }

    fn tell(&mut self, paused: Vec<u64>) -> Option<News> {
        let spans = paused.iter().zip(&self.told);
        let spans = spans.map(|(now, told)| now.saturating_sub(*told));
        let spans: Vec<u64> = spans.filter(|&span| span > 0).collect();
        self.told = paused;
        self.is_news = false;
        let longest = spans.iter().copied().max()?;
        Some(News {
            workers: spans.len(),
            longest: Duration::from_micros(longest),
        })
    }
}

impl News {
    /// Writes the line.
    pub(super) fn log(&self) {
        info!(
            longest = ?self.longest,
            workers = self.workers,
            "the relay stood still, and its clients are not blamed for that; the process was stopped (SIGSTOP, a debugger), or the machine was suspended, moved to another host or too busy"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn news(workers: usize, seconds: u64) -> News {
        News {
            workers,
            longest: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_pause_of_all_workers_is_one_line_although_they_notice_it_one_after_the_other() {
        const WORKERS: usize = 64;
        let mut pauses = Pauses::new(WORKERS);
        let mut spans = [0; WORKERS];
        assert_eq!(pauses.look(spans.into_iter()), None);
        spans[..40].fill(3 * SECOND);
        assert_eq!(pauses.look(spans.into_iter()), None);
        spans[40..].fill(4 * SECOND);
        assert_eq!(pauses.look(spans.into_iter()), Some(news(WORKERS, 4)));
        assert_eq!(pauses.look(spans.into_iter()), None);
        assert_eq!(pauses.rest(spans.into_iter()), None);
    }

    #[test]
    fn the_next_pause_is_a_line_of_its_own() {
        let mut pauses = Pauses::new(2);
        for _ in 0..2 {
            pauses.look([SECOND, SECOND].into_iter());
        }
        assert_eq!(pauses.look([SECOND, 3 * SECOND].into_iter()), None);
        assert_eq!(
            pauses.look([SECOND, 3 * SECOND].into_iter()),
            Some(news(1, 2))
        );
    }

    #[test]
    fn a_pause_just_before_the_end_is_told() {
        let mut pauses = Pauses::new(2);
        assert_eq!(pauses.rest([0, SECOND].into_iter()), Some(news(1, 1)));
    }
}
