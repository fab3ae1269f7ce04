//! The relay's own words in a stream.
//!
//! Clients with the subprotocol `fanwire.v1` understand them. For them, a text message that begins with U+0000 is the
//! relay's own; every other message is the topic's. Nobody else may publish such a text where a topic keeps messages.
//!
//! In an event stream, the relay's own words are events named `fanwire`, with the same JSON. Here is the only place that
//! writes either.

use std::fmt::Write;

use bytes::Bytes;

use super::events;
use super::form::Form;
use super::position::Position;
use crate::ws::close::CloseCode;
use crate::ws::encode::push_message;
use crate::ws::frame::MessageKind;

/// The name of the subprotocol.
pub(crate) const PROTOCOL: &str = "fanwire.v1";

/// The name of the subprotocol of raw messages and nothing else. It can always be selected.
pub(crate) const RAW: &str = "fanwire";

/// A client's question: is the connection alive, and is my count right?
pub(crate) const PROBE: &[u8] = b"\0";

/// Whether a message claims to be the relay's own.
pub(crate) fn is_reserved(kind: MessageKind, payload: &[u8]) -> bool {
    kind == MessageKind::Text && payload.first() == Some(&0)
}

/// The number of messages that are gone; `None` if it is not known.
pub(crate) type Lost = Option<u64>;

/// Appends the first words: the place where the stream begins, and what is gone before it.
pub(crate) fn push_hello(out: &mut Vec<u8>, form: Form, at: Position, lost: Lost) {
    let lost = lost.map_or_else(|| "null".to_owned(), |lost| lost.to_string());
    let json = format!("{{\"at\":\"{at}\",\"lost\":{lost}}}");
    push(out, form, Some(at), &json);
}

/// Appends the place that the client has reached. `lost` messages were skipped right before it, if any.
///
/// A topic that keeps no messages has no places. Then only an event stream is told what was skipped.
pub(crate) fn push_place(out: &mut Vec<u8>, form: Form, at: Option<Position>, lost: u64) {
    let at_member = at.map(|at| format!("\"at\":\"{at}\""));
    let lost_member = (lost > 0).then(|| format!("\"lost\":{lost}"));
    let members: Vec<String> = at_member.into_iter().chain(lost_member).collect();
    push(out, form, at, &format!("{{{}}}", members.join(",")));
}

/// Appends that messages are missing, or that the places go on in another epoch. The next message is the one behind `at`.
pub(crate) fn push_mark(out: &mut Vec<u8>, form: Form, at: Option<Position>, lost: Lost) {
    match (at, lost) {
        (Some(at), lost) => push_hello(out, form, at, lost),
        (None, Some(lost)) => push(out, form, None, &format!("{{\"lost\":{lost}}}")),
        (None, None) => push(out, form, None, "{\"lost\":null}"),
    }
}

/// The last words of an event stream, in the place of a Close: with the same code and reason, the place that the client has
/// reached, and the pause after which it is to come back, if they are known.
pub(crate) fn end(
    at: Option<Position>,
    code: CloseCode,
    reason: &str,
    pause_ms: Option<u64>,
) -> Bytes {
    let mut json = String::from("{");
    // Writing to a string does not fail.
    if let Some(at) = at {
        let _ = write!(json, "\"at\":\"{at}\",");
    }
    let _ = write!(json, "\"code\":{},\"reason\":\"{reason}\"", code.value());
    let mut out = Vec::new();
    if let Some(pause_ms) = pause_ms {
        let _ = write!(json, ",\"retry\":{pause_ms}");
        events::push_pause(&mut out, pause_ms);
    }
    json.push('}');
    events::push_own(&mut out, at, &json);
    Bytes::from(out)
}

/// Appends words in a form. They are JSON in one line.
fn push(out: &mut Vec<u8>, form: Form, at: Option<Position>, json: &str) {
    match form {
        Form::Frames | Form::Deflated => {
            push_message(out, MessageKind::Text, format!("\0{json}").as_bytes());
        }
        Form::Events => events::push_own(out, at, json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Position {
        "k3J9aZpQ-17234".parse().unwrap()
    }

    #[test]
    fn the_words_are_json_behind_a_zero() {
        let hello = |lost| {
            let mut frame = Vec::new();
            push_hello(&mut frame, Form::Frames, at(), lost);
            String::from_utf8(frame[2..].to_vec()).unwrap()
        };
        let place = |lost| {
            let mut frame = Vec::new();
            push_place(&mut frame, Form::Frames, Some(at()), lost);
            String::from_utf8(frame[2..].to_vec()).unwrap()
        };
        assert_eq!(hello(Some(0)), "\0{\"at\":\"k3J9aZpQ-17234\",\"lost\":0}");
        assert_eq!(hello(None), "\0{\"at\":\"k3J9aZpQ-17234\",\"lost\":null}");
        assert_eq!(place(0), "\0{\"at\":\"k3J9aZpQ-17234\"}");
        assert_eq!(place(83), "\0{\"at\":\"k3J9aZpQ-17234\",\"lost\":83}");
    }

    #[test]
    fn in_an_event_stream_all_words_carry_the_place_as_their_id() {
        let mut out = Vec::new();
        push_hello(&mut out, Form::Events, at(), Some(0));
        push_place(&mut out, Form::Events, Some(at()), 83);
        push_place(&mut out, Form::Events, None, 83);
        out.extend(end(
            Some(at()),
            CloseCode::GOING_AWAY,
            "going away",
            Some(99),
        ));
        out.extend(end(None, CloseCode::INTERNAL, "internal error", None));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "id: k3J9aZpQ-17234\nevent: fanwire\ndata: {\"at\":\"k3J9aZpQ-17234\",\"lost\":0}\n\n\
             id: k3J9aZpQ-17234\nevent: fanwire\ndata: {\"at\":\"k3J9aZpQ-17234\",\"lost\":83}\n\n\
             event: fanwire\ndata: {\"lost\":83}\n\n\
             retry: 99\nid: k3J9aZpQ-17234\nevent: fanwire\ndata: {\"at\":\"k3J9aZpQ-17234\",\"code\":1001,\
             \"reason\":\"going away\",\"retry\":99}\n\n\
             event: fanwire\ndata: {\"code\":1011,\"reason\":\"internal error\"}\n\n"
        );
    }

    #[test]
    fn only_texts_are_reserved() {
        assert!(is_reserved(MessageKind::Text, b"\0") && is_reserved(MessageKind::Text, b"\0x"));
        assert!(!is_reserved(MessageKind::Binary, b"\0") && !is_reserved(MessageKind::Text, b""));
        assert!(!is_reserved(MessageKind::Text, b"x\0"));
    }
}
