//! Messages that another compressor has made, and streams that no compressor makes.

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{DataFormat, MZFlush};
use proptest::prelude::*;

use super::{FEW_LAST_BLOCKS, Inflater, SCRATCH_BYTES, WINDOW_BYTES, Window};
use crate::ws::error::DecodeError;
use crate::ws::frame::MessageKind;
use crate::ws::message::{Message, Payload};

const LIMIT: usize = 1 << 20;

/// A client's compressor.
struct Client(Box<CompressorOxide>);

impl Client {
    fn new(level: u8) -> Self {
        let raw = -15;
        let flags = create_comp_flags_from_zip_params(level.into(), raw, 0);
        let mut compressor = Box::new(CompressorOxide::new(flags));
        compressor.set_format_and_level(DataFormat::Raw, level);
        Client(compressor)
    }

    /// A message without its tail.
    fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = vec![0; message.len() + message.len() / 4 + 1000];
        let result = deflate(&mut self.0, message, &mut out, MZFlush::Sync);
        assert_eq!(result.bytes_consumed, message.len());
        out.truncate(result.bytes_written);
        assert!(out.ends_with(&super::TAIL));
        out.truncate(out.len() - 4);
        out
    }
}

fn inflate_kind(
    inflater: &mut Inflater,
    kind: MessageKind,
    deflated: &[u8],
    window: Option<&mut Window>,
    max: usize,
) -> Result<Vec<u8>, DecodeError> {
    let payload = Payload::Scratch(deflated);
    let message = inflater.inflate(&Message { kind, payload }, window, max)?;
    assert_eq!(message.kind, kind);
    Ok(message.payload.as_slice().to_vec())
}

fn inflate(deflated: &[u8], max: usize) -> Result<Vec<u8>, DecodeError> {
    inflate_kind(
        &mut Inflater::new(),
        MessageKind::Binary,
        deflated,
        None,
        max,
    )
}

/// The blocks of RFC 7692, section 7.2.3.1: "Hello".
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn the_examples_of_the_rfc_are_read() {
    for (example, deflated) in [
        ("7.2.3.1", &HELLO[..]),
        (
            "7.2.3.3",
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
        ),
        ("7.2.3.4", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]),
        (
            "7.2.3.5",
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ),
    ] {
        assert_eq!(inflate(deflated, LIMIT), Ok(b"Hello".to_vec()), "{example}");
    }
    // Section 7.2.3.2: the second message refers to the first.
    let (mut inflater, mut window) = (Inflater::new(), Window::new());
    for deflated in [&HELLO[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]] {
        let kind = MessageKind::Text;
        let message = inflate_kind(&mut inflater, kind, deflated, Some(&mut window), LIMIT);
        assert_eq!(message, Ok(b"Hello".to_vec()));
    }
    assert_eq!(
        inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], LIMIT),
        Err(DecodeError::NotDeflate),
        "without a window there is nothing to refer to"
    );
}

#[test]
fn an_empty_message_may_be_an_empty_block_or_nothing_at_all() {
    // Section 7.2.3.6, the same with a fixed code, and what some senders make of it.
    for deflated in [&[0x00][..], &[0x02, 0x00], &[]] {
        assert_eq!(inflate(deflated, LIMIT), Ok(Vec::new()), "{deflated:x?}");
        assert_eq!(inflate(deflated, 0), Ok(Vec::new()), "{deflated:x?}");
    }
}

#[test]
fn the_limit_holds_while_a_message_is_inflated() {
    for len in [
        1,
        1000,
        SCRATCH_BYTES - 1,
        SCRATCH_BYTES,
        SCRATCH_BYTES + 1,
        100_000,
    ] {
        let deflated = Client::new(9).compress(&vec![0; len]);
        assert_eq!(inflate(&deflated, len), Ok(vec![0; len]), "{len}");
        for max in [0, len / 2, len - 1] {
            let error = Err(DecodeError::MessageTooBig);
            assert_eq!(inflate(&deflated, max), error, "{len} over {max}");
        }
    }
}

#[test]
fn a_bomb_is_never_in_memory() {
    let bomb = Client::new(9).compress(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 17);
    assert_eq!(inflate(&bomb, 1000), Err(DecodeError::MessageTooBig));
    assert_eq!(inflate(&bomb, LIMIT), Err(DecodeError::MessageTooBig));
}

#[test]
fn a_message_that_was_cut_short_fails() {
    let text = b"a message with some words, and with some words again";
    let whole = Client::new(6).compress(text);
    assert_eq!(inflate(&whole, LIMIT), Ok(text.to_vec()));
    for len in 1..whole.len() {
        let error = Err(DecodeError::NotDeflate);
        assert_eq!(inflate(&whole[..len], LIMIT), error, "{len} bytes");
    }
    // Stored: what is missing must not be taken from the bytes that end every message.
    for missing in 1..6 {
        let mut stored = vec![0x00, 0x0a, 0x00, 0xf5, 0xff];
        stored.extend_from_slice(&b"0123456789"[missing..]);
        let error = Err(DecodeError::NotDeflate);
        assert_eq!(inflate(&stored, LIMIT), error, "without {missing} bytes");
    }
}

#[test]
fn what_is_no_deflate_fails() {
    for deflated in [
        &[0xff][..],
        &[0x06, 0x00],
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48],
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xff],
        b"plain text in a frame that claims to be compressed",
    ] {
        let error = Err(DecodeError::NotDeflate);
        assert_eq!(inflate(deflated, LIMIT), error, "{deflated:x?}");
    }
}

