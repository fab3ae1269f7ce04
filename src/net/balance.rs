//! How evenly connections are spread over the workers: those that arrive, and those that move to where their topic is.

/// A worker is handed more connections until it has the average and one in so many above it. Where there are as many topics
/// as make moving worth while, chance spreads their owners more evenly than this, so that nearly all clients come to live
/// with their topics. Where they are few, or all clients are in one, the owner soon has no room; then each other shard gets a
/// member as soon as somebody arrives there, and from then on nobody moves for that topic.
const EXCESS_SHARE: usize = 8;

/// Up to how many connections a worker is handed more, where `average` is the average; a few beyond, when several others hand
/// over at once.
pub fn most_connections(average: usize) -> usize {
    average + average / EXCESS_SHARE
}

/// The connections of all workers, each as it was when it was looked at.
#[derive(Debug)]
pub struct Balance {
    connections: Vec<usize>,
    average: usize,
}

impl Balance {
    /// Of workers with so many connections each.
    ///
    /// # Panics
    ///
    /// If there is no worker.
    pub fn of(connections: impl Iterator<Item = usize>) -> Self {
        let connections: Vec<usize> = connections.collect();
        Balance {
            average: connections.iter().sum::<usize>() / connections.len(),
            connections,
        }
    }

    /// Whether a worker may be handed one more by another.
    pub fn may_take_one(&self, worker: usize) -> bool {
        self.connections[worker] < most_connections(self.average)
    }

    /// Whether a worker may be given one that has just arrived.
    fn may_be_given_one(&self, worker: usize) -> bool {
        self.connections[worker] <= self.average || self.may_take_one(worker)
    }
}

/// Whose turn it is to be given a connection that has just arrived: each worker's in turn, as long as it has no more than
/// others would hand to it.
///
/// It is not the turn of the worker with the fewest: that one would be given all that arrive, their TLS handshakes with them,
/// as long as they move on to where their topics are. In return, a worker that has few for another reason stays behind until
/// the others have an eighth more than the average.
#[derive(Debug, Default)]
pub struct Rotation {
    next: usize,
}

impl Rotation {
    /// The worker whose turn it is; the turn passes to the one behind it.
    pub fn next(&mut self, balance: &Balance) -> usize {
        let workers = balance.connections.len();
        let mut turns = (0..workers).map(|turn| (self.next + turn) % workers);
        let worker = turns.find(|worker| balance.may_be_given_one(*worker));
        let worker = worker.expect("not all have more than the average");
        self.next = (worker + 1) % workers;
        worker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance<const N: usize>(connections: [usize; N]) -> Balance {
        Balance::of(connections.into_iter())
    }

    #[test]
    fn of_a_handful_of_clients_none_moves_but_to_a_worker_that_has_fewer_than_the_average() {
        for average in 1..8 {
            let balance = balance([average - 1, average, average, average + 1]);
            let may_take_one = [0, 1, 2, 3].map(|worker| balance.may_take_one(worker));
            assert_eq!(may_take_one, [true, false, false, false]);
        }
    }

    #[test]
    fn many_may_live_where_their_topics_are_as_long_as_the_others_have_nearly_as_many() {
        let balance = balance([1124, 1125, 875, 876]);
        assert!(balance.may_take_one(0) && !balance.may_take_one(1));
    }

    #[test]
    fn workers_take_turns_those_with_more_than_their_share_aside() {
        let turns = |balance: &Balance| -> Vec<usize> {
            let mut rotation = Rotation::default();
            (0..6).map(|_| rotation.next(balance)).collect()
        };
        assert_eq!(turns(&balance([0, 0, 0, 0])), [0, 1, 2, 3, 0, 1]);
        assert_eq!(turns(&balance([90, 110, 100, 100])), [0, 1, 2, 3, 0, 1]);
        assert_eq!(turns(&balance([1000, 500, 500, 500])), [1, 2, 3, 1, 2, 3]);
        assert_eq!(turns(&balance([1, 0, 0, 0])), [1, 2, 3, 1, 2, 3]);
        assert_eq!(turns(&balance([5, 5, 5, 1])), [3; 6]);
        assert_eq!(turns(&balance([7])), [0; 6]);
    }
}
