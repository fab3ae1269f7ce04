//! Compressed messages of clients (RFC 7692, section 7.2.2).
//!
//! Each shard has one [`Inflater`] for all its clients, which it asks when the decoder has collected a whole compressed
//! message. Nothing is kept in it between two messages. A client that refers to earlier messages has a [`Window`] with the end
//! of what it has sent.
//!
//! The limit on messages holds while a message is inflated. So a bomb is never larger in memory than the largest message.

use simdutf8::basic;
use zlib_rs::{Inflate, InflateFlush, Status};

use super::assembled::Assembled;
use super::error::DecodeError;
use super::frame::MessageKind;
use super::message::{Message, Payload};

/// The longest distance to which DEFLATE can refer.
const WINDOW_BYTES: usize = 32 << 10;

/// The base-2 logarithm of that. The relay asks no client for a smaller window.
const WINDOW_BITS: u8 = 15;

/// A message that is not longer than this is inflated into a buffer that is used again. A longer one gets its own.
const SCRATCH_BYTES: usize = 16 << 10;

/// The end of each compressed message. The sender leaves it out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A last, empty block. If the message and [`TAIL`] are whole blocks, the stream ends here and not earlier or later. Otherwise
/// the message was cut short.
const PROOF: [u8; 2] = [0x03, 0x00];

/// A message may contain blocks that are marked as the last, because some senders end each message so. Each of them costs a
/// quarter of a microsecond, so their number is limited: a few, and one more for each of these bytes.
const BYTES_PER_LAST_BLOCK: usize = 64;
/// Such blocks in the shortest message.
const FEW_LAST_BLOCKS: usize = 16;

/// The longest compressed form of a message of `max` bytes. A client need not know that a message does not get shorter.
pub(super) fn max_deflated(max: usize) -> usize {
    max.saturating_add(max / 8).saturating_add(64)
}

/// The end of what a client has sent, to which its next message may refer.
#[derive(Debug)]
pub struct Window {
    /// A ring, once it is full.
    bytes: Vec<u8>,
    /// The place of the oldest byte in a full ring.
    oldest: usize,
}

impl Window {
    /// The memory that a window takes, from the beginning on.
    pub const BYTES: usize = WINDOW_BYTES;

    /// The window of a client that has sent nothing.
    pub fn new() -> Self {
        Window {
            bytes: Vec::with_capacity(WINDOW_BYTES),
            oldest: 0,
        }
    }

    /// The client has sent this message.
    fn push(&mut self, message: &[u8]) {
        let mut rest = &message[message.len().saturating_sub(WINDOW_BYTES)..];
        let room = WINDOW_BYTES - self.bytes.len();
        let fits;
        (fits, rest) = rest.split_at(rest.len().min(room));
        self.bytes.extend_from_slice(fits);
        while !rest.is_empty() {
            let place = &mut self.bytes[self.oldest..];
            let count = rest.len().min(place.len());
            let now;
            (now, rest) = rest.split_at(count);
            place[..count].copy_from_slice(now);
            self.oldest = (self.oldest + count) % WINDOW_BYTES;
        }
    }

    /// Its bytes, in two parts.
    fn parts(&self) -> [&[u8]; 2] {
        let (newer, older) = self.bytes.split_at(self.oldest);
        [older, newer]
    }
}

impl Default for Window {
    fn default() -> Self {
        Window::new()
    }
}

/// See the module. It takes 64 KiB.
pub struct Inflater {
    stream: Inflate,
    scratch: Box<[u8]>,
}

impl Inflater {
    /// An inflater for any number of clients.
    pub fn new() -> Self {
        Inflater {
            stream: Inflate::new(false, WINDOW_BITS),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        }
    }

