//! A session and rustls' client, with memory between them.

use std::io::{IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::{Failure, Handshake, MAX_SEALED_BYTES, Session};
use crate::net::conn::Scratch;

/// A pipe that takes a limited number of bytes.
struct Narrow {
    taken: Vec<u8>,
    room: usize,
    calls: usize,
}

impl Narrow {
    fn new(room: usize) -> Self {
        Narrow {
            taken: Vec::new(),
            room,
            calls: 0,
        }
    }
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> std::io::Result<usize> {
        self.calls += 1;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Pair {
    session: Session,
    client: ClientConnection,
    scratch: Vec<u8>,
}

fn configs(
    versions: &[&'static SupportedProtocolVersion],
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

impl Pair {
    fn new() -> Pair {
        Pair::of(rustls::ALL_VERSIONS)
    }

    fn of(versions: &[&'static SupportedProtocolVersion]) -> Pair {
        let (server, client) = configs(versions);
        Pair {
            session: Session::new(server),
            client: ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap(),
            scratch: Scratch::new(false).plain.into_vec(),
        }
    }

    /// After the handshake.
    fn shaken() -> Pair {
        let mut pair = Pair::new();
        pair.shake();
        pair
    }

    fn shake(&mut self) {
        while self.client.is_handshaking() || self.session.is_handshaking() {
            let sent = self.client_bytes();
            assert_eq!(self.open(&sent), 0);
            let mut pipe = Narrow::new(usize::MAX);
            if self.session.holds_back() {
                self.session.flush(&mut pipe, &[]).unwrap();
            }
            self.deliver(&pipe.taken);
        }
    }

    fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn open(&mut self, sealed: &[u8]) -> usize {
        self.session.open(sealed, &mut self.scratch)
    }

    /// The bytes that the client reads.
    fn deliver(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets().unwrap();
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut part).unwrap();
            plain.append(&mut part);
        }
        plain
    }
}

#[test]
fn what_a_client_sends_is_opened_however_it_is_cut() {
    let message = b"forty bytes or so, in two records or more";
    for size in [1, 2, 5, 7, 100, 4096] {
        let mut pair = Pair::shaken();
        assert_eq!(pair.session.handshake(), Some(Handshake::Full));
        pair.client.writer().write_all(&message[..20]).unwrap();
        pair.client.writer().write_all(&message[20..]).unwrap();
        let sealed = pair.client_bytes();
        let mut opened = Vec::new();
        for part in sealed.chunks(size) {
            let count = pair.open(part);
            opened.extend_from_slice(&pair.scratch[..count]);
        }
        assert_eq!(opened, message, "in parts of {size}");
    }
}

#[test]
fn one_read_may_bring_many_long_records() {
    let mut pair = Pair::shaken();
    pair.client.set_buffer_limit(None);
    pair.client.writer().write_all(&vec![7; 60_000]).unwrap();
    let sealed = pair.client_bytes();
    assert_eq!(pair.open(&sealed), 60_000);
    assert!(pair.scratch[..60_000].iter().all(|&byte| byte == 7));
}

#[test]
fn a_write_takes_no_more_than_its_bound_ahead_of_the_kernel() {
    let mut pair = Pair::shaken();
    let mut pipe = Narrow::new(0);
    let long = vec![1; 10 * MAX_SEALED_BYTES];
    let written = pair
        .session
        .flush(
            &mut pipe,
            &[IoSlice::new(&long[..100]), IoSlice::new(&long)],
        )
        .unwrap();
    assert!(written.taken <= MAX_SEALED_BYTES, "{written:?}");
    assert!(written.is_blocked && written.holds_back && !written.has_progressed);
    let more = pair
        .session
        .flush(&mut pipe, &[IoSlice::new(&long)])
        .unwrap();
    assert!(more.taken < 1024, "the bound is full: {more:?}");
}

#[test]
fn what_is_held_back_goes_first_and_everything_arrives_once() {
    let mut pair = Pair::shaken();
    let bytes: Vec<u8> = (0..300_000).map(|n: u32| n as u8).collect();
    let (mut sent, mut arrived) = (0, Vec::new());
    let mut step = 1;
    while sent < bytes.len() || pair.session.holds_back() {
        step = step * 7 % 40_009;
        let mut pipe = Narrow::new(step);
        let rest = &bytes[sent..];
        let slices = [IoSlice::new(rest)];
        let slices = if rest.is_empty() {
            &[][..]
        } else {
            &slices[..]
        };
        let written = pair.session.flush(&mut pipe, slices).unwrap();
        assert_eq!(pipe.calls, 1, "one write call");
        assert_eq!(written.has_progressed, !pipe.taken.is_empty());
        sent += written.taken;
        arrived.append(&mut pair.deliver(&pipe.taken));
    }
    assert_eq!(arrived, bytes);
}

#[test]
fn a_request_in_the_clear_is_told_from_tls_at_its_first_byte() {
    let mut pair = Pair::new();
    assert_eq!(pair.open(b"GET / HTTP/1.1\r\n\r\n"), 0);
    assert!(matches!(pair.session.failure(), Some(Failure::PlainHttp)));
    let mut pipe = Narrow::new(usize::MAX);
    pair.session.tell_failure(&mut pipe).unwrap();
    let answer = String::from_utf8(pipe.taken).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("wss://"),
        "{answer}"
    );
}

#[test]
fn what_is_no_tls_is_answered_by_an_alert() {
    let mut pair = Pair::new();
    assert_eq!(pair.open(&[0xff; 64]), 0);
    let mut pipe = Narrow::new(usize::MAX);
    pair.session.tell_failure(&mut pipe).unwrap();
    assert_eq!(pipe.taken[0], 21, "the type of an alert");
}

#[test]
fn a_goodbye_is_an_end_and_what_follows_it_is_dropped() {
    let mut pair = Pair::shaken();
    pair.client.writer().write_all(b"last words").unwrap();
    pair.client.send_close_notify();
    let mut sealed = pair.client_bytes();
    sealed.extend_from_slice(b"rubbish");
    assert_eq!(pair.open(&sealed), 10);
    assert!(pair.session.is_closed());
}

#[test]
fn a_forged_record_is_a_failure_and_what_came_before_it_is_heard() {
    let mut pair = Pair::shaken();
    pair.client.writer().write_all(b"as it was").unwrap();
    let mut sealed = pair.client_bytes();
    pair.client.writer().write_all(b"forged").unwrap();
    let mut forged = pair.client_bytes();
    *forged.last_mut().unwrap() ^= 1;
    sealed.append(&mut forged);
    assert_eq!(pair.open(&sealed), 9);
    assert_eq!(&pair.scratch[..9], b"as it was");
    assert!(matches!(pair.session.failure(), Some(Failure::Tls(_))));
    let written = pair
        .session
        .flush(&mut Narrow::new(usize::MAX), &[IoSlice::new(b"x")]);
    assert!(written.is_err(), "nothing is sent to it any more");
}

#[test]
fn a_handshake_message_without_end_is_a_failure() {
    let mut pair = Pair::new();
    // A ClientHello of 16 MiB, as far as its header goes, in records of 16 KiB.
    let mut hello = vec![1, 0xff, 0xff, 0xff];
    hello.resize(16 << 10, 0);
    let record = [&[22, 3, 1, 0x40, 0][..], &hello].concat();
    let failed = (0..16).any(|_| {
        pair.open(&record);
        pair.session.failure().is_some()
    });
    assert!(failed);
}

#[test]
fn a_session_of_tls_1_2_ends_before_its_keys_are_used_up() {
    let mut pair = Pair::of(&[&rustls::version::TLS12]);
    pair.shake();
    let limit = pair.session.most_records();
    assert_eq!(limit, 1 << 24);
    pair.session.records = limit - 3;
    let mut pipe = Narrow::new(usize::MAX);
    for _ in 0..2 {
        let written = pair
            .session
            .flush(&mut pipe, &[IoSlice::new(b"x")])
            .unwrap();
        assert_eq!(written.taken, 1);
    }
    assert!(
        pair.session
            .flush(&mut pipe, &[IoSlice::new(b"x")])
            .is_err()
    );
    assert_eq!(pair.deliver(&pipe.taken), b"xx");
}
