//! A client of a script: what it says, its socket, and what the relay should make of what it said.
//!
//! The operations and the [`host`](super::host) of its shard call it. It knows nothing of shards.

use std::collections::VecDeque;

use fanwire::config::Topics;
use fanwire::internals::http::{HeadScanner, RequestHead};
use fanwire::internals::port::topic_name;
use fanwire::internals::relay::{Readiness, Router, Written};
use fanwire::internals::ws::{Decoder, Event, MessageKind};
use fanwire::internals::{ClientKey, ws};

use super::wire::Wire;

/// With this seed, two shards share the topics of a script, and so do three.
const SPREAD_SEED: u64 = 1;

/// The length of a transport's own part of a handshake. A socket takes less than that at first.
const GREETING_BYTES: usize = 280;

/// A message: whether it is text, and its payload.
pub(super) type Message = (bool, Vec<u8>);

/// Something that the socket has brought and the shard has not read.
#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// Something that breaks the encryption.
    BrokenRecord,
}

/// The result of one read of the socket.
#[derive(Debug)]
pub(super) enum Brought {
    Bytes(Vec<u8>),
    Nothing,
    Eof,
    Failure,
    TlsFailure,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    /// Its host. While it moves, the host that it moves to.
    pub(super) host: usize,
    /// The name that its shard gave it. It has none before it is taken in, and none while it moves.
    pub(super) key: Option<ClientKey>,
    /// The events of its socket that its host has not seen.
    pub(super) news: Readiness,
    /// It is in its host's list of those with news.
    pub(super) is_listed: bool,
    /// Its host has heard of the end of its input.
    pub(super) is_known_to_end: bool,
    /// Bytes that it has said and that its socket has not brought.
    pub(super) unsent: VecDeque<u8>,
    /// Nothing more will be said. The end comes behind what is unsent.
    pub(super) is_shut: bool,
    socket: VecDeque<Piece>,
    /// The socket has brought the end.
    has_ended: bool,
    is_reset: bool,
    /// Bytes that the socket will still take.
    room: usize,
    /// Bytes that its transport takes ahead of the socket, as TLS does. Zero if the client is not encrypted.
    takes_ahead: usize,
    /// Bytes that its transport has taken and the socket has not.
    pub(super) held_back: usize,
    /// Its transport can send nothing before something is read.
    pub(super) is_handshaking: bool,
    has_given_up_tls: bool,
    /// The socket did not take all of the last write: an edge is owed.
    pub(super) is_starved: bool,
    /// It moves to another shard when its shard lets it choose.
    pub(super) moves: bool,
    /// The shard has closed the connection.
    pub(super) is_closed: bool,
    /// The shard has shut its side.
    pub(super) is_finished: bool,
    /// The bytes that it received.
    pub(super) wire: Wire,
    reader: Reader,
}

/// A second reader of what the shard has read. Other targets check how requests and frames are read. This one checks the order
/// of what follows from them.
#[derive(Debug, Default)]
struct Reader {
    scanner: HeadScanner,
    head: Vec<u8>,
    is_upgraded: bool,
    is_dead: bool,
    topic: Option<String>,
    decoder: Decoder,
    /// Messages that have been read and not been accepted.
    said: VecDeque<Message>,
    pings: VecDeque<Vec<u8>>,
}

impl Client {
    /// A client that `host` will take in. Its transport encrypts if it takes bytes ahead.
    pub(super) fn new(host: usize, takes_ahead: usize) -> Self {
        Client {
            host,
            key: None,
            news: Readiness::default(),
            is_listed: false,
            is_known_to_end: false,
            unsent: VecDeque::new(),
            is_shut: false,
            socket: VecDeque::new(),
            has_ended: false,
            is_reset: false,
            room: 256,
            takes_ahead,
            held_back: 0,
            is_handshaking: false,
            has_given_up_tls: false,
            is_starved: false,
            moves: false,
            is_closed: false,
            is_finished: false,
            wire: Wire::default(),
            reader: Reader::default(),
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.takes_ahead > 0
    }

    /// Whether its connection has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.is_reset
    }

    /// Whether its host throws away what it sends, because it broke the encryption.
    pub(super) fn is_unheard(&self) -> bool {
        self.has_given_up_tls
    }

    // Its socket, as the kernel has it. An event is reported once.

    /// A host begins to watch the socket, and is told its whole state.
    pub(super) fn register(&mut self) {
        let is_over = self.has_ended || self.is_reset;
        self.is_known_to_end = false;
        let has_room = self.room > 0 || self.is_reset;
        self.is_starved &= !has_room;
        self.news = Readiness {
            is_readable: is_over || !self.socket.is_empty(),
            is_writable: has_room,
            is_read_closed: is_over,
            is_error: self.is_reset,
        };
    }

    /// The socket brings up to `size` unsent bytes, which one read may take. When there are none, it brings the end.
    pub(super) fn bring(&mut self, size: usize) {
        self.news.is_readable = true;
        let count = size.max(1).min(self.unsent.len());
        if count > 0 && !self.is_reset {
            let bytes = self.unsent.drain(..count).collect();
            self.socket.push_back(Piece::Bytes(bytes));
        } else if self.is_shut && !self.has_ended {
            self.has_ended = true;
            self.news.is_read_closed = true;
        }
    }

