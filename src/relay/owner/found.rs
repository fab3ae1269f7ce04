//! Messages that this relay never had, and that the engine still has for a client that comes from another one.
//!
//! The client reads them as a list of their own, and then asks for what this relay has. They are numbered backwards from the
//! first message that this relay has. Such a number may name another message here, from before a break. So nobody else sees
//! these.

use std::sync::Arc;

use crate::cluster::batch::Arrival;
use crate::cluster::place::Place;
use crate::ids::Seq;
use crate::port::terms::Form;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::Draft;
use crate::relay::batch::past::{Kept, Past, Resumed};
use crate::relay::places::{Mark, Places, position_of};
use crate::time::Timestamp;
use crate::ws::walk::split_frame;

/// See the module.
#[derive(Debug)]
pub(super) struct Found {
    batches: Vec<Arc<Batch>>,
    /// The number of the first message that the client lacks.
    from: Seq,
    /// Messages that are gone for good, before those that were found.
    lost: u64,
    /// The places of the messages.
    places: Places,
}

impl Found {
    /// The messages of `arrivals` for a client that has all up to the engine's number `reached`, and reads `form`. Before them,
    /// `lost` are gone; behind them comes message `end`.
    pub(super) fn new(
        arrivals: &[Arrival],
        (reached, lost): (u64, u64),
        end: Seq,
        form: Form,
    ) -> Self {
        let messages: u64 = arrivals
            .iter()
            .map(|arrival| u64::from(arrival.head.count))
            .sum();
        let begin = Seq(end.0 - messages);
        // The first batch may begin before the first message that the client lacks.
        let first = arrivals
            .first()
            .map_or(reached + 1, |arrival| arrival.first);
        let from = Seq(begin.0 + (reached + 1).saturating_sub(first));
        let (mut next, mut epoch) = (begin, None);
        let (mut batches, mut places) = (Vec::new(), Places::default());
        for arrival in arrivals {
            let before = Place {
                epoch: arrival.head.epoch,
                last: arrival.first - 1,
            };
            if epoch != Some(before.epoch) {
                epoch = Some(before.epoch);
                places.push(Mark::silent(next, before));
            }
            // It was not decoded here, and counts in no latency.
            let draft = Draft::arrived(Timestamp(0), &arrival.frames, ends_of(&arrival.frames));
            let audience = Audience::of(form, 1);
            let at = Some(position_of(before));
            batches.extend(Batch::seal_at(next, [draft], audience, at));
            next = Seq(next.0 + u64::from(arrival.head.count));
        }
        Found {
            batches,
            from,
            lost,
            places,
        }
    }

    /// Puts them in front of what is kept, which the client asks for later. If that does not begin right behind them, they are
    /// lost, too.
    pub(super) fn lead(self, resumed: &mut Resumed) {
        let Some(lost) = resumed.lost else {
            return;
        };
        let Some(end) = self.batches.last().map(|last| last.end()) else {
            resumed.lost = Some(self.lost + lost);
            return;
        };
        if lost > 0 {
            resumed.lost = Some(self.lost + (end.0 - self.from.0) + lost);
            return;
        }
        let mut cost_before = 0;
        let entries = self.batches.into_iter().map(|batch| {
            let before = cost_before;
            cost_before += batch.cost_bytes();
            Kept {
                batch,
                cost_before: before,
            }
        });
        *resumed = Resumed {
            from: self.from,
            lost: Some(self.lost),
            past: Arc::new(Past::new(entries.collect())),
            until: end,
            places: Some(Box::new(self.places)),
        };
    }
}

/// The ends of frames that were checked when they arrived.
pub(super) fn ends_of(frames: &[u8]) -> Vec<u32> {
    let mut ends = Vec::new();
    let mut rest = frames;
    while let Some((_, _, behind)) = split_frame(rest) {
        rest = behind;
        // A batch has at most 16 MiB.
        ends.push((frames.len() - rest.len()) as u32);
    }
    ends
}
