//! A request that publishes: its head, the messages in its body, and the answer.
//!
//! `Port::post` reads the head, before a byte of the body is read. [`messages`] makes messages of a whole body. A body with
//! messages to many topics is read line by line in [`lines`](super::lines).
//!
//! The shard decides when a message is published, and for how long it waits.

use std::fmt::Write as _;
use std::iter;
use std::ops::Range;

use super::idempotency::Key;
use super::position::Position;
use super::reply::{Fault, Manner, Reply};
use super::topic_name::TopicName;
use super::words;
use crate::access::Judged;
use crate::http::bearer::Challenge;
use crate::http::body::{BodyError, Framing};
use crate::http::request::{RequestHead, Version};
use crate::http::response::Status;
use crate::port::subject::Origin;
use crate::ws::frame::MessageKind;

/// The most messages in one request.
pub(crate) const MAX_MESSAGES: usize = 10_000;

/// The media type of messages to many topics.
pub(crate) const MANY: &str = "application/vnd.fanwire+ndjson";

/// A request that publishes. Its body has not been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    /// The topic; `None` if each line of the body names one.
    pub topic: Option<TopicName>,
    /// The meaning of the body.
    pub content: Content,
    /// The end of the body.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub awaits_continue: bool,
    /// The key that makes a repeat harmless.
    pub key: Option<Key>,
    /// The address of the client, if a trusted proxy has named it.
    pub named: Option<Origin>,
    /// Its credentials. Each line of a body that names its topic is compared with it.
    pub judged: Judged,
    /// How it is answered.
    pub manner: Manner,
}

/// The meaning of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// One text message.
    Text,
    /// One binary message.
    Binary,
    /// One text message in each line.
    Lines,
    /// A topic and a message in each line, as JSON.
    Many,
}

/// Makes the faults: a status and a text each, and perhaps a challenge. There are no others, so [`Fault::ALL`] is complete.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $text:literal $(, $challenge:ident)?;)+) => {
        impl Fault {
            $($(#[$doc])*
            pub(crate) const $name: Fault = Fault {
                status: Status::$status,
                text: $text,
                challenge: faults!(@challenge $($challenge)?),
            };)+

            /// All faults of a request that publishes. `tests/docs.rs` compares them with the page about HTTP.
            pub const ALL: &[Fault] = &[$(Fault::$name),+];
        }
    };
    (@challenge) => { None };
    (@challenge $challenge:ident) => { Some(Challenge::$challenge) };
}

