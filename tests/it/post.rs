//! Publishing and asking over HTTP, with raw sockets and with curl.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use fanwire::config::{Config, ProxySource, Publish, Token};
use fanwire::server::Stat;
use tungstenite::Message;

use crate::curl;
use crate::metrics::{case, scrape};
use crate::support::{World, config, eventually};
use crate::tls_support::TlsWorld;
use crate::wire::{Answer, Wire, request};

/// A request that publishes `body`.
fn post(path: &str, fields: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}

fn ask(wire: &mut Wire, request: impl AsRef<[u8]>) -> Answer {
    wire.send(request);
    wire.answer()
}

/// Runs curl. Returns its output.
fn curl(args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // curl may be refused before it has read all of it.
    let _sent = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_curl_posts_reaches_the_members() {
    if !curl::is_there() {
        return;
    }
    let world = World::start();
    let mut members = world.connect_many("/room", 3);
    let url = format!("http://{}/room", world.relay.address());
    let answer = curl(&["-d", "a=1&b=2", &url], b"");
    assert!(answer.ends_with("\"members\":3}\n"), "{answer}");
    let large = vec![b'x'; 300_000];
    curl(
        &[
            "--data-binary",
            "@-",
            "-H",
            "Content-Type: application/octet-stream",
            &url,
        ],
        &large,
    );
    curl(&["-T", "-", "-X", "POST", &url], "in chunks, né".as_bytes());
    let lines = "Content-Type: application/x-ndjson";
    curl(&["--data-binary", "@-", "-H", lines, &url], b"one\ntwo\n");
    for member in &mut members {
        assert_eq!(member.hear(), "a=1&b=2");
        assert_eq!(member.next(), Message::binary(large.clone()));
        assert_eq!(member.hear(), "in chunks, né");
        assert_eq!(member.hear(), "one");
        assert_eq!(member.hear(), "two");
    }
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let zip = [
        &status[..],
        &["-d", "x", "-H", "Content-Type: application/zip", &url],
    ]
    .concat();
    assert_eq!(curl(&zip, b""), "415");
    let head = curl(&["-I", &url], b"");
    assert!(head.contains("Fanwire-Members: 3\r\n"), "{head}");
    let json = curl(&["-H", "Accept: application/json", &url], b"");
    assert!(json.starts_with("{\"members\":3,\"at\":\""), "{json}");
    let metrics = scrape(&world);
    let posts = |status: &str| case(&metrics, "fanwire_posts_total", "status", status);
    assert!((posts("202") - 4.0).abs() < 0.5 && (posts("415") - 1.0).abs() < 0.5);
    drop(members);
    let totals = world.end();
    assert_eq!(totals.value(Stat::PostedMessages), 5);
    assert_eq!(totals.value(Stat::Connections), 3);
}

#[test]
fn a_body_over_the_limit_is_refused_before_curl_sends_it() {
    if !curl::is_there() {
        return;
    }
    let world = World::start();
    let url = format!("http://{}/room", world.relay.address());
    let body = vec![b'x'; 5 << 20];
    let args = [
        "--data-binary",
        "@-",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_upload}",
        &url,
    ];
    assert_eq!(curl(&args, &body), "413 0");
    // In chunks, nobody knows before.
    let args = [
        "-T",
        "-",
        "-X",
        "POST",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ];
    assert_eq!(curl(&args, &body), "413");
    assert_eq!(world.end().value(Stat::PostedMessages), 0);
}

