//! Origins (RFC 6454): the site of the page that connects, and the sites that the relay allows.
//!
//! A browser lets any page open a WebSocket to any server. It names the page's site in `Origin`, and only the server
//! can refuse it (RFC 6455, section 10.2). The configuration reads each [`OriginPattern`] once, and `access` calls
//! [`is_allowed`] for each upgrade. Other programs can claim any origin, so this keeps out pages, not programs.
//!
//! A pattern that can never match is refused with a better one. Otherwise an operator would rely on an entry that does
//! nothing.

use core::net::{Ipv4Addr, Ipv6Addr}; // only values: `std::net` also has sockets
use std::fmt;
use std::str::FromStr;

/// The longest host name, and the longest label in it (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// The `Origin` of a page without a site, such as a file or a sandboxed frame.
const OPAQUE: &str = "null";

/// A pattern for allowed origins. `https://app.example.org:8443` is exactly that origin. `example.org` is that host
/// with any scheme and port. `*.example.org` is every host below it, at any depth. `null` is every opaque origin.
///
/// It displays in lower case, without default ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Opaque,
    Exact(Origin),
    Host(String),
    Below(String),
}

/// The reason for which a pattern can never match, and what to write instead. Both are parts of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError {
    /// Follows `which`.
    pub problem: &'static str,
    /// Follows `use`.
    pub remedy: &'static str,
}

/// A normalised origin: two equal origins are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    /// A host name, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    /// `None` for the default port of the scheme.
    port: Option<u16>,
}

/// Whether a pattern allows the origin in `value`, the content of an `Origin` field.
pub(crate) fn is_allowed(patterns: &[OriginPattern], value: &[u8]) -> bool {
    if value == OPAQUE.as_bytes() {
        return patterns.contains(&OriginPattern(Pattern::Opaque));
    }
    let claimed = str::from_utf8(value).ok().and_then(Origin::parse);
    claimed.is_some_and(|origin| patterns.iter().any(|pattern| pattern.matches(&origin)))
}

