//! Slow readers under each policy, and publishers that send faster than anybody reads. Neither costs the others
//! anything.
//!
//! A laggard has a small receive buffer and does not read. The others move in step: the next message is sent when the
//! last one has reached all of them. So only the laggard ever lags, however busy the machine is.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy};
use fanwire::internals::relay::OVERHEAD_BYTES;
use fanwire::server::Stat;
use tungstenite::{Bytes, Message};

use crate::support::{Client, World, config};
use crate::wire::{BINARY, CLOSE, FIN, PING, PONG, TEXT, Wire, frame};

/// The payload of a message here.
const MESSAGE_BYTES: usize = 16 << 10;

/// The same, with the frame header.
const FRAME_BYTES: u64 = MESSAGE_BYTES as u64 + 4;

const MAX_LAG_BYTES: usize = 256 << 10;

/// More messages than the buffers of any laggard here can hold.
const ENOUGH: u32 = 4000;

fn policy(policy: SlowConsumerPolicy) -> Config {
    let mut config = config(2);
    config.limits.max_message_bytes = MESSAGE_BYTES;
    config.slow_consumer.policy = policy;
    config.slow_consumer.max_lag_bytes = MAX_LAG_BYTES;
    config.slow_consumer.stall_timeout = Duration::from_hours(1);
    config
}

/// Message number `n`.
fn payload(n: u32) -> Bytes {
    let mut payload = vec![n as u8; MESSAGE_BYTES];
    payload[..4].copy_from_slice(&n.to_be_bytes());
    payload.into()
}

/// The number of a message, which must be complete.
fn number(bytes: &[u8]) -> u32 {
    let n = u32::from_be_bytes(*bytes.first_chunk().unwrap());
    assert!(bytes == payload(n), "message {n} is torn");
    n
}

/// Clients that move in step, and the number of messages sent.
struct Company {
    clients: Vec<Client>,
    sent: u32,
}

impl Company {
    /// Two clients on each shard.
    fn join(world: &World) -> Company {
        Company {
            clients: world.connect_many("/room", 2 * world.relay.shards()),
            sent: 0,
        }
    }

    /// Sends one message and waits until all have received it.
    fn step(&mut self) {
        self.clients[0].send(Message::Binary(payload(self.sent)));
        for client in &mut self.clients {
            assert_eq!(number(&client.binary()), self.sent);
        }
        self.sent += 1;
    }

    fn step_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        while !condition() {
            assert!(self.sent < ENOUGH, "never came true: {what}");
            self.step();
        }
    }
}

#[test]
fn a_laggard_is_closed_with_1013_and_the_others_are_unharmed() {
    let world = World::with(&policy(SlowConsumerPolicy::Disconnect));
    let mut company = Company::join(&world);
    let mut laggard = world.join_narrowly("/room");
    company.step_until("the laggard was disconnected", || {
        let log_bytes = world.total(Stat::LogBytes);
        assert!(
            log_bytes <= MAX_LAG_BYTES as u64 + 2 * FRAME_BYTES,
            "the log is bounded, and holds {log_bytes}"
        );
        world.total(Stat::DisconnectedLag) == 1
    });
    company.step();

    let mut next = 0;
    let (code, reason) = loop {
        let frame = laggard.next();
        if frame.first != FIN | BINARY {
            break (
                u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
                String::from_utf8(frame.payload[2..].to_vec()).unwrap(),
            );
        }
        assert_eq!(number(&frame.payload), next, "no gap before the end");
        next += 1;
    };
    assert_eq!(code, 1013);
    assert!(reason.contains("slow consumer"), "{reason}");
    laggard.send(frame(FIN | CLOSE, &code.to_be_bytes()));
    laggard.expect_end();

    let sent = u64::from(company.sent);
    let others = company.clients.len() as u64;
    drop((company, laggard));
    let stats = world.end();
    assert_eq!(
        stats.value(Stat::Delivered),
        others * sent + u64::from(next)
    );
    assert!(stats.value(Stat::Discarded) > 0);
    assert_eq!(stats.value(Stat::Dropped), 0);
}

#[test]
fn under_drop_a_laggard_skips_counted_messages_and_its_stream_stays_whole() {
    let world = World::with(&policy(SlowConsumerPolicy::Drop));
    let mut company = Company::join(&world);
    let mut laggard = world.join_narrowly("/room");
    company.step_until("messages were dropped", || {
        assert!(world.total(Stat::LogBytes) <= MAX_LAG_BYTES as u64 + 2 * FRAME_BYTES);
        world.total(Stat::Dropped) > 0
    });
    for _ in 0..40 {
        company.step();
    }
    let reader = thread::spawn(move || {
        let mut numbers = Vec::new();
        loop {
            let frame = laggard.next();
            assert_eq!(frame.first, FIN | BINARY);
            if frame.payload == b"end" {
                return numbers;
            }
            numbers.push(number(&frame.payload));
        }
    });
    world.await_total(Stat::MembersLagging, 0);
    company.clients[0].send(Message::binary(&b"end"[..]));
    let numbers = reader.join().unwrap();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    let sent = company.sent;
    drop(company);
    let stats = world.end();
    assert_eq!(
        numbers.len() as u64 + stats.value(Stat::Dropped),
        u64::from(sent),
        "what did not come was counted"
    );
}

