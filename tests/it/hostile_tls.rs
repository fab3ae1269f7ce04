//! Mistakes and attacks of clients in TLS. Each connection ends as it should, and honest clients notice nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use fanwire::server::Stat;
use rustix::process::Signal;
use rustls::ClientConnection;

use crate::program::Program;
use crate::support::{PATIENCE, config, eventually};
use crate::tls_support::{NAME, TlsClient, TlsStream, TlsWorld, secure, slow_key};
use crate::wire::request;

/// The types of records (RFC 8446, section 5.1).
const ALERT: u8 = 21;

/// Two clients that exchange messages all the time.
struct Witnesses(TlsClient, TlsClient, u32);

impl Witnesses {
    fn join(tls: &TlsWorld) -> Witnesses {
        Witnesses(tls.connect("/witness"), tls.connect("/witness"), 0)
    }

    fn talk(&mut self) {
        self.2 += 1;
        let text = self.2.to_string();
        self.0.say(text.clone());
        assert_eq!((self.0.hear(), self.1.hear()), (text.clone(), text));
    }

    fn leave(mut self) {
        self.talk();
        self.0.leave();
        self.1.leave();
    }
}

fn dial(tls: &TlsWorld) -> TcpStream {
    let stream = TcpStream::connect(tls.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All bytes until the relay ends the connection, by a FIN or a reset.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the connection did not end")
        }
        Ok(_) | Err(_) => rest,
    }
}

/// The first flight of a normal client.
fn hello(tls: &TlsWorld) -> Vec<u8> {
    let mut client = ClientConnection::new(tls.client.clone(), NAME.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A `ClientHello` of TLS 1.0 with the usual offers of its time.
fn old_hello() -> Vec<u8> {
    let mut body = vec![3, 1];
    body.extend([7; 32]);
    // No session, one cipher suite (RSA with AES-128), no compression.
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut bytes = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    bytes.extend(body);
    bytes
}

#[test]
fn old_versions_are_refused_with_an_alert() {
    let tls = TlsWorld::start();
    let mut stream = dial(&tls);
    stream.write_all(&old_hello()).unwrap();
    let answer = rest(&mut stream);
    assert_eq!(answer.first(), Some(&ALERT), "{answer:?}");
    tls.world.await_total(Stat::HandshakeTls, 1);
    tls.world.end();
}

#[test]
fn a_client_that_speaks_another_protocol_inside_is_refused_with_an_alert() {
    let tls = TlsWorld::start();
    let mut client = tls.authority.client(rustls::ALL_VERSIONS);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut stream = tls.dial_as(&Arc::new(client));
    let error = stream.write_all(b"x").unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    tls.world.await_total(Stat::HandshakeTls, 1);
    drop(stream);
    tls.world.end();
}

#[test]
fn garbage_is_answered_by_an_alert_and_harms_nobody() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    let attacks = [
        vec![0; 300],
        vec![0xff; 300],
        b"\x16\x03\x01\xff\xff".to_vec(),
    ];
    for attack in &attacks {
        let mut stream = dial(&tls);
        stream.write_all(attack).unwrap();
        assert_eq!(rest(&mut stream).first(), Some(&ALERT), "{attack:x?}");
        witnesses.talk();
    }
    tls.world
        .await_total(Stat::HandshakeTls, attacks.len() as u64);
    witnesses.leave();
    tls.world.end();
}

#[test]
fn damaged_handshakes_end_and_harm_nobody() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    let hello = hello(&tls);
    let mut attacks = 0;
    for at in (0..hello.len()).step_by(hello.len() / 20) {
        let mut damaged = hello.clone();
        damaged[at] ^= 0x55;
        let mut stream = dial(&tls);
        stream.write_all(&damaged).unwrap();
        // Some get an alert, some make the relay wait for more, and some change nothing.
        stream.shutdown(Shutdown::Write).unwrap();
        rest(&mut stream);
        attacks += 1;
        witnesses.talk();
    }
    witnesses.leave();
    let stats = tls.world.end();
    let failed = stats.value(Stat::HandshakeTls) + stats.value(Stat::HandshakeLost);
    assert_eq!(failed, attacks, "each is counted once");
}

#[test]
fn a_hello_in_packets_or_records_of_one_byte_is_served() {
    let tls = TlsWorld::start();
    let mut pieces = tls.dial();
    let mut bytes = Vec::new();
    pieces.conn.write_tls(&mut bytes).unwrap();
    for byte in &bytes {
        pieces.sock.write_all(&[*byte]).unwrap();
    }
    pieces.write_all(request("/").as_bytes()).unwrap();
    let mut answer = [0; 12];
    pieces.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");

    // RFC 8446, section 5.1: records may cut a handshake message anywhere.
    let mut records = tls.dial();
    let mut bytes = Vec::new();
    records.conn.write_tls(&mut bytes).unwrap();
    let cut: Vec<u8> = bytes[5..]
        .iter()
        .flat_map(|&byte| [22, 3, 1, 0, 1, byte])
        .collect();
    records.sock.write_all(&cut).unwrap();
    records.write_all(request("/").as_bytes()).unwrap();
    records.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    drop((pieces, records));
    tls.world.end();
}

