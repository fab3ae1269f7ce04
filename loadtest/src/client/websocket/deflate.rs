//! permessage-deflate from a client's side (RFC 7692): the offer, the server's answer, and an inflater of our own for each
//! connection.
//!
//! The reader of a connection calls it. Nothing that we send is compressed.

use tungstenite::http::HeaderMap;
use zlib_rs::{Inflate, InflateFlush, Status};

/// The field of the offer and of the answer.
const FIELD: &str = "Sec-WebSocket-Extensions";

/// The offer. We compress nothing, so the server need not remember anything of ours.
pub(crate) const OFFER: &str = "permessage-deflate; client_no_context_takeover";

/// The name of the extension.
const NAME: &str = "permessage-deflate";

/// The end of each compressed message, which does not travel (7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Bits of the largest window, which reads those of smaller ones too.
const WINDOW_BITS: u8 = 15;

/// The longest message before and after inflating: a little more than the longest that we send.
const MAX_BYTES: usize = (64 << 20) + (1 << 10);

/// The size to which a buffer shrinks.
const KEPT_BYTES: usize = 64 << 10;

/// The extension as a server has agreed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// It compresses each message by itself.
    forgets: bool,
}

impl Agreement {
    /// The agreement in the answer to a handshake; `None` if the server has not taken the extension. An error says what it may
    /// not answer.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Agreement>, String> {
        let mut agreed = None;
        for value in headers.get_all(FIELD) {
            let value = value.to_str().unwrap_or("?");
            for extension in value.split(',').filter(|part| !part.trim().is_empty()) {
                if agreed.is_some() {
                    return Err(format!("the answer has more than one extension: {value}"));
                }
                let read = Agreement::parse(extension);
                let why = || format!("the answer has an extension that was not offered: {value}");
                agreed = Some(read.ok_or_else(why)?);
            }
        }
        Ok(agreed)
    }

    fn parse(extension: &str) -> Option<Agreement> {
        let mut parts = extension.split(';').map(str::trim);
        if parts.next()? != NAME {
            return None;
        }
        let mut forgets = false;
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (part, None),
            };
            match (name, value) {
                ("server_no_context_takeover", None) => forgets = true,
                ("client_no_context_takeover", None) => {}
                ("server_max_window_bits", Some(bits)) => {
                    let bits: u8 = bits.parse().ok()?;
                    (8..=WINDOW_BITS).contains(&bits).then_some(())?;
                }
                _ => return None,
            }
        }
        Some(Agreement { forgets })
    }
}

/// The inflater of one connection.
pub(crate) struct Inflater {
    stream: Inflate,
    forgets: bool,
    /// The compressed payload of a message that comes in pieces, and its opcode.
    pieces: Vec<u8>,
    opcode: u8,
    /// The message.
    message: Vec<u8>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// For a connection with this agreement.
    pub(crate) fn new(agreement: Agreement) -> Inflater {
        Inflater {
            stream: Inflate::new(false, WINDOW_BITS),
            forgets: agreement.forgets,
            pieces: Vec::new(),
            opcode: 0,
            message: Vec::new(),
        }
    }

    /// A message begins that comes in pieces.
    pub(crate) fn begin(&mut self, opcode: u8) {
        self.opcode = opcode;
        self.pieces.clear();
    }

