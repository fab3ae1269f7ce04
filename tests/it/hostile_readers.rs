//! Attacks by not reading: a client that never reads while much is published, fifty of them that join one by one, and a
//! client that only pauses. They run under each policy that loses messages. The relay is a separate process, so that
//! its growth is its own. Honest readers must miss nothing.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use fanwire::server::Stat;

use crate::events::Reader;
use crate::program::{Holdings, Program};
use crate::support::{PATIENCE, World, connect_narrowly, eventually};
use crate::wire::{BINARY, CLOSE, FIN, TEXT, Wire, frame};
use crate::witness::Witness;

/// The payload of a message here.
const MESSAGE_BYTES: usize = 16 << 10;

/// The number of messages: 200 MiB, and less in a debug build.
const FLOOD: u32 = ((if cfg!(debug_assertions) { 48 } else { 200 } << 20) / MESSAGE_BYTES) as u32;

/// The number of messages between two joins.
const BETWEEN_JOINS: u32 = FLOOD / 50;

/// The most memory that an attack here may add to the process.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

/// The longest time that one message may keep a reader waiting. The relay's own limit is a quarter of a second; the
/// rest is for a busy machine. Waiting for fifty clients one after the other would take longer.
const MAX_SILENCE: Duration = Duration::from_secs(5);

/// Message number `n`.
fn message(n: u32) -> Vec<u8> {
    let mut payload = vec![n as u8; MESSAGE_BYTES];
    payload[..4].copy_from_slice(&n.to_be_bytes());
    payload
}

/// Reads messages from number `first`, in sequence, until a text. Returns their number and the longest wait for one.
fn read_to_the_end(mut reader: Wire, first: u32) -> (u32, Duration) {
    let mut longest = Duration::ZERO;
    let mut next = first;
    loop {
        let began = Instant::now();
        let frame = reader.next();
        longest = longest.max(began.elapsed());
        if frame.first == FIN | TEXT {
            return (next, longest);
        }
        assert_eq!(frame.first, FIN | BINARY);
        assert_eq!(frame.payload[..4], next.to_be_bytes());
        assert!(frame.payload == message(next), "message {next} is torn");
        next += 1;
    }
}

/// A client that publishes as fast as it can read its own messages, and two readers.
struct Flood {
    is_over: Arc<AtomicBool>,
    writer: JoinHandle<u32>,
    readers: Vec<JoinHandle<(u32, Duration)>>,
}

impl Flood {
    fn begin(program: &Program, path: &str) -> Flood {
        let publisher = program.join(path);
        let mut writer = publisher.writer();
        let readers = [publisher, program.join(path), program.join(path)];
        let is_over = Arc::new(AtomicBool::new(false));
        let must_stop = is_over.clone();
        let writer = thread::spawn(move || {
            let mut sent = 0;
            while !must_stop.load(Ordering::Relaxed) {
                let frame = frame(FIN | BINARY, &message(sent));
                writer.write_all(&frame).unwrap();
                sent += 1;
            }
            writer.write_all(&frame(FIN | TEXT, b"end")).unwrap();
            sent
        });
        Flood {
            is_over,
            writer,
            readers: readers
                .into_iter()
                .map(|reader| thread::spawn(move || read_to_the_end(reader, 0)))
                .collect(),
        }
    }

    /// Ends the flood and checks that every reader has received everything. Returns the number of messages.
    fn end(self) -> u32 {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = self.writer.join().unwrap();
        for reader in self.readers {
            let (read, silence) = reader.join().unwrap();
            assert_eq!(read, sent);
            eprintln!("longest wait for a message: {silence:?}");
            assert!(silence < MAX_SILENCE, "nothing came for {silence:?}");
        }
        sent
    }
}

fn await_messages(program: &Program, count: u32) {
    eventually("the flood goes on", || {
        program.metric("websocket_messages_total") >= f64::from(count)
    });
}

/// Asserts that the frames that a reader got before its Close have no gap, and that the Close has 1013.
fn expect_1013(mut stalled: Wire) {
    let mut next = None;
    loop {
        let frame = stalled.next();
        if frame.first == FIN | CLOSE {
            assert_eq!(frame.payload[..2], 1013u16.to_be_bytes());
            return;
        }
        let n = u32::from_be_bytes(*frame.payload.first_chunk().unwrap());
        assert!(next.is_none_or(|next| next == n), "a gap before {n}");
        next = Some(n + 1);
    }
}

fn program(policy: &str) -> Program {
    Program::with(&format!("slow_consumer: {{policy: {policy}}}"))
}

/// Waits until the process holds what it held `before`, and checks that the honest pair has lost nothing.
fn end(program: Program, before: &Holdings, witness: Witness) {
    program.await_return(before, MAX_GROWTH_BYTES);
    eprintln!(
        "grew by {} KiB",
        (program.peak_bytes() - before.resident()) >> 10
    );
    witness.dismiss();
    program.end_well();
}

