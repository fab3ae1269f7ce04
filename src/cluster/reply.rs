//! Replies and messages of an engine, read from its bytes: RESP2.
//!
//! [`Replies`] collects what a connection brings. The crate `redis-protocol` parses it. Two things it leaves to us: it waits
//! for any announced length, and it recurses into arrays of arrays.
//!
//! So a walk over the heads comes first. It refuses replies that are too long, too deep, or end wrongly. It remembers its place,
//! so no head is read twice.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

/// Arrays within arrays. XRANGE answers with three levels.
const MAX_DEPTH: usize = 4;

/// The longest line in front of a value, and the longest status or error.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// One reply or one pushed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`.
    Status(Bytes),
    /// `-ERR …`, with its code in front.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// Nothing, where something could be.
    Nil,
    /// A list.
    Array(Vec<Reply>),
}

impl Reply {
    /// The bytes of a string or a status.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Reply::Bulk(bytes) | Reply::Status(bytes) => Some(bytes),
            Reply::Error(_) | Reply::Integer(_) | Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// A number that is not negative, as an integer or as decimal digits.
    pub fn number(&self) -> Option<u64> {
        match self {
            Reply::Integer(number) => u64::try_from(*number).ok(),
            Reply::Bulk(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            Reply::Status(_) | Reply::Error(_) | Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(items) => Some(items),
            Reply::Status(_)
            | Reply::Error(_)
            | Reply::Integer(_)
            | Reply::Bulk(_)
            | Reply::Nil => None,
        }
    }
}

impl From<BytesFrame> for Reply {
    fn from(frame: BytesFrame) -> Reply {
        match frame {
            BytesFrame::SimpleString(bytes) => Reply::Status(bytes),
            BytesFrame::Error(text) => Reply::Error(text.to_string()),
            BytesFrame::Integer(number) => Reply::Integer(number),
            BytesFrame::BulkString(bytes) => Reply::Bulk(bytes),
            BytesFrame::Array(items) => Reply::Array(items.into_iter().map(Reply::from).collect()),
            BytesFrame::Null => Reply::Nil,
        }
    }
}

/// The engine broke its protocol. The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRespError {
    /// A reply is longer than this connection may get, or announces to be.
    TooLong,
    /// Arrays are nested too deeply.
    TooDeep,
    /// The bytes are no RESP2.
    Rubbish,
}

impl std::error::Error for NotRespError {}

impl std::fmt::Display for NotRespError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NotRespError::TooLong => "the engine sent a reply that is longer than any it may send",
            NotRespError::TooDeep => "the engine sent a reply that is nested too deeply",
            NotRespError::Rubbish => "the engine does not speak RESP2: is this a Redis or Valkey?",
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Replies {
    bytes: BytesMut,
    walk: Walk,
    max_bytes: usize,
}

impl Replies {
    /// Nothing yet. No reply may be longer than `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Replies {
            bytes: BytesMut::new(),
            walk: Walk::default(),
            max_bytes,
        }
    }

    /// Takes what a read brought.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that are kept for a reply that is not complete, or was not taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no byte is kept.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next reply, if it is complete.
    pub fn take(&mut self) -> Result<Option<Reply>, NotRespError> {
        let Some(len) = self.walk.end(&self.bytes, self.max_bytes)? else {
            return Ok(None);
        };
        self.walk = Walk::default();
        let mut reply = self.bytes.split_to(len);
        match decode_bytes_mut(&mut reply) {
            Ok(Some((frame, used, _))) if used == len => Ok(Some(frame.into())),
            Ok(_) | Err(_) => Err(NotRespError::Rubbish),
        }
    }
}

/// A walk over the heads of one reply.
#[derive(Debug, Default)]
struct Walk {
    /// All before this is whole.
    at: usize,
    /// Items that are missing in each open array, the outermost first.
    missing: Vec<u64>,
}

impl Walk {
    /// The length of the reply in front of `bytes`, once it is complete.
    fn end(&mut self, bytes: &[u8], max_bytes: usize) -> Result<Option<usize>, NotRespError> {
        loop {
            let Some(value) = Value::read(&bytes[self.at..])? else {
                let is_too_long = bytes.len() > max_bytes.saturating_add(MAX_LINE_BYTES);
                return if is_too_long {
                    Err(NotRespError::TooLong)
                } else {
                    Ok(None)
                };
            };
            let end = (self.at as u64).saturating_add(value.len);
            // Each missing item takes three bytes at least.
            let least = value.items.saturating_mul(3).saturating_add(end);
            if least > max_bytes as u64 {
                return Err(NotRespError::TooLong);
            }
            // `end` is at most `max_bytes`.
            let end = end as usize;
            if end > bytes.len() {
                return Ok(None);
            }
            if value.is_bulk && !bytes[..end].ends_with(b"\r\n") {
                return Err(NotRespError::Rubbish);
            }
            self.at = end;
            if value.items > 0 {
                if self.missing.len() == MAX_DEPTH {
                    return Err(NotRespError::TooDeep);
                }
                self.missing.push(value.items);
                continue;
            }
            while let Some(missing) = self.missing.last_mut() {
                *missing -= 1;
                if *missing > 0 {
                    break;
                }
                self.missing.pop();
            }
            if self.missing.is_empty() {
                return Ok(Some(self.at));
            }
        }
    }
}

