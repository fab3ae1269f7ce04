//! A reader of what a client is sent, independent of the relay: one response, then frames (RFC 6455, section 5.2). It checks
//! every rule for servers. The [`host`](super::host) calls it after every write.

use super::super::head;

/// Something whole that a client was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Response(u16),
    Message(bool, Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    /// With its code, if it has one.
    Close(Option<u16>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Head,
    Refusal,
    Frames,
    Closed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wire {
    state: State,
    partial: Vec<u8>,
}

impl Wire {
    /// Takes in bytes that were written, and returns the items that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        self.partial.extend_from_slice(bytes);
        let (mut items, mut at) = (Vec::new(), 0);
        while let Some((item, len)) = self.next(at) {
            at += len;
            items.push(item);
        }
        self.partial.drain(..at);
        items
    }

    /// Whether something has begun and not ended.
    pub(super) fn is_torn(&self) -> bool {
        matches!(self.state, State::Head | State::Frames) && !self.partial.is_empty()
    }

    fn next(&mut self, at: usize) -> Option<(Item, usize)> {
        let bytes = &self.partial[at..];
        match self.state {
            State::Head => {
                let len = head::find(bytes, b"\r\n\r\n")? + 4;
                assert!(bytes.starts_with(b"HTTP/1.1 "), "no response");
                let digits = std::str::from_utf8(&bytes[9..12]).expect("ASCII");
                let status = digits.parse().expect("three digits");
                self.state = match status {
                    101 => State::Frames,
                    _ => State::Refusal,
                };
                Some((Item::Response(status), len))
            }
            State::Refusal => None,
            State::Closed => {
                assert!(bytes.is_empty(), "nothing follows a Close");
                None
            }
            State::Frames => {
                let (item, len) = frame(bytes)?;
                if matches!(item, Item::Close(_)) {
                    self.state = State::Closed;
                }
                Some((item, len))
            }
        }
    }
}

fn frame(bytes: &[u8]) -> Option<(Item, usize)> {
    let &[first, second, ref rest @ ..] = bytes else {
        return None;
    };
    assert_eq!(first & 0xf0, 0x80, "one final frame");
    let (len, header, least) = match second {
        126 => {
            let len = rest.first_chunk().copied().map(u16::from_be_bytes)?;
            (usize::from(len), 4, 126)
        }
        127 => {
            let len = rest.first_chunk().copied().map(u64::from_be_bytes)?;
            (usize::try_from(len).expect("in memory"), 10, 65_536)
        }
        len => {
            assert!(len < 0x80, "a server's frame is masked");
            (usize::from(len), 2, 0)
        }
    };
    assert!(len >= least, "a length of {len} in {header} bytes");
    let payload = bytes.get(header..header + len)?;
    let item = match first & 0x0f {
        0x1 => {
            assert!(std::str::from_utf8(payload).is_ok(), "text is UTF-8");
            Item::Message(true, payload.to_vec())
        }
        0x2 => Item::Message(false, payload.to_vec()),
        0x8 => Item::Close(payload.first_chunk().copied().map(u16::from_be_bytes)),
        0x9 => Item::Ping,
        0xa => Item::Pong(payload.to_vec()),
        opcode => panic!("opcode {opcode}"),
    };
    assert!(
        first & 0x8 == 0 || len <= 125,
        "a control frame of {len} bytes"
    );
    Some((item, header + len))
}
