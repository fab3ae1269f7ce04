//! Clients with TLS: the relay serves them like others, shows its certificate, and can reload it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use fanwire::config::SlowConsumerPolicy;
use fanwire::server::Stat;
use rustix::process::Signal;
use rustls::ProtocolVersion;
use tungstenite::Message;

use crate::metrics::{case, scrape, sum};
use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::tls_support::{Authority, Files, TlsClient, TlsWorld, parse};
use crate::wire::{FIN, TEXT, frame, request};

#[test]
fn a_message_reaches_every_client_in_the_same_order() {
    let tls = TlsWorld::start();
    let mut clients: Vec<TlsClient> = (0..6).map(|_| tls.connect("/room")).collect();
    for n in 0..50 {
        for client in &mut clients {
            client.say(n.to_string());
        }
    }
    let heard: Vec<Vec<String>> = clients
        .iter_mut()
        .map(|client| (0..300).map(|_| client.hear()).collect())
        .collect();
    for other in &heard[1..] {
        assert_eq!(other, &heard[0]);
    }
    for client in clients {
        client.leave();
    }
    let stats = tls.world.end();
    assert_eq!(stats.value(Stat::Delivered), 6 * 300);
    assert_eq!(
        stats.value(Stat::TlsFull) + stats.value(Stat::TlsResumed),
        6
    );
}

#[test]
fn both_versions_work_with_http_1_1_inside() {
    let tls = TlsWorld::start();
    for (version, number) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut client = tls.authority.client(&[version]);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = tls.connect_as(&Arc::new(client), "/");
        client.say("hello");
        assert_eq!(client.hear(), "hello");
        assert_eq!(client.tls().protocol_version(), Some(number));
        assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        client.leave();
    }
    tls.world.end();
}

#[test]
fn large_messages_pass_whole_in_both_directions() {
    let tls = TlsWorld::start();
    let mut sender = tls.connect("/");
    let mut reader = tls.connect("/");
    for size in [0, 1, 16_384, 65_535, 65_536, 1 << 20] {
        let payload: Vec<u8> = (0..size).map(|n: usize| (n * 31) as u8).collect();
        sender.send(Message::binary(payload.clone()));
        for client in [&mut sender, &mut reader] {
            assert_eq!(client.next(), Message::binary(payload.clone()), "{size}");
        }
    }
    sender.leave();
    reader.leave();
    tls.world.end();
}

#[test]
fn a_frame_in_the_same_record_as_the_request_is_served_and_so_is_one_in_many() {
    let tls = TlsWorld::start();
    let mut stream = tls.dial();
    let mut bytes = request("/").into_bytes();
    bytes.extend(frame(FIN | TEXT, b"early"));
    stream.write_all(&bytes).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut echo = [0; 7];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo[2..], b"early");
    for byte in frame(FIN | TEXT, b"piece") {
        stream.write_all(&[byte]).unwrap();
    }
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo[2..], b"piece");
    drop(stream);
    tls.world.end();
}

#[test]
fn the_end_in_the_record_of_the_request_comes_after_the_101_and_what_is_owed() {
    let tls = TlsWorld::start();
    for n in 0..8 {
        let mut stream = tls.dial();
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let mut bytes = request(&format!("/room/{n}")).into_bytes();
        bytes.extend(frame(FIN | TEXT, b"last words"));
        stream.conn.writer().write_all(&bytes).unwrap();
        // Some clients end TLS before they end TCP, some do not.
        if n % 2 == 0 {
            stream.conn.send_close_notify();
        }
        stream.conn.write_tls(&mut stream.sock).unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
        let reason = b"you ended the connection without a Close";
        let owed = [b"\x81\x0alast words\x88\x2a\x03\xe8".as_slice(), reason].concat();
        assert!(answer.ends_with(&owed), "{answer:?}");
    }
    tls.world.await_total(Stat::DisconnectedLost, 8);
    tls.world.end();
}

#[test]
fn a_session_is_resumed_from_its_ticket() {
    let tls = TlsWorld::start();
    let mut first = tls.connect("/");
    // The ticket comes after the handshake. A client that has received a message has it.
    first.say("hello");
    first.hear();
    first.leave();
    assert_eq!(tls.world.total(Stat::TlsResumed), 0);
    tls.connect("/").leave();
    let stats = tls.world.end();
    assert_eq!(stats.value(Stat::TlsFull), 1);
    assert_eq!(stats.value(Stat::TlsResumed), 1);
}

