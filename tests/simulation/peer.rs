//! A client: the bytes that it sends, and its answers to what it reads. It does not know what the relay should do; the
//! model does.

use std::collections::VecDeque;
use std::io::Read;

use fanwire::internals::port::Epoch;
use fanwire::internals::{ClientKey, Timestamp};

use crate::compressor::{Compressor, Offer};
use crate::counterpart::Counterpart;
use crate::events::Said;
use crate::model::positions::Asked;
use crate::pipe::Pipe;
use crate::plan::{HEALTH_PATH, Plan};
use crate::rng::Rng;
use crate::stream::{Item, Stream};
use crate::transport::Transport;

/// The reactions of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) answers_pings: bool,
    pub(crate) answers_close: bool,
    /// It shuts down its side when the server has done so.
    pub(crate) ends: bool,
    /// It sends frames before it has read the 101.
    pub(crate) pipelines: bool,
    /// It only listens.
    pub(crate) is_silent: bool,
}

/// The request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Upgrade,
    /// An event stream.
    Events,
    /// A health check.
    Check,
    /// Requests that publish or ask, one after the other.
    Posts,
    /// A request that must not be answered 101.
    Bad,
    /// The beginning of a request, and nothing more.
    Half,
}

/// The place where a client's stream is to begin, and whether it understands the relay's own words.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) asked: Asked,
    pub(crate) has_words: bool,
    /// The epoch of the number that it asks for.
    pub(crate) epoch: Epoch,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish {
            asked: Asked::default(),
            has_words: false,
            epoch: Epoch::from_bits(0),
        }
    }
}

impl Wish {
    fn query(&self) -> Option<String> {
        match &self.asked {
            Asked::Nothing => None,
            Asked::Number(number) | Asked::Foreign(number) => {
                Some(format!("since={}-{number}", self.epoch.as_str()))
            }
            Asked::Nonsense => Some("since=nonsense".into()),
            Asked::Last(most) => Some(format!("last={most}")),
        }
    }
}

/// A client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: usize,
    /// Its shard: the one that accepted it, or the one that it moved to.
    pub(crate) host: usize,
    /// Its key there, once it is accepted.
    pub(crate) key: Option<ClientKey>,
    /// It is moving to this host from the one that accepted it.
    pub(crate) is_moving: bool,
    pub(crate) topic: usize,
    pub(crate) request: Request,
    /// A trusted proxy is between.
    pub(crate) is_proxied: bool,
    /// The host of its shard had no seat for it.
    pub(crate) is_unseated: bool,
    pub(crate) manners: Manners,
    pub(crate) pipe: Pipe,
    /// The shard's end of the connection.
    pub(crate) transport: Transport,
    /// The client's end of it.
    pub(crate) counterpart: Counterpart,
    /// The bytes that it was sent, as the shard counts them.
    pub(crate) stream: Stream,
    /// It is in its host's list of clients with events.
    pub(crate) is_listed: bool,
    pub(crate) is_reading: bool,
    /// It has stopped reading for good.
    pub(crate) never_reads: bool,
    /// It has vanished: it neither reads nor writes nor ends.
    pub(crate) has_vanished: bool,
    /// It has read the 101.
    pub(crate) is_open: bool,
    /// It has sent or queued its last frame.
    pub(crate) has_said_goodbye: bool,
    /// The time when it began to break the protocol.
    pub(crate) offended_at: Option<Timestamp>,
    /// The time since which its connection has accepted nothing, if something waits for it.
    pub(crate) blocked_at: Option<Timestamp>,
    /// `blocked_at` was as long ago as allowed, so the relay may disconnect it for that.
    pub(crate) has_stalled: bool,
    /// It shuts down its side once everything is sent.
    pub(crate) shuts_when_sent: bool,
    /// The ends of the server's items that it has not read yet.
    unread: VecDeque<(u64, Item)>,
    read_offset: u64,
    /// Bytes that its transport took for it, and that it has not read yet.
    taken: VecDeque<u8>,
    /// Bytes not yet in the pipe.
    to_send: VecDeque<u8>,
    /// The number of bytes ever queued.
    pub(crate) queued_bytes: u64,
    /// The number of those that are the request.
    pub(crate) request_bytes: u64,
    pub(crate) wish: Wish,
    /// Requests that it has queued and that were not answered.
    pub(crate) requests_ahead: usize,
    pub(crate) offer: Offer,
    /// Its messages may be compressed, as it has read.
    pub(crate) compressor: Option<Compressor>,
    /// It has sent a compressed message.
    pub(crate) has_compressed: bool,
}

