//! The head of an HTTP/1.x request: its end and its content (RFC 9112).
//!
//! The WebSocket port and the metrics port both call this. [`HeadScanner`] finds the end of a head that arrives in
//! pieces. It reads each byte once, so a head sent byte by byte costs no more than one sent whole; parsing again from
//! the start at each read is CVE-2023-43669. [`RequestHead`] then parses the complete head once, with httparse.
//!
//! Parsing is strict, because request smuggling works with bytes that two parsers read differently. Lines end in CR LF,
//! and folding, control characters and a space before a colon are errors. Bodies are not read here.

use super::authority::Authority;
use super::target::TargetUri;

/// A request with more header fields is refused. Browsers send fewer than 30.
pub const MAX_HEADERS: usize = 100;

/// The reason for which a request head is refused. Apart from the limits, it is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not HTTP/1.x, or against the rules of HTTP: 400.
    Malformed,
    /// The request line alone is over the limit: 414.
    TargetTooLong,
    /// The head is too large, in bytes or in header fields: 431.
    HeadTooLarge,
    /// Another version of HTTP, such as 2.0: 505.
    UnsupportedVersion,
}

/// The scanner's place in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    InLine,
    /// After the CR of an empty line.
    BlankCr,
    /// After the CR of any other line.
    LineCr,
}

/// Finds the end of a head, which is the first empty line after the request line.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    place: Place,
    request_line_seen: bool,
    scanned_bytes: u32,
}

impl HeadScanner {
    /// Scans the bytes that follow those of the last call. Returns how many of `bytes` belong to the head, once its end
    /// has arrived.
    ///
    /// Fails at the first byte that cannot be in a head (a control character, a CR or LF alone), and when
    /// `max_head_bytes` have passed without an end. Empty lines before the request line are skipped, but counted (RFC
    /// 9112, section 2.2).
    pub fn push(
        &mut self,
        bytes: &[u8],
        max_head_bytes: usize,
    ) -> Result<Option<usize>, RequestError> {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.scanned_bytes as usize >= max_head_bytes {
                return Err(self.too_long());
            }
            self.scanned_bytes += 1;
            if self.step(byte)? {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }

    /// Takes one byte. Returns whether it ends the head.
    fn step(&mut self, byte: u8) -> Result<bool, RequestError> {
        self.place = match (self.place, byte) {
            (Place::LineStart, b'\r') => Place::BlankCr,
            (Place::InLine, b'\r') => Place::LineCr,
            (Place::LineCr, b'\n') => {
                self.request_line_seen = true;
                Place::LineStart
            }
            (Place::BlankCr, b'\n') if self.request_line_seen => return Ok(true),
            (Place::BlankCr, b'\n') => Place::LineStart,
            (Place::LineStart | Place::InLine, byte)
                if byte == b'\t' || !byte.is_ascii_control() =>
            {
                Place::InLine
            }
            (Place::LineStart | Place::InLine | Place::BlankCr | Place::LineCr, _) => {
                return Err(RequestError::Malformed);
            }
        };
        Ok(false)
    }

    fn too_long(self) -> RequestError {
        if self.request_line_seen {
            RequestError::HeadTooLarge
        } else {
            RequestError::TargetTooLong
        }
    }
}

/// The supported versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no upgrades, and keep-alive only on request.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A parsed head, borrowed from its bytes.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// As sent. Methods are case-sensitive.
    pub method: &'a str,
    /// As sent and not decoded; see [`RequestHead::target_uri`].
    pub target: &'a str,
    /// The version of the request.
    pub version: Version,
    headers: Vec<httparse::Header<'a>>,
}

impl<'a> RequestHead<'a> {
    /// Parses one complete head, with its empty line, as [`HeadScanner`] found it.
    pub fn parse(head: &'a [u8]) -> Result<RequestHead<'a>, RequestError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(head).map_err(|error| refuse(error, head))?;
        if parsed != httparse::Status::Complete(head.len()) {
            return Err(RequestError::Malformed);
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(RequestError::Malformed);
        };
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        Ok(RequestHead {
            method,
            target,
            version,
            headers: request.headers.to_vec(),
        })
    }

