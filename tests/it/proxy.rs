//! Trusted proxies: the header before everything else, and the client address that it sets.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fanwire::config::{Config, ProxySource};
use fanwire::server::Stat;
use rustls::{ClientConnection, StreamOwned};

use crate::support::{PATIENCE, World, config, eventually};
use crate::tls_support::{NAME, TlsClient, TlsStream, TlsWorld, expect_cut};
use crate::wire::{FIN, TEXT, Wire, frame, request};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Trusts 127.0.0.1, from which tests connect, as a proxy.
fn behind_proxy() -> Config {
    let mut config = config(2);
    let network = "127.0.0.1/32".parse().unwrap();
    config.server.proxy_protocol.from = vec![ProxySource::Network(network)];
    config
}

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// The header of a connection from `client`.
fn header_of(client: &str) -> Vec<u8> {
    const PORTS: [u8; 4] = [0x30, 0x39, 0x01, 0xbb];
    match client.parse().unwrap() {
        IpAddr::V4(client) => {
            let rest = [&client.octets()[..], &[10, 0, 0, 1], &PORTS].concat();
            header(PROXY, TCP4, &rest)
        }
        IpAddr::V6(client) => {
            let rest = [&client.octets()[..], &[0xfe; 16], &PORTS].concat();
            header(PROXY, TCP6, &rest)
        }
    }
}

/// A connection that a proxy makes for `client`, and the status of its answer.
fn status_of(world: &World, client: &str) -> (u16, Wire) {
    let mut wire = world.dial();
    wire.send([&header_of(client), request("/room").as_bytes()].concat());
    let answer = wire.answer();
    (answer.status, wire)
}

/// Asserts that a proxy's connection that begins with `bytes` is cut without an answer and counted once.
fn assert_cut(bytes: &[u8]) {
    let world = World::with(&behind_proxy());
    let mut wire = world.dial();
    wire.send(bytes);
    assert_eq!(wire.try_answer(), None, "for {bytes:?}");
    drop(wire);
    world.await_total(Stat::HandshakeProxyHeader, 1);
    let stats = world.end();
    assert_eq!(stats.value(Stat::HandshakeProxyHeader), 1);
    for other in [Stat::HandshakeLost, Stat::HandshakeBadRequest] {
        assert_eq!(stats.value(other), 0, "{other:?} for {bytes:?}");
    }
}

#[test]
fn the_header_the_upgrade_and_a_message_in_one_packet_are_served() {
    for client in ["192.0.2.1", "2001:db8::1"] {
        let world = World::with(&behind_proxy());
        let mut wire = world.dial();
        let message = frame(FIN | TEXT, b"hello");
        wire.send([&header_of(client), request("/room").as_bytes(), &message].concat());
        assert_eq!(wire.answer().status, 101);
        assert_eq!(wire.hear(), "hello");
        drop(wire);
        assert_eq!(world.end().value(Stat::Messages), 1);
    }
}

#[test]
fn the_header_and_the_upgrade_byte_by_byte_are_served() {
    let world = World::with(&behind_proxy());
    let mut wire = world.dial();
    for byte in [&header_of("192.0.2.1"), request("/room").as_bytes()].concat() {
        wire.send([byte]);
    }
    assert_eq!(wire.answer().status, 101);
    drop(wire);
    world.end();
}

#[test]
fn a_long_header_is_skipped_to_its_end() {
    let world = World::with(&behind_proxy());
    let mut wire = world.dial();
    let mut rest = header_of("192.0.2.1").split_off(16);
    // An additional field without a meaning.
    rest.extend([4, 0x0f, 0]);
    rest.resize(rest.len() + 0xf00, b'G');
    wire.send([&header(PROXY, TCP4, &rest), request("/room").as_bytes()].concat());
    assert_eq!(wire.answer().status, 101);
    drop(wire);
    world.end();
}

#[test]
fn a_health_check_of_the_proxy_is_answered() {
    for header in [
        header(LOCAL, 0, &[]),
        header(LOCAL, TCP4, &[0; 12]),
        header(PROXY, 0, &[]),
    ] {
        let mut config = behind_proxy();
        config.server.max_connections_per_ip = 1;
        let world = World::with(&config);
        let checks: Vec<Wire> = (0..3)
            .map(|_| {
                let mut wire = world.dial();
                wire.send([&header[..], request("/room").as_bytes()].concat());
                assert_eq!(wire.answer().status, 101);
                wire
            })
            .collect();
        drop(checks);
        world.end();
    }
}

#[test]
fn a_health_check_that_only_connects_counts_as_lost() {
    let world = World::with(&behind_proxy());
    drop(world.dial());
    let wire = world.dial();
    wire.send(&header_of("192.0.2.1")[..20]);
    drop(wire);
    world.await_total(Stat::HandshakeLost, 2);
    assert_eq!(world.end().value(Stat::HandshakeProxyHeader), 0);
}

