//! The decoder: a client's bytes in, messages and control frames out (RFC 6455, sections 5 to 8).
//!
//! Every connection has one [`Decoder`], and the shard that owns the connection calls it with what was read into the
//! worker's scratch buffer. A message that lies whole in the scratch is unmasked there and yielded as a slice of it:
//! nothing is allocated and nothing copied. Only what is incomplete when the bytes run out moves to the heap, and it
//! leaves with its event, so that a decoder at rest is [`Decoder`]'s few bytes and nothing else.
//!
//! The decoder does not answer: pongs, Close frames and the end of the connection are its caller's.
//!
//! Memory follows what was *received*. A header that claims 15 MiB makes the decoder allocate for the bytes behind it
//! and no more; the buffer doubles as the payload arrives, and never beyond what the message may still come to. What a
//! header claims is compared with the limit before anything else happens.

use super::assembled::Assembled;
use super::close::{self, CloseCode};
use super::error::DecodeError;
use super::frame::{ClientHeader, ControlKind, ControlPayload, FrameKind, MessageKind};
use super::partial::{PartialControl, PartialHeader, PartialMessage, take_front};
use super::utf8::NotUtf8;

/// Something a client sent.
#[derive(Debug)]
pub enum Event<'a> {
    /// A whole message.
    Message(Message<'a>),
    /// A Ping, which is owed a Pong with the same payload.
    Ping(ControlPayload),
    /// A Pong, whether asked for or not.
    Pong,
    /// A Close, with the code it carried, if any. It is the last event: what the client sends behind it is dropped
    /// (section 5.5.1).
    Close(Option<CloseCode>),
}

/// A whole message.
#[derive(Debug)]
pub struct Message<'a> {
    /// Text or binary, as the client said. Text is UTF-8: it has been checked.
    pub kind: MessageKind,
    /// What it says.
    pub payload: Payload<'a>,
}

/// Where a message's payload lies.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the scratch buffer, unmasked; to be copied out before the next read.
    Scratch(&'a [u8]),
    /// In a buffer of its own, because it arrived in pieces.
    Assembled(Assembled),
}

impl Payload<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Scratch(bytes) => bytes,
            Payload::Assembled(assembled) => assembled.as_slice(),
        }
    }
}

/// The state of one client's stream of frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// A message that has begun and is not complete. Boxed, so that a connection at rest does not pay for it.
    message: Option<Box<PartialMessage>>,
    /// A control frame whose payload is not complete; may stand between the frames of `message`.
    control: Option<Box<PartialControl>>,
    header: PartialHeader,
    end: Option<End>,
}

/// Every connection holds one of these: the size is part of what an idle connection costs.
const _: () = assert!(size_of::<Decoder>() <= 32);

/// Why a decoder yields nothing any more.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Failed(DecodeError),
}

impl Decoder {
    /// Takes bytes off the front of `input` until one event is complete, or until `input` is used up: then `None`.
    ///
    /// `max_message_bytes` limits a message's payload, over all its fragments. After an error the decoder answers
    /// every further call with the same error; after a Close it takes in and drops what comes.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        max_message_bytes: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        match self.end {
            None => {}
            Some(End::Closed) => {
                *input = &mut [];
                return Ok(None);
            }
            Some(End::Failed(error)) => return Err(error),
        }
        self.next_event(input, max_message_bytes)
            .map_err(|error| self.fail(error))
    }

    /// The buffer to read from the socket into, if the decoder is inside a payload for which the way through the
    /// scratch would be a wasted copy. What was read is announced with [`Decoder::decode_direct`]; reading nothing, or
    /// asking again, is fine.
    ///
    /// It ends where the frame ends at the latest, so nothing that follows can get into it, and it offers at most as
    /// much as the message already has: whoever claims much and sends little is held to what was sent. It is a plain
    /// slice, each byte zeroed once, and not a vector's spare capacity, so that any transport can fill it, and none can
    /// overfill it.
    pub fn direct_buffer(&mut self) -> Option<&mut [u8]> {
        self.message.as_deref_mut()?.direct_buffer()
    }

    /// Takes in the first `count` bytes of [`Decoder::direct_buffer`], which have been read from the socket.
    ///
    /// # Panics
    /// If `count` is more than that buffer had: the caller's mistake, which would corrupt the stream.
    pub fn decode_direct(&mut self, count: usize) -> Result<Option<Event<'static>>, DecodeError> {
        if let Some(End::Failed(error)) = self.end {
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

    /// Bytes held on the heap: 0 unless a message or a control frame has arrived in part.
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

    /// Remembers the error and gives back what was held: nothing of it will be yielded.
    fn fail(&mut self, error: DecodeError) -> DecodeError {
        *self = Decoder {
            end: Some(End::Failed(error)),
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
            // From here on we are between frames, or `input` is used up.
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

    /// A new message: yielded at once if it is whole, or else begun.
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
            self.message = Some(Box::new(PartialMessage::begin(kind, header, len, max)));
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

    /// A further frame of the message: only its header, the payload is the loop's.
    fn continue_message<'a>(
        &mut self,
        header: &ClientHeader,
        max: usize,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        let message = self
            .message
            .as_deref_mut()
            .ok_or(DecodeError::NothingToContinue)?;
        // The limit may have been lowered since the message began.
        let len = within_limit(
            header.payload_len,
            max.saturating_sub(message.payload_len()),
        )?;
        message.begin_frame(header, len, max);
        Ok(None)
    }

    /// The message, if its last byte has arrived.
    fn take_complete_message<'a>(&mut self) -> Result<Option<Event<'a>>, DecodeError> {
        let Some(message) = self.message.take_if(|message| message.is_complete()) else {
            return Ok(None);
        };
        let message = message
            .into_message()
            .map_err(|NotUtf8| DecodeError::TextNotUtf8)?;
        Ok(Some(Event::Message(message)))
    }

    /// A control frame: yielded at once if it is whole, or else begun.
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

    /// Goes on with the control frame that has begun.
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

    /// What a complete control frame says.
    fn finish_control<'a>(&mut self, control: PartialControl) -> Result<Event<'a>, DecodeError> {
        let (kind, payload) = control.into_payload();
        match kind {
            ControlKind::Ping => Ok(Event::Ping(payload)),
            ControlKind::Pong => Ok(Event::Pong),
            ControlKind::Close => {
                let body = close::parse_body(payload.as_slice())?;
                *self = Decoder {
                    end: Some(End::Closed),
                    ..Decoder::default()
                };
                Ok(Event::Close(body.map(|body| body.code)))
            }
        }
    }
}

/// The length that a header claims, if the limit allows it.
fn within_limit(claimed: u64, max: usize) -> Result<usize, DecodeError> {
    usize::try_from(claimed)
        .ok()
        .filter(|&len| len <= max)
        .ok_or(DecodeError::MessageTooBig)
}

#[cfg(test)]
mod tests;