/// The metric that counts what the policy did to laggards.
fn losses(policy: &str) -> &'static str {
    match policy {
        "disconnect" => r#"fanwire_disconnections_total{reason="lag"}"#,
        _ => "fanwire_dropped_deliveries_total",
    }
}

fn one_that_never_reads(policy: &str) {
    let program = program(policy);
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let stalled = program.join_narrowly("/flood");
    let flood = Flood::begin(&program, "/flood");
    await_messages(&program, FLOOD);
    eventually("the policy struck", || program.metric(losses(policy)) > 0.0);
    flood.end();
    if policy == "disconnect" {
        program.await_metric(losses(policy), 1);
        expect_1013(stalled);
    } else {
        drop(stalled);
    }
    end(program, &before, witness);
}

#[test]
fn a_client_that_never_reads_is_closed_with_1013_and_costs_the_others_nothing() {
    one_that_never_reads("disconnect");
}

#[test]
fn a_client_that_never_reads_skips_counted_messages_and_costs_the_others_nothing() {
    one_that_never_reads("drop");
}

/// Asserts that the events that a reader got before the end of its stream have no gap, and that the end has 1013.
fn expect_end_with_1013(mut stalled: Reader<TcpStream>) {
    let mut next = None;
    loop {
        let event = stalled.next();
        if event.name == "fanwire" {
            assert!(event.data.starts_with("{\"code\":1013,"), "{event:?}");
            assert_eq!(stalled.try_next(), None);
            return;
        }
        let payload = BASE64.decode(event.data.as_bytes()).unwrap();
        let n = u32::from_be_bytes(*payload.first_chunk().unwrap());
        assert!(next.is_none_or(|next| next == n), "a gap before {n}");
        assert!(payload == message(n), "message {n} is torn");
        next = Some(n + 1);
    }
}

fn one_that_never_reads_events(policy: &str) {
    let program = program(policy);
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let stream = connect_narrowly(program.address);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let stalled = Reader::open(stream, "/flood", "");
    let flood = Flood::begin(&program, "/flood");
    await_messages(&program, FLOOD);
    eventually("the policy struck", || program.metric(losses(policy)) > 0.0);
    flood.end();
    if policy == "disconnect" {
        program.await_metric(losses(policy), 1);
        expect_end_with_1013(stalled);
    } else {
        drop(stalled);
    }
    end(program, &before, witness);
}

#[test]
fn a_reader_of_events_that_never_reads_is_closed_with_1013_and_costs_the_others_nothing() {
    one_that_never_reads_events("disconnect");
}

#[test]
fn a_reader_of_events_that_never_reads_skips_counted_messages_and_costs_the_others_nothing() {
    one_that_never_reads_events("drop");
}

#[test]
fn fifty_clients_that_never_read_cost_no_more_than_one() {
    const STALLED: u32 = 50;
    let program = program("disconnect");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let mut stalled: Vec<Wire> = (0..STALLED / 2)
        .map(|_| program.join_narrowly("/flood"))
        .collect();
    let flood = Flood::begin(&program, "/flood");
    for nth in 0..STALLED / 2 {
        await_messages(&program, (nth + 1) * BETWEEN_JOINS);
        stalled.push(program.join_narrowly("/flood"));
    }
    await_messages(&program, FLOOD);
    program.await_metric(losses("disconnect"), u64::from(STALLED));
    flood.end();
    for stalled in stalled {
        expect_1013(stalled);
    }
    end(program, &before, witness);
}

#[test]
fn a_client_that_pauses_for_two_seconds_loses_nothing() {
    const PAUSE: Duration = Duration::from_secs(2);
    /// Three quarters of the allowed lag.
    const MESSAGES: u32 = (3 << 20) / MESSAGE_BYTES as u32;
    let world = World::start();
    let witness = Witness::of(&world);
    let silent = world.join_narrowly("/room");
    let mut publisher = world.join("/room");
    let began = Instant::now();
    for n in 0..MESSAGES {
        publisher.send(frame(FIN | BINARY, &message(n)));
        assert_eq!(publisher.next().payload[..4], n.to_be_bytes());
        let due = began + PAUSE * (n + 1) / MESSAGES;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    assert_eq!(world.total(Stat::MembersLagging), 1);
    publisher.send(frame(FIN | TEXT, b"end"));
    assert_eq!(read_to_the_end(silent, 0).0, MESSAGES);
    drop(publisher);
    witness.dismiss();
    let stats = world.end();
    assert_eq!(stats.value(Stat::Delivered), stats.value(Stat::Offered));
    assert_eq!(stats.value(Stat::DisconnectedLost), 2);
}
