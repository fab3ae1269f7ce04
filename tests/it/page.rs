//! The page to try a topic (`http.page`): the browsers that get it, and those that do not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use fanwire::config::{Config, Page, ProxySource};
use fanwire::server::Stat;

use crate::support::{World, config};
use crate::tls_support::TlsWorld;
use crate::wire::Wire;

/// The request of a browser that opens a topic's URL, with more header lines.
fn open(line: &str, host: &str, more: &str) -> String {
    format!(
        "{line}\r\nHost: {host}\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Mode: navigate\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n{more}\r\n"
    )
}

fn get(host: &str) -> String {
    open("GET /room HTTP/1.1", host, "")
}

fn with(page: Page) -> Config {
    let mut config = config(2);
    config.http.page = page;
    config
}

fn status(mut wire: Wire, request: &str) -> u16 {
    wire.send(request);
    let answer = wire.answer();
    wire.expect_end();
    answer.status
}

#[test]
fn a_browser_on_this_machine_gets_the_page() {
    let world = World::start();
    for host in [
        "localhost:8443",
        "LOCALHOST",
        "127.0.0.1:1",
        "127.1.2.3",
        "[::1]:8443",
    ] {
        for line in [
            "GET /room HTTP/1.1",
            "GET /a%20b?last=5 HTTP/1.1",
            "GET / HTTP/1.0",
        ] {
            let mut browser = world.dial();
            browser.send(open(line, host, ""));
            let answer = browser.answer();
            assert_eq!(answer.status, 200, "{line} {host}");
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(answer.header("date").is_some());
            assert!(answer.body.contains("class Fanwire"), "{}", answer.body);
            browser.expect_end();
        }
        let mut browser = world.dial();
        browser.send(open("HEAD /room HTTP/1.1", host, ""));
        let answer = browser.head();
        // It describes the topic, as from any program.
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("fanwire-members"), Some("0"));
    }
    // It is a page: it counts neither as a client nor as a refusal.
    let stats = world.end();
    for stat in [Stat::Connections, Stat::HandshakeNotUpgrade] {
        assert_eq!(stats.value(stat), 0, "{stat:?}");
    }
}

#[test]
fn a_browser_behind_a_proxy_or_with_another_name_is_answered_426() {
    let world = World::start();
    for host in [
        "relay.example",
        "localhost.example",
        "192.0.2.1",
        "127.0.0.1.example",
    ] {
        assert_eq!(status(world.dial(), &get(host)), 426, "{host}");
    }
    for field in [
        "Forwarded: for=192.0.2.1",
        "X-Forwarded-For: 127.0.0.1",
        "Via: 1.1 a",
        "X-Real-IP: ::1",
    ] {
        let request = open("GET /room HTTP/1.1", "localhost", &format!("{field}\r\n"));
        assert_eq!(status(world.dial(), &request), 426, "{field}");
    }
    let program = "GET /room HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    assert_eq!(status(world.dial(), program), 426);
    assert_eq!(world.end().value(Stat::HandshakeNotUpgrade), 9);
}

#[test]
fn a_trusted_proxy_on_this_machine_is_not_a_browser_on_this_machine() {
    let network: ProxySource = ProxySource::Network("127.0.0.1/32".parse().unwrap());
    let mut config = config(2);
    config.server.trusted_proxies = vec![network];
    let world = World::with(&config);
    assert_eq!(status(world.dial(), &get("localhost")), 426);
    world.end();

    let mut config = self::config(2);
    config.server.proxy_protocol.from = vec![network];
    let world = World::with(&config);
    for header in [
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        "PROXY UNKNOWN\r\n",
    ] {
        let request = header.to_owned() + &get("localhost");
        assert_eq!(status(world.dial(), &request), 426, "{header}");
    }
    world.end();
}

#[test]
fn the_unix_socket_is_for_proxies_which_name_it_localhost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    for (page, expected) in [(Page::Loopback, 426), (Page::On, 200)] {
        let mut config = with(page);
        config.server.unix_socket = Some(path.clone());
        let world = World::with(&config);
        let wire = Wire::over_unix(UnixStream::connect(&path).unwrap());
        assert_eq!(status(wire, &get("localhost")), expected, "{page:?}");
        world.end();
    }
}

#[test]
fn the_page_is_for_all_or_for_none_as_configured() {
    let world = World::with(&with(Page::On));
    let passed_on = open(
        "GET /room HTTP/1.1",
        "relay.example",
        "X-Forwarded-For: 192.0.2.1\r\n",
    );
    assert_eq!(status(world.dial(), &passed_on), 200);
    // A path that names no topic is told so.
    let bad = open("GET /%zz HTTP/1.1", "relay.example", "");
    assert_eq!(status(world.dial(), &bad), 400);
    world.end();
    let world = World::with(&with(Page::Off));
    assert_eq!(status(world.dial(), &get("localhost")), 426);
    world.end();
}

#[test]
fn the_path_of_health_checks_has_no_page() {
    let mut config = config(2);
    config.server.health_path = Some("/healthz".into());
    let world = World::with(&config);
    let mut browser = world.dial();
    browser.send(open("GET /healthz HTTP/1.1", "localhost", ""));
    assert_eq!(browser.answer().body, "ready\n");
    drop(browser);
    world.end();
}

#[test]
fn the_page_is_served_over_tls() {
    let tls = TlsWorld::start();
    let mut stream = tls.dial();
    stream.write_all(get("localhost").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("</script>\n"), "{answer}");
    tls.world.end();
}