#[test]
fn under_backpressure_nothing_is_lost_and_the_publisher_waits() {
    const MESSAGES: u32 = (32 << 20) / MESSAGE_BYTES as u32;
    let world = World::with(&policy(SlowConsumerPolicy::Backpressure));
    let mut publisher = world.join("/room");
    let mut laggard = world.join_narrowly("/room");
    let mut writer = publisher.writer();
    let writer = thread::spawn(move || {
        for n in 0..MESSAGES {
            writer.write_all(&frame(FIN | BINARY, &payload(n))).unwrap();
        }
    });
    let echo = thread::spawn(move || {
        read_in_sequence(&mut publisher, MESSAGES);
        publisher
    });
    world.await_total(Stat::TopicsHeld, 1);
    assert!(world.total(Stat::Messages) < u64::from(MESSAGES) / 2);
    assert!(
        world.total(Stat::LogBytes) <= 2 * MAX_LAG_BYTES as u64,
        "{} bytes in the logs of two shards",
        world.total(Stat::LogBytes)
    );
    read_in_sequence(&mut laggard, MESSAGES);
    writer.join().unwrap();
    let publisher = echo.join().unwrap();
    world.await_rest();
    world.await_total(Stat::TopicsHeld, 0);
    drop((publisher, laggard));
    let stats = world.end();
    assert_eq!(stats.value(Stat::Delivered), 2 * u64::from(MESSAGES));
}

fn read_in_sequence(client: &mut Wire, messages: u32) {
    for n in 0..messages {
        let frame = client.next();
        assert_eq!(frame.first, FIN | BINARY);
        assert_eq!(number(&frame.payload), n);
    }
}

#[test]
fn a_paused_topic_continues_when_its_laggard_leaves() {
    const MESSAGES: u32 = (16 << 20) / MESSAGE_BYTES as u32;
    let world = World::with(&policy(SlowConsumerPolicy::Backpressure));
    let mut publisher = world.join("/room");
    let laggard = world.join_narrowly("/room");
    let mut writer = publisher.writer();
    let writer = thread::spawn(move || {
        for n in 0..MESSAGES {
            writer.write_all(&frame(FIN | BINARY, &payload(n))).unwrap();
        }
    });
    let echo = thread::spawn(move || read_in_sequence(&mut publisher, MESSAGES));
    world.await_total(Stat::TopicsHeld, 1);
    laggard.reset();
    writer.join().unwrap();
    echo.join().unwrap();
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), u64::from(MESSAGES));
}

#[test]
fn a_paused_publisher_is_read_again_although_it_sends_nothing_more() {
    const MESSAGES: u32 = 50;
    let world = World::with(&policy(SlowConsumerPolicy::Backpressure));
    let mut publisher = world.join("/room");
    let mut laggard = world.join_narrowly("/room");
    // All of it fits in the sockets, so the publisher's socket has no further event.
    for n in 0..MESSAGES {
        publisher.send(frame(FIN | BINARY, &payload(n)));
    }
    let echo = thread::spawn(move || read_in_sequence(&mut publisher, MESSAGES));
    world.await_total(Stat::TopicsHeld, 1);
    read_in_sequence(&mut laggard, MESSAGES);
    echo.join().unwrap();
    drop(laggard);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), u64::from(MESSAGES));
}

#[test]
fn a_client_that_accepts_nothing_is_closed_with_1013_although_it_lags_little() {
    let mut config = policy(SlowConsumerPolicy::Backpressure);
    config.slow_consumer.max_lag_bytes = 64 << 20;
    config.slow_consumer.stall_timeout = Duration::from_millis(200);
    let world = World::with(&config);
    let mut company = Company::join(&world);
    let mut laggard = world.join_narrowly("/room");
    company.step_until("there is a backlog", || {
        world.total(Stat::LogBytes) >= 20 * FRAME_BYTES || world.total(Stat::DisconnectedStall) > 0
    });
    world.await_total(Stat::DisconnectedStall, 1);
    let last = std::iter::repeat_with(|| laggard.next()).find(|frame| frame.first != FIN | BINARY);
    let payload = last.unwrap().payload;
    assert_eq!(payload[..2], 1013u16.to_be_bytes());
    assert!(String::from_utf8_lossy(&payload[2..]).contains("accepts nothing"));
    drop((company, laggard));
    world.end();
}

