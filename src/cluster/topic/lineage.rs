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

/// The answer to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// Behind so many delivered messages.
    Here(u64),
    /// Before those that this node has delivered. Missing are all numbers from `first` to `last`; then comes message `count`.
    Earlier {
        /// See above.
        first: u64,
        /// See above.
        last: u64,
        /// See above.
        count: u64,
        /// The engine's stream may have them.
        is_findable: bool,
    },
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
                return match span.locate(place.last, end) {
                    Located::Ahead if !is_newest => Located::Unknown,
                    Located::Earlier {
                        first, last, count, ..
                    } => Located::Earlier {
                        first,
                        last,
                        count,
                        is_findable: is_newest,
                    },
                    located => located,
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
        first.locate(place.last, first.count)
    }
}

impl Span {
    /// Looks up the place behind number `last`. `end` messages were delivered up to the end of the span.
    fn locate(&self, last: u64, end: u64) -> Located {
        let Some(inside) = last.checked_sub(self.start.last) else {
            return Located::Earlier {
                first: last + 1,
                last: self.start.last,
                count: self.count,
                is_findable: true,
            };
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
        let earlier = |first, is_findable| Located::Earlier {
            first,
            last: 100,
            count: 0,
            is_findable,
        };
        assert_eq!(lineage.locate(place(5, 98)), earlier(99, false));
        assert_eq!(lineage.locate(place(4, 90)), earlier(91, true));
    }

    #[test]
    fn what_lies_before_a_break_is_not_found_behind_it() {
        let mut lineage = Lineage::default();
        lineage.begin(place(5, 0), place(0, 0));
        lineage.advance(10);
        lineage.begin(place(5, 15), place(0, 0));
        let located = lineage.locate(place(5, 8));
        let expected = Located::Earlier {
            first: 9,
            last: 15,
            count: 10,
            is_findable: true,
        };
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
