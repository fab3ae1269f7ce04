//! A client of a script: the bytes that it still sends, and the expected effects of those that it has sent.

use std::collections::VecDeque;

use fanwire::config::Topics;
use fanwire::http::request::{HeadScanner, RequestHead};
use fanwire::ids::ClientKey;
use fanwire::port::topic_name::topic_name;
use fanwire::relay::router::Router;
use fanwire::relay::shard::Written;
use fanwire::ws::decode::{Decoder, Event};
use fanwire::ws::frame::MessageKind;
use fanwire::ws::handshake;

use super::wire::Wire;

/// Spreads the topics of a script over two shards and over three.
const SPREAD_SEED: u64 = 1;

/// Whether a message is text, and its payload.
pub(super) type Message = (bool, Vec<u8>);

/// A client of a script.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) host: usize,
    pub(super) key: ClientKey,
    /// Queued bytes that the shard has not read.
    pub(super) unsent: VecDeque<u8>,
    /// No more bytes will be queued.
    pub(super) is_shut: bool,
    /// The number of bytes that the socket accepts.
    pub(super) room: usize,
    /// The number of bytes that its transport takes ahead of the socket, like TLS.
    pub(super) takes_ahead: usize,
    /// Bytes that the transport has taken and the socket has not.
    pub(super) held_back: usize,
    /// The socket did not accept all of the last write, so an edge must follow.
    pub(super) is_starved: bool,
    /// The shard waits for something of its own before it reads again.
    pub(super) is_parked: bool,
    /// It moves to another shard, if it may.
    pub(super) moves: bool,
    /// It is moving there.
    pub(super) is_moving: bool,
    /// The shard has closed the connection.
    pub(super) is_closed: bool,
    /// The shard has shut down its side.
    pub(super) is_finished: bool,
    /// The bytes that it was sent.
    pub(super) wire: Wire,
    reader: Reader,
}

/// A second reading of the bytes that the shard has read. Other targets check requests and frames; this one checks the
/// order of their effects.
#[derive(Debug, Default)]
struct Reader {
    scanner: HeadScanner,
    head: Vec<u8>,
    is_upgraded: bool,
    is_dead: bool,
    topic: Option<String>,
    decoder: Decoder,
    /// Messages that have been read and not yet accepted.
    said: VecDeque<Message>,
    pings: VecDeque<Vec<u8>>,
}

impl Client {
    pub(super) fn new(host: usize, key: ClientKey) -> Self {
        Client {
            host,
            key,
            unsent: VecDeque::new(),
            is_shut: false,
            room: 256,
            takes_ahead: 0,
            held_back: 0,
            is_starved: false,
            is_parked: false,
            moves: false,
            is_moving: false,
            is_closed: false,
            is_finished: false,
            wire: Wire::default(),
            reader: Reader::default(),
        }
    }

    /// Offers bytes to its transport, which sends on as much as the socket accepts.
    pub(super) fn write(&mut self, offered: usize) -> Written {
        let before = self.room;
        let all = self.held_back + offered;
        let sent = all.min(self.room);
        self.room -= sent;
        let taken = offered.min(sent + self.takes_ahead - self.held_back);
        self.held_back = self.held_back + taken - sent;
        let is_blocked = self.held_back > 0 || taken < offered;
        self.is_starved |= is_blocked;
        Written {
            taken,
            has_progressed: self.room < before,
            is_blocked,
            holds_back: self.held_back > 0,
        }
    }

    // Sending