impl Peer {
    pub(crate) fn connect(id: usize, topic: usize, wish: Wish, plan: &Plan, rng: &mut Rng) -> Peer {
        let trouble = plan.trouble;
        let request = match rng.percent(trouble) {
            true if rng.percent(30) => Request::Half,
            true => Request::Bad,
            false if rng.percent(plan.checks) => Request::Check,
            false if rng.percent(plan.streams) => Request::Events,
            false if rng.percent(plan.posters) => Request::Posts,
            false => Request::Upgrade,
        };
        let (transport, counterpart) = if rng.percent(plan.encrypted) {
            let is_cut_short = request == Request::Half && rng.percent(50);
            let counterpart = Counterpart::records(plan, is_cut_short, rng);
            (Transport::records(plan, rng), counterpart)
        } else {
            (Transport::Plain, Counterpart::Plain)
        };
        let mut peer = Peer {
            id,
            host: rng.below(plan.shards),
            key: None,
            is_moving: false,
            topic,
            request,
            is_proxied: rng.percent(plan.proxied),
            is_unseated: false,
            manners: Manners {
                answers_pings: !rng.percent(trouble),
                answers_close: !rng.percent(trouble),
                ends: !rng.percent(trouble),
                pipelines: rng.percent(30),
                is_silent: rng.percent(25),
            },
            pipe: Pipe::new(plan),
            transport,
            counterpart,
            stream: Stream::default(),
            is_listed: false,
            is_reading: true,
            never_reads: false,
            has_vanished: false,
            is_open: false,
            has_said_goodbye: false,
            offended_at: None,
            blocked_at: None,
            has_stalled: false,
            shuts_when_sent: false,
            unread: VecDeque::new(),
            read_offset: 0,
            taken: VecDeque::new(),
            to_send: VecDeque::new(),
            queued_bytes: 0,
            request_bytes: 0,
            wish: Wish::default(),
            requests_ahead: 0,
            offer: Offer::Nothing,
            compressor: None,
            has_compressed: false,
        };
        peer.wish = wish;
        if rng.percent(plan.compressing) {
            peer.offer = rng.pick(&[
                Offer::InContext,
                Offer::InContext,
                Offer::Alone,
                Offer::Unwelcome,
            ]);
        }
        if request == Request::Posts {
            peer.stream = Stream::of_answers();
            return peer;
        }
        if request == Request::Events {
            peer.wish.has_words = true;
        } else if request != Request::Upgrade {
            // With a single topic, a request with another path is a good one.
            peer.wish.asked = Asked::Nothing;
        }
        let head = request_head(request, topic, &peer.wish, peer.offer, rng);
        peer.say(head.as_bytes());
        peer.request_bytes = peer.queued_bytes;
        peer
    }

    /// Whether it has nothing more to do with the relay.
    pub(crate) fn is_gone(&self) -> bool {
        self.has_vanished || self.pipe.is_over()
    }

    /// Whether it may send more.
    pub(crate) fn may_speak(&self) -> bool {
        let is_welcome = self.is_open || self.manners.pipelines;
        self.request == Request::Upgrade
            && is_welcome
            && !self.is_gone()
            && !self.has_said_goodbye
            && !self.shuts_when_sent
            && !self.pipe.is_shut_by_client()
    }