impl OriginPattern {
    fn matches(&self, origin: &Origin) -> bool {
        match &self.0 {
            Pattern::Opaque => false,
            Pattern::Exact(exact) => exact == origin,
            Pattern::Host(host) => *host == origin.host,
            Pattern::Below(parent) => origin
                .host
                .strip_suffix(parent.as_str())
                .is_some_and(|labels| labels.ends_with('.')),
        }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let pattern = if text == OPAQUE {
            Some(Pattern::Opaque)
        } else if let Some(parent) = text.strip_prefix("*.") {
            name(parent).map(Pattern::Below)
        } else if text.contains("://") {
            Origin::parse(text)
                .filter(|origin| !is_websocket(&origin.scheme))
                .map(Pattern::Exact)
        } else {
            host(text).map(Pattern::Host)
        };
        pattern.map(OriginPattern).ok_or_else(|| diagnose(text))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Opaque => f.write_str(OPAQUE),
            Pattern::Exact(Origin { scheme, host, port }) => {
                write!(f, "{scheme}://{host}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Pattern::Host(host) => f.write_str(host),
            Pattern::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`, and nothing more.
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = Some(scheme)
            .filter(|scheme| is_scheme(scheme))?
            .to_ascii_lowercase();
        // Skip the colons inside an IPv6 address.
        let end = authority.find(']').map_or(0, |bracket| bracket + 1);
        let (host_text, port) = match authority[end..].split_once(':') {
            None => (authority, None),
            Some((rest, port)) => (&authority[..end + rest.len()], Some(port_number(port)?)),
        };
        let default = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(Origin {
            host: host(host_text)?,
            port: port.filter(|_| port != default),
            scheme,
        })
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(allowed)
}

fn is_websocket(scheme: &str) -> bool {
    matches!(scheme, "ws" | "wss")
}

/// A port in digits. Rust's own parser would also accept a sign.
fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port > 0)
}

/// A host in lower case, as browsers send it.
fn host(text: &str) -> Option<String> {
    if let Some(address) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    name(text)
}

/// A host name in lower case. A name that ends in a number is an address or a mistake (WHATWG URL, section 3.5).
fn name(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label =
        |label: &str| (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.bytes().all(allowed);
    let ends_in_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let is_name = text.len() <= MAX_HOST_BYTES && text.split('.').all(is_label) && !ends_in_number;
    is_name.then(|| text.to_ascii_lowercase())
}

/// The first reason why `text` is not a valid pattern.
fn diagnose(text: &str) -> OriginError {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let has = |characters: &[char]| rest.contains(characters);
    let (problem, remedy) = if text == "*" {
        ("matches no origin", "an empty list to allow every origin")
    } else if text.contains(char::is_whitespace) {
        ("contains white space", "one entry for each origin")
    } else if !text.is_ascii() {
        (
            "is not ASCII",
            "the host as browsers send it, in its `xn--` form",
        )
    } else if has(&['/', '?', '#']) {
        (
            "has more than a scheme, host and port",
            "an origin without a path",
        )
    } else if scheme.is_some_and(|scheme| is_websocket(&scheme.to_ascii_lowercase())) {
        (
            "has the relay's scheme",
            "the scheme of the page that connects, `https://` or `http://`",
        )
    } else if has(&['*']) {
        (
            "has a wildcard in the wrong place",
            "`*.` in front of a host and no scheme, as in `*.example.org`",
        )
    } else if scheme.is_none() && text.parse::<Ipv6Addr>().is_ok() {
        ("needs brackets", "the IPv6 address in brackets")
    } else if scheme.is_none() && has(&[':']) {
        (
            "has a port but no scheme",
            "the scheme too, as in `https://example.org:8443`, or no port",
        )
    } else {
        (
            "is not a host that a browser could send",
            "an origin such as `https://app.example.org`, or a host such as `example.org`",
        )
    };
    OriginError { problem, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    fn allows(text: &str, origin: &str) -> bool {
        is_allowed(&[pattern(text)], origin.as_bytes())
    }

    #[test]
    fn an_exact_origin_allows_only_itself() {
        let exact = "https://app.example.org";
        assert!(allows(exact, exact));
        for other in [
            "http://app.example.org",
            "https://app.example.org:8443",
            "https://example.org",
            "https://x.app.example.org",
            "https://app.example.org.evil.example",
            "https://evilapp.example.org",
        ] {
            assert!(!allows(exact, other), "{other}");
        }
        assert!(allows("http://localhost:3000", "http://localhost:3000"));
        assert!(!allows("http://localhost:3000", "http://localhost"));
    }

    #[test]
    fn case_and_default_ports_make_no_difference() {
        assert!(allows(
            "HTTPS://App.Example.Org:443",
            "https://app.example.org"
        ));
        assert!(allows(
            "https://app.example.org",
            "https://APP.example.org:443"
        ));
        assert!(allows("http://example.org", "http://example.org:80"));
        assert!(!allows("https://example.org", "https://example.org:80"));
    }

    #[test]
    fn a_host_is_allowed_with_any_scheme_and_port() {
        for origin in [
            "https://example.org",
            "http://EXAMPLE.org:8080",
            "capacitor://example.org",
        ] {
            assert!(allows("example.org", origin), "{origin}");
        }
        for origin in [
            "https://a.example.org",
            "https://example.org.evil",
            "https://notexample.org",
        ] {
            assert!(!allows("example.org", origin), "{origin}");
        }
    }

    #[test]
    fn a_wildcard_allows_hosts_below_at_any_depth_but_not_the_parent() {
        assert!(allows("*.example.org", "https://a.example.org"));
        assert!(allows("*.Example.org", "http://a.b.EXAMPLE.org:81"));
        for origin in [
            "https://example.org",
            "https://notexample.org",
            "https://a.example.org.evil",
            "https://.example.org",
            "https://a..example.org",
        ] {
            assert!(!allows("*.example.org", origin), "{origin}");
        }
    }

    #[test]
    fn addresses_are_hosts() {
        assert!(allows("http://127.0.0.1:3000", "http://127.0.0.1:3000"));
        assert!(allows("[0:0::1]", "http://[::1]:3000"));
        assert!(allows("http://[::1]:3000", "http://[::1]:3000"));
        assert!(!allows("http://[::1]:3000", "http://[::1]"));
    }

    #[test]
    fn an_opaque_origin_is_allowed_if_it_is_listed() {
        assert!(allows("null", "null"));
        assert!(!allows("example.org", "null"));
        assert!(!allows("null", "https://null"));
        assert!(!allows("null", "NULL"));
    }

    #[test]
    fn no_pattern_allows_an_invalid_origin() {
        for value in [
            "",
            "example.org",
            "//example.org",
            "://example.org",
            "https://",
            "https://example.org/",
            "https://example.org?",
            "https://user@example.org",
            "https://example.org https://evil.example",
            "https://example.org:",
            "https://example.org:x",
            "https://example.org:+443",
            "https://example.org:65536",
            "https://[example.org",
            "https://example.org]",
            "https://evil.example]example.org",
        ] {
            assert!(!allows("example.org", value), "{value}");
        }
        assert!(!is_allowed(
            &[pattern("example.org")],
            b"https://example.org\xff"
        ));
    }

    #[test]
    fn a_displayed_pattern_reads_as_the_same_pattern() {
        for (text, shown) in [
            ("null", "null"),
            ("HTTPS://A.example:443", "https://a.example"),
            ("https://a.example:8443", "https://a.example:8443"),
            ("A.example", "a.example"),
            ("*.A.example", "*.a.example"),
            ("http://[0::1]:80", "http://[::1]"),
        ] {
            assert_eq!(pattern(text).to_string(), shown);
            assert_eq!(pattern(shown), pattern(text));
        }
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused_with_a_remedy() {
        for (text, problem) in [
            ("*", "matches no origin"),
            (
                "https://a.example https://b.example",
                "contains white space",
            ),
            ("a.example ", "contains white space"),
            ("https://bücher.example", "is not ASCII"),
            ("https://a.example/", "has more than"),
            ("a.example/chat", "has more than"),
            ("https://a.example?x", "has more than"),
            ("wss://a.example", "has the relay's scheme"),
            ("WS://a.example", "has the relay's scheme"),
            ("https://*.a.example", "has a wildcard"),
            ("a.*.example", "has a wildcard"),
            ("*a.example", "has a wildcard"),
            ("*.127.0.0.1", "has a wildcard"),
            ("*.*.a.example", "has a wildcard"),
            ("::1", "needs brackets"),
            ("a.example:8080", "has a port but no scheme"),
            ("", "is not a host"),
            ("https://", "is not a host"),
            ("https://a.example:0", "is not a host"),
            ("https://a.example:", "is not a host"),
            ("https://user@a.example", "is not a host"),
            (".a.example", "is not a host"),
            ("a.example.", "is not a host"),
            ("a..example", "is not a host"),
            ("1.2.3", "is not a host"),
            ("256.1.1.1", "is not a host"),
            ("1https://a.example", "is not a host"),
            ("~", "is not a host"),
        ] {
            let error = text.parse::<OriginPattern>().expect_err(text);
            assert!(
                error.problem.starts_with(problem) && !error.remedy.is_empty(),
                "{text}: {error:?}"
            );
        }
        assert!("a".repeat(64).parse::<OriginPattern>().is_err());
        assert!("a.".repeat(127).parse::<OriginPattern>().is_err());
    }
}
