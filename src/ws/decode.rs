//! The decoder: a client's bytes in, messages and control frames out (RFC 6455, sections 5 to 8).
//!
//! Each connection has one [`Decoder`]. Its shard feeds it the bytes that the worker read into the scratch buffer. A
//! message that is complete in that buffer is unmasked in place and returned as a slice, without allocation or copy. Only
//! an incomplete message is copied to the heap. A decoder between messages holds nothing on the heap.
//!
//! If a client may compress, the decoder returns its compressed messages as they are. Their content is checked when they are
//! inflated, and the length that they have then. Plain messages pay nothing for that: a compressed one begins with a bit that
//! is otherwise an error, so it is looked at where errors are.
//!
//! The decoder does not answer: its caller sends Pongs and Close frames, and ends the connection.
//!
//! Memory follows the bytes *received*. A header that claims 15 MiB allocates nothing for bytes that are not there yet.
//! The buffer doubles as the payload arrives, up to what the message may still become. The decoder compares a claimed
//! length with the limit before it does anything else.

use super::assembled::Assembled;
use super::close::CloseCode;
use super::error::DecodeError;
use super::frame::{ClientHeader, ControlKind, ControlPayload, FrameKind, MessageKind};
use super::inflate::max_deflated;
pub use super::message::{Message, Payload};
use super::partial::{Content, PartialControl, PartialHeader, PartialMessage, Whole, take_front};
use super::utf8::NotUtf8;

/// Something that a client sent.
#[derive(Debug)]
pub enum Event<'a> {
    /// A complete message.
    Message(Message<'a>),
    /// A complete message that is compressed, as it has arrived.
    Deflated(Message<'a>),
    /// A Ping. The answer is a Pong with the same payload.
    Ping(ControlPayload),
    /// A Pong, solicited or not.
    Pong,
    /// The header of a short frame that continues a message and does not end it. It says nothing by itself. But one read may
    /// bring thousands of such frames, so the caller can count them and stop.
    Fragment {
        /// Whether the frame has no payload, so that it brings nothing at all.
        is_empty: bool,
    },
    /// A Close, with its code if it had one. It is the last event: the decoder drops all that follows (section 5.5.1).
    Close(Option<CloseCode>),
}

/// The state of one client's stream of frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// A message that has begun and is not complete. Boxed, to keep an idle connection small.
    message: Option<Box<PartialMessage>>,
    /// A control frame whose payload is not complete. It may stand between two frames of `message`.
    control: Option<Box<PartialControl>>,
    header: PartialHeader,
    /// `None` as long as messages are plain.
    mode: Option<Mode>,
    /// The client may compress messages.
    takes_deflated: bool,
}

/// A frame inside a message is an event of its own if its payload is shorter than this, in bytes. Longer ones are limited by
/// the length of a read.
const SHORT_FRAGMENT_BYTES: u64 = 64;

/// Every connection holds a decoder, so its size is part of the cost of an idle connection.
const _: () = assert!(size_of::<Decoder>() <= 32);

/// The mode of a decoder that does not read plain messages.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// It is within a compressed message.
    Deflated,
    /// It has read a Close, and returns no more events.
    Closed,
    /// It returns no more events, but this error.
    Failed(DecodeError),
}

impl Decoder {
    /// The client may compress messages from now on.
    pub fn take_deflated(&mut self) {
        self.takes_deflated = true;
    }

