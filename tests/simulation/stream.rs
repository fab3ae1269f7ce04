//! An independent reader of a client's input: one HTTP response, then frames (RFC 6455, section 5.2) or events. It checks every
//! rule that binds a server, and shares nothing with the relay's code.

use std::ops::Range;

use crate::events::{self, Said, Words};
use crate::inflater::Inflater;
use crate::model::positions::{Place, Told};

/// An item that a server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The status of the response.
    Response(u16),
    /// A complete message.
    Message {
        /// Text, or else binary.
        is_text: bool,
        payload: Vec<u8>,
    },
    Ping,
    Pong(Vec<u8>),
    /// A message in an event stream.
    Event {
        is_text: bool,
        payload: Vec<u8>,
        /// The number in its id.
        id: Option<Place>,
    },
    /// The relay's own words in an event stream.
    Words(Words),
    /// The beginning of an event stream without words.
    Pause(u64),
    /// A comment in an event stream.
    Comment,
    Close {
        /// The code; 1005 if the frame had none.
        code: u16,
        reason: String,
    },
    /// The answer to one of several requests.
    Answer(Answer),
}

/// A whole answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// The body of a refusal.
    Body,
    Frames,
    Events,
    Closed,
    /// Answers to requests, one after the other.
    Answers,
}

/// The reader.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    state: State,
    /// The received bytes of the next item.
    partial: Vec<u8>,
    /// The bytes of all items so far.
    offset: u64,
    /// The place where the stream begins, as the head of the response says.
    pub(crate) told: Option<Told>,
    /// The extension that the head of the response names.
    pub(crate) extension: Option<String>,
    /// It inflates what is compressed, which is an error without the extension.
    inflater: Option<Inflater>,
    /// Compressed messages so far.
    pub(crate) compressed: u64,
}

impl Stream {
    /// Reads answers to requests.
    pub(crate) fn of_answers() -> Stream {
        Stream {
            state: State::Answers,
            ..Stream::default()
        }
    }

    /// Takes in bytes. Returns the items that they complete, each with the offset of its end in the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<(u64, Item)>, String> {
        self.partial.extend_from_slice(bytes);
        let (mut items, mut at) = (Vec::new(), 0);
        while let Some((item, len)) = self.next(at)? {
            at += len;
            self.offset += len as u64;
            items.extend(item.map(|item| (self.offset, item)));
        }
        self.partial.drain(..at);
        Ok(items)
    }

    /// Whether a frame or the response has begun and not ended.
    pub(crate) fn is_torn(&self) -> bool {
        !self.partial.is_empty()
    }

    fn next(&mut self, at: usize) -> Result<Option<(Option<Item>, usize)>, String> {
        let bytes = &self.partial[at..];
        match self.state {
            State::Head => {
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return Ok(None);
                };
                let status = status(bytes)?;
                let head = &String::from_utf8_lossy(&bytes[..end]);
                let (position, lost) =
                    (field(head, "Fanwire-Position"), field(head, "Fanwire-Lost"));
                self.told = Told::of_fields(position, lost);
                self.extension = field(head, "Sec-WebSocket-Extensions").map(str::to_owned);
                self.inflater = self.extension.as_ref().map(|_| Inflater::default());
                let is_stream = field(head, "Content-Type") == Some("text/event-stream");
                self.state = match status {
                    101 => State::Frames,
                    200 if is_stream => State::Events,
                    _ => State::Body,
                };
                Ok(Some((Some(Item::Response(status)), end + 4)))
            }
            State::Answers => {
                let Some((answer, len)) = answer(bytes)? else {
                    return Ok(None);
                };
                Ok(Some((Some(Item::Answer(answer)), len)))
            }
            State::Body | State::Events | State::Closed if bytes.is_empty() => Ok(None),
            State::Body => Ok(Some((None, bytes.len()))),
            State::Frames => {
                let Some((header, payload)) = frame(bytes, self.inflater.is_some())? else {
                    return Ok(None);
                };
                let len = payload.end;
                let payload = &bytes[payload];
                let item = match &mut self.inflater {
                    Some(inflater) if header & 0x40 != 0 => {
                        self.compressed += 1;
                        item(header & 0x0f, &inflater.inflate(payload)?)?
                    }
                    Some(_) | None => item(header & 0x0f, payload)?,
                };
                if matches!(item, Item::Close { .. }) {
                    self.state = State::Closed;
                }
                Ok(Some((Some(item), len)))
            }
            State::Events => {
                let Some((item, len)) = events::block(bytes)? else {
                    return Ok(None);
                };
                if let Item::Words(words) = &item {
                    self.hear(words)?;
                }
                Ok(Some((Some(item), len)))
            }
            State::Closed => Err(format!("{} bytes behind Close", bytes.len())),
        }
    }
}

