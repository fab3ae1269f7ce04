//! The relay's own words in a stream of `fanwire.v1`, apart from the messages of the topic: a text that begins with
//! U+0000 is the relay's.
//!
//! A connection asks it about each message, whole or in pieces.

use super::websocket::wire::TEXT;

/// The longest word that is put together from pieces.
const MAX_WORD: usize = 1 << 10;

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
            (Pieces::Undecided | Pieces::Message, _) => return false,
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