    /// Takes bytes off the front of `input` until one event is complete. Returns `None` when `input` is used up.
    ///
    /// `max_message_bytes` limits the payload of a message, all fragments together. After an error, every further call
    /// returns the same error, unless the error was [the sign of a compressed message](Decoder::is_in_deflated). After a
    /// Close, the decoder drops its input.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        max_message_bytes: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        match self.mode {
            None => {}
            Some(Mode::Deflated) => return self.go_on_deflated(input, max_message_bytes),
            Some(Mode::Closed) => {
                *input = &mut [];
                return Ok(None);
            }
            Some(Mode::Failed(error)) => return Err(error),
        }
        self.next_event(input, max_message_bytes)
            .map_err(|error| self.fail(error))
    }

    /// Whether a compressed message has begun and is not complete.
    ///
    /// If [`Decoder::decode`] has just returned an error, this is the sign of such a message, and not an error of the client.
    /// The next call reads the message.
    pub fn is_in_deflated(&self) -> bool {
        matches!(self.mode, Some(Mode::Deflated))
    }

    /// Takes back a compressed message that it has returned, and that is now inflated. Text has been checked. The next event is
    /// this message.
    pub fn put_back(&mut self, kind: MessageKind, payload: Assembled) {
        debug_assert!(self.message.is_none(), "it comes right behind its event");
        self.message = Some(Box::new(PartialMessage::whole(kind, payload)));
    }

    /// The buffer for the next socket read, if the decoder is inside a payload so large that the copy through the
    /// scratch buffer would be wasted. Report what was read with [`Decoder::decode_direct`]; reading nothing, or asking
    /// again, is fine.
    ///
    /// The buffer ends with the frame or earlier, so it never takes bytes of the next one. It is at most as long as the
    /// part of the message that has arrived: a client that claims much and sends little gets little.
    pub fn direct_buffer(&mut self) -> Option<&mut [u8]> {
        self.message.as_deref_mut()?.direct_buffer()
    }

    /// Takes in the first `count` bytes of [`Decoder::direct_buffer`], which the caller has read from the socket.
    ///
    /// # Panics
    /// If `count` is larger than that buffer: such a caller would corrupt the stream.
    pub fn decode_direct(&mut self, count: usize) -> Result<Option<Event<'static>>, DecodeError> {
        if let Some(Mode::Failed(error)) = self.mode {
            return Err(error);
        }
        let Some(message) = self.message.as_deref_mut() else {
            assert!(count == 0, "{count} bytes were read into no buffer");
            return Ok(None);
        };
        message
            .commit(count)
            .map_err(|NotUtf8| self.fail(DecodeError::TextNotUtf8))?;
        self.take_complete_message()
            .map_err(|error| self.fail(error))
    }

    /// Bytes held on the heap: 0 unless a message or control frame is incomplete.
    pub fn buffered_bytes(&self) -> usize {
        let message = self
            .message
            .as_ref()
            .map_or(0, |message| message.heap_bytes());
        let control = self
            .control
            .as_ref()
            .map_or(0, |_| size_of::<PartialControl>());
        message + control
    }

    /// Remembers the error and frees what was held, since no more events will come of it. But a reserved bit may be the sign of
    /// a compressed message. Then the next call looks at it again.
    fn fail(&mut self, error: DecodeError) -> DecodeError {
        let is_sign = error == DecodeError::ReservedBits && self.takes_deflated;
        if is_sign && self.mode.is_none() {
            self.mode = Some(Mode::Deflated);
            return error;
        }
        *self = Decoder {
            mode: Some(Mode::Failed(error)),
            ..Decoder::default()
        };
        error
    }

    #[inline]
    fn next_event<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        loop {
            if self.control.is_some() {
                return self.resume_control(input);
            }
            if let Some(message) = self.message.as_deref_mut() {
                message
                    .fill(input)
                    .map_err(|NotUtf8| DecodeError::TextNotUtf8)?;
                if let Some(complete) = self.take_complete_message()? {
                    return Ok(Some(complete));
                }
            }
            // From here on the decoder is between frames, or `input` is used up.
            let Some(header) = self.header.take(input)? else {
                return Ok(None);
            };
            let event = match header.kind {
                FrameKind::First(kind) => self.begin_message(kind, &header, input, max)?,
                FrameKind::Continuation => self.continue_message(&header, max)?,
                FrameKind::Control(kind) => self.begin_control(kind, &header, input)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Returns a new message if it is complete, or else starts collecting it.
    #[inline]
    fn begin_message<'a>(
        &mut self,
        kind: MessageKind,
        header: &ClientHeader,
        input: &mut &'a mut [u8],
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        if self.message.is_some() {
            return Err(DecodeError::MessageInterrupted);
        }
        let len = within_limit(header.payload_len, max)?;
        if !header.fin || len > input.len() {
            let content = Content::Plain(kind);
            self.message = Some(Box::new(PartialMessage::begin(content, header, len, max)));
            return Ok(None);
        }
        let payload = take_front(input, len);
        header.mask.apply(payload);
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(payload).is_err() {
            return Err(DecodeError::TextNotUtf8);
        }
        Ok(Some(Event::Message(Message {
            kind,
            payload: Payload::Scratch(payload),
        })))
    }

    /// Whether the first header of a compressed message is read. A plain message was interrupted by the sign of one.
    fn has_begun_deflated(&self) -> bool {
        let message = self.message.as_ref();
        message.is_some_and(|message| message.is_deflated())
    }

    /// Reads the first header of a compressed message. Returns the message if it is complete, or else starts collecting it.
    fn begin_deflated<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        let Some(header) = self.header.take_deflated(input)? else {
            return Ok(None);
        };
        let FrameKind::First(kind) = header.kind else {
            return Err(DecodeError::ReservedBits);
        };
        if self.message.is_some() {
            return Err(DecodeError::MessageInterrupted);
        }
        let max = max_deflated(max);
        let len = within_limit(header.payload_len, max)?;
        if !header.fin || len > input.len() {
            let content = Content::Deflated(kind);
            self.message = Some(Box::new(PartialMessage::begin(content, &header, len, max)));
            return Ok(None);
        }
        self.mode = None;
        let payload = take_front(input, len);
        header.mask.apply(payload);
        Ok(Some(Event::Deflated(Message {
            kind,
            payload: Payload::Scratch(payload),
        })))
    }

    /// Goes on with a compressed message, of which the first header may not be read yet.
    #[cold]
    fn go_on_deflated<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        self.next_in_deflated(input, max)
            .map_err(|error| self.fail(error))
    }

    fn next_in_deflated<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        loop {
            if self.control.is_some() {
                return self.resume_control(input);
            }
            if !self.has_begun_deflated() {
                let event = self.begin_deflated(input, max)?;
                if !self.has_begun_deflated() {
                    return Ok(event);
                }
            }
            let Some(message) = self.message.as_deref_mut() else {
                return Ok(None);
            };
            message
                .fill(input)
                .map_err(|NotUtf8| DecodeError::TextNotUtf8)?;
            if let Some(complete) = self.take_complete_message()? {
                return Ok(Some(complete));
            }
            let Some(header) = self.header.take(input)? else {
                return Ok(None);
            };
            let event = match header.kind {
                FrameKind::First(_) => return Err(DecodeError::MessageInterrupted),
                FrameKind::Continuation => self.continue_message(&header, max_deflated(max))?,
                FrameKind::Control(kind) => self.begin_control(kind, &header, input)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Reads the header of a continuation frame. The caller's loop, or the next call, takes in the payload.
    fn continue_message<'a>(
        &mut self,
        header: &ClientHeader,
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        let message = self
            .message
            .as_deref_mut()
            .ok_or(DecodeError::UnexpectedContinuation)?;
        // The limit may have been lowered since the message began.
        let len = within_limit(
            header.payload_len,
            max.saturating_sub(message.payload_len()),
        )?;
        message.begin_frame(header, len, max);
        let is_short = !header.fin && header.payload_len < SHORT_FRAGMENT_BYTES;
        Ok(is_short.then_some(Event::Fragment { is_empty: len == 0 }))
    }

    /// Returns the message if its last byte has arrived.
    fn take_complete_message<'a>(&mut self) -> Result<Option<Event<'a>>, DecodeError> {
        let Some(message) = self.message.take_if(|message| message.is_complete()) else {
            return Ok(None);
        };
        let message = message
            .into_message()
            .map_err(|NotUtf8| DecodeError::TextNotUtf8)?;
        Ok(Some(match message {
            Whole::Plain(message) => Event::Message(message),
            Whole::Deflated(message) => {
                self.mode = None;
                Event::Deflated(message)
            }
        }))
    }

    /// Returns a control frame if it is complete, or else starts collecting it.
    fn begin_control<'a>(
        &mut self,
        kind: ControlKind,
        header: &ClientHeader,
        input: &mut &mut [u8],
    ) -> Result<Option<Event<'a>>, DecodeError> {
        let mut control = PartialControl::begin(kind, header);
        control.fill(input);
        if control.is_complete() {
            return self.finish_control(control).map(Some);
        }
        self.control = Some(Box::new(control));
        Ok(None)
    }

    /// Continues the control frame that has begun.
    fn resume_control<'a>(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<Event<'a>>, DecodeError> {
        if let Some(control) = self.control.as_deref_mut() {
            control.fill(input);
        }
        match self.control.take_if(|control| control.is_complete()) {
            Some(control) => self.finish_control(*control).map(Some),
            None => Ok(None),
        }
    }

    /// The event for a complete control frame.
    fn finish_control<'a>(&mut self, control: PartialControl) -> Result<Event<'a>, DecodeError> {
        let (kind, payload) = control.into_payload();
        match kind {
            ControlKind::Ping => Ok(Event::Ping(payload)),
            ControlKind::Pong => Ok(Event::Pong),
            ControlKind::Close => {
                let code = read_close_body(payload.as_slice())?;
                *self = Decoder {
                    mode: Some(Mode::Closed),
                    ..Decoder::default()
                };
                Ok(Event::Close(code))
            }
        }
    }
}

/// The claimed length, if it is within the limit.
fn within_limit(claimed: u64, max: usize) -> Result<usize, DecodeError> {
    usize::try_from(claimed)
        .ok()
        .filter(|&len| len <= max)
        .ok_or(DecodeError::MessageTooBig)
}

/// Checks the body of a Close frame (section 5.5.1) and returns its code; `None` if the body is empty.
fn read_close_body(body: &[u8]) -> Result<Option<CloseCode>, DecodeError> {
    if body.is_empty() {
        return Ok(None);
    }
    let (code, reason) = body
        .split_first_chunk::<2>()
        .ok_or(DecodeError::CloseBodyTooShort)?;
    let code = CloseCode::received(u16::from_be_bytes(*code));
    let code = code.ok_or(DecodeError::CloseCodeInvalid)?;
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(DecodeError::CloseReasonNotUtf8),
    }
}

#[cfg(test)]
mod tests;
