//! On which worker a connection lives: to which it is given when it arrives ([`Rotation`]), and to which it moves once its
//! topic is known ([`Balance::home`], and [`Balance::filled_by`] where the topic has others already).
//!
//! Neither looks for the worker with the fewest. Arrivals are shared out evenly, because their handshakes are work. Clients
//! whose topic is known gather where it is, because every worker with clients of a topic takes a turn at each of its
//! fan-outs. With all on one processor, spread over eight workers, a delivery in a room of fifty that all send costs 1.28
//! times what it costs on one.

/// A worker is handed more connections until it has the average and one in so many above it. Where there are as many topics
/// as make moving worth while, chance spreads their owners more evenly than this, so that nearly all clients come to live
/// with their topics. Where they are few, or all clients are in one, the owner soon has no room. Then, once all workers are
/// filled, each other shard gets a member as soon as somebody arrives there, and nobody moves for that topic as long as they
/// are.
const EXCESS_SHARE: usize = 8;

/// Up to how many connections a worker is handed more, where `average` is the average and workers are filled to `fill_to`
/// one after the other; a few beyond, when several others hand over at once.
pub fn most_connections(average: usize, fill_to: usize) -> usize {
    with_excess(average).max(fill_to)
}

fn with_excess(average: usize) -> usize {
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

    /// The same as if `worker` had one less: the one of which the question is where it is to live.
    #[must_use]
    pub fn without_one_of(mut self, worker: usize) -> Self {
        self.connections[worker] = self.connections[worker].saturating_sub(1);
        self
    }

    /// The worker on which a client is to live whose topic `owner` owns, if that is to be another than the one that it is on,
    /// where nobody knows the topic yet.
    ///
    /// That is the owner as long as it has fewer than an eighth above the average; else it is the one that the topic fills.
    pub fn home(&self, owner: usize, fill_to: usize) -> Option<usize> {
        if self.connections[owner] < with_excess(self.average) {
            return Some(owner);
        }
        self.filled_by(owner, fill_to)
    }

    /// The worker that a topic of `owner` fills at present: beginning with the owner, going round, the first that has fewer
    /// connections than `fill_to`. Clients are to live there even if the topic has others where they are, so that a room of
    /// which most have left gathers again.
    pub fn filled_by(&self, owner: usize, fill_to: usize) -> Option<usize> {
        let workers = self.connections.len();
        let mut behind = (0..workers).map(|step| (owner + step) % workers);
        behind.find(|worker| self.connections[*worker] < fill_to)
    }

    /// Whether a worker may be given one that has just arrived. To what they are filled is no matter here.
    fn may_be_given_one(&self, worker: usize) -> bool {
        let connections = self.connections[worker];
        connections <= self.average || connections < with_excess(self.average)
    }
}

/// Whose turn it is to be given a connection that has just arrived: each worker's in turn, as long as it has no more than the
/// average and an eighth.
///
/// It is not the turn of the worker with the fewest: that one would be given all that arrive, their TLS handshakes with them,
/// as long as they move on to where their topics are. In return, a worker that has few for another reason stays behind until
/// the others have an eighth more than the average. Where all clients gather on a few workers, it is the others that do the
/// handshakes.
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

    /// Where clients come to live that ask one after the other for a topic of this owner.
    fn homes(mut connections: [usize; 4], owner: usize, clients: usize) -> [usize; 4] {
        for _ in 0..clients {
            let home = balance(connections).home(owner, 64);
            connections[home.expect("somebody has room")] += 1;
        }
        connections
    }

    #[test]
    fn a_room_fills_its_owner_and_then_one_worker_after_the_other_going_round() {
        assert_eq!(homes([0; 4], 2, 64), [0, 0, 64, 0]);
        assert_eq!(homes([0; 4], 2, 65), [0, 0, 64, 1]);
        assert_eq!(homes([0; 4], 2, 130), [2, 0, 64, 64]);
        assert_eq!(homes([0; 4], 2, 200), [64, 8, 64, 64]);
        // Others than the room's own count as well.
        assert_eq!(homes([10, 64, 60, 64], 1, 8), [14, 64, 64, 64]);
    }

    #[test]
    fn the_owner_may_have_an_eighth_more_than_the_average_whatever_others_have() {
        assert_eq!(balance([70, 70, 70, 60]).home(0, 64), Some(0));
        assert_eq!(balance([77, 70, 70, 60]).home(0, 64), Some(3));
    }

    #[test]
    fn a_topic_fills_the_first_worker_from_its_owner_on_that_is_not_filled_whatever_the_average() {
        assert_eq!(balance([64, 64, 63, 0]).filled_by(0, 64), Some(2));
        assert_eq!(balance([64, 10, 64, 64]).filled_by(2, 64), Some(1));
        assert_eq!(balance([70, 70, 70, 64]).filled_by(0, 64), None);
        assert_eq!(balance([0; 4]).filled_by(0, 0), None);
        assert_eq!(balance([64; 4]).without_one_of(2).filled_by(0, 64), Some(2));
    }

    #[test]
    fn where_all_are_filled_whoever_finds_no_room_stays() {
        assert_eq!(balance([64; 4]).home(0, 64), Some(0));
        assert_eq!(balance([75, 64, 64, 64]).home(0, 64), None);
        assert_eq!(balance([1125, 1124, 875, 876]).home(0, 64), None);
        assert_eq!(balance([1125, 1124, 875, 876]).home(1, 64), Some(1));
    }

    #[test]
    fn of_a_handful_of_clients_that_fill_nobody_none_moves_but_to_a_worker_below_the_average() {
        for average in 1..8 {
            let balance = balance([average - 1, average, average, average + 1]);
            let homes = [0, 1, 2, 3].map(|owner| balance.home(owner, 0));
            assert_eq!(homes, [Some(0), None, None, None]);
        }
    }

    #[test]
    fn many_may_live_where_their_topics_are_as_long_as_the_others_have_nearly_as_many() {
        let balance = balance([1124, 1125, 875, 876]);
        assert_eq!(balance.home(0, 0), Some(0));
        assert_eq!(balance.home(1, 0), None);
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
