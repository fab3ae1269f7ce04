//! The shutdown: all clients get their pending messages and Close 1001, and nobody is waited for longer than
//! configured.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fanwire::server::Stat;
use socket2::{Domain, Socket, Type};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::health::probe;
use crate::support::{Client, World, audit, config, eventually};
use crate::wire::{FIN, TEXT, Wire, frame};

/// A free port, and what keeps it from other tests: the system gives a port with a bound socket to nobody who asks for any
/// port. A relay can still listen on it, because neither socket forbids the other and this one never listens.
pub(crate) fn reserved_port() -> (u16, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    (bound.port(), socket)
}

/// The messages of a client until its Close, which must be 1001 and end the connection.
fn read_until_1001(client: &mut Client) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        match client.next() {
            Message::Text(text) => heard.push(text.to_string()),
            Message::Close(Some(frame)) => {
                assert_eq!(frame.code, CloseCode::Away);
                client.expect_end();
                return heard;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_client_is_closed_with_1001() {
    let world = World::with(&config(3));
    let mut clients = world.connect_many("/room", 10);
    clients.extend(world.connect_many("/other", 10));
    world.relay.shutdown();
    for client in &mut clients {
        assert!(read_until_1001(client).is_empty());
    }
    let stats = world.join_ended();
    assert_eq!(stats.value(Stat::DisconnectedShutdown), 20);
}

#[test]
fn a_relay_without_clients_ends_at_once() {
    let mut config = config(4);
    config.shutdown.timeout = Duration::from_mins(10);
    let world = World::with(&config);
    world.relay.shutdown();
    world.join_ended();
}

#[test]
fn messages_in_flight_between_shards_reach_everybody_before_the_close() {
    const PUBLISHERS: usize = 4;
    let world = World::with(&config(4));
    let publishers: Vec<_> = (0..PUBLISHERS).map(|_| world.join("/room")).collect();
    let mut listeners = world.connect_many("/room", 8);
    let publishers: Vec<_> = publishers
        .into_iter()
        .enumerate()
        .map(|(id, mut publisher)| {
            let sender = publisher.writer();
            let sender = thread::spawn(move || send_until_cut(&Wire::over(sender), id));
            let reader = thread::spawn(move || {
                let mut heard = Vec::new();
                loop {
                    let frame = publisher.next();
                    if frame.first != FIN | TEXT {
                        assert_eq!(frame.payload[..2], 1001u16.to_be_bytes());
                        // This also ends the sender.
                        publisher.stream().shutdown(Shutdown::Both).unwrap();
                        return heard;
                    }
                    heard.push(String::from_utf8(frame.payload).unwrap());
                }
            });
            (sender, reader)
        })
        .collect();
    let listening: Vec<_> = listeners
        .drain(..)
        .map(|mut listener| thread::spawn(move || read_until_1001(&mut listener)))
        .collect();
    eventually("messages are on their way", || {
        world.total(Stat::Messages) >= 500
    });
    world.relay.shutdown();
    let heard: Vec<_> = listening
        .into_iter()
        .map(|listener| listener.join().unwrap())
        .collect();
    for (sender, reader) in publishers {
        assert!(reader.join().unwrap() == heard[0]);
        sender.join().unwrap();
    }
    assert!(heard.iter().all(|other| *other == heard[0]));
    let stats = world.join_ended();
    assert_eq!(
        stats.value(Stat::Messages),
        heard[0].len() as u64,
        "what was accepted was delivered"
    );
    assert_eq!(stats.value(Stat::Delivered), stats.value(Stat::Offered));
}

/// Sends until the connection ends.
fn send_until_cut(wire: &Wire, id: usize) {
    let mut n = 0;
    while wire
        .try_send(frame(FIN | TEXT, format!("{id} {n}").as_bytes()))
        .is_ok()
    {
        n += 1;
    }
}

#[test]
fn a_backlog_is_delivered_before_the_close() {
    let mut config = config(2);
    config.slow_consumer.max_lag_bytes = 64 << 20;
    let world = World::with(&config);
    let mut publisher = world.connect("/room");
    let mut laggard = world.join_narrowly("/room");
    let text = "x".repeat(60_000);
    let mut sent = 0;
    while world.total(Stat::LogBytes) < 1 << 20 {
        publisher.say(&text);
        assert_eq!(publisher.hear().len(), text.len());
        sent += 1;
    }
    world.relay.shutdown();
    assert!(
        read_until_1001(&mut publisher).is_empty(),
        "nobody waits for the laggard"
    );
    for _ in 0..sent {
        assert_eq!(laggard.hear().len(), text.len());
    }
    assert_eq!(laggard.close().0, 1001);
    laggard.reset();
    let stats = world.join_ended();
    assert_eq!(stats.value(Stat::Delivered), 2 * sent);
}

#[test]
fn a_client_that_never_answers_is_cut_at_the_timeout() {
    let mut config = config(2);
    config.shutdown.timeout = Duration::from_millis(300);
    let world = World::with(&config);
    let mut silent = world.join("/room");
    let mut polite = world.connect("/room");
    world.relay.shutdown();
    assert!(read_until_1001(&mut polite).is_empty());
    let (code, reason) = silent.close();
    assert_eq!(code, 1001);
    let pause = reason.strip_prefix("going away; retry ").unwrap();
    assert!((1_000..5_000).contains(&pause.parse::<u32>().unwrap()));
    // The client does not answer, and the relay still ends.
    let stats = world.relay.join().unwrap();
    audit(&stats);
    assert_eq!(stats.value(Stat::DisconnectedShutdown), 2);
    silent.expect_cut();
}

#[test]
fn a_client_that_never_reads_is_cut_at_the_timeout_and_its_backlog_is_discarded() {
    let mut config = config(2);
    config.slow_consumer.max_lag_bytes = 64 << 20;
    config.shutdown.timeout = Duration::from_millis(300);
    let world = World::with(&config);
    let mut publisher = world.connect("/room");
    let stuck = world.join_narrowly("/room");
    let text = "x".repeat(60_000);
    while world.total(Stat::LogBytes) < 1 << 20 {
        publisher.say(&text);
        publisher.hear();
    }
    world.relay.shutdown();
    assert!(read_until_1001(&mut publisher).is_empty());
    let stats = world.relay.join().unwrap();
    audit(&stats);
    assert!(stats.value(Stat::Discarded) >= (1 << 20) / 60_000);
    drop(stuck);
}

#[test]
fn a_connection_without_an_upgrade_is_answered_503() {
    let world = World::start();
    let mut half = world.dial();
    half.send("GET /room HTTP/1.1\r\n");
    world.await_total(Stat::BytesIn, 20);
    world.relay.shutdown();
    assert_eq!(half.answer().status, 503);
    half.expect_end();
    drop(half);
    let stats = world.join_ended();
    assert_eq!(stats.value(Stat::HandshakeShutdown), 1);
}

#[test]
fn a_second_shutdown_waits_for_nobody() {
    let mut config = config(2);
    config.shutdown.timeout = Duration::from_mins(10);
    let world = World::with(&config);
    let mut silent = world.join("/room");
    world.relay.shutdown();
    assert_eq!(silent.close().0, 1001);
    world.relay.shutdown();
    audit(&world.relay.join().unwrap());
    silent.expect_cut();
}

#[test]
fn during_the_drain_no_connection_is_accepted_and_the_relay_is_not_ready() {
    let (port, _reserved) = reserved_port();
    let mut config = config(2);
    config.server.port = port;
    config.shutdown.timeout = Duration::from_mins(10);
    let world = World::with(&config);
    let metrics = world.relay.metrics_address().unwrap();
    let ready = |expected: u16| {
        let mut probe = Wire::over(TcpStream::connect(metrics).unwrap());
        probe.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(probe.answer().status, expected);
    };
    ready(200);
    let mut silent = world.join("/room");
    world.relay.shutdown();
    assert_eq!(silent.close().0, 1001);

    let refused = TcpStream::connect(world.relay.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    ready(503);
    silent.reset();
    world.join_ended();
}

#[test]
fn during_the_delay_the_relay_is_not_ready_but_goes_on_and_then_it_drains() {
    let mut config = config(2);
    config.shutdown.delay = Duration::from_secs(2);
    config.shutdown.timeout = Duration::from_mins(10);
    let world = World::with(&config);
    let metrics = world.relay.metrics_address().unwrap();
    let mut early = world.connect("/room");
    world.relay.shutdown();
    eventually("the relay is not ready", || {
        probe(metrics, "/readyz") == (503, "draining\n".into())
    });
    assert_eq!(probe(metrics, "/livez").0, 200);
    let mut late = world.connect("/room");
    late.say("hello");
    assert_eq!(
        (early.hear(), late.hear()),
        ("hello".into(), "hello".into())
    );
    assert!(read_until_1001(&mut early).is_empty());
    assert!(read_until_1001(&mut late).is_empty());
    world.join_ended();
}

#[test]
fn a_second_shutdown_does_not_wait_for_the_delay_either() {
    let mut config = config(2);
    config.shutdown.delay = Duration::from_mins(10);
    let world = World::with(&config);
    let mut client = world.join("/room");
    world.relay.shutdown();
    let metrics = world.relay.metrics_address().unwrap();
    eventually("the delay has begun", || probe(metrics, "/readyz").0 == 503);
    world.relay.shutdown();
    audit(&world.relay.join().unwrap());
    client.expect_cut();
}

#[test]
fn a_relay_starts_while_its_predecessor_drains_and_takes_over_the_metrics_port() {
    let [(port, _one), (metrics, _other)] = [reserved_port(), reserved_port()];
    let mut config = config(2);
    config.server.port = port;
    config.metrics.port = metrics;
    config.shutdown.timeout = Duration::from_mins(10);
    let old = World::with(&config);
    let mut silent = old.join("/room");
    old.relay.shutdown();
    assert_eq!(silent.close().0, 1001);

    let new = World::with(&config);
    assert_eq!(new.relay.metrics_address(), None);
    let mut client = new.connect("/room");
    client.say("hello");
    assert_eq!(client.hear(), "hello");
    // The old one ends, and gives up its metrics port.
    silent.reset();
    old.join_ended();
    eventually("the metrics port is served", || {
        new.relay.metrics_address().is_some()
    });
    let address = new.relay.metrics_address().unwrap();
    assert_eq!(address.port(), metrics);
    assert_eq!(probe(address, "/readyz"), (200, "ready\n".into()));
    drop(client);
    new.end();
}

#[test]
fn the_port_can_be_bound_again_at_once() {
    let (port, _reserved) = reserved_port();
    let mut config = config(2);
    config.server.port = port;
    let world = World::with(&config);
    let mut client = world.connect("/room");
    world.relay.shutdown();
    assert!(read_until_1001(&mut client).is_empty());
    world.join_ended();

    let world = World::with(&config);
    let mut client = world.connect("/room");
    client.say("again");
    assert_eq!(client.hear(), "again");
    drop(client);
    world.end();
}

#[test]
fn clients_are_closed_one_after_the_other_while_the_others_go_on() {
    const CLIENTS: usize = 3;
    let mut config = config(1);
    // The first is closed at once, and the second after three minutes.
    config.shutdown.spread = Duration::from_mins(9);
    config.shutdown.timeout = Duration::from_mins(10);
    let world = World::with(&config);
    let wires: Vec<Wire> = (0..CLIENTS).map(|_| world.join("/room")).collect();
    let writers: Vec<Wire> = wires.iter().map(|wire| Wire::over(wire.writer())).collect();
    let (tell, told) = mpsc::channel();
    let readers: Vec<_> = wires
        .into_iter()
        .enumerate()
        .map(|(id, mut wire)| {
            let tell = tell.clone();
            thread::spawn(move || {
                tell.send((id, wire.next())).unwrap();
                wire
            })
        })
        .collect();
    world.relay.shutdown();
    let (first, close) = told.recv().unwrap();
    assert_eq!(close.payload[..2], 1001u16.to_be_bytes());
    let refused = TcpStream::connect(world.relay.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    writers[(first + 1) % CLIENTS].send(frame(FIN | TEXT, b"still here"));
    for _ in 1..CLIENTS {
        let (other, text) = told.recv().unwrap();
        assert_ne!(other, first);
        assert_eq!(text.payload, b"still here");
    }
    // The second order cuts the others.
    world.relay.shutdown();
    let stats = world.relay.join().unwrap();
    audit(&stats);
    assert_eq!(stats.value(Stat::Delivered), CLIENTS as u64 - 1);
    for reader in readers {
        drop(reader.join().unwrap());
    }
}
