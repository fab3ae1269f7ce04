//! The requests on one connection to the metrics port: bytes in, requests out, one at a time and in order.
//!
//! The exporter pushes the bytes that it read, and takes a request once it has sent the answer to the last one. A
//! [`Reader`] finds the heads, as on the relay's own port. [`routes`](super::routes) chooses the answers.

use super::reader::Reader;
use super::request::{RequestError, RequestHead};
use super::response::{Body, Connection, Status};
use super::routes::{Route, is_read, route};

/// The longest request head. A scraper sends a few hundred bytes.
pub const MAX_HEAD_BYTES: usize = 8 << 10;

/// A valid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The page.
    pub route: Route,
    /// Whether to send the body of the answer.
    pub body: Body,
    /// The state of the connection after the answer.
    pub connection: Connection,
}

/// An invalid request. It is the client's fault and ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status of the answer.
    pub status: Status,
    /// Whether to send the body of the answer.
    pub body: Body,
}

/// The bytes of one connection that are not yet taken as requests.
#[derive(Debug, Default)]
pub struct Requests {
    reader: Reader,
    /// Bytes that the reader has not seen.
    received: Vec<u8>,
}

impl Requests {
    /// Appends bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Bytes received and not yet taken.
    pub fn len(&self) -> usize {
        self.reader.part_of_head().len() + self.received.len()
    }

    /// Whether all bytes received were taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next request, if its head has arrived.
    ///
    /// # Errors
    /// An invalid request. Nothing can be taken after it.
    pub fn take(&mut self) -> Result<Option<Request>, Refused> {
        let received = std::mem::take(&mut self.received);
        let mut input = &received[..];
        let Some(head) = self.reader.head(&mut input, MAX_HEAD_BYTES)? else {
            return Ok(None);
        };
        let request = Request::of(&RequestHead::parse(&head)?)?;
        self.received = input.to_vec();
        Ok(Some(request))
    }
}

impl Request {
    /// The request of a parsed head.
    ///
    /// # Errors
    /// 400 for a request without exactly one valid Host (RFC 9112, section 3.2), for a page whose target is none, and for
    /// a body, because no page takes one.
    fn of(head: &RequestHead<'_>) -> Result<Request, Refused> {
        let body = Body::for_method(head.method);
        let status = Status::BadRequest;
        let route = match head.target_uri() {
            Some(uri) => route(head.method, uri.path),
            // Other methods have other forms: `OPTIONS *`, `CONNECT host:443`.
            None if !is_read(head.method) => Route::MethodNotAllowed,
            None => return Err(Refused { status, body }),
        };
        let has_body = head.has_body();
        if !head.has_valid_host() || (has_body && route != Route::MethodNotAllowed) {
            return Err(Refused { status, body });
        }
        // A body must not be read as the next request, so the connection is closed after the answer.
        let keep = head.keeps_alive() && !has_body;
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
        // The method is unknown, so the answer has a body.
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

    /// All requests in `bytes`, which arrive at once.
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
    fn a_target_that_names_no_page_is_refused_and_other_methods_are_not_allowed() {
        let ask = |line: &str| requests(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let route = |line| ask(line).map(|requests| requests[0].route);
        assert_eq!(route("GET http://x/metrics?a"), Ok(Route::Metrics));
        assert_eq!(route("GET /metrics?name=a/b://c"), Ok(Route::Metrics));
        assert_eq!(route("GET http://x"), Ok(Route::NotFound));
        assert_eq!(route("OPTIONS *"), Ok(Route::MethodNotAllowed));
        assert_eq!(route("CONNECT x:443"), Ok(Route::MethodNotAllowed));
        for line in [
            "GET *",
            "GET x:443",
            "GET http:///metrics",
            "GET http://a@x/metrics",
        ] {
            let refused = route(line).expect_err("must be refused");
            assert_eq!(refused.status, Status::BadRequest, "{line}");
        }
    }

    #[test]
    fn a_request_without_one_valid_host_is_refused() {
        for host in ["", "Host:\r\n", "Host: a/b\r\n", "Host: x\r\nHost: x\r\n"] {
            let request = format!("GET /livez HTTP/1.1\r\n{host}\r\n");
            assert_eq!(
                refused(request.as_bytes()).0,
                Status::BadRequest,
                "{host:?}"
            );
        }
    }

    #[test]
    fn a_body_is_not_a_request_and_ends_the_connection() {
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
