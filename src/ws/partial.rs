//! Headers, messages and control frames that have arrived only in part.
//!
//! Only [`super::decode`] calls this. It decides which frames may begin; this file takes in, unmasks and checks their
//! bytes. Each `fill` takes only the bytes that are still missing.

use super::assembled::Assembled;
use super::error::DecodeError;
use super::frame::{
    ClientHeader, ControlKind, ControlPayload, MAX_CLIENT_HEADER_BYTES, MessageKind, mark_deflated,
    unmark_deflated,
};
use super::mask::MaskKey;
use super::message::{Message, Payload};
use super::utf8::{NotUtf8, Utf8Progress};

/// A payload is read directly into its own buffer if this many bytes of the message have arrived, and as many of the
/// frame are missing. A smaller rest is cheaper through the scratch buffer: that costs a copy, but the
/// same read also takes in the frames that follow.
const MIN_DIRECT_BYTES: usize = 32 << 10;

/// The largest direct read, in bytes. At this size, the bytes just zeroed are still in the cache when the kernel
/// overwrites them: zeroing costs 3 % of the read. Zeroing megabytes at once costs 25 % (4 MiB messages over loopback).
const MAX_DIRECT_BYTES: usize = 128 << 10;

/// The first bytes of an incomplete header.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    len: u8,
    bytes: [u8; MAX_CLIENT_HEADER_BYTES - 1],
}

impl PartialHeader {
    /// Returns the next header. `None` if `input` ends before it does; its bytes are then kept.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "with several callers it would be a call for every plain message"
    )]
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

    /// The same, after [`PartialHeader::take`] has met a reserved bit: it may be the sign of a compressed message, whose first
    /// header this is.
    #[cold]
    pub(super) fn take_deflated(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<ClientHeader>, DecodeError> {
        let first = if self.len > 0 {
            self.bytes.first_mut()
        } else {
            input.first_mut()
        };
        let Some(first) = first else {
            return Ok(None);
        };
        *first = unmark_deflated(*first)?;
        let header = self.take(input)?;
        if header.is_none() {
            self.bytes[0] = mark_deflated(self.bytes[0]);
        }
        Ok(header)
    }

    /// Takes bytes until the header is complete, or until one of them is an error.
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
        // Still incomplete, so all of `input` belongs to the header, and all bytes so far fit in `self.bytes`.
        take_front(input, more);
        self.len = (known + more) as u8;
        self.bytes
            .copy_from_slice(&bytes[..MAX_CLIENT_HEADER_BYTES - 1]);
        Ok(None)
    }
}

/// The meaning of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It is the message.
    Plain(MessageKind),
    /// It is compressed.
    Deflated(MessageKind),
}

