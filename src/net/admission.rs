//! How many connections each address has, for `server.max_connections_per_ip`.
//!
//! The acceptor and the workers share one [`Seats`]. A connection that may stay holds a [`Seat`] until it is dropped,
//! whatever ends it, so the count is exact without anybody having to remember it. Refusing is the callers' work.

use std::collections::HashMap;
use std::collections::hash_map;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::proxy::Preface;

/// Whose connections are counted together.
///
/// An IPv6 address counts by its first 64 bits: that is the least that one subscriber is given (RFC 6177), and whoever
/// has one address of it has 2⁶⁴. A limit on single addresses would limit nobody, and its table would have no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        // On a socket that listens on `::`, IPv4 comes mapped (RFC 4291, section 2.5.5.2).
        match address.to_canonical() {
            IpAddr::V4(address) => Origin::V4(address.to_bits()),
            // The upper half fits.
            IpAddr::V6(address) => Origin::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The seats that are taken, by origin. An origin without connections has no entry, so that the table is never larger
/// than the connections are many.
///
/// A lock, because two threads may seat the same origin at once, and the limit is exact. It is not on the path of any
/// message: a connection takes it when it comes and when it goes, for one look-up. The hash is keyed at random
/// (`RandomState`), so that nobody can choose addresses that collide.
#[derive(Debug)]
pub struct Seats {
    limit: u32,
    taken: Mutex<HashMap<Origin, u32>>,
}

/// One connection's place among those of its address. Dropping it gives it up.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    origin: Origin,
}

/// What a connection brings from the acceptor. Nothing, and no memory, where addresses are not limited and no proxy is
/// believed.
pub type Admission = Option<Box<Entry>>;

/// See [`Admission`].
#[derive(Debug)]
pub enum Entry {
    /// The connection is a proxy's, and begins with a header. Whom that names is seated when it is there.
    Header(Preface),
    /// Held until the connection is gone.
    Seat(Seat),
}

impl Seats {
    /// Seats without limit are none: what is not limited is not counted.
    pub fn new(limit: usize) -> Option<Arc<Seats>> {
        (limit > 0).then(|| {
            Arc::new(Seats {
                // More connections than that there are not.
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
                taken: Mutex::default(),
            })
        })
    }

    /// Takes a seat for a connection from `address`; none when all that its origin may have are taken.
    pub fn take(self: &Arc<Seats>, address: IpAddr) -> Option<Seat> {
        let origin = Origin::from(address);
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
            // What a crowd needed is given back, at a cost that its leaving has paid for.
            let room = 2 * taken.len();
            taken.shrink_to(room);
        }
    }

    /// Nothing panics while it holds the lock, so what a thread that panicked leaves behind is whole.
    fn taken(&self) -> MutexGuard<'_, HashMap<Origin, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room in the table that is not worth giving back, in entries.
const SPARE: usize = 64;

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.give_up(self.origin);
    }
}

#[cfg(test)]
mod tests {
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
    fn the_table_holds_nothing_of_those_who_are_gone() {
        let seats = seats(10);
        let crowd: Vec<Seat> = (0..10_000u32)
            .map(|n| seats.take(IpAddr::V4(n.into())).unwrap())
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