#[test]
fn a_proxy_without_a_header_is_cut() {
    assert_cut(request("/room").as_bytes());
    assert_cut(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
}

#[test]
fn a_header_of_version_1_names_the_client_as_well() {
    let mut config = behind_proxy();
    config.server.max_connections_per_ip = 1;
    let world = World::with(&config);
    let mut wires = Vec::new();
    for (line, status) in [
        ("TCP4 192.0.2.1 10.0.0.1 12345 443", 101),
        ("TCP4 192.0.2.1 10.0.0.1 12346 443", 429),
        ("TCP4 192.0.2.2 10.0.0.1 12345 443", 101),
        ("TCP6 2001:db8::1 2001:db8::2 12345 443", 101),
        ("UNKNOWN", 101),
        ("UNKNOWN", 101),
    ] {
        let mut wire = world.dial();
        let header = format!("PROXY {line}\r\n");
        let message = frame(FIN | TEXT, b"hello");
        wire.send([header.as_bytes(), request("/room").as_bytes(), &message].concat());
        assert_eq!(wire.answer().status, status, "for {line}");
        wires.push(wire);
    }
    // Version 2 counts the same clients.
    assert_eq!(status_of(&world, "192.0.2.1").0, 429);
    drop(wires);
    world.end();
}

#[test]
fn a_header_of_version_1_byte_by_byte_is_read_to_its_end_and_no_further() {
    let world = World::with(&behind_proxy());
    let mut wire = world.dial();
    let header = "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n";
    for byte in [header.as_bytes(), request("/room").as_bytes()].concat() {
        wire.send([byte]);
    }
    assert_eq!(wire.answer().status, 101);
    drop(wire);
    world.end();
}

#[test]
fn a_header_of_version_1_that_breaks_the_rules_is_refused() {
    let request = request("/room");
    for line in [
        "PROXY TCP4 192.0.2.1 10.0.0.1 12345\r\n",
        "PROXY TCP5 192.0.2.1 10.0.0.1 12345 443\r\n",
        "PROXY UNKNOWN\n",
    ] {
        assert_cut([line, &request].concat().as_bytes());
    }
    // Longer than 107 bytes.
    assert_cut(format!("PROXY UNKNOWN {:x<93}", "").as_bytes());
}

#[test]
fn a_header_that_breaks_the_rules_is_refused() {
    assert_cut(b"\r\n\r\n\0\r\nQUIX\n");
    // Version 3, an unknown address family, and too few bytes for an address.
    assert_cut(&header(0x31, TCP4, &[0; 12]));
    assert_cut(&header(PROXY, 0x41, &[0; 12]));
    assert_cut(&header(PROXY, TCP4, &[0; 11]));
    // A length over the limit is enough.
    assert_cut(&header(PROXY, 0, &[0; 5000])[..16]);
}

#[test]
fn a_header_from_an_untrusted_address_is_a_bad_request() {
    let world = World::with(&behind_proxy());
    let mut stranger = world.dial_from([127, 0, 0, 2]);
    stranger.send([&header_of("192.0.2.1"), request("/room").as_bytes()].concat());
    assert_eq!(stranger.answer().status, 400);
    drop(stranger);
    let mut polite = world.dial_from([127, 0, 0, 2]);
    polite.upgrade("/room");
    drop(polite);
    let stats = world.end();
    assert_eq!(stats.value(Stat::HandshakeBadRequest), 1);
    assert_eq!(stats.value(Stat::HandshakeProxyHeader), 0);
}

#[test]
fn a_slow_header_does_not_extend_the_deadline() {
    let mut config = behind_proxy();
    config.server.handshake_timeout = Duration::from_millis(200);
    let world = World::with(&config);
    let mut wire = world.dial();
    wire.send(&header(PROXY, 0, &[0; 4000])[..16]);
    eventually("the connection was timed out", || {
        // One byte at a time, until the connection ends.
        let _ = wire.try_send([0]);
        world.total(Stat::HandshakeProxyHeader) == 1
    });
    wire.expect_cut();
    drop(wire);
    assert_eq!(world.end().value(Stat::HandshakeTimeout), 0);
}

#[test]
fn a_proxy_that_sends_no_header_or_half_of_one_is_not_answered_when_its_time_is_up() {
    for sent in [&b""[..], &SIGNATURE[..7], &header_of("192.0.2.1")[..20]] {
        let mut config = behind_proxy();
        config.server.handshake_timeout = Duration::from_millis(200);
        let world = World::with(&config);
        let mut wire = world.dial();
        wire.send(sent);
        assert_eq!(wire.try_answer(), None, "after {sent:?}");
        drop(wire);
        world.await_total(Stat::HandshakeProxyHeader, 1);
        assert_eq!(world.end().value(Stat::HandshakeTimeout), 0);
    }
}

#[test]
fn the_limit_counts_the_address_in_the_header() {
    let mut config = behind_proxy();
    config.server.max_connections_per_ip = 2;
    let world = World::with(&config);
    // The proxy has more than two connections, but no client has.
    let mut seated = Vec::new();
    for client in [
        "192.0.2.1",
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
        "2001:db8::2",
    ] {
        let (status, wire) = status_of(&world, client);
        assert_eq!(status, 101, "for {client}");
        seated.push(wire);
    }
    for client in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::3"] {
        let (status, mut wire) = status_of(&world, client);
        assert_eq!(status, 429, "for {client}");
        wire.expect_end();
    }
    // A client that leaves makes room for exactly one.
    seated.remove(0).reset();
    eventually("a seat is given back", || {
        let (status, wire) = status_of(&world, "192.0.2.1");
        seated.push(wire);
        status == 101
    });
    assert_eq!(status_of(&world, "192.0.2.1").0, 429);
    drop(seated);
    world.end();
}

