//! Origins (RFC 6454): the site of the page that connects, and the sites that the relay allows.
//!
//! A browser lets any page open a WebSocket to any server. It names the page's site in `Origin`, and only the server
//! can refuse it (RFC 6455, section 10.2). The configuration reads each [`OriginPattern`] once, and `access` calls
//! [`is_allowed`] for each upgrade. Other programs can claim any origin, so this keeps out pages, not programs.
//!
//! Apps with a web view have schemes of their own, and hosts that no name server knows: `file://`, `app://.`,
//! `capacitor://localhost`. These are compared as they are.
//!
//! A pattern that can never match is refused with a better one. Otherwise an operator would rely on an entry that does
//! nothing.

use core::net::{Ipv4Addr, Ipv6Addr}; // only values: `std::net` also has sockets
use std::fmt;
use std::str::FromStr;

use super::authority::Authority;

/// The longest host name, and the longest label in it (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// The `Origin` of a page without a site, such as a file or a sandboxed frame.
const OPAQUE: &str = "null";

/// The pattern for pages that the relay's own host serves.
const SAME_ORIGIN: &str = "same-origin";

/// Words that other programs use for it.
const SAME_ORIGIN_ELSEWHERE: [&str; 7] = [
    "self",
    "'self'",
    "same_origin",
    "sameorigin",
    "same-site",
    "same_site",
    "samesite",
];

/// The schemes of pages from the web, and of the relay itself. Their origins have a host that browsers look up.
const WEB_SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// A pattern for allowed origins. `https://app.example.org:8443` is exactly that origin. `example.org` is that host
/// with any scheme and port. `*.example.org` is every host below it, at any depth. `app://*` is every origin with that
/// scheme. `null` is every opaque origin. `same-origin` is the host and port that the request itself is for.
///
/// It displays in lower case, without default ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Opaque,
    Same,
    Exact(Origin),
    Scheme(String),
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
    host: Host,
    /// `None` for the default port of the scheme.
    port: Option<u16>,
}

/// The host of an origin, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A host name, an IPv4 address, or an IPv6 address in brackets.
    Name(String),
    /// Any other text, or none, behind the scheme of an app.
    App(String),
}

/// Whether a pattern allows the origin in `value`, the content of an `Origin` field. The request is for `own`.
pub(crate) fn is_allowed(
    patterns: &[OriginPattern],
    value: &[u8],
    own: Option<Authority<'_>>,
) -> bool {
    if value == OPAQUE.as_bytes() {
        return patterns.contains(&OriginPattern(Pattern::Opaque));
    }
    let claimed = str::from_utf8(value).ok().and_then(Origin::parse);
    let allows = |origin: &Origin| {
        let mut patterns = patterns.iter();
        patterns.any(|pattern| pattern.matches(origin, own))
    };
    claimed.as_ref().is_some_and(allows)
}

impl OriginPattern {
    /// Whether it is a host of one word, which is more often a word that means nothing here.
    pub(crate) fn is_one_word(&self) -> bool {
        match &self.0 {
            Pattern::Host(host) => !host.contains(['.', ':']) && host != "localhost",
            Pattern::Opaque
            | Pattern::Same
            | Pattern::Exact(_)
            | Pattern::Scheme(_)
            | Pattern::Below(_) => false,
        }
    }

    /// Whether it is `null`, which stands for every page without a site.
    pub(crate) fn is_opaque(&self) -> bool {
        self.0 == Pattern::Opaque
    }

