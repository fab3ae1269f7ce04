//! Counts the connections of each address, for `server.max_connections_per_ip`.
//!
//! The control thread and the workers share one [`Seats`]. Each connection holds a [`Seat`] until it is dropped, so the
//! count is exact. The callers refuse connections that get no seat.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::atomic::{AtomicU32, Ordering};
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
    /// 0 is no limit. A reload may change it.
    limit: AtomicU32,
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

/// An address has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSeat;

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
    /// Seats with a limit, or without one if `limit` is 0.
    pub(crate) fn new(limit: usize) -> Arc<Seats> {
        let seats = Seats {
            limit: AtomicU32::new(0),
            taken: Mutex::default(),
        };
        seats.set_limit(limit);
        Arc::new(seats)
    }

    /// Puts another limit in force. An address that has more seats keeps them, and gets no other until it has fewer.
    pub(crate) fn set_limit(&self, limit: usize) {
        // The configuration allows ten million at most.
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        // Relaxed, also below: no other data depends on it.
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a seat for a connection from `origin`; `None` if there is no limit, because nothing needs to be counted then.
    ///
    /// # Errors
    /// Its origin has as many as it may have.
    pub(crate) fn take(
        self: &Arc<Seats>,
        origin: impl Into<Origin>,
    ) -> Result<Option<Seat>, NoSeat> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Ok(None);
        }
        let origin = origin.into();
        match self.taken().entry(origin) {
            hash_map::Entry::Occupied(taken) if *taken.get() >= limit => return Err(NoSeat),
            hash_map::Entry::Occupied(mut taken) => *taken.get_mut() += 1,
            hash_map::Entry::Vacant(entry) => {
                entry.insert(1);
            }
        }
        Ok(Some(Seat {
            seats: self.clone(),
            origin,
        }))
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
        Seats::new(limit)
    }

    #[test]
    fn an_address_has_as_many_seats_as_the_limit_says_and_gets_each_back() {
        let seats = seats(2);
        let first = seats.take(address("192.0.2.1")).unwrap();
        let _second = seats.take(address("192.0.2.1")).unwrap();
        assert!(seats.take(address("192.0.2.1")).is_err());
        drop(first);
        assert!(seats.take(address("192.0.2.1")).is_ok());
    }

    #[test]
    fn another_address_has_seats_of_its_own() {
        let seats = seats(1);
        let _one = seats.take(address("192.0.2.1")).unwrap();
        assert!(seats.take(address("192.0.2.2")).is_ok());
        assert!(seats.take(address("::c000:201")).is_ok());
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_it_comes_mapped() {
        let seats = seats(1);
        let _one = seats.take(address("192.0.2.1")).unwrap();
        assert!(seats.take(address("::ffff:192.0.2.1")).is_err());
        assert!(seats.take(address("::ffff:192.0.2.2")).is_ok());
    }

    #[test]
    fn ipv6_addresses_count_by_the_network_of_64_bits() {
        let seats = seats(1);
        let _one = seats.take(address("2001:db8:0:1::1")).unwrap();
        assert!(seats.take(address("2001:db8:0:1:ffff::2")).is_err());
        assert!(seats.take(address("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn the_unix_socket_is_an_origin_of_its_own() {
        let seats = seats(1);
        let _one = seats.take(Peer::Unix).unwrap();
        assert!(seats.take(Peer::Unix).is_err());
        let _address = seats.take(Peer::Address(address("192.0.2.1"))).unwrap();
        assert!(seats.take(address("192.0.2.1")).is_err());
    }

    #[test]
    fn the_table_holds_nothing_of_those_who_are_gone() {
        let seats = seats(10);
        let crowd: Vec<Seat> = (0..10_000u32)
            .map(|n| seats.take(IpAddr::from(n.to_be_bytes())).unwrap().unwrap())
            .collect();
        assert_eq!(seats.taken().len(), 10_000);
        drop(crowd);
        assert!(seats.taken().is_empty());
        assert!(seats.taken().capacity() <= 2 * SPARE);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let seats = seats(0);
        assert!(seats.take(address("192.0.2.1")).unwrap().is_none());
        assert!(seats.taken().is_empty());
    }

    #[test]
    fn another_limit_holds_for_the_next_connection_and_takes_no_seat_away() {
        let seats = seats(2);
        let taken = [(); 2].map(|()| seats.take(address("192.0.2.1")).unwrap());
        seats.set_limit(1);
        assert!(seats.take(address("192.0.2.1")).is_err());
        let [one, other] = taken;
        drop(one);
        assert!(seats.take(address("192.0.2.1")).is_err());
        drop(other);
        let _last = seats.take(address("192.0.2.1")).unwrap().unwrap();
        seats.set_limit(0);
        assert!(seats.take(address("192.0.2.1")).unwrap().is_none());
        seats.set_limit(1);
        assert!(seats.take(address("192.0.2.1")).is_err());
    }

    #[test]
    fn threads_that_seat_the_same_address_never_exceed_the_limit() {
        let seats = seats(3);
        let seated = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Ok(_seat) = seats.take(address("192.0.2.1")) {
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