faults! {
    /// The framing of the body is not clear.
    LENGTH = BadRequest, "The request must have one Content-Length, or Transfer-Encoding: chunked, and not both.\n";
    /// A chunk breaks the grammar.
    CHUNK = BadRequest, "The chunks of the body are not valid.\n";
    /// A text is not UTF-8.
    NOT_UTF8 = BadRequest, "The text is not UTF-8. Send it as application/octet-stream.\n";
    /// A text begins like the relay's own words.
    RESERVED = BadRequest, "A text must not begin with U+0000. Send it as application/octet-stream.\n";
    /// A body of lines has none.
    NO_LINE = BadRequest, "The body has no line.\n";
    /// A line is not an object of the right form.
    LINE = BadRequest, "A line must be {\"topic\":\"/a\",\"text\":\"…\"} or {\"topic\":\"/a\",\"base64\":\"…\"}.\n";
    /// A line's base64 cannot be decoded.
    BASE64 = BadRequest, "The base64 is not valid.\n";
    /// A line's topic is not one.
    TOPIC = BadRequest, "The topic must begin with / and have at most 512 bytes. The path of health checks is no topic.\n";
    /// Another line of the topic is wrong.
    SPOILED = BadRequest, "Another line of this topic is not valid, so none of them is published.\n";
    /// The key is not one.
    KEY = BadRequest, "Idempotency-Key must be there once, with 1 to 128 visible ASCII characters.\n";
    /// The client has no token, and needs one.
    TOKEN_NEEDED = Unauthorized, "Send a token to publish.\n", Missing;
    /// The grants do not have the topic.
    TOPIC_FORBIDDEN = Forbidden, "Your token does not allow you to publish to this topic.\n", InsufficientScope;
    /// Nobody may publish.
    FORBIDDEN = Forbidden, "Nobody may publish here.\n", InsufficientScope;
    /// The body did not come in time.
    TOO_SLOW = RequestTimeout, "The request took too long to arrive.\n";
    /// The body is too large.
    TOO_LARGE = ContentTooLarge, "The body is larger than a message may be.\n";
    /// The message of a line is too large for its topic.
    LINE_TOO_LARGE = ContentTooLarge, "The message is larger than this topic allows.\n";
    /// There are too many lines.
    TOO_MANY = ContentTooLarge, "A request must not have more than 10000 messages.\n";
    /// There are more messages than the rate ever allows at once.
    BURST = ContentTooLarge, "The request has more messages than may be sent at once.\n";
    /// The media type is not known.
    MEDIA_TYPE = UnsupportedMediaType, "Content-Type must be text/*, application/json, application/octet-stream, application/x-ndjson, application/x-www-form-urlencoded or application/vnd.fanwire+ndjson.\n";
    /// The body is compressed.
    ENCODED = UnsupportedMediaType, "The body must not have a Content-Encoding.\n";
    /// Something is expected that is not known.
    EXPECTATION = ExpectationFailed, "Only 100-continue can be expected.\n";
    /// The key came with another body.
    REUSED = UnprocessableContent, "This Idempotency-Key came with another body before.\n";
    /// Too many messages.
    RATE = TooManyRequests, "You send too many messages. Wait, and try again.\n";
    /// A transfer coding is not known.
    CODING = NotImplemented, "The only transfer coding that is understood is chunked.\n";
    /// The topic's publishers are held.
    HELD = ServiceUnavailable, "The topic waits for slow clients. This request does not publish the message. Try again later.\n";
    /// There is no room for keys.
    KEYS_FULL = ServiceUnavailable, "There are too many requests with an Idempotency-Key. This request does not publish the message. Try again later.\n";
    /// The engine was away, and has numbered the messages meanwhile.
    PASSED = Accepted, "The message is published. Its position is not known.\n";
    /// The engine went away with the messages.
    UNSURE = ServiceUnavailable, "The connection to the other servers broke. It is unknown whether the message is published.\n";
    /// The engine is away.
    OUT = ServiceUnavailable, "The connection to the other servers is broken. This request does not publish the message. Try again later.\n";
    /// The relay is short of memory.
    MEMORY = ServiceUnavailable, "The server is short of memory. This request does not publish the message. Try again later.\n";
    /// The relay is shutting down.
    ENDING = ServiceUnavailable, "The server is shutting down. This request does not publish the message.\n";
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Fault {
        match error {
            BodyError::Length => Fault::LENGTH,
            BodyError::Coding => Fault::CODING,
            BodyError::Chunk => Fault::CHUNK,
            BodyError::TooLarge => Fault::TOO_LARGE,
        }
    }
}

impl Content {
    /// The meaning of the body of a request, by its `Content-Type`. Parameters do not count: a text is UTF-8 or refused.
    pub(super) fn of(head: &RequestHead<'_>) -> Result<Content, Fault> {
        let is_identity = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
        if !head.values("content-encoding").all(is_identity) {
            return Err(Fault::ENCODED);
        }
        let mut values = head.values("content-type");
        let (value, second) = (values.next(), values.next());
        if second.is_some() {
            return Err(Fault::MEDIA_TYPE);
        }
        let value = value.unwrap_or_default();
        let media_type = value.split(|&byte| byte == b';').next();
        let media_type = media_type.unwrap_or_default().trim_ascii();
        let media_type = media_type.to_ascii_lowercase();
        match &media_type[..] {
            b"" if value.is_empty() => Ok(Content::Text),
            b"application/json" | b"application/x-www-form-urlencoded" => Ok(Content::Text),
            b"application/octet-stream" => Ok(Content::Binary),
            b"application/x-ndjson" => Ok(Content::Lines),
            other if other == MANY.as_bytes() => Ok(Content::Many),
            other => match other.strip_prefix(b"text/") {
                Some([_, ..]) => Ok(Content::Text),
                Some([]) | None => Err(Fault::MEDIA_TYPE),
            },
        }
    }
}

