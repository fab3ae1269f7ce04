//! Attacks with invalid frames. The attackers are members of the topic of an honest pair, so the pair would hear
//! anything that the relay broadcast.

use fanwire::server::Stat;

use crate::support::World;
use crate::wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close_body, frame, header};
use crate::witness::{self, Witness, expect_failure, next_own};

/// Asserts that each attack fails its connection with `code`, and that the pair hears nothing of it.
fn assert_each_fails(code: u16, attacks: Vec<(String, Vec<u8>)>) {
    let count = attacks.len() as u64;
    let world = World::start();
    let witness = Witness::of(&world);
    for (what, bytes) in attacks {
        let mut wire = world.join(witness::PATH);
        wire.send(bytes);
        expect_failure(&mut wire, code, &what);
    }
    let testimony = witness.dismiss();
    let stats = world.end();
    let failures = stats.value(Stat::DisconnectedProtocol) + stats.value(Stat::DisconnectedTooBig);
    assert_eq!(failures, count);
    assert_eq!(stats.value(Stat::Messages), testimony.messages);
}

// Single invalid frames

#[test]
fn reserved_bits_and_opcodes_fail_the_connection_wherever_they_stand() {
    let mut attacks = Vec::new();
    for bit in [0x10, 0x20, 0x40, 0x70] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            attacks.push((
                format!("bits {bit:#x} with opcode {opcode}"),
                frame(FIN | bit | opcode, b"x"),
            ));
        }
        attacks.push((
            format!("bits {bit:#x} in a continuation"),
            [frame(TEXT, b"x"), frame(FIN | bit | CONTINUATION, b"x")].concat(),
        ));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        for fin in [FIN, 0] {
            attacks.push((
                format!("opcode {opcode} with {fin:#x}"),
                frame(fin | opcode, b"x"),
            ));
        }
        attacks.push((
            format!("opcode {opcode} inside a message"),
            [frame(TEXT, b"x"), frame(FIN | opcode, b"x")].concat(),
        ));
    }
    assert_each_fails(1002, attacks);
}

#[test]
fn unmasked_frames_of_every_kind_fail_the_connection() {
    let attacks = [TEXT, BINARY, CLOSE, PING, PONG].map(|opcode| {
        (
            format!("opcode {opcode}"),
            vec![FIN | opcode, 2, 0x03, 0xe8],
        )
    });
    assert_each_fails(1002, attacks.into());
}

#[test]
fn control_frames_that_are_long_or_in_pieces_fail_the_connection() {
    let mut attacks = Vec::new();
    for opcode in [CLOSE, PING, PONG] {
        attacks.push((format!("{opcode} in pieces"), frame(opcode, b"")));
        for len in [126, 1000, 70_000, 1 << 40] {
            attacks.push((
                format!("{opcode} of {len} bytes"),
                header(FIN | opcode, len),
            ));
        }
    }
    attacks.push((
        "a ping in pieces inside a message".into(),
        [frame(TEXT, b"x"), frame(PING, b"x")].concat(),
    ));
    assert_each_fails(1002, attacks);
}

#[test]
fn frames_out_of_order_fail_the_connection() {
    let mut attacks = Vec::new();
    for fin in [FIN, 0] {
        attacks.push((
            format!("continuation of nothing, {fin:#x}"),
            frame(fin | CONTINUATION, b"x"),
        ));
        attacks.push((
            format!("continuation of what is complete, {fin:#x}"),
            [frame(FIN | PONG, b"x"), frame(fin | CONTINUATION, b"x")].concat(),
        ));
        for opcode in [TEXT, BINARY] {
            attacks.push((
                format!("{opcode} inside a message, {fin:#x}"),
                [frame(TEXT, b"x"), frame(fin | opcode, b"x")].concat(),
            ));
        }
    }
    assert_each_fails(1002, attacks);
}

#[test]
fn invalid_lengths_fail_the_connection() {
    let claims = |length: &[u8]| [&[FIN | BINARY, 0xff][..], length, &[0; 4]].concat();
    let mut attacks = Vec::new();
    for len in [1 << 63, (1 << 63) + 5, u64::MAX] {
        attacks.push((format!("{len}"), claims(&len.to_be_bytes())));
    }
    for len in [0u64, 5, 125, 126, 0xffff] {
        attacks.push((format!("{len} in 64 bits"), claims(&len.to_be_bytes())));
    }
    for len in [0, 125] {
        attacks.push((
            format!("{len} in 16 bits"),
            vec![FIN | BINARY, 0xfe, 0, len, 0, 0, 0, 0],
        ));
    }
    assert_each_fails(1002, attacks);
}

#[test]
fn an_invalid_close_fails_the_connection() {
    let mut attacks = Vec::new();
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        let body = close_body(code, "bye");
        attacks.push((format!("{code}"), frame(FIN | CLOSE, &body)));
    }
    attacks.push(("half a code".into(), frame(FIN | CLOSE, b"\x03")));
    assert_each_fails(1002, attacks);
    let attacks = [&b"\xff"[..], b"cut \xe2\x82", b"\xed\xa0\x80"].map(|reason| {
        let body = [&b"\x03\xe8"[..], reason].concat();
        (format!("{reason:?}"), frame(FIN | CLOSE, &body))
    });
    assert_each_fails(1007, attacks.into());
}

// Text

