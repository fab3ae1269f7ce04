//! Trusted proxies that name their clients in `X-Forwarded-For` or `Forwarded`, and the limit that counts these clients.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;

use fanwire::config::{Config, ProxySource};
use fanwire::server::Stat;

use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::tls_support::TlsWorld;
use crate::wire::{FIN, TEXT, Wire, frame, request};

fn at(address: &str) -> ProxySource {
    let address: IpAddr = address.parse().unwrap();
    ProxySource::Network(address.into())
}

/// Trusts 127.0.0.1, from which tests connect, as a proxy, and allows `limit` connections for each client.
fn behind_proxy(limit: usize) -> Config {
    let mut config = config(2);
    config.server.trusted_proxies = vec![at("127.0.0.1"), at("10.0.0.1")];
    config.server.max_connections_per_ip = limit;
    config
}

/// An upgrade to /room with more header lines.
fn request_with(lines: &[&str]) -> String {
    let lines: String = lines.iter().flat_map(|line| [*line, "\r\n"]).collect();
    request("/room").replace("\r\n\r\n", &format!("\r\n{lines}\r\n"))
}

/// Sends a request, and returns the status of the answer.
fn ask(mut wire: Wire, lines: &[&str]) -> (u16, Wire) {
    wire.send(request_with(lines));
    (wire.answer().status, wire)
}

/// The statuses of connections with these header lines. All stay open until the last has its answer.
fn statuses(world: &World, requests: &[&[&str]]) -> Vec<u16> {
    let answers = requests.iter().map(|lines| ask(world.dial(), lines));
    let (statuses, _wires): (Vec<u16>, Vec<Wire>) = answers.unzip();
    statuses
}

#[test]
fn the_limit_counts_the_client_that_a_trusted_proxy_names() {
    let world = World::with(&behind_proxy(1));
    let mut first = world.dial();
    first.send(request_with(&["X-Forwarded-For: 198.51.100.9, 192.0.2.1"]));
    assert_eq!(first.answer().status, 101);
    for lines in [
        &["X-Forwarded-For: 192.0.2.1"][..],
        &["x-forwarded-for: 192.0.2.1, 10.0.0.1"],
        &[
            "X-Forwarded-For: 198.51.100.9, 192.0.2.1",
            "X-Forwarded-For: 10.0.0.1",
        ],
        &["X-Forwarded-For: [::ffff:192.0.2.1]:80"],
        &["Forwarded: for=\"192.0.2.1:47011\";proto=https, for=10.0.0.1"],
        &["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1"],
    ] {
        let (status, mut wire) = ask(world.dial(), lines);
        assert_eq!(status, 429, "for {lines:?}");
        wire.expect_end();
    }
    let others: &[&[&str]] = &[
        &["X-Forwarded-For: 192.0.2.1, 192.0.2.2"],
        &["Forwarded: for=\"[2001:db8::1]\""],
        // The /64 of the one before.
        &["X-Forwarded-For: 2001:db8::2"],
    ];
    assert_eq!(statuses(&world, others), [101, 101, 429]);
    // A client that leaves makes room for exactly one.
    first.reset();
    let mut next = None;
    eventually("a seat is given back", || {
        let (status, wire) = ask(world.dial(), &["X-Forwarded-For: 192.0.2.1"]);
        next = Some(wire);
        status == 101
    });
    assert_eq!(ask(world.dial(), &["X-Forwarded-For: 192.0.2.1"]).0, 429);
    drop(next);
    let stats = world.end();
    assert!(stats.value(Stat::HandshakePerIp) >= 8);
}

