//! The worker on which a connection lives: the one that gets it when it arrives ([`Rotation`]), and whether it moves once its
//! topic is known ([`Balance::has_room`]).
//!
//! Workers take turns at arrivals, because handshakes are work. A client then moves to the worker that owns its topic, unless
//! that worker has its share of connections already.
//!
//! It pays to keep a room together, because each fan-out of a topic wakes every worker that has clients of it. With eight
//! workers on one processor, a delivery in a room of fifty occasional senders costs 1.3 times as much if the room is spread.

/// Clients move to a worker until it has an eighth more than the average. If there are enough topics for moving to be
/// worthwhile, chance spreads their owners more evenly than this, and nearly all clients live with their topics.
const EXCESS_SHARE: usize = 8;

/// The number of connections up to which a worker gets more. `average` is the average of all workers, and `fill_to` is what any
/// worker may have. A few come beyond it if several workers hand over at once.
pub(crate) fn most_connections(average: usize, fill_to: usize) -> usize {
    (average + average / EXCESS_SHARE).max(fill_to)
}

/// The connections of all workers, each counted at its own moment.
#[derive(Debug)]
pub(crate) struct Balance {
    connections: Vec<usize>,
}

impl Balance {
    /// Workers with these numbers of connections.
    pub(crate) fn of(connections: impl Iterator<Item = usize>) -> Self {
        Balance {
            connections: connections.collect(),
        }
    }

    /// Whether a client may move to `worker`: it has fewer connections than its share, which is at least `fill_to`.
    pub(crate) fn has_room(&self, worker: usize, fill_to: usize) -> bool {
        let average = self.connections.iter().sum::<usize>() / self.connections.len();
        self.connections[worker] < most_connections(average, fill_to)
    }
}

/// The worker that gets the next arrival.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    next: usize,
}

impl Rotation {
    /// The next of `workers` workers. The turn passes to the one after it.
    pub(crate) fn next(&mut self, workers: usize) -> usize {
        let worker = self.next;
        self.next = (worker + 1) % workers;
        worker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_room<const N: usize>(connections: [usize; N], fill_to: usize) -> [bool; N] {
        let balance = Balance::of(connections.into_iter());
        std::array::from_fn(|worker| balance.has_room(worker, fill_to))
    }

    #[test]
    fn a_worker_has_room_until_it_is_filled_whatever_others_have() {
        assert_eq!(has_room([63, 64, 0, 0], 64), [true, false, true, true]);
    }

    #[test]
    fn a_worker_has_room_for_an_eighth_more_than_the_average() {
        assert_eq!(
            has_room([1124, 1125, 875, 876], 64),
            [true, false, true, true]
        );
    }

    #[test]
    fn of_a_handful_of_clients_none_moves_but_to_a_worker_below_the_average_where_nobody_is_filled()
    {
        for average in 1..8 {
            let connections = [average - 1, average, average, average + 1];
            assert_eq!(has_room(connections, 0), [true, false, false, false]);
        }
    }

    #[test]
    fn workers_take_turns() {
        let mut rotation = Rotation::default();
        let turns: Vec<usize> = (0..5).map(|_| rotation.next(3)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1]);
        assert_eq!(Rotation::default().next(1), 0);
    }
}
