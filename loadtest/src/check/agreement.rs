//! Agreement: all members of a topic must see its messages in one order.
//!
//! Each connection leaves a fingerprint of the order it saw. The control compares them when the run is over.

use std::collections::BTreeMap;

use super::order::{Fingerprint, Likeness, Record, Reference};
use crate::scenario::message::Key;

/// A position, as it is compared: by the hash of its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

/// A message, and the position before it as the relay said to its publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// Its topic.
    pub(crate) topic: u32,
    pub(crate) key: Key,
    pub(crate) start: Start,
}

/// The life of one client, from when it came until it went. Another life begins after a gap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// Its topic.
    pub(crate) topic: u32,
    /// The order it saw.
    pub(crate) fingerprint: Fingerprint,
    /// Whether it was there from the beginning to the end.
    pub(crate) is_whole: bool,
    /// The position before its first message, if the relay has said one.
    pub(crate) start: Option<Start>,
}

/// The result of the comparison, over all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Connections that saw another order than the rest of their topic.
    pub(crate) disagreeing: u64,
    /// Connections that could not be compared, because the record of their topic is too short.
    pub(crate) uncompared: u64,
    /// Lives whose position does not belong to their first message: others have it elsewhere.
    pub(crate) misplaced: u64,
}

/// Compares the lives in each topic: whole ones with each other, the rest with the record of the topic. `records` has
/// an entry for each topic. `placed` are messages whose positions the relay said to their publishers.
pub(crate) fn compare(
    lives: Vec<Life>,
    records: Vec<Option<Record>>,
    placed: Vec<Placed>,
) -> Orders {
    let mut placed_by_topic: Vec<Vec<Placed>> = records.iter().map(|_| Vec::new()).collect();
    for one in placed {
        placed_by_topic[one.topic as usize].push(one);
    }
    let mut by_topic: Vec<Vec<Life>> = records.iter().map(|_| Vec::new()).collect();
    for life in lives {
        by_topic[life.topic as usize].push(life);
    }
    let mut orders = Orders::default();
    let topics = by_topic.into_iter().zip(records).zip(placed_by_topic);
    for ((lives, record), placed) in topics {
        let common = orders.compare_whole(&lives);
        orders.compare_parts(&lives, record, &placed, common);
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
        placed: &[Placed],
        common: Option<Fingerprint>,
    ) {
        let parts = || lives.iter().filter(|life| !life.is_whole);
        let has_places = !placed.is_empty() || lives.iter().any(|life| life.start.is_some());
        if parts().next().is_none() && !has_places {
            return;
        }
        let reference = record.map(Record::index);
        if let Some(reference) = &reference {
            self.compare_places(lives, placed, reference);
        }
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

impl Orders {
    /// Compares the positions of the first messages. In an epoch, a position and the place in the record differ by the
    /// same number for all.
    fn compare_places(&mut self, lives: &[Life], placed: &[Placed], reference: &Reference) {
        let mut votes: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
        let of_lives = lives
            .iter()
            .map(|life| (life.start, reference.place_of(&life.fingerprint)));
        let of_posts = placed
            .iter()
            .map(|post| (Some(post.start), reference.place_of_key(post.key)));
        for (start, place) in of_lives.chain(of_posts) {
            if let (Some(start), Some(place)) = (start, place) {
                let distance = start.number.wrapping_sub(place);
                let of_epoch = votes.entry(start.epoch).or_default();
                *of_epoch.entry(distance).or_default() += 1;
            }
        }
        for of_epoch in votes.values() {
            let most = of_epoch.values().max().unwrap_or(&0);
            self.misplaced += of_epoch.values().sum::<u64>() - most;
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
            start: None,
        }
    }

    #[test]
    fn a_position_that_belongs_to_another_message_is_found() {
        let at = |keys: &[u64], number| Life {
            start: Some(Start { epoch: 9, number }),
            ..life(keys, false)
        };
        let whole = Life {
            is_whole: true,
            ..at(&[1, 2, 3], 100)
        };
        let orders = |lives| compare(lives, vec![Some(record(&[1, 2, 3]))], vec![]);
        let right = orders(vec![whole, at(&[2, 3], 101), at(&[3], 102)]);
        assert_eq!(right, Orders::default());
        let wrong = orders(vec![whole, at(&[2, 3], 101), at(&[3], 103)]);
        assert_eq!(wrong.misplaced, 1);
        // The answers to posts are compared with the same places.
        let posted = |key, number| Placed {
            topic: 0,
            key,
            start: Start { epoch: 9, number },
        };
        let posts = |placed| compare(vec![whole], vec![Some(record(&[1, 2, 3]))], placed);
        assert_eq!(posts(vec![posted(2, 101)]).misplaced, 0);
        assert_eq!(posts(vec![posted(2, 101), posted(3, 103)]).misplaced, 1);
        // Another epoch has numbers of its own.
        let mut other = at(&[3], 7);
        other.start = Some(Start {
            epoch: 8,
            number: 7,
        });
        assert_eq!(orders(vec![whole, other]), Orders::default());
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
        let orders = compare(lives, vec![Some(record(&[1, 2, 3]))], vec![]);
        let expected = Orders {
            disagreeing: 2,
            ..Orders::default()
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
        let orders = compare(lives, vec![Some(record(&[1, 3, 2]))], vec![]);
        let expected = Orders {
            uncompared: 1,
            ..Orders::default()
        };
        assert_eq!(orders, expected);
    }
}
