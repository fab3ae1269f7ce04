//! Large messages, messages in very many pieces, and very many messages: all come back unchanged.

use std::thread;

use fanwire::config::Config;

use super::{Chop, End, reply, script};
use crate::support::{World, config};
use crate::wire::{BINARY, CONTINUATION, FIN, Frame, TEXT, Wire, frame};

/// The largest message here.
const LARGEST: usize = 16 << 20;

/// Text with code points of up to four bytes, or binary. No two neighbouring pieces of a round size begin alike.
fn payload(opcode: u8, length: usize) -> Vec<u8> {
    let unit = if opcode == TEXT {
        "aé€😀-".as_bytes()
    } else {
        b"\x00\xfe\x23\xfa\xf0\x80\xc0"
    };
    let whole = length / unit.len() * unit.len();
    let mut payload = unit.repeat(whole / unit.len());
    payload.resize(length, b'.');
    payload
}

fn roomy() -> Config {
    let mut config = config(2);
    config.limits.max_message_bytes = LARGEST;
    config.slow_consumer.max_lag_bytes = 4 * LARGEST;
    config
}

/// A message in fragments of `size` bytes.
fn fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let frames = payload.chunks(size).enumerate().map(|(at, piece)| {
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        let fin = if at + 1 == count { FIN } else { 0 };
        frame(fin | opcode, piece)
    });
    frames.collect()
}

/// A thread of its own sends, since the relay may stop reading until the client reads.
fn assert_comes_back(world: &World, frames: Vec<Vec<u8>>, chop: Chop, expected: &Frame) {
    let mut client = world.join("/room");
    let writer = Wire::over(client.writer());
    let writer = thread::spawn(move || chop.send(&writer, &frames));
    assert!(client.next() == *expected, "another message came back");
    writer.join().unwrap();
    script([], [], End::ByClient).play(&mut client, Chop::Whole);
}

#[test]
fn messages_of_up_to_16_mib_come_back() {
    let world = World::with(&roomy());
    for opcode in [TEXT, BINARY] {
        for length in [64 << 10, 1 << 20, LARGEST] {
            let payload = payload(opcode, length);
            let frames = vec![frame(FIN | opcode, &payload)];
            assert_comes_back(&world, frames, Chop::Whole, &reply(opcode, payload));
        }
    }
    world.end();
}

#[test]
fn a_message_in_65536_fragments_or_in_a_few_comes_back() {
    let world = World::with(&roomy());
    for opcode in [TEXT, BINARY] {
        let payload = payload(opcode, 4 << 20);
        for size in [64, 4 << 10, 1 << 20] {
            let frames = fragments(opcode, &payload, size);
            assert_comes_back(&world, frames, Chop::Whole, &reply(opcode, &payload));
        }
    }
    world.end();
}

#[test]
fn fragments_of_an_odd_size_come_back() {
    let world = World::start();
    for opcode in [TEXT, BINARY] {
        let payload = payload(opcode, 65_536);
        let frames = fragments(opcode, &payload, 1300);
        assert_eq!(frames.len(), 51);
        for chop in [Chop::Whole, Chop::Frames, Chop::Bytes(997)] {
            assert_comes_back(&world, frames.clone(), chop, &reply(opcode, &payload));
        }
    }
    world.end();
}

#[test]
fn a_message_in_pieces_of_64_bytes_on_the_wire_comes_back() {
    let world = World::start();
    for opcode in [TEXT, BINARY] {
        let payload = payload(opcode, 1 << 20);
        for size in [64, 512, 2048] {
            let frames = vec![frame(FIN | opcode, &payload)];
            assert_comes_back(&world, frames, Chop::Bytes(size), &reply(opcode, &payload));
        }
    }
    world.end();
}

#[test]
fn a_thousand_messages_come_back_one_by_one_and_all_at_once() {
    const MESSAGES: usize = 1000;
    let world = World::start();
    for opcode in [TEXT, BINARY] {
        for length in [0, 16, 64, 256, 1024, 4096] {
            let payload = payload(opcode, length);
            let sent = frame(FIN | opcode, &payload);
            let expected = reply(opcode, payload);
            let mut client = world.join("/room");
            for _ in 0..MESSAGES {
                client.send(&sent);
                assert!(client.next() == expected);
            }
            let writer = client.writer();
            let all = sent.repeat(MESSAGES);
            let writer = thread::spawn(move || Wire::over(writer).send(all));
            for _ in 0..MESSAGES {
                assert!(client.next() == expected);
            }
            writer.join().unwrap();
        }
    }
    world.end();
}