    /// Queues a message, compressed if it likes. Says whether it is.
    pub(crate) fn say_message(&mut self, is_text: bool, payload: &[u8], rng: &mut Rng) -> bool {
        let compressor = self.compressor.as_mut().filter(|_| rng.percent(70));
        let Some(compressor) = compressor else {
            self.say(&message(is_text, payload, rng));
            return false;
        };
        let payload = compressor.compress(payload);
        let opcode = if is_text { 0x41 } else { 0x42 };
        self.say(&frames(opcode, &payload, rng));
        self.has_compressed = true;
        true
    }

    /// Queues bytes.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.to_send.extend(bytes);
        self.queued_bytes += bytes.len() as u64;
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.to_send.len() + self.counterpart.unsent_bytes()
    }

    /// Whether it has begun to send something after its request, and has not finished.
    pub(crate) fn is_speaking(&self) -> bool {
        let sent = self.queued_bytes - self.unsent_bytes() as u64;
        self.unsent_bytes() > 0 && sent > self.request_bytes
    }

    /// Puts at most `most` bytes into the pipe. Returns whether anything happened.
    pub(crate) fn transmit(&mut self, most: usize) -> bool {
        if self.has_vanished || self.pipe.is_over() || self.pipe.is_shut_by_client() {
            return false;
        }
        if self.shuts_when_sent && self.to_send.is_empty() {
            self.counterpart.end();
        }
        let has_sent = self
            .counterpart
            .send(&mut self.pipe, &mut self.to_send, most);
        let shuts = self.shuts_when_sent && self.unsent_bytes() == 0;
        if shuts {
            self.pipe.shut_by_client();
        }
        has_sent || shuts
    }

    /// Shuts down its side at once, even in the middle of a frame.
    pub(crate) fn shut_at_once(&mut self) {
        self.to_send.clear();
        self.counterpart.fall_silent();
        self.shuts_when_sent = true;
        self.transmit(0);
    }

    /// Notes the bytes that the transport has taken for it, to compare them with what it reads.
    pub(crate) fn note_taken(&mut self, bytes: &[u8]) {
        self.taken.extend(bytes);
    }

    /// Notes an item that the server has sent, to be read later.
    pub(crate) fn expect(&mut self, offset: u64, item: Item) {
        self.unread.push_back((offset, item));
    }

    /// The number of messages sent to it, as the shard counts, that its transport has not completely sent.
    pub(crate) fn messages_held_back(&self) -> usize {
        let end = self.read_offset + self.taken.len() as u64;
        let sent = end - self.transport.held_back_bytes() as u64;
        let is_held_back = |(offset, item): &&(u64, Item)| {
            matches!(item, Item::Message { .. } | Item::Event { .. }) && *offset > sent
        };
        self.unread.iter().filter(is_held_back).count()
    }

    /// Whether it has read everything ever sent to it.
    pub(crate) fn has_read_everything(&self) -> bool {
        self.taken.is_empty() && self.unread.is_empty()
    }

    /// Reads at most `most` bytes and answers the items that they complete. Returns whether anything happened.
    pub(crate) fn read(&mut self, most: usize, rng: &mut Rng) -> bool {
        if self.is_gone() || !self.is_reading {
            return false;
        }
        let count = most.min(self.pipe.waiting_for_client());
        if count > 0 {
            let words = self.counterpart.receive(&mut self.pipe, count);
            self.hear(&words);
        }
        while let Some((_, item)) = self
            .unread
            .pop_front_if(|(offset, _)| *offset <= self.read_offset)
        {
            self.answer(&item, rng);
        }
        let is_at_end = self.pipe.is_at_servers_end();
        if is_at_end {
            self.counterpart
                .check_end(self.transport.has_said_goodbye());
            assert!(
                self.has_read_everything(),
                "client {}: the server has ended before all was sent",
                self.id
            );
        }
        let ends = is_at_end && self.manners.ends && !self.shuts_when_sent;
        if ends {
            // Nobody would read the rest.
            self.shut_at_once();
        }
        count > 0 || ends
    }

    fn hear(&mut self, words: &[u8]) {
        assert!(words.len() <= self.taken.len(), "more than was sent");
        let mut taken = vec![0; words.len()];
        self.taken
            .read_exact(&mut taken)
            .expect("as many were counted");
        assert!(taken == words, "client {} reads something else", self.id);
        self.read_offset += words.len() as u64;
    }

    fn answer(&mut self, item: &Item, rng: &mut Rng) {
        match item {
            Item::Response(status) => {
                self.is_open = *status == 101;
                if let Some(extension) = &self.stream.extension {
                    let expected = self.offer.answer();
                    assert_eq!(Some(&**extension), expected, "the answer to an offer");
                    self.compressor = Some(Compressor::new(self.offer, rng));
                }
            }
            Item::Ping if self.manners.answers_pings && self.may_speak() => {
                self.say(&frame(0x8a, b"", rng));
            }
            Item::Pause(_) => self.is_open = true,
            Item::Words(words) => match words.said {
                Said::Place { .. } => self.is_open = true,
                Said::End { .. } => self.has_said_goodbye = true,
                Said::Refused { .. } => {}
            },
            Item::Ping
            | Item::Message { .. }
            | Item::Pong(_)
            | Item::Event { .. }
            | Item::Comment
            | Item::Answer(_) => {}
            Item::Close { code, .. } => {
                let is_first = !std::mem::replace(&mut self.has_said_goodbye, true);
                if is_first && self.manners.answers_close {
                    let code = if *code == 1005 { 1000 } else { *code };
                    self.say(&frame(0x88, &code.to_be_bytes(), rng));
                }
            }
        }
    }
}