#[test]
fn with_a_client_ca_only_clients_with_its_certificates_are_served() {
    let tls = TlsWorld::prepare(config(2), |config, authority, files| {
        std::fs::write(files.path("ca.pem"), authority.pem()).unwrap();
        config.server.tls.client_ca_file = Some(files.path("ca.pem"));
    });
    let own = tls.authority.client_with(&tls.authority.issue());
    let foreign = tls.authority.client_with(&Authority::new().issue());
    let mut known = tls.connect_as(&Arc::new(own), "/");
    known.say("hello");
    assert_eq!(known.hear(), "hello");
    for unknown in [Arc::new(foreign), tls.client.clone()] {
        let mut stream = tls.dial_as(&unknown);
        // In TLS 1.3, the client considers the handshake complete before the relay refuses it.
        let _ = stream.write_all(request("/").as_bytes());
        let error = stream.read(&mut [0]).unwrap_err().to_string();
        assert!(error.contains("alert"), "{error}");
    }
    tls.world.await_total(Stat::HandshakeTls, 2);
    known.leave();
    let stats = tls.world.end();
    assert_eq!(stats.value(Stat::Connections), 1);
}

/// The certificate that a new connection gets.
fn shown(address: SocketAddr, authority: &Authority) -> Vec<u8> {
    let client = Arc::new(authority.client(rustls::ALL_VERSIONS));
    let client = TlsClient::secure(address, &client, "/");
    let shown = client.tls().peer_certificates().unwrap()[0].to_vec();
    client.leave();
    shown
}

const EXPIRY: &str = "fanwire_tls_certificate_expiry_timestamp_seconds";

fn expiry(tls: &TlsWorld) -> i64 {
    sum(&scrape(&tls.world), EXPIRY) as i64
}

/// The number of reloads with this result.
fn reloads(tls: &TlsWorld, result: &str) -> i64 {
    let scrape = scrape(&tls.world);
    case(&scrape, "fanwire_tls_reloads_total", "result", result) as i64
}

#[test]
fn new_connections_get_the_new_certificate_and_old_ones_continue() {
    let tls = TlsWorld::start();
    let mut old = tls.connect("/room");
    let first = expiry(&tls);
    let renewed = tls.authority.issue_until(2095);
    tls.files.replace(&renewed);
    tls.world.relay.reload();
    eventually("the certificate is read again", || reloads(&tls, "ok") == 1);
    assert_eq!(
        shown(tls.address(), &tls.authority),
        parse(&renewed.cert).to_vec()
    );
    assert!(expiry(&tls) > first + 4 * 365 * 86_400);
    let mut new = tls.connect("/room");
    new.say("both");
    assert_eq!((old.hear(), new.hear()), ("both".into(), "both".into()));
    old.leave();
    new.leave();
    tls.world.end();
}

