//! Any bytes, cut anywhere, under any limit, through [`fanwire::internals::ws::Decoder`].
//!
//! It checks:
//!
//! - The events and the error do not depend on how the stream is cut, nor on whether it is read into the scratch or into the
//!   decoder's own buffer.
//! - An independent server sees the same. It may see more, because ours is stricter.
//! - Memory follows the bytes received. A decoder that is done holds nothing and stays done.
//! - A message in pieces becomes the same frame that the encoder makes.
//!
//! - If the client may compress, the decoder sees the same, up to the first compressed message, and then goes on.
//!
//! The input is the limit on messages, flags (1: read directly, 2: the client may compress), four sizes of reads, the place at
//! which the stream is stretched (two bytes) and by how many KiB, and the stream.

use std::io::{self, Read, Write};

use fanwire::internals::ws::{
    CloseCode, DecodeError, Decoder, Event, Message, MessageKind, Payload, push_message,
};
use tungstenite::WebSocket;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::input::Input;

/// A decoder may hold this much beside the payload: its records of a partial message and a partial control frame, and the
/// first allocation of a buffer.
const OVERHEAD_BYTES: usize = 1024;

/// An event of a decoder, without the place of its payload in memory.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Deflated(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Longer messages are not compared: the independent server makes room for what a header claims.
const MAX_COMPARED_BYTES: usize = 1 << 20;

/// A code of IANA's registry that the independent server does not know, and takes for a breach of the protocol.
const BAD_GATEWAY: u16 = 1014;

/// The events, and the error that ended them.
type Outcome = (Vec<Seen>, Option<DecodeError>);

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limit = limit(input.byte());
    let flags = input.byte();
    let (is_direct, takes_deflated) = (flags & 1 != 0, flags & 2 != 0);
    let reads = input.reads();
    let at = input.number();
    let stretch = vec![b'x'; usize::from(input.byte()) << 10];
    let mut stream = input.rest().to_vec();
    let at = at.min(stream.len());
    stream.splice(at..at, stretch);

    let reader = |is_direct, takes_deflated| Reader::new(is_direct, takes_deflated);
    let at_once = || std::iter::repeat(usize::MAX);
    let whole = reader(false, false).read(&stream, at_once(), || limit);
    let cut = reader(is_direct, false).read(&stream, reads.clone(), || limit);
    assert_eq!(cut, whole, "how a stream is cut changes nothing");
    if takes_deflated {
        let deflated = reader(false, true).read(&stream, at_once(), || limit);
        let cut = reader(is_direct, true).read(&stream, reads.clone(), || limit);
        assert_eq!(cut, deflated, "how a stream is cut changes nothing");
        compare_deflated(&deflated, &whole);
    }
    compare(
        &whole,
        &independent(stream.clone(), limit.min(MAX_COMPARED_BYTES)),
    );

    // A limit that changes on the way decides what is refused, and nothing else.
    let mut limits = [limit, limit / 2, limit.saturating_mul(2)]
        .into_iter()
        .cycle();
    reader(is_direct, takes_deflated).read(&stream, reads, || limits.next().unwrap_or_default());
}

/// Checks that a client that may compress is heard like any other, but for compressed messages.
fn compare_deflated(deflated: &Outcome, plain: &Outcome) {
    if plain.1 == Some(DecodeError::ReservedBits) {
        assert!(deflated.0.starts_with(&plain.0), "plain messages differ");
    } else {
        assert_eq!(deflated, plain, "nothing was compressed");
    }
}

/// Up to 199 itself, above that a power of two from 2⁸ to 2⁶³.
fn limit(byte: u8) -> usize {
    match byte {
        0..200 => usize::from(byte),
        power => 1 << (power - 192),
    }
}

/// A connection as its shard has it.
struct Reader {
    decoder: Decoder,
    is_direct: bool,
    seen: Vec<Seen>,
    /// Since the last message was complete: more than was received of the one under way.
    received: usize,
}

impl Reader {
    fn new(is_direct: bool, takes_deflated: bool) -> Self {
        let mut decoder = Decoder::default();
        if takes_deflated {
            decoder.take_deflated();
        }
        Reader {
            decoder,
            is_direct,
            seen: Vec::new(),
            received: 0,
        }
    }

    /// Reads all of `stream`.
    fn read(
        mut self,
        mut stream: &[u8],
        reads: impl Iterator<Item = usize>,
        mut limit: impl FnMut() -> usize,
    ) -> Outcome {
        for read in reads {
            if stream.is_empty() {
                break;
            }
            let size = read.min(stream.len());
            let own_buffer = self.is_direct.then(|| self.decoder.direct_buffer());
            let result = if let Some(buffer) = own_buffer.flatten() {
                let size = size.min(buffer.len());
                buffer[..size].copy_from_slice(&stream[..size]);
                stream = &stream[size..];
                self.take_direct(size)
            } else {
                let piece = &stream[..size];
                stream = &stream[size..];
                self.take_piece(piece, limit())
            };
            self.check_memory();
            if let Err(error) = result {
                self.check_end(Err(error));
                return (self.seen, Some(error));
            }
        }
        if matches!(self.seen.last(), Some(Seen::Close(_))) {
            self.check_end(Ok(()));
        }
        (self.seen, None)
    }

