//! The relay's own words in a stream of `fanwire.v1`, apart from the messages of the topic: a text that begins with
//! U+0000 is the relay's.
//!
//! A connection asks it about each message, whole or in pieces.

use super::websocket::wire::TEXT;

/// The longest word that is put together from pieces.
const MAX_WORD: usize = 1 << 10;

/// Words of the relay that only an event stream has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// The end, in the place of a Close: its code, or the status of a refusal.
    End(u16),
    /// So many messages were skipped, in a topic that has no positions.
    Lost(u64),
}

impl Own {
    /// Reads the JSON; `None` if it is something else, such as a position.
    pub(crate) fn parse(json: &[u8]) -> Option<Own> {
        let value: serde_json::Value = serde_json::from_slice(json).ok()?;
        let code = value.get("code").or_else(|| value.get("status"));
        if let Some(code) = code.and_then(serde_json::Value::as_u64) {
            return code.try_into().ok().map(Own::End);
        }
        let lost = value.get("lost")?.as_u64()?;
        value.get("at").is_none().then_some(Own::Lost(lost))
    }
}

/// The JSON of a word, if a message in one piece is one.
#[inline]
pub(crate) fn word(opcode: u8, payload: &[u8]) -> Option<&[u8]> {
    match payload {
        [0, json @ ..] if opcode == TEXT => Some(json),
        _ => None,
    }
}

/// A message in pieces, as far as it is known whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// It is the topic's.
    #[default]
    Message,
    /// A text of which no byte has come yet.
    Undecided,
    /// It is kept until it is whole: its opcode, and its bytes so far.
    Whole(u8, Vec<u8>),
    /// It is the relay's: its JSON so far.
    Word(Vec<u8>),
}

impl Pieces {
    /// A message begins.
    pub(crate) fn start(opcode: u8) -> Pieces {
        if opcode == TEXT {
            Pieces::Undecided
        } else {
            Pieces::Message
        }
    }

    /// Takes a piece if it is the relay's, or shows whose the message is. Returns whether it is taken.
    pub(crate) fn take(&mut self, piece: &[u8]) -> bool {
        match (&mut *self, piece) {
            (Pieces::Undecided, [0, json @ ..]) => *self = Pieces::Word(json.to_vec()),
            (Pieces::Undecided, []) => {}
            (Pieces::Undecided | Pieces::Message | Pieces::Whole(..), _) => return false,
            (Pieces::Word(word), _) => {
                let room = MAX_WORD.saturating_sub(word.len());
                // The rest of a longer word is cut off. It cannot be read as JSON then, so it is not overlooked.
                word.extend_from_slice(&piece[..room.min(piece.len())]);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::websocket::wire::BINARY;
    use super::*;

    #[test]
    fn the_end_of_an_event_stream_is_told_from_a_position() {
        let parse = |text: &str| Own::parse(text.as_bytes());
        let end = r#"{"at":"a-1","code":1001,"reason":"going away","retry":99}"#;
        assert_eq!(parse(end), Some(Own::End(1001)));
        assert_eq!(
            parse(r#"{"status":503,"error":"full"}"#),
            Some(Own::End(503))
        );
        assert_eq!(parse(r#"{"lost":83}"#), Some(Own::Lost(83)));
        assert_eq!(parse(r#"{"at":"a-1","lost":83}"#), None);
        assert_eq!(parse("{"), None);
    }

    #[test]
    fn texts_that_begin_with_zero_are_words_and_nothing_else_is() {
        assert_eq!(word(TEXT, b"\0{}"), Some(&b"{}"[..]));
        assert_eq!(word(BINARY, b"\0{}"), None);
        assert_eq!(word(TEXT, b"{}"), None);
        let mut pieces = Pieces::start(TEXT);
        for piece in [&b""[..], b"\0{", b"}"] {
            assert!(pieces.take(piece));
        }
        assert_eq!(pieces, Pieces::Word(b"{}".to_vec()));
        assert!(!Pieces::start(TEXT).take(b"a"));
        assert!(!Pieces::start(BINARY).take(b"\0"));
    }
}