#[test]
fn a_connection_is_kept_for_requests_of_all_kinds_and_for_an_upgrade() {
    let world = World::start();
    let mut wire = world.dial();
    for n in 1..=50 {
        let answer = ask(&mut wire, post("/room", "", &n.to_string()));
        assert_eq!(answer.status, 202);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("vary"), Some("Accept, Origin"));
        assert!(answer.header("date").is_some());
        let at = answer.header("fanwire-position").unwrap();
        assert_eq!(answer.body, format!("{{\"at\":\"{at}\",\"members\":0}}\n"));
    }
    wire.send("HEAD /room HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = wire.head();
    assert_eq!((head.status, head.header("fanwire-position")), (200, None));
    wire.upgrade("/room");
    let mut other = world.dial();
    let answer = ask(&mut other, post("/room", "Connection: close\r\n", "hello"));
    assert_eq!(answer.header("connection"), Some("close"));
    other.expect_end();
    assert_eq!(wire.next().payload, b"hello");
    drop(wire);
    world.end();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::start();
    let mut listener = world.connect("/room");
    let wire = world.dial();
    let all: String = (0..500)
        .map(|n| post("/room", "", &n.to_string()))
        .collect();
    let sender = wire.send_beside(
        all.into_bytes()
            .chunks(1000)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
            .into_iter(),
    );
    let mut wire = wire;
    let mut last = None;
    for n in 0..500 {
        let answer = wire.answer();
        assert_eq!(answer.status, 202, "{n}");
        let at = answer.header("fanwire-position").unwrap();
        let (_, number) = at.split_once('-').unwrap();
        let number: u64 = number.parse().unwrap();
        assert!(
            last.is_none_or(|last| number == last + 1),
            "{last:?}, then {number}"
        );
        last = Some(number);
        assert_eq!(listener.hear(), n.to_string());
    }
    sender.join().unwrap();
    drop((wire, listener));
    world.end();
}

#[test]
fn http_1_0_is_served_and_kept_only_on_request() {
    let world = World::start();
    let old = |fields: &str| format!("POST / HTTP/1.0\r\nContent-Length: 1\r\n{fields}\r\nx");
    let mut wire = world.dial();
    let answer = ask(&mut wire, old("Connection: keep-alive\r\n"));
    assert_eq!(
        (answer.status, answer.header("connection")),
        (202, Some("keep-alive"))
    );
    let answer = ask(&mut wire, old(""));
    assert_eq!(
        (answer.status, answer.header("connection")),
        (202, Some("close"))
    );
    wire.expect_end();
    let mut wire = world.dial();
    let json = "GET / HTTP/1.0\r\nAccept: application/json\r\n\r\n";
    assert_eq!(ask(&mut wire, json).status, 200);
    wire.expect_end();
    world.end();
}

#[test]
fn posts_on_all_workers_to_all_topics_are_in_one_order_with_the_members() {
    let mut config = config(4);
    config.history.max_age = Duration::from_mins(1);
    let world = World::with(&config);
    let mut members = world.connect_many("/room", 8);
    let mut wires: Vec<Wire> = (0..8).map(|_| world.dial()).collect();
    let mut told = Vec::new();
    for round in 0..20 {
        members[round % 8].say(format!("member {round}"));
        for (n, wire) in wires.iter().enumerate() {
            wire.send(post("/room", "", &format!("{n} {round}")));
        }
        for (n, wire) in wires.iter_mut().enumerate() {
            let answer = wire.answer();
            let at = answer.header("fanwire-position").unwrap().to_owned();
            let (_, number) = at.split_once('-').unwrap();
            told.push((number.parse::<usize>().unwrap(), format!("{n} {round}")));
        }
    }
    let heard: Vec<Vec<String>> = members
        .iter_mut()
        .map(|member| (0..180).map(|_| member.hear()).collect())
        .collect();
    assert!(
        heard.iter().all(|one| *one == heard[0]),
        "one order for all"
    );
    for (next, text) in told {
        assert_eq!(heard[0][next - 1], text, "the position behind the message");
    }
    drop((members, wires));
    eventually("the topic is left", || {
        world.total(Stat::ConnectedClients) == 0
    });
    world.end();
}

#[test]
fn many_topics_are_answered_line_by_line() {
    let world = World::start();
    let mut members = [world.connect("/a"), world.connect("/b")];
    let body = "{\"topic\":\"/a\",\"text\":\"x\"}\n\n{\"topic\":\"/b\",\"base64\":\"AP8=\"}\r\n{}";
    let fields = "Content-Type: application/vnd.fanwire+ndjson\r\n";
    let mut wire = world.dial();
    let answer = ask(&mut wire, post("/any", fields, body));
    assert_eq!(answer.status, 200);
    let lines: Vec<&str> = answer.body.lines().collect();
    assert!(lines[0].starts_with("{\"at\":\"") && lines[1].starts_with("{\"at\":\""));
    assert!(lines[2].starts_with("{\"status\":400,\"error\":\"A line must be {\\\"topic"));
    assert_eq!(lines.len(), 3);
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert_eq!(members[0].hear(), "x");
    assert_eq!(&members[1].binary()[..], [0, 0xff]);
    drop((members, wire));
    world.end();
}

