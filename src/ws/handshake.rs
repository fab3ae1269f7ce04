//! The server's side of the upgrade from HTTP to WebSocket (RFC 6455, section 4.2).
//!
//! `port` calls [`upgrade`] with a parsed request head. It gets the accept key for the 101 response, or a [`Refusal`]
//! to send before the connection ends. `port` also finds the topic, and `access` decides who may connect.
//!
//! `port` chooses among the offered subprotocols and [extensions](super::extension).
//!
//! The accept key and the names of the header fields come from tungstenite. Its `create_response` is too lenient for
//! us: it searches only the first `Connection` line for `Upgrade`, accepts two keys, and its errors do not say how to
//! answer.

use tungstenite::handshake::derive_accept_key;
use tungstenite::http::header;

use crate::http::bearer::Challenge;
use crate::http::date::Date;
use crate::http::request::{RequestError, RequestHead, Version};
use crate::http::response::{Body, Connection, Response, Status};
use crate::http::target::TargetUri;
use crate::time::WallTime;
use crate::ws::extension::Deflate;
use crate::ws::subprotocol::Offer;

/// The methods of a topic. Only GET opens a WebSocket.
pub(crate) const ALLOWED: &str = "GET, HEAD, POST, OPTIONS";

/// The protocol version that RFC 6455 defines.
const WEBSOCKET_VERSION: &str = "13";

/// A valid upgrade request. The caller decides whether to grant it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The target, as sent. Nothing in it is decoded.
    pub target: TargetUri<'a>,
    /// The answer to the request's key.
    pub accept_key: AcceptKey,
    /// The subprotocols that the client offers.
    pub offer: Offer<'a>,
}

/// The value of `Sec-WebSocket-Accept` (RFC 6455, section 4.2.2): 28 characters of base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKey([u8; 28]);

/// The reason for a refusal, as the metrics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// Not HTTP, or a request that breaks a rule of HTTP or of the handshake.
    BadRequest,
    /// A valid HTTP request, but not an upgrade to WebSocket.
    NotUpgrade,
    /// A method other than GET.
    Method,
    /// The target is too long.
    PathTooLong,
    /// The request head is too large, in bytes or in header fields.
    HeadTooLarge,
    /// The browser's page is from an origin that is not allowed.
    Origin,
    /// The credentials are not valid, or are missing.
    Unauthorized,
    /// The token is not valid.
    Token,
    /// The token has expired.
    TokenExpired,
    /// The grants of a trusted proxy cannot be used.
    Grants,
    /// The grants do not allow what is asked for.
    Forbidden,
    /// The request was not complete in time.
    Timeout,
    /// The server is full.
    Capacity,
    /// The client's address has too many connections.
    PerIp,
    /// A trusted proxy sent no valid PROXY header. It gets no answer, because its protocol is unknown.
    ProxyHeader,
    /// The relay is shutting down.
    Shutdown,
}

/// A refused upgrade. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason to count.
    pub(crate) kind: RefusalKind,
    /// The status to answer with.
    pub(crate) status: Status,
    /// The body: one line that says what to do instead.
    text: &'static str,
    body: Body,
}

/// Makes the refusals: a kind, a status and a text each. There are no others, so [`Refusal::ALL`] is complete.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $kind:ident, $status:ident, $text:literal;)+) => {
        impl Refusal {
            $($(#[$doc])*
            pub const $name: Refusal = Refusal {
                kind: RefusalKind::$kind,
                status: Status::$status,
                text: $text,
                body: Body::Send,
            };)+

            /// All refusals. `tests/docs.rs` compares them with the page for authors of clients.
            pub const ALL: &[Refusal] = &[$(Refusal::$name),+];
        }
    };
}

