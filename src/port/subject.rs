//! The subject of a request: the one whose requests are counted together.
//!
//! Rates and `Idempotency-Key` go by it. Today it is the address that a request comes from. A token that names its bearer would
//! be a second variant.

use core::net::IpAddr;

/// The addresses that are counted together.
///
/// An IPv6 address counts by its first 64 bits, because a subscriber gets at least all addresses behind those (RFC 6177).
/// A limit on single addresses would limit nobody, and its table would have no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// An IPv4 address.
    V4(u32),
    /// The first half of an IPv6 address.
    V6(u64),
    /// The Unix socket: all clients that the proxies there do not name.
    #[default]
    Unix,
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        // A socket that listens on `::` gets IPv4 addresses mapped (RFC 4291, section 2.5.5.2).
        match address.to_canonical() {
            IpAddr::V4(address) => Origin::V4(address.to_bits()),
            // The upper half fits.
            IpAddr::V6(address) => Origin::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Everybody at an address, or in a network.
    Address(Origin),
}