    /// Whether something is left to be brought.
    pub(super) fn has_more(&self) -> bool {
        let has_more = !self.unsent.is_empty() || self.is_shut && !self.has_ended;
        has_more && !self.is_reset && !self.is_closed
    }

    /// Whether everything that it said was read.
    pub(super) fn is_read(&self) -> bool {
        self.unsent.is_empty() && self.socket.is_empty()
    }

    /// The connection fails.
    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        self.unsent.clear();
        self.socket.clear();
        self.news = Readiness {
            is_readable: true,
            is_writable: true,
            is_read_closed: true,
            is_error: true,
        };
    }

    /// The socket brings something that breaks the encryption.
    pub(super) fn break_tls(&mut self) {
        if self.is_encrypted() && !self.is_reset {
            self.socket.push_back(Piece::BrokenRecord);
            self.news.is_readable = true;
        }
    }

    /// The socket takes `size` bytes more.
    pub(super) fn make_room(&mut self, size: usize) {
        self.room += size;
        if self.room > 0 && std::mem::take(&mut self.is_starved) {
            self.news.is_writable = true;
        }
    }

    /// Reads at most `most` bytes.
    pub(super) fn read(&mut self, most: usize) -> Brought {
        if self.is_reset {
            return Brought::Failure;
        }
        loop {
            match self.socket.pop_front() {
                None if self.has_ended => return Brought::Eof,
                None => return Brought::Nothing,
                Some(Piece::Bytes(mut bytes)) => {
                    if bytes.len() > most {
                        let rest = bytes.split_off(most);
                        self.socket.push_front(Piece::Bytes(rest));
                    }
                    if std::mem::take(&mut self.is_handshaking) {
                        self.greet();
                    }
                    return Brought::Bytes(bytes);
                }
                Some(Piece::BrokenRecord) if self.is_encrypted() => {
                    // The session is over, and so is what it held back.
                    self.has_given_up_tls = true;
                    (self.takes_ahead, self.held_back) = (0, 0);
                    self.is_handshaking = false;
                    return Brought::TlsFailure;
                }
                // The session is over: this is thrown away.
                Some(Piece::BrokenRecord) => {}
            }
        }
    }

    /// The transport sends its own part of the handshake. The shard does not know of it.
    fn greet(&mut self) {
        self.held_back += GREETING_BYTES;
        self.write(0);
    }

    /// Whether a read that filled only a part of its buffer has emptied the socket.
    pub(super) fn is_drained(&self) -> bool {
        self.socket.is_empty() && !self.is_known_to_end
    }

    /// Offers its transport some bytes. The transport sends on as much as the socket takes. `None` if the connection is dead.
    pub(super) fn write(&mut self, offered: usize) -> Option<Written> {
        if self.is_reset {
            return None;
        }
        let before = self.room;
        let all = self.held_back + offered;
        let sent = all.min(self.room);
        self.room -= sent;
        let taken = offered.min((sent + self.takes_ahead).saturating_sub(self.held_back));
        self.held_back = self.held_back + taken - sent;
        let is_blocked = self.held_back > 0 || taken < offered;
        self.is_starved |= is_blocked;
        Some(Written {
            taken,
            has_progressed: self.room < before,
            is_blocked,
            holds_back: self.held_back > 0,
        })
    }

    // Bytes that the client sends.

    pub(super) fn ask_for(&mut self, path: &str) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        self.unsent.extend(request.into_bytes());
    }

    /// A message of `size` bytes, or twice as many. Flags: 1 text, 2 in fragments, 4 twice as long; the rest is what it says.
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

    /// A frame, masked with zeros.
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

    // The second reader.

    /// Notes that the shard has read `bytes`.
    pub(super) fn note_read(&mut self, bytes: &[u8], topics: Topics, max_message_bytes: usize) {
        self.reader.read(bytes, topics, max_message_bytes);
    }

    /// The topic that it has asked for.
    pub(super) fn topic(&self) -> Option<&str> {
        self.reader.topic.as_deref()
    }

    /// The relay accepts the oldest message that was read and not accepted.
    pub(super) fn accept(&mut self) -> Message {
        let message = self.reader.said.pop_front();
        message.expect("a message is accepted once its last byte was read, and once only")
    }

    /// Whether there was a ping with this payload, no earlier than the one that was answered last.
    pub(super) fn answers(&mut self, pong: &[u8]) -> bool {
        let pings = &mut self.reader.pings;
        let at = pings.iter().position(|ping| ping == pong);
        at.is_some_and(|at| pings.drain(..=at).count() > 0)
    }

    /// Whether it may say more: it is upgraded, and has neither closed nor broken the protocol.
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
                Ok(Some(Event::Pong | Event::Fragment { .. })) => {}
                Ok(Some(Event::Deflated(_))) => unreachable!("nobody has agreed on that"),
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
    let upgrade = ws::upgrade(&head).ok()?;
    let topic = topic_name(topics, upgrade.target.path).ok()?;
    Some(topic.to_string())
}

/// A router like the relay's.
pub(super) fn router(shards: usize) -> Router {
    Router::new(shards as u16, SPREAD_SEED)
}