/// Whether the client waits for `100 Continue` (RFC 9110, section 10.1.1). HTTP/1.0 has no expectations.
pub(super) fn awaits_continue(head: &RequestHead<'_>) -> Result<bool, Fault> {
    if head.version == Version::Http10 {
        return Ok(false);
    }
    let mut values = head.values("expect").peekable();
    let is_there = values.peek().is_some();
    let is_known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if values.all(is_known) {
        Ok(is_there)
    } else {
        Err(Fault::EXPECTATION)
    }
}

/// Calls `take` for each message of a body, in order.
///
/// # Errors
/// Some message is not valid; none of them may be published then. A `has_history` topic has texts that nobody may send.
pub(crate) fn messages<'a>(
    content: Content,
    body: &'a [u8],
    has_history: bool,
    mut take: impl FnMut(MessageKind, &'a [u8]),
) -> Result<(), Fault> {
    let mut take = |kind, payload: &'a [u8]| {
        if has_history && words::is_reserved(kind, payload) {
            return Err(Fault::RESERVED);
        }
        take(kind, payload);
        Ok(())
    };
    match content {
        Content::Binary => return take(MessageKind::Binary, body),
        Content::Text | Content::Lines | Content::Many => {
            simdutf8::basic::from_utf8(body).map_err(|_| Fault::NOT_UTF8)?;
        }
    }
    if content == Content::Text {
        return take(MessageKind::Text, body);
    }
    let mut count = 0;
    for line in lines(body) {
        count += 1;
        if count > MAX_MESSAGES {
            return Err(Fault::TOO_MANY);
        }
        take(MessageKind::Text, line)?;
    }
    if count == 0 {
        return Err(Fault::NO_LINE);
    }
    Ok(())
}

/// The lines of a body, without those that are empty.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    iter::from_fn(move || next_line(body, &mut at).map(|line| &body[line]))
}

/// The next line of a body from `at` on that is not empty. Moves `at` behind it. A line ends with LF, or with CR LF.
pub(crate) fn next_line(body: &[u8], at: &mut usize) -> Option<Range<usize>> {
    loop {
        let start = *at;
        let rest = body.get(start..).filter(|rest| !rest.is_empty())?;
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        *at = start + line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            return Some(start..start + line.len());
        }
    }
}

/// The answer to a request whose messages are numbered: the position behind the last one, and the members of its topic.
pub(crate) fn accepted(at: Position, members: u32) -> Reply {
    let body = format!("{{\"at\":\"{at}\",\"members\":{members}}}\n");
    Reply::new(Status::Accepted)
        .field("Fanwire-Position", at.to_string())
        .body("application/json", body.into_bytes())
}

