//! Attacks before the upgrade: connections that never ask, heads that never end, and requests with two meanings. An
//! honest pair watches each attack and must notice nothing.

use std::time::Duration;

use fanwire::config::Config;
use fanwire::server::Stat;

use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::wire::{Answer, FIN, PING, TEXT, Wire, frame, request};
use crate::witness::Witness;

/// The most memory that an attack here may add to the process.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

/// The request with the additional header `lines`.
fn request_with(lines: &str) -> String {
    request("/room").replacen("\r\n", &format!("\r\n{lines}\r\n"), 1)
}

/// The request with `from` replaced by `to`.
fn altered(from: &str, to: &str) -> String {
    let request = request("/room");
    assert!(request.contains(from), "{from:?}");
    request.replacen(from, to, 1)
}

/// The answer to a refused request, which must be the only one, before an orderly end, whatever follows the request.
fn refusal(world: &World, request: impl AsRef<[u8]>) -> Answer {
    let mut client = world.dial();
    // The refusal may come before the last byte is sent, but no reset may.
    client.send(request);
    let answer = client.answer();
    let connection = answer.header("connection").unwrap();
    assert!(connection.starts_with("close"), "{connection}");
    client.expect_end();
    answer
}

/// Runs `attack` on a relay while the pair watches. The attack must leave no member behind.
fn under_attack(config: &Config, attack: impl FnOnce(&World)) {
    let world = World::with(config);
    let witness = Witness::of(&world);
    attack(&world);
    witness.await_rounds(1);
    witness.dismiss();
    let stats = world.end();
    assert_eq!(
        stats.value(Stat::Connections),
        2,
        "the pair and nobody else"
    );
}

// Time

