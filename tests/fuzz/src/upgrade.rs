//! Any bytes, in any pieces, through [`HeadScanner`], [`RequestHead`], [`ws::upgrade`] and [`Router`], as a shard
//! takes them in.
//!
//! It checks:
//!
//! - The result does not depend on how the bytes are cut.
//! - A head is accepted if the grammar of RFC 9112 and the limits allow it, and only then. A second reader finds the same in it.
//! - If we grant an upgrade, an independent server grants it as well, with the same key.
//! - Every answer is one whole response.
//!
//! The input is the limit on the head in units of 16 bytes, four sizes of reads, and the bytes of the client.

use fanwire::config::Topics;
use fanwire::internals::http::{HeadScanner, MAX_HEADERS, RequestError, RequestHead, Version};
use fanwire::internals::port::{MAX_TOPIC_BYTES, topic_name};
use fanwire::internals::relay::Router;
use fanwire::internals::ws;
use fanwire::internals::ws::{Deflate, Refusal};
use tungstenite::handshake::server::create_response;
use tungstenite::http;

use super::head::{self, Head, Reading};
use super::input::{self, Input};

/// The answer to a request. `end` is the end of the request in the input.
#[derive(Debug, PartialEq)]
enum Outcome {
    Granted {
        path: String,
        response: Vec<u8>,
        end: usize,
    },
    Refused(Refusal),
    Waits,
}

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let max_head_bytes = usize::from(input.byte()) << 4;
    let reads = input.reads();
    let bytes = input.rest();

    let whole = take_in(std::iter::once(bytes), max_head_bytes);
    let cut = take_in(input::pieces(bytes, reads), max_head_bytes);
    assert_eq!(cut, whole, "how a request is cut changes nothing");

    let reading = head::read(bytes);
    match &whole {
        Outcome::Granted { end, .. } => check_head(&bytes[..*end], &reading),
        Outcome::Refused(refusal) => check_answer(&refusal.encode(None)),
        Outcome::Waits => assert!(bytes.len() <= max_head_bytes, "waits beyond its limit"),
    }
    if let Reading::Head(head) = reading {
        if head.len <= max_head_bytes {
            check_outcome(&bytes[..head.len], &head, &whole);
        }
    } else {
        assert!(!matches!(whole, Outcome::Granted { .. }), "{reading:?}");
    }
}

/// Reads the first bytes of a connection, as the relay does.
fn take_in<'a>(pieces: impl Iterator<Item = &'a [u8]>, max_head_bytes: usize) -> Outcome {
    let (mut scanner, mut received) = (HeadScanner::default(), Vec::new());
    for piece in pieces {
        match scanner.push(piece, max_head_bytes) {
            Err(error) => return Outcome::Refused(Refusal::from(error)),
            Ok(None) => received.extend_from_slice(piece),
            Ok(Some(end)) => {
                received.extend_from_slice(&piece[..end]);
                return decide(&received).unwrap_or_else(Outcome::Refused);
            }
        }
    }
    Outcome::Waits
}

fn decide(head: &[u8]) -> Result<Outcome, Refusal> {
    let parsed = RequestHead::parse(head)?;
    let upgrade = ws::upgrade(&parsed)?;
    Ok(Outcome::Granted {
        path: upgrade.target.path.to_owned(),
        response: upgrade.accept_key.response(
            upgrade.offer.first(),
            Deflate::choose(&parsed),
            None,
        ),
        end: head.len(),
    })
}

/// Our reading of a head is the other one's.
fn check_head(bytes: &[u8], reading: &Reading<'_>) {
    let Reading::Head(head) = reading else {
        panic!("accepted, but {reading:?}");
    };
    let ours = RequestHead::parse(bytes).expect("it was granted");
    assert_eq!(head.len, bytes.len(), "where the head ends");
    check_reading(&ours, head);
}

