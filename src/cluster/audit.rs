//! Topics that the subscription brought nothing for are asked for, a few at a time.
//!
//! A subscription may lose a message without a word, through a broken proxy for example. The next message shows it; a quiet
//! topic has none.

use std::time::Duration;

use crate::time::Timestamp;

/// The time between two rows of questions.
const INTERVAL: Duration = Duration::from_millis(100);

/// Rows in a second.
const PER_SECOND: usize = 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Audit {
    per_row: usize,
    next_at: Timestamp,
    /// The topic to look at next, by its key.
    cursor: usize,
}

impl Audit {
    /// At most `rate` questions a second, from `now` on.
    pub(crate) fn new(rate: usize, now: Timestamp) -> Self {
        Audit {
            per_row: rate.div_ceil(PER_SECOND),
            next_at: now + INTERVAL,
            cursor: 0,
        }
    }

    /// The time of the next row.
    pub(crate) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    /// The keys to look at now: a row of at most `per_row`, of the keys below `end`, in turn.
    pub(crate) fn row(
        &mut self,
        now: Timestamp,
        end: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        let is_due = now >= self.next_at;
        let len = if is_due { self.per_row.min(end) } else { 0 };
        if is_due {
            self.next_at = now + INTERVAL;
        }
        let begin = if end == 0 { 0 } else { self.cursor % end };
        self.cursor = begin + len;
        (begin..begin + len).map(move |key| key % end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_topics_have_their_turn_at_the_rate() {
        let mut audit = Audit::new(40, Timestamp(0));
        let mut at = |ms: u64, end| -> Vec<usize> {
            let now = Timestamp(ms * 1_000);
            audit.row(now, end).collect()
        };
        assert_eq!(at(50, 6), [0; 0]);
        assert_eq!(at(100, 6), [0, 1, 2, 3]);
        assert_eq!(at(150, 6), [0; 0]);
        assert_eq!(at(250, 6), [4, 5, 0, 1]);
        assert_eq!(at(350, 1), [0]);
        assert_eq!(at(450, 0), [0; 0]);
    }
}
