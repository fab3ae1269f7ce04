//! The bytes on the wire: messages of one size. Each carries its sender and the count of the sender's messages before it.
//!
//! The load generator sends and checks them, and the floor has them ready-made. One size makes both cheap. If a frame is lost,
//! doubled, torn or out of order, the first twelve bytes of the next frame show it.

/// Bytes before the payload of a server frame: a length of 16 bits, and no mask (RFC 6455, section 5.2).
const SERVER_HEADER_BYTES: usize = 4;

/// Bytes before the payload of a client frame, which has a mask.
const CLIENT_HEADER_BYTES: usize = 8;

/// The checked bytes of a server frame: the header, the sender, and the sender's count.
pub(crate) const CHECKED_BYTES: usize = SERVER_HEADER_BYTES + 8;

/// The mask of all frames. The server does not know it, and must unmask.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// The final frame of a binary message.
const BINARY: u8 = 0x82;

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
        out.resize(payload + self.payload_bytes, MASK[0]);
        let stamp = self.stamp(sender, count);
        for (index, byte) in stamp.iter().enumerate() {
            out[payload + index] = byte ^ MASK[index % MASK.len()];
        }
    }

    /// The first bytes of the server frame of message `count` of `sender`.
    pub(crate) fn server_frame_start(&self, sender: usize, count: u64) -> [u8; CHECKED_BYTES] {
        let mut start = [0; CHECKED_BYTES];
        start[..SERVER_HEADER_BYTES].copy_from_slice(&self.header(0));
        start[SERVER_HEADER_BYTES..].copy_from_slice(&self.stamp(sender, count));
        start
    }

    /// The sender and its count, if the header is that of every server frame.
    pub(crate) fn parse(&self, start: &[u8; CHECKED_BYTES]) -> Option<(usize, u32)> {
        let (header, stamp) = start.split_at(SERVER_HEADER_BYTES);
        let stamp = u64::from_be_bytes(stamp.try_into().expect("eight bytes follow the header"));
        // The halves of the stamp.
        let (sender, count) = ((stamp >> 32) as usize, stamp as u32);
        (header == self.header(0) && sender < self.publishers).then_some((sender, count))
    }

    fn header(&self, mask_bit: u8) -> [u8; SERVER_HEADER_BYTES] {
        let len = u16::try_from(self.payload_bytes).expect("payloads of 126 to 65535 bytes");
        assert!(
            len >= u16::from(LENGTH_16),
            "payloads of 126 to 65535 bytes"
        );
        let [high, low] = len.to_be_bytes();
        [BINARY, mask_bit | LENGTH_16, high, low]
    }

    fn stamp(&self, sender: usize, count: u64) -> [u8; 8] {
        let count = count % u64::from(self.counts());
        ((sender as u64) << 32 | count).to_be_bytes()
    }
}
