//! Server-sent events (WHATWG HTML, section 9.2): the requests that ask for them, the response, and single events.
//!
//! A topic is also an event stream: `new EventSource("/room")` or `curl -N`. Each message is an event, and its `id` is the
//! position behind it. The relay's own words are events named `fanwire`.
//!
//! An `EventSource` gives up for good on any status but 200. So a refusal that may pass is a 200 as well: the stream ends at
//! once, and `retry` says when to come back.

use arrayvec::ArrayString;
use bytes::Bytes;
use data_encoding::BASE64;

use super::cors::Cors;
use super::position::Position;
use crate::http::accept;
use crate::http::date::Date;
use crate::http::request::RequestHead;
use crate::time::WallTime;
use crate::ws::frame::MessageKind;
use crate::ws::handshake::{self, Refusal};

/// The media type of an event stream.
const MEDIA_TYPE: &str = "text/event-stream";

/// Sent when a client was sent nothing for long: a comment, which no client shows to anybody.
pub(crate) const KEEP_ALIVE: &[u8] = b":\n\n";

/// Whether a request asks for an event stream: a GET that accepts the media type by name, and wants no WebSocket.
pub(crate) fn is_asked(head: &RequestHead<'_>) -> bool {
    head.method == "GET" && !handshake::is_wanted(head) && accept::names(head, MEDIA_TYPE)
}

/// Whether the beginning of a head names the media type. Nobody knows yet what the request asks for.
pub(crate) fn is_mentioned(part: &[u8]) -> bool {
    let mut windows = part.windows(MEDIA_TYPE.len());
    windows.any(|window| window.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()))
}

/// The head of the response, without the empty line that ends it. There is no length: the stream ends with the connection.
pub(crate) fn head(cors: &Cors, now: Option<WallTime>) -> Vec<u8> {
    let mut head = String::with_capacity(384);
    head.push_str("HTTP/1.1 200 OK\r\n");
    let mut field = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
    if let Some(now) = now {
        field("Date", &Date(now).to_string());
    }
    field("Content-Type", MEDIA_TYPE);
    field("Cache-Control", "no-store");
    // nginx would collect events in a buffer.
    field("X-Accel-Buffering", "no");
    field("Vary", "Accept, Origin");
    for (name, value) in cors.fields() {
        field(name, value);
    }
    field("Connection", "close");
    head.into_bytes()
}

/// The whole answer to a request that is refused for now. The client is to come back after a pause.
pub(crate) fn refusal(
    refusal: &Refusal,
    cors: &Cors,
    pause_ms: u64,
    now: Option<WallTime>,
) -> Bytes {
    let mut response = head(cors, now);
    response.extend_from_slice(b"\r\n");
    let (status, text) = (refusal.code(), refusal.text().trim_end());
    let json = format!("{{\"status\":{status},\"error\":\"{text}\",\"retry\":{pause_ms}}}");
    push_pause(&mut response, pause_ms);
    push_own(&mut response, None, &json);
    Bytes::from(response)
}

/// Appends the time after which a client that has lost its stream comes back. It belongs to the event behind it.
pub(crate) fn push_pause(out: &mut Vec<u8>, pause_ms: u64) {
    out.extend_from_slice(format!("retry: {pause_ms}\n").as_bytes());
}

/// Appends the relay's own words, in one line.
pub(crate) fn push_own(out: &mut Vec<u8>, at: Option<Position>, json: &str) {
    debug_assert!(!json.contains(['\r', '\n']), "{json:?}");
    if let Some(at) = at {
        push_id(out, &at);
    }
    out.extend_from_slice(b"event: fanwire\n");
    push_data(out, json.as_bytes());
    out.push(b'\n');
}

/// Appends a message. The client has reached the position `at` behind it, if the topic keeps messages.
pub(crate) fn push_message(
    out: &mut Vec<u8>,
    at: Option<&Position>,
    kind: MessageKind,
    payload: &[u8],
) {
    if let Some(at) = at {
        push_id(out, at);
    }
    match kind {
        MessageKind::Text => push_data(out, payload),
        MessageKind::Binary => push_binary(out, payload),
    }
    out.push(b'\n');
}

