//! Attacks with quantity: messages over the limit, fragments by the million, floods of control frames, and clients that
//! keep sending after their Close. An honest pair watches, mostly as members of the same topic.

use fanwire::config::Config;
use fanwire::server::Stat;

use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, frame, header};
use crate::witness::{self, Witness, expect_failure};

/// The most memory that an attack here may add to the process.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

/// The default of `limits.max_message_bytes`.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Control frames may come as fast as they like.
const WITHOUT_LIMIT: &str = "limits: {control_frames_per_second: 0}";

/// The same, for a relay in this process.
fn without_limit() -> Config {
    let mut config = config(2);
    config.limits.control_frames_per_second = 0;
    config
}

/// The bytes that an attacker sends, in pieces.
type Chunks = Box<dyn Iterator<Item = Vec<u8>> + Send>;

// Size

#[test]
fn a_length_over_the_limit_is_refused_by_its_header_and_nothing_is_allocated_for_it() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    for length in [(1 << 63) - 1, 1 << 62, 1 << 40, 1 << 30, (1 << 20) + 1] {
        for opcode in [TEXT, BINARY] {
            for _ in 0..10 {
                let mut wire = program.join(witness::PATH);
                wire.send(header(FIN | opcode, length));
                expect_failure(&mut wire, 1009, &length.to_string());
            }
        }
    }
    program.await_return(&before, 16 << 20);
    witness.dismiss();
    program.end_well();
}

#[test]
fn memory_follows_the_bytes_sent_and_not_the_length_claimed() {
    const CLAIMS: usize = 200;
    const SENT_BYTES: usize = 1 << 10;
    let program =
        Program::with("limits: {max_message_bytes: 16MiB}\nslow_consumer: {max_lag_bytes: 64MiB}");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let virtual_bytes = program.virtual_bytes();
    let claimants: Vec<_> = (0..CLAIMS)
        .map(|_| {
            let wire = program.join("/claims");
            wire.send(header(FIN | BINARY, 15 << 20));
            wire.send([0; SENT_BYTES]);
            wire
        })
        .collect();
    let held_bytes = || program.metric("fanwire_partial_message_bytes");
    let sent_bytes = (CLAIMS * SENT_BYTES) as f64;
    eventually("what was sent is held", || held_bytes() >= sent_bytes);
    assert!(held_bytes() <= 4.0 * sent_bytes, "{}", held_bytes());
    // The relay does not even reserve address space for the three gigabytes.
    assert!(program.virtual_bytes() < virtual_bytes + (1 << 30));
    witness.while_silent(|| program.await_rest_beside(&before, CLAIMS));
    drop(claimants);
    program.await_return(&before, 16 << 20);
    witness.dismiss();
    program.end_well();
}