/// Checks that the accessors agree with the fields of the head.
pub fn check_reading(ours: &RequestHead<'_>, theirs: &Head<'_>) {
    assert_eq!((ours.method, ours.target), (theirs.method, theirs.target));
    let minor = match ours.version {
        Version::Http10 => 0,
        Version::Http11 => 1,
    };
    assert_eq!(minor, theirs.minor);
    for (name, _) in &theirs.fields {
        let values: Vec<&[u8]> = ours.values(name).collect();
        assert_eq!(values, theirs.values(name), "{name}");
    }
    for (name, token) in [
        ("connection", "upgrade"),
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("upgrade", "websocket"),
    ] {
        let expected = theirs.members(name).iter().any(|member| member == token);
        assert_eq!(ours.has_token(name, token), expected, "{name}: {token}");
    }
    assert_eq!(ours.has_valid_host(), theirs.has_valid_host());
    if let Some(uri) = ours.target_uri() {
        let (path, query) = (uri.path, uri.query);
        assert!(path.starts_with('/') && !path.contains(['#', '?']));
        let end = match query {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        let sent = theirs.target.trim_end_matches('?');
        assert!(
            sent.ends_with(&end) || sent.ends_with(query) && path == "/",
            "{uri:?}"
        );
    }
}

/// A head within the grammar and the limits is read, and granted only where an independent server grants it too.
fn check_outcome(bytes: &[u8], head: &Head<'_>, outcome: &Outcome) {
    match RequestHead::parse(bytes) {
        Ok(ours) => check_reading(&ours, head),
        Err(RequestError::HeadTooLarge) => assert!(head.fields.len() > MAX_HEADERS),
        Err(error) => panic!("{error:?} for {head:?}"),
    }
    let theirs = independent(head);
    match outcome {
        Outcome::Granted { path, response, .. } => {
            check_grant(head, path, response, theirs.as_deref());
        }
        Outcome::Refused(_) => {
            let is_ours_to_refuse = !is_plain(head);
            assert!(
                theirs.is_none() || is_ours_to_refuse,
                "refused without need: {head:?}"
            );
        }
        Outcome::Waits => panic!("waits for more than {head:?}"),
    }
}

fn check_grant(head: &Head<'_>, path: &str, response: &[u8], theirs: Option<&[u8]>) {
    let text = std::str::from_utf8(response).expect("ASCII");
    let accept = text
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Accept: "));
    // The other server is stricter. It looks for the upgrade only in the first of several lines, in ASCII without tabs. It
    // knows one protocol, and wants the bits of padding in the key to be zero.
    let options = head.values("connection");
    let is_beyond = options.len() > 1
        || options
            .concat()
            .iter()
            .any(|byte| *byte == b'\t' || !byte.is_ascii())
        || head.members("upgrade").len() > 1
        || !matches!(
            head.values("sec-websocket-key")[0].get(21),
            Some(b'A' | b'Q' | b'g' | b'w')
        );
    assert!(
        theirs.is_some() || is_beyond,
        "granted by us alone: {head:?}"
    );
    if let Some(theirs) = theirs {
        assert_eq!(accept.map(str::as_bytes), Some(theirs));
    }
    if let Some(name) = text
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "))
    {
        let offered = head.members("sec-websocket-protocol");
        assert!(offered.contains(&name.to_ascii_lowercase()), "{name:?}");
        assert!(!name.contains(|c: char| !c.is_ascii_graphic()), "{name:?}");
    }
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\n"));
    assert_eq!(text.matches("\r\n\r\n").count(), 1, "one head, and no body");
    for topics in [Topics::Path, Topics::Single] {
        if let Ok(topic) = topic_name(topics, path) {
            assert!(topic.starts_with('/') && topic.len() <= MAX_TOPIC_BYTES);
            assert!(Router::new(3, 7).owner(&topic).index() < 3);
        }
    }
}

/// The accept key of an independent server, if it grants the request.
fn independent(head: &Head<'_>) -> Option<Vec<u8>> {
    let mut request = http::Request::builder()
        .method(head.method)
        // The other server has a narrower grammar of targets, so it gets one that it accepts.
        .uri("/")
        .version(match head.minor {
            0 => http::Version::HTTP_10,
            _ => http::Version::HTTP_11,
        });
    for &(name, value) in &head.fields {
        request = request.header(name, value);
    }
    let response = create_response(&request.body(()).ok()?).ok()?;
    let accept = response.headers().get("sec-websocket-accept")?;
    Some(accept.as_bytes().to_vec())
}

/// Whether a request keeps the rules that the independent server does not look at.
fn is_plain(head: &Head<'_>) -> bool {
    let keys = head.values("sec-websocket-key");
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_key =
        |key: &[u8]| key.len() == 24 && key[..22].iter().all(is_digit) && key.ends_with(b"==");
    // The other server cuts lists at spaces, too.
    let is_list = |name| !head.members(name).iter().any(|member| member.contains(' '));
    head.has_valid_host()
        && is_list("connection")
        && head.values("sec-websocket-version").len() == 1
        && keys.len() == 1
        && is_key(keys[0])
        && head.values("content-length").is_empty()
        && head.values("transfer-encoding").is_empty()
        && head.target.starts_with('/')
        && !head.target.contains('#')
        && head.fields.len() <= MAX_HEADERS
}

/// One whole response, of which the length is right.
pub fn check_answer(answer: &[u8]) {
    let end = head::find(answer, b"\r\n\r\n").expect("a head") + 4;
    let text = std::str::from_utf8(&answer[..end]).expect("ASCII");
    assert!(text.starts_with("HTTP/1.1 "), "{text:?}");
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok());
    let body = answer.len() - end;
    let is_omitted = body == 0;
    assert!(is_omitted || Some(body) == length, "{body}, not {length:?}");
    assert!(text.contains("\r\nConnection: "), "{text:?}");
}