#[test]
fn handshakes_that_trickle_or_never_end_are_cut_at_the_one_deadline() {
    let mut config = config(2);
    config.server.handshake_timeout = Duration::from_millis(300);
    let tls = TlsWorld::with(config);
    let hello = hello(&tls);
    let mut silent = dial(&tls);
    let mut half = dial(&tls);
    half.write_all(&hello[..hello.len() / 2]).unwrap();
    let mut whole = dial(&tls);
    whole.write_all(&hello).unwrap();
    let mut through = tls.dial();
    while through.conn.is_handshaking() {
        through.conn.complete_io(&mut through.sock).unwrap();
    }
    // A byte now and then does not extend the deadline.
    let mut trickle = dial(&tls);
    let mut sent = 0;
    eventually("the trickle is cut", || {
        sent += 1;
        std::thread::sleep(Duration::from_millis(20));
        trickle.write_all(&hello[sent % 100..=sent % 100]).is_err()
            || tls.world.total(Stat::HandshakeTimeout) + tls.world.total(Stat::HandshakeTls) == 5
    });
    for stream in [&mut silent, &mut half, &mut whole, &mut trickle] {
        rest(stream);
    }
    // After the handshake, the relay can answer.
    let mut answer = [0; 12];
    through.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drop(through);
    let stats = tls.world.end();
    assert_eq!(
        stats.value(Stat::HandshakeTimeout) + stats.value(Stat::HandshakeTls),
        5
    );
    assert!(stats.value(Stat::HandshakeTimeout) >= 4);
}

#[test]
fn an_alert_ends_the_connection_before_and_after_the_handshake() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    // CVE-2024-32650: a server must not keep waiting for a client that says goodbye during the handshake.
    for alert in [[1, 0], [2, 40]] {
        let mut stream = dial(&tls);
        stream.write_all(&hello(&tls)).unwrap();
        stream
            .write_all(&[&[ALERT, 3, 3, 0, 2][..], &alert].concat())
            .unwrap();
        rest(&mut stream);
        witnesses.talk();
    }
    let mut client = tls.connect("/");
    client.socket.get_mut().conn.send_close_notify();
    client.socket.get_mut().flush().unwrap();
    rest(&mut client.tcp().try_clone().unwrap());
    tls.world.await_total(Stat::DisconnectedLost, 1);
    drop(client);
    witnesses.leave();
    let stats = tls.world.end();
    assert_eq!(
        stats.value(Stat::HandshakeTls) + stats.value(Stat::HandshakeLost),
        2
    );
}

#[test]
fn a_cut_without_a_close_notify_is_a_normal_end() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    let clients: Vec<TlsClient> = (0..10).map(|_| tls.connect("/")).collect();
    for (n, client) in clients.iter().enumerate() {
        if n % 2 == 0 {
            crate::support::reset(client.tcp());
        }
        client.tcp().shutdown(Shutdown::Write).unwrap();
    }
    tls.world.await_total(Stat::DisconnectedLost, 10);
    drop(clients);
    witnesses.talk();
    witnesses.leave();
    tls.world.end();
}

#[test]
fn a_forged_record_ends_its_connection_and_is_not_relayed() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    let mut forger = tls.connect("/witness");
    let bytes = crate::wire::frame(0x81, b"forged");
    let mut sealed = Vec::new();
    let stream = forger.socket.get_mut();
    stream.conn.writer().write_all(&bytes).unwrap();
    stream.conn.write_tls(&mut sealed).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    stream.sock.write_all(&sealed).unwrap();
    rest(&mut stream.sock);
    tls.world.await_total(Stat::DisconnectedLost, 1);
    witnesses.talk();
    witnesses.leave();
    tls.world.end();
}

#[test]
fn endless_key_updates_end_the_connection() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    let client = Arc::new(tls.authority.client(&[&rustls::version::TLS13]));
    let mut client = tls.connect_as(&client, "/");
    // It keeps asking and never reads. The relay must neither loop nor collect answers.
    for _ in 0..200 {
        let stream = client.socket.get_mut();
        stream.conn.refresh_traffic_keys().unwrap();
        if stream.conn.write_tls(&mut stream.sock).is_err() {
            break;
        }
        witnesses.talk();
    }
    tls.world.await_total(Stat::DisconnectedLost, 1);
    drop(client);
    witnesses.leave();
    tls.world.end();
}

