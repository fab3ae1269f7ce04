//! From a TCP connection to a member of a topic, and the answers to all other requests.

use std::net::Shutdown;
use std::time::Duration;

use fanwire::config::{Config, Subprotocol};
use fanwire::server::Stat;

use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::wire::{Answer, FIN, TEXT, frame, request};

#[test]
fn a_client_connects_and_is_counted() {
    let world = World::start();
    let client = world.connect("/room");
    world.await_total(Stat::Connections, 1);
    eventually("it is connected", || world.relay.client_count() == 1);
    drop(client);
    world.end();
}

#[test]
fn frames_in_the_packet_of_the_upgrade_are_served() {
    frames_in_the_packet_of_the_upgrade_are_served_by(1);
}

#[test]
fn frames_in_the_packet_of_the_upgrade_are_served_while_another_shard_is_asked() {
    frames_in_the_packet_of_the_upgrade_are_served_by(4);
}

fn frames_in_the_packet_of_the_upgrade_are_served_by(workers: usize) {
    let world = World::with(&config(workers));
    // As many clients as shards, so all but one of them have their topic on another shard.
    for n in 0..workers {
        let path = format!("/room/{n}");
        let mut client = world.dial();
        let frames = [frame(FIN | TEXT, b"one"), frame(FIN | TEXT, b"two")].concat();
        client.send([request(&path).as_bytes(), &frames].concat());
        assert_eq!(client.answer().status, 101);
        assert_eq!(client.hear(), "one");
        assert_eq!(client.hear(), "two");
        client.reset();
    }
    assert_eq!(world.end().value(Stat::Delivered), 2 * workers as u64);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_granted() {
    let world = World::start();
    let mut client = world.dial();
    for byte in request("/room").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().status, 101);
    drop(client);
    world.end();
}

// Subprotocols

/// The answer to a client that offers `offer` to a relay with this list.
fn selected(world: &World, path: &str, offer: &str) -> Option<String> {
    let mut client = world.dial();
    let offer = format!("\r\nSec-WebSocket-Protocol: {offer}\r\n");
    client.send(request(path).replacen("\r\n", &offer, 1));
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    client.reset();
    answer.header("sec-websocket-protocol").map(str::to_owned)
}

fn world_with_subprotocols(list: &[&str]) -> World {
    let mut config = config(4);
    let entries = list.iter().map(|text| Subprotocol::new(text).unwrap());
    config.server.subprotocols = entries.collect();
    World::with(&config)
}

#[test]
fn the_first_subprotocol_of_the_relay_that_is_offered_is_selected_on_every_shard() {
    let world = world_with_subprotocols(&["chat.v2", "chat.v1"]);
    for n in 0..8 {
        let path = format!("/room/{n}");
        let both = selected(&world, &path, "chat.v1, chat.v2");
        assert_eq!(both.as_deref(), Some("chat.v2"));
        assert_eq!(
            selected(&world, &path, "x, chat.v1").as_deref(),
            Some("chat.v1")
        );
        assert_eq!(selected(&world, &path, "x, CHAT.V1"), None);
    }
    world.await_total(Stat::SubprotocolsUnmet, 8);
    world.end();
}

#[test]
fn no_name_that_a_client_offers_is_in_the_log() {
    let names = [
        "9f86d081884c7d659a2feaa0c55ad015",
        "jwt-3q2-7wAAx5Jq9pQm",
        "password.hunter2",
        "chat",
    ];
    let mut program = Program::with("log: {level: trace}\n");
    for name in names {
        let offer = format!("\r\nSec-WebSocket-Protocol: {name}, other\r\n");
        let mut wire = program.dial();
        wire.send(request("/room").replacen("\r\n", &offer, 1));
        assert_eq!(wire.answer().status, 101);
        let line = program.await_log("server.subprotocols has none of them");
        assert!(line.contains("offered=2"), "{line}");
        assert!(!line.contains(name), "{line}");
    }
    let log = program.end_well();
    assert!(!names.iter().any(|name| log.contains(name)), "{log}");
}

#[test]
fn an_asterisk_selects_what_the_client_offers_first_but_never_a_reserved_name() {
    let world = world_with_subprotocols(&["*"]);
    assert_eq!(selected(&world, "/", "b, a").as_deref(), Some("b"));
    assert_eq!(
        selected(&world, "/", "fanwire.v1, bearer.x, a").as_deref(),
        Some("a")
    );
    assert_eq!(selected(&world, "/", "bearer.x"), None);
    world.await_total(Stat::SubprotocolsUnmet, 1);
    world.end();
}

#[test]
fn by_default_no_subprotocol_is_selected_and_each_offer_is_counted() {
    let world = World::start();
    assert_eq!(selected(&world, "/", "a"), None);
    drop(world.connect("/"));
    assert_eq!(world.end().value(Stat::SubprotocolsUnmet), 1);
}

#[test]
fn a_client_that_insists_on_its_subprotocol_is_served() {
    use tungstenite::client::IntoClientRequest as _;
    let world = world_with_subprotocols(&["chat"]);
    let mut request = format!("ws://{}/room", world.relay.address())
        .into_client_request()
        .unwrap();
    let offer = "chat".parse().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", offer);
    let stream = std::net::TcpStream::connect(world.relay.address()).unwrap();
    let (client, answer) = tungstenite::client(request, stream).unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    drop(client);
    world.end();
}

// Date

