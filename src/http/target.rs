//! The target of a request (RFC 9112, section 3.2): its path and query, and the host that it may name.
//!
//! [`RequestHead::target_uri`](super::request::RequestHead::target_uri) calls [`TargetUri::parse`]. Nothing is decoded
//! here. Targets in authority form and in asterisk form name no resource of the relay, and are refused.

use super::authority::Authority;

/// The schemes of a target in absolute form.
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// A target in origin form or in absolute form, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetUri<'a> {
    /// The host of a target in absolute form. It counts instead of the `Host` field (section 3.2.2).
    pub authority: Option<Authority<'a>>,
    /// The path. It begins with `/`.
    pub path: &'a str,
    /// The part behind the first `?`; empty if there is none.
    pub query: &'a str,
}

impl<'a> TargetUri<'a> {
    /// Reads `/path?query` or `http://host/path?query`. In absolute form, an empty path is `/` (RFC 9110, section 4.2.3).
    /// `None` for anything else, and for a target with a fragment.
    pub(super) fn parse(target: &'a str) -> Option<TargetUri<'a>> {
        if target.contains('#') {
            return None;
        }
        let (authority, path_and_query) = if target.starts_with('/') {
            (None, target)
        } else {
            let (scheme, rest) = target.split_once("://")?;
            if !SCHEMES
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
            {
                return None;
            }
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(Authority::parse(authority.as_bytes())?), rest)
        };
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        Some(TargetUri {
            authority,
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> Option<(&str, &str)> {
        TargetUri::parse(target).map(|uri| (uri.path, uri.query))
    }

    #[test]
    fn a_target_in_origin_form_is_a_path_and_a_query() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a/b?c=d", "/a/b", "c=d"),
            ("/?", "/", ""),
            ("/a?b?c", "/a", "b?c"),
            ("//a", "//a", ""),
            ("/http://a/b", "/http://a/b", ""),
        ] {
            assert_eq!(parts(target), Some((path, query)), "{target}");
            assert_eq!(TargetUri::parse(target).unwrap().authority, None);
        }
    }

    #[test]
    fn a_target_in_absolute_form_names_its_host_and_an_empty_path_is_the_root() {
        for (target, host, port, path, query) in [
            ("http://host/a?b", "host", None, "/a", "b"),
            ("WSS://host:1/a://b", "host", Some(1), "/a://b", ""),
            ("http://host", "host", None, "/", ""),
            ("http://host:80", "host", Some(80), "/", ""),
            ("http://host?q=/", "host", None, "/", "q=/"),
            ("ws://[::1]:2?q", "[::1]", Some(2), "/", "q"),
            ("https://host?", "host", None, "/", ""),
        ] {
            let authority = Some(Authority { host, port });
            let expected = TargetUri {
                authority,
                path,
                query,
            };
            assert_eq!(TargetUri::parse(target), Some(expected), "{target}");
        }
    }

    #[test]
    fn a_target_in_another_form_or_with_an_invalid_host_is_none() {
        for target in [
            "*",
            "host:443",
            "a",
            "?a",
            "",
            "/a#b",
            "http://host/#",
            "ftp://host/",
            "://host/",
            "http:/host/",
            "http://",
            "http:///",
            "http:///a",
            "http://?a",
            "http://:80/",
            "http://user@host/",
            "http://user:secret@host/",
            "http://host:99999/",
            "http://[::1/",
            "http://é.org/",
            "http://a b/",
        ] {
            assert_eq!(parts(target), None, "{target}");
        }
    }
}
