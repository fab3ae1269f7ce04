//! Warnings about proxies whose headers are missing or not understood.
//!
//! The workers share one [`Complaints`]. A client may be able to provoke such a header again and again, so there is one
//! warning a minute at most of each kind.
//!
//! It shows a little of what was sent, up to the first text that looks like a token or its name. A secret that looks like
//! nothing of the kind is shown.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::listener::Peer;
use super::proxy::HeaderError;
use crate::http::forwarded::Fault;
use crate::secrecy::public_part;

/// The time between two warnings.
const SAY_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The most bytes of a header that are shown.
const MAX_SHOWN_BYTES: usize = 80;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    prefaces: Kind,
    requests: Kind,
}

/// A kind of complaint, of which one a minute is heard.
#[derive(Debug, Default)]
struct Kind {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// The time of the last warning.
    said_at: Option<Instant>,
    /// The complaints since then that nobody has heard.
    unsaid: u64,
}

impl Complaints {
    /// A trusted proxy begins a connection with `sent`.
    pub(crate) fn about_preface(&self, proxy: Peer, sent: &[u8], error: HeaderError) {
        if let Some(unsaid) = self.prefaces.note(Instant::now()) {
            tracing::warn!(
                %proxy,
                sent = %Shown(sent),
                unsaid,
                "the connection of a proxy is cut, because it does not begin with a valid PROXY header: {error}; let the \
                 proxy send one, or remove it from server.proxy_protocol.from",
            );
        }
    }

    /// A trusted proxy does not name its client, or in a header that is not understood.
    pub(crate) fn about_request(&self, proxy: Peer, fault: &Fault) {
        if let Some(unsaid) = self.requests.note(Instant::now()) {
            tracing::warn!(
                %proxy,
                sent = %Shown(&fault.sent),
                unsaid,
                "the client of a proxy counts by the address of the proxy, because its own is not known: {}",
                fault.problem,
            );
        }
    }
}

impl Kind {
    /// Notes a complaint. If it is to be heard, returns how many before it were not.
    fn note(&self, now: Instant) -> Option<u64> {
        // Nothing panics while it holds the lock.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_said = |said: Instant| now.saturating_duration_since(said) < SAY_AGAIN_AFTER;
        if last.said_at.is_some_and(is_said) {
            last.unsaid += 1;
            return None;
        }
        last.said_at = Some(now);
        Some(std::mem::take(&mut last.unsaid))
    }
}

/// Bytes that somebody sent, for a log: cut, escaped, and without anything that may be a token.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = public_part(self.0);
        let shown = &public[..public.len().min(MAX_SHOWN_BYTES)];
        let end = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "\"{}{end}\"", shown.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_a_minute_is_heard_and_the_others_are_counted() {
        let complaints = Kind::default();
        let start = Instant::now();
        assert_eq!(complaints.note(start), Some(0));
        for seconds in [0, 1, 59] {
            assert_eq!(complaints.note(start + Duration::from_secs(seconds)), None);
        }
        assert_eq!(complaints.note(start + SAY_AGAIN_AFTER), Some(3));
        assert_eq!(complaints.note(start + SAY_AGAIN_AFTER), None);
        assert_eq!(complaints.note(start + 2 * SAY_AGAIN_AFTER), Some(1));
    }

    #[test]
    fn bytes_are_shown_escaped_and_cut() {
        let shown = |sent: &[u8]| Shown(sent).to_string();
        assert_eq!(shown(b"GET / HTTP/1.1\r"), "\"GET / HTTP/1.1\\r\"");
        assert_eq!(
            shown(b"\x16\x03\x01\"\x1b[31m"),
            "\"\\x16\\x03\\x01\\\"\\x1b[31m\""
        );
        assert_eq!(shown(b""), "\"\"");
        let long = "x".repeat(MAX_SHOWN_BYTES);
        assert_eq!(shown(long.as_bytes()), format!("\"{long}\""));
        assert_eq!(shown(format!("{long}y").as_bytes()), format!("\"{long}…\""));
    }

    #[test]
    fn a_token_is_not_shown() {
        let shown = |sent: &[u8]| Shown(sent).to_string();
        assert_eq!(shown(b"GET /?token=abc"), "\"GET /…\"");
        assert_eq!(shown(b"GET /a?b=secret"), "\"GET /a…\"");
        assert_eq!(shown(b"192.0.2.1, BEARER secret"), "\"192.0.2.1, …\"");
        assert_eq!(shown(b"for=Basic secret"), "\"for=…\"");
    }
}
