//! Frames of the compressor, as an inflater reads them that shares no code with it.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};
use proptest::prelude::*;

use super::{Compressor, WindowSize, stored_len};
use crate::ws::frame::MessageKind;

const SIZES: [WindowSize; 2] = [WindowSize::Small, WindowSize::Large];

/// A receiver that has read all frames from some moment on.
struct Receiver(Box<InflateState>);

impl Receiver {
    fn new() -> Self {
        Receiver(InflateState::new_boxed(DataFormat::Raw))
    }

    /// The message in a frame, and whether it is text.
    fn read(&mut self, frame: &[u8]) -> (Vec<u8>, bool) {
        assert_eq!(frame[0] & 0xf0, 0xc0, "FIN and RSV1, and no other bit");
        let (claimed, header) = match frame[1] {
            126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
            127 => {
                let len: [u8; 8] = frame[2..10].try_into().unwrap();
                (u64::from_be_bytes(len) as usize, 10)
            }
            short => (usize::from(short), 2),
        };
        let body = &frame[header..];
        assert_eq!(body.len(), claimed, "the frame is whole");
        let input = [body, &[0x00, 0x00, 0xff, 0xff]].concat();
        let mut message = Vec::new();
        let mut rest = &input[..];
        loop {
            let mut room = [0; 4096];
            let result = inflate(&mut self.0, rest, &mut room, MZFlush::None);
            message.extend_from_slice(&room[..result.bytes_written]);
            rest = &rest[result.bytes_consumed..];
            if rest.is_empty() && result.bytes_written < room.len() {
                return (message, frame[0] & 0x0f == 1);
            }
            result.status.expect("valid DEFLATE");
        }
    }
}

fn frame(compressor: &mut Compressor, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compressor.push_message(&mut out, MessageKind::Text, payload);
    out
}

/// Bytes that do not shrink.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.take(len).collect()
}

#[test]
fn the_example_of_the_rfc_is_made() {
    // Section 7.2.3.1, and 7.2.3.2 for the second one.
    let mut compressor = Compressor::new(WindowSize::Large);
    let first = frame(&mut compressor, b"Hello");
    assert_eq!(first, [0xc1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let second = frame(&mut compressor, b"Hello");
    assert!(second.len() <= first.len());
    let mut receiver = Receiver::new();
    for frame in [first, second] {
        assert_eq!(receiver.read(&frame), (b"Hello".to_vec(), true));
    }
}

#[test]
fn messages_of_every_length_are_read() {
    for size in SIZES {
        let mut compressor = Compressor::new(size);
        let mut receiver = Receiver::new();
        for len in [0, 0, 1, 15, 125, 126, 4096, 65_535, 65_536, 70_000, 0] {
            for payload in [vec![b'a'; len], noise(len, 7)] {
                let frame = frame(&mut compressor, &payload);
                assert_eq!(receiver.read(&frame), (payload, true), "{size:?} {len}");
            }
        }
    }
}

#[test]
fn a_message_that_does_not_shrink_is_stored_and_may_be_referred_to() {
    for size in SIZES {
        let mut compressor = Compressor::new(size);
        let mut receiver = Receiver::new();
        let payload = noise(1000, 3);
        let first = frame(&mut compressor, &payload);
        assert_eq!(first.len(), 4 + stored_len(1000));
        let second = frame(&mut compressor, &payload);
        assert!(second.len() < 50, "{}", second.len());
        assert_eq!(receiver.read(&first).0, payload);
        assert_eq!(receiver.read(&second).0, payload);
    }
}

#[test]
fn after_a_reset_everybody_can_read() {
    for size in SIZES {
        let mut compressor = Compressor::new(size);
        let before = frame(&mut compressor, b"the first of two similar messages");
        compressor.reset();
        let after = frame(&mut compressor, b"the second of two similar messages");
        let mut witness = Receiver::new();
        witness.read(&before);
        for receiver in [&mut witness, &mut Receiver::new()] {
            let message = receiver.read(&after).0;
            assert_eq!(message, b"the second of two similar messages");
        }
    }
}

#[test]
fn frames_are_appended_and_have_their_kind() {
    let mut compressor = Compressor::new(WindowSize::Small);
    let mut out = b"before".to_vec();
    compressor.push_message(&mut out, MessageKind::Binary, b"Hello");
    let first_end = out.len();
    assert_eq!(out[..7], *b"before\xc2");
    compressor.push_message(&mut out, MessageKind::Text, b"Hello");
    assert_eq!(out[first_end], 0xc1);
}

/// A step of a stream.
#[derive(Clone, Debug)]
enum Step {
    /// A message.
    Message(Vec<u8>),
    /// A message that was there before.
    Again(usize),
    /// A reset of the window.
    Reset,
    /// A receiver comes, and reads from the next reset on.
    Join,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(0..4_u8, 0..300).prop_map(Step::Message),
        2 => proptest::collection::vec(any::<u8>(), 0..6000).prop_map(Step::Message),
        1 => (0..70_000_usize, any::<u64>()).prop_map(|(len, seed)| Step::Message(noise(len, seed))),
        3 => any::<usize>().prop_map(Step::Again),
        1 => Just(Step::Reset),
        1 => Just(Step::Join),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_stream_is_read_as_it_was_written(
        is_large: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut compressor = Compressor::new(SIZES[usize::from(is_large)]);
        let mut receivers = vec![Receiver::new()];
        let mut waiting = 0;
        let mut earlier: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            let message = match step {
                Step::Message(message) => message,
                Step::Again(at) if !earlier.is_empty() => earlier[at % earlier.len()].clone(),
                Step::Again(_) => continue,
                Step::Join => {
                    waiting += 1;
                    continue;
                }
                Step::Reset => {
                    compressor.reset();
                    receivers.extend((0..std::mem::take(&mut waiting)).map(|_| Receiver::new()));
                    continue;
                }
            };
            let frame = frame(&mut compressor, &message);
            prop_assert!(frame.len() <= 10 + stored_len(message.len()));
            for receiver in &mut receivers {
                prop_assert_eq!(&receiver.read(&frame).0, &message);
            }
            earlier.push(message);
        }
    }
}