/// The answer to a request with messages to many topics: what became of each.
pub(crate) fn many(outcomes: impl Iterator<Item = Result<Position, Fault>>) -> Reply {
    let mut body = String::new();
    for outcome in outcomes {
        // Writing to a string does not fail.
        let _ = match outcome {
            Ok(at) => writeln!(body, "{{\"at\":\"{at}\"}}"),
            Err(fault) => {
                let text = fault.text.trim_end().replace('"', "\\\"");
                writeln!(body, "{{\"status\":{},\"error\":\"{text}\"}}", fault.code())
            }
        };
    }
    Reply::new(Status::Ok).body(MANY, body.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_head<T>(fields: &str, read: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        read(&RequestHead::parse(head.as_bytes()).unwrap())
    }

    fn content(fields: &str) -> Result<Content, Fault> {
        with_head(fields, Content::of)
    }

    fn published(content: Content, body: &[u8], has_history: bool) -> Result<Vec<Vec<u8>>, Fault> {
        let mut all = Vec::new();
        messages(content, body, has_history, |_, payload| {
            all.push(payload.to_vec());
        })?;
        Ok(all)
    }

    #[test]
    fn each_media_type_has_its_meaning_and_others_are_refused() {
        for (value, expected) in [
            ("", Content::Text),
            ("text/plain; charset=latin1", Content::Text),
            ("TEXT/html", Content::Text),
            ("application/json", Content::Text),
            ("application/x-www-form-urlencoded", Content::Text),
            ("application/octet-stream", Content::Binary),
            ("application/x-ndjson;x=y", Content::Lines),
            ("Application/Vnd.Fanwire+NDJSON", Content::Many),
        ] {
            let fields = format!("Content-Type: {value}\r\n");
            assert_eq!(content(&fields), Ok(expected), "{value}");
        }
        assert_eq!(content(""), Ok(Content::Text));
        for value in [
            "text/",
            "text",
            "application/xml",
            "multipart/form-data; boundary=x",
            ";charset=utf-8",
            "application/json, text/plain",
        ] {
            let fields = format!("Content-Type: {value}\r\n");
            assert_eq!(content(&fields), Err(Fault::MEDIA_TYPE), "{value}");
        }
        let two = "Content-Type: text/plain\r\n".repeat(2);
        assert_eq!(content(&two), Err(Fault::MEDIA_TYPE));
        assert_eq!(
            content("Content-Encoding: gzip\r\n"),
            Err(Fault::ENCODED),
            "it would be published as it is"
        );
        assert!(content("Content-Encoding: identity\r\n").is_ok());
    }

    #[test]
    fn lines_are_messages_and_empty_ones_are_none() {
        let lines = |body| published(Content::Lines, body, false);
        let two: Vec<Vec<u8>> = vec![b"a".to_vec(), b" b".to_vec()];
        for body in [&b"a\n b"[..], b"a\n b\n", b"\na\r\n\r\n\n b\r\n"] {
            assert_eq!(lines(body), Ok(two.clone()));
        }
        for body in [&b""[..], b"\n", b"\r\n\n"] {
            assert_eq!(lines(body), Err(Fault::NO_LINE));
        }
        assert_eq!(lines(b"a\n\xff\n"), Err(Fault::NOT_UTF8), "all or none");
        let most = b"x\n".repeat(MAX_MESSAGES);
        assert_eq!(lines(&most).map(|all| all.len()), Ok(MAX_MESSAGES));
        assert_eq!(lines(&[&most, &b"x"[..]].concat()), Err(Fault::TOO_MANY));
    }

    #[test]
    fn nobody_speaks_in_the_name_of_a_relay_that_keeps_messages() {
        for content in [Content::Text, Content::Lines] {
            let reserved = Err(Fault::RESERVED);
            assert_eq!(published(content, b"\0x", true), reserved);
            assert!(published(content, b"\0x", false).is_ok());
            assert!(published(content, b"x\0", true).is_ok());
        }
        assert_eq!(
            published(Content::Lines, b"a\n\0\n", true),
            Err(Fault::RESERVED)
        );
        assert!(published(Content::Binary, b"\0\xff", true).is_ok());
        assert_eq!(published(Content::Text, b"", true), Ok(vec![Vec::new()]));
    }

    #[test]
    fn only_the_known_expectation_is_met_and_http_1_0_has_none() {
        let awaits = |fields: &str| with_head(fields, awaits_continue);
        assert_eq!(awaits(""), Ok(false));
        assert_eq!(awaits("Expect: 100-Continue\r\n"), Ok(true));
        assert_eq!(awaits("Expect: 200-ok\r\n"), Err(Fault::EXPECTATION));
        let old = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n";
        let old = RequestHead::parse(old).unwrap();
        assert_eq!(awaits_continue(&old), Ok(false));
    }
}