#[test]
fn a_turn_serves_only_as_many_handshakes_of_a_flood_as_it_has_time_for() {
    const FLOOD: usize = 400;
    // If a turn had time for 32 handshakes, seven turns of each worker would be enough.
    const LEAST_TURNS: f64 = 40.0;
    let (files, client) = slow_key();
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let tls = format!(", tls: {{enabled: true, cert_file: {cert:?}, key_file: {key:?}}}");
    let program = Program::with_server(&tls, "");
    let mut member = TlsClient::secure(program.address, &client, "/");
    let dial = |_| secure(&client, TcpStream::connect(program.address).unwrap());
    let mut flood: Vec<TlsStream> = (0..FLOOD).map(dial).collect();
    let turns = || program.metric("fanwire_shard_turns_total");
    let before = turns();
    // So that all of them have arrived when the next turn begins.
    program.signal(Signal::STOP);
    for stream in &mut flood {
        stream.conn.write_tls(&mut stream.sock).unwrap();
    }
    program.signal(Signal::CONT);
    for stream in &mut flood {
        // The first byte of the relay's flight. The relay has signed by then.
        stream.sock.peek(&mut [0]).unwrap();
    }
    let taken = turns() - before;
    assert!(taken >= LEAST_TURNS, "{FLOOD} handshakes in {taken} turns");
    member.say("unharmed");
    assert_eq!(member.hear(), "unharmed");
    member.leave();
    drop(flood);
    program.signal(Signal::TERM);
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn records_with_nothing_but_keys_wait_while_members_talk() {
    let tls = TlsWorld::with(config(1));
    let mut witnesses = Witnesses::join(&tls);
    let client = Arc::new(tls.authority.client(&[&rustls::version::TLS13]));
    let mut clients: Vec<TlsClient> = (0..8).map(|_| tls.connect_as(&client, "/")).collect();
    // Inside one long frame, so that their data never becomes a message: 31 key updates, then a byte that resets
    // rustls' count.
    let header = crate::wire::header(0x82, 1 << 20);
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    for client in &mut clients {
        let stream = client.socket.get_mut();
        stream.conn.set_buffer_limit(None);
        stream.conn.writer().write_all(&header).unwrap();
        for _ in 0..100 {
            for _ in 0..31 {
                stream.conn.refresh_traffic_keys().unwrap();
            }
            stream.conn.writer().write_all(&[0]).unwrap();
        }
        let mut bytes = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut bytes).unwrap();
        }
        sealed.push(bytes);
    }
    for (client, bytes) in clients.iter_mut().zip(&sealed) {
        client.socket.get_mut().sock.write_all(bytes).unwrap();
    }
    for _ in 0..20 {
        witnesses.talk();
    }
    // No client has broken a rule, so all may continue.
    assert_eq!(tls.world.total(Stat::Disconnections), 0);
    drop(clients);
    tls.world.await_total(Stat::DisconnectedLost, 8);
    witnesses.leave();
    tls.world.end();
}

#[test]
fn bytes_after_our_close_notify_are_not_even_decrypted() {
    let tls = TlsWorld::start();
    let mut witnesses = Witnesses::join(&tls);
    let mut violator = tls.connect("/");
    let stream = violator.socket.get_mut();
    // An unmasked frame: the relay sends the reason, shuts down its side and keeps reading for a while.
    stream.write_all(&[0x81, 0]).unwrap();
    assert_eq!(u16::from(violator.expect_close().code), 1002);
    let stream = violator.socket.get_mut();
    stream.sock.write_all(&[23, 3, 3, 0, 40]).unwrap();
    stream.sock.write_all(&[7; 40]).unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    rest(&mut stream.sock);
    witnesses.talk();
    witnesses.leave();
    tls.world.end();
}

#[test]
fn a_full_relay_closes_new_connections_and_so_does_one_that_shuts_down() {
    let mut config = config(1);
    config.server.max_connections = 1;
    let tls = TlsWorld::with(config);
    let mut member = tls.connect("/");
    rest(&mut dial(&tls));
    tls.world.await_total(Stat::HandshakeCapacity, 1);
    member.say("unharmed");
    assert_eq!(member.hear(), "unharmed");
    tls.world.relay.shutdown();
    assert_eq!(u16::from(member.expect_close().code), 1001);
    tls.world.join_ended();
}

#[test]
fn what_comes_behind_a_broken_session_does_not_count_as_received() {
    let tls = TlsWorld::start();
    let mut stream = dial(&tls);
    // No record of any version, and ciphertext behind it.
    stream.write_all(&[0xff; 5]).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        // The relay may close before all of it is written.
        let _ = writer.write_all(&vec![0x17; 256 << 10]);
        let _ = writer.shutdown(Shutdown::Write);
    });
    rest(&mut stream);
    flood.join().unwrap();
    tls.world.await_total(Stat::HandshakeTls, 1);
    assert_eq!(tls.world.end().value(Stat::BytesIn), 0);
}