#[test]
fn sighup_makes_the_program_reload_its_certificate() {
    let authority = Authority::new();
    let (first, second) = (authority.issue(), authority.issue());
    let files = Files::of(&first);
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let tls = format!(", tls: {{enabled: true, cert_file: {cert:?}, key_file: {key:?}}}");
    let mut program = Program::with_server(&tls, "");
    assert_eq!(
        shown(program.address, &authority),
        parse(&first.cert).to_vec()
    );
    files.replace(&second);
    program.signal(Signal::HUP);
    program.await_log("read again");
    assert_eq!(
        shown(program.address, &authority),
        parse(&second.cert).to_vec()
    );
    std::fs::write(&key, "rubbish").unwrap();
    program.signal(Signal::HUP);
    let line = program.await_log("stay in force");
    assert!(
        line.contains("WARN") && line.contains("key.pem") && line.contains("no private key"),
        "{line}"
    );
    assert_eq!(
        shown(program.address, &authority),
        parse(&second.cert).to_vec()
    );
    program.signal(Signal::TERM);
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn unusable_files_leave_the_old_certificate_in_use_and_are_counted() {
    let tls = TlsWorld::start();
    let before = shown(tls.address(), &tls.authority);
    let other = tls.authority.issue();
    let mut failures = 0;
    for (name, text) in [
        ("cert.pem", "rubbish"),
        ("cert.pem", &*other.cert),
        ("key.pem", ""),
    ] {
        std::fs::write(tls.files.path(name), text).unwrap();
        tls.world.relay.reload();
        failures += 1;
        eventually("the attempt is counted", || {
            reloads(&tls, "failed") == failures
        });
        assert_eq!(shown(tls.address(), &tls.authority), before, "{name}");
    }
    std::fs::remove_file(tls.files.path("cert.pem")).unwrap();
    tls.world.relay.reload();
    eventually("the attempt is counted", || {
        reloads(&tls, "failed") == failures + 1
    });
    assert_eq!(reloads(&tls, "ok"), 0);
    tls.files.replace(&other);
    tls.world.relay.reload();
    eventually("the certificate is read again", || reloads(&tls, "ok") == 1);
    assert_eq!(
        shown(tls.address(), &tls.authority),
        parse(&other.cert).to_vec()
    );
    tls.world.end();
}

#[test]
fn without_tls_there_is_no_expiry_metric() {
    let world = World::start();
    let scrape = scrape(&world);
    let is_shown = |name: &str| scrape.samples.iter().any(|sample| sample.metric == name);
    assert!(is_shown("fanwire_tls_reloads_total"));
    assert!(!is_shown(EXPIRY));
    world.end();
}

#[test]
fn messages_of_one_turn_leave_in_one_write_per_member() {
    const BURST: usize = 200;
    let tls = TlsWorld::with(config(1));
    let mut publisher = tls.connect("/");
    let mut readers: Vec<TlsClient> = (0..5).map(|_| tls.connect("/")).collect();
    // A client that receives this has also got its 101 and its ticket.
    publisher.say("begin");
    publisher.hear();
    for reader in &mut readers {
        reader.hear();
    }
    tls.world.await_total(Stat::Delivered, 6);
    let writes_before = tls.world.total(Stat::WritesFull);
    // One record, one read, one turn.
    let mut burst = Vec::new();
    for n in 0..BURST {
        burst.extend(frame(FIN | TEXT, n.to_string().as_bytes()));
    }
    let stream = publisher.socket.get_mut();
    stream.conn.writer().write_all(&burst).unwrap();
    stream.flush().unwrap();
    for client in readers.iter_mut().chain([&mut publisher]) {
        for n in 0..BURST {
            assert_eq!(client.hear(), n.to_string());
        }
    }
    tls.world.await_total(Stat::Delivered, 6 + 6 * BURST as u64);
    assert_eq!(tls.world.total(Stat::WritesFull) - writes_before, 6);
    publisher.leave();
    for reader in readers {
        reader.leave();
    }
    tls.world.end();
}

#[test]
fn a_laggard_is_treated_as_without_tls_and_its_backlog_waits_in_the_log() {
    const MESSAGE: usize = 16 << 10;
    const MAX_LAG: usize = 256 << 10;
    for policy in [SlowConsumerPolicy::Disconnect, SlowConsumerPolicy::Drop] {
        let mut config = config(2);
        config.limits.max_message_bytes = MESSAGE;
        config.slow_consumer.policy = policy;
        config.slow_consumer.max_lag_bytes = MAX_LAG;
        let tls = TlsWorld::with(config);
        let mut publisher = tls.connect("/");
        let mut laggard = tls.connect_narrowly("/");
        let judged = |tls: &TlsWorld| {
            tls.world.total(Stat::DisconnectedLag) + tls.world.total(Stat::Dropped)
        };
        let mut sent = 0;
        while judged(&tls) == 0 {
            assert!(sent < 4000, "never judged");
            publisher.send(Message::binary(vec![sent as u8; MESSAGE]));
            publisher.next();
            sent += 1;
            let held = tls.world.total(Stat::LogBytes) as usize;
            assert!(held <= MAX_LAG + 3 * MESSAGE, "the log holds {held}");
        }
        publisher.say("end");
        publisher.next();
        let mut heard = 0;
        // The messages are complete and in order, and then comes the Close, or a gap.
        let last = loop {
            match laggard.next() {
                Message::Binary(bytes) => {
                    assert!(bytes.iter().all(|&byte| byte == bytes[0]), "torn");
                    heard += 1;
                }
                other => break other,
            }
        };
        if policy == SlowConsumerPolicy::Drop {
            assert_eq!(last, Message::text("end"));
            assert_eq!(heard + tls.world.total(Stat::Dropped), sent);
            laggard.leave();
        } else {
            let Message::Close(Some(close)) = last else {
                panic!("{last:?}");
            };
            assert_eq!(u16::from(close.code), 1013);
            laggard.expect_end();
        }
        publisher.leave();
        tls.world.end();
    }
}

#[test]
fn the_shutdown_says_going_away_and_ends_tls_in_order() {
    let tls = TlsWorld::start();
    let mut clients: Vec<TlsClient> = (0..4).map(|_| tls.connect("/")).collect();
    tls.world.relay.shutdown();
    for client in &mut clients {
        assert_eq!(u16::from(client.expect_close().code), 1001);
    }
    tls.world.join_ended();
}

#[test]
fn a_client_without_tls_gets_an_answer_that_it_understands() {
    let tls = TlsWorld::start();
    let stream = std::net::TcpStream::connect(tls.address()).unwrap();
    let upgrade = tungstenite::client("ws://localhost/", stream);
    assert!(upgrade.unwrap_err().to_string().contains("400"));
    let mut wire = tls.world.dial();
    wire.send(request("/"));
    let answer = wire.answer();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("wss://"), "{answer:?}");
    assert!(
        answer.body.contains("https://") && answer.header("date").is_some(),
        "{answer:?}"
    );
    wire.expect_end();
    drop(wire);
    tls.world.await_total(Stat::HandshakeTls, 2);
    tls.world.end();
}
