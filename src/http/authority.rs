//! The authority of a URI: a host, with or without a port (RFC 3986, section 3.2).
//!
//! A `Host` field has one, and so has a target in absolute form. [`super::request`] and [`super::target`] call
//! [`Authority::parse`]. It refuses an empty host and userinfo, as RFC 9110 demands for `http` (sections 4.2.1 and 4.2.4).
//! It resolves no name.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr}; // only values: `std::net` also has sockets

/// A valid authority, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IP literal in brackets. Never empty.
    pub host: &'a str,
    /// The port, if there is one.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`, and nothing more. The port may be empty, which is the default port.
    pub fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let text = str::from_utf8(text).ok()?;
        let (host, rest) = if text.starts_with('[') {
            let (host, rest) = text.split_at(text.find(']')? + 1);
            (is_literal(host).then_some(host)?, rest)
        } else {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_name(host).then_some(host)?, rest)
        };
        let port = match rest.strip_prefix(':') {
            Some("") => None,
            Some(port) => Some(port_number(port)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Authority { host, port })
    }

    /// Whether the host is this machine, whatever a name server says: `localhost`, `127.0.0.0/8` or `[::1]`.
    pub(crate) fn is_loopback(&self) -> bool {
        let literal = self
            .host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address = match literal {
            Some(literal) => literal.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => self.host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        match address {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// A port in digits. Rust's own parser would also accept a sign.
fn port_number(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// `[IPv6address]`, or `[vX.text]` of a later version. Some libraries leave the zone of a link-local address in their
/// `Host`, against RFC 6874. They are served.
fn is_literal(text: &str) -> bool {
    let inner = &text[1..text.len() - 1];
    let (address, zone) = match inner.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (inner, None),
    };
    let is_address = address.parse::<Ipv6Addr>().is_ok() || is_later_version(address);
    is_address && zone.is_none_or(|zone| !zone.is_empty() && zone.bytes().all(is_zone))
}

fn is_later_version(text: &str) -> bool {
    let Some((version, address)) = text
        .strip_prefix(['v', 'V'])
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let is_part = |byte: u8| is_unreserved(byte) || is_sub_delim(byte) || byte == b':';
    !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !address.is_empty()
        && address.bytes().all(is_part)
}

/// A registered name that is not empty. Every IPv4 address is one, too.
fn is_name(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            _ if is_unreserved(byte) || is_sub_delim(byte) => after,
            _ => return false,
        };
    }
    !text.is_empty()
}

fn is_zone(byte: u8) -> bool {
    is_unreserved(byte) || byte == b'%'
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_sub_delim(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(&str, Option<u16>)> {
        Authority::parse(text.as_bytes()).map(|authority| (authority.host, authority.port))
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, host, port) in [
            ("relay.example.org", "relay.example.org", None),
            ("localhost:8443", "localhost", Some(8443)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[::1]:8443", "[::1]", Some(8443)),
            ("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]", None),
            ("[fe80::1%25eth0]:1", "[fe80::1%25eth0]", Some(1)),
            ("[fe80::1%eth0]", "[fe80::1%eth0]", None),
            ("[v1.a:b]", "[v1.a:b]", None),
            ("my_service-1.local.", "my_service-1.local.", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("b%C3%BCcher.example", "b%C3%BCcher.example", None),
            ("a!$&'()*+,;=~", "a!$&'()*+,;=~", None),
            ("a:", "a", None),
            ("a:0", "a", Some(0)),
            ("a:00080", "a", Some(80)),
            ("a:65535", "a", Some(65535)),
        ] {
            assert_eq!(parse(text), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn only_loopback_hosts_are_this_machine() {
        let is_loopback = |text: &str| Authority::parse(text.as_bytes()).unwrap().is_loopback();
        for text in [
            "localhost",
            "LocalHost:80",
            "127.0.0.1:8443",
            "127.9.9.9",
            "[::1]",
            "[0:0::1]:1",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(text), "{text}");
        }
        // A name server may send any name to this machine.
        for text in [
            "localhost.example",
            "127.0.0.1.example",
            "128.0.0.1",
            "0.0.0.0",
            "127.1",
            "[::]",
            "[::2]",
            "[::1%25lo]",
            "localhost.",
        ] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_authority() {
        for text in [
            "",
            ":",
            ":80",
            "a b",
            "a\tb",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "user@a",
            "user:secret@a",
            "a:99999",
            "a:65536",
            "a:+80",
            "a:-1",
            "a:8o",
            "a:80:80",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]x",
            "[::1]80",
            "[a]",
            "[fe80::1%]",
            "[fe80::1%a/b]",
            "[v.a]",
            "[v1.]",
            "[v1]",
            "[vg.a]",
            "é.org",
            "a%",
            "a%2",
            "a%zz",
            "a<b>",
            "\"a\"",
            "a|b",
            "a^b",
            "`a`",
            "{a}",
            "http://a",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(Authority::parse(b"a\xff"), None);
    }
}