    /// Inflates a message, which must have at most `max` bytes then. Text must be UTF-8.
    ///
    /// `window` is what the client has sent before, if its messages may refer to that. The message is added to it.
    pub fn inflate(
        &mut self,
        message: &Message<'_>,
        window: Option<&mut Window>,
        max: usize,
    ) -> Result<Message<'_>, DecodeError> {
        let Inflater { stream, scratch } = self;
        let mut output = Output {
            scratch,
            len: 0,
            larger: None,
            max,
        };
        // Some senders compress an empty message to nothing at all.
        let deflated = message.payload.as_slice();
        if !deflated.is_empty() {
            let earlier = window.as_deref().map(Window::parts).unwrap_or_default();
            inflate(stream, deflated, earlier, &mut output)?;
        }
        if message.kind == MessageKind::Text && basic::from_utf8(output.as_slice()).is_err() {
            return Err(DecodeError::TextNotUtf8);
        }
        if let Some(window) = window {
            window.push(output.as_slice());
        }
        Ok(Message {
            kind: message.kind,
            payload: output.into_payload(),
        })
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater::new()
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// Inflates the blocks of one message, which is not empty. It may refer to `earlier` bytes.
fn inflate(
    stream: &mut Inflate,
    deflated: &[u8],
    earlier: [&[u8]; 2],
    output: &mut Output<'_>,
) -> Result<(), DecodeError> {
    begin(stream, earlier, &[]);
    let mut last_blocks_left = FEW_LAST_BLOCKS + deflated.len() / BYTES_PER_LAST_BLOCK;
    let mut rest = deflated;
    while take_in(stream, &mut rest, output)? == Piece::Ended {
        if rest.is_empty() {
            // The sender has ended its stream, and with it the message.
            return Ok(());
        }
        // The next block begins with the next byte. It may refer to everything before it.
        last_blocks_left = last_blocks_left
            .checked_sub(1)
            .ok_or(DecodeError::TooManyLastBlocks)?;
        begin(stream, earlier, output.as_slice());
    }
    let len = output.len();
    for (mut piece, expected) in [(&TAIL[..], Piece::TakenIn), (&PROOF, Piece::Ended)] {
        let is_whole = take_in(stream, &mut piece, output)? == expected && piece.is_empty();
        if !is_whole || output.len() != len {
            return Err(DecodeError::NotDeflate);
        }
    }
    Ok(())
}

/// Begins a stream that may refer to `earlier` bytes and to the message so far.
fn begin(stream: &mut Inflate, earlier: [&[u8]; 2], message: &[u8]) {
    stream.reset(false);
    let recent = &message[message.len().saturating_sub(WINDOW_BYTES)..];
    for bytes in [earlier[0], earlier[1], recent] {
        if !bytes.is_empty() {
            stream
                .set_dictionary(bytes)
                .expect("a stream without a header takes a dictionary at any time");
        }
    }
}

/// The state of a stream after a piece of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// All of it is taken in, and more may follow.
    TakenIn,
    /// A block was the last. Behind it there may be a rest.
    Ended,
}

/// Inflates `input` up to its end, or to the end of the stream in it.
fn take_in(
    stream: &mut Inflate,
    input: &mut &[u8],
    output: &mut Output<'_>,
) -> Result<Piece, DecodeError> {
    loop {
        let room = output.room();
        let room_len = room.len();
        let (had_in, had_out) = (stream.total_in(), stream.total_out());
        let status = stream
            .decompress(input, room, InflateFlush::NoFlush)
            .map_err(|_| DecodeError::NotDeflate)?;
        // Both are at most the length of a slice.
        let taken = (stream.total_in() - had_in) as usize;
        let made = (stream.total_out() - had_out) as usize;
        *input = &input[taken..];
        output.commit(made)?;
        match status {
            Status::StreamEnd => return Ok(Piece::Ended),
            // Without progress, nothing more comes of this input.
            Status::Ok | Status::BufError if input.is_empty() && made < room_len => {
                return Ok(Piece::TakenIn);
            }
            Status::BufError if taken == 0 && made == 0 => return Err(DecodeError::NotDeflate),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// An inflated message while it grows.
struct Output<'a> {
    scratch: &'a mut [u8],
    /// Bytes in the scratch buffer, as long as the message is there.
    len: usize,
    /// The message, once it is longer than the scratch buffer.
    larger: Option<Assembled>,
    /// The limit for the message.
    max: usize,
}

impl<'a> Output<'a> {
    fn as_slice(&self) -> &[u8] {
        match &self.larger {
            None => &self.scratch[..self.len],
            Some(larger) => larger.as_slice(),
        }
    }

    fn len(&self) -> usize {
        match &self.larger {
            None => self.len,
            Some(larger) => larger.len(),
        }
    }

    /// Room for more; never empty. One byte more than the limit fits, as a proof that the message is too big.
    fn room(&mut self) -> &mut [u8] {
        let most = self.max.saturating_add(1);
        if self.larger.is_none() && self.len == self.scratch.len() {
            self.larger = Some(Assembled::from(&self.scratch[..]));
        }
        match &mut self.larger {
            None => {
                let end = self.scratch.len().min(most);
                &mut self.scratch[self.len..end]
            }
            Some(larger) => {
                let count = larger.len().min(most - larger.len());
                larger.spare(count, most)
            }
        }
    }

    /// The first `count` bytes of the room are filled.
    fn commit(&mut self, count: usize) -> Result<(), DecodeError> {
        match &mut self.larger {
            None => self.len += count,
            Some(larger) => {
                larger.commit(count);
            }
        }
        if self.len() > self.max {
            return Err(DecodeError::MessageTooBig);
        }
        Ok(())
    }

    fn into_payload(self) -> Payload<'a> {
        match self.larger {
            None => Payload::Scratch(&self.scratch[..self.len]),
            Some(larger) => Payload::Assembled(larger),
        }
    }
}

#[cfg(test)]
mod tests;
