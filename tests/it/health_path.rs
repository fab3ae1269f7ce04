//! Health checks on the relay's own port (`server.health_path`): answered, and counted as nothing.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use fanwire::config::{Config, Topics};
use fanwire::server::Stat;

use crate::metrics::{scrape, sum};
use crate::support::{World, config, eventually};
use crate::tls_support::TlsWorld;
use crate::wire::{Answer, request};

fn with_path() -> Config {
    let mut config = config(2);
    config.server.health_path = Some("/healthz".into());
    config
}

/// The answer to a check. The connection must then end in order.
fn check(world: &World, head: &str) -> Answer {
    let mut client = world.dial();
    client.send(head);
    let is_head = head.starts_with("HEAD");
    let answer = if is_head {
        client.head()
    } else {
        client.answer()
    };
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.header("content-length"), Some("6"), "{answer:?}");
    assert!(answer.header("date").is_some());
    client.expect_end();
    answer
}

/// Ends the relay. Nothing that it counts may know of the checks.
fn end_uncounted(world: World) {
    for name in [
        "fanwire_failed_handshakes_total",
        "websocket_connections_total",
    ] {
        let count = sum(&scrape(&world), name);
        assert!(count < 0.5, "{name}: {count}");
    }
    world.end();
}

#[test]
fn checks_of_every_kind_are_answered_200_and_counted_as_nothing() {
    let world = World::with(&with_path());
    for head in [
        // HAProxy, nginx and old balancers; ALB and the others; proxies that always ask for an upgrade.
        "GET /healthz HTTP/1.0\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8443\r\nConnection: close\r\n\r\n".into(),
        "GET /healthz?check=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".into(),
        "HEAD /healthz HTTP/1.0\r\n\r\n".into(),
        "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        request("/healthz"),
        request("/%68ealthz"),
    ] {
        for _ in 0..5 {
            let answer = check(&world, &head);
            assert_eq!(answer.status, 200, "{head}");
            let body = if head.starts_with("HEAD") {
                ""
            } else {
                "ready\n"
            };
            assert_eq!(answer.body, body, "{head}");
        }
    }
    end_uncounted(world);
}

#[test]
fn a_check_whose_end_comes_with_it_is_answered() {
    let world = World::with(&with_path());
    for _ in 0..10 {
        let mut client = world.dial();
        client.send("GET /healthz HTTP/1.0\r\n\r\n");
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer().status, 200);
        client.expect_end();
    }
    end_uncounted(world);
}

#[test]
fn a_check_is_answered_over_tls() {
    let tls = TlsWorld::with(with_path());
    let mut stream = tls.dial();
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");
    end_uncounted(tls.world);
}

#[test]
fn a_relay_that_drains_answers_503_while_it_still_accepts() {
    let mut config = with_path();
    config.shutdown.delay = Duration::from_mins(5);
    let world = World::with(&config);
    assert_eq!(check(&world, &request("/healthz")).status, 200);
    let client = world.connect("/room");
    world.relay.shutdown();
    let probe = || {
        let mut client = world.dial();
        client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        client.answer()
    };
    eventually("the checks hear of it", || probe().status == 503);
    let answer = probe();
    assert_eq!(answer.body, "draining\n");
    assert_eq!(answer.header("retry-after"), Some("10"));
    drop((client, world.connect("/room")));
    for gauge in [Stat::ConnectedClients, Stat::OwnedTopics] {
        world.await_total(gauge, 0);
    }
    // The second call does not wait for the delay.
    world.relay.shutdown();
    world.join_ended();
}

#[test]
fn the_path_is_no_topic_and_other_paths_are() {
    let mut config = with_path();
    config.relay.topics = Topics::Single;
    let world = World::with(&config);
    let mut listener = world.connect("/a");
    let mut sender = world.connect("/healthz/");
    sender.say("hello");
    assert_eq!(listener.hear(), "hello");
    assert_eq!(check(&world, &request("/healthz")).status, 200);
    drop((listener, sender));
    assert_eq!(world.end().value(Stat::Connections), 2);
}

#[test]
fn without_a_path_a_check_is_a_plain_request() {
    let world = World::start();
    let mut client = world.dial();
    client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status, 426);
    drop(client);
    assert_eq!(world.end().value(Stat::HandshakeNotUpgrade), 1);
}
