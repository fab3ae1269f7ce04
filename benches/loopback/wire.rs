//! The bytes on the wire: messages of one size, each of which says who sent it and how many that sender had sent.
//!
//! The load generator sends and checks them, the floor has them ready-made. One size for all makes both cheap, and a
//! frame that is lost, doubled, torn or out of order shows in the first twelve bytes of the next.

/// Bytes before the payload of a server frame: a length of 16 bits, no mask (RFC 6455 5.2).
const SERVER_HEADER_BYTES: usize = 4;

/// The same of a client frame, which has a mask.
const CLIENT_HEADER_BYTES: usize = 8;

/// Bytes of a server frame that are checked: the header, the sender, the sender's count.
pub(crate) const CHECKED_BYTES: usize = SERVER_HEADER_BYTES + 8;

/// One mask for all: the server cannot know, and has to unmask.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// The final frame of a binary message.
const BINARY: u8 = 0x82;

/// Says that a length of 16 bits follows.
const LENGTH_16: u8 = 126;

/// What is sent, by how many, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Clients that send; they are members as all others are.
    pub(crate) publishers: usize,
    /// Members of the topic.
    pub(crate) members: usize,
    /// Messages of each publisher that may be in flight.
    pub(crate) window: usize,
    /// Bytes of each message's payload.
    pub(crate) payload_bytes: usize,
    /// Who has to have received a message for it to leave the window.
    pub(crate) pace: Pace,
}

/// When a message is no longer in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Once all members have it: the server's work comes in rounds.
    All,
    /// Once its sender has it back: new messages arrive while the last are still being sent to the others.
    Sender,
    /// One publisher sends so many in a second, however long they take, as long as no more than the window are in flight: the
    /// counts tell no more apart. Whatever waits for that counts from when it was due, too.
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

    /// Messages in flight at most.
    pub(crate) fn in_flight(&self) -> usize {
        self.publishers * self.window
    }

    /// Senders' counts are taken modulo this: enough to tell any message from all others that are on their way.
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

    /// The header that every server frame has, and who sent it.
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
