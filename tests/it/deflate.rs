//! Clients that send compressed messages and get them, with a compressor and an inflater that share no code with the relay.

use std::iter;

use fanwire::config::Config;
use fanwire::server::Stat;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};

use crate::support::{World, config};
use crate::wire::{BINARY, CONTINUATION, FIN, PING, TEXT, Wire, frame, request};
use crate::witness::{self, Witness, expect_failure};

/// The sign of a compressed message.
const RSV1: u8 = 0x40;

const IN_CONTEXT: &str = "permessage-deflate; client_max_window_bits";
const ALONE: &str = "permessage-deflate; client_no_context_takeover";

/// A relay whose clients may compress.
fn compressing() -> Config {
    let mut config = config(2);
    config.compression.enabled = true;
    config
}

/// A client that has joined with this offer, and the answer.
fn join_offering(world: &World, path: &str, offer: &str) -> (Wire, Option<String>) {
    let mut wire = world.dial();
    let offer = format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n");
    wire.send(request(path).replacen("\r\n\r\n", &offer, 1));
    let answer = wire.answer();
    assert_eq!(answer.status, 101, "{answer:?}");
    let extension = answer.header("sec-websocket-extensions");
    let extension = extension.map(str::to_owned);
    (wire, extension)
}

/// A client's compressor.
struct Compressor {
    keeps_context: bool,
    level: u8,
    state: Box<CompressorOxide>,
}

impl Compressor {
    fn new(keeps_context: bool, level: u8) -> Compressor {
        Compressor {
            keeps_context,
            level,
            state: fresh(level),
        }
    }

    fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        if !self.keeps_context {
            self.state = fresh(self.level);
        }
        let mut out = vec![0; message.len() + message.len() / 4 + 1024];
        let result = deflate(&mut self.state, message, &mut out, MZFlush::Sync);
        assert_eq!(result.bytes_consumed, message.len());
        out.truncate(result.bytes_written);
        assert!(out.ends_with(&[0x00, 0x00, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        out
    }
}

fn fresh(level: u8) -> Box<CompressorOxide> {
    let raw = -15;
    let flags = create_comp_flags_from_zip_params(level.into(), raw, 0);
    let mut state = Box::new(CompressorOxide::new(flags));
    state.set_format_and_level(DataFormat::Raw, level);
    state
}

/// The frames of a compressed message, in pieces of this size.
fn frames(opcode: u8, deflated: &[u8], size: usize) -> Vec<u8> {
    let count = deflated.len().div_ceil(size);
    let pieces = deflated.chunks(size).enumerate().map(|(at, piece)| {
        let opcode = if at == 0 { RSV1 | opcode } else { CONTINUATION };
        let fin = if at + 1 == count { FIN } else { 0 };
        frame(fin | opcode, piece)
    });
    pieces.flatten().collect()
}

/// A client's inflater, which keeps what it has inflated.
struct Inflater {
    state: Box<InflateState>,
    messages: usize,
    bytes: usize,
}

impl Inflater {
    fn new() -> Inflater {
        Inflater {
            state: InflateState::new_boxed(DataFormat::Raw),
            messages: 0,
            bytes: 0,
        }
    }

    /// The next message of a client, as its program gets it.
    fn next(&mut self, wire: &mut Wire) -> Vec<u8> {
        let frame = wire.next_of_extension();
        self.bytes += frame.payload.len();
        if frame.first & RSV1 == 0 {
            return frame.payload;
        }
        self.messages += 1;
        let input = [&frame.payload[..], &[0x00, 0x00, 0xff, 0xff]].concat();
        let mut out = vec![0; 128 << 10];
        let step = inflate(&mut self.state, &input, &mut out, MZFlush::Sync);
        assert_eq!(step.bytes_consumed, input.len(), "{:?}", step.status);
        out.truncate(step.bytes_written);
        out
    }
}

fn trade(number: usize) -> Vec<u8> {
    let (price, size) = (61_000 + number * 37 % 900, number * 7919 % 1000);
    let trade = format!(
        r#"{{"type":"trade","symbol":"BTC-USD","id":{number},"price":"{price}.{size:03}","size":"0.{size:03}"}}"#
    );
    trade.repeat(1 + number % 7).into_bytes()
}

#[test]
fn members_with_the_extension_read_what_others_read_in_fewer_bytes() {
    let mut config = compressing();
    config.compression.min_members = 2;
    let world = World::with(&config);
    let mut publisher = world.join("/room");
    let mut takers = Vec::new();
    let (mut sent, mut plain_bytes) = (0, 0);
    for round in 0..5 {
        // The newcomer of a round waits until compression begins anew.
        let (wire, answer) = join_offering(&world, "/room", IN_CONTEXT);
        assert_eq!(answer.as_deref(), Some("permessage-deflate"));
        takers.push((wire, Inflater::new()));
        world.await_total(Stat::DeflateMembers, round + 1);
        for number in sent..sent + 100 {
            publisher.send(frame(FIN | BINARY, &trade(number)));
        }
        for number in sent..sent + 100 {
            let plain = publisher.next();
            assert_eq!(plain.first, FIN | BINARY, "without the extension");
            assert!(plain.payload == trade(number));
            plain_bytes += plain.payload.len();
            for (wire, inflater) in &mut takers {
                assert!(inflater.next(wire) == trade(number), "message {number}");
            }
        }
        sent += 100;
    }
    let inflater = &takers[0].1;
    assert!(2 * inflater.bytes < plain_bytes, "{} bytes", inflater.bytes);
    assert!(inflater.messages >= 300, "{}", inflater.messages);
    let messages = takers.iter().map(|(_, inflater)| inflater.messages as u64);
    let compressed: u64 = messages.sum();
    drop((publisher, takers));
    let stats = world.end();
    let deliveries = 100 * (1 + 2 + 3 + 4 + 5);
    assert_eq!(
        stats.value(Stat::DeflatePlainDeliveries),
        deliveries - compressed
    );
}

#[test]
fn the_answer_to_an_offer_has_nothing_that_was_not_offered() {
    for (is_enabled, offer, expected) in [
        (true, IN_CONTEXT, Some("permessage-deflate")),
        (true, ALONE, Some(ALONE)),
        (
            true,
            "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_max_window_bits=15",
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        (true, "permessage-deflate; server_no_context_takeover", None),
        (true, "permessage-bzip2", None),
        (false, IN_CONTEXT, None),
    ] {
        let mut config = compressing();
        config.compression.enabled = is_enabled;
        let world = World::with(&config);
        let (mut wire, answer) = join_offering(&world, "/room", offer);
        assert_eq!(answer.as_deref(), expected, "{offer}");
        world.await_total(Stat::DeflateMembers, u64::from(answer.is_some()));
        wire.send(frame(FIN | TEXT, b"plain"));
        assert_eq!(wire.hear(), "plain");
        drop(wire);
        world.end();
    }
}

#[test]
fn messages_of_every_length_come_back_from_a_compressor() {
    for (offer, keeps_context) in [(IN_CONTEXT, true), (ALONE, false)] {
        let world = World::with(&compressing());
        let (mut wire, _) = join_offering(&world, "/room", offer);
        let mut listener = world.join("/room");
        let mut compressor = Compressor::new(keeps_context, 6);
        let mut messages = 0_u64;
        for length in [0, 16, 256, 1024, 8192, 65_536, 131_072] {
            for (opcode, size) in [(TEXT, usize::MAX), (BINARY, 256), (TEXT, 1), (BINARY, 4096)] {
                if size == 1 && length > 8192 {
                    continue;
                }
                // No two are alike, and each resembles those before.
                let unit = format!("{messages} é€😀 {}-", messages * 37 % 101);
                let mut payload = unit.repeat(length / unit.len() + 1).into_bytes();
                payload.truncate(unit.len().min(length) + length / unit.len() * unit.len());
                if length < unit.len() {
                    payload = b"x".repeat(length);
                }
                let deflated = compressor.compress(&payload);
                wire.send(frames(opcode, &deflated, size));
                messages += 1;
                for member in [&mut wire, &mut listener] {
                    let got = member.next();
                    assert_eq!(got.first, FIN | opcode, "{length} in pieces of {size}");
                    assert!(got.payload == payload, "{length} in pieces of {size}");
                }
            }
        }
        drop((wire, listener));
        let stats = world.end();
        assert_eq!(stats.value(Stat::InflatedMessages), messages);
        assert_eq!(stats.value(Stat::Messages), messages);
    }
}

#[test]
fn a_message_of_the_limit_may_grow_when_it_is_compressed() {
    let mut config = compressing();
    config.limits.max_message_bytes = 100_000;
    let world = World::with(&config);
    let (mut wire, _) = join_offering(&world, "/room", ALONE);
    let mut state = 1_u32;
    let noise = iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let payload: Vec<u8> = noise.take(100_000).collect();
    let deflated = Compressor::new(false, 1).compress(&payload);
    assert!(deflated.len() > payload.len(), "it does not shrink");
    wire.send(frames(BINARY, &deflated, usize::MAX));
    assert!(wire.next().payload == payload);
    let bomb = Compressor::new(false, 9).compress(&vec![0; 100_001]);
    wire.send(frames(BINARY, &bomb, usize::MAX));
    assert_eq!(wire.close().0, 1009);
    drop(wire);
    world.end();
}

#[test]
fn attacks_with_compressed_messages_fail_the_connection_and_nobody_hears_of_it() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut bomb = Compressor::new(false, 9);
    let bomb = bomb.compress(&vec![b'x'; 64 << 20]);
    let attacks = [
        (
            "not negotiated",
            "x",
            frame(FIN | RSV1 | TEXT, &hello),
            1002,
        ),
        (
            "RSV2 as well",
            ALONE,
            frame(FIN | 0x60 | TEXT, &hello),
            1002,
        ),
        ("a ping", ALONE, frame(FIN | RSV1 | PING, b"x"), 1002),
        (
            "a continuation",
            ALONE,
            [
                frame(RSV1 | TEXT, &hello[..3]),
                frame(FIN | RSV1 | CONTINUATION, &hello[3..]),
            ]
            .concat(),
            1002,
        ),
        (
            "no DEFLATE",
            ALONE,
            frame(FIN | RSV1 | TEXT, b"\xff\xff"),
            1007,
        ),
        (
            "cut short",
            ALONE,
            frame(FIN | RSV1 | TEXT, &hello[..5]),
            1007,
        ),
        (
            "a reference to nothing",
            IN_CONTEXT,
            frame(FIN | RSV1 | TEXT, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
            1007,
        ),
        (
            "not UTF-8",
            ALONE,
            frames(TEXT, &Compressor::new(false, 1).compress(b"a\xff"), 1),
            1007,
        ),
        ("a bomb", ALONE, frames(BINARY, &bomb, usize::MAX), 1009),
        (
            "a bomb in pieces",
            IN_CONTEXT,
            frames(TEXT, &bomb, 1000),
            1009,
        ),
        (
            "ended too often",
            ALONE,
            frame(FIN | RSV1 | TEXT, &[0x03, 0x00].repeat(60)),
            1009,
        ),
    ];
    let count = attacks.len() as u64;
    let world = World::with(&compressing());
    let witness = Witness::of(&world);
    for (what, offer, bytes, code) in attacks {
        let (mut wire, _) = join_offering(&world, witness::PATH, offer);
        // It may be closed before all of it is sent.
        let _: std::io::Result<()> = wire.try_send(bytes);
        expect_failure(&mut wire, code, what);
    }
    let testimony = witness.dismiss();
    let stats = world.end();
    let failures = stats.value(Stat::DisconnectedProtocol) + stats.value(Stat::DisconnectedTooBig);
    assert_eq!(failures, count);
    assert_eq!(stats.value(Stat::Messages), testimony.messages);
    assert_eq!(stats.value(Stat::InflatedMessages), 0);
}

#[test]
fn clients_beyond_the_memory_for_windows_send_plain_messages_or_are_closed() {
    let mut config = compressing();
    config.server.workers = 1;
    config.limits.max_buffered_bytes = 4 * 32 * (32 << 10);
    config.limits.max_message_bytes = 64 << 10;
    config.slow_consumer.max_lag_bytes = 1 << 20;
    let world = World::with(&config);
    let say = |wire: &mut Wire| {
        let deflated = Compressor::new(true, 1).compress(b"Hello");
        wire.send(frames(TEXT, &deflated, usize::MAX));
    };
    let mut early: Vec<Wire> = (0..5)
        .map(|at| join_offering(&world, &format!("/{at}"), IN_CONTEXT))
        .map(|(wire, answer)| {
            assert!(answer.is_some(), "no memory is taken yet");
            wire
        })
        .collect();
    for wire in &mut early[..4] {
        say(wire);
        assert_eq!(wire.hear(), "Hello");
    }
    world.await_total(Stat::InflateWindowBytes, 4 * (32 << 10));
    let (late, answer) = join_offering(&world, "/late", IN_CONTEXT);
    assert_eq!(answer, None, "half of the memory is taken");
    say(&mut early[4]);
    let (code, reason) = early[4].close();
    assert_eq!(code, 1013);
    assert_eq!(reason, "too many clients compress with context takeover");
    drop((early, late));
    world.end();
}