#[test]
fn a_message_may_have_several_last_blocks_and_refer_beyond_them() {
    let last_hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let refers = [0xf2, 0x00, 0x11, 0x00, 0x00];
    for (blocks, expected) in [
        (last_hello.to_vec(), "Hello"),
        ([last_hello, last_hello].concat(), "HelloHello"),
        ([last_hello, HELLO].concat(), "HelloHello"),
        ([&last_hello[..], &refers].concat(), "HelloHello"),
        (
            [&HELLO[..], &super::TAIL, &last_hello, &refers].concat(),
            "HelloHelloHello",
        ),
    ] {
        assert_eq!(inflate(&blocks, LIMIT), Ok(expected.into()), "{blocks:x?}");
    }
    // The window of a client ends in the same way.
    let (mut inflater, mut window) = (Inflater::new(), Window::new());
    for deflated in [&last_hello[..], &refers] {
        let kind = MessageKind::Text;
        let message = inflate_kind(&mut inflater, kind, deflated, Some(&mut window), LIMIT);
        assert_eq!(message, Ok(b"Hello".to_vec()));
    }
}

#[test]
fn last_blocks_are_limited_because_each_is_a_new_beginning() {
    let empty = [0x03, 0x00];
    let few = empty.repeat(FEW_LAST_BLOCKS);
    assert_eq!(inflate(&few, LIMIT), Ok(Vec::new()));
    let many = empty.repeat(2 * FEW_LAST_BLOCKS);
    assert_eq!(inflate(&many, LIMIT), Err(DecodeError::TooManyLastBlocks));
    // A long message may have more.
    let long = [
        &empty.repeat(2 * FEW_LAST_BLOCKS)[..],
        &Client::new(0).compress(&[7; 4000]),
    ];
    assert_eq!(inflate(&long.concat(), LIMIT), Ok(vec![7; 4000]));
}

#[test]
fn text_must_be_utf8_after_inflating() {
    for (kind, content, expected) in [
        (MessageKind::Text, "é".as_bytes(), None),
        (MessageKind::Text, b"\xc3", Some(DecodeError::TextNotUtf8)),
        (MessageKind::Text, b"a\xff", Some(DecodeError::TextNotUtf8)),
        (MessageKind::Binary, b"a\xff", None),
    ] {
        let deflated = Client::new(1).compress(content);
        let result = inflate_kind(&mut Inflater::new(), kind, &deflated, None, LIMIT);
        assert_eq!(result.err(), expected, "{content:x?}");
    }
}

#[test]
fn clients_do_not_see_each_others_messages() {
    let mut inflater = Inflater::new();
    let secret = b"a secret that only the first client knows";
    let (mut first, mut second) = (Window::new(), Window::new());
    let deflated = Client::new(1).compress(secret);
    let kind = MessageKind::Binary;
    inflate_kind(&mut inflater, kind, &deflated, Some(&mut first), LIMIT).expect("valid");
    // A reference to the 41 bytes before, as the second client's first message.
    let mut thief = Client::new(1);
    thief.compress(secret);
    let reference = thief.compress(secret);
    for window in [None, Some(&mut second)] {
        let stolen = inflate_kind(&mut inflater, kind, &reference, window, LIMIT);
        assert_eq!(stolen, Err(DecodeError::NotDeflate));
    }
    let own = inflate_kind(&mut inflater, kind, &reference, Some(&mut first), LIMIT);
    assert_eq!(own, Ok(secret.to_vec()));
}

#[test]
fn a_window_takes_its_memory_once() {
    let mut window = Window::new();
    for len in [0, 1, 1000, WINDOW_BYTES, 5, 3 * WINDOW_BYTES, 1] {
        window.push(&vec![1; len]);
        assert_eq!(window.bytes.capacity(), WINDOW_BYTES);
    }
}

/// The last bytes of all that was pushed.
fn content(window: &Window) -> Vec<u8> {
    window.parts().concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_window_has_the_last_bytes(
        lens in proptest::collection::vec(prop_oneof![0..200_usize, 0..2 * WINDOW_BYTES + 9], 0..30),
    ) {
        let (mut window, mut all, mut next) = (Window::new(), Vec::new(), 0_usize);
        for len in lens {
            let message: Vec<u8> = (0..len).map(|at| (((next + at) * 31) >> 3) as u8).collect();
            next += len;
            window.push(&message);
            all.extend_from_slice(&message);
            prop_assert_eq!(content(&window), &all[all.len().saturating_sub(WINDOW_BYTES)..]);
        }
    }

    #[test]
    fn any_messages_of_any_clients_are_read(
        steps in proptest::collection::vec(
            (
                0..3_usize,
                prop_oneof![
                    proptest::collection::vec(0..5_u8, 0..200),
                    proptest::collection::vec(any::<u8>(), 0..40_000),
                ],
            ),
            1..40,
        ),
    ) {
        let mut inflater = Inflater::new();
        let levels = [0, 1, 9];
        let mut clients = levels.map(Client::new);
        let mut windows = levels.map(|_| Window::new());
        for (who, message) in steps {
            let deflated = clients[who].compress(&message);
            let window = Some(&mut windows[who]);
            let kind = MessageKind::Binary;
            let read = inflate_kind(&mut inflater, kind, &deflated, window, message.len());
            prop_assert_eq!(read, Ok(message));
        }
    }

    #[test]
    fn no_bytes_are_more_than_the_limit_or_break_the_inflater(
        deflated in proptest::collection::vec(any::<u8>(), 0..300),
        max in 0..2000_usize,
    ) {
        let mut inflater = Inflater::new();
        let kind = MessageKind::Binary;
        if let Ok(message) = inflate_kind(&mut inflater, kind, &deflated, None, max) {
            prop_assert!(message.len() <= max);
        }
        let hello = inflate_kind(&mut inflater, kind, &HELLO, None, LIMIT);
        prop_assert_eq!(hello, Ok(b"Hello".to_vec()));
    }
}