#[test]
fn a_ping_is_answered_at_the_next_frame_boundary_although_there_is_a_backlog() {
    let mut config = policy(SlowConsumerPolicy::Disconnect);
    config.slow_consumer.max_lag_bytes = 64 << 20;
    let world = World::with(&config);
    let mut company = Company::join(&world);
    let mut laggard = world.join_narrowly("/room");
    let backlog_bytes = 100 * FRAME_BYTES;
    company.step_until("there is a backlog", || {
        world.total(Stat::LogBytes) >= backlog_bytes
    });
    let question = frame(FIN | PING, b"are you there?");
    laggard.send([question, frame(FIN | TEXT, b"behind the ping")].concat());
    for client in &mut company.clients {
        // By now the relay has read the ping too, and everything in the log is what the laggard lacks.
        assert_eq!(client.hear(), "behind the ping");
    }

    let mut heard = 0;
    let pong = loop {
        let frame = laggard.next();
        if frame.first != FIN | BINARY {
            break frame;
        }
        heard += 1;
    };
    assert_eq!(
        (pong.first, &*pong.payload),
        (FIN | PONG, &b"are you there?"[..])
    );
    let left = company.sent - heard;
    assert!(
        u64::from(left) >= backlog_bytes / (FRAME_BYTES + OVERHEAD_BYTES as u64) - 1,
        "the pong waited for all but {left} messages"
    );
    for n in heard..company.sent {
        assert_eq!(number(&laggard.next().payload), n);
    }
    assert_eq!(laggard.hear(), "behind the ping");
    drop((company, laggard));
    let stats = world.end();
    assert_eq!(stats.value(Stat::Delivered), stats.value(Stat::Offered));
}

#[test]
fn a_laggard_that_leaves_in_order_is_answered_and_its_backlog_is_discarded() {
    let mut config = policy(SlowConsumerPolicy::Disconnect);
    config.slow_consumer.max_lag_bytes = 64 << 20;
    let world = World::with(&config);
    let mut company = Company::join(&world);
    let mut laggard = world.join_narrowly("/room");
    company.step_until("there is a backlog", || {
        world.total(Stat::LogBytes) >= 20 * FRAME_BYTES
    });
    laggard.send(frame(FIN | CLOSE, b"\x03\xe8"));
    world.await_total(Stat::DisconnectedByClient, 1);
    let mut heard = 0;
    let last = loop {
        let frame = laggard.next();
        if frame.first != FIN | BINARY {
            break frame;
        }
        assert_eq!(number(&frame.payload), heard);
        heard += 1;
    };
    assert_eq!(last.payload, b"\x03\xe8");
    laggard.expect_end();
    let owed = company.sent - heard;
    drop((company, laggard));
    assert_eq!(world.end().value(Stat::Discarded), u64::from(owed));
}

#[test]
fn a_publisher_as_fast_as_it_can_read_its_echo_costs_honest_readers_nothing() {
    const MESSAGES: u32 = (48 << 20) / MESSAGE_BYTES as u32;
    let world = World::start();
    let mut publisher = world.join("/room");
    let readers: Vec<_> = (0..3).map(|_| world.join("/room")).collect();
    let mut writer = publisher.writer();
    let writer = thread::spawn(move || {
        for n in 0..MESSAGES {
            writer.write_all(&frame(FIN | BINARY, &payload(n))).unwrap();
        }
    });
    let readers: Vec<_> = readers
        .into_iter()
        .map(|mut reader| thread::spawn(move || read_in_sequence(&mut reader, MESSAGES)))
        .collect();
    read_in_sequence(&mut publisher, MESSAGES);
    writer.join().unwrap();
    for reader in readers {
        reader.join().unwrap();
    }
    drop(publisher);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Delivered), 4 * u64::from(MESSAGES));
}

#[test]
fn a_publisher_that_never_reads_is_paused_and_finally_disconnected() {
    let mut config = policy(SlowConsumerPolicy::Disconnect);
    config.slow_consumer.stall_timeout = Duration::from_millis(200);
    let world = World::with(&config);
    let mut listener = world.connect("/room");
    let publisher = world.join_narrowly("/room");
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let is_over = is_over.clone();
        move || {
            // It keeps sending after the Close, which it does not read either.
            let mut numbers = 0..;
            while !is_over.load(Ordering::Relaxed) {
                let frame = frame(FIN | BINARY, &payload(numbers.next().unwrap()));
                // Sending fails once the relay has waited long enough for an answer to its Close.
                if publisher.try_send(frame).is_err() {
                    break;
                }
            }
        }
    });
    let listener = thread::spawn(move || {
        let mut heard = 0;
        loop {
            match listener.next() {
                Message::Binary(bytes) => assert_eq!(number(&bytes), heard),
                Message::Text(_) => return (listener, heard),
                other => panic!("{other:?}"),
            }
            heard += 1;
        }
    });
    world.await_total(Stat::DisconnectedStall, 1);
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(
        world.total(Stat::Messages) < u64::from(ENOUGH) / 4,
        "it was read no longer"
    );
    let mut other = world.connect("/room");
    other.say("end");
    let (listener, heard) = listener.join().unwrap();
    world.await_total(Stat::Messages, u64::from(heard) + 1);
    drop((listener, other));
    world.end();
}