#[test]
fn a_key_is_one_message_on_however_many_connections() {
    let world = World::with(&config(4));
    let mut member = world.connect("/room");
    let wires: Vec<Wire> = (0..12).map(|_| world.dial()).collect();
    let request = post("/room", "Idempotency-Key: \"k\"\r\n", "once");
    for wire in &wires {
        wire.send(&request);
    }
    let mut bodies: Vec<String> = wires
        .into_iter()
        .map(|mut wire| {
            let answer = wire.answer();
            assert_eq!(answer.status, 202);
            answer.body
        })
        .collect();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let mut wire = world.dial();
    let key = "Idempotency-Key: \"k\"\r\n";
    assert_eq!(ask(&mut wire, post("/room", key, "another")).status, 422);
    assert_eq!(ask(&mut wire, post("/room", "", "last")).status, 202);
    assert_eq!(
        (member.hear(), member.hear()),
        ("once".into(), "last".into())
    );
    drop((member, wire));
    world.end();
}

#[test]
fn who_may_not_publish_is_told_why() {
    let statuses = |change: fn(&mut Config), fields: &str, target: &str| {
        let mut config = config(1);
        change(&mut config);
        let world = World::with(&config);
        let mut wire = world.dial();
        let answer = ask(&mut wire, post(target, fields, "x"));
        drop(wire);
        let refused = world.end();
        assert_eq!(refused.value(Stat::HandshakeUnauthorized), 0);
        (
            answer.status,
            answer.header("www-authenticate").map(str::to_owned),
        )
    };
    let nobody = |config: &mut Config| config.relay.publish = Publish::Nobody;
    let (status, challenge) = statuses(nobody, "", "/");
    assert_eq!(status, 403);
    let described =
        "Bearer error=\"insufficient_scope\", error_description=\"Nobody may publish here.\"";
    assert_eq!(challenge.unwrap(), described);
    let token = |config: &mut Config| {
        config.relay.publish = Publish::Token;
        config.relay.publish_tokens = vec![Token::new("0123456789abcdef").unwrap()];
    };
    assert_eq!(statuses(token, "", "/"), (401, Some("Bearer".into())));
    let wrong = "Authorization: Bearer wrong\r\n";
    assert_eq!(statuses(token, wrong, "/"), (401, Some("Bearer".into())));
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(statuses(token, right, "/"), (202, None));
    assert_eq!(statuses(token, "", "/?token=0123456789abcdef"), (202, None));
    let listed = |config: &mut Config| {
        config.server.allowed_origins = vec!["a.example".parse().unwrap()];
    };
    let foreign = "Origin: https://b.example\r\n";
    assert_eq!(statuses(listed, foreign, "/"), (403, None));
    let ours = "Origin: https://a.example\r\n";
    assert_eq!(statuses(listed, ours, "/"), (202, None));
}