#[test]
fn thousands_of_silent_connections_time_out_and_free_their_memory() {
    const SILENT: usize = 2000;
    let program = Program::with_server(", handshake_timeout: 5s", "");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let silent: Vec<_> = (0..SILENT).map(|_| program.dial()).collect();
    witness.while_silent(|| program.await_rest_beside(&before, SILENT));
    for mut silent in silent {
        assert_eq!(silent.answer().status, 408);
        silent.expect_end();
    }
    program.await_metric(
        r#"fanwire_failed_handshakes_total{reason="timeout"}"#,
        SILENT as u64,
    );
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn a_byte_now_and_then_keeps_no_connection_beyond_the_deadline() {
    const SLOW: u64 = 50;
    let mut config = config(2);
    config.server.handshake_timeout = Duration::from_millis(500);
    under_attack(&config, |world| {
        let mut slow: Vec<_> = (0..SLOW).map(|_| world.dial()).collect();
        for slow in &slow {
            slow.send("GET /room HTTP/1.1\r\nX: ");
        }
        eventually("each was timed out", || {
            for slow in &slow {
                // A write after the connection has ended fails. A write before the end changes nothing.
                let _ = slow.try_send("x");
            }
            world.total(Stat::HandshakeTimeout) == SLOW
        });
        for slow in &mut slow {
            slow.expect_cut();
        }
    });
}

// Size

#[test]
fn endless_heads_are_refused_and_cost_no_memory() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let megabyte = "x".repeat(1 << 20);
    for (head, status) in [
        (format!("GET /room HTTP/1.1\r\nX: {megabyte}"), 431),
        (format!("GET /room HTTP/1.1\r\n{megabyte}: x"), 431),
        (request_with(&"X: y\r\n".repeat(5000)), 431),
        (request_with(&"X: y\r\n".repeat(120)), 431),
        (request(&format!("/{megabyte}")), 414),
        ("\r\n".repeat(1 << 19), 414),
        (megabyte.clone(), 414),
    ] {
        for _ in 0..10 {
            let mut client = program.dial();
            client.send(&head);
            assert_eq!(client.answer().status, status, "{}", &head[..100]);
            client.expect_end();
        }
    }
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn the_refusal_of_an_endless_head_arrives_while_the_client_keeps_sending() {
    under_attack(&config(2), |world| {
        for (front, more, status) in [
            ("GET /room HTTP/1.1\r\n", "X: y\r\n", 431),
            ("GET /room HTTP/1.1\r\nX:", " y", 431),
            ("GET /", "x", 414),
            ("", "\r\n", 414),
        ] {
            let mut client = world.dial();
            client.send(front);
            let more = more.repeat(1000).into_bytes();
            let sender = client.send_beside(std::iter::repeat(more));
            assert_eq!(client.answer().status, status, "{front:?}");
            client.expect_end();
            drop(client);
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_thousand_heads_that_stop_just_below_the_limit_hold_no_more_than_they_sent() {
    const HEADS: usize = 1000;
    const HEAD_BYTES: usize = 8000;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let head = format!("GET /room HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES));
    let heads: Vec<_> = (0..HEADS)
        .map(|_| {
            let client = program.dial();
            // In two pieces, because a complete head is not buffered.
            client.send(&head[..100]);
            client.send(&head[100..]);
            client
        })
        .collect();
    let held_bytes = || program.metric("fanwire_partial_message_bytes");
    eventually("they are held", || {
        held_bytes() >= (HEADS * HEAD_BYTES) as f64
    });
    assert!(
        held_bytes() <= (HEADS * 3 * HEAD_BYTES) as f64,
        "{}",
        held_bytes()
    );
    witness.while_silent(|| program.await_rest_beside(&before, HEADS));
    drop(heads);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

// Meaning

#[test]
fn requests_without_a_valid_upgrade_are_told_what_to_send() {
    under_attack(&config(2), |world| {
        for version in ["", "0", "8", "12", "14", "013", "13, 8", "\u{661}3"] {
            let answer = refusal(
                world,
                altered("Version: 13", &format!("Version: {version}")),
            );
            assert_eq!(answer.status, 426, "{version:?}");
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
        for (from, to) in [
            ("Connection: Upgrade\r\n", ""),
            ("Connection: Upgrade", "Connection: close"),
            ("Upgrade: websocket\r\n", ""),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("HTTP/1.1", "HTTP/1.0"),
        ] {
            let answer = refusal(world, altered(from, to));
            assert_eq!(answer.status, 426, "{to:?}");
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
        for method in ["PUT", "DELETE", "PATCH", "CONNECT", "get", "post", "BREW"] {
            let answer = refusal(world, altered("GET", method));
            assert_eq!(answer.status, 405, "{method}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
        }
    });
}

#[test]
fn requests_that_break_a_rule_are_bad_requests() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    under_attack(&config(2), |world| {
        for (from, to) in [
            // The key: none, several, not 16 bytes, not base64.
            (key, "X-Key: dGhlIHNhbXBsZSBub25jZQ=="),
            (key, &*format!("{key}\r\n{key}")),
            (key, "Sec-WebSocket-Key: "),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBub25jZQ=="),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBs!SBub25jZQ=="),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
            // The host: none, several, not one.
            ("Host: localhost\r\n", ""),
            ("Host: localhost", "Host: localhost\r\nHost: elsewhere"),
            ("Host: localhost", "Host: "),
            ("Host: localhost", "Host: a b"),
            ("Host: localhost", "Host: a/b"),
            ("Host: localhost", "Host: user@a"),
            ("Host: localhost", "Host: a:99999"),
            ("Host: localhost", "Host: [::1"),
            ("Host: localhost", "Host: é.org"),
            // Targets whose host is none.
            ("/room", "http:///room"),
            ("/room", "http://user@localhost/room"),
            ("/room", "localhost:443"),
            // Heads that two parsers could read differently.
            ("Host:", "Host :"),
            ("Host: ", "Host\0: "),
            ("Host: localhost", "Host: local\0host"),
            ("Host: localhost", "Host localhost"),
            ("Host:", ": empty\r\nHost:"),
            ("Host:", "X: a\rHost:"),
            ("Host:", "X: a\nHost:"),
            ("Host:", "X: a\r\n folded\r\nHost:"),
            ("Host:", " Host:"),
            ("GET ", "GET  "),
            ("GET ", "G\0ET "),
            ("/room", "room"),
            ("/room", "/ro om"),
            ("/room", "/room#part"),
            ("/room", "/%f"),
            ("/room", "/%ff"),
            ("/room", "*"),
            ("HTTP/1.1", "HTTP/1.x"),
            ("HTTP/1.1", "HTTP/11"),
            ("HTTP/1.1", "HTTQ/1.1"),
            ("HTTP/1.1", "WEBSOCKET"),
            (" HTTP/1.1", ""),
        ] {
            let answer = refusal(world, altered(from, to));
            assert_eq!(answer.status, 400, "{to:?}");
        }
        for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9"] {
            let answer = refusal(world, altered("HTTP/1.1", version));
            assert_eq!(answer.status, 505, "{version}");
        }
    });
}

#[test]
fn a_second_request_after_a_body_is_never_answered() {
    let smuggled = request("/smuggled");
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let length = smuggled.len();
    under_attack(&config(2), |world| {
        for (lines, body) in [
            (format!("Content-Length: {length}"), &smuggled),
            ("Content-Length: 5".into(), &smuggled),
            (
                format!("Content-Length: 0\r\nContent-Length: {length}"),
                &smuggled,
            ),
            ("Content-Length: 0, 9".into(), &smuggled),
            ("Content-Length: -1".into(), &smuggled),
            ("Content-Length: ".into(), &smuggled),
            ("Transfer-Encoding: chunked".into(), &chunked),
            ("Transfer-Encoding: identity".into(), &smuggled),
            ("Transfer-Encoding: xchunked".into(), &chunked),
            (
                format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
                &chunked,
            ),
        ] {
            let answer = refusal(world, request_with(&lines) + body);
            assert_eq!(answer.status, 400, "{lines:?}");
        }
        let put =
            format!("PUT /room HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(refusal(world, put + &smuggled).status, 405);
        // A second request is also unwelcome without a body, because a refusal ends the connection.
        let plain = "GET /room HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(refusal(world, plain.to_owned() + &smuggled).status, 426);
    });
}

#[test]
fn odd_but_valid_requests_are_granted_without_extras() {
    let world = World::start();
    for request in [
        altered(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: Upgrade",
        ),
        altered("Connection: Upgrade", "CONNECTION:keep-alive,\t  uPGRADE  "),
        altered("Upgrade: websocket", "upgrade: foo/2, WEBSOCKET"),
        request_with("Content-Length: 0"),
        altered("GET", "\r\n\r\nGET"),
        altered("/room", "http://localhost/room"),
        altered("/room", "ws://localhost"),
        altered("/room", "http://localhost?query"),
        altered("Host: localhost", "Host: [::1]:8443"),
        request_with(
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover, x-unknown",
        ),
        request_with("Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Protocol: more"),
    ] {
        let mut client = world.dial();
        client.send(&request);
        let answer = client.answer();
        assert_eq!(answer.status, 101, "{request}");
        for promise in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            assert_eq!(answer.header(promise), None, "{request}");
        }
        client.send(frame(FIN | TEXT, b"here"));
        assert_eq!(client.hear(), "here");
        client.reset();
    }
    world.end();
}

// Bytes in the packet of the upgrade

#[test]
fn a_violation_in_the_packet_of_the_upgrade_is_answered_after_the_101() {
    for workers in [1, 4] {
        let world = World::with(&config(workers));
        for n in 0..workers {
            let mut client = world.dial();
            let frames = [&frame(FIN | PING, b"answered")[..], b"\x81\x02hi"].concat();
            client.send([request(&format!("/room/{n}")).as_bytes(), &frames].concat());
            assert_eq!(client.answer().status, 101);
            assert_eq!(client.next().payload, b"answered");
            assert_eq!(client.close().0, 1002);
            client.expect_end();
        }
        let stats = world.end();
        assert_eq!(stats.value(Stat::DisconnectedProtocol), workers as u64);
    }
}

#[test]
fn megabytes_after_the_request_are_all_served_in_order() {
    const MESSAGES: usize = 3000;
    let world = World::with(&config(4));
    let mut clients: Vec<Wire> = (0..4).map(|_| world.dial()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let text = |i: usize| format!("{i:0>1000}");
        let frames: Vec<u8> = (0..MESSAGES)
            .flat_map(|i| frame(FIN | TEXT, text(i).as_bytes()))
            .collect();
        let bytes = [request(&format!("/{n}")).as_bytes(), &frames].concat();
        let sender = client.send_beside(std::iter::once(bytes));
        assert_eq!(client.answer().status, 101);
        for i in 0..MESSAGES {
            assert_eq!(client.hear(), text(i));
        }
        sender.join().unwrap();
    }
    drop(clients);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Delivered), 4 * MESSAGES as u64);
}

// Other protocols

/// The start of a TLS 1.3 `ClientHello`, as browsers send it to `https://`.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x9a\x1f\x77\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\
\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x20\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\
\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x00\x06\x13\x01\x13\x02\x13\x03";

#[test]
fn other_protocols_are_refused_and_not_logged() {
    const EACH: usize = 200;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    // Xorshift: the same noise in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for _ in 0..EACH {
        let noise: Vec<u8> = (0..64).flat_map(|_| noise()).collect();
        for bytes in [CLIENT_HELLO, &noise, &[0; 512], &[0xff; 9000]] {
            let mut client = program.dial();
            client.send(bytes);
            let status = client.answer().status;
            assert!(matches!(status, 400 | 414), "{status} for {bytes:?}");
            client.expect_end();
        }
    }
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    let log = program.end_well();
    assert!(log.lines().count() < 10, "{log}");
}
