//! The order of messages: the fingerprint of the order that a connection saw, and the record that it is compared with.
//!
//! A fingerprint is a polynomial hash over the messages in their order. Connections that were there all the time are
//! compared by their fingerprints. For the others, one connection of each topic records which messages came. The
//! fingerprint of any stretch of the record follows from those of its two ends.

use std::collections::HashMap;

use crate::scenario::message::Key;

/// The base of the hash: Knuth's multiplier for MMIX. It is odd, so that no message is ever shifted out.
const BASE: u64 = 6_364_136_223_846_793_005;

/// The fingerprint of the order that one connection saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint {
    hash: u64,
    count: u64,
    first: Key,
}

impl Fingerprint {
    /// Adds a message.
    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        if self.count == 0 {
            self.first = key;
        }
        self.hash = self.hash.wrapping_mul(BASE).wrapping_add(mix(key));
        self.count += 1;
    }

    /// The number of messages.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// Spreads a key over all bits, so that neighbouring keys differ in many bits.
#[inline]
fn mix(key: Key) -> u64 {
    let mixed = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// The messages that one connection has seen, up to a limit.
#[derive(Debug)]
pub(crate) struct Record {
    keys: Vec<Key>,
    limit: usize,
    is_full: bool,
}

impl Record {
    /// An empty record for at most `limit` messages, 8 bytes each.
    pub(crate) fn new(limit: usize) -> Record {
        Record {
            keys: Vec::new(),
            limit,
            is_full: false,
        }
    }

    /// Adds a message.
    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        if self.keys.len() < self.limit {
            self.keys.push(key);
        } else {
            self.is_full = true;
        }
    }

    /// Makes it ready for comparisons.
    pub(crate) fn index(self) -> Reference {
        let mut hash = 0_u64;
        let mut prefixes = Vec::with_capacity(self.keys.len() + 1);
        prefixes.push(hash);
        for key in &self.keys {
            hash = hash.wrapping_mul(BASE).wrapping_add(mix(*key));
            prefixes.push(hash);
        }
        let positions = self.keys.iter().enumerate();
        Reference {
            positions: positions.map(|(position, key)| (*key, position)).collect(),
            prefixes,
            is_cut: self.is_full,
        }
    }
}

/// A record, ready for comparisons.
#[derive(Debug)]
pub(crate) struct Reference {
    positions: HashMap<Key, usize>,
    /// At `n`: the hash of the first `n` messages.
    prefixes: Vec<u64>,
    is_cut: bool,
}

/// The result of comparing a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// The same messages in the same order.
    Same,
    /// Other messages, or another order.
    Different,
    /// The record does not reach so far.
    Unknown,
}

impl Reference {
    /// The place of a message in the record.
    pub(crate) fn place_of_key(&self, key: Key) -> Option<u64> {
        self.positions.get(&key).map(|place| *place as u64)
    }

    /// The place of a stretch's first message in the record.
    pub(crate) fn place_of(&self, seen: &Fingerprint) -> Option<u64> {
        let place = self.positions.get(&seen.first)?;
        (seen.count > 0).then_some(*place as u64)
    }

    /// Compares the order that another connection saw with the same stretch of the record.
    pub(crate) fn compare(&self, seen: &Fingerprint) -> Likeness {
        if seen.count == 0 {
            return Likeness::Same;
        }
        let beyond = if self.is_cut {
            Likeness::Unknown
        } else {
            Likeness::Different
        };
        let Some(&start) = self.positions.get(&seen.first) else {
            return beyond;
        };
        let end = start as u64 + seen.count;
        let Some(whole) = self.prefixes.get(end as usize) else {
            return beyond;
        };
        let before = self.prefixes[start].wrapping_mul(power(seen.count));
        if whole.wrapping_sub(before) == seen.hash {
            Likeness::Same
        } else {
            Likeness::Different
        }
    }
}

/// The base to the power of `exponent`.
fn power(mut exponent: u64) -> u64 {
    let (mut result, mut square) = (1_u64, BASE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(keys: impl IntoIterator<Item = Key>) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        keys.into_iter().for_each(|key| fingerprint.push(key));
        fingerprint
    }

    fn reference(keys: impl IntoIterator<Item = Key>, limit: usize) -> Reference {
        let mut record = Record::new(limit);
        keys.into_iter().for_each(|key| record.push(key));
        record.index()
    }

    #[test]
    fn any_stretch_of_the_record_is_recognised() {
        let reference = reference(100..200, 1000);
        for (from, to) in [(100, 200), (100, 101), (150, 170), (199, 200)] {
            assert_eq!(reference.compare(&seen(from..to)), Likeness::Same);
        }
        assert_eq!(reference.compare(&seen([])), Likeness::Same);
    }

    #[test]
    fn two_messages_exchanged_or_one_left_out_are_noticed() {
        let reference = reference(0..100, 1000);
        assert_eq!(reference.compare(&seen([5, 7, 6, 8])), Likeness::Different);
        assert_eq!(reference.compare(&seen([5, 6, 8, 9])), Likeness::Different);
        assert_eq!(reference.compare(&seen(90..110)), Likeness::Different);
        assert_ne!(seen([1, 2, 3, 4]), seen([1, 3, 2, 4]));
        assert_ne!(seen([1, 2, 3, 4]), seen([4, 2, 3, 1]));
    }

    #[test]
    fn beyond_the_limit_nothing_is_claimed() {
        let reference = reference(0..100, 50);
        assert_eq!(reference.compare(&seen(10..50)), Likeness::Same);
        assert_eq!(reference.compare(&seen(10..60)), Likeness::Unknown);
        assert_eq!(reference.compare(&seen(60..70)), Likeness::Unknown);
    }
}
