//! The bytes on the wire: messages of one size. Each carries its sender and the count of the sender's messages before it.
//!
//! The load generator sends and checks them, and the floor has them ready-made. One size makes both cheap. If a frame is lost,
//! doubled, torn or out of order, the first bytes of the next frame show it. Readers of server-sent events get the same messages
//! as events, which have one size as well.

/// Bytes before the payload of a server frame: a length of 16 bits, and no mask (RFC 6455, section 5.2).
const SERVER_HEADER_BYTES: usize = 4;

/// Bytes before the payload of a client frame, which has a mask.
const CLIENT_HEADER_BYTES: usize = 8;

/// Bytes of the sender and its count.
const STAMP_BYTES: usize = 8;

/// The checked bytes of a server frame: the header, the sender, and the sender's count.
const FRAME_START_BYTES: usize = SERVER_HEADER_BYTES + STAMP_BYTES;

/// The bytes before the payload of an event, without a history. A text without line feeds is one line.
const EVENT_START: &[u8] = b"data: ";

/// The line feed behind the line, and the one that ends the event.
const EVENT_END_BYTES: usize = 2;

/// The first bytes of a frame or an event. They suffice for the check of both.
pub(crate) const CHECKED_BYTES: usize = EVENT_START.len() + STAMP_BYTES;

/// The mask of all frames. The server does not know it, and must unmask.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// The final frame of a text message.
const TEXT: u8 = 0x81;

/// The final frame of a binary message.
const BINARY: u8 = 0x82;

/// The rest of a message.
const FILLER: u8 = b'x';

/// Announces a length of 16 bits.
const LENGTH_16: u8 = 126;

/// The messages of a scenario: how many clients send them, how large, and how many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Clients that send. They are members, too.
    pub(crate) publishers: usize,
    /// Members of the topic.
    pub(crate) members: usize,
    /// Messages of each publisher that may be in flight.
    pub(crate) window: usize,
    /// Bytes of each message's payload.
    pub(crate) payload_bytes: usize,
    /// When a message is no longer in flight, or how often one is sent.
    pub(crate) pace: Pace,
    /// Whether the messages are texts. Server-sent events carry no others as they are.
    pub(crate) text: bool,
}

/// The encoding in which a member gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Frames of a WebSocket.
    Frames,
    /// Server-sent events, without positions.
    Events,
}

/// The pace of sending: by the messages in flight, or by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A message is in flight until all members have it. The server's work comes in rounds.
    All,
    /// A message is in flight until its sender has it back. New messages arrive while the server still sends the last ones to
    /// others.
    Sender,
    /// One publisher sends this number of messages a second, but only while the window has room, because the counts tell no more
    /// messages apart. The latency of a message that waits for room also counts from the moment it was due.
    PerSecond(u32),
}

impl Traffic {
    /// Bytes of each frame on its way to the server.
    pub(crate) fn client_frame_bytes(&self) -> usize {
        CLIENT_HEADER_BYTES + self.payload_bytes
    }

    /// Bytes of each frame on its way from the server.
    pub(crate) fn server_frame_bytes(&self) -> usize {
        SERVER_HEADER_BYTES + self.payload_bytes
    }

    /// Bytes of each message on its way to a member.
    pub(crate) fn bytes_in(&self, form: Form) -> usize {
        match form {
            Form::Frames => self.server_frame_bytes(),
            Form::Events => EVENT_START.len() + self.payload_bytes + EVENT_END_BYTES,
        }
    }

    /// The most messages in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.publishers * self.window
    }

    /// Counts of senders are modulo this number. It is large enough to tell apart all messages in flight.
    pub(crate) fn counts(&self) -> u32 {
        4 * self.window as u32
    }

    /// Appends the client frame of message `count` of `sender`.
    pub(crate) fn push_client_frame(&self, out: &mut Vec<u8>, sender: usize, count: u64) {
        out.extend_from_slice(&self.header(0x80));
        out.extend_from_slice(&MASK);
        let payload = out.len();
        out.extend_from_slice(&self.stamp(sender, count));
        out.resize(payload + self.payload_bytes, FILLER);
        for (index, byte) in out[payload..].iter_mut().enumerate() {
            *byte ^= MASK[index % MASK.len()];
        }
    }

    /// The first bytes of the server frame of message `count` of `sender`.
    pub(crate) fn server_frame_start(&self, sender: usize, count: u64) -> [u8; FRAME_START_BYTES] {
        let mut start = [0; FRAME_START_BYTES];
        start[..SERVER_HEADER_BYTES].copy_from_slice(&self.header(0));
        start[SERVER_HEADER_BYTES..].copy_from_slice(&self.stamp(sender, count));
        start
    }

    /// The sender and its count, if what is before them is the same as in every message.
    pub(crate) fn parse(&self, form: Form, start: &[u8; CHECKED_BYTES]) -> Option<(usize, u32)> {
        let stamp = match form {
            Form::Frames => start.strip_prefix(&self.header(0)),
            Form::Events => start.strip_prefix(EVENT_START),
        };
        let (sender, count) = stamp?[..STAMP_BYTES].split_at(STAMP_BYTES / 2);
        let (sender, count) = (number(sender)? as usize, number(count)?);
        (sender < self.publishers).then_some((sender, count))
    }

    fn header(&self, mask_bit: u8) -> [u8; SERVER_HEADER_BYTES] {
        let len = u16::try_from(self.payload_bytes).expect("payloads of 126 to 65535 bytes");
        assert!(
            len >= u16::from(LENGTH_16),
            "payloads of 126 to 65535 bytes"
        );
        let [high, low] = len.to_be_bytes();
        let opcode = if self.text { TEXT } else { BINARY };
        [opcode, mask_bit | LENGTH_16, high, low]
    }

    /// The sender and its count in letters, with six bits in each. So they are a line of text, too.
    fn stamp(&self, sender: usize, count: u64) -> [u8; STAMP_BYTES] {
        let count = count % u64::from(self.counts());
        let stamp = (sender as u64) << 24 | count;
        std::array::from_fn(|index| {
            // Six bits remain.
            let bits = (stamp >> (6 * (STAMP_BYTES - 1 - index))) as u8 & 0x3f;
            STAMP_ZERO + bits
        })
    }
}

/// The letter of the value 0. The letters of larger values follow in ASCII.
const STAMP_ZERO: u8 = b'0';

/// The number that half of a stamp stands for.
fn number(letters: &[u8]) -> Option<u32> {
    letters.iter().try_fold(0, |number, letter| {
        let bits = letter.checked_sub(STAMP_ZERO).filter(|&bits| bits < 64)?;
        Some(number << 6 | u32::from(bits))
    })
}
