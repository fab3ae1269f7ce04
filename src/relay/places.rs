//! The places of a topic's messages as clients are told them, if an engine numbers the topic.
//!
//! A shard counts messages on its own, without a gap: its logs rest on that. The engine's numbers begin anew with an epoch, and
//! have a gap where messages were lost. A *mark* says which place a number of ours is. From there, both count on together.
//!
//! The topic's owner sets the marks. It tells them to the shards with members between two batches, so no batch has one inside.

use std::collections::VecDeque;

use crate::cluster::place::Place;
use crate::ids::Seq;
use crate::port::position::{Epoch, Position};

/// The most marks of a topic. A client that is further behind than so many is not told its place.
const MAX_MARKS: usize = 32;

/// A place of the engine, as clients know it.
pub(crate) fn position_of(place: Place) -> Position {
    Position {
        epoch: Epoch::from_bits(place.epoch.0),
        next: Seq(place.last),
    }
}

/// The news of a mark, for members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of the first message behind it.
    pub(crate) next: Seq,
    /// The place that it has.
    pub(crate) at: Position,
    /// Messages that are missing right before it, if their number is known.
    pub(crate) lost: Option<u64>,
    /// Messages are missing, or may be.
    pub(crate) is_break: bool,
}

impl Mark {
    /// A mark of which nobody needs to be told.
    pub(crate) fn silent(next: Seq, place: Place) -> Self {
        Mark::going_on(next, position_of(place))
    }

    /// The numbers go on at `at`, and nothing is missing.
    pub(crate) fn going_on(next: Seq, at: Position) -> Self {
        Mark {
            next,
            at,
            lost: Some(0),
            is_break: false,
        }
    }

    /// The place in front of message `next`, counted from here.
    fn counted(&self, next: Seq) -> Position {
        let Position { epoch, next: first } = self.at;
        Position {
            epoch,
            next: Seq(first.0 + (next.0 - self.next.0)),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Places {
    marks: VecDeque<Mark>,
}

impl Places {
    /// Whether no place is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Sets a mark. It lies behind all others, or at the last one.
    pub(crate) fn push(&mut self, mark: Mark) {
        debug_assert!(
            self.marks.back().is_none_or(|last| last.next <= mark.next),
            "marks come in their order"
        );
        if self.marks.len() == MAX_MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.marks.clear();
    }

    /// The place in front of message `next`. If marks lie there, it is behind them.
    pub(crate) fn at(&self, next: Seq) -> Option<Position> {
        let marks = self.marks.partition_point(|mark| mark.next <= next);
        Some(self.marks.get(marks.checked_sub(1)?)?.counted(next))
    }

    /// The marks behind message `from` that are news: their places are not those that a client has counted.
    pub(crate) fn news_behind(&self, from: Seq) -> impl Iterator<Item = &Mark> {
        let before = std::iter::once(None).chain(self.marks.iter().map(Some));
        let marks = before.zip(&self.marks);
        let is_news = move |&(before, mark): &(Option<&Mark>, &Mark)| {
            let counted = before.map(|before| before.counted(mark.next));
            mark.next > from && counted != Some(mark.at)
        };
        marks.filter(is_news).map(|(_, mark)| mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(next: u64, at: &str) -> Mark {
        Mark {
            next: Seq(next),
            at: at.parse().unwrap(),
            lost: Some(0),
            is_break: false,
        }
    }

    fn text(position: Option<Position>) -> String {
        position.map_or_else(String::new, |at| at.to_string())
    }

    #[test]
    fn a_place_is_counted_from_the_last_mark_before_it() {
        let mut places = Places::default();
        places.push(mark(100, "a-7"));
        places.push(mark(110, "b-0"));
        places.push(mark(110, "c-20"));
        for (next, at) in [
            (99, ""),
            (100, "a-7"),
            (109, "a-16"),
            (110, "c-20"),
            (111, "c-21"),
        ] {
            assert_eq!(text(places.at(Seq(next))), at, "{next}");
        }
        assert_eq!(places.news_behind(Seq(100)).count(), 2);
        assert_eq!(places.news_behind(Seq(110)).count(), 0);
    }

    #[test]
    fn a_mark_is_no_news_if_the_count_goes_on() {
        let mut places = Places::default();
        for (next, at) in [(90, "z-3"), (95, "a-2"), (100, "a-7"), (120, "a-28")] {
            places.push(mark(next, at));
        }
        let news = places.news_behind(Seq(90)).map(|mark| mark.next.0);
        assert!(news.eq([95, 120]));
    }

    #[test]
    fn the_oldest_marks_are_forgotten() {
        let mut places = Places::default();
        for number in 0..100 {
            places.push(mark(number, "a-0"));
        }
        assert_eq!(text(places.at(Seq(67))), "");
        assert_eq!(text(places.at(Seq(68))), "a-0");
    }
}