#[test]
fn refused_clients_take_nobodys_place() {
    const CROWD: u64 = 100;
    let mut config = behind_proxy();
    config.server.max_connections = 3;
    config.server.max_connections_per_ip = 1;
    let world = World::with(&config);
    let (_, first) = status_of(&world, "192.0.2.1");
    let mut crowd = Vec::new();
    for n in 1..=CROWD {
        // None of them reads its answer or closes.
        let wire = world.dial();
        wire.send([&header_of("192.0.2.1"), request("/room").as_bytes()].concat());
        crowd.push(wire);
        // With its request, it is counted at once.
        world.await_total(Stat::HandshakePerIp, n);
    }
    let (status, second) = status_of(&world, "192.0.2.2");
    assert_eq!(status, 101);
    // Each refused connection is counted once, in one of two counters.
    drop((crowd, first, second));
    eventually("all places are free again", || {
        let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let served = clients.map(|client| status_of(&world, client));
        served.iter().all(|(status, _)| *status == 101)
    });
    world.await_total(Stat::ConnectedClients, 0);
    world.end();
}

/// A TLS connection that a proxy makes for `client`. Its first TLS bytes are in the packet of the header.
fn dial_secretly(tls: &TlsWorld, client: &str) -> TlsStream {
    let mut connection =
        ClientConnection::new(tls.client.clone(), NAME.try_into().unwrap()).unwrap();
    let mut packet = header_of(client);
    connection.write_tls(&mut packet).unwrap();
    let mut stream = TcpStream::connect(tls.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&packet).unwrap();
    StreamOwned::new(connection, stream)
}

#[test]
fn after_the_header_clients_use_tls() {
    let mut config = behind_proxy();
    config.server.max_connections_per_ip = 1;
    let tls = TlsWorld::with(config);
    let (socket, _) =
        tungstenite::client("wss://localhost/room", dial_secretly(&tls, "192.0.2.1")).unwrap();
    let mut client = TlsClient { socket };
    client.say("hello");
    assert_eq!(client.hear(), "hello");

    // One client too many is cut without an answer: a refusal is not worth a handshake.
    expect_cut(dial_secretly(&tls, "192.0.2.1"));
    tls.world.await_total(Stat::HandshakePerIp, 1);
    // A proxy that forgets the header is also cut.
    expect_cut(tls.dial());
    tls.world.await_total(Stat::HandshakeProxyHeader, 1);
    client.leave();
    let stats = tls.world.end();
    assert_eq!(stats.value(Stat::TlsFull), 1);
    assert_eq!(stats.value(Stat::HandshakeTls), 0);
    assert_eq!(stats.value(Stat::HandshakeLost), 0);
}

#[test]
fn the_header_also_works_on_the_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let mut config = config(2);
    config.server.unix_socket = Some(path.clone());
    config.server.proxy_protocol.from = vec![ProxySource::Unix];
    config.server.max_connections_per_ip = 1;
    let world = World::with(&config);
    let status_of = |client: &str| {
        let mut wire = Wire::over_unix(UnixStream::connect(&path).unwrap());
        wire.send([&header_of(client), request("/room").as_bytes()].concat());
        (wire.answer().status, wire)
    };
    let (first, first_wire) = status_of("192.0.2.1");
    let (second, second_wire) = status_of("192.0.2.1");
    let (third, third_wire) = status_of("192.0.2.2");
    assert_eq!([first, second, third], [101, 429, 101]);
    // Clients of the TCP port are not proxies.
    let direct = world.join("/room");
    drop((first_wire, second_wire, third_wire, direct));
    world.end();
}
