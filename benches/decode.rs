//! The cost of one message between the scratch buffer and the outgoing one: it is decoded, checked, unmasked and encoded.
//!
//! Run it with `cargo bench --bench decode`. An item is a message, so one divided by the throughput is the time for one.
//! Each sample begins with a copy of the masked stream into the scratch buffer, as the kernel would make it. `copy_only`
//! measures that copy alone.

#[path = "shared/streams.rs"]
mod streams;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use fanwire::internals::ws::{Decoder, Event, push_message};

use self::streams::{BINARY, FIN, client_frame};

/// The opcode of text.
const TEXT: u8 = 0x1;

/// The worker's scratch buffer.
const SCRATCH_BYTES: usize = 64 << 10;
const LIMIT: usize = 1 << 20;

fn main() {
    divan::main();
}

/// As many masked frames of `payload_len` bytes as fit the scratch buffer, and their number.
fn client_stream(opcode: u8, payload_len: usize) -> (Vec<u8>, usize) {
    let frame = client_frame(FIN | opcode, payload_len);
    let count = SCRATCH_BYTES / frame.len();
    (frame.repeat(count), count)
}

fn decode_and_encode(bencher: Bencher<'_, '_>, opcode: u8, payload_len: usize) {
    let (stream, count) = client_stream(opcode, payload_len);
    let mut scratch = vec![0; stream.len()];
    let mut out = Vec::with_capacity(2 * SCRATCH_BYTES);
    let mut decoder = Decoder::default();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        scratch.copy_from_slice(&stream);
        out.clear();
        let mut input = &mut scratch[..];
        while let Some(event) = decoder.decode(&mut input, LIMIT).expect("a legal stream") {
            if let Event::Message(message) = event {
                push_message(&mut out, message.kind, message.payload.as_slice());
            }
        }
        black_box(&out);
    });
}

#[divan::bench(args = [16, 128, 1024, 16_384])]
fn text(bencher: Bencher<'_, '_>, payload_len: usize) {
    decode_and_encode(bencher, TEXT, payload_len);
}

#[divan::bench(args = [16, 128, 1024, 16_384])]
fn binary(bencher: Bencher<'_, '_>, payload_len: usize) {
    decode_and_encode(bencher, BINARY, payload_len);
}

#[divan::bench(args = [128])]
fn copy_only(bencher: Bencher<'_, '_>, payload_len: usize) {
    let (stream, count) = client_stream(TEXT, payload_len);
    let mut scratch = vec![0; stream.len()];
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        scratch.copy_from_slice(&stream);
        black_box(&scratch);
    });
}