fn push_id(out: &mut Vec<u8>, at: &Position) {
    use std::fmt::Write;
    let mut number = ArrayString::<20>::new();
    // The digits of 64 bits fit.
    let _ = write!(number, "{}", at.next.0);
    for part in ["id: ", at.epoch.as_str(), "-", &number, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends a text. A line of it ends at LF, at CR, or at CR and LF, and the receiver gets an LF for each.
fn push_data(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        out.extend_from_slice(b"data: ");
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = match behind {
            [] => return,
            [b'\r', b'\n', behind @ ..] | [_, behind @ ..] => behind,
        };
    }
}

fn push_binary(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(b"event: binary\ndata: ");
    let start = out.len();
    out.resize(start + BASE64.encode_len(payload.len()), 0);
    BASE64.encode_mut(payload, &mut out[start..]);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_asked_by(method: &str, fields: &str) -> bool {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        is_asked(&RequestHead::parse(request.as_bytes()).unwrap())
    }

    #[test]
    fn a_get_that_names_the_media_type_asks_for_events() {
        for accept in [
            "text/event-stream",
            "Text/Event-Stream",
            "text/event-stream;q=0.1",
            "text/event-stream ; Q=1.000",
            "text/html, text/event-stream;charset=utf-8",
            "*/*;q=0, text/event-stream; q=0.001",
        ] {
            assert!(
                is_asked_by("GET", &format!("Accept: {accept}\r\n")),
                "{accept}"
            );
        }
        assert!(is_asked_by(
            "GET",
            "Accept: a/b\r\nAccept: text/event-stream\r\n"
        ));
        for accept in [
            "",
            "*/*",
            "text/*",
            "text/event-stream;q=0",
            "text/event-stream; q=0.000",
            "text/event-streams",
            "text/html;x=text/event-stream",
        ] {
            assert!(
                !is_asked_by("GET", &format!("Accept: {accept}\r\n")),
                "{accept}"
            );
        }
    }

    #[test]
    fn a_websocket_or_another_method_is_not_an_event_stream() {
        let accept = "Accept: text/event-stream\r\n";
        let upgrade = format!("{accept}Connection: Upgrade\r\nUpgrade: websocket\r\n");
        assert!(!is_asked_by("GET", &upgrade));
        assert!(!is_asked_by("POST", accept) && !is_asked_by("HEAD", accept));
        let other = format!("{accept}Connection: Upgrade\r\nUpgrade: h2c\r\n");
        assert!(is_asked_by("GET", &other));
    }

    fn message(kind: MessageKind, payload: &[u8]) -> String {
        let mut out = Vec::new();
        push_message(&mut out, None, kind, payload);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_of_a_text_is_a_line_of_data_whatever_ends_it() {
        for (text, expected) in [
            ("", "data: \n\n"),
            (" a", "data:  a\n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\rb\r\nc", "data: a\ndata: b\ndata: c\n\n"),
            ("\n", "data: \ndata: \n\n"),
            ("\r\r\n\n", "data: \ndata: \ndata: \ndata: \n\n"),
            ("id: x", "data: id: x\n\n"),
        ] {
            assert_eq!(
                message(MessageKind::Text, text.as_bytes()),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_binary_message_is_base64() {
        assert_eq!(
            message(MessageKind::Binary, b"\xff\n"),
            "event: binary\ndata: /wo=\n\n"
        );
        assert_eq!(
            message(MessageKind::Binary, b""),
            "event: binary\ndata: \n\n"
        );
    }

    #[test]
    fn the_id_is_the_position_behind_the_message() {
        let mut out = Vec::new();
        let at = "k3J9aZpQ-9007199254740991".parse().unwrap();
        push_message(&mut out, Some(&at), MessageKind::Text, b"x");
        assert_eq!(out, b"id: k3J9aZpQ-9007199254740991\ndata: x\n\n");
    }

    #[test]
    fn a_refusal_for_now_is_a_stream_that_ends() {
        let response = refusal(&Refusal::CAPACITY, &Cors::Anyone, 1234, None);
        let response = String::from_utf8(response.to_vec()).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
        assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
        assert!(!head.contains("Credentials") && !head.contains("Length"));
        assert_eq!(
            body,
            "retry: 1234\nevent: fanwire\ndata: {\"status\":503,\"error\":\"The server is full. Try again later.\",\
             \"retry\":1234}\n\n"
        );
    }
}
