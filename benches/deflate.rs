//! The cost of compression: a message compressed into a frame, and a client's compressed message inflated.
//!
//! Run it with `cargo bench --bench deflate`. It first prints how many bytes of a frame a message becomes. An item is a message.

#![allow(clippy::print_stdout, reason = "a bench for people")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use fanwire::internals::ws::{
    Compressor, Inflater, Message, MessageKind, Payload, Window, WindowSize,
};

const LIMIT: usize = 1 << 20;

/// Messages in a sample: more than a large window has room for.
const MESSAGES: usize = 1000;

/// The streams: trades of 123 bytes, depths of an order book of about 600, and snapshots of about 14 KiB.
const STREAMS: [&str; 3] = ["trades", "depths", "snapshots"];

fn main() {
    for stream in STREAMS {
        for (size, resets) in [
            (WindowSize::Small, false),
            (WindowSize::Large, false),
            (WindowSize::Large, true),
        ] {
            let messages = messages(stream);
            let plain: usize = messages.iter().map(Vec::len).sum();
            let mut compressor = Compressor::new(size);
            let frames = frames(&mut compressor, &messages, resets);
            let bytes: usize = frames.iter().map(Vec::len).sum();
            let reset = if resets { ", each alone" } else { "" };
            println!(
                "{stream}: {:.1} bytes -> {:.1} in a frame ({size:?}{reset})",
                plain as f64 / MESSAGES as f64,
                bytes as f64 / MESSAGES as f64
            );
        }
    }
    divan::main();
}

/// Numbers that look random.
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn messages(stream: &str) -> Vec<Vec<u8>> {
    let mut state = 7;
    let mut random = |below| next(&mut state, below);
    let mut levels = |count: usize| {
        let level = |_| {
            let (price, cents, size) = (67_000 + random(500), random(100), random(100_000));
            format!("[\"{price}.{cents:02}\",\"0.{size:05}\"]")
        };
        (0..count).map(level).collect::<Vec<_>>().join(",")
    };
    let message = |at: usize| match stream {
        "trades" => {
            let at = at as u64;
            let (price, size) = (67_000 + at * 7919 % 500, at * 104_729 % 100_000);
            format!(
                "{{\"e\":\"trade\",\"E\":{},\"s\":\"BTCUSDT\",\"t\":{},\"p\":\"{price}.{:02}000000\",\"q\":\"0.{size:05}000\",\"T\":{},\"m\":{:5}}}",
                1_700_000_000_000 + at * 37,
                3_300_000_000 + at,
                at * 31 % 100,
                1_700_000_000_000 + at * 37 - 1,
                at.is_multiple_of(3),
            )
        }
        "depths" => format!("{{\"e\":\"depthUpdate\",\"b\":[{}]}}", levels(26)),
        _ => format!("{{\"e\":\"snapshot\",\"b\":[{}]}}", levels(600)),
    };
    (0..MESSAGES).map(message).map(String::into_bytes).collect()
}

fn frames(compressor: &mut Compressor, messages: &[Vec<u8>], resets: bool) -> Vec<Vec<u8>> {
    let frame = |message: &Vec<u8>| {
        if resets {
            compressor.reset();
        }
        let mut out = Vec::new();
        compressor.push_message(&mut out, MessageKind::Text, message);
        out
    };
    messages.iter().map(frame).collect()
}

fn compress(bencher: Bencher<'_, '_>, stream: &str, size: WindowSize, resets: bool) {
    let messages = messages(stream);
    let mut compressor = Compressor::new(size);
    let mut out = Vec::with_capacity(LIMIT);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        for message in &messages {
            out.clear();
            if resets {
                compressor.reset();
            }
            compressor.push_message(&mut out, MessageKind::Text, message);
            black_box(&out);
        }
    });
}

#[divan::bench(args = STREAMS)]
fn compress_small_window(bencher: Bencher<'_, '_>, stream: &str) {
    compress(bencher, stream, WindowSize::Small, false);
}

#[divan::bench(args = STREAMS)]
fn compress_large_window(bencher: Bencher<'_, '_>, stream: &str) {
    compress(bencher, stream, WindowSize::Large, false);
}

#[divan::bench(args = STREAMS)]
fn compress_each_alone(bencher: Bencher<'_, '_>, stream: &str) {
    compress(bencher, stream, WindowSize::Large, true);
}

fn inflate(bencher: Bencher<'_, '_>, stream: &str, is_in_context: bool) {
    let messages = messages(stream);
    let mut compressor = Compressor::new(WindowSize::Large);
    let frames = frames(&mut compressor, &messages, !is_in_context);
    let bodies: Vec<&[u8]> = frames
        .iter()
        .map(|frame| &frame[if frame[1] == 126 { 4 } else { 2 }..])
        .collect();
    let mut inflater = Inflater::new();
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| {
        let mut window = is_in_context.then(Window::new);
        for body in &bodies {
            let message = Message {
                kind: MessageKind::Text,
                payload: Payload::Scratch(body),
            };
            let plain = inflater.inflate(&message, window.as_mut(), LIMIT);
            black_box(plain.expect("it was compressed"));
        }
    });
}

#[divan::bench(args = STREAMS)]
fn inflate_in_context(bencher: Bencher<'_, '_>, stream: &str) {
    inflate(bencher, stream, true);
}

#[divan::bench(args = STREAMS)]
fn inflate_each_alone(bencher: Bencher<'_, '_>, stream: &str) {
    inflate(bencher, stream, false);
}
