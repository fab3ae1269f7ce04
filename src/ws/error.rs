//! Protocol errors of a client after the upgrade, each with its close code.
//!
//! Every [`DecodeError`] is the client's fault. It fails the connection (RFC 6455, section 7.1.7) with a Close frame
//! that carries `DecodeError::close_code` and `DecodeError::reason`. The relay's own limits (lag, stalls, capacity)
//! are not here.

use std::fmt;

use super::close::CloseCode;

/// The reason for which the decoder refuses a client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A reserved bit is set, and no extension that was negotiated uses it there (section 5.2; RFC 7692, section 6).
    ReservedBits,
    /// An opcode from 3 to 7 or from 11 to 15 (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame that claims more than 125 bytes (section 5.5).
    ControlTooLong,
    /// An unmasked frame (section 5.1).
    Unmasked,
    /// A length in more bytes than necessary (section 5.2).
    LengthNotMinimal,
    /// A 64-bit length with its most significant bit set (section 5.2).
    LengthHighBitSet,
    /// A continuation frame without a message to continue (section 5.4).
    UnexpectedContinuation,
    /// A new message inside a fragmented message (section 5.4).
    MessageInterrupted,
    /// A message over the limit, by the headers of its frames.
    MessageTooBig,
    /// A text message that is not UTF-8 (section 8.1).
    TextNotUtf8,
    /// A Close frame with a body of one byte (section 5.5.1).
    CloseBodyTooShort,
    /// A Close frame with a code that must not be sent (section 7.4).
    CloseCodeInvalid,
    /// A Close frame whose reason is not UTF-8 (section 5.5.1).
    CloseReasonNotUtf8,
    /// A compressed message that is not DEFLATE, or that is cut short (RFC 7692, section 7.2.2).
    NotDeflate,
    /// A compressed message with so many blocks that are marked as the last that it costs too much.
    TooManyLastBlocks,
}

impl DecodeError {
    /// All of them.
    pub(crate) const ALL: [DecodeError; DecodeError::TooManyLastBlocks as usize + 1] = [
        DecodeError::ReservedBits,
        DecodeError::ReservedOpcode,
        DecodeError::FragmentedControl,
        DecodeError::ControlTooLong,
        DecodeError::Unmasked,
        DecodeError::LengthNotMinimal,
        DecodeError::LengthHighBitSet,
        DecodeError::UnexpectedContinuation,
        DecodeError::MessageInterrupted,
        DecodeError::MessageTooBig,
        DecodeError::TextNotUtf8,
        DecodeError::CloseBodyTooShort,
        DecodeError::CloseCodeInvalid,
        DecodeError::CloseReasonNotUtf8,
        DecodeError::NotDeflate,
        DecodeError::TooManyLastBlocks,
    ];

    /// The close code: 1002, 1007 or 1009.
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            DecodeError::ReservedBits
            | DecodeError::ReservedOpcode
            | DecodeError::FragmentedControl
            | DecodeError::ControlTooLong
            | DecodeError::Unmasked
            | DecodeError::LengthNotMinimal
            | DecodeError::LengthHighBitSet
            | DecodeError::UnexpectedContinuation
            | DecodeError::MessageInterrupted
            | DecodeError::CloseBodyTooShort
            | DecodeError::CloseCodeInvalid => CloseCode::PROTOCOL_ERROR,
            DecodeError::TextNotUtf8
            | DecodeError::CloseReasonNotUtf8
            | DecodeError::NotDeflate => CloseCode::INVALID_DATA,
            DecodeError::MessageTooBig | DecodeError::TooManyLastBlocks => CloseCode::TOO_BIG,
        }
    }

    /// The mistake in words that fit in a Close frame.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            DecodeError::ReservedBits => {
                "a reserved bit is set, and no negotiated extension uses it there"
            }
            DecodeError::ReservedOpcode => "the opcode is reserved",
            DecodeError::FragmentedControl => "a control frame must not be fragmented",
            DecodeError::ControlTooLong => "a control frame must not exceed 125 bytes",
            DecodeError::Unmasked => "a client must mask its frames",
            DecodeError::LengthNotMinimal => "the payload length is not in its shortest form",
            DecodeError::LengthHighBitSet => "the payload length has its highest bit set",
            DecodeError::UnexpectedContinuation => {
                "a continuation frame without a message to continue"
            }
            DecodeError::MessageInterrupted => "a new message inside a fragmented one",
            DecodeError::MessageTooBig => "the message exceeds the limit",
            DecodeError::TextNotUtf8 => "the text is not UTF-8",
            DecodeError::CloseBodyTooShort => "a close frame's body must not be a single byte",
            DecodeError::CloseCodeInvalid => "the close code must not be sent",
            DecodeError::CloseReasonNotUtf8 => "the close reason is not UTF-8",
            DecodeError::NotDeflate => "the compressed message is not DEFLATE, or is cut short",
            DecodeError::TooManyLastBlocks => "the compressed message has too many final blocks",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for DecodeError {}
