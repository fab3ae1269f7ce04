//! The head of an HTTP/1.x request: where it ends, and what it says (RFC 9112).
//!
//! Both sides that speak HTTP call this: the upgrade to WebSocket and the metrics endpoint. [`HeadScanner`] finds the
//! end of the head in bytes that arrive piecemeal, looking at each byte once, so that a head sent a byte at a time costs
//! no more than one sent whole (parsing from the start at each read is CVE-2023-43669). [`RequestHead`] parses the
//! complete head once, with httparse.
//!
//! It is strict where leniency lets two readers of the same bytes disagree, which is what request smuggling lives on:
//! lines end in CR LF and nothing else, there is no folding, no control character, no space before a colon. It reads no
//! bodies.

/// More header fields than this are refused. Browsers send fewer than 30.
pub const MAX_HEADERS: usize = 100;

/// Why a request's head is refused. All but the limits are the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not HTTP/1.x, or HTTP that breaks its rules: 400.
    Malformed,
    /// The request line alone is over the limit: 414.
    TargetTooLong,
    /// The head is over the limit, in bytes or in header fields: 431.
    HeadTooLarge,
    /// HTTP of another major version, 2.0 for example: 505.
    UnsupportedVersion,
}

/// Where in a line the scanner is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    InLine,
    /// Behind a CR that ends an empty line.
    BlankCr,
    /// Behind a CR that ends a line with something in it.
    LineCr,
}

/// Finds the end of a head: the empty line behind the first line that is not empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    place: Place,
    request_line_seen: bool,
    scanned_bytes: u32,
}

impl HeadScanner {
    /// Looks at the bytes that follow those of the last call. Returns how many of `bytes` belong to the head, once its
    /// end is among them; what follows them is the client's next word, not HTTP's.
    ///
    /// Fails at the first byte that no head can have (a control character, a CR or LF alone), and as soon as
    /// `max_head_bytes` have passed without an end. Empty lines before the request line are skipped, but counted
    /// (RFC 9112, section 2.2).
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

    /// Whether `byte` ends the head.
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

/// The versions of HTTP that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no upgrades, no keep-alive unless asked for.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A parsed head. Everything in it borrows from the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// As sent; methods are case-sensitive.
    pub method: &'a str,
    /// As sent, not decoded; see [`RequestHead::path_and_query`].
    pub target: &'a str,
    /// The client's.
    pub version: Version,
    headers: Vec<httparse::Header<'a>>,
}

impl<'a> RequestHead<'a> {
    /// Parses one complete head, as [`HeadScanner`] has delimited it: `head` ends with its empty line.
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

    /// The target's path and query: the target itself in origin form, what follows the authority in absolute form
    /// (`GET http://host/path`, RFC 9112, section 3.2). `None` for other forms, and for a target with a fragment.
    pub fn path_and_query(&self) -> Option<&'a str> {
        if self.target.contains('#') {
            return None;
        }
        if self.target.starts_with('/') {
            return Some(self.target);
        }
        let (scheme, rest) = self.target.split_once("://")?;
        if !["http", "https", "ws", "wss"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return None;
        }
        match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => Some(&rest[at..]),
            // A query without a path is legal, and so rare behind an authority that it gets no path made for it.
            Some(_) => None,
            None => Some("/"),
        }
    }

    /// The values of all header fields of this name, in any case, in order, without the white space around them.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of the header field of this name, if there is exactly one.
    pub fn only_value(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Whether a comma-separated list has this member, in any case; several fields of one name are one list
    /// (RFC 9110, section 5.3).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether a body follows, or something that one reader takes for a body and another does not.
    pub fn announces_body(&self) -> bool {
        let lengthy = |value: &[u8]| value.is_empty() || value.iter().any(|&digit| digit != b'0');
        self.values("transfer-encoding").next().is_some()
            || self.values("content-length").any(lengthy)
    }

    /// Whether the client expects to send another request on this connection (RFC 9112, section 9.3).
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http10 => self.has_token("connection", "keep-alive"),
            Version::Http11 => !self.has_token("connection", "close"),
        }
    }
}

/// What httparse found wrong. It does not tell another version of HTTP from no HTTP at all.
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

/// Whether the request line has its three words, and the last is a version as `HTTP/2.0` is, if not one of ours.
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

    /// Scans and parses as a connection does.
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
    fn a_head_ends_at_its_empty_line_and_what_follows_is_left() {
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
    fn a_request_line_over_the_limit_is_told_from_a_head_over_the_limit() {
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
    fn what_two_readers_could_read_differently_is_refused() {
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
    fn another_version_of_http_is_told_from_garbage() {
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
    fn a_head_that_is_cut_or_has_something_behind_it_is_not_parsed() {
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
    fn a_value_is_the_only_one_or_none() {
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
    fn targets_in_origin_and_absolute_form_have_a_path() {
        for (target, path) in [
            ("/", Some("/")),
            ("/a/b?c=d", Some("/a/b?c=d")),
            ("//a", Some("//a")),
            ("http://host/a?b", Some("/a?b")),
            ("WSS://host:1/a://b", Some("/a://b")),
            ("http://host", Some("/")),
            ("http://host?q=/", None),
            ("ftp://host/", None),
            ("*", None),
            ("host:443", None),
            ("a", None),
            ("/a#b", None),
        ] {
            let bytes = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert_eq!(
                read(bytes.as_bytes()).expect("legal").path_and_query(),
                path,
                "{target}"
            );
        }
    }

    #[test]
    fn a_body_is_announced_by_a_length_or_a_transfer_encoding() {
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
                read(bytes.as_bytes()).expect("legal").announces_body(),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn connections_are_kept_alive_as_the_version_has_it() {
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
