//! The entry of a connection's messages in the books: the topic's messages, the relay's own words, and control frames.
//!
//! The readers of the protocols hand them on one by one.

use data_encoding::BASE64;

use super::events::inbound::{Event, Inbound as EventsInbound, Listener};
use super::meta;
use super::posts::{Answer, Posts};
use super::receiver::Receiver;
use super::websocket::deflate::Agreement;
use super::websocket::inbound::Inbound;
use super::websocket::outgoing::Outgoing;
use super::websocket::wire;
use super::words::{Own, Pieces, word};
use crate::check::books::Books;
use crate::check::position::{Counting, Position, Word};
use crate::check::posted::Posted;
use crate::check::received::Received;
use crate::scenario::plan::Wanted;
use crate::scenario::protocol::Protocol;

/// The reader of a connection's bytes, by the protocol that it speaks.
#[derive(Debug)]
pub(crate) enum Reader {
    /// Frames.
    WebSocket(Inbound),
    /// Server-sent events.
    Events(Box<EventsInbound>),
    /// Answers to posts.
    Posts(Box<Posts>),
}

impl Reader {
    /// The reader of a connection that has just been opened.
    pub(crate) fn new(protocol: Protocol) -> Reader {
        match protocol {
            Protocol::WebSocket | Protocol::Positions | Protocol::Meta => {
                Reader::WebSocket(Inbound::default())
            }
            Protocol::Events => Reader::Events(Box::default()),
            Protocol::Post { pipeline } => Reader::Posts(Box::new(Posts::new(pipeline))),
        }
    }
}

impl Reader {
    /// The server may compress from now on.
    pub(crate) fn agree(&mut self, agreement: Agreement) {
        if let Reader::WebSocket(inbound) = self {
            inbound.agree(agreement);
        }
    }
}

/// Enters the messages of a connection in the books, and answers its control frames.
pub(crate) struct Entry<'e> {
    pub(super) wanted: &'e Wanted,
    pub(super) received: &'e mut Received,
    pub(super) counting: &'e mut Counting,
    pub(super) pieces: &'e mut Pieces,
    /// A word of the relay that is wrong in its form.
    pub(super) fault: Option<&'static str>,
    pub(super) outgoing: &'e mut Outgoing,
    pub(super) close: &'e mut Option<u16>,
    /// Whether frames may still be sent: none may follow a Close of ours (RFC 6455, 5.5.1).
    pub(super) may_answer: bool,
    pub(super) books: &'e mut Books,
}

impl Entry<'_> {
    /// Takes bytes apart. Returns a fault of the peer, if there is one.
    pub(super) fn feed(&mut self, reader: &mut Reader, bytes: &[u8]) -> Option<&'static str> {
        let fed = match reader {
            Reader::WebSocket(inbound) => inbound.feed(bytes, self),
            Reader::Events(inbound) => inbound.feed(bytes, self),
            Reader::Posts(posts) => posts.feed(bytes, |answer| self.on_answer(&answer)),
        };
        let broken = fed.err();
        let broken = broken.or(self.fault);
        // Bytes behind a Close have no meaning, so they are never wrong.
        broken.filter(|_| self.close.is_none())
    }
}

impl Entry<'_> {
    /// Enters the answer to a post.
    fn on_answer(&mut self, answer: &Answer) {
        let Some(publisher) = self.wanted.publisher else {
            return;
        };
        self.books.on_answer(&Posted {
            publisher,
            sequence: answer.sequence,
            sent: answer.sent,
            status: answer.status,
            at: answer.at.as_ref(),
            before: answer.before.as_ref(),
        });
    }

    /// Takes off the lines before a message, and notes its id.
    fn without_meta<'p>(&mut self, payload: &'p [u8]) -> &'p [u8] {
        let Some((id, message)) = meta::split(payload) else {
            self.fault = Some("a message without its id");
            return payload;
        };
        self.counting.note_id(id);
        message
    }

    fn has_words(&self) -> bool {
        self.wanted.protocol == Protocol::Positions
    }

    /// Takes the JSON of a word.
    #[cold]
    fn on_word(&mut self, json: &[u8]) {
        let Some(word) = Word::parse(json) else {
            self.fault = Some("a word of the relay that is not a position");
            return;
        };
        if matches!(word, Word::Is(_)) && !self.counting.has_begun() {
            self.fault = Some("a position before the beginning of the stream");
            return;
        }
        self.books.on_word(self.received, self.counting, word);
    }

    /// Counts a message of the topic.
    #[inline]
    fn count(&mut self) {
        if self.has_words() && !self.counting.has_begun() {
            self.fault = Some("a message before the relay said where the stream begins");
        }
        self.counting.on_message();
    }

    /// Takes the relay's own words in an event stream: a position, a loss, or the end.
    #[cold]
    fn on_own_event(&mut self, json: &[u8]) {
        match Own::parse(json) {
            Some(Own::End(code)) => *self.close = Some(code),
            Some(Own::Lost(lost)) => self.books.on_skip(self.received, lost),
            None => self.on_word(json),
        }
    }

    /// Compares the id of an event with the count. Once the stream has positions, every event has one.
    #[inline]
    fn on_id(&mut self, id: Option<&[u8]>) {
        if !self.counting.has_begun() {
            return;
        }
        let Some(id) = id else {
            // The end of a stream names no position if the relay has none to name.
            if self.close.is_none() {
                self.fault = Some("an event without its position");
            }
            return;
        };
        if !self.counting.is_at(id) {
            self.books.on_other_position(self.counting, id);
        }
    }

    /// Compares the position at the end of a Close's reason, if there is one.
    fn on_reason(&mut self, payload: &[u8]) {
        let reason = payload.get(2..).unwrap_or_default();
        let reason = std::str::from_utf8(reason).unwrap_or_default();
        let said = reason.split("; ").find_map(|part| part.strip_prefix("at "));
        if let Some(at) = said.and_then(Position::parse)
            && self.has_words()
        {
            self.books.on_position(self.counting, &at);
        }
    }
}