    /// The target in origin form or in absolute form (RFC 9112, section 3.2). `None` for other forms, for a target with
    /// a fragment, and for one with an invalid host.
    pub fn target_uri(&self) -> Option<TargetUri<'a>> {
        TargetUri::parse(self.target)
    }

    /// Whether the request has exactly one `Host`, which is valid. HTTP/1.0 may do without. Anything else must be
    /// answered 400 (RFC 9112, section 3.2).
    pub fn has_valid_host(&self) -> bool {
        let mut values = self.values("host");
        match (values.next(), values.next()) {
            (Some(value), None) => Authority::parse(value).is_some(),
            (None, _) => self.version == Version::Http10,
            (Some(_), Some(_)) => false,
        }
    }

    /// The host and port that the request is for: those of the target, or else of `Host` (RFC 9112, section 3.3).
    pub(crate) fn authority(&self) -> Option<Authority<'a>> {
        let target = self.target_uri()?;
        let host = || self.only_value("host").and_then(Authority::parse);
        target.authority.or_else(host)
    }

    /// The trimmed values of all header fields with this name, in order. Names are case-insensitive.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of the header field with this name, if there is exactly one.
    pub(crate) fn only_value(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Whether a comma-separated list has this member, in any case. Several fields with one name are one list (RFC
    /// 9110, section 5.3).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the request has a body, or something that a parser could take for one.
    pub(crate) fn has_body(&self) -> bool {
        let lengthy = |value: &[u8]| value.is_empty() || value.iter().any(|&digit| digit != b'0');
        self.values("transfer-encoding").next().is_some()
            || self.values("content-length").any(lengthy)
    }

    /// Whether the client may send another request on this connection (RFC 9112, section 9.3).
    pub(crate) fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http10 => self.has_token("connection", "keep-alive"),
            Version::Http11 => !self.has_token("connection", "close"),
        }
    }
}

/// Maps an error of httparse, which does not tell another version of HTTP from garbage.
fn refuse(error: httparse::Error, head: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::HeadTooLarge,
        httparse::Error::Version if names_a_version(head) => RequestError::UnsupportedVersion,
        httparse::Error::Version
        | httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token => RequestError::Malformed,
    }
}

