//! HTTP/1.1 responses as bytes (RFC 9112, section 4).
//!
//! The refusals of an upgrade and the metrics port use it, and decide what to answer. The time for `Date` comes in as an
//! argument.

use super::date::Date;
use crate::time::WallTime;

/// The `Retry-After` of 429 and 503, in seconds. Most reasons for these pass in that time: `shutdown.timeout` is as long
/// by default, and connections of clients that are gone are closed.
const RETRY_AFTER: &str = "10";

/// The status codes that the relay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)] // the names are the reason phrases
pub enum Status {
    SwitchingProtocols = 101,
    Ok = 200,
    Accepted = 202,
    NoContent = 204,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UriTooLong = 414,
    UnsupportedMediaType = 415,
    ExpectationFailed = 417,
    UnprocessableContent = 422,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    HeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    VersionNotSupported = 505,
}

impl Status {
    /// The number.
    pub(crate) fn code(self) -> u16 {
        self as u16
    }

    /// The reason phrase from RFC 9110; for 429 and 431 from RFC 6585.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Status::SwitchingProtocols => "Switching Protocols",
            Status::Ok => "OK",
            Status::Accepted => "Accepted",
            Status::NoContent => "No Content",
            Status::BadRequest => "Bad Request",
            Status::Unauthorized => "Unauthorized",
            Status::Forbidden => "Forbidden",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Method Not Allowed",
            Status::RequestTimeout => "Request Timeout",
            Status::ContentTooLarge => "Content Too Large",
            Status::UriTooLong => "URI Too Long",
            Status::UnsupportedMediaType => "Unsupported Media Type",
            Status::ExpectationFailed => "Expectation Failed",
            Status::UnprocessableContent => "Unprocessable Content",
            Status::UpgradeRequired => "Upgrade Required",
            Status::TooManyRequests => "Too Many Requests",
            Status::HeaderFieldsTooLarge => "Request Header Fields Too Large",
            Status::InternalServerError => "Internal Server Error",
            Status::NotImplemented => "Not Implemented",
            Status::ServiceUnavailable => "Service Unavailable",
            Status::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

impl Status {
    /// Whether the same request may succeed later.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(self, Status::TooManyRequests | Status::ServiceUnavailable)
    }
}

/// The state of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The connection waits for the next request.
    KeepAlive,
    /// The server closes the connection.
    Close,
}

/// Whether to send the body itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Send the body.
    Send,
    /// Send only its length, as the answer to HEAD.
    Omit,
}

impl Body {
    /// The right choice for a request method.
    pub fn for_method(method: &str) -> Body {
        if method == "HEAD" {
            Body::Omit
        } else {
            Body::Send
        }
    }
}

