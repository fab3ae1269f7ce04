//! How the engine's places map to the messages that this node has delivered, over changes of epoch.
//!
//! The node counts what it delivers of a topic, whatever the numbers do. A place of the engine is looked up as such a count. The
//! last eight epochs are kept. A break that was told begins anew: before it, the count has a hole.

use std::collections::VecDeque;

use crate::cluster::place::{Epoch, Place};

/// Epochs that are kept.
const MAX_SPANS: usize = 8;

/// Messages of one epoch, one after the other.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The place before the first.
    start: Place,
    /// Messages that were delivered before the first.
    count: u64,
}

/// Messages between a place and the first that this node has delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The number of the first.
    pub(crate) first: u64,
    /// The number of the last.
    pub(crate) last: u64,
    /// Messages that this node has delivered before the next one.
    pub(crate) then: u64,
    /// The engine's stream may have them.
    pub(crate) is_findable: bool,
    /// The epoch that they are in.
    epoch: Epoch,
    /// Numbers up to this place are in the epoch of this place.
    before: Option<Place>,
}

impl Missing {
    /// The epoch in which number `number` was given.
    pub(crate) fn epoch_of(&self, number: u64) -> Epoch {
        match self.before {
            Some(before) if number <= before.last => before.epoch,
            Some(_) | None => self.epoch,
        }
    }
}

/// The answer to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// Behind so many delivered messages.
    Here(u64),
    /// Before those that this node has delivered.
    Earlier(Missing),
    /// Beyond the last, in the epoch of the last.
    Ahead,
    /// In no epoch that we know, or in one that went on without it.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    spans: VecDeque<Span>,
    /// The end of the epoch before the first span, if that took over its numbers.
    before: Option<Place>,
    delivered: u64,
}

impl Lineage {
    /// The next message is the first behind `at`. It is not connected with what was delivered.
    pub(crate) fn begin(&mut self, at: Place, before: Place) {
        self.spans.clear();
        self.before = (before.epoch != Epoch::NONE).then_some(before);
        self.move_to(at);
    }

    /// The next message is the first behind `at`, and nothing is missing before it.
    pub(crate) fn move_to(&mut self, at: Place) {
        if self.spans.len() == MAX_SPANS {
            self.spans.pop_front();
            self.before = None;
        }
        self.spans.push_back(Span {
            start: at,
            count: self.delivered,
        });
    }

    /// Notes delivered messages.
    pub(crate) fn advance(&mut self, messages: u64) {
        self.delivered += messages;
    }

    /// Messages that were delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Looks a place up.
    pub(crate) fn locate(&self, place: Place) -> Located {
        let mut end = self.delivered;
        for (at, span) in self.spans.iter().enumerate().rev() {
            let is_newest = at + 1 == self.spans.len();
            if span.start.epoch == place.epoch {
                return match span.locate(place.last, end, None) {
                    Located::Ahead if !is_newest => Located::Unknown,
                    located => located.findable(is_newest),
                };
            }
            end = span.count;
        }
        let (Some(before), Some(first)) = (self.before, self.spans.front()) else {
            return Located::Unknown;
        };
        if before.epoch != place.epoch || place.last > before.last {
            return Located::Unknown;
        }
        // The numbers went on, so the place has the same number in the first epoch that we know.
        let located = first.locate(place.last, first.count, Some(before));
        // An epoch behind it may have begun from nothing, with a stream of its own.
        located.findable(self.spans.len() == 1)
    }
}

impl Located {
    /// Says whether the engine's stream may have what is missing.
    fn findable(self, is_findable: bool) -> Located {
        match self {
            Located::Earlier(missing) => Located::Earlier(Missing {
                is_findable,
                ..missing
            }),
            Located::Here(_) | Located::Ahead | Located::Unknown => self,
        }
    }
}

impl Span {
    /// Looks up the place behind number `last`. `end` messages were delivered up to the end of the span.
    fn locate(&self, last: u64, end: u64, before: Option<Place>) -> Located {
        let Some(inside) = last.checked_sub(self.start.last) else {
            return Located::Earlier(Missing {
                first: last + 1,
                last: self.start.last,
                then: self.count,
                is_findable: false,
                epoch: self.start.epoch,
                before,
            });
        };
        if inside <= end - self.count {
            Located::Here(self.count + inside)
        } else {
            Located::Ahead
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: u64, last: u64) -> Place {
        Place {
            epoch: Epoch(epoch),
            last,
        }
    }

    #[test]
    fn a_place_is_found_over_changes_of_epoch() {
        let mut lineage = Lineage::default();
        lineage.begin(place(5, 100), place(4, 90));
        lineage.advance(10);
        lineage.move_to(place(6, 110));
        lineage.advance(5);
        lineage.move_to(place(7, 0));
        lineage.advance(2);
        for (at, expected) in [
            (place(5, 100), Located::Here(0)),
            (place(5, 110), Located::Here(10)),
            (place(5, 111), Located::Unknown),
            (place(6, 110), Located::Here(10)),
            (place(6, 115), Located::Here(15)),
            (place(7, 0), Located::Here(15)),
            (place(7, 2), Located::Here(17)),
            (place(7, 3), Located::Ahead),
            (place(4, 91), Located::Unknown),
            (place(3, 1), Located::Unknown),
        ] {
            assert_eq!(lineage.locate(at), expected, "{at}");
        }
        for (at, first, before) in [
            (place(5, 98), 99, None),
            (place(4, 90), 91, Some(place(4, 90))),
        ] {
            let missing = Missing {
                first,
                last: 100,
                then: 0,
                is_findable: false,
                epoch: Epoch(5),
                before,
            };
            assert_eq!(lineage.locate(at), Located::Earlier(missing));
        }
    }

    #[test]
    fn what_lies_before_a_break_is_not_found_behind_it() {
        let mut lineage = Lineage::default();
        lineage.begin(place(5, 0), place(0, 0));
        lineage.advance(10);
        lineage.begin(place(5, 15), place(0, 0));
        let located = lineage.locate(place(5, 8));
        let expected = Located::Earlier(Missing {
            first: 9,
            last: 15,
            then: 10,
            is_findable: true,
            epoch: Epoch(5),
            before: None,
        });
        assert_eq!(located, expected);
        assert_eq!(lineage.locate(place(0, 0)), Located::Unknown);
    }

    #[test]
    fn only_the_last_epochs_are_kept() {
        let mut lineage = Lineage::default();
        lineage.begin(place(1, 0), place(9, 0));
        for epoch in 2..=9 {
            lineage.advance(1);
            lineage.move_to(place(epoch, 0));
        }
        assert_eq!(lineage.locate(place(1, 0)), Located::Unknown);
        assert_eq!(lineage.locate(place(2, 1)), Located::Here(2));
    }
}
