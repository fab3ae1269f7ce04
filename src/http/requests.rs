//! The requests that arrive on one connection to the metrics port: bytes in, requests out, one at a time and in order.
//!
//! The metrics poll handler pushes what it read and takes requests until none is whole; it takes the next one only when
//! the last answer has left. At most one head is kept here, and what came behind it in the same read. Which answer a
//! request gets is the [`routes`](super::routes)' to say.

use super::request::{HeadScanner, RequestError, RequestHead, Version};
use super::response::{Body, Connection, Status};
use super::routes::{Route, route};

/// The longest head of a request; a scraper's has a few hundred bytes.
pub const MAX_HEAD_BYTES: usize = 8 << 10;

/// What a complete request head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which page.
    pub route: Route,
    /// Whether the answer's body is sent.
    pub body: Body,
    /// What follows the answer.
    pub connection: Connection,
}

/// A request that is not served: the client's fault, and the connection's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What to answer.
    pub status: Status,
    /// Whether the answer's body is sent.
    pub body: Body,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Requests {
    received: Vec<u8>,
    scanner: HeadScanner,
    /// How much of `received` the scanner has seen.
    scanned: usize,
}

impl Requests {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Bytes that have arrived and were not taken as part of a request.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether nothing of a next request has arrived.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The next request, if its head has arrived.
    ///
    /// # Errors
    /// The client's fault. There is nothing to be taken behind it.
    pub fn take(&mut self) -> Result<Option<Request>, Refused> {
        let end = self
            .scanner
            .push(&self.received[self.scanned..], MAX_HEAD_BYTES)?;
        let Some(end) = end.map(|end| self.scanned + end) else {
            self.scanned = self.received.len();
            return Ok(None);
        };
        let head = RequestHead::parse(&self.received[..end])?;
        let request = Request::of(&head)?;
        *self = Requests {
            received: self.received.split_off(end),
            ..Requests::default()
        };
        Ok(Some(request))
    }
}

impl Request {
    /// What `head` asks for.
    ///
    /// # Errors
    /// 400 for a request without exactly one Host, which RFC 9112, section 3.2, has refused, and for one with a body,
    /// which no page of ours has a use for.
    fn of(head: &RequestHead<'_>) -> Result<Request, Refused> {
        let route = head
            .path_and_query()
            .map_or(Route::NotFound, |path| route(head.method, path));
        let body = Body::for_method(head.method);
        let hosts = head.values("host").count();
        let lacks_host = hosts == 0 && head.version == Version::Http11;
        let announces_body = head.announces_body();
        if hosts > 1 || lacks_host || (announces_body && route != Route::MethodNotAllowed) {
            let status = Status::BadRequest;
            return Err(Refused { status, body });
        }
        // A body is never read as a next request: what follows its head is thrown away with the connection.
        let keep = head.keeps_alive() && !announces_body;
        let connection = if keep {
            Connection::KeepAlive
        } else {
            Connection::Close
        };
        Ok(Request {
            route,
            body,
            connection,
        })
    }
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Refused {
        let status = match error {
            RequestError::Malformed => Status::BadRequest,
            RequestError::TargetTooLong => Status::UriTooLong,
            RequestError::HeadTooLarge => Status::HeaderFieldsTooLarge,
            RequestError::UnsupportedVersion => Status::VersionNotSupported,
        };
        // Which method it was to be is not known.
        Refused {
            status,
            body: Body::Send,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_HEAD_BYTES, Refused, Request, Requests};
    use crate::http::response::{Body, Connection, Status};
    use crate::http::routes::Route;

    const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    /// All that is taken of `bytes`, which arrive at once.
    fn requests(bytes: &[u8]) -> Result<Vec<Request>, Refused> {
        let mut requests = Requests::default();
        requests.push(bytes);
        std::iter::from_fn(|| requests.take().transpose()).collect()
    }

    fn refused(bytes: &[u8]) -> (Status, Body) {
        let refused = requests(bytes).expect_err("must be refused");
        (refused.status, refused.body)
    }

    #[test]
    fn requests_are_taken_one_at_a_time_and_in_order() {
        let bytes = [SCRAPE, b"HEAD /livez HTTP/1.0\r\n\r\n"].concat();
        let scrape = Request {
            route: Route::Metrics,
            body: Body::Send,
            connection: Connection::KeepAlive,
        };
        let probe = Request {
            route: Route::Live,
            body: Body::Omit,
            connection: Connection::Close,
        };
        assert_eq!(requests(&bytes), Ok(vec![scrape, probe]));
    }

    #[test]
    fn a_request_may_arrive_byte_by_byte() {
        let mut requests = Requests::default();
        for &byte in &SCRAPE[..SCRAPE.len() - 1] {
            requests.push(&[byte]);
            assert_eq!(requests.take(), Ok(None));
        }
        requests.push(b"\n");
        assert!(requests.take().is_ok_and(|request| request.is_some()));
        assert!(requests.is_empty());
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_limit() {
        let head = [&SCRAPE[..SCRAPE.len() - 2], &[b'a'; MAX_HEAD_BYTES]].concat();
        assert_eq!(refused(&head).0, Status::HeaderFieldsTooLarge);
    }

    #[test]
    fn a_refused_head_request_is_answered_without_a_body() {
        let expected = (Status::BadRequest, Body::Omit);
        assert_eq!(refused(b"HEAD /metrics HTTP/1.1\r\n\r\n"), expected);
    }

    #[test]
    fn a_body_is_no_request_and_ends_the_connection() {
        let post = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
        let taken = requests(post).expect("served")[0];
        assert_eq!(
            (taken.route, taken.connection),
            (Route::MethodNotAllowed, Connection::Close)
        );
        let get = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(refused(get), (Status::BadRequest, Body::Send));
    }
}
