//! RFC 6455 beyond whole messages: fragments, control frames, limits, protocol violations and the closing handshake.

use fanwire::server::Stat;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Message};

use crate::support::{World, config};
use crate::wire::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, close_body, frame, header,
};

#[test]
fn a_fragmented_message_arrives_whole_and_a_ping_inside_it_is_answered() {
    let world = World::start();
    let mut listener = world.connect("/room");
    let mut client = world.join("/room");
    client.send(frame(TEXT, "frag\u{e9}".as_bytes().split_at(5).0));
    client.send(frame(FIN | PING, b"still there?"));
    let pong = Frame {
        first: FIN | PONG,
        payload: b"still there?".to_vec(),
    };
    assert_eq!(client.next(), pong, "before the message is complete");
    client.send(frame(CONTINUATION, b""));
    client.send(frame(CONTINUATION, &[0xa9]));
    client.send(frame(FIN | CONTINUATION, b"ments"));
    assert_eq!(client.hear(), "frag\u{e9}ments");
    assert_eq!(listener.hear(), "frag\u{e9}ments");
    drop((client, listener));
    world.end();
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_relayed() {
    let world = World::start();
    let mut client = world.join("/room");
    for byte in frame(FIN | TEXT, &[b'x'; 300]) {
        client.send([byte]);
    }
    assert_eq!(client.hear(), "x".repeat(300));
    drop(client);
    world.end();
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let world = World::start();
    let mut client = world.connect("/room");
    for payload in [&b""[..], b"payload", &[0xff; 125]] {
        client.send(Message::Ping(Bytes::copy_from_slice(payload)));
        assert_eq!(
            client.next(),
            Message::Pong(Bytes::copy_from_slice(payload))
        );
    }
    drop(client);
    world.end();
}

#[test]
fn each_of_many_pings_in_one_packet_is_answered_in_order() {
    let world = World::start();
    let mut client = world.join("/room");
    let payloads: Vec<String> = (0..10).map(|n| format!("ping {n}")).collect();
    let pings = payloads
        .iter()
        .map(|payload| frame(FIN | PING, payload.as_bytes()));
    client.send(pings.collect::<Vec<_>>().concat());
    for payload in payloads {
        let pong = Frame {
            first: FIN | PONG,
            payload: payload.into_bytes(),
        };
        assert_eq!(client.next(), pong);
    }
    drop(client);
    world.end();
}

#[test]
fn an_unsolicited_pong_is_ignored() {
    let world = World::start();
    let mut client = world.connect("/room");
    client.send(Message::Pong(Bytes::from_static(b"unasked")));
    client.say("next");
    assert_eq!(client.hear(), "next");
    drop(client);
    world.end();
}

// Limits

#[test]
fn a_message_of_exactly_the_limit_is_relayed() {
    let world = World::start();
    let mut clients = world.connect_many("/room", 3);
    let payload: Bytes = (0..1u32 << 20).map(|n| (n % 253) as u8).collect();
    clients[0].send(Message::Binary(payload.clone()));
    for client in &mut clients {
        assert!(client.binary() == payload);
    }
    drop(clients);
    world.end();
}

#[test]
fn a_complete_message_over_the_limit_is_closed_with_1009() {
    let world = World::start();
    let mut listener = world.connect("/room");
    let mut client = world.connect("/room");
    client.send(Message::Binary(vec![0; (1 << 20) + 1].into()));
    assert_eq!(client.expect_close().code, CloseCode::Size);
    world.await_total(Stat::DisconnectedTooBig, 1);
    listener.say("unharmed");
    assert_eq!(listener.hear(), "unharmed");
    drop((client, listener));
    world.end();
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_header_alone() {
    for length in [(1 << 20) + 1, 1 << 40, (1 << 63) - 1] {
        let world = World::start();
        let mut client = world.join("/room");
        client.send(header(FIN | BINARY, length));
        assert_eq!(client.close().0, 1009, "{length}");
        client.expect_end();
        drop(client);
        assert_eq!(world.end().value(Stat::DisconnectedTooBig), 1);
    }
}

#[test]
fn fragments_over_the_limit_are_refused_by_their_sum() {
    let world = World::start();
    let mut client = world.join("/room");
    client.send(frame(BINARY, &vec![0; 600 << 10]));
    client.send(header(FIN | CONTINUATION, 600 << 10));
    assert_eq!(client.close().0, 1009);
    client.expect_end();
    drop(client);
    world.end();
}

// Violations

/// Asserts that `bytes` fail the connection with `code`, and that other clients notice nothing.
fn assert_fails(bytes: &[u8], code: u16) {
    let world = World::with(&config(1));
    let listener = world.connect("/room");
    let mut client = world.join("/room");
    client.send(bytes);
    let (actual, reason) = client.close();
    assert_eq!(actual, code, "{bytes:?}");
    assert!(!reason.is_empty());
    client.expect_end();
    drop(client);
    assert_eq!(listener.leave(), []);
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedProtocol), 1);
    assert_eq!(stats.value(Stat::Messages), 0);
}