    fn take_direct(&mut self, count: usize) -> Result<(), DecodeError> {
        self.received += count;
        let event = self.decoder.decode_direct(count)?;
        if let Some(event) = event {
            self.see(event);
        }
        Ok(())
    }

    fn take_piece(&mut self, piece: &[u8], limit: usize) -> Result<(), DecodeError> {
        self.received += piece.len();
        let mut scratch = piece.to_vec();
        let mut input = &mut scratch[..];
        loop {
            let event = match self.decoder.decode(&mut input, limit) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                // The sign of a compressed message.
                Err(_) if self.decoder.is_in_deflated() => continue,
                Err(error) => return Err(error),
            };
            let rest = input.len();
            let is_message = matches!(event, Event::Message(_) | Event::Deflated(_));
            self.see(event);
            if is_message {
                self.received = rest;
            }
        }
        assert!(input.is_empty(), "nothing to yield, and yet bytes are left");
        Ok(())
    }

    fn see(&mut self, event: Event<'_>) {
        self.seen.push(match event {
            Event::Message(message) => seen_message(message),
            Event::Deflated(Message { kind, payload }) => {
                Seen::Deflated(kind, payload.as_slice().to_vec())
            }
            Event::Ping(payload) => Seen::Ping(payload.as_slice().to_vec()),
            Event::Pong => Seen::Pong,
            // How a message was cut does not matter.
            Event::Fragment { .. } => return,
            Event::Close(code) => Seen::Close(code.map(CloseCode::value)),
        });
    }

    /// A buffer doubles, and a direct read is offered as much as is there: four times what was received at most.
    fn check_memory(&self) {
        let (held, received) = (self.decoder.buffered_bytes(), self.received);
        let factor = if self.is_direct { 4 } else { 2 };
        assert!(
            held <= factor * received + OVERHEAD_BYTES,
            "{held} bytes are held of {received} received"
        );
    }

    /// Behind its last event, a decoder holds nothing, yields nothing and says so again.
    fn check_end(&mut self, end: Result<(), DecodeError>) {
        let mut scratch = *b"\x82\x81\0\0\0\0x";
        let mut input = &mut scratch[..];
        let again = self.decoder.decode(&mut input, usize::MAX);
        assert_eq!(again.map(|event| assert!(event.is_none())), end);
        assert_eq!(self.decoder.buffered_bytes(), 0, "of no use any more");
        assert!(self.decoder.direct_buffer().is_none());
    }
}

fn seen_message(message: Message<'_>) -> Seen {
    let kind = message.kind;
    let payload = message.payload.as_slice().to_vec();
    if kind == MessageKind::Text {
        assert!(std::str::from_utf8(&payload).is_ok(), "text is UTF-8");
    }
    if let Payload::Assembled(assembled) = message.payload {
        let mut expected = Vec::new();
        push_message(&mut expected, kind, &payload);
        assert_eq!(assembled.into_frame(kind), expected);
    }
    Seen::Message(kind, payload)
}

/// Checks that our events are the beginning of theirs. Their decoder accepts lengths that are not minimal, and checks text only
/// at the end of a frame. If ours sees no error, both are the same.
fn compare((ours, error): &Outcome, theirs: &[Seen]) {
    let mut ours = ours.clone();
    for seen in ours
        .iter_mut()
        .filter(|seen| **seen == Seen::Close(Some(BAD_GATEWAY)))
    {
        *seen = Seen::Close(Some(CloseCode::PROTOCOL_ERROR.value()));
    }
    match error {
        None => assert_eq!(ours, theirs, "an independent server sees something else"),
        Some(_) => assert!(
            theirs.starts_with(&ours),
            "{ours:?} is not how {theirs:?} begins"
        ),
    }
}

/// The events of an independent server until its first error or the end of the stream.
fn independent(stream: Vec<u8>, limit: usize) -> Vec<Seen> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(limit))
        // Control frames have up to 125 bytes, even if messages must be shorter.
        .max_frame_size(Some(limit.max(125)));
    let wire = Wire(io::Cursor::new(stream));
    let mut socket = WebSocket::from_raw_socket(wire, Role::Server, Some(config));
    let mut seen = Vec::new();
    while let Ok(message) = socket.read() {
        seen.push(match message {
            tungstenite::Message::Text(text) => {
                Seen::Message(MessageKind::Text, text.as_bytes().to_vec())
            }
            tungstenite::Message::Binary(bytes) => {
                Seen::Message(MessageKind::Binary, bytes.to_vec())
            }
            tungstenite::Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
            tungstenite::Message::Pong(_) => Seen::Pong,
            tungstenite::Message::Close(frame) => Seen::Close(frame.map(|frame| frame.code.into())),
            tungstenite::Message::Frame(_) => unreachable!("never returned by a read"),
        });
    }
    seen
}

/// A connection that is only memory, and swallows what is written.
struct Wire(io::Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