refusals! {
    /// The request cannot be parsed.
    MALFORMED = BadRequest, BadRequest, "This is not a valid HTTP/1.1 request.\n";
    /// Plain HTTP came to a port that speaks TLS.
    PLAIN_HTTP = BadRequest, BadRequest, "This port speaks TLS. Use wss:// instead of ws://, https:// instead of http://.\n";
    /// The path is not percent-encoded as it must be.
    BAD_ESCAPE = BadRequest, BadRequest, "The path has a % without two hexadecimal digits.\n";
    /// The decoded path is not UTF-8.
    PATH_NOT_UTF8 = BadRequest, BadRequest, "The path is not UTF-8.\n";
    /// The target is `*`, an authority, or a URI with an invalid host or a user. Or it has a fragment.
    TARGET = BadRequest, BadRequest, "The request's target must be a path, or a URL with a valid host. It must have no user and no #.\n";
    /// There is no `Host`, there are two, or it is not valid.
    HOST = BadRequest, BadRequest, "The request must have exactly one Host: a name or an address, and a port if it is not the default.\n";
    /// `?last=` cannot be read.
    LAST = BadRequest, BadRequest, "last must be a number of messages, or a time such as 30s.\n";
    /// There are two `Origin`s.
    TWO_ORIGINS = BadRequest, BadRequest, "Origin must not be there twice.\n";
    /// The request announces a body.
    BODY = BadRequest, BadRequest, "Only POST may have a body.\n";
    /// The key of the handshake is missing, is not one, or is there twice.
    KEY = BadRequest, BadRequest, "The request must have one Sec-WebSocket-Key: 16 bytes in base64.\n";
    /// The request's credentials are not valid (RFC 6750, section 3).
    UNAUTHORIZED = Unauthorized, Unauthorized, "The token is not valid. Send one valid token, or no token to listen only.\n";
    /// Only grants allow what is asked for, and there are none.
    TOKEN_NEEDED = Unauthorized, Unauthorized, "This needs a token. Send one as Authorization: Bearer, or as the subprotocol bearer.TOKEN.\n";
    /// Several tokens, which are not the same.
    TOKENS_DIFFER = Token, Unauthorized, "The request has several tokens. Send one.\n";
    /// Not a JSON Web Token, or one that needs an extension (RFC 7515, section 4.1.11).
    TOKEN = Token, Unauthorized, "The token is not a signed JSON Web Token.\n";
    /// No key is configured for the token's algorithm and its `kid`.
    TOKEN_KEY = Token, Unauthorized, "There is no key here for the algorithm and the kid of the token.\n";
    /// The signature does not fit.
    TOKEN_SIGNATURE = Token, Unauthorized, "The signature of the token is not valid.\n";
    /// A claim is missing, is there twice, or has a wrong type.
    TOKEN_CLAIMS = Token, Unauthorized, "The claims of the token cannot be read. exp is a number and must be there; publish and subscribe are lists of texts.\n";
    /// A grant in the token is not a pattern.
    TOKEN_PATTERN = Token, Unauthorized, "A grant in the token is not a pattern for topics, such as /room/* or /private/**.\n";
    /// The token has expired.
    TOKEN_EXPIRED = TokenExpired, Unauthorized, "The token has expired.\n";
    /// The token is not valid yet.
    TOKEN_EARLY = Token, Unauthorized, "The token is not valid yet.\n";
    /// The token is from another issuer.
    TOKEN_ISSUER = Token, Unauthorized, "The token is from an issuer that does not count here.\n";
    /// The token is for somebody else.
    TOKEN_AUDIENCE = Token, Unauthorized, "The token is for another audience.\n";
    /// The words of a trusted proxy about its client cannot be used.
    GRANTS = Grants, Unauthorized, "The proxy's Fanwire-Grants cannot be used: it is there twice, breaks the syntax, or has no exp.\n";
    /// The grants of a trusted proxy have expired.
    GRANTS_EXPIRED = Grants, Unauthorized, "The proxy's Fanwire-Grants have expired.\n";
    /// The grants do not have the topic (RFC 6750, section 3.1).
    FORBIDDEN = Forbidden, Forbidden, "Your token does not allow this topic.\n";
    /// The grants do not have the topic for a client that only listens.
    FORBIDDEN_TO_LISTEN = Forbidden, Forbidden, "Your token does not allow you to listen to this topic.\n";
    /// The browser's page is from an origin that is not allowed (RFC 6455, section 10.2).
    ORIGIN = Origin, Forbidden, "Pages from this origin may not connect.\n";
    /// Another method.
    METHOD = Method, MethodNotAllowed, "Use GET to connect, and POST to publish.\n";
    /// The request did not arrive in time.
    TIMEOUT = Timeout, RequestTimeout, "The request took too long to arrive.\n";
    /// The target is longer than a topic name may be.
    PATH_TOO_LONG = PathTooLong, UriTooLong, "The path is too long.\n";
    /// An ordinary request.
    NOT_UPGRADE = NotUpgrade, UpgradeRequired, "This is fanwire, a WebSocket relay. Connect with a WebSocket client: ws:// instead of http://, wss:// instead of https://.\n";
    /// An ordinary request to a port that speaks TLS.
    NOT_UPGRADE_TLS = NotUpgrade, UpgradeRequired, "This is fanwire, a WebSocket relay. Connect with a WebSocket client, to wss:// instead of https://.\n";
    /// A draft of the WebSocket protocol.
    OLD_WEBSOCKET = NotUpgrade, UpgradeRequired, "Sec-WebSocket-Version must be 13.\n";
    /// HTTP/1.0, whose `Upgrade` does not count (RFC 9110, section 7.8).
    HTTP_1_0 = NotUpgrade, UpgradeRequired, "WebSocket needs HTTP/1.1. If you use a proxy, configure it to use HTTP/1.1 towards this server.\n";
    /// The client's address has its maximum of connections.
    PER_IP = PerIp, TooManyRequests, "Your address has too many connections here. Close one, or try again later.\n";
    /// The head has too many bytes or header fields.
    HEAD_TOO_LARGE = HeadTooLarge, HeaderFieldsTooLarge, "The request's head is too large.\n";
    /// The server has its maximum of connections.
    CAPACITY = Capacity, ServiceUnavailable, "The server is full. Try again later.\n";
    /// The engine of the topic is away.
    OUT = Capacity, ServiceUnavailable, "The server has lost its connection to the other servers. Try again later.\n";
    /// The server is shutting down.
    SHUTDOWN = Shutdown, ServiceUnavailable, "The server is shutting down.\n";
    /// Another major version of HTTP.
    HTTP_VERSION = BadRequest, VersionNotSupported, "This server speaks HTTP/1.1.\n";
}

