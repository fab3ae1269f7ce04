//! The topics that keep messages, in the order in which they give way.
//!
//! Topics without members come first, and among them the one with the oldest message. The owner drops messages here when they
//! are too old, and when the shard is short of memory.

use std::collections::BTreeSet;

use crate::time::Timestamp;

/// A topic's place among those that keep messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shelved {
    /// Whether it has members.
    has_members: bool,
    /// The moment at which its oldest message becomes too old.
    expires_at: Timestamp,
}

/// See the module. Topics are named by their slots.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    topics: BTreeSet<(Shelved, usize)>,
}

impl Shelf {
    /// The place of a topic whose oldest message becomes too old at `expires_at`.
    pub(super) fn place(has_members: bool, expires_at: Timestamp) -> Shelved {
        Shelved {
            has_members,
            expires_at,
        }
    }

    /// Moves the topic in `slot`. `None` is no place.
    pub(super) fn shift(&mut self, slot: usize, from: Option<Shelved>, to: Option<Shelved>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.topics.remove(&(from, slot));
        }
        if let Some(to) = to {
            self.topics.insert((to, slot));
        }
    }

    /// Whether no topic keeps messages.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topic that gives way first.
    pub(super) fn first(&self) -> Option<usize> {
        self.topics.first().map(|&(_, slot)| slot)
    }

    /// A topic whose oldest message is too old.
    pub(super) fn first_expired(&self, now: Timestamp) -> Option<usize> {
        let mut oldest = self.oldest();
        oldest.find_map(|(place, slot)| (place.expires_at <= now).then_some(slot))
    }

    /// The moment at which the next message becomes too old.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        if self.is_empty() {
            return None;
        }
        self.oldest().map(|(place, _)| place.expires_at).min()
    }

    /// The topic with the oldest message, of those without members and of those with members.
    fn oldest(&self) -> impl Iterator<Item = (Shelved, usize)> + '_ {
        let first_with = (Shelf::place(true, Timestamp(0)), 0);
        let without = self.topics.first().filter(|&&entry| entry < first_with);
        let with = self.topics.range(first_with..).next();
        without.into_iter().chain(with).copied()
    }

    /// Whether the topic in `slot` is at `place`. For tests.
    pub(super) fn contains(&self, slot: usize, place: Shelved) -> bool {
        self.topics.contains(&(place, slot))
    }

    /// The number of topics. For tests.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(has_members: bool, at: u64) -> Shelved {
        Shelf::place(has_members, Timestamp(at))
    }

    #[test]
    fn topics_without_members_give_way_first_and_the_oldest_before_others() {
        let mut shelf = Shelf::default();
        shelf.shift(1, None, Some(place(true, 10)));
        shelf.shift(2, None, Some(place(false, 30)));
        shelf.shift(3, None, Some(place(false, 20)));
        assert_eq!(shelf.next_expiry(), Some(Timestamp(10)));
        assert_eq!(shelf.first(), Some(3));
        assert_eq!(shelf.first_expired(Timestamp(9)), None);
        assert_eq!(shelf.first_expired(Timestamp(10)), Some(1));
        shelf.shift(1, Some(place(true, 10)), None);
        assert_eq!(shelf.first_expired(Timestamp(19)), None);
        shelf.shift(3, Some(place(false, 20)), Some(place(true, 20)));
        assert_eq!(
            (shelf.first(), shelf.next_expiry()),
            (Some(2), Some(Timestamp(20)))
        );
        shelf.shift(2, Some(place(false, 30)), None);
        assert_eq!((shelf.first(), shelf.len()), (Some(3), 1));
    }
}