#[test]
fn pages_of_other_sites_learn_what_they_may_do() {
    let preflight = "OPTIONS /room HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\
        Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n";
    let world = World::start();
    let mut wire = world.dial();
    let answer = ask(&mut wire, preflight);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, HEAD, POST")
    );
    let fields = answer.header("access-control-allow-headers").unwrap();
    assert!(fields.contains("Authorization") && fields.contains("Idempotency-Key"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let answer = ask(
        &mut wire,
        post("/room", "Origin: https://a.example\r\n", "x"),
    );
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("Fanwire-Position") && exposed.contains("Retry-After"));
    assert_eq!(
        ask(&mut wire, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status,
        204
    );
    drop(wire);
    world.end();

    let mut config = config(1);
    config.relay.publish = Publish::Nobody;
    config.server.allowed_origins = vec!["a.example".parse().unwrap()];
    let world = World::with(&config);
    let mut wire = world.dial();
    let answer = ask(&mut wire, preflight);
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://a.example"));
    // A page reads the reason of a refusal, too.
    let answer = ask(
        &mut wire,
        post("/room", "Origin: https://a.example\r\n", "x"),
    );
    assert_eq!(answer.status, 403);
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://a.example"));
    let mut wire = world.dial();
    let answer = ask(&mut wire, preflight.replace("a.example", "b.example"));
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    drop(wire);
    world.end();
}

#[test]
fn the_members_of_a_description_are_exact_within_a_second() {
    let world = World::with(&config(4));
    let mut wire = world.dial();
    let mut members = || {
        wire.send("HEAD /room HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = wire.head();
        head.header("fanwire-members")
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    assert_eq!(members(), 0);
    let mut crowd = world.connect_many("/room", 20);
    assert_eq!(members(), 20);
    crowd.truncate(13);
    eventually("the members that have left are not counted", || {
        members() == 13
    });
    drop(crowd);
    eventually("nobody is left", || members() == 0);
    drop(wire);
    world.end();
}

#[test]
fn tls_clients_post_and_are_told_of_wss() {
    let tls = TlsWorld::with(config(2));
    let mut stream = tls.dial();
    let request = post("/room", "Connection: close\r\n", "over TLS");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    let mut stream = tls.dial();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains(" to wss:// instead of https://"),
        "{answer}"
    );
    tls.world.end();
}

#[test]
fn a_proxy_posts_for_many_clients_on_one_connection_and_takes_no_seat() {
    let mut config = config(1);
    let proxy: IpAddr = "127.0.0.1".parse().unwrap();
    config.server.trusted_proxies = vec![ProxySource::Network(proxy.into())];
    config.server.max_connections_per_ip = 1;
    config.limits.messages_per_second = 1;
    config.limits.burst = 1;
    let world = World::with(&config);
    let mut wire = world.dial();
    let mut send = |client: &str| {
        let named = format!("X-Forwarded-For: {client}\r\n");
        ask(&mut wire, post("/room", &named, "x"))
    };
    for n in 1..20 {
        assert_eq!(send(&format!("192.0.2.{n}")).status, 202);
    }
    let answer = send("192.0.2.1");
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    // The connection may still become a WebSocket, and only then takes its seat.
    let upgrade = request("/room").replacen("Host:", "X-Forwarded-For: 192.0.2.1\r\nHost:", 1);
    assert_eq!(ask(&mut wire, &upgrade).status, 101);
    let mut second = world.dial();
    assert_eq!(ask(&mut second, &upgrade).status, 429);
    drop((wire, second));
    world.end();
}

#[test]
fn a_drain_answers_what_it_takes_and_ends_idle_connections() {
    let world = World::start();
    let mut idle = world.dial();
    assert_eq!(ask(&mut idle, post("/room", "", "x")).status, 202);
    let busy = world.dial();
    let part = post("/room", "", "slow");
    busy.send(&part[..part.len() - 1]);
    eventually("its body has begun", || world.total(Stat::PartialBytes) > 0);
    world.relay.shutdown();
    let mut busy = busy;
    let answer = busy.answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("10"));
    busy.expect_end();
    idle.expect_end();
    drop((idle, busy));
    world.join_ended();
}

#[test]
fn a_request_that_comes_while_the_relay_ends_is_told_to_come_back_later() {
    let world = World::with(&config(1));
    let mut idle = world.dial();
    assert_eq!(ask(&mut idle, post("/room", "", "x")).status, 202);
    // It does not answer its Close before it is told to.
    let mut member = world.dial();
    member.upgrade("/room");
    world.relay.shutdown();
    assert_eq!(member.close().0, 1001);
    let answer = ask(&mut idle, post("/room", "", "late"));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(answer.header("connection"), Some("close"));
    idle.expect_end();
    assert_eq!(world.total(Stat::PostedMessages), 1);
    drop((idle, member));
    world.join_ended();
}