#[test]
fn each_response_has_the_date_of_today() {
    let world = World::start();
    let mut upgraded = world.dial();
    upgraded.send(request("/room"));
    let mut refused = world.dial();
    refused.send("GET /room HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let scraper = std::net::TcpStream::connect(world.relay.metrics_address().unwrap()).unwrap();
    let mut scraper = crate::wire::Wire::over(scraper);
    scraper.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for wire in [&mut upgraded, &mut refused, &mut scraper] {
        let answer = wire.answer();
        let date = answer.header("date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        let year: u32 = date[12..16].parse().unwrap();
        assert!((2025..2200).contains(&year), "{date}");
    }
    drop((upgraded, refused, scraper));
    world.end();
}

// Refusals

/// The answer to `request`. The connection must then end in order and be counted once.
pub(crate) fn refusal(config: &Config, request: &str, stat: Stat) -> Answer {
    let world = World::with(config);
    let mut client = world.dial();
    client.send(request);
    let answer = client.answer();
    client.expect_end();
    let connection = answer.header("connection").unwrap();
    assert!(connection.starts_with("close"), "{connection}");
    drop(client);
    let stats = world.end();
    assert_eq!(stats.value(stat), 1, "{stat:?}");
    assert_eq!(stats.value(Stat::Connections), 0);
    answer
}

#[test]
fn a_plain_get_is_answered_426() {
    let request = "GET /room HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = refusal(&config(2), request, Stat::HandshakeNotUpgrade);
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    for scheme in ["ws://", "wss://"] {
        assert!(answer.body.contains(scheme), "{}", answer.body);
    }
}

#[test]
fn another_method_gets_the_list_of_allowed_ones() {
    let request = "PUT /room HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let answer = refusal(&config(2), request, Stat::HandshakeMethod);
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD, POST, OPTIONS"))
    );
}

#[test]
fn another_version_of_the_protocol_gets_the_supported_one() {
    let request = request("/room").replace("Version: 13", "Version: 8");
    let answer = refusal(&config(2), &request, Stat::HandshakeNotUpgrade);
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
}

#[test]
fn a_head_over_the_limit_is_too_large() {
    let long = format!("Host: localhost\r\nCookie: {}", "x".repeat(16 << 10));
    let request = request("/room").replace("Host: localhost", &long);
    let answer = refusal(&config(2), &request, Stat::HandshakeHeadTooLarge);
    assert_eq!(answer.status, 431);
}

#[test]
fn the_refusal_of_an_endless_head_arrives_although_the_client_keeps_sending() {
    let endless = format!("GET /room HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let answer = refusal(&config(2), &endless, Stat::HandshakeHeadTooLarge);
    assert_eq!(answer.status, 431);
}

#[test]
fn a_path_over_the_limit_is_too_long() {
    let request = request(&format!("/{}", "x".repeat(2000)));
    let answer = refusal(&config(2), &request, Stat::HandshakePathTooLong);
    assert_eq!(answer.status, 414);
}

#[test]
fn garbage_is_a_bad_request() {
    let answer = refusal(
        &config(2),
        "\u{16}\u{3}\u{1}garbage\r\n\r\n",
        Stat::HandshakeBadRequest,
    );
    assert_eq!(answer.status, 400);
}

#[test]
fn an_upgrade_without_a_key_is_a_bad_request() {
    let request = request("/room").replace("Sec-WebSocket-Key", "X-Key");
    let answer = refusal(&config(2), &request, Stat::HandshakeBadRequest);
    assert_eq!(answer.status, 400);
}

#[test]
fn a_path_with_a_broken_escape_is_a_bad_request() {
    let answer = refusal(&config(2), &request("/a%zz"), Stat::HandshakeBadRequest);
    assert_eq!(answer.status, 400);
}

/// A short handshake timeout, so that a test can wait for it.
fn hasty() -> Config {
    let mut config = config(2);
    config.server.handshake_timeout = Duration::from_millis(200);
    config
}

#[test]
fn half_a_request_times_out() {
    let answer = refusal(
        &hasty(),
        "GET /room HTTP/1.1\r\nHost:",
        Stat::HandshakeTimeout,
    );
    assert_eq!(answer.status, 408);
}

#[test]
fn a_silent_connection_times_out() {
    let answer = refusal(&hasty(), "", Stat::HandshakeTimeout);
    assert_eq!(answer.status, 408);
}

#[test]
fn a_byte_now_and_then_does_not_extend_the_deadline() {
    let world = World::with(&hasty());
    let mut client = world.dial();
    client.send("GET /room HTTP/1.1\r\nX: ");
    // A write after the connection has ended fails. A write before the end changes nothing.
    eventually("the connection was timed out", || {
        let _ = client.try_send("x");
        world.total(Stat::HandshakeTimeout) == 1
    });
    client.expect_cut();
    drop(client);
    world.end();
}

#[test]
fn a_connection_that_ends_before_its_upgrade_is_counted_as_lost() {
    let world = World::start();
    let half = world.dial();
    half.send("GET /room HT");
    half.reset();
    let shut = world.dial();
    shut.stream().shutdown(Shutdown::Write).unwrap();
    world.await_total(Stat::HandshakeLost, 2);
    drop(shut);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Connections), 0);
}

#[test]
fn one_connection_too_many_is_refused_and_a_free_place_can_be_taken() {
    let mut config = config(2);
    config.server.max_connections = 2;
    let world = World::with(&config);
    let first = world.connect("/room");
    let mut second = world.connect("/room");

    let mut third = world.dial();
    let answer = third.answer();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("10"))
    );
    third.expect_end();
    world.await_total(Stat::HandshakeCapacity, 1);

    first.leave();
    eventually("the place is free", || {
        let mut next = world.dial();
        next.try_send(request("/room")).is_ok() && next.try_answer() == Some(101)
    });
    second.say("unharmed");
    assert_eq!(second.hear(), "unharmed");
    drop((second, third));
    world.end();
}
