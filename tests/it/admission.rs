//! The limit on connections from one address: it is exact, and every connection that ends gives its seat back.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use fanwire::config::Config;
use fanwire::server::Stat;

use crate::support::{World, config, eventually};
use crate::tls_support::{TlsWorld, expect_cut};
use crate::wire::{CLOSE, FIN, PING, Wire, frame, request};

fn limited(limit: usize) -> Config {
    let mut config = config(2);
    config.server.max_connections_per_ip = limit;
    config
}

/// A loopback address of its own for each number. 127.0.0.1 is the first.
fn address(number: u8) -> [u8; 4] {
    [127, 0, 0, number]
}

/// Joins as soon as the address has a seat.
fn join_when_free(world: &World, address: [u8; 4]) -> Wire {
    let mut joined = None;
    eventually("a seat is given back", || {
        let mut client = world.dial_from(address);
        let sent = client.try_send(request("/room"));
        let status = sent.ok().and(client.try_answer());
        if status == Some(101) {
            joined = Some(client);
        }
        joined.is_some()
    });
    joined.unwrap()
}

/// Asserts that the relay refuses the connection because its address has too many, and closes it in order.
fn expect_refusal(mut client: Wire) {
    let answer = client.answer();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(answer.body.lines().count(), 1, "{}", answer.body);
    client.expect_end();
}

#[test]
fn one_connection_too_many_from_an_address_is_refused_and_others_are_served() {
    let world = World::with(&limited(2));
    let first = world.connect("/room");
    let second = world.connect("/room");
    expect_refusal(world.dial());
    let mut neighbour = world.dial_from(address(2));
    neighbour.upgrade("/room");
    world.await_total(Stat::ConnectedClients, 3);
    drop((first, second, neighbour));
    let stats = world.end();
    assert_eq!(stats.value(Stat::HandshakePerIp), 1);
    assert_eq!(stats.value(Stat::Connections), 3);
}

#[test]
fn a_connection_takes_a_seat_before_its_upgrade() {
    let world = World::with(&limited(1));
    let mut silent = world.dial();
    expect_refusal(world.dial());
    silent.upgrade("/room");
    drop(silent);
    world.end();
}

#[test]
fn every_way_of_leaving_gives_back_exactly_one_seat() {
    let ways: [fn(Wire); 7] = [
        // It closes in order.
        |mut client| {
            client.upgrade("/room");
            client.send(frame(FIN | CLOSE, &[]));
            assert_eq!(client.next().first, FIN | CLOSE);
        },
        // It ends without a Close, by a reset or a FIN.
        |mut client| {
            client.upgrade("/room");
            client.reset();
        },
        |mut client| {
            client.upgrade("/room");
            client.stream().shutdown(Shutdown::Write).unwrap();
            client.expect_cut();
        },
        // It is disconnected for an unmasked frame.
        |mut client| {
            client.upgrade("/room");
            client.send([FIN | PING, 0]);
            assert_eq!(client.close().0, 1002);
        },
        // It ends before the upgrade, by a reset, a FIN or a refusal.
        |client| {
            client.send("GET /room");
            client.reset();
        },
        |mut client| {
            client.stream().shutdown(Shutdown::Write).unwrap();
            client.expect_cut();
        },
        |mut client| {
            client.send("nonsense\r\n\r\n");
            assert_eq!(client.answer().status, 400);
        },
    ];
    let world = World::with(&limited(1));
    for (way, address) in ways.into_iter().zip((1..).map(address)) {
        way(world.dial_from(address));
        let next = join_when_free(&world, address);
        expect_refusal(world.dial_from(address));
        next.reset();
    }
    world.end();
}

#[test]
fn a_connection_that_is_timed_out_gives_its_seat_back() {
    let mut config = limited(1);
    config.server.handshake_timeout = Duration::from_millis(200);
    let world = World::with(&config);
    let mut silent = world.dial();
    assert_eq!(silent.answer().status, 408);
    drop(silent);
    let next = join_when_free(&world, address(1));
    expect_refusal(world.dial());
    next.reset();
    world.end();
}

#[test]
fn the_limit_is_still_exact_after_a_crowd() {
    const LIMIT: usize = 3;
    let world = World::with(&limited(LIMIT));
    // Both addresses open more connections than they have seats, so many are refused.
    thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for n in 0..50 {
                    let mut client = world.dial_from(address(1 + thread % 2));
                    // A refused connection may be cut while it still sends.
                    let is_sent = client.try_send(request("/room")).is_ok();
                    if n % 3 > 0 && is_sent {
                        client.try_answer();
                    }
                    if n % 2 == 0 {
                        client.reset();
                    }
                }
            });
        }
    });
    for address in [address(1), address(2)] {
        let seated: Vec<Wire> = (0..LIMIT)
            .map(|_| join_when_free(&world, address))
            .collect();
        expect_refusal(world.dial_from(address));
        drop(seated);
    }
    world.end();
}

#[test]
fn over_tls_one_connection_too_many_is_cut_and_counted() {
    let tls = TlsWorld::with(limited(1));
    let client = tls.connect("/room");
    expect_cut(tls.dial());
    client.leave();
    let stats = tls.world.end();
    assert_eq!(stats.value(Stat::HandshakePerIp), 1);
    assert_eq!(stats.value(Stat::HandshakeLost), 0);
}

#[test]
fn many_refusals_at_once_are_all_counted_and_delay_nobody() {
    const CROWD: u64 = 100;
    let world = World::with(&limited(1));
    let first = world.connect("/room");
    // None of them reads its answer or closes.
    let crowd: Vec<Wire> = (0..CROWD).map(|_| world.dial()).collect();
    world.await_total(Stat::HandshakePerIp, CROWD);
    let mut neighbour = world.dial_from(address(2));
    neighbour.upgrade("/room");
    drop((crowd, first, neighbour));
    assert_eq!(world.end().value(Stat::HandshakePerIp), CROWD);
}