impl Stream {
    /// The place in the first words is that in the head. Nothing follows the last ones.
    fn hear(&mut self, words: &Words) -> Result<(), String> {
        match words.said {
            Said::Place { at, .. } => {
                let head = self.told.take().map(|told| (told.epoch, told.number));
                if head.is_some() && head != at {
                    return Err(format!("{head:?} in the head, and then {at:?}"));
                }
            }
            Said::End { .. } | Said::Refused { .. } => self.state = State::Closed,
        }
        Ok(())
    }
}

/// A whole answer and its length.
fn answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let status = status(bytes)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let len = field(&head, "Content-Length").map_or(Ok(0), str::parse);
    let len: usize = len.map_err(|_| "a length that is none".to_owned())?;
    let Some(body) = bytes.get(end + 4..end + 4 + len) else {
        return Ok(None);
    };
    let body = String::from_utf8_lossy(body).into_owned();
    Ok(Some((Answer { status, head, body }, end + 4 + len)))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n");
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn status(head: &[u8]) -> Result<u16, String> {
    let line = String::from_utf8_lossy(&head[..head.len().min(40)]).into_owned();
    let code = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("no status line: {line:?}"))
}

/// The first byte of a frame and the place of its payload, once it is complete. Messages may be compressed if that is agreed.
fn frame(bytes: &[u8], may_deflate: bool) -> Result<Option<(u8, Range<usize>)>, String> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    let is_message = matches!(first & 0x0f, 0x1 | 0x2);
    let reserved = if may_deflate && is_message {
        0x30
    } else {
        0x70
    };
    if first & (0x80 | reserved) != 0x80 {
        return Err(format!("first byte {first:#x}: not one final frame"));
    }
    if second & 0x80 != 0 {
        return Err("a server's frame is masked".into());
    }
    let Some((len, header)) = length(second, bytes)? else {
        return Ok(None);
    };
    if bytes.len() < header + len {
        return Ok(None);
    }
    if !is_message && len > 125 {
        return Err(format!("a control frame of {len} bytes"));
    }
    Ok(Some((first, header..header + len)))
}

fn length(second: u8, bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let (len, header, least) = match second {
        126 => {
            let Some(len) = bytes.get(2..4) else {
                return Ok(None);
            };
            (usize::from(u16::from_be_bytes([len[0], len[1]])), 4, 126)
        }
        127 => {
            let Some(len) = bytes.get(2..10) else {
                return Ok(None);
            };
            let len = len
                .iter()
                .fold(0, |len, &byte| len << 8 | usize::from(byte));
            (len, 10, 65_536)
        }
        len => (usize::from(len), 2, 0),
    };
    if len < least {
        return Err(format!("a length of {len} in {header} bytes"));
    }
    Ok(Some((len, header)))
}

fn item(opcode: u8, payload: &[u8]) -> Result<Item, String> {
    match opcode {
        0x1 if std::str::from_utf8(payload).is_err() => Err("text that is not UTF-8".into()),
        0x1 | 0x2 => Ok(Item::Message {
            is_text: opcode == 0x1,
            payload: payload.to_vec(),
        }),
        0x8 => match payload {
            [] => Ok(Item::Close {
                code: 1005,
                reason: String::new(),
            }),
            [high, low, reason @ ..] => Ok(Item::Close {
                code: u16::from_be_bytes([*high, *low]),
                reason: String::from_utf8(reason.to_vec()).map_err(|error| error.to_string())?,
            }),
            [_] => Err("a Close of one byte".into()),
        },
        0x9 => Ok(Item::Ping),
        0xa => Ok(Item::Pong(payload.to_vec())),
        _ => Err(format!("opcode {opcode}")),
    }
}

// Tests, run by `main`

pub(crate) fn a_torn_frame_is_noticed() {
    // A ping in the middle of a message of four bytes, so that its last two bytes are not a frame.
    let torn = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x04ab\x89\x00cd";
    assert!(Stream::default().push(torn).is_err());
}

pub(crate) fn nothing_may_follow_a_close() {
    let mut stream = Stream::default();
    let bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x88\x00\x82\x00";
    assert!(stream.push(bytes).is_err());
}