    fn matches(&self, origin: &Origin, own: Option<Authority<'_>>) -> bool {
        match (&self.0, &origin.host) {
            (Pattern::Same, _) => own.is_some_and(|own| origin.is_of(own)),
            (Pattern::Exact(exact), _) => exact == origin,
            (Pattern::Scheme(scheme), _) => *scheme == origin.scheme,
            (Pattern::Host(host), Host::Name(name)) => host == name,
            (Pattern::Below(parent), Host::Name(name)) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|labels| labels.ends_with('.')),
            (Pattern::Opaque, _) | (Pattern::Host(_) | Pattern::Below(_), Host::App(_)) => false,
        }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let pattern = if text.eq_ignore_ascii_case(OPAQUE) {
            Some(Pattern::Opaque)
        } else if text.eq_ignore_ascii_case(SAME_ORIGIN) {
            Some(Pattern::Same)
        } else if is_said_elsewhere(text) {
            None
        } else if let Some(scheme) = text.strip_suffix("://*") {
            let scheme = Some(scheme).filter(|scheme| is_scheme(scheme) && !is_web(scheme));
            scheme.map(|scheme| Pattern::Scheme(scheme.to_ascii_lowercase()))
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
            Pattern::Same => f.write_str(SAME_ORIGIN),
            Pattern::Exact(Origin { scheme, host, port }) => {
                let (Host::Name(host) | Host::App(host)) = host;
                write!(f, "{scheme}://{host}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Pattern::Scheme(scheme) => write!(f, "{scheme}://*"),
            Pattern::Host(host) => f.write_str(host),
            Pattern::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`, and nothing more. With the scheme of an app, the host may be anything
    /// that is not a path.
    fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = Some(scheme)
            .filter(|scheme| is_scheme(scheme))?
            .to_ascii_lowercase();
        if let Some((host, port)) = host_and_port(authority) {
            return Some(Origin {
                host: Host::Name(host),
                port: port.filter(|&port| Some(port) != default_port(&scheme)),
                scheme,
            });
        }
        let is_app = !is_web(&scheme) && authority.bytes().all(is_of_app);
        is_app.then(|| Origin {
            scheme,
            host: Host::App(authority.to_ascii_lowercase()),
            port: None,
        })
    }

    /// Whether a page with this origin comes from the server that `own` names, over HTTP with TLS or without. A proxy may end
    /// TLS, so the relay does not know which of both its clients use.
    fn is_of(&self, own: Authority<'_>) -> bool {
        let Some(default) = default_port(&self.scheme) else {
            return false;
        };
        let Some(own_host) = host(own.host) else {
            return false;
        };
        let own_port = own.port.unwrap_or(default);
        self.host == Host::Name(own_host) && self.port.unwrap_or(default) == own_port
    }
}

/// Reads `host` or `host:port`.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    // Skip the colons inside an IPv6 address.
    let end = authority.find(']').map_or(0, |bracket| bracket + 1);
    let (text, port) = match authority[end..].split_once(':') {
        None => (authority, None),
        Some((rest, port)) => (&authority[..end + rest.len()], Some(port_number(port)?)),
    };
    Some((host(text)?, port))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn is_web(scheme: &str) -> bool {
    WEB_SCHEMES
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web))
}

/// Whether a byte may stand in the host of an app.
fn is_of_app(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"/?#@*\\".contains(&byte)
}

fn is_said_elsewhere(text: &str) -> bool {
    SAME_ORIGIN_ELSEWHERE
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
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
    } else if is_said_elsewhere(text) {
        (
            "is not a word of fanwire",
            "`same-origin` for pages from the relay's own host and port",
        )
    } else if text == "file:" || scheme == Some("file") && has(&['/']) {
        ("is not an origin", "`file://`, which is every local file")
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
            "`*.` in front of a host and no scheme, as in `*.example.org`, or the scheme of an app, as in `app://*`",
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
        is_allowed(&[pattern(text)], origin.as_bytes(), None)
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
    fn apps_have_schemes_of_their_own_and_hosts_of_any_kind() {
        for origin in [
            "file://",
            "app://",
            "app://.",
            "app://-",
            "app://obsidian.md",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "chrome-extension://gighmmpiobklfepjocnamgkkbiglidom",
            "moz-extension://8c9a1a2b-5c1f-4b83-9d5c-0f0d6f5c2a11",
            "vscode-webview://1k6tqp0hjhdsvk4qtt8kv1v9ocnqpbbrj8pcn2sv7s6r7rrj1n4v",
            "x-app+1.0://a_b~c!d:e",
        ] {
            assert!(allows(origin, origin), "{origin}");
            assert!(!allows(origin, "app://other"), "{origin}");
            assert!(!allows(origin, "https://localhost"), "{origin}");
            let scheme = origin.split_once("://").unwrap().0;
            assert!(allows(&format!("{scheme}://*"), origin), "{origin}");
            assert!(!allows(&format!("{scheme}x://*"), origin), "{origin}");
        }
        assert!(!allows("file://", "null"));
        assert!(!allows("null", "file://"));
        assert!(!allows("file://", "file:///"));
        assert!(!allows("example.org", "app://~.example.org"));
        assert!(!allows("*.example.org", "app://~.example.org"));
        assert!(!allows("app://*", "app://user@host"));
        assert!(!allows("app://*", "app://a b"));
    }

    #[test]
    fn the_same_origin_is_the_host_and_port_of_the_request() {
        let allows = |origin: &str, host: &str| {
            let own = Authority::parse(host.as_bytes());
            is_allowed(&[pattern("same-origin")], origin.as_bytes(), own)
        };
        for (origin, host) in [
            ("https://a.example", "a.example"),
            ("https://A.example", "a.EXAMPLE"),
            ("http://a.example", "a.example"),
            ("https://a.example:8443", "a.example:8443"),
            ("https://a.example", "a.example:443"),
            ("http://a.example:80", "a.example:80"),
            ("http://[::1]:3000", "[0:0::1]:3000"),
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ] {
            assert!(allows(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://b.example", "a.example"),
            ("https://b.a.example", "a.example"),
            ("https://a.example", "a.example:8443"),
            ("https://a.example:8443", "a.example"),
            ("https://a.example", "a.example:80"),
            ("app://a.example", "a.example"),
            ("null", "null"),
            ("https://same-origin", "a.example"),
            ("https://a.example", ""),
        ] {
            assert!(!allows(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn a_host_of_one_word_is_suspicious() {
        for word in ["chat", "none", "example"] {
            assert!(pattern(word).is_one_word(), "{word}");
        }
        for fine in [
            "localhost",
            "a.example",
            "127.0.0.1",
            "[::1]",
            "*.lan",
            "https://intranet",
            "same-origin",
            "null",
            "app://*",
        ] {
            assert!(!pattern(fine).is_one_word(), "{fine}");
        }
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
            b"https://example.org\xff",
            None
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
            ("NULL", "null"),
            ("Same-Origin", "same-origin"),
            ("File://", "file://"),
            ("App://*", "app://*"),
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
            ("https://*", "has a wildcard"),
            ("app://*.example", "has a wildcard"),
            ("self", "is not a word of fanwire"),
            ("'self'", "is not a word of fanwire"),
            ("sameOrigin", "is not a word of fanwire"),
            ("file:", "is not an origin"),
            ("file:///", "is not an origin"),
            ("file:///a/b.html", "is not an origin"),
            ("app://user@host", "is not a host"),
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
