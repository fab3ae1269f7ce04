//! What the decoder keeps of a header, a message or a control frame whose rest has not arrived.
//!
//! Called by [`super::decode`] alone, which decides what may begin and what is complete. Here bytes are taken in,
//! unmasked and checked; each `fill` takes what there is and no more than it misses.

use super::assembled::Assembled;
use super::decode::{Message, Payload};
use super::error::DecodeError;
use super::frame::{
    ClientHeader, ControlKind, ControlPayload, MAX_CLIENT_HEADER_BYTES, MessageKind,
};
use super::mask::MaskKey;
use super::utf8::{NotUtf8, Utf8Progress};

/// A payload is read straight into its own buffer when at least this many bytes of the message have arrived and at
/// least as many of the frame are missing. Below, the way through the scratch is cheaper: it copies, but it also takes
/// in whatever follows the frame, where a direct read needs one more call for that.
const MIN_DIRECT_BYTES: usize = 32 << 10;

/// The most that one direct read is offered, in bytes: what was just zeroed is still in the cache when the kernel copies
/// over it. Then zeroing costs 3 % of the read, where zeroing megabytes at once costs 25 % (4 MiB messages over loopback).
const MAX_DIRECT_BYTES: usize = 128 << 10;

/// The front of a header whose rest has not arrived.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    len: u8,
    bytes: [u8; MAX_CLIENT_HEADER_BYTES - 1],
}

impl PartialHeader {
    /// The next header, or `None` with `input` used up and its bytes remembered.
    #[inline]
    pub(super) fn take(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<ClientHeader>, DecodeError> {
        if self.len > 0 {
            return self.resume(input);
        }
        if let Some((header, len)) = ClientHeader::parse(input)? {
            take_front(input, len);
            return Ok(Some(header));
        }
        self.resume(input)
    }

    /// Takes bytes until the header is complete. Errors do not wait for the rest of it.
    fn resume(&mut self, input: &mut &mut [u8]) -> Result<Option<ClientHeader>, DecodeError> {
        let known = usize::from(self.len);
        let mut bytes = [0; MAX_CLIENT_HEADER_BYTES];
        let more = input.len().min(bytes.len() - known);
        bytes[..known].copy_from_slice(&self.bytes[..known]);
        bytes[known..known + more].copy_from_slice(&input[..more]);
        if let Some((header, len)) = ClientHeader::parse(&bytes[..known + more])? {
            take_front(input, len - known);
            self.len = 0;
            return Ok(Some(header));
        }
        // Incomplete, so `input` is used up, and fewer bytes are known than the longest header has.
        take_front(input, more);
        self.len = (known + more) as u8;
        self.bytes
            .copy_from_slice(&bytes[..MAX_CLIENT_HEADER_BYTES - 1]);
        Ok(None)
    }
}

/// A message of which at least one frame's header has arrived.
#[derive(Debug)]
pub(super) struct PartialMessage {
    payload: Assembled,
    kind: MessageKind,
    utf8: Utf8Progress,
    /// The longest that the payload may become: what the last frame's header says, or the limit before that.
    most: usize,
    /// Of the current frame: payload that has not arrived. 0 between frames.
    missing: usize,
    /// Of the current frame: the key for the next byte.
    mask: MaskKey,
    /// Of the current frame: whether it is the message's last.
    fin: bool,
}

impl PartialMessage {
    /// Expects `len` bytes of a first frame, within the limit of `max` for the whole.
    pub(super) fn begin(
        kind: MessageKind,
        header: &ClientHeader,
        len: usize,
        max: usize,
    ) -> PartialMessage {
        let mut message = PartialMessage {
            payload: Assembled::default(),
            kind,
            utf8: Utf8Progress::default(),
            most: 0,
            missing: 0,
            mask: header.mask,
            fin: false,
        };
        message.begin_frame(header, len, max);
        message
    }

    /// Expects `len` bytes of a further frame, within the limit of `max` for the whole.
    pub(super) fn begin_frame(&mut self, header: &ClientHeader, len: usize, max: usize) {
        self.missing = len;
        self.mask = header.mask;
        self.fin = header.fin;
        self.most = if header.fin {
            self.payload.len() + len
        } else {
            max
        };
    }

    /// Takes of the current frame's payload what `input` has.
    pub(super) fn fill(&mut self, input: &mut &mut [u8]) -> Result<(), NotUtf8> {
        let count = self.missing.min(input.len());
        let piece = take_front(input, count);
        self.mask.apply(piece);
        self.payload.extend(piece, self.most);
        self.advance(count)
    }

    /// Where to read the current frame's payload into, if it is worth it; see [`super::decode::Decoder::direct_buffer`].
    pub(super) fn direct_buffer(&mut self) -> Option<&mut [u8]> {
        let count = self.payload.len().min(self.missing).min(MAX_DIRECT_BYTES);
        (count >= MIN_DIRECT_BYTES).then(|| self.payload.spare(count, self.most))
    }

    /// Takes of the current frame's payload what was read into [`PartialMessage::direct_buffer`].
    pub(super) fn commit(&mut self, count: usize) -> Result<(), NotUtf8> {
        assert!(
            count <= self.missing,
            "{count} bytes were read into a buffer for {}",
            self.missing
        );
        self.mask.apply(self.payload.commit(count));
        self.advance(count)
    }

    /// Whether the last byte of the last frame has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.fin && self.missing == 0
    }

    /// The complete message. A text must not end inside a code point.
    pub(super) fn into_message(self) -> Result<Message<'static>, NotUtf8> {
        if self.kind == MessageKind::Text && !self.utf8.is_whole(self.payload.len()) {
            return Err(NotUtf8);
        }
        Ok(Message {
            kind: self.kind,
            payload: Payload::Assembled(self.payload),
        })
    }

    /// Bytes of payload so far.
    pub(super) fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Bytes held on the heap, its own included.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<PartialMessage>() + self.payload.capacity()
    }

    fn advance(&mut self, count: usize) -> Result<(), NotUtf8> {
        self.missing -= count;
        self.mask = self.mask.after(count);
        match self.kind {
            MessageKind::Text => self.utf8.check(self.payload.as_slice()),
            MessageKind::Binary => Ok(()),
        }
    }
}

/// A control frame whose header has arrived.
#[derive(Debug)]
pub(super) struct PartialControl {
    kind: ControlKind,
    mask: MaskKey,
    payload: ControlPayload,
    missing: usize,
}

impl PartialControl {
    pub(super) fn begin(kind: ControlKind, header: &ClientHeader) -> PartialControl {
        let missing = header.payload_len as usize; // at most 125: `ClientHeader` has checked
        PartialControl {
            kind,
            mask: header.mask,
            payload: ControlPayload::EMPTY,
            missing,
        }
    }

    /// Takes of the payload what `input` has; it is unmasked when it is complete.
    pub(super) fn fill(&mut self, input: &mut &mut [u8]) {
        let piece = take_front(input, self.missing.min(input.len()));
        self.payload.extend(piece);
        self.missing -= piece.len();
    }

    /// Whether the last byte has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// What the complete frame carries.
    pub(super) fn into_payload(mut self) -> (ControlKind, ControlPayload) {
        self.mask.apply(self.payload.as_mut_slice());
        (self.kind, self.payload)
    }
}

/// Cuts the first `count` bytes off `input`, which has them.
#[inline]
pub(super) fn take_front<'a>(input: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    input
        .split_off_mut(..count)
        .expect("the caller has compared `count` with the length of `input`")
}
