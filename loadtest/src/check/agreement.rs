//! Agreement: all members of a topic must see its messages in one order.
//!
//! Each connection leaves a fingerprint of the order it saw. The control compares them when the run is over.

use std::collections::BTreeMap;

use super::order::{Fingerprint, Likeness, Record};

/// The life of one connection, from when it came until it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// Its topic.
    pub(crate) topic: u32,
    /// The order it saw.
    pub(crate) fingerprint: Fingerprint,
    /// Whether it was there from the beginning to the end.
    pub(crate) is_whole: bool,
}

/// The result of the comparison, over all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Connections that saw another order than the rest of their topic.
    pub(crate) disagreeing: u64,
    /// Connections that could not be compared, because the record of their topic is too short.
    pub(crate) uncompared: u64,
}

/// Compares the lives in each topic: whole ones with each other, the rest with the record of the topic. `records` has
/// an entry for each topic.
pub(crate) fn compare(lives: Vec<Life>, records: Vec<Option<Record>>) -> Orders {
    let mut by_topic: Vec<Vec<Life>> = records.iter().map(|_| Vec::new()).collect();
    for life in lives {
        by_topic[life.topic as usize].push(life);
    }
    let mut orders = Orders::default();
    for (lives, record) in by_topic.into_iter().zip(records) {
        let common = orders.compare_whole(&lives);
        orders.compare_parts(&lives, record, common);
    }
    orders
}

impl Orders {
    /// Compares those that were there all the time. Returns the order that most of them saw.
    fn compare_whole(&mut self, lives: &[Life]) -> Option<Fingerprint> {
        let mut votes: BTreeMap<Fingerprint, u64> = BTreeMap::new();
        for life in lives.iter().filter(|life| life.is_whole) {
            *votes.entry(life.fingerprint).or_default() += 1;
        }
        let (common, most) = votes.iter().max_by_key(|(_, votes)| **votes)?;
        self.disagreeing += votes.values().sum::<u64>() - most;
        Some(*common)
    }

    /// Compares those that came late or left early.
    fn compare_parts(
        &mut self,
        lives: &[Life],
        record: Option<Record>,
        common: Option<Fingerprint>,
    ) {
        let parts = || lives.iter().filter(|life| !life.is_whole);
        if parts().next().is_none() {
            return;
        }
        let reference = record.map(Record::index);
        // The record counts only if its connection saw what most others saw.
        let reference = reference.filter(|reference| {
            common.is_some_and(|common| reference.compare(&common) != Likeness::Different)
        });
        for life in parts() {
            let likeness = match &reference {
                Some(reference) => reference.compare(&life.fingerprint),
                None => Likeness::Unknown,
            };
            match likeness {
                Likeness::Same => {}
                Likeness::Different => self.disagreeing += 1,
                Likeness::Unknown => self.uncompared += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(keys: &[u64], is_whole: bool) -> Life {
        let mut fingerprint = Fingerprint::default();
        for key in keys {
            fingerprint.push(*key);
        }
        Life {
            topic: 0,
            fingerprint,
            is_whole,
        }
    }

    fn record(keys: &[u64]) -> Record {
        let mut record = Record::new(keys.len());
        for key in keys {
            record.push(*key);
        }
        record
    }

    #[test]
    fn the_one_that_saw_another_order_than_most_disagrees() {
        let lives = vec![
            life(&[1, 2, 3], true),
            life(&[1, 3, 2], true),
            life(&[1, 2, 3], true),
            life(&[2, 3], false),
            life(&[3, 2], false),
        ];
        let orders = compare(lives, vec![Some(record(&[1, 2, 3]))]);
        let expected = Orders {
            disagreeing: 2,
            uncompared: 0,
        };
        assert_eq!(orders, expected);
    }

    #[test]
    fn a_record_that_is_wrong_itself_is_not_compared_with() {
        let lives = vec![
            life(&[1, 2, 3], true),
            life(&[1, 2, 3], true),
            life(&[2, 3], false),
        ];
        let orders = compare(lives, vec![Some(record(&[1, 3, 2]))]);
        let expected = Orders {
            disagreeing: 0,
            uncompared: 1,
        };
        assert_eq!(orders, expected);
    }
}