#[test]
fn a_message_over_the_limit_fails_with_1009_although_its_sender_continues() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let over = vec![0; MAX_MESSAGE_BYTES + 1];
    let (front, back) = over.split_at(MAX_MESSAGE_BYTES / 2);
    let endless = || {
        let fragment = frame(CONTINUATION, &vec![0; 64 << 10]);
        std::iter::once(frame(BINARY, b"")).chain(std::iter::repeat(fragment))
    };
    let attacks: [(&str, Chunks); 3] = [
        (
            "in one",
            Box::new(std::iter::repeat(frame(FIN | BINARY, &over))),
        ),
        (
            "in two",
            Box::new([frame(BINARY, front), frame(FIN | CONTINUATION, back)].into_iter()),
        ),
        ("in fragments without end", Box::new(endless())),
    ];
    for (what, chunks) in attacks {
        let mut wire = program.join(witness::PATH);
        let sender = wire.send_beside(chunks);
        expect_failure(&mut wire, 1009, what);
        drop(wire);
        sender.join().unwrap();
    }
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn fragments_by_the_million_are_one_message_and_cost_only_their_payload() {
    const EMPTY: usize = 1_000_000;
    const ONE_BYTE: usize = 200_000;
    /// The number of frames in one send.
    const AT_ONCE: usize = 1000;
    let program = Program::with(WITHOUT_LIMIT);
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    for (fragments, fragment) in [(EMPTY, &b""[..]), (ONE_BYTE, b"x")] {
        let mut wire = program.join("/fragments");
        let many = frame(CONTINUATION, fragment).repeat(AT_ONCE);
        let chunks = std::iter::once(frame(TEXT, b"<"))
            .chain(std::iter::repeat_n(many, fragments / AT_ONCE))
            .chain(std::iter::once(frame(FIN | CONTINUATION, b">")));
        let sender = wire.send_beside(chunks);
        let message = wire.hear();
        sender.join().unwrap();
        assert_eq!(message.len(), 2 + fragments * fragment.len());
        assert!(message.starts_with('<') && message.ends_with('>'));
    }
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

// Floods of control frames

#[test]
fn in_a_flood_of_pings_whose_sender_reads_the_newest_is_answered() {
    const PINGS: u32 = 50_000;
    let world = World::with(&without_limit());
    let witness = Witness::of(&world);
    let mut wire = world.join("/pings");
    let pings = (0..PINGS).map(|n| frame(FIN | PING, &n.to_be_bytes()));
    let sender = wire.send_beside(pings);
    let mut newest = None;
    while newest != Some(PINGS - 1) {
        let pong = wire.next();
        assert_eq!(pong.first, FIN | PONG);
        let n = u32::from_be_bytes(pong.payload.try_into().unwrap());
        assert!(newest < Some(n), "{n} behind {newest:?}");
        newest = Some(n);
    }
    sender.join().unwrap();
    witness.dismiss();
    drop(wire);
    world.end();
}

#[test]
fn a_flood_of_pings_whose_sender_never_reads_is_bounded() {
    const CHUNKS: usize = 600;
    let program = Program::with(WITHOUT_LIMIT);
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let wire = program.join("/pings");
    let received = || program.metric("fanwire_received_bytes_total");
    // 31 MB of pings, each owed an answer of the same size.
    let chunk = frame(FIN | PING, &[b'x'; 125]).repeat(400);
    let all = received() + (CHUNKS * chunk.len()) as f64;
    let sender = wire.send_beside(std::iter::repeat_n(chunk, CHUNKS));
    eventually("all are taken in, or no more is sent", || {
        received() >= all || sender.is_finished()
    });
    witness.while_silent(|| program.await_rest_beside(&before, 1));
    drop(wire);
    program.await_return(&before, 16 << 20);
    sender.join().unwrap();
    witness.dismiss();
    program.end_well();
}

#[test]
fn a_flood_of_unsolicited_pongs_is_ignored() {
    let world = World::with(&without_limit());
    let witness = Witness::of(&world);
    let mut wire = world.join("/pongs");
    let pongs = frame(FIN | PONG, b"unasked").repeat(1000);
    let chunks = std::iter::repeat_n(pongs, 100).chain(std::iter::once(frame(
        FIN | TEXT,
        b"and now to something else",
    )));
    let sender = wire.send_beside(chunks);
    assert_eq!(wire.hear(), "and now to something else");
    sender.join().unwrap();
    witness.dismiss();
    drop(wire);
    world.end();
}

#[test]
fn by_default_a_flood_of_frames_that_bring_nothing_is_closed_with_1008() {
    let world = World::start();
    let witness = Witness::of(&world);
    for frame in [
        frame(FIN | PING, b"x"),
        frame(FIN | PONG, b""),
        frame(CONTINUATION, b""),
    ] {
        let mut wire = world.join("/flood");
        let many = std::iter::repeat(frame.repeat(1000));
        let sender = wire.send_beside(std::iter::once(self::frame(TEXT, b"")).chain(many));
        loop {
            let next = wire.next();
            if next.first == FIN | CLOSE {
                assert_eq!(next.payload[..2], 1008u16.to_be_bytes());
                assert_eq!(next.payload[2..], *b"too many control frames");
                break;
            }
            assert_eq!(next.first, FIN | PONG);
        }
        drop(wire);
        sender.join().unwrap();
    }
    witness.dismiss();
    assert_eq!(world.end().value(Stat::DisconnectedControlRate), 3);
}

// The Close must arrive.

#[test]
fn a_client_that_never_stops_sending_gets_the_close_of_its_violation_and_the_end() {
    let world = World::start();
    let witness = Witness::of(&world);
    let flood = frame(FIN | BINARY, &vec![0; 60_000]);
    for bad in [
        b"\x81\x02hi".to_vec(),
        frame(FIN | TEXT, b"\xff"),
        header(FIN | BINARY, 1 << 30),
        frame(FIN | CLOSE, b"\x03"),
    ] {
        let code = match bad[0] & 0xf {
            BINARY => 1009,
            TEXT if bad.len() > 4 => 1007,
            _ => 1002,
        };
        let mut wire = world.join(witness::PATH);
        let chunks = std::iter::once(bad).chain(std::iter::repeat(flood.clone()));
        let sender = wire.send_beside(chunks);
        expect_failure(&mut wire, code, "sends without end");
        drop(wire);
        sender.join().unwrap();
    }
    let testimony = witness.dismiss();
    assert_eq!(world.end().value(Stat::Messages), testimony.messages);
}
