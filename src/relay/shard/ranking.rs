//! A ranking of holders by the memory that they hold, so that the largest is found at once.
//!
//! [`memory`](super::memory) keeps one of clients and one of topics. Sizes are compared by their binary logarithm. So a holder
//! that grows byte by byte moves a few dozen times at most. Holders of nearly the same size are ordered by key, not by
//! chance.

use std::collections::BTreeSet;

/// See the module.
#[derive(Debug)]
pub(super) struct Ranking<K> {
    by_size: BTreeSet<(u32, K)>,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Ranking {
            by_size: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Ranking<K> {
    /// Notes that `key` holds `after` bytes now. It held `before`, which is 0 at first.
    pub(super) fn update(&mut self, key: K, before: u64, after: u64) {
        let (before, after) = (class(before), class(after));
        if before == after {
            return;
        }
        if before > 0 {
            let was_there = self.by_size.remove(&(before, key));
            debug_assert!(was_there, "a ranked key is in its class");
        }
        if after > 0 {
            self.by_size.insert((after, key));
        }
    }

    /// All that hold something, the largest first.
    pub(super) fn largest(&self) -> impl Iterator<Item = K> + '_ {
        self.by_size.iter().rev().map(|&(_, key)| key)
    }
}

/// 0 for nothing, and one more for each doubling.
fn class(bytes: u64) -> u32 {
    u64::BITS - bytes.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_comes_first_and_a_holder_of_nothing_is_left_out() {
        let mut ranking = Ranking::default();
        for (key, bytes) in [(1, 100), (2, 5000), (3, 1), (4, 300)] {
            ranking.update(key, 0, bytes);
        }
        assert_eq!(ranking.largest().collect::<Vec<u32>>(), [2, 4, 1, 3]);
        ranking.update(2, 5000, 0);
        ranking.update(1, 100, 1 << 40);
        assert_eq!(ranking.largest().collect::<Vec<u32>>(), [1, 4, 3]);
    }

    #[test]
    fn nearly_equal_sizes_are_ordered_by_key() {
        let mut ranking = Ranking::default();
        for (key, bytes) in [(1, 127), (3, 64), (2, 100)] {
            ranking.update(key, 0, bytes);
        }
        ranking.update(3, 64, 65);
        assert_eq!(ranking.largest().collect::<Vec<u32>>(), [3, 2, 1]);
    }
}