#[test]
fn an_unmasked_frame_fails_the_connection() {
    assert_fails(b"\x81\x02hi", 1002);
}

#[test]
fn reserved_bits_and_opcodes_fail_the_connection() {
    assert_fails(&frame(FIN | 0x40 | TEXT, b"rsv1"), 1002);
    assert_fails(&frame(FIN | 0x3, b"opcode"), 1002);
    assert_fails(&frame(FIN | 0xb, b"opcode"), 1002);
}

#[test]
fn control_frames_that_are_long_or_fragmented_fail_the_connection() {
    assert_fails(&frame(FIN | PING, &[0; 126]), 1002);
    assert_fails(&frame(PING, b"not final"), 1002);
}

#[test]
fn fragments_out_of_order_fail_the_connection() {
    assert_fails(&frame(FIN | CONTINUATION, b"of nothing"), 1002);
    assert_fails(
        &[frame(TEXT, b"one"), frame(FIN | TEXT, b"two")].concat(),
        1002,
    );
}

#[test]
fn text_that_is_not_utf8_fails_the_connection() {
    assert_fails(&frame(FIN | TEXT, b"\xff"), 1007);
    assert_fails(&frame(FIN | TEXT, b"cut \xe2\x82"), 1007);
    assert_fails(&frame(TEXT, b"early in a fragment \xff"), 1007);
    let late = ["x".repeat(70_000).as_bytes(), b"\xc0\xaf"].concat();
    assert_fails(&frame(FIN | TEXT, &late), 1007);
}

#[test]
fn a_close_with_a_body_that_must_not_be_sent_fails_the_connection() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        assert_fails(&frame(FIN | CLOSE, &close_body(code, "")), 1002);
    }
    assert_fails(&frame(FIN | CLOSE, b"1"), 1002);
    assert_fails(&frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007);
}

#[test]
fn messages_before_a_violation_come_back_before_the_close() {
    let world = World::with(&config(2));
    // Several topics, so that each shard owns some.
    for path in ["/a", "/b", "/c", "/d", "/e", "/f"] {
        let mut listener = world.connect(path);
        let mut client = world.join(path);
        let words = ["one", "two"].map(|word| frame(FIN | TEXT, word.as_bytes()));
        client.send([&words.concat()[..], b"\x81\x02hi"].concat());
        assert_eq!((client.hear(), client.hear()), ("one".into(), "two".into()));
        assert_eq!(client.close().0, 1002);
        client.expect_end();
        assert_eq!(
            (listener.hear(), listener.hear()),
            ("one".into(), "two".into())
        );
    }
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedProtocol), 6);
    assert_eq!(stats.value(Stat::Messages), 12);
}

#[test]
fn the_close_of_a_violation_arrives_although_the_client_goes_on_sending() {
    let world = World::start();
    let mut client = world.join("/room");
    let flood = frame(FIN | TEXT, "x".repeat(60_000).as_bytes()).repeat(20);
    client.send([&b"\x81\x02hi"[..], &flood].concat());
    assert_eq!(client.close().0, 1002);
    client.expect_end();
    drop(client);
    assert_eq!(world.end().value(Stat::Messages), 0);
}

// The closing handshake

#[test]
fn the_code_of_a_close_is_echoed_and_the_relay_ends_the_connection_first() {
    let world = World::start();
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999] {
        let mut client = world.join("/room");
        client.send(frame(FIN | CLOSE, &close_body(code, "bye")));
        assert_eq!(client.close().0, code);
        // The client's side is still open.
        client.expect_end();
    }
    world.await_total(Stat::DisconnectedByClient, 8);
    world.end();
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let world = World::start();
    let mut client = world.join("/room");
    client.send(frame(FIN | CLOSE, b""));
    let reply = Frame {
        first: FIN | CLOSE,
        payload: Vec::new(),
    };
    assert_eq!(client.next(), reply);
    client.expect_end();
    drop(client);
    assert_eq!(world.end().value(Stat::DisconnectedByClient), 1);
}

#[test]
fn messages_after_a_close_are_not_relayed() {
    let world = World::start();
    let listener = world.connect("/room");
    let mut client = world.join("/room");
    let close = frame(FIN | CLOSE, &close_body(1000, ""));
    client.send([close, frame(FIN | TEXT, b"too late")].concat());
    assert_eq!(client.close().0, 1000);
    client.expect_end();
    drop(client);
    assert_eq!(listener.leave(), []);
    assert_eq!(world.end().value(Stat::Messages), 0);
}

#[test]
fn a_message_right_before_a_close_is_relayed() {
    let world = World::start();
    let mut listener = world.connect("/room");
    let mut client = world.join("/room");
    let close = frame(FIN | CLOSE, &close_body(1000, ""));
    client.send([frame(FIN | TEXT, b"last words"), close].concat());
    assert_eq!(listener.hear(), "last words");
    client.expect_cut();
    drop((client, listener));
    world.end();
}