/// A complete message as it has arrived.
#[derive(Debug)]
pub(super) enum Whole {
    /// It is checked.
    Plain(Message<'static>),
    /// It is compressed, and nothing is known about it.
    Deflated(Message<'static>),
}

/// A message of which at least one frame's header has arrived.
#[derive(Debug)]
pub(super) struct PartialMessage {
    payload: Assembled,
    content: Content,
    utf8: Utf8Progress,
    /// The limit for the payload. Once the last frame has begun, this is the exact length.
    max_len: usize,
    /// Bytes of the current frame's payload that have not arrived. 0 between frames.
    missing: usize,
    /// The mask for the next byte of the current frame.
    mask: MaskKey,
    /// Whether the current frame is the last of the message.
    fin: bool,
}

impl PartialMessage {
    /// Starts a message whose first frame has `len` bytes. `max` limits the whole message.
    pub(super) fn begin(
        content: Content,
        header: &ClientHeader,
        len: usize,
        max: usize,
    ) -> PartialMessage {
        let mut message = PartialMessage {
            payload: Assembled::default(),
            content,
            utf8: Utf8Progress::default(),
            max_len: 0,
            missing: 0,
            mask: header.mask,
            fin: false,
        };
        message.begin_frame(header, len, max);
        message
    }

    /// A message that is complete. Text has been checked.
    pub(super) fn whole(kind: MessageKind, payload: Assembled) -> PartialMessage {
        PartialMessage {
            content: Content::Plain(kind),
            utf8: Utf8Progress::checked(payload.len()),
            max_len: payload.len(),
            missing: 0,
            mask: MaskKey::default(),
            fin: true,
            payload,
        }
    }

    /// Starts a further frame of `len` bytes. `max` limits the whole message.
    pub(super) fn begin_frame(&mut self, header: &ClientHeader, len: usize, max: usize) {
        self.missing = len;
        self.mask = header.mask;
        self.fin = header.fin;
        self.max_len = if header.fin {
            self.payload.len() + len
        } else {
            max
        };
    }

    /// Takes the bytes of the current frame from the front of `input`.
    pub(super) fn fill(&mut self, input: &mut &mut [u8]) -> Result<(), NotUtf8> {
        let count = self.missing.min(input.len());
        let piece = take_front(input, count);
        self.mask.apply(piece);
        self.payload.extend(piece, self.max_len);
        self.advance(count)
    }

    /// The buffer for a direct read of the current frame; see [`super::decode::Decoder::direct_buffer`].
    pub(super) fn direct_buffer(&mut self) -> Option<&mut [u8]> {
        let count = self.payload.len().min(self.missing).min(MAX_DIRECT_BYTES);
        (count >= MIN_DIRECT_BYTES).then(|| self.payload.spare(count, self.max_len))
    }

    /// Takes in the first `count` bytes of [`PartialMessage::direct_buffer`].
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

    /// The complete message. Fails if a text ends inside a code point.
    pub(super) fn into_message(self) -> Result<Whole, NotUtf8> {
        let is_text = self.content == Content::Plain(MessageKind::Text);
        if is_text && !self.utf8.is_whole(self.payload.len()) {
            return Err(NotUtf8);
        }
        let payload = Payload::Assembled(self.payload);
        Ok(match self.content {
            Content::Plain(kind) => Whole::Plain(Message { kind, payload }),
            Content::Deflated(kind) => Whole::Deflated(Message { kind, payload }),
        })
    }

    /// Whether it is compressed.
    pub(super) fn is_deflated(&self) -> bool {
        matches!(self.content, Content::Deflated(_))
    }

    /// Bytes of payload that have arrived.
    pub(super) fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Bytes held on the heap, this struct included.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<PartialMessage>() + self.payload.capacity()
    }

    fn advance(&mut self, count: usize) -> Result<(), NotUtf8> {
        self.missing -= count;
        self.mask = self.mask.after(count);
        match self.content {
            Content::Plain(MessageKind::Text) => self.utf8.check(self.payload.as_slice()),
            Content::Plain(MessageKind::Binary) | Content::Deflated(_) => Ok(()),
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
        let missing = header.payload_len as usize; // at most 125, as `ClientHeader` has checked
        PartialControl {
            kind,
            mask: header.mask,
            payload: ControlPayload::EMPTY,
            missing,
        }
    }

    /// Takes the bytes of the frame from the front of `input`. They are unmasked once the frame is complete.
    pub(super) fn fill(&mut self, input: &mut &mut [u8]) {
        let piece = take_front(input, self.missing.min(input.len()));
        self.payload.extend(piece);
        self.missing -= piece.len();
    }

    /// Whether the last byte has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The kind and the payload of the complete frame.
    pub(super) fn into_payload(mut self) -> (ControlKind, ControlPayload) {
        self.mask.apply(self.payload.as_mut_slice());
        (self.kind, self.payload)
    }
}

/// Cuts the first `count` bytes off `input`. The caller has checked that they are there.
#[inline]
pub(super) fn take_front<'a>(input: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    input
        .split_off_mut(..count)
        .expect("the caller has compared `count` with the length of `input`")
}
