//! Any compressed messages of a client, through [`fanwire::internals::ws::Inflater`].
//!
//! It checks:
//!
//! - A message that is inflated is the one that an independent inflater finds, and not longer than the limit.
//! - A message that is too big is too big for that one as well.
//! - Nothing of it is left: the next client's message is read.
//!
//! The input is the limit on messages, flags (1: messages refer to earlier ones, 2: they are text), and messages: the length of
//! each in two bytes, and its bytes.

use fanwire::internals::ws::{DecodeError, Inflater, Message, MessageKind, Payload, Window};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::input::Input;

/// The part of what a client has sent to which it may refer.
const WINDOW_BYTES: usize = 32 << 10;

/// The tail of every message, and a last, empty block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
const PROOF: [u8; 2] = [0x03, 0x00];

/// "Hello", as RFC 7692 has it in section 7.2.3.1.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let max = limit(input.byte());
    let flags = input.byte();
    let kind = if flags & 2 == 0 {
        MessageKind::Binary
    } else {
        MessageKind::Text
    };
    let mut window = (flags & 1 != 0).then(Window::new);
    let mut inflater = Inflater::new();
    let mut earlier = Vec::new();
    while !input.is_empty() {
        let len = input.number();
        let deflated = input.take(len);
        match inflate(&mut inflater, kind, deflated, window.as_mut(), max) {
            Ok(message) => {
                assert!(message.len() <= max, "{} of {max} bytes", message.len());
                let theirs = independent(&earlier, deflated, max);
                assert_eq!(theirs, Independent::Message(message.clone()));
                if window.is_some() {
                    earlier.extend_from_slice(&message);
                    earlier.drain(..earlier.len().saturating_sub(WINDOW_BYTES));
                }
            }
            Err(error) => {
                if error == DecodeError::MessageTooBig {
                    assert_eq!(independent(&earlier, deflated, max), Independent::TooBig);
                }
                // The client is closed.
                break;
            }
        }
    }
    let hello = inflate(&mut inflater, MessageKind::Text, &HELLO, None, 5);
    assert_eq!(hello, Ok(b"Hello".to_vec()));
}

/// Up to 199 itself, above that a power of two from 2⁸ to 2²⁰.
fn limit(byte: u8) -> usize {
    match byte {
        0..200 => usize::from(byte),
        power => 1 << (power - 192).min(20),
    }
}

fn inflate(
    inflater: &mut Inflater,
    kind: MessageKind,
    deflated: &[u8],
    window: Option<&mut Window>,
    max: usize,
) -> Result<Vec<u8>, DecodeError> {
    let payload = Payload::Scratch(deflated);
    let message = inflater.inflate(&Message { kind, payload }, window, max)?;
    let bytes = message.payload.as_slice().to_vec();
    if kind == MessageKind::Text {
        assert!(std::str::from_utf8(&bytes).is_ok(), "text is UTF-8");
    }
    if let Payload::Assembled(assembled) = message.payload {
        assert!(assembled.into_frame(kind).ends_with(&bytes));
    }
    Ok(bytes)
}

/// The findings of an independent inflater.
#[derive(Debug, PartialEq)]
enum Independent {
    Message(Vec<u8>),
    TooBig,
    Wrong,
}

fn independent(earlier: &[u8], deflated: &[u8], max: usize) -> Independent {
    if deflated.is_empty() {
        return Independent::Message(Vec::new());
    }
    let mut output = earlier.to_vec();
    output.resize(earlier.len() + max + 1, 0);
    let input = [deflated, &TAIL, &PROOF].concat();
    let (mut taken, mut end) = (0, earlier.len());
    loop {
        let mut inflater = Box::<DecompressorOxide>::default();
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, made) =
            decompress(&mut inflater, &input[taken..], &mut output, end, flags);
        taken += read;
        end += made;
        if end > earlier.len() + max {
            return Independent::TooBig;
        }
        if status != TINFLStatus::Done {
            return Independent::Wrong;
        }
        if taken == deflated.len() || taken == input.len() {
            return Independent::Message(output[earlier.len()..end].to_vec());
        }
    }
}
