//! Hostile clients that post: slow and endless bodies, bodies that two parsers read differently, and what lies behind an upgrade.

use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy};
use fanwire::server::Stat;

use crate::support::{World, config, eventually};
use crate::wire::{FIN, TEXT, Wire, frame, request};
use crate::witness::Witness;

/// Runs an attack beside two clients that exchange messages. Returns how many messages were published by POST.
fn under_attack(config: &Config, attack: impl FnOnce(&World)) -> u64 {
    let world = World::with(config);
    let witness = Witness::of(&world);
    attack(&world);
    witness.dismiss();
    world.end().value(Stat::PostedMessages)
}

fn head(fields: &str) -> String {
    format!("POST /room HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// The status of the only answer. The connection must then end.
fn only_status(world: &World, bytes: impl AsRef<[u8]>) -> u16 {
    let mut wire = world.dial();
    // The relay may refuse the first part, and close.
    let _sent = wire.try_send(bytes);
    let answer = wire.answer();
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    wire.expect_end();
    answer.status
}

#[test]
fn a_body_that_two_parsers_could_end_elsewhere_is_refused_with_all_behind_it() {
    let smuggled = "POST /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let len = smuggled.len();
    let posted = under_attack(&config(2), |world| {
        for fields in [
            format!("Content-Length: 0\r\nContent-Length: {len}\r\n"),
            format!("Content-Length: {len}\r\nContent-Length: {len}\r\n"),
            format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n"),
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".into(),
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(),
            "Transfer-Encoding: chunked, identity\r\n".into(),
            "Transfer-Encoding: xchunked\r\n".into(),
            "Transfer-Encoding: \x0bchunked\r\n".into(),
            "Content-Length: +1\r\n".into(),
            "Content-Length: 1_0\r\n".into(),
            "Content-Length: 0x10\r\n".into(),
            "Content-Length: 1,1\r\n".into(),
            "Content-Length: 18446744073709551617\r\n".into(),
        ] {
            let bytes = head(&fields) + "0\r\n\r\n" + smuggled;
            assert_eq!(only_status(world, bytes), 400, "{fields:?}");
        }
        let gzip = head("Transfer-Encoding: gzip, chunked\r\n") + smuggled;
        assert_eq!(only_status(world, gzip), 501);
        let chunked = "Transfer-Encoding: chunked\r\n";
        for chunks in [
            "1\nx\n0\n\n",
            "1\r\nxx\r\n0\r\n\r\n",
            "1 \r\nx\r\n0\r\n\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "0x1\r\nx\r\n0\r\n\r\n",
            "1;\n\r\nx\r\n0\r\n\r\n",
            "00000000000000001\r\nx\r\n0\r\n\r\n",
            "-1\r\nx\r\n0\r\n\r\n",
            "\r\n1\r\nx\r\n0\r\n\r\n",
            "1\r\nx\r\n0\r\n\n",
        ] {
            let bytes = head(chunked) + chunks + smuggled;
            assert_eq!(only_status(world, bytes), 400, "{chunks:?}");
        }
        let huge = head(chunked) + "ffffffffffffffff\r\n" + smuggled;
        assert_eq!(only_status(world, huge), 413);
        let huge = head("Content-Length: 9223372036854775807\r\n") + smuggled;
        assert_eq!(only_status(world, huge), 413);
    });
    assert_eq!(posted, 0, "something was smuggled");
}

#[test]
fn a_request_in_a_body_is_a_body_and_the_one_behind_it_a_request() {
    let inner = "POST /inner HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let world = World::start();
    let mut member = world.connect("/room");
    let mut wire = world.dial();
    let length = format!("Content-Length: {}\r\n", inner.len());
    let chunks = format!(
        "{:x};ext=\"1\"\r\n{inner}\r\n000\r\nTrailer: x\r\n\r\n",
        inner.len()
    );
    wire.send(head(&length) + inner + &head("Transfer-Encoding: chunked\r\n") + &chunks);
    assert_eq!((wire.answer().status, wire.answer().status), (202, 202));
    assert_eq!((member.hear(), member.hear()), (inner.into(), inner.into()));
    drop((wire, member));
    assert_eq!(world.end().value(Stat::PostedMessages), 2);
}

#[test]
fn what_lies_behind_an_upgrade_is_never_a_request() {
    let posted = under_attack(&config(2), |world| {
        let mut wire = world.dial();
        let upgrade = request("/room").into_bytes();
        let post = head("Content-Length: 1\r\n") + "x";
        let bytes = [upgrade, frame(FIN | TEXT, b"a frame"), post.into_bytes()];
        wire.send(bytes.concat());
        assert_eq!(wire.answer().status, 101);
        assert_eq!(wire.next().payload, b"a frame");
        let close = wire.next();
        assert_eq!(close.payload[..2], 1002u16.to_be_bytes());
        wire.expect_end();
    });
    assert_eq!(posted, 0);
}

#[test]
fn slow_heads_and_bodies_are_cut_however_steadily_they_come() {
    let mut config = config(2);
    config.server.handshake_timeout = Duration::from_millis(800);
    let posted = under_attack(&config, |world| {
        for begin in [
            head("Content-Length: 1000\r\n"),
            head("Transfer-Encoding: chunked\r\n"),
            // The next request has a time of its own.
            head("Content-Length: 0\r\n") + &head("Content-Length: 1000\r\n"),
        ] {
            let mut wire = world.dial();
            wire.send(&begin);
            let drip: Vec<Vec<u8>> = (0..2000).map(|_| b"1".to_vec()).collect();
            let drip = drip.into_iter().inspect(|_| {
                // The pace of the attack.
                std::thread::sleep(Duration::from_millis(20));
            });
            let sender = wire.send_beside(drip);
            let mut status = wire.answer().status;
            if status == 202 {
                status = wire.answer().status;
            }
            assert!(matches!(status, 408 | 400), "{begin:?}: {status}");
            wire.expect_end();
            sender.join().unwrap();
        }
    });
    assert_eq!(posted, 1);
}

#[test]
fn endless_chunks_extensions_and_trailers_end_at_their_limits() {
    let begin = head("Transfer-Encoding: chunked\r\n");
    let posted = under_attack(&config(2), |world| {
        for (chunk, status) in [
            ("1\r\nx\r\n".repeat(1000), 413),
            (format!("1;{}\r\nx\r\n", "e".repeat(100)), 400),
            (format!("1;{}\r\nx\r\n", "e".repeat(5000)), 400),
            ("00000".into(), 400),
            ("ffff\r\n".to_owned() + &"x".repeat(0xffff) + "\r\n", 413),
        ] {
            let mut wire = world.dial();
            wire.send(&begin);
            let chunk = chunk.into_bytes();
            let sender = wire.send_beside(std::iter::repeat_n(chunk, 3000));
            assert_eq!(wire.answer().status, status);
            drop(wire);
            sender.join().unwrap();
        }
        let trailers = begin.clone() + "0\r\n" + &"A: b\r\n".repeat(2000);
        assert_eq!(only_status(world, trailers), 400);
    });
    assert_eq!(posted, 0);
}

#[test]
fn two_hundred_bodies_that_claim_a_mebibyte_cost_what_they_send() {
    let posted = under_attack(&config(2), |world| {
        let wires: Vec<Wire> = (0..200)
            .map(|_| {
                let wire = world.dial();
                wire.send(head("Content-Length: 1048576\r\n") + &"x".repeat(1024));
                wire
            })
            .collect();
        eventually("all are there", || {
            world.total(Stat::PartialBytes) >= 200 << 10
        });
        let held = world.total(Stat::PartialBytes);
        assert!(held < 1 << 20, "{held} bytes");
        drop(wires);
        eventually("all are gone", || world.total(Stat::PartialBytes) == 0);
    });
    assert_eq!(posted, 0);
}

#[test]
fn a_topic_that_waits_for_a_stalled_reader_keeps_posts_waiting_and_then_refuses_them() {
    let mut config = config(1);
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    config.slow_consumer.stall_timeout = Duration::from_mins(1);
    config.limits.max_message_bytes = 64 << 10;
    config.slow_consumer.max_lag_bytes = 128 << 10;
    let world = World::with(&config);
    let stuck = world.join_narrowly("/room");
    let mut poster = world.dial();
    let big = head("Content-Length: 65536\r\n") + &"x".repeat(65536);
    let mut taken = 0;
    let refused = loop {
        poster.send(&big);
        let answer = poster.answer();
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 1000, "nothing ever waits");
    };
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert!(
        refused.body.contains("does not publish"),
        "{}",
        refused.body
    );
    assert_eq!(world.total(Stat::PostedMessages), taken);
    // Others are served, on the same connection.
    poster.send(head("Content-Length: 1\r\n").replace("/room", "/other") + "x");
    assert_eq!(poster.answer().status, 202);
    drop((stuck, poster));
    world.end();
}

#[test]
fn a_thousand_clients_that_leave_in_the_middle_of_everything_leave_nothing() {
    let posted = under_attack(&config(4), |world| {
        let whole = head("Content-Length: 5\r\n") + "hello";
        for n in 0..1000 {
            let wire = world.dial();
            wire.send(&whole[..n % whole.len()]);
            if n % 3 == 0 {
                crate::support::reset(wire.stream());
            }
        }
        eventually("nothing is held", || world.total(Stat::PartialBytes) == 0);
    });
    assert_eq!(posted, 0);
}