/// A client's complete frame, masked with a random key.
pub(crate) fn frame(first: u8, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut frame = vec![first];
    let len = payload.len();
    match len {
        0..=125 => frame.push(0x80 | len as u8),
        126..=0xffff => {
            frame.push(0xfe);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mask = (rng.next() as u32).to_be_bytes();
    frame.extend(mask);
    let start = frame.len();
    frame.extend_from_slice(payload);
    for four in frame[start..].chunks_mut(4) {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    frame
}

/// A message, complete or in fragments, with control frames in between that need no answer.
pub(crate) fn message(is_text: bool, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
    frames(if is_text { 0x1 } else { 0x2 }, payload, rng)
}

/// The same. `opcode` is that of the first frame, with its reserved bits.
fn frames(opcode: u8, payload: &[u8], rng: &mut Rng) -> Vec<u8> {
    if !rng.percent(20) {
        return frame(0x80 | opcode, payload, rng);
    }
    let (mut bytes, mut rest, mut opcode) = (Vec::new(), payload, opcode);
    for _ in 0..rng.within(1..=3) {
        let (piece, after) = rest.split_at(rng.within(0..=rest.len()));
        bytes.extend(frame(opcode, piece, rng));
        if rng.percent(30) {
            bytes.extend(frame(0x8a, b"between fragments", rng));
        }
        (rest, opcode) = (after, 0x0);
    }
    bytes.extend(frame(0x80, rest, rng));
    bytes
}

impl Peer {
    /// Frames that break the protocol in one way. A client that has offered to compress, and does not know the answer, leaves the
    /// reserved bits alone.
    pub(crate) fn offence(&self, max_message_bytes: usize, rng: &mut Rng) -> Vec<u8> {
        if self.compressor.is_some() && rng.percent(70) {
            return compressed_offence(max_message_bytes, rng);
        }
        loop {
            let bytes = offence(max_message_bytes, rng);
            let knows = self.is_open && self.compressor.is_none() || self.offer == Offer::Nothing;
            if bytes[0] & 0x40 == 0 || knows {
                return bytes;
            }
        }
    }
}

/// Frames of a client that may compress, and does it wrongly.
fn compressed_offence(max_message_bytes: usize, rng: &mut Rng) -> Vec<u8> {
    let hello: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    match rng.below(8) {
        // Another reserved bit, a control frame, a continuation.
        0 => frame(0xe1, &hello, rng),
        1 => frame(0xc9, b"", rng),
        2 => [frame(0x41, &hello, rng), frame(0xc0, b"", rng)].concat(),
        // No DEFLATE, a message that is cut short, one that is ended too often.
        3 => frame(0xc2, b"\xff", rng),
        4 => frame(0xc2, &hello[..rng.within(1..=6)], rng),
        5 => frame(0xc2, &[0x03, 0x00].repeat(rng.within(20..=200)), rng),
        // Not UTF-8.
        6 => {
            let text = Compressor::new(Offer::Alone, rng).compress(b"\xff\xff");
            frame(0xc1, &text, rng)
        }
        // A bomb.
        _ => {
            let len = max_message_bytes + rng.within(1..=200_000);
            let bomb = Compressor::deepest().compress(&vec![0xee; len]);
            frame(0xc2, &bomb, rng)
        }
    }
}

/// Frames that break the protocol in one way.
fn offence(max_message_bytes: usize, rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        // Unmasked.
        0 => vec![0x82, 0x01, b'x'],
        // A reserved opcode, a reserved bit.
        1 => frame(0x83, b"", rng),
        2 => frame(0xc2, b"", rng),
        // A continuation without a message.
        3 => frame(0x80, b"", rng),
        // Not UTF-8.
        4 => frame(0x81, b"\xff\xff", rng),
        // Too big, by its header alone.
        _ => {
            let mut bytes = vec![0x82, 0xff];
            bytes.extend((max_message_bytes.max(65_536) as u64 + 1).to_be_bytes());
            bytes.extend(*b"mask");
            bytes
        }
    }
}

/// A request for an event stream. Its place is in a field or in the query.
fn stream_head(topic: usize, wish: &Wish, rng: &mut Rng) -> String {
    let mut target = crate::plan::TOPICS[topic].0.to_owned();
    let mut field = String::new();
    match wish.query() {
        Some(query) if rng.percent(50) && query.starts_with("since=") => {
            field = query.replace("since=", "Last-Event-ID: ") + "\r\n";
        }
        Some(query) => {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&query);
        }
        None => {}
    }
    let (version, host) = rng.pick(&[("1.0", ""), ("1.1", "Host: relay\r\n")]);
    format!("GET {target} HTTP/{version}\r\n{host}{field}Accept: text/event-stream\r\n\r\n")
}

fn request_head(
    request: Request,
    topic: usize,
    wish: &Wish,
    extension: Offer,
    rng: &mut Rng,
) -> String {
    let mut target = crate::plan::TOPICS[topic].0.to_owned();
    if let Some(query) = wish.query() {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(&query);
    }
    let target = &*target;
    let offer = if wish.has_words {
        "Sec-WebSocket-Protocol: fanwire.v1\r\n"
    } else {
        ""
    };
    let extension = extension.line();
    let good = format!(
        "GET {target} HTTP/1.1\r\nHost: relay\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}{extension}\r\n"
    );
    match request {
        Request::Upgrade => good,
        Request::Events => stream_head(topic, wish, rng),
        Request::Posts => String::new(),
        Request::Check => format!("GET {HEALTH_PATH} HTTP/1.0\r\n\r\n"),
        Request::Half => good[..rng.below(good.len())].to_owned(),
        Request::Bad => match rng.below(6) {
            0 => good.replace("GET", "PUT"),
            1 => good.replace("Upgrade: websocket", "Upgrade: h2c"),
            2 => good.replace("Version: 13", "Version: 8"),
            3 => good.replace(target, &"/x".repeat(2000)),
            4 => "\x16\x03\x01\x02\x00\x01\x00".to_owned(),
            _ => good.replace(target, "/%zz"),
        },
    }
}
