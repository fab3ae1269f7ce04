//! The relay's own words in a stream, which clients with the subprotocol `fanwire.v1` understand.
//!
//! A text message that begins with U+0000 is the relay's own; every other message is the topic's. Nobody else may publish such
//! a text where a topic keeps messages.

use std::fmt::Write;

use bytes::Bytes;

use super::position::Position;
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

/// The first words: the place where the stream begins, and what is gone before it.
pub(crate) fn hello(at: Position, lost: Lost) -> Bytes {
    let lost = lost.map_or_else(|| "null".to_owned(), |lost| lost.to_string());
    frame(&format!("\0{{\"at\":\"{at}\",\"lost\":{lost}}}"))
}

/// The place that the client has reached. `lost` messages were skipped right before it, if any.
pub(crate) fn place(at: Position, lost: u64) -> Bytes {
    let mut text = format!("\0{{\"at\":\"{at}\"");
    if lost > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, ",\"lost\":{lost}");
    }
    text.push('}');
    frame(&text)
}

fn frame(text: &str) -> Bytes {
    let mut frame = Vec::new();
    push_message(&mut frame, MessageKind::Text, text.as_bytes());
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Position {
        "k3J9aZpQ-17234".parse().unwrap()
    }

    #[test]
    fn the_words_are_json_behind_a_zero() {
        let text = |frame: Bytes| String::from_utf8(frame[2..].to_vec()).unwrap();
        assert_eq!(
            text(hello(at(), Some(0))),
            "\0{\"at\":\"k3J9aZpQ-17234\",\"lost\":0}"
        );
        assert_eq!(
            text(hello(at(), None)),
            "\0{\"at\":\"k3J9aZpQ-17234\",\"lost\":null}"
        );
        assert_eq!(text(place(at(), 0)), "\0{\"at\":\"k3J9aZpQ-17234\"}");
        assert_eq!(
            text(place(at(), 83)),
            "\0{\"at\":\"k3J9aZpQ-17234\",\"lost\":83}"
        );
    }

    #[test]
    fn only_texts_are_reserved() {
        assert!(is_reserved(MessageKind::Text, b"\0") && is_reserved(MessageKind::Text, b"\0x"));
        assert!(!is_reserved(MessageKind::Binary, b"\0") && !is_reserved(MessageKind::Text, b""));
        assert!(!is_reserved(MessageKind::Text, b"x\0"));
    }
}