#[test]
fn a_stranger_cannot_name_another_client() {
    let mut config = behind_proxy(1);
    config.server.trusted_proxies = vec![at("127.0.0.2")];
    let world = World::with(&config);
    let (status, wire) = ask(world.dial(), &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(status, 101);
    // It is counted when it connects, before it can say anything.
    let mut another = world.dial();
    assert_eq!(another.answer().status, 429);
    let (status, trusted) = ask(
        world.dial_from([127, 0, 0, 2]),
        &["X-Forwarded-For: 192.0.2.1"],
    );
    assert_eq!(status, 101);
    drop((wire, another, trusted));
    world.end();
}

#[test]
fn clients_that_a_proxy_does_not_name_count_by_its_address() {
    for hidden in [
        &[][..],
        &["X-Forwarded-For: unknown"],
        &["Forwarded: for=_hidden"],
        &["Forwarded: proto=https"],
        &["X-Forwarded-For: nonsense"],
        // A client has sent the header that its proxy does not know.
        &["X-Forwarded-For: 192.0.2.1", "Forwarded: for=198.51.100.9"],
    ] {
        let world = World::with(&behind_proxy(1));
        let named: &[&str] = &["X-Forwarded-For: 127.0.0.1"];
        assert_eq!(
            statuses(&world, &[hidden, hidden, named]),
            [101, 429, 429],
            "{hidden:?}"
        );
        world.end();
        let world = World::with(&behind_proxy(1));
        let other: &[&str] = &["X-Forwarded-For: 192.0.2.1"];
        assert_eq!(statuses(&world, &[hidden, other]), [101, 101], "{hidden:?}");
        world.end();
    }
}

#[test]
fn connections_of_a_proxy_are_not_counted_before_their_request() {
    let world = World::with(&behind_proxy(1));
    let silent: Vec<Wire> = (0..5).map(|_| world.dial()).collect();
    let (status, wire) = ask(world.dial(), &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!(status, 101);
    // Other refusals take no seat.
    let lines: &[&str] = &["X-Forwarded-For: 192.0.2.2"];
    let mut refused = world.dial();
    refused.send(request_with(lines).replace("GET", "PUT"));
    assert_eq!(refused.answer().status, 405);
    assert_eq!(statuses(&world, &[lines]), [101]);
    drop((silent, wire, refused));
    world.end();
}

#[test]
fn what_comes_behind_the_request_waits_for_the_seat() {
    let world = World::with(&behind_proxy(1));
    let mut wires = Vec::new();
    for n in 0..10 {
        let mut wire = world.dial();
        let head = request_with(&[&format!("X-Forwarded-For: 192.0.2.{n}")]);
        let message = frame(FIN | TEXT, b"hello");
        let bytes = [head.as_bytes(), &message].concat();
        if n % 2 == 0 {
            wire.send(&bytes);
        } else {
            for byte in bytes {
                wire.send([byte]);
            }
        }
        assert_eq!(wire.answer().status, 101);
        assert_eq!(wire.hear(), "hello");
        wires.push(wire);
    }
    drop(wires);
    assert_eq!(world.end().value(Stat::Messages), 10);
}

#[test]
fn a_client_of_a_proxy_that_ends_with_its_request_is_answered() {
    let world = World::with(&behind_proxy(1));
    for n in 0..20 {
        let mut wire = world.dial();
        let head = request_with(&[&format!("X-Forwarded-For: 192.0.2.{n}")]);
        wire.send([head.as_bytes(), &frame(FIN | TEXT, b"hello")].concat());
        wire.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.answer().status, 101);
        assert_eq!(wire.hear(), "hello");
        assert_eq!(wire.close().0, 1000);
    }
    let (_, first) = ask(world.dial(), &["X-Forwarded-For: 192.0.2.100"]);
    for _ in 0..20 {
        let mut wire = world.dial();
        wire.send(request_with(&["X-Forwarded-For: 192.0.2.100"]));
        wire.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.answer().status, 429);
        wire.expect_end();
    }
    drop(first);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), 20);
    assert_eq!(stats.value(Stat::HandshakeLost), 0);
}

#[test]
fn refused_clients_of_a_proxy_take_nobodys_place() {
    const CROWD: u64 = 100;
    let mut config = behind_proxy(1);
    config.server.max_connections = 3;
    let world = World::with(&config);
    let (_, first) = ask(world.dial(), &["X-Forwarded-For: 192.0.2.1"]);
    let mut crowd = Vec::new();
    for n in 1..=CROWD {
        // None of them reads its answer or closes.
        let wire = world.dial();
        wire.send(request_with(&["X-Forwarded-For: 192.0.2.1"]));
        crowd.push(wire);
        world.await_total(Stat::HandshakePerIp, n);
    }
    let (status, second) = ask(world.dial(), &["X-Forwarded-For: 192.0.2.2"]);
    assert_eq!(status, 101);
    drop((crowd, first, second));
    eventually("all places are free again", || {
        let names = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let lines = names.map(|name| format!("X-Forwarded-For: {name}"));
        let served = lines.each_ref().map(|line| ask(world.dial(), &[line]));
        served.iter().all(|(status, _)| *status == 101)
    });
    world.await_total(Stat::ConnectedClients, 0);
    world.end();
}

#[test]
fn a_proxy_behind_a_proxy_is_judged_by_the_address_in_the_proxy_header() {
    let mut config = behind_proxy(1);
    config.server.trusted_proxies = vec![at("10.0.0.1")];
    config.server.proxy_protocol.from = vec![at("127.0.0.1")];
    let world = World::with(&config);
    let mut wires = Vec::new();
    for (peer, name, status) in [
        ("TCP4 10.0.0.1 10.0.0.2 1 2", "192.0.2.1", 101),
        ("TCP4 10.0.0.1 10.0.0.2 1 2", "192.0.2.1", 429),
        ("TCP4 10.0.0.1 10.0.0.2 1 2", "192.0.2.2", 101),
        // A stranger, who names others.
        ("TCP4 192.0.2.9 10.0.0.2 1 2", "192.0.2.3", 101),
        ("TCP4 192.0.2.9 10.0.0.2 1 2", "192.0.2.4", 429),
        // Nobody knows who that is, so it counts for no address.
        ("UNKNOWN", "192.0.2.1", 101),
    ] {
        let mut wire = world.dial();
        let head = request_with(&[&format!("X-Forwarded-For: {name}")]);
        wire.send(format!("PROXY {peer}\r\n{head}"));
        assert_eq!(wire.answer().status, status, "{name} from {peer}");
        wires.push(wire);
    }
    drop(wires);
    world.end();
}