impl Refusal {
    /// The refusal as the answer to a request with this method: HEAD gets no body.
    pub(crate) fn for_method(self, method: &str) -> Refusal {
        Refusal {
            body: Body::for_method(method),
            ..self
        }
    }

    /// Whether the same request may be granted later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.status.is_temporary()
    }

    /// The number of the status.
    pub fn code(&self) -> u16 {
        self.status.code()
    }

    /// The line of text that the client gets.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The HTTP response, with the time in its `Date`.
    pub fn encode(&self, now: Option<WallTime>) -> Vec<u8> {
        let mut response = Response::new(self.status)
            .header("Vary", "Accept, Origin")
            .header("Cache-Control", "no-store");
        let challenge = self.challenge();
        let challenge = challenge.map(|challenge| challenge.value(self.text));
        if let Some(challenge) = &challenge {
            response = response.header("WWW-Authenticate", challenge);
        }
        match self.kind {
            RefusalKind::Method => response = response.header("Allow", ALLOWED),
            RefusalKind::NotUpgrade => {
                response = response
                    .header("Upgrade", "websocket")
                    .header("Sec-WebSocket-Version", WEBSOCKET_VERSION);
            }
            RefusalKind::Unauthorized
            | RefusalKind::Token
            | RefusalKind::TokenExpired
            | RefusalKind::Grants
            | RefusalKind::Forbidden
            | RefusalKind::BadRequest
            | RefusalKind::PathTooLong
            | RefusalKind::HeadTooLarge
            | RefusalKind::Origin
            | RefusalKind::Timeout
            | RefusalKind::Capacity
            | RefusalKind::PerIp
            | RefusalKind::ProxyHeader
            | RefusalKind::Shutdown => {}
        }
        response
            .text(self.text)
            .encode(Connection::Close, self.body, now)
    }
}