/// The interim response to a client that waits with its body (RFC 9110, section 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A final response, which is any status but 100 and 101. The handshake writes the 101.
#[derive(Clone, Debug)]
pub(crate) struct Response<'a> {
    status: Status,
    headers: Vec<(&'static str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Response<'a> {
    /// A response without headers or body.
    pub(crate) fn new(status: Status) -> Response<'a> {
        debug_assert!(
            status != Status::SwitchingProtocols,
            "the handshake writes the 101"
        );
        Response {
            status,
            headers: Vec::new(),
            body: &[],
        }
    }

    /// Adds a header field. `encode` adds `Date`, `Connection` and `Content-Length` itself, and `Retry-After` if it is missing.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: &'a str) -> Response<'a> {
        debug_assert!(!value.contains(['\r', '\n']), "{name} has a line break");
        self.headers.push((name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub(crate) fn body(mut self, content_type: &'a str, body: &'a [u8]) -> Response<'a> {
        self.body = body;
        self.header("Content-Type", content_type)
    }

    /// Sets a plain text body.
    #[must_use]
    pub(crate) fn text(self, text: &'a str) -> Response<'a> {
        self.body("text/plain; charset=utf-8", text.as_bytes())
    }

    /// The response's bytes. Without a time there is no `Date`, as from a server without a clock (RFC 9110, section 6.6.1).
    pub(crate) fn encode(
        &self,
        connection: Connection,
        body: Body,
        now: Option<WallTime>,
    ) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\n",
            self.status.code(),
            self.status.reason()
        );
        let mut field = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        if let Some(now) = now {
            field("Date", &Date(now).to_string());
        }
        let has_own = self.headers.iter().any(|&(name, _)| name == "Retry-After");
        if self.status.is_temporary() && !has_own {
            field("Retry-After", RETRY_AFTER);
        }
        for (name, value) in &self.headers {
            field(name, value);
        }
        if self.status != Status::NoContent {
            field("Content-Length", &self.body.len().to_string());
        }
        field("Connection", self.connection_options(connection));
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        match body {
            Body::Send => bytes.extend_from_slice(self.body),
            Body::Omit => {}
        }
        bytes
    }

    /// A response with `Upgrade` must also list it in `Connection` (RFC 9110, section 7.8).
    fn connection_options(&self, connection: Connection) -> &'static str {
        let upgrade = self.headers.iter().any(|&(name, _)| name == "Upgrade");
        match (connection, upgrade) {
            (Connection::KeepAlive, false) => "keep-alive",
            (Connection::KeepAlive, true) => "keep-alive, upgrade",
            (Connection::Close, false) => "close",
            (Connection::Close, true) => "close, upgrade",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Body, Connection, Response, Status};
    use crate::time::WallTime;

    #[test]
    fn a_response_is_status_headers_length_and_body() {
        let response = Response::new(Status::MethodNotAllowed)
            .header("Allow", "GET")
            .text("no\n");
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Type: text/plain; charset=utf-8\r\n\
                        Content-Length: 3\r\nConnection: close\r\n\r\nno\n";
        assert_eq!(
            response.encode(Connection::Close, Body::Send, None),
            expected.as_bytes()
        );
    }

    #[test]
    fn the_answer_to_head_names_the_length_but_has_no_body() {
        let response = Response::new(Status::Ok).text("metrics\n");
        let bytes = response.encode(Connection::KeepAlive, Body::for_method("HEAD"), None);
        let text = String::from_utf8(bytes).expect("ASCII");
        assert!(
            text.contains("Content-Length: 8\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_response_without_a_body_says_so() {
        let bytes = Response::new(Status::NotFound).encode(Connection::KeepAlive, Body::Send, None);
        let expected =
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(bytes, expected.as_bytes());
    }

    #[test]
    fn an_upgrade_header_is_an_option_of_the_connection() {
        let response = Response::new(Status::UpgradeRequired).header("Upgrade", "websocket");
        let text =
            String::from_utf8(response.encode(Connection::Close, Body::Send, None)).expect("ASCII");
        assert!(
            text.contains("\r\nConnection: close, upgrade\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_response_has_the_time_that_it_is_given() {
        let now = WallTime(Duration::from_secs(784_111_777));
        let bytes =
            Response::new(Status::NotFound).encode(Connection::Close, Body::Send, Some(now));
        let text = String::from_utf8(bytes).expect("ASCII");
        assert!(
            text.starts_with("HTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            "{text}"
        );
    }

    #[test]
    fn what_may_succeed_later_says_when() {
        for (status, expected) in [
            (Status::TooManyRequests, true),
            (Status::ServiceUnavailable, true),
            (Status::NotFound, false),
            (Status::InternalServerError, false),
        ] {
            let bytes = Response::new(status).encode(Connection::Close, Body::Send, None);
            let text = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(text.contains("\r\nRetry-After: 10\r\n"), expected, "{text}");
        }
    }

    #[test]
    fn every_status_is_read_back_by_a_parser() {
        for status in [
            Status::Ok,
            Status::BadRequest,
            Status::Unauthorized,
            Status::Forbidden,
            Status::NotFound,
            Status::MethodNotAllowed,
            Status::RequestTimeout,
            Status::UriTooLong,
            Status::UpgradeRequired,
            Status::TooManyRequests,
            Status::HeaderFieldsTooLarge,
            Status::InternalServerError,
            Status::ServiceUnavailable,
            Status::VersionNotSupported,
            Status::Accepted,
            Status::ContentTooLarge,
            Status::UnsupportedMediaType,
            Status::ExpectationFailed,
            Status::UnprocessableContent,
            Status::NotImplemented,
        ] {
            let bytes = Response::new(status).text("x").encode(
                Connection::Close,
                Body::Send,
                Some(WallTime(Duration::ZERO)),
            );
            let mut headers = [httparse::EMPTY_HEADER; 6];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&bytes).expect("valid HTTP");
            assert_eq!(parsed, httparse::Status::Complete(bytes.len() - 1));
            assert_eq!(
                (response.code, response.reason),
                (Some(status.code()), Some(status.reason()))
            );
        }
    }
}