/// Whether the request line has three words, and the last one is an HTTP version such as `HTTP/2.0`.
fn names_a_version(head: &[u8]) -> bool {
    let line = head
        .trim_ascii_start()
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(_), Some(_), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let Some([major, b'.', minor]) = version.strip_prefix(b"HTTP/") else {
        return false;
    };
    major.is_ascii_digit() && minor.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::{HeadScanner, MAX_HEADERS, RequestError, RequestHead, Version};

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Scans and parses like a connection.
    fn read(bytes: &[u8]) -> Result<RequestHead<'_>, RequestError> {
        let end = HeadScanner::default()
            .push(bytes, 8192)?
            .expect("a complete head");
        RequestHead::parse(&bytes[..end])
    }

    fn with_headers(lines: &str) -> String {
        format!("GET / HTTP/1.1\r\n{lines}\r\n")
    }

    fn error(bytes: &[u8]) -> Option<RequestError> {
        read(bytes).err()
    }

    #[test]
    fn a_head_ends_at_its_empty_line_and_leaves_the_rest() {
        let bytes = [GET, b"\x81\x80frames\r\n\r\n"].concat();
        assert_eq!(
            HeadScanner::default().push(&bytes, 8192),
            Ok(Some(GET.len()))
        );
    }

    #[test]
    fn a_head_may_be_cut_anywhere() {
        for cut in 0..GET.len() {
            let mut scanner = HeadScanner::default();
            assert_eq!(scanner.push(&GET[..cut], 8192), Ok(None));
            assert_eq!(
                scanner.push(&GET[cut..], 8192),
                Ok(Some(GET.len() - cut)),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        assert_eq!(
            HeadScanner::default().push(GET, GET.len()),
            Ok(Some(GET.len()))
        );
        assert_eq!(
            HeadScanner::default().push(GET, GET.len() - 1),
            Err(RequestError::HeadTooLarge)
        );
    }

    #[test]
    fn a_long_request_line_and_a_long_head_are_different_errors() {
        let long_path = [b"GET /", &[b'a'; 9000][..]].concat();
        assert_eq!(
            HeadScanner::default().push(&long_path, 8192),
            Err(RequestError::TargetTooLong)
        );
        let long_header = [b"GET / HTTP/1.1\r\nx: ", &[b'a'; 9000][..]].concat();
        assert_eq!(
            HeadScanner::default().push(&long_header, 8192),
            Err(RequestError::HeadTooLarge)
        );
    }

    #[test]
    fn the_limit_counts_over_all_pieces() {
        let mut scanner = HeadScanner::default();
        for _ in 0..8192 {
            assert_eq!(scanner.push(b"a", 8192), Ok(None));
        }
        assert_eq!(scanner.push(b"a", 8192), Err(RequestError::TargetTooLong));
    }

    #[test]
    fn empty_lines_before_the_request_are_skipped() {
        assert_eq!(
            read(&[b"\r\n\r\n", GET].concat()).expect("legal").target,
            "/a"
        );
    }

    #[test]
    fn tls_is_refused_at_its_first_byte() {
        assert_eq!(
            HeadScanner::default().push(&[0x16], 8192),
            Err(RequestError::Malformed)
        );
    }

    #[test]
    fn method_target_and_version_are_read() {
        let head = read(GET).expect("legal");
        assert_eq!(
            (head.method, head.target, head.version),
            ("GET", "/a", Version::Http11)
        );
        assert_eq!(
            read(b"PUT * HTTP/1.0\r\n\r\n").expect("legal").version,
            Version::Http10
        );
    }

    #[test]
    fn a_head_that_two_parsers_could_read_differently_is_refused() {
        for (what, bytes) in [
            (
                "a line that ends in LF",
                &b"GET / HTTP/1.1\nHost: x\r\n\r\n"[..],
            ),
            (
                "an empty line that is LF",
                b"GET / HTTP/1.1\r\nHost: x\r\n\n",
            ),
            (
                "CR alone in a value",
                b"GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n",
            ),
            (
                "CR alone before the end",
                b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
            ),
            ("NUL in a value", b"GET / HTTP/1.1\r\nHost: x\0\r\n\r\n"),
            ("NUL in a name", b"GET / HTTP/1.1\r\nHo\0st: x\r\n\r\n"),
            (
                "a space before the colon",
                b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            ),
            ("no colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n"),
            ("an empty name", b"GET / HTTP/1.1\r\n: x\r\n\r\n"),
            ("a folded line", b"GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n"),
            ("a folded first line", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
            ("two spaces", b"GET  / HTTP/1.1\r\n\r\n"),
            ("no version", b"GET /\r\n\r\n"),
            ("no target", b"GET HTTP/1.1\r\n\r\n"),
            ("a version of another protocol", b"GET / HTCPCP/1.0\r\n\r\n"),
            ("a version that is none", b"GET / HTTP/x\r\n\r\n"),
            ("a space in the target", b"GET /a b HTTP/1.1\r\n\r\n"),
            ("a path that is not UTF-8", b"GET /\xff HTTP/1.1\r\n\r\n"),
        ] {
            assert_eq!(error(bytes), Some(RequestError::Malformed), "{what}");
        }
    }

    #[test]
    fn another_version_of_http_is_not_garbage() {
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9"] {
            let bytes = format!("PRI * {version}\r\n\r\n");
            assert_eq!(
                error(bytes.as_bytes()),
                Some(RequestError::UnsupportedVersion),
                "{version}"
            );
        }
    }

    #[test]
    fn a_hundred_header_fields_pass_and_one_more_does_not() {
        let most = with_headers(&"a: b\r\n".repeat(MAX_HEADERS));
        assert!(read(most.as_bytes()).is_ok());
        let more = with_headers(&"a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(error(more.as_bytes()), Some(RequestError::HeadTooLarge));
    }

    #[test]
    fn an_incomplete_head_or_one_with_more_bytes_is_not_parsed() {
        assert!(RequestHead::parse(&GET[..GET.len() - 1]).is_err());
        assert!(RequestHead::parse(&[GET, b"x"].concat()).is_err());
    }

    #[test]
    fn all_values_of_a_name_are_found_in_any_case() {
        let bytes = with_headers("A: 1 \r\nb: 2\r\na:\t3\r\n");
        let head = read(bytes.as_bytes()).expect("legal");
        assert_eq!(head.values("a").collect::<Vec<_>>(), [b"1", b"3"]);
    }

    #[test]
    fn only_a_single_value_is_returned() {
        let bytes = with_headers("a: 1\r\nb: 2\r\nA: 1\r\n");
        let head = read(bytes.as_bytes()).expect("legal");
        assert_eq!(
            (
                head.only_value("a"),
                head.only_value("b"),
                head.only_value("c")
            ),
            (None, Some(&b"2"[..]), None)
        );
    }

    #[test]
    fn tokens_are_found_over_lines_in_any_case_and_spacing() {
        let bytes = with_headers("Connection: keep-alive\r\nconnection:  foo ,\tUPgrade\r\n");
        let head = read(bytes.as_bytes()).expect("legal");
        assert!(head.has_token("connection", "upgrade"));
        assert!(!head.has_token("connection", "grade"));
        assert!(!head.has_token("connection", "foo ,\tUPgrade"));
    }

    #[test]
    fn a_request_has_exactly_one_valid_host_and_http_1_0_may_have_none() {
        for (version, lines, expected) in [
            ("1.1", "Host: a\r\n", true),
            ("1.1", "HOST:\ta:80 \r\n", true),
            ("1.1", "", false),
            ("1.1", "Host:\r\n", false),
            ("1.1", "Host: a b\r\n", false),
            ("1.1", "Host: a\r\nhost: a\r\n", false),
            ("1.1", "Host: a, a\r\n", false),
            ("1.0", "", true),
            ("1.0", "Host: a\r\n", true),
            ("1.0", "Host: a/b\r\n", false),
            ("1.0", "Host: a\r\nHost: b\r\n", false),
        ] {
            let bytes = format!("GET / HTTP/{version}\r\n{lines}\r\n");
            let head = read(bytes.as_bytes()).expect("legal");
            assert_eq!(head.has_valid_host(), expected, "{version} {lines:?}");
        }
    }

    #[test]
    fn a_length_or_a_transfer_encoding_means_a_body() {
        for (lines, expected) in [
            ("", false),
            ("Content-Length: 0\r\n", false),
            ("Content-Length: 5\r\n", true),
            ("Content-Length: 0\r\nContent-Length: 5\r\n", true),
            ("Content-Length: +0\r\n", true),
            ("Content-Length:\r\n", true),
            ("Transfer-Encoding: chunked\r\n", true),
            ("Transfer-Encoding: identity\r\n", true),
        ] {
            let bytes = with_headers(lines);
            assert_eq!(
                read(bytes.as_bytes()).expect("legal").has_body(),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn each_version_has_its_default_for_keep_alive() {
        for (version, line, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let bytes = format!("GET / HTTP/{version}\r\n{line}\r\n");
            assert_eq!(
                read(bytes.as_bytes()).expect("legal").keeps_alive(),
                expected,
                "{version} {line:?}"
            );
        }
    }
}