impl Receiver for Entry<'_> {
    #[inline]
    fn on_message(&mut self, opcode: u8, payload: &[u8]) {
        let Wanted { kind, records, .. } = *self.wanted;
        if self.has_words()
            && let Some(json) = word(opcode, payload)
        {
            return self.on_word(json);
        }
        let payload = if self.wanted.protocol == Protocol::Meta {
            self.without_meta(payload)
        } else {
            payload
        };
        self.count();
        self.books
            .on_message(self.received, kind, records, opcode, payload);
    }

    fn on_start(&mut self, opcode: u8) {
        if self.wanted.protocol == Protocol::Meta {
            *self.pieces = Pieces::Whole(opcode, Vec::new());
            return;
        }
        if self.has_words() {
            *self.pieces = Pieces::start(opcode);
        }
        self.books.on_start(self.received, opcode);
    }

    fn on_piece(&mut self, piece: &[u8]) {
        if let Pieces::Whole(_, message) = self.pieces {
            return message.extend_from_slice(piece);
        }
        if self.has_words() {
            if self.pieces.take(piece) {
                return;
            }
            *self.pieces = Pieces::Message;
        }
        self.books.on_piece(self.received, piece);
    }

    fn on_end(&mut self) {
        let Wanted { kind, records, .. } = *self.wanted;
        match std::mem::take(self.pieces) {
            Pieces::Word(json) => {
                self.received.forget_piecemeal();
                return self.on_word(&json);
            }
            Pieces::Whole(opcode, message) => return self.on_message(opcode, &message),
            Pieces::Message | Pieces::Undecided => {}
        }
        self.count();
        self.books.on_end(self.received, kind, records);
    }

    #[inline]
    fn note_compression(&mut self, is_deflated: bool) {
        self.books.on_compression(is_deflated);
    }

    fn on_control(&mut self, opcode: u8, payload: &[u8]) {
        match opcode {
            wire::PING if self.may_answer => self.outgoing.push_control(wire::PONG, payload),
            wire::CLOSE if self.close.is_none() => {
                *self.close = Some(wire::close_code(payload));
                self.on_reason(payload);
                if self.may_answer {
                    // The same code goes back.
                    let code = &payload[..payload.len().min(2)];
                    self.outgoing.push_control(wire::CLOSE, code);
                }
            }
            _ => {}
        }
    }
}

impl Listener for Entry<'_> {
    fn on_event(&mut self, event: Event<'_>) {
        if self.close.is_some() {
            return;
        }
        match event.name {
            b"" | b"message" => self.on_message(wire::TEXT, event.data),
            b"binary" => {
                let mut decoded = std::mem::take(&mut self.books.decoded);
                decoded.resize(event.data.len() / 4 * 3 + 3, 0);
                let bytes = BASE64
                    .decode_len(event.data.len())
                    .ok()
                    .and_then(|length| BASE64.decode_mut(event.data, &mut decoded[..length]).ok());
                match bytes {
                    Some(bytes) => self.on_message(wire::BINARY, &decoded[..bytes]),
                    None => self.fault = Some("an event whose base64 cannot be decoded"),
                }
                self.books.decoded = decoded;
            }
            b"fanwire" => self.on_own_event(event.data),
            _ => self.fault = Some("an event of an unknown name"),
        }
        self.on_id(event.id);
    }
}
