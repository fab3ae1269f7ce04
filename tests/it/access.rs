//! The rules on who may connect, who may publish and how often, each seen from both sides.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use fanwire::config::{Config, Publish, Token};
use fanwire::server::Stat;
use rustix::process::{Pid, Signal, kill_process};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::program::Program;
use crate::support::{Client, World, config};
use crate::upgrade::refusal;
use crate::wire::{CLOSE, FIN, PING, TEXT, Wire, close_body, frame, request};

const TOKEN: &str = "secret-4711~of.one+and/of==";
const OTHER_TOKEN: &str = "another-secret-4711";

/// An upgrade request with more header lines.
fn request_with(path: &str, fields: &str) -> String {
    request(path).replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A client that has sent these header lines and joined the topic of `path`.
fn join_with(world: &World, path: &str, fields: &str) -> Wire {
    let mut wire = world.dial();
    wire.send(request_with(path, fields));
    assert_eq!(wire.answer().status, 101);
    wire
}

// Origins

fn for_pages_of_example_org() -> Config {
    let mut config = config(2);
    config.server.allowed_origins = ["https://example.org", "*.example.org"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    config
}

#[test]
fn a_page_of_another_site_is_forbidden() {
    for origin in ["https://evil.example", "http://example.org", "null", ""] {
        let request = request_with("/room", &format!("Origin: {origin}\r\n"));
        let answer = refusal(&for_pages_of_example_org(), &request, Stat::HandshakeOrigin);
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.body.contains("origin"), "{}", answer.body);
    }
}

#[test]
fn listed_pages_and_programs_share_a_topic() {
    let world = World::with(&for_pages_of_example_org());
    let mut program = world.connect("/room");
    let mut page = join_with(&world, "/room", "Origin: https://Example.org:443\r\n");
    let mut deeper = join_with(&world, "/room", "Origin: http://a.b.example.org:81\r\n");
    page.send(frame(FIN | TEXT, b"hello"));
    assert_eq!(program.hear(), "hello");
    assert_eq!(page.hear(), "hello");
    assert_eq!(deeper.hear(), "hello");
    drop((program, page, deeper));
    world.end();
}

#[test]
fn any_page_may_connect_by_default() {
    let world = World::start();
    drop(join_with(
        &world,
        "/room",
        "Origin: https://evil.example\r\n",
    ));
    world.await_total(Stat::Connections, 1);
    world.end();
}

#[test]
fn two_origins_are_a_bad_request() {
    let twice = "Origin: https://example.org\r\n".repeat(2);
    for config in [config(2), for_pages_of_example_org()] {
        let request = request_with("/room", &twice);
        let answer = refusal(&config, &request, Stat::HandshakeBadRequest);
        assert_eq!(answer.status, 400);
    }
}

// Permission to publish

fn with_tokens() -> Config {
    let mut config = config(2);
    config.relay.publish = Publish::Token;
    config.relay.publish_tokens = [TOKEN, OTHER_TOKEN]
        .map(|text| Token::new(text).unwrap())
        .to_vec();
    config
}

#[test]
fn clients_with_a_token_publish_and_clients_without_listen() {
    let world = World::with(&with_tokens());
    let mut listener = world.connect("/room");
    let mut by_header = join_with(&world, "/room", &bearer(TOKEN));
    let mut by_query = world.connect(&format!("/room?token={OTHER_TOKEN}"));
    let mut by_escaped_query = world.connect("/room?a=b&token=secret-4711~of.one+and%2fof%3D=");
    by_header.send(frame(FIN | TEXT, b"one"));
    for heard in [
        by_query.hear(),
        by_escaped_query.hear(),
        by_header.hear(),
        listener.hear(),
    ] {
        assert_eq!(heard, "one");
    }
    by_query.say("two");
    assert_eq!(by_escaped_query.hear(), "two");
    assert_eq!(listener.hear(), "two");
    by_escaped_query.say("three");
    assert_eq!(listener.hear(), "three");
    assert!(listener.leave().is_empty());
    drop((by_header, by_query, by_escaped_query));
    world.end();
}

#[test]
fn a_listener_that_publishes_is_closed_and_nobody_hears_it() {
    for workers in [1, 4] {
        let mut config = with_tokens();
        config.server.workers = workers;
        let world = World::with(&config);
        let mut listener = world.connect("/room");
        let mut publisher = world.connect(&format!("/room?token={OTHER_TOKEN}"));
        let mut intruder = world.connect("/room");
        intruder.say("for nobody's ears");
        let close = intruder.expect_close();
        assert_eq!(close.code, CloseCode::Policy);
        assert_eq!(close.reason.as_str(), "not allowed to publish");
        publisher.say("next");
        assert_eq!(listener.hear(), "next");
        assert_eq!(publisher.hear(), "next");
        drop((listener, publisher, intruder));
        let stats = world.end();
        assert_eq!(stats.value(Stat::DisconnectedPublishDenied), 1);
        assert_eq!(stats.value(Stat::Messages), 1);
    }
}

#[test]
fn a_message_in_the_packet_of_the_request_needs_permission_too() {
    let world = World::with(&with_tokens());
    let mut listener = world.connect("/room");
    let message = frame(FIN | TEXT, b"early");
    let with_message = |request: String| [request.as_bytes(), &message].concat();
    let mut intruder = world.dial();
    intruder.send(with_message(request("/room")));
    assert_eq!(intruder.answer().status, 101);
    assert_eq!(intruder.close(), (1008, "not allowed to publish".into()));
    let publisher = world.dial();
    publisher.send(with_message(request_with("/room", &bearer(TOKEN))));
    assert_eq!(listener.hear(), "early");
    assert!(listener.leave().is_empty());
    drop((intruder, publisher));
    world.end();
}

#[test]
fn a_wrong_token_or_two_tokens_are_unauthorized() {
    let query = format!("/room?token={TOKEN}");
    for request in [
        request_with("/room", &bearer("secret-4711~of.one+and/of=")),
        request("/room?token=wrong"),
        request("/room?token"),
        request_with(&query, &bearer(TOKEN)),
        request_with("/room", &bearer(TOKEN).repeat(2)),
    ] {
        let answer = refusal(&with_tokens(), &request, Stat::HandshakeUnauthorized);
        assert_eq!(answer.status, 401, "{request}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[test]
fn if_nobody_may_publish_a_token_makes_no_difference() {
    let mut config = config(2);
    config.relay.publish = Publish::Nobody;
    let world = World::with(&config);
    let listener = world.connect("/room");
    let mut intruder = world.connect(&format!("/room?token={TOKEN}"));
    intruder.say("for nobody's ears");
    assert_eq!(intruder.expect_close().code, CloseCode::Policy);
    assert!(listener.leave().is_empty());
    drop(intruder);
    assert_eq!(world.end().value(Stat::Messages), 0);
}

#[test]
fn if_everyone_may_publish_a_wrong_token_is_ignored() {
    let world = World::start();
    let mut client = world.connect("/room?token=wrong");
    client.say("hello");
    assert_eq!(client.hear(), "hello");
    drop(client);
    world.end();
}

// The rate limit

#[test]
fn messages_over_the_rate_are_not_relayed_but_earlier_ones_are() {
    let mut config = config(2);
    config.limits.messages_per_second = 1;
    config.limits.burst = 5;
    let world = World::with(&config);
    let mut honest = world.connect("/room");
    let mut flooder = world.join("/room");
    // In one packet, so that one turn reads it even on a slow machine.
    let flood: Vec<u8> = (0..20)
        .flat_map(|n| frame(FIN | TEXT, format!("{n}").as_bytes()))
        .collect();
    flooder.send(flood);
    for n in 0..5 {
        assert_eq!(honest.hear(), n.to_string());
    }
    honest.say("unharmed");
    assert_eq!(honest.hear(), "unharmed");
    // It may receive its own earlier messages before the Close.
    let close = loop {
        let frame = flooder.next();
        if frame.first != FIN | TEXT {
            break frame;
        }
    };
    assert_eq!(close.first, FIN | CLOSE);
    assert_eq!(close.payload, close_body(1008, "too many messages"));
    flooder.expect_end();
    drop((honest, flooder));
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedRate), 1);
    assert_eq!(stats.value(Stat::Messages), 6);
}

#[test]
fn control_frames_do_not_count_as_messages() {
    let mut config = config(2);
    config.limits.messages_per_second = 1;
    config.limits.burst = 1;
    let world = World::with(&config);
    let mut client = world.join("/room");
    client.send(frame(FIN | PING, b"x").repeat(100));
    client.send(frame(FIN | TEXT, b"hello"));
    while client.next().first != FIN | TEXT {}
    drop(client);
    assert_eq!(world.end().value(Stat::DisconnectedRate), 0);
}

// Secrets

#[test]
fn the_log_never_shows_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "server: {{host: 127.0.0.1, port: 0, workers: 2, fill_workers_to: 0, allowed_origins: [a.example]}}\n\
         metrics: {{port: 0}}\nlog: {{level: trace}}\nrelay:\n  publish: token\n  publish_tokens:\n  - {TOKEN}\n"
    );
    fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    let address = loop {
        let start = log.len();
        assert!(lines.read_line(&mut log).unwrap() > 0, "{log}");
        if let Some((_, rest)) = log[start..].split_once("address=") {
            break rest.split(' ').next().unwrap().parse().unwrap();
        }
    };
    let dial = || Wire::over(std::net::TcpStream::connect(address).unwrap());
    let query = format!("/room?token={TOKEN}");
    for refused in [
        request_with(&query, &bearer(TOKEN)),
        request_with(&query, "Origin: https://evil.example\r\n"),
        request_with("/room", &format!("Authorization: {TOKEN}\r\n")),
        request(&format!("/%zz?token={TOKEN}")),
        request(&format!("/{}?token={TOKEN}", "x".repeat(600))),
        request(&query).replace("GET", "PUT"),
        request(&query)
            .replace("GET", "POST")
            .replace("Host:", "Content-Type: a/b\r\nHost:"),
        request(&query).replace("HTTP/1.1", &format!("HTTP/{TOKEN}")),
        request_with("/room", &format!("Authorization : Bearer {TOKEN}\r\n")),
    ] {
        let mut wire = dial();
        wire.send(&refused);
        assert!(wire.answer().status >= 400, "{refused}");
        wire.expect_end();
    }
    // A client that publishes and breaks the protocol, and one that leaves in order.
    let mut odd = dial();
    odd.send(request_with("/room", &bearer(TOKEN)));
    assert_eq!(odd.answer().status, 101);
    odd.send(frame(FIN | TEXT, TOKEN.as_bytes()));
    assert_eq!(odd.hear(), TOKEN);
    odd.send(frame(FIN | 0x3, TOKEN.as_bytes()));
    assert_eq!(odd.close().0, 1002);
    Client::connect(address, &query).leave();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    lines.read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for event in [
        "Origin",
        "Unauthorized",
        "BadRequest",
        "a client is disconnected",
    ] {
        assert!(log.contains(event), "{event} is not logged:\n{log}");
    }
    for secret in ["4711", "/room", "Bearer "] {
        assert!(!log.contains(secret), "{log}");
    }
}

// The log

#[test]
fn refusals_are_logged_at_once_and_the_rest_is_summed_up_at_the_end() {
    let mut program = Program::with_server(", allowed_origins: [a.example]", "");
    let refuse = |program: &Program| {
        let mut page = program.dial();
        page.send(request_with("/room", "Origin: https://evil.example\r\n"));
        assert_eq!(page.answer().status, 403);
    };
    refuse(&program);
    let line = program.await_log("refused in the last");
    assert!(line.contains(" INFO "), "{line}");
    assert!(
        line.contains("1 refused in the last second: origin 1;"),
        "{line}"
    );
    refuse(&program);
    refuse(&program);
    program.await_metric("fanwire_failed_handshakes_total{reason=\"origin\"}", 3);
    let log = program.end_well();
    let sums: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" refused in the last "))
        .collect();
    assert_eq!(sums.len(), 1, "{log}");
    assert!(
        sums[0].contains("2 refused in the last") && sums[0].ends_with(": origin 2"),
        "{log}"
    );
}
