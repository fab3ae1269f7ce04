//! How evenly connections are spread over the workers: those that arrive, and those that move to where their topic is.

/// A worker may have more connections than the average, by one in so many. Where there are as many topics as make moving
/// worth while, chance spreads their owners more evenly than this, so that nearly all clients come to live with their
/// topics. Where they are few, or all clients are in one, each worker still gets as many: once the owner has no room, each
/// other shard soon has a member, and then nobody moves for that topic.
const EXCESS_SHARE: usize = 8;

/// The most connections that a worker has, where `average` is the average.
pub fn most_connections(average: usize) -> usize {
    average + average / EXCESS_SHARE
}

/// What a worker's connections are measured by.
#[derive(Clone, Copy, Debug)]
pub struct Balance {
    average: usize,
}

impl Balance {
    /// Of workers with so many connections each; there is one at least.
    pub fn of(connections: impl ExactSizeIterator<Item = usize>) -> Self {
        let workers = connections.len();
        Balance {
            average: connections.sum::<usize>() / workers,
        }
    }

    /// Whether a worker with so many may be handed one more by another.
    pub fn may_take_one(self, connections: usize) -> bool {
        connections < most_connections(self.average)
    }

    /// Whether a worker with so many may be given one that has just arrived: all but those that have more than their share.
    /// There is always one.
    ///
    /// It need not be the worker with the fewest. That one would be given all that arrive, their TLS handshakes with them,
    /// as long as they move on to where their topics are.
    pub fn may_be_given_one(self, connections: usize) -> bool {
        connections <= self.average || self.may_take_one(connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_of_clients_is_spread_evenly() {
        for average in 0..8 {
            let balance = Balance { average };
            assert!(!balance.may_take_one(average));
            assert!(balance.may_be_given_one(average));
            assert!(!balance.may_be_given_one(average + 1));
        }
    }

    #[test]
    fn many_may_live_where_their_topics_are_as_long_as_the_others_have_nearly_as_many() {
        let balance = Balance::of([1124, 1125, 875, 876].into_iter());
        assert!(balance.may_take_one(1124) && balance.may_be_given_one(1124));
        assert!(!balance.may_take_one(1125) && !balance.may_be_given_one(1125));
    }
}
