//! A client of a relay: it speaks WebSocket or posts, counts its place, and judges all that it is sent.

use fanwire::internals::ClientKey;
use fanwire::internals::cluster::{Epoch, Place};
use fanwire::internals::port;

use crate::client::{Heard, Session};
use crate::truth::{MessageId, Truth};

/// How far a client is.
#[derive(Debug)]
pub(crate) enum State {
    /// Its request is answered next. It had this place elsewhere.
    Asking(Option<Place>),
    /// It posts a message.
    Posting(MessageId),
    /// It asks about a topic.
    Curious,
    Open(Session),
    /// Nothing more comes.
    Over(Option<Place>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) number: u64,
    pub(crate) relay: usize,
    pub(crate) shard: usize,
    pub(crate) key: ClientKey,
    pub(crate) topic: String,
    pub(crate) understands: bool,
    pub(crate) state: State,
    bytes: Vec<u8>,
    /// Its own messages that it has not heard.
    pub(crate) unheard: Vec<MessageId>,
    pub(crate) tally: Vec<&'static str>,
}

/// A place as clients write it.
pub(crate) fn written(place: Place) -> String {
    let epoch = port::Epoch::from_bits(place.epoch.0);
    format!("{}-{}", epoch.as_str(), place.last)
}

/// A place as clients read it.
pub(crate) fn place_in(text: &str) -> Place {
    let (epoch, number) = text.split_once('-').expect("a position");
    let mut bits = 0;
    for digit in epoch.bytes().rev() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => panic!("{text} has no epoch"),
        };
        bits = bits * 62 + u64::from(value);
    }
    Place {
        epoch: Epoch(bits),
        last: number.parse().expect("a number"),
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Reader {
    pub(crate) fn new(
        number: u64,
        (relay, shard, key): (usize, usize, ClientKey),
        topic: &str,
        understands: bool,
        state: State,
    ) -> Self {
        Reader {
            number,
            relay,
            shard,
            key,
            topic: topic.into(),
            understands,
            state,
            bytes: Vec::new(),
            unheard: Vec::new(),
            tally: Vec::new(),
        }
    }

    /// Its request.
    pub(crate) fn request(&self) -> Vec<u8> {
        if let State::Posting(id) = self.state {
            let body = format!("{id} posted");
            return format!(
                "POST {} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                self.topic,
                body.len()
            )
            .into_bytes();
        }
        if let State::Curious = self.state {
            return format!("HEAD {} HTTP/1.1\r\nHost: a\r\n\r\n", self.topic).into_bytes();
        }
        let State::Asking(place) = &self.state else {
            panic!("it has asked");
        };
        let since = place.map_or_else(String::new, |place| format!("?since={}", written(place)));
        let words = if self.understands {
            "Sec-WebSocket-Protocol: fanwire.v1\r\n"
        } else {
            ""
        };
        format!(
            "GET {}{since} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{words}\r\n",
            self.topic
        )
        .into_bytes()
    }

    /// The frame of a message.
    pub(crate) fn frame(id: MessageId) -> Vec<u8> {
        let text = format!("{id} said");
        let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    /// The session, while it is open.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Open(session) => Some(session),
            State::Asking(_) | State::Posting(_) | State::Curious | State::Over(_) => None,
        }
    }

    /// Takes bytes of the relay.
    pub(crate) fn take(&mut self, bytes: impl Iterator<Item = u8>, truth: &Truth) {
        self.bytes.extend(bytes);
        loop {
            let taken = match &self.state {
                State::Asking(_) | State::Posting(_) | State::Curious => self.take_head(truth),
                State::Open(_) => self.take_frame(truth),
                State::Over(_) => return,
            };
            if taken == 0 {
                return;
            }
            self.bytes.drain(..taken);
        }
    }

    /// The connection has ended.
    pub(crate) fn end(&mut self) {
        let place = match &self.state {
            State::Open(session) => session.certain_place(),
            State::Asking(place) | State::Over(place) => *place,
            State::Posting(_) | State::Curious => None,
        };
        self.state = State::Over(place);
    }

    fn take_head(&mut self, truth: &Truth) -> usize {
        let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return 0;
        };
        let head = String::from_utf8(self.bytes[..end].to_vec()).expect("a head");
        let status = &head[9..12];
        if let State::Posting(id) = self.state {
            let len: usize =
                field(&head, "Content-Length").map_or(0, |len| len.parse().expect("a length"));
            if self.bytes.len() < end + 4 + len {
                return 0;
            }
            let body = String::from_utf8_lossy(&self.bytes[end + 4..]).into_owned();
            self.judge_post(id, status, &head, &body, truth);
            self.state = State::Over(None);
            return end + 4 + len;
        }
        if let State::Curious = self.state {
            self.tally.push("described");
            assert_eq!(status, "200", "{head}");
            assert!(field(&head, "Fanwire-Members").is_some(), "{head}");
            self.state = State::Over(None);
            return end + 4;
        }
        let State::Asking(place) = self.state else {
            return 0;
        };
        if status != "101" {
            assert_eq!(status, "503", "{head}");
            self.tally.push("refused with 503");
            self.state = State::Over(place);
            return 0;
        }
        if self.understands {
            // The first frame says where it begins.
            let Some((text, len)) = frame_of(&self.bytes[end + 4..]) else {
                return 0;
            };
            let (at, lost) = words(&text);
            self.begin(place, at, lost, truth);
            return end + 4 + len;
        }
        let at = field(&head, "Fanwire-Position").expect("a position");
        let lost = match field(&head, "Fanwire-Lost") {
            None => Some(0),
            Some("unknown") => None,
            Some(lost) => Some(lost.parse().expect("a number")),
        };
        self.begin(place, place_in(at), lost, truth);
        end + 4
    }

    fn begin(&mut self, place: Option<Place>, at: Place, lost: Option<u64>, truth: &Truth) {
        let mut session = Session::new(&self.topic, self.understands, at);
        if let Some(place) = place {
            session.place = place;
            match lost {
                Some(lost) => {
                    self.tally.push(if lost == 0 {
                        "resumed without a loss"
                    } else {
                        "resumed with a loss"
                    });
                    session.check_distance(lost, at, truth);
                }
                None => self.tally.push("resumed from nowhere"),
            }
            session.place = at;
        }
        self.state = State::Open(session);
    }

    fn judge_post(&mut self, id: MessageId, status: &str, head: &str, body: &str, truth: &Truth) {
        match (status, field(head, "Fanwire-Position")) {
            ("202", Some(at)) => {
                self.tally.push("posted");
                let at = place_in(at);
                assert!(
                    truth.places(id).contains(&at),
                    "message {id} is not at {at}"
                );
            }
            ("202", None) => assert!(truth.was_numbered(id), "message {id} is not published"),
            ("503", _) if body.contains("does not publish") || body.contains("shutting down") => {
                self.tally.push("post declined");
                assert!(!truth.was_numbered(id), "message {id} is published: {body}");
            }
            ("503", _) => self.tally.push("post unknown"),
            _ => panic!("{head}\n{body}"),
        }
    }

    fn take_frame(&mut self, truth: &Truth) -> usize {
        let [first, second, ..] = self.bytes[..] else {
            return 0;
        };
        let (start, len) = match second {
            126 => {
                let Some(len) = self.bytes.get(2..4) else {
                    return 0;
                };
                (4, usize::from(u16::from_be_bytes([len[0], len[1]])))
            }
            len => (2, usize::from(len)),
        };
        let Some(payload) = self.bytes.get(start..start + len) else {
            return 0;
        };
        let payload = payload.to_vec();
        let State::Open(session) = &mut self.state else {
            return 0;
        };
        match first {
            0x81 if payload.first() == Some(&0) => {
                let (at, lost) = words(&String::from_utf8(payload).expect("a text"));
                if let Some(lost) = lost {
                    session.check_distance(lost, at, truth);
                    session.place = at;
                } else {
                    session.begin_anew(at);
                }
                self.tally.push(match lost {
                    Some(0) => "told of an epoch",
                    Some(_) => "told of a gap",
                    None => "told of a break",
                });
                if lost != Some(0) {
                    self.unheard.clear();
                }
            }
            0x81 => {
                let text = String::from_utf8(payload).expect("a text");
                let id = text.split(' ').next().expect("an id");
                let id: MessageId = id.parse().expect("a number");
                self.tally.push("heard");
                self.unheard.retain(|&own| own != id);
                if self.understands {
                    let before = session.place;
                    session.hear(Heard { before, id }, truth);
                } else {
                    session.hear_blindly(id, truth);
                }
            }
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                let reason = String::from_utf8_lossy(&payload[2..]).into_owned();
                self.judge_close(code, &reason, truth);
            }
            other => panic!("a frame that begins with {other:x}"),
        }
        start + len
    }

    fn judge_close(&mut self, code: u16, reason: &str, truth: &Truth) {
        let State::Open(session) = &mut self.state else {
            return;
        };
        self.tally.push(match code {
            1001 => "closed in a drain",
            1013 if reason.starts_with("messages are missing") => "closed at a break",
            1013 if reason.starts_with("cannot publish") => "closed in an outage",
            // It reads nothing, or so slowly that its messages are not kept any more.
            1013 if reason.starts_with("slow consumer") => "closed for its lag",
            _ => panic!("Close {code}, {reason}"),
        });
        let at = reason.split("; ").find_map(|part| part.strip_prefix("at "));
        let at = place_in(at.unwrap_or_else(|| panic!("{reason} has no position")));
        assert!(
            session.may_be_at(at, truth),
            "client {}: {reason}, and it is at {}",
            self.number,
            session.place
        );
        self.state = State::Over(Some(at));
    }
}

fn frame_of(bytes: &[u8]) -> Option<(String, usize)> {
    let [0x81, len, rest @ ..] = bytes else {
        return None;
    };
    let len = usize::from(*len);
    assert!(len < 126, "short words");
    let text = rest.get(..len)?;
    Some((String::from_utf8(text.to_vec()).expect("a text"), 2 + len))
}

/// The place in the relay's own words, and what is lost.
fn words(text: &str) -> (Place, Option<u64>) {
    let rest = text
        .strip_prefix("\0{\"at\":\"")
        .unwrap_or_else(|| panic!("{text}"));
    let (at, rest) = rest.split_once('"').expect("a position");
    let lost = rest
        .strip_prefix(",\"lost\":")
        .unwrap_or_else(|| panic!("{text}"));
    let lost = lost.strip_suffix('}').expect("an object");
    (place_in(at), lost.parse().ok())
}