#[test]
fn a_proxy_on_the_unix_socket_is_trusted_by_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let mut config = behind_proxy(1);
    config.server.unix_socket = Some(path.clone());
    let dial = || Wire::over_unix(UnixStream::connect(&path).unwrap());
    let name = &["X-Forwarded-For: 192.0.2.1"];

    // Without the word, clients on the socket count for no address.
    let world = World::with(&config);
    let (first, second) = (ask(dial(), name), ask(dial(), name));
    assert_eq!((first.0, second.0), (101, 101));
    drop((first, second));
    world.end();

    config.server.trusted_proxies = vec![ProxySource::Unix];
    let world = World::with(&config);
    let named = [ask(dial(), name), ask(dial(), name)];
    assert_eq!([named[0].0, named[1].0], [101, 429]);
    // Those that are not named count together, or a client could escape the limit.
    let both: &[&str] = &["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2"];
    let hidden = [ask(dial(), &[]), ask(dial(), &[]), ask(dial(), both)];
    assert_eq!([hidden[0].0, hidden[1].0, hidden[2].0], [101, 429, 429]);
    drop((named, hidden));
    world.end();
}

#[test]
fn over_tls_the_client_of_a_proxy_is_answered() {
    let tls = TlsWorld::with(behind_proxy(1));
    let connect = || {
        let mut stream = tls.dial();
        stream
            .write_all(request_with(&["X-Forwarded-For: 192.0.2.1"]).as_bytes())
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        (answer, stream)
    };
    let (first, served) = connect();
    assert_eq!(&first, b"HTTP/1.1 101");
    let (second, refused) = connect();
    assert_eq!(&second, b"HTTP/1.1 429");
    drop((served, refused));
    tls.world.end();
}

#[test]
fn a_header_that_is_not_understood_is_a_warning_without_the_token() {
    let keys = ", trusted_proxies: [127.0.0.1], proxy_protocol: {from: [127.0.0.2]}";
    let mut program = Program::with_server(keys, "");
    for _ in 0..3 {
        let (status, _) = ask(
            program.dial(),
            &["X-Forwarded-For: a\"b?token=c, 127.0.0.1"],
        );
        assert_eq!(status, 101);
    }
    let line = program.await_log("proxy=");
    for part in [
        "proxy=127.0.0.1",
        r#"sent="a\"b…""#,
        "X-Forwarded-For has something else than an address",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let rest = program.end_well();
    assert!(
        !rest.contains("proxy=") && !line.contains("token"),
        "{rest}"
    );
}

#[test]
fn a_proxy_that_names_nobody_is_a_warning_once_a_minute() {
    let keys = ", trusted_proxies: [127.0.0.1], max_connections_per_ip: 1";
    let mut program = Program::with_server(keys, "");
    let (first, second) = (ask(program.dial(), &[]), ask(program.dial(), &[]));
    assert_eq!((first.0, second.0), (101, 429));
    drop((first, second));
    let line = program.await_log("proxy=");
    for part in [
        "proxy=127.0.0.1",
        "counts by the address of the proxy",
        "neither X-Forwarded-For nor Forwarded",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!program.end_well().contains("proxy="));
}

#[test]
fn a_proxy_that_names_nobody_who_posts_is_a_warning_as_well() {
    let keys = ", trusted_proxies: [127.0.0.1]";
    let mut program = Program::with_server(keys, "");
    let mut wire = program.dial();
    for _ in 0..2 {
        wire.send("POST /room HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(wire.answer().status, 202);
    }
    let line = program.await_log("proxy=");
    for part in ["proxy=127.0.0.1", "neither X-Forwarded-For nor Forwarded"] {
        assert!(line.contains(part), "{line}");
    }
    // The connection still knows its proxy.
    wire.send(request("/room"));
    assert_eq!(wire.answer().status, 101);
    drop(wire);
    assert!(!program.end_well().contains("proxy="));
}

#[test]
fn a_proxy_header_that_is_not_understood_is_a_warning() {
    let keys = ", proxy_protocol: {from: [127.0.0.1]}";
    let mut program = Program::with_server(keys, "");
    let mut wire = program.dial();
    wire.send(request("/?token=secret"));
    assert_eq!(wire.try_answer(), None);
    let line = program.await_log("proxy=");
    for part in [
        "proxy=127.0.0.1",
        "sent=\"GET /…\"",
        "it is another protocol",
        "server.proxy_protocol.from",
    ] {
        assert!(line.contains(part), "{line}");
    }
    program.end_well();
}