    /// Takes a piece of it.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        if self.pieces.len() + piece.len() > MAX_BYTES {
            return Err("a compressed message that is too long");
        }
        self.pieces.extend_from_slice(piece);
        Ok(())
    }

    /// The message whose last piece has come, and its opcode.
    pub(crate) fn end(&mut self) -> Result<(u8, &[u8]), &'static str> {
        let pieces = std::mem::take(&mut self.pieces);
        self.run(&pieces)?;
        self.pieces = pieces;
        self.pieces.clear();
        self.pieces.shrink_to(KEPT_BYTES);
        Ok((self.opcode, &self.message))
    }

    /// Inflates the payload of a message.
    pub(crate) fn inflate(&mut self, payload: &[u8]) -> Result<&[u8], &'static str> {
        self.run(payload)?;
        Ok(&self.message)
    }

    fn run(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        if self.forgets {
            self.stream.reset(false);
        }
        self.message.clear();
        self.message.shrink_to(KEPT_BYTES);
        self.take_in(payload)?;
        let len = self.message.len();
        self.take_in(&TAIL)?;
        if self.message.len() != len {
            return Err("a compressed message that is cut off");
        }
        Ok(())
    }

    fn take_in(&mut self, mut input: &[u8]) -> Result<(), &'static str> {
        loop {
            let len = self.message.len();
            if len > MAX_BYTES {
                return Err("a compressed message that is too long");
            }
            // There is always room for more, so that all of the input is taken.
            let room = (2 * input.len()).clamp(1 << 10, KEPT_BYTES);
            self.message.resize(len + room, 0);
            let (had_in, had_out) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(input, &mut self.message[len..], InflateFlush::NoFlush)
                .map_err(|_| "a compressed message that cannot be inflated")?;
            // Both are at most the length of a slice.
            let taken = (self.stream.total_in() - had_in) as usize;
            let made = (self.stream.total_out() - had_out) as usize;
            input = &input[taken..];
            self.message.truncate(len + made);
            match status {
                Status::StreamEnd => {
                    return Err("a compressed message with a last block, which is not understood");
                }
                Status::Ok | Status::BufError if input.is_empty() && made < room => return Ok(()),
                Status::BufError if taken == 0 && made == 0 => {
                    return Err("a compressed message that cannot be inflated");
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use zlib_rs::{Deflate, DeflateFlush};

    use super::*;

    /// A server's compressor.
    pub(crate) struct Compressor(Deflate);

    impl Compressor {
        pub(crate) fn new() -> Compressor {
            Compressor(Deflate::new(1, false, WINDOW_BITS))
        }

        /// The compressed payload of a message.
        pub(crate) fn compress(&mut self, message: &[u8]) -> Vec<u8> {
            let mut out = vec![0; 2 * message.len() + 64];
            let before = self.0.total_out();
            self.0
                .compress(message, &mut out, DeflateFlush::SyncFlush)
                .expect("there is room for more than it can make");
            out.truncate((self.0.total_out() - before) as usize);
            assert_eq!(out[out.len() - 4..], TAIL);
            out.truncate(out.len() - 4);
            out
        }
    }

    fn agreement(answer: &str) -> Result<Option<Agreement>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(FIELD, answer.parse().expect("ASCII"));
        Agreement::read(&headers)
    }

    #[test]
    fn answers_are_read_by_the_rules() {
        assert_eq!(Agreement::read(&HeaderMap::new()), Ok(None));
        for (answer, forgets) in [
            ("permessage-deflate", false),
            ("permessage-deflate;client_no_context_takeover", false),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                true,
            ),
            ("permessage-deflate; server_max_window_bits=\"12\"", false),
        ] {
            assert_eq!(
                agreement(answer),
                Ok(Some(Agreement { forgets })),
                "{answer}"
            );
        }
        for bad in [
            "deflate-frame",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; client_max_window_bits=15",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover=1",
        ] {
            assert!(agreement(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_inflated_with_the_context_of_those_before() {
        let mut compressor = Compressor::new();
        let mut inflater = Inflater::new(Agreement { forgets: false });
        for number in 0..300_usize {
            let message =
                format!(r#"{{"number":{number},"e":"trade"}}"#).repeat(1 + number % 9 * 40);
            let deflated = compressor.compress(message.as_bytes());
            assert_eq!(inflater.inflate(&deflated), Ok(message.as_bytes()));
        }
    }

    #[test]
    fn a_server_that_forgets_is_read_without_context() {
        let mut inflater = Inflater::new(Agreement { forgets: true });
        for _ in 0..3 {
            let deflated = Compressor::new().compress(b"Hello");
            assert_eq!(inflater.inflate(&deflated), Ok(&b"Hello"[..]));
        }
        let mut compressor = Compressor::new();
        let text = b"a sentence that is long enough to be referred to";
        assert!(inflater.inflate(&compressor.compress(text)).is_ok());
        let second = compressor.compress(text);
        assert!(inflater.inflate(&second).is_err(), "it refers to the first");
    }

    #[test]
    fn bytes_that_are_not_deflate_are_errors() {
        for bad in [&[0xff, 0xff][..], &[0x07], &[0x03, 0x00]] {
            let mut inflater = Inflater::new(Agreement { forgets: false });
            assert!(inflater.inflate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_while_it_is_inflated() {
        let mut compressor = Compressor::new();
        let zeros = vec![0; 1 << 20];
        let mut bomb = Vec::new();
        for _ in 0..66 {
            bomb.extend_from_slice(&compressor.compress(&zeros));
            bomb.extend_from_slice(&TAIL);
        }
        let mut inflater = Inflater::new(Agreement { forgets: false });
        assert!(inflater.inflate(&bomb).is_err());
        assert!(inflater.message.len() <= MAX_BYTES + KEPT_BYTES);
    }
}