/// Invalid UTF-8, each for a different reason.
const BAD_TEXTS: [&[u8]; 10] = [
    b"lone \x80 continuation",
    b"overlong \xc0\xaf",
    b"overlong \xe0\x80\xaf",
    b"overlong \xf0\x80\x80\xaf",
    b"surrogate \xed\xa0\x80",
    b"beyond \xf4\x90\x80\x80",
    b"beyond \xf8\x88\x80\x80\x80",
    b"never \xfe\xff",
    b"cut \xf0\x9f\x98",
    b"restarted \xe2\x82\xe2\x82\xac",
];

#[test]
fn bad_text_fails_the_connection_wherever_it_is_split_into_frames() {
    let mut attacks = Vec::new();
    for text in BAD_TEXTS {
        for split in 0..=text.len() {
            let (first, second) = text.split_at(split);
            attacks.push((
                format!("{text:?} split at {split}"),
                [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat(),
            ));
        }
    }
    assert_each_fails(1007, attacks);
}

#[test]
fn bad_text_fails_the_connection_wherever_it_is_split_into_packets() {
    let world = World::start();
    let witness = Witness::of(&world);
    for text in BAD_TEXTS {
        let bytes = frame(FIN | TEXT, text);
        for split in 1..bytes.len() {
            let mut wire = world.join(witness::PATH);
            let (first, second) = bytes.split_at(split);
            wire.send(first);
            // The connection may have failed before the second part.
            let _ = wire.try_send(second);
            expect_failure(&mut wire, 1007, &format!("{text:?} split at {split}"));
        }
    }
    let testimony = witness.dismiss();
    assert_eq!(world.end().value(Stat::Messages), testimony.messages);
}

#[test]
fn bad_text_late_in_a_long_message_fails_the_connection() {
    let long = "x".repeat(70_000).into_bytes();
    let attacks = BAD_TEXTS.map(|text| {
        let bytes = [&long[..], text].concat();
        let in_one = frame(FIN | TEXT, &bytes);
        (format!("{text:?}"), in_one)
    });
    assert_each_fails(1007, attacks.into());
}

#[test]
fn good_text_arrives_wherever_its_code_points_are_split() {
    let text = "a\u{e9}\u{20ac}\u{1f600}\u{10ffff}\u{fffd}z";
    let world = World::start();
    let mut listener = world.connect("/room");
    let mut wire = world.join("/room");
    for split in 0..=text.len() {
        let (first, second) = text.as_bytes().split_at(split);
        wire.send(frame(TEXT, first));
        wire.send([frame(CONTINUATION, b""), frame(FIN | CONTINUATION, second)].concat());
        assert_eq!(listener.hear(), text, "split at {split}");
        assert_eq!(wire.hear(), text);
    }
    for byte in text.as_bytes() {
        wire.send(frame(
            if *byte == b'a' { TEXT } else { CONTINUATION },
            &[*byte],
        ));
    }
    wire.send(frame(FIN | CONTINUATION, b""));
    assert_eq!(listener.hear(), text, "a byte in each frame");
    drop((wire, listener));
    world.end();
}

// Order

#[test]
fn two_hundred_frames_in_one_packet_are_served_in_order() {
    let world = World::start();
    let witness = Witness::of(&world);
    let mut wire = world.join("/room");
    let frames: Vec<u8> = (0..200u16)
        .flat_map(|n| match n % 4 {
            0 => frame(TEXT, format!("{n} ").as_bytes()),
            1 => frame(FIN | PONG, b"unasked"),
            2 => frame(CONTINUATION, b""),
            _ => frame(FIN | CONTINUATION, format!("to {n}").as_bytes()),
        })
        .collect();
    wire.send(frames);
    for first in (0..200).step_by(4) {
        assert_eq!(wire.hear(), format!("{first} to {}", first + 3));
    }
    witness.dismiss();
    drop(wire);
    world.end();
}

#[test]
fn every_valid_close_code_is_echoed_and_the_relay_ends_the_connection() {
    let world = World::start();
    let witness = Witness::of(&world);
    let codes = (1000..=1003)
        .chain(1007..=1014)
        .chain([3000, 3999, 4000, 4999]);
    for code in codes.clone() {
        let mut wire = world.join(witness::PATH);
        let reason = "\u{20ac}".repeat(41);
        wire.send(frame(FIN | CLOSE, &close_body(code, &reason)));
        assert_eq!(next_own(&mut wire).payload[..2], code.to_be_bytes());
        wire.expect_end();
    }
    witness.dismiss();
    let left = world.end().value(Stat::DisconnectedByClient);
    assert_eq!(left, 2 + codes.count() as u64);
}

#[test]
fn everything_after_a_close_is_dropped() {
    let world = World::start();
    let witness = Witness::of(&world);
    let behind = [
        frame(FIN | TEXT, b"too late"),
        frame(FIN | PING, b"too late"),
        frame(FIN | CLOSE, &close_body(1001, "again")),
        b"\x81\x02hi".to_vec(),
        header(FIN | BINARY, 1 << 40),
    ];
    for behind in behind {
        let mut wire = world.join(witness::PATH);
        let close = frame(FIN | CLOSE, &close_body(4321, "bye"));
        wire.send([close, behind].concat());
        assert_eq!(next_own(&mut wire).payload[..2], 4321u16.to_be_bytes());
        wire.expect_end();
    }
    let testimony = witness.dismiss();
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), testimony.messages);
    assert_eq!(stats.value(Stat::DisconnectedByClient), 7);
}
