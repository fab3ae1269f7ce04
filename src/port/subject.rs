//! The subject of a request: the one whose requests are counted together.
//!
//! Rates and `Idempotency-Key` go by it. It is the bearer of a request's grants, if they name one, and else the address that the
//! request comes from.

use core::net::IpAddr;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use crate::access::Bearer;
use crate::access::grants::Issuer;

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
    /// Everybody with a name from an issuer. This is the digest of both: names have any length, and tables of subjects have a
    /// bound in bytes.
    Bearer([u8; SHA256_OUTPUT_LEN]),
}

impl From<Bearer<'_>> for Subject {
    fn from(bearer: Bearer<'_>) -> Subject {
        let mut digest = Context::new(&SHA256);
        // The length in front keeps the issuer and the name apart.
        let mut add = |kind: u8, text: &str| {
            digest.update(&[kind]);
            digest.update(&(text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        };
        match bearer.issuer {
            Issuer::Proxy => add(0, ""),
            Issuer::Signer(None) => add(1, ""),
            Issuer::Signer(Some(issuer)) => add(2, issuer),
        }
        add(3, bearer.name);
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest.finish().as_ref());
        Subject::Bearer(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearers_of_two_issuers_are_not_mixed_up() {
        let of = |issuer: &Issuer, name| Subject::from(Bearer { issuer, name });
        let signer = |name: &str| Issuer::Signer(Some(name.into()));
        let all = [
            of(&Issuer::Proxy, "42"),
            of(&Issuer::Signer(None), "42"),
            of(&signer(""), "42"),
            of(&signer("a"), "42"),
            of(&signer("b"), "42"),
            of(&signer("a4"), "2"),
            of(&signer("a"), "43"),
        ];
        for (index, subject) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(subject), "{index}");
        }
        assert_eq!(of(&signer("a"), "42"), all[3]);
    }
}