    pub(super) fn ask_for(&mut self, path: &str) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        self.unsent.extend(request.into_bytes());
    }

    /// Queues a message of `size` bytes. Flags: 1 text, 2 in fragments, 4 twice as long; the rest is the content.
    pub(super) fn say(&mut self, flags: u8, size: usize) {
        let opcode = if flags & 1 != 0 { 0x1 } else { 0x2 };
        let size = if flags & 4 != 0 { 2 * size } else { size };
        let payload = vec![b'a' + (flags >> 3) % 26; size];
        if flags & 2 == 0 {
            return self.say_frame(0x80 | opcode, &payload);
        }
        let (front, back) = payload.split_at(size / 3);
        self.say_frame(opcode, front);
        self.say_frame(0x80, back);
    }

    /// Queues a frame, masked with zeros.
    pub(super) fn say_frame(&mut self, first: u8, payload: &[u8]) {
        self.unsent.push_back(first);
        match payload.len() {
            len @ 0..126 => self.unsent.push_back(0x80 | len as u8),
            len @ 126..65_536 => {
                self.unsent.push_back(0x80 | 0x7e);
                self.unsent.extend((len as u16).to_be_bytes());
            }
            len => {
                self.unsent.push_back(0x80 | 0x7f);
                self.unsent.extend((len as u64).to_be_bytes());
            }
        }
        self.unsent.extend([0; 4]);
        self.unsent.extend(payload);
    }

    // Effects

    /// Notes that the shard has read `bytes`.
    pub(super) fn note_read(&mut self, bytes: &[u8], topics: Topics, max_message_bytes: usize) {
        self.reader.read(bytes, topics, max_message_bytes);
    }

    /// The requested topic.
    pub(super) fn topic(&self) -> Option<&str> {
        self.reader.topic.as_deref()
    }

    /// Accepts the oldest message that was read and not yet accepted.
    pub(super) fn accept(&mut self) -> Message {
        let message = self.reader.said.pop_front();
        message.expect("a message is accepted once its last byte was read, and once only")
    }

    /// Whether there was a ping with this payload, at or after the last one answered.
    pub(super) fn answers(&mut self, pong: &[u8]) -> bool {
        let pings = &mut self.reader.pings;
        let at = pings.iter().position(|ping| ping == pong);
        at.is_some_and(|at| pings.drain(..=at).count() > 0)
    }

    /// Whether its last bytes were a complete frame, so that more can follow.
    pub(super) fn is_open(&self) -> bool {
        self.reader.is_upgraded && !self.reader.is_dead && !self.is_closed
    }
}

impl Reader {
    fn read(&mut self, bytes: &[u8], topics: Topics, max_message_bytes: usize) {
        if self.is_dead {
            return;
        }
        if self.is_upgraded {
            return self.read_frames(bytes, max_message_bytes);
        }
        let Ok(end) = self.scanner.push(bytes, 512) else {
            self.is_dead = true;
            return;
        };
        let end_or_all = end.unwrap_or(bytes.len());
        self.head.extend_from_slice(&bytes[..end_or_all]);
        if end.is_none() {
            return;
        }
        self.topic = topic(&self.head, topics);
        self.is_upgraded = true;
        self.is_dead = self.topic.is_none();
        self.read(&bytes[end_or_all..], topics, max_message_bytes);
    }

    fn read_frames(&mut self, bytes: &[u8], max_message_bytes: usize) {
        let mut scratch = bytes.to_vec();
        let mut input = &mut scratch[..];
        loop {
            match self.decoder.decode(&mut input, max_message_bytes) {
                Ok(None) => return,
                Ok(Some(Event::Message(message))) => {
                    let is_text = message.kind == MessageKind::Text;
                    let payload = message.payload.as_slice().to_vec();
                    self.said.push_back((is_text, payload));
                }
                Ok(Some(Event::Ping(payload))) => self.pings.push_back(payload.as_slice().to_vec()),
                Ok(Some(Event::Pong)) => {}
                Ok(Some(Event::Close(_))) | Err(_) => {
                    self.is_dead = true;
                    return;
                }
            }
        }
    }
}

fn topic(head: &[u8], topics: Topics) -> Option<String> {
    let head = RequestHead::parse(head).ok()?;
    let upgrade = handshake::upgrade(&head).ok()?;
    let topic = topic_name(topics, upgrade.path_and_query).ok()?;
    Some(topic.to_string())
}

/// A router like the relay's.
pub(super) fn router(shards: usize) -> Router {
    Router::new(shards as u16, SPREAD_SEED)
}