impl Refusal {
    /// The value of `WWW-Authenticate` (RFC 6750, section 3). A request without credentials gets no error code.
    pub(crate) fn challenge(&self) -> Option<Challenge> {
        match self.kind {
            RefusalKind::Unauthorized => Some(Challenge::Missing),
            RefusalKind::Token | RefusalKind::TokenExpired | RefusalKind::Grants => {
                Some(Challenge::InvalidToken)
            }

            RefusalKind::Forbidden => Some(Challenge::InsufficientScope),
            RefusalKind::BadRequest
            | RefusalKind::NotUpgrade
            | RefusalKind::Method
            | RefusalKind::PathTooLong
            | RefusalKind::HeadTooLarge
            | RefusalKind::Origin
            | RefusalKind::Timeout
            | RefusalKind::Capacity
            | RefusalKind::PerIp
            | RefusalKind::ProxyHeader
            | RefusalKind::Shutdown => None,
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Refusal {
        match error {
            RequestError::Malformed => Refusal::MALFORMED,
            RequestError::TargetTooLong => Refusal::PATH_TOO_LONG,
            RequestError::HeadTooLarge => Refusal::HEAD_TOO_LARGE,
            RequestError::UnsupportedVersion => Refusal::HTTP_VERSION,
        }
    }
}

/// Whether a request wants a WebSocket. It takes both fields: proxies send `Connection: upgrade` with every request, and some
/// clients ask to be upgraded to something else.
pub(crate) fn is_wanted(head: &RequestHead<'_>) -> bool {
    head.has_token(header::CONNECTION.as_str(), "upgrade")
        && head.has_token(header::UPGRADE.as_str(), "websocket")
}

/// Checks that a request is a valid upgrade to WebSocket, by every rule of RFC 6455, section 4.2.1.
///
/// HTTP/1.0 is answered 426, because a server must ignore its `Upgrade` (RFC 9110, section 7.8). A GET with a body is
/// refused: a proxy could disagree with us on whether those bytes are body or frames.
pub fn upgrade<'a>(head: &RequestHead<'a>) -> Result<Upgrade<'a>, Refusal> {
    check_http(head).map_err(|refusal| refusal.for_method(head.method))?;
    let target = head.target_uri().ok_or(Refusal::TARGET)?;
    check_offer(head)?;
    let key = head
        .only_value(header::SEC_WEBSOCKET_KEY.as_str())
        .filter(|key| is_16_bytes_of_base64(key))
        .ok_or(Refusal::KEY)?;
    Ok(Upgrade {
        target,
        accept_key: AcceptKey::of(key),
        offer: Offer::of(head),
    })
}

/// Checks the rules that HTTP has for every request, and that this is a GET over HTTP/1.1.
fn check_http(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if !head.has_valid_host() {
        return Err(Refusal::HOST);
    }
    if head.method != "GET" {
        return Err(Refusal::METHOD);
    }
    match head.version {
        Version::Http10 | Version::Http11 if head.has_body() => Err(Refusal::BODY),
        Version::Http10 => Err(Refusal::HTTP_1_0),
        Version::Http11 => Ok(()),
    }
}

/// Checks that the request offers the WebSocket protocol of RFC 6455.
fn check_offer(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if !is_wanted(head) {
        return Err(Refusal::NOT_UPGRADE);
    }
    if head.only_value(header::SEC_WEBSOCKET_VERSION.as_str()) != Some(WEBSOCKET_VERSION.as_bytes())
    {
        return Err(Refusal::OLD_WEBSOCKET);
    }
    Ok(())
}