/// The head of a value.
struct Value {
    /// Bytes of the value; of an array, its head only.
    len: u64,
    /// Values that follow inside.
    items: u64,
    is_bulk: bool,
}

impl Value {
    fn read(bytes: &[u8]) -> Result<Option<Value>, NotRespError> {
        let Some(&kind) = bytes.first() else {
            return Ok(None);
        };
        if !b"+-:$*".contains(&kind) {
            return Err(NotRespError::Rubbish);
        }
        let near = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
        let Some(line) = near.windows(2).position(|pair| pair == b"\r\n") else {
            let is_too_long = bytes.len() >= MAX_LINE_BYTES;
            return if is_too_long {
                Err(NotRespError::TooLong)
            } else {
                Ok(None)
            };
        };
        let head = line as u64 + 2;
        let value = |len, items, is_bulk| {
            Ok(Some(Value {
                len,
                items,
                is_bulk,
            }))
        };
        match (kind, &bytes[1..line]) {
            (b':', digits) => number(digits).and_then(|_| value(head, 0, false)),
            (b'+' | b'-', _) | (_, b"-1") => value(head, 0, false),
            (b'$', digits) => {
                let len = u64::try_from(number(digits)?).map_err(|_| NotRespError::Rubbish)?;
                value(len.saturating_add(head + 2), 0, true)
            }
            (_, digits) => {
                let items = u64::try_from(number(digits)?).map_err(|_| NotRespError::Rubbish)?;
                value(head, items, false)
            }
        }
    }
}

fn number(digits: &[u8]) -> Result<i64, NotRespError> {
    let text = std::str::from_utf8(digits).map_err(|_| NotRespError::Rubbish)?;
    text.parse().map_err(|_| NotRespError::Rubbish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Reply>, NotRespError> {
        let mut replies = Replies::new(1000);
        replies.push(bytes);
        let mut found = Vec::new();
        while let Some(reply) = replies.take()? {
            found.push(reply);
        }
        Ok(found)
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let bulk = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$2\r\nhi\r\n$-1\r\n$0\r\n\r\n*2\r\n*1\r\n:1\r\n$1\r\nx\r\n*0\r\n*-1\r\n";
        let expected = vec![
            Reply::Status(Bytes::from_static(b"OK")),
            Reply::Error("ERR no".into()),
            Reply::Integer(-7),
            bulk("hi"),
            Reply::Nil,
            bulk(""),
            Reply::Array(vec![Reply::Array(vec![Reply::Integer(1)]), bulk("x")]),
            Reply::Array(Vec::new()),
            Reply::Nil,
        ];
        assert_eq!(all(bytes), Ok(expected.clone()));
        let (mut replies, mut found) = (Replies::new(1000), Vec::new());
        for byte in bytes {
            replies.push(&[*byte]);
            found.extend(replies.take().expect("RESP2"));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_huge_length_is_refused_when_it_is_announced() {
        for bytes in [
            &b"$1001\r\n"[..],
            b"$9223372036854775807\r\n",
            b"*9223372036854775807\r\n",
            b"*1000\r\n",
            b"*2\r\n$990\r\n",
        ] {
            assert_eq!(all(bytes), Err(NotRespError::TooLong), "{bytes:?}");
        }
        assert_eq!(all(&[b'+'; 5000]), Err(NotRespError::TooLong));
    }

    #[test]
    fn arrays_in_arrays_do_not_take_the_stack() {
        assert_eq!(all(&b"*1\r\n".repeat(200)), Err(NotRespError::TooDeep));
    }

    #[test]
    fn bytes_of_another_protocol_are_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad\r\n"[..],
            b"$-2\r\n",
            b"$x\r\n",
            b":\r\n",
            b"$1\r\nabc",
        ] {
            assert_eq!(all(bytes), Err(NotRespError::Rubbish), "{bytes:?}");
        }
    }
}
