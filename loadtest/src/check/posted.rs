//! The answers to posts: their statuses, their latency, and the positions that they say.
//!
//! The books of a thread (`books.rs`) have one. The positions are compared with the orders that members saw when the run is
//! over (`agreement.rs`).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::agreement::{Placed, Start};
use super::position::{Judgement, Position};
use crate::report::latency;
use crate::scenario::message::key;

/// The most positions that are remembered: 40 bytes each.
const REMEMBERED: usize = 1 << 20;

/// The status of a post whose message was accepted.
const ACCEPTED: u16 = 202;

/// The answer to a post.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posted<'a> {
    pub(crate) publisher: u32,
    /// The number of the message.
    pub(crate) sequence: u64,
    /// The time at which it was sent.
    pub(crate) sent: u64,
    pub(crate) status: u16,
    /// The position behind it.
    pub(crate) at: Option<&'a Position>,
    /// The position behind the one before it on the same connection.
    pub(crate) before: Option<&'a Position>,
}

/// The answers to the posts of a thread.
#[derive(Clone, Debug)]
pub(crate) struct PostBooks {
    /// By status.
    pub(crate) answers: BTreeMap<u16, u64>,
    /// From sending until the answer, while measured.
    pub(crate) latency: Histogram<u64>,
    /// Messages that were accepted without a position.
    pub(crate) unplaced: u64,
    /// Messages and the positions before them.
    pub(crate) placed: Vec<Placed>,
}

impl Default for PostBooks {
    fn default() -> PostBooks {
        PostBooks {
            answers: BTreeMap::new(),
            latency: latency::new(),
            unplaced: 0,
            placed: Vec::new(),
        }
    }
}

impl PostBooks {
    /// Enters an answer in a topic, and judges its position. `latency` is known while measured. A publisher that `is_alone`
    /// in its topic goes on by one position with each message.
    pub(crate) fn enter(
        &mut self,
        posted: &Posted<'_>,
        topic: u32,
        is_alone: bool,
        latency: Option<u64>,
    ) -> Judgement {
        *self.answers.entry(posted.status).or_default() += 1;
        if posted.status != ACCEPTED {
            return Judgement::Right;
        }
        if let Some(latency) = latency {
            self.latency.saturating_record(latency);
        }
        let Some(at) = posted.at else {
            self.unplaced += 1;
            return Judgement::Right;
        };
        let is_right = posted.before.is_none_or(|before| {
            let step = at.number.checked_sub(before.number);
            let is_step = |step| step == 1 || step > 1 && !is_alone;
            before.epoch == at.epoch && step.is_some_and(is_step)
        });
        if !is_right || at.number == 0 {
            return Judgement::Misplaced;
        }
        if self.placed.len() < REMEMBERED {
            self.placed.push(Placed {
                topic,
                key: key(posted.publisher, posted.sequence),
                start: Start {
                    epoch: at.epoch_hash(),
                    number: at.number - 1,
                },
            });
        }
        Judgement::Right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_a_publisher_go_up() {
        let at = |text: &str| Position::parse(text).unwrap();
        let judged = |before: &str, after: &str, is_alone| {
            let posted = Posted {
                publisher: 0,
                sequence: 4,
                sent: 0,
                status: 202,
                at: Some(&at(after)),
                before: Some(&at(before)),
            };
            let mut books = PostBooks::default();
            let judgement = books.enter(&posted, 0, is_alone, None);
            assert_eq!(books.placed.len() == 1, judgement == Judgement::Right);
            judgement == Judgement::Right
        };
        assert!(judged("a-3", "a-4", true) && judged("a-3", "a-9", false));
        assert!(!judged("a-3", "a-9", true), "nobody else sends");
        assert!(!judged("a-3", "a-3", false) && !judged("a-3", "a-2", false));
        assert!(!judged("a-3", "b-4", false));
    }
}