/// Whether a key decodes to 16 bytes. Like most decoders, it ignores the 4 unused bits of the last digit.
fn is_16_bytes_of_base64(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==")
        .is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

impl AcceptKey {
    /// The answer to a request's `Sec-WebSocket-Key`.
    fn of(key: &[u8]) -> AcceptKey {
        let accept = derive_accept_key(key).into_bytes();
        AcceptKey(
            accept
                .try_into()
                .expect("SHA-1 in base64 has 28 characters"),
        )
    }

    /// The complete 101 response, with the `subprotocol` that is selected, the extension that is agreed, and the time in its
    /// `Date`. After it, the connection speaks WebSocket.
    pub fn response(
        &self,
        subprotocol: Option<&str>,
        deflate: Option<Deflate>,
        now: Option<WallTime>,
    ) -> Vec<u8> {
        let mut head = Vec::with_capacity(192);
        head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        if let Some(now) = now {
            head.extend_from_slice(format!("Date: {}\r\n", Date(now)).as_bytes());
        }
        head.extend_from_slice(
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        head.extend_from_slice(&self.0);
        if let Some(name) = subprotocol {
            head.extend_from_slice(format!("\r\nSec-WebSocket-Protocol: {name}").as_bytes());
        }
        if let Some(deflate) = deflate {
            head.extend_from_slice(format!("\r\nSec-WebSocket-Extensions: {deflate}").as_bytes());
        }
        head.extend_from_slice(b"\r\n\r\n");
        head
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, RefusalKind, upgrade};
    use crate::http::request::{RequestError, RequestHead};
    use crate::http::response::Status;

    /// The request of RFC 6455, section 1.3, without its offers.
    const REQUEST: &str = "GET /chat?a=b HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    const KEY_LINE: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// The answer to [`REQUEST`] after replacing `from` with `to`.
    fn with(from: &str, to: &str) -> Result<String, Refusal> {
        assert!(REQUEST.contains(from), "{from:?}");
        let request = REQUEST.replacen(from, to, 1);
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        upgrade(&head).map(|granted| format!("{}?{}", granted.target.path, granted.target.query))
    }

    fn refused(from: &str, to: &str) -> (RefusalKind, Status) {
        let refusal = with(from, to).expect_err("must be refused");
        (refusal.kind, refusal.status)
    }

    fn granted(from: &str, to: &str) {
        assert_eq!(with(from, to), Ok("/chat?a=b".into()), "{to:?}");
    }

    const BAD_REQUEST: (RefusalKind, Status) = (RefusalKind::BadRequest, Status::BadRequest);
    const NOT_UPGRADE: (RefusalKind, Status) = (RefusalKind::NotUpgrade, Status::UpgradeRequired);

    #[test]
    fn the_example_of_the_rfc_is_granted() {
        let head = RequestHead::parse(REQUEST.as_bytes()).expect("well-formed");
        let response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        let upgrade = upgrade(&head).expect("good");
        assert_eq!(
            (upgrade.target.path, upgrade.target.query),
            ("/chat", "a=b")
        );
        assert_eq!(
            upgrade.accept_key.response(None, None, None),
            response.as_bytes()
        );
    }

    #[test]
    fn the_request_of_an_independent_client_is_granted() {
        use tungstenite::client::IntoClientRequest;
        let request = "ws://localhost:8443/topic"
            .into_client_request()
            .expect("a URL");
        let (bytes, _) =
            tungstenite::handshake::client::generate_request(request).expect("a request");
        let head = RequestHead::parse(&bytes).expect("well-formed");
        assert_eq!(upgrade(&head).expect("granted").target.path, "/topic");
    }

    #[test]
    fn connection_options_may_stand_on_several_lines_in_any_case_and_spacing() {
        granted(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: Upgrade",
        );
        granted("Connection: Upgrade", "connection:keep-alive ,\tUPGRADE");
    }

    #[test]
    fn the_upgrade_may_be_one_of_several_in_any_case() {
        granted("Upgrade: websocket", "UPGRADE: foo/1, WebSocket");
    }

    #[test]
    fn an_offer_of_subprotocols_is_read_and_one_of_extensions_is_ignored() {
        let offers =
            "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Extensions: permessage-deflate\r\nHost:";
        let request = REQUEST.replacen("Host:", offers, 1);
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        let granted = upgrade(&head).expect("granted");
        assert!(granted.offer.has("a"));
        let answer =
            |name| String::from_utf8(granted.accept_key.response(name, None, None)).expect("ASCII");
        assert!(!answer(None).contains("Protocol:") && !answer(None).contains("Extensions:"));
        let selected = answer(Some("a"));
        assert!(
            selected.ends_with("\r\nSec-WebSocket-Protocol: a\r\n\r\n"),
            "{selected}"
        );
    }

    #[test]
    fn other_methods_are_refused_with_405() {
        for method in ["POST", "HEAD", "OPTIONS", "get", "BREW"] {
            assert_eq!(
                refused("GET", method),
                (RefusalKind::Method, Status::MethodNotAllowed),
                "{method}"
            );
        }
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        let answer = with("GET", "HEAD").expect_err("refused").encode(None);
        assert!(answer.ends_with(b"\r\n\r\n"));
        let answer = with("GET", "POST").expect_err("refused").encode(None);
        assert!(!answer.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn an_invalid_host_is_answered_400_whatever_the_method() {
        let request = REQUEST
            .replacen("GET", "HEAD", 1)
            .replacen("server.", "/", 1);
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        let refusal = upgrade(&head).expect_err("refused");
        assert_eq!((refusal.kind, refusal.status), BAD_REQUEST);
        assert!(
            refusal.encode(None).ends_with(b"\r\n\r\n"),
            "HEAD gets no body"
        );
    }

    #[test]
    fn http_1_0_is_not_an_upgrade() {
        assert_eq!(refused("HTTP/1.1", "HTTP/1.0"), NOT_UPGRADE);
    }

    #[test]
    fn a_request_has_exactly_one_valid_host() {
        for host in [
            "", "a b", "a/b", "user@a", "a:99999", "[::1", "é.org", ":80",
        ] {
            let line = format!("Host: {host}\r\n");
            assert_eq!(
                refused("Host: server.example.com\r\n", &line),
                BAD_REQUEST,
                "{host}"
            );
        }
        assert_eq!(refused("Host: server.example.com\r\n", ""), BAD_REQUEST);
        assert_eq!(refused("Host: ", "Host: b\r\nHost: "), BAD_REQUEST);
    }

    #[test]
    fn a_plain_request_learns_that_this_is_a_websocket_relay() {
        assert_eq!(refused("Upgrade: websocket\r\n", ""), NOT_UPGRADE);
        assert_eq!(refused("Connection: Upgrade\r\n", ""), NOT_UPGRADE);
        assert_eq!(refused("Upgrade: websocket", "Upgrade: h2c"), NOT_UPGRADE);
        let answer = with("Upgrade: websocket\r\n", "")
            .expect_err("refused")
            .encode(None);
        let answer = String::from_utf8(answer).expect("UTF-8");
        assert!(
            answer.contains("\r\nUpgrade: websocket\r\n") && answer.contains("WebSocket relay"),
            "{answer}"
        );
    }

    #[test]
    fn a_request_for_another_version_learns_the_right_one() {
        for line in [
            "",
            "Sec-WebSocket-Version: 8\r\n",
            "Sec-WebSocket-Version: 13, 8\r\n",
        ] {
            assert_eq!(
                refused("Sec-WebSocket-Version: 13\r\n", line),
                NOT_UPGRADE,
                "{line:?}"
            );
        }
        let answer = with("Version: 13", "Version: 7")
            .expect_err("refused")
            .encode(None);
        let answer = String::from_utf8(answer).expect("UTF-8");
        assert!(
            answer.contains("\r\nSec-WebSocket-Version: 13\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn a_request_has_exactly_one_key_of_16_bytes_in_base64() {
        for line in [
            String::new(),
            KEY_LINE.repeat(2),
            "Sec-WebSocket-Key:\r\n".into(),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n".into(),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\r\n".into(),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n".into(),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j*Q==\r\n".into(),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBub25jZQ==\r\n".into(),
        ] {
            assert_eq!(refused(KEY_LINE, &line), BAD_REQUEST, "{line:?}");
        }
    }

    #[test]
    fn a_request_with_a_body_is_refused() {
        granted("Host:", "Content-Length: 0\r\nHost:");
        assert_eq!(refused("Host:", "Content-Length: 5\r\nHost:"), BAD_REQUEST);
        assert_eq!(
            refused("Host:", "Transfer-Encoding: chunked\r\nHost:"),
            BAD_REQUEST
        );
    }

    #[test]
    fn the_target_must_be_a_path() {
        for target in ["*", "a:443", "http:///chat", "http://user@a/chat"] {
            assert_eq!(refused("/chat?a=b", target), BAD_REQUEST, "{target}");
        }
        assert_eq!(with("/chat?a=b", "ws://a?b"), Ok("/?b".into()));
        granted("/chat", "http://server.example.com/chat");
    }

    #[test]
    fn every_http_error_has_its_status() {
        for (error, kind, status) in [
            (
                RequestError::Malformed,
                RefusalKind::BadRequest,
                Status::BadRequest,
            ),
            (
                RequestError::TargetTooLong,
                RefusalKind::PathTooLong,
                Status::UriTooLong,
            ),
            (
                RequestError::HeadTooLarge,
                RefusalKind::HeadTooLarge,
                Status::HeaderFieldsTooLarge,
            ),
            (
                RequestError::UnsupportedVersion,
                RefusalKind::BadRequest,
                Status::VersionNotSupported,
            ),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!((refusal.kind, refusal.status), (kind, status));
        }
    }

    #[test]
    fn a_401_names_the_scheme() {
        let answer = String::from_utf8(Refusal::UNAUTHORIZED.encode(None)).expect("UTF-8");
        assert!(
            answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("\r\nWWW-Authenticate: Bearer\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn every_refusal_closes_the_connection() {
        for refusal in [
            Refusal::PATH_TOO_LONG,
            Refusal::ORIGIN,
            Refusal::UNAUTHORIZED,
            Refusal::TIMEOUT,
            Refusal::CAPACITY,
            Refusal::SHUTDOWN,
        ] {
            let answer = String::from_utf8(refusal.encode(None)).expect("UTF-8");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
    }
}
