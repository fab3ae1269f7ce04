//! Compressed messages of a client that may compress, and of one that may not.

use super::super::{DecodeError, Decoder, max_deflated};
use super::{
    BINARY, CLOSE, CONTINUATION, FIN, LIMIT, PING, PONG, TEXT, feed, frame, frame_claiming,
};

const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;

/// The decoder of a client that may compress.
fn decoder() -> Decoder {
    let mut decoder = Decoder::default();
    decoder.take_deflated();
    decoder
}

fn decode(frames: &[Vec<u8>]) -> Result<Vec<String>, DecodeError> {
    feed(&mut decoder(), &frames.concat())
}

#[test]
fn a_compressed_message_is_returned_as_it_is() {
    let events = decode(&[
        frame(FIN | RSV1 | TEXT, &[0xff, 0xfe]),
        frame(FIN | RSV1 | BINARY, &[]),
        frame(FIN | TEXT, b"plain"),
    ]);
    let expected = ["deflated Text [ff, fe]", "deflated Binary []", "text plain"];
    assert_eq!(events.expect("legal"), expected);
}

#[test]
fn every_cut_gives_the_same_events() {
    let frames = [
        frame(FIN | RSV1 | TEXT, &[1; 200]),
        frame(RSV1 | BINARY, &[2]),
        frame(FIN | PING, b"between"),
        frame(CONTINUATION, &[3]),
        frame(FIN | CONTINUATION, &[]),
        frame(FIN | TEXT, b"plain"),
        frame(FIN | RSV1 | TEXT, &[4]),
    ];
    let stream = frames.concat();
    let whole = decode(&frames).expect("legal");
    assert_eq!(whole.len(), 5);
    assert_eq!(whole[2], "deflated Binary [2, 3]");
    for size in 1..stream.len() {
        let mut decoder = decoder();
        let mut events = Vec::new();
        for piece in stream.chunks(size) {
            events.extend(feed(&mut decoder, piece).expect("legal"));
        }
        assert_eq!(events, whole, "in reads of {size}");
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

#[test]
fn without_the_extension_the_bit_is_an_error_at_the_first_byte() {
    for first in [FIN | RSV1 | TEXT, RSV1 | BINARY] {
        let result = feed(&mut Decoder::default(), &[first]);
        assert_eq!(result, Err(DecodeError::ReservedBits));
    }
}

#[test]
fn only_the_first_frame_of_a_message_bears_the_bit() {
    let begun = frame(RSV1 | TEXT, &[1]);
    for first in [
        FIN | RSV1 | CONTINUATION,
        RSV1 | CONTINUATION,
        FIN | RSV1 | PING,
        FIN | RSV1 | PONG,
        FIN | RSV1 | CLOSE,
        FIN | RSV1 | RSV2 | TEXT,
        FIN | RSV1 | RSV3 | TEXT,
        FIN | RSV2 | TEXT,
        FIN | RSV3 | BINARY,
    ] {
        for before in [Vec::new(), begun.clone()] {
            let mut decoder = decoder();
            feed(&mut decoder, &before).expect("legal");
            let result = feed(&mut decoder, &[first]);
            assert_eq!(result, Err(DecodeError::ReservedBits), "{first:x}");
        }
    }
    assert_eq!(
        decode(&[begun.clone(), frame(FIN | RSV1 | TEXT, &[2])]),
        Err(DecodeError::ReservedBits)
    );
    assert_eq!(
        decode(&[frame(TEXT, &[1]), frame(FIN | RSV1 | TEXT, &[2])]),
        Err(DecodeError::MessageInterrupted)
    );
    assert_eq!(
        decode(&[begun, frame(FIN | TEXT, b"plain")]),
        Err(DecodeError::MessageInterrupted)
    );
    assert_eq!(
        feed(&mut decoder(), &[FIN | RSV1 | 0x3]),
        Err(DecodeError::ReservedOpcode)
    );
}

#[test]
fn a_compressed_message_may_be_a_little_longer_than_the_limit_and_no_more() {
    let most = max_deflated(LIMIT);
    assert!(most > LIMIT);
    let result = decode(&[frame(FIN | RSV1 | BINARY, &vec![0; most])]);
    assert_eq!(result.expect("legal").len(), 1);
    let header = frame_claiming(FIN | RSV1 | BINARY, most as u64 + 1, &[]);
    assert_eq!(decode(&[header]), Err(DecodeError::MessageTooBig));
    // In fragments, which count together.
    let first = frame(RSV1 | BINARY, &vec![0; LIMIT]);
    let rest = frame(FIN | CONTINUATION, &vec![0; most - LIMIT]);
    let result = decode(&[first.clone(), rest]);
    assert_eq!(result.expect("legal").len(), 1);
    let rest = frame_claiming(CONTINUATION, (most - LIMIT) as u64 + 1, &[]);
    assert_eq!(decode(&[first, rest]), Err(DecodeError::MessageTooBig));
}

#[test]
fn a_large_compressed_message_is_read_into_its_own_buffer() {
    let payload: Vec<u8> = (0..200_000_u32).map(|at| at as u8).collect();
    let stream = frame(FIN | RSV1 | TEXT, &payload);
    let mut decoder = decoder();
    let (first, mut rest) = stream.split_at(100_000);
    assert!(feed(&mut decoder, first).expect("legal").is_empty());
    let mut direct = 0;
    let message = loop {
        let buffer = decoder.direct_buffer().expect("much is missing");
        let count = buffer.len().min(rest.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        direct += count;
        if let Some(event) = decoder.decode_direct(count).expect("legal") {
            break super::describe(&event);
        }
        if decoder.direct_buffer().is_none() {
            break feed(&mut decoder, rest).expect("legal").remove(0);
        }
    };
    assert!(direct > 0);
    assert_eq!(message, format!("deflated Text {payload:x?}"));
}
