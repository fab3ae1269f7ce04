//! Counts the connections of each address, for `server.max_connections_per_ip`.
//!
//! The control thread and the workers share one [`Seats`]. Each connection holds a [`Seat`] until it is dropped, so the
//! count is exact. The callers refuse connections that get no seat.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::listener::Peer;
use super::proxy::Preface;
pub(crate) use crate::port::subject::Origin;

impl From<Peer> for Origin {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Address(address) => address.into(),
            Peer::Unix => Origin::Unix,
        }
    }
}

/// The seats that are taken, by origin. An origin without connections has no entry.
///
/// It is locked, because two threads may seat the same origin at once, and the limit is exact. A connection takes the lock
/// for one look-up when it comes and when it goes. The hash is keyed at random, so nobody can choose addresses that
/// collide.
#[derive(Debug)]
pub(crate) struct Seats {
    limit: u32,
    taken: Mutex<HashMap<Origin, u32>>,
}

/// The place of a connection among those of its address. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    origin: Origin,
}

/// The control thread hands it over with a connection. It takes no memory if addresses are not limited and no proxy is
/// trusted.
pub(crate) type Admission = Option<Box<Entry>>;

/// See [`Admission`].
#[derive(Debug)]
pub(crate) enum Entry {
    /// The connection comes from this proxy and begins with a header. The client that it names gets a seat.
    Header(Preface, Peer),
    /// The connection comes from this proxy, which names its client in the request. The client gets a seat then.
    Proxy(Peer),
    /// The seat of the connection, held until it is gone.
    Seat(#[expect(dead_code, reason = "its drop gives the seat back")] Seat),
}

impl Seats {
    /// Seats with a limit; `None` if `limit` is 0, because nothing needs to be counted then.
    pub(crate) fn new(limit: usize) -> Option<Arc<Seats>> {
        (limit > 0).then(|| {
            Arc::new(Seats {
                // The configuration allows ten million at most.
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
                taken: Mutex::default(),
            })
        })
    }

    /// Takes a seat for a connection from `origin`; `None` if its origin has as many as it may have.
    pub(crate) fn take(self: &Arc<Seats>, origin: impl Into<Origin>) -> Option<Seat> {
        let origin = origin.into();
        match self.taken().entry(origin) {
            hash_map::Entry::Occupied(taken) if *taken.get() >= self.limit => return None,
            hash_map::Entry::Occupied(mut taken) => *taken.get_mut() += 1,
            hash_map::Entry::Vacant(entry) => {
                entry.insert(1);
            }
        }
        Some(Seat {
            seats: self.clone(),
            origin,
        })
    }

    fn give_up(&self, origin: Origin) {
        let mut taken = self.taken();
        let hash_map::Entry::Occupied(mut entry) = taken.entry(origin) else {
            unreachable!("a seat is counted as long as it lives");
        };
        *entry.get_mut() -= 1;
        if *entry.get() > 0 {
            return;
        }
        entry.remove();
        if taken.capacity() > SPARE + 4 * taken.len() {
            // The room that a crowd needed is given back.
            let room = 2 * taken.len();
            taken.shrink_to(room);
        }
    }

    /// Nothing panics while it holds the lock, so a poisoned table is whole.
    fn taken(&self) -> MutexGuard<'_, HashMap<Origin, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries for which the table always keeps room.
const SPARE: usize = 64;

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.give_up(self.origin);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn seats(limit: usize) -> Arc<Seats> {
        Seats::new(limit).unwrap()
    }

    #[test]
    fn an_address_has_as_many_seats_as_the_limit_says_and_gets_each_back() {
        let seats = seats(2);
        let first = seats.take(address("192.0.2.1")).unwrap();
        let _second = seats.take(address("192.0.2.1")).unwrap();
        assert!(seats.take(address("192.0.2.1")).is_none());
        drop(first);
        assert!(seats.take(address("192.0.2.1")).is_some());
    }

    #[test]
    fn another_address_has_seats_of_its_own() {
        let seats = seats(1);
        let _one = seats.take(address("192.0.2.1")).unwrap();
        assert!(seats.take(address("192.0.2.2")).is_some());
        assert!(seats.take(address("::c000:201")).is_some());
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_it_comes_mapped() {
        let seats = seats(1);
        let _one = seats.take(address("192.0.2.1")).unwrap();
        assert!(seats.take(address("::ffff:192.0.2.1")).is_none());
        assert!(seats.take(address("::ffff:192.0.2.2")).is_some());
    }

    #[test]
    fn ipv6_addresses_count_by_the_network_of_64_bits() {
        let seats = seats(1);
        let _one = seats.take(address("2001:db8:0:1::1")).unwrap();
        assert!(seats.take(address("2001:db8:0:1:ffff::2")).is_none());
        assert!(seats.take(address("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn the_unix_socket_is_an_origin_of_its_own() {
        let seats = seats(1);
        let _one = seats.take(Peer::Unix).unwrap();
        assert!(seats.take(Peer::Unix).is_none());
        let _address = seats.take(Peer::Address(address("192.0.2.1"))).unwrap();
        assert!(seats.take(address("192.0.2.1")).is_none());
    }

    #[test]
    fn the_table_holds_nothing_of_those_who_are_gone() {
        let seats = seats(10);
        let crowd: Vec<Seat> = (0..10_000u32)
            .map(|n| seats.take(IpAddr::from(n.to_be_bytes())).unwrap())
            .collect();
        assert_eq!(seats.taken().len(), 10_000);
        drop(crowd);
        assert!(seats.taken().is_empty());
        assert!(seats.taken().capacity() <= 2 * SPARE);
    }

    #[test]
    fn no_limit_is_no_table() {
        assert!(Seats::new(0).is_none());
    }

    #[test]
    fn threads_that_seat_the_same_address_never_exceed_the_limit() {
        let seats = seats(3);
        let seated = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(_seat) = seats.take(address("192.0.2.1")) {
                            let before = seated.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            assert!(before < 3);
                            seated.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(seats.taken().is_empty());
    }
}
