//! Connections whose TLS session has something to do of which no event tells.

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::config::Tls;
use crate::net::conn::Conn;

/// An identity, as the relay keeps it and as a client trusts it.
fn identity() -> (Arc<Keeper>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&cert_file, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    let files = Tls {
        enabled: true,
        cert_file: Some(cert_file),
        key_file: Some(key_file),
        client_ca_file: None,
    };
    let keeper = Keeper::new(&files).unwrap().expect("TLS is on");
    (Arc::new(keeper), made.cert.der().clone())
}

/// The session of a client that trusts this certificate.
fn session(certificate: CertificateDer<'static>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

/// A client that has begun a handshake with the only worker, which could not answer: the socket was full. Returns how many
/// bytes the client has to read before the answer; `None` if the kernel made room too early.
fn unanswered(
    worker: &mut Worker,
    certificate: &CertificateDer<'static>,
) -> Option<(TcpStream, usize)> {
    let postboxes = worker.sockets.postboxes.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut client, arrived) = arrival(&listener, None);
    send(&postboxes, 0, arrived);
    while worker.turn.shard.is_empty() {
        worker.sleep_and_turn().unwrap();
    }
    session(certificate.clone()).write_tls(&mut client).unwrap();
    let mut ahead = 0;
    let mut is_heard = false;
    while !is_heard {
        let now = worker.sockets.clock.now();
        let sleep = worker.turn.sleep(now);
        worker.sockets.wait(sleep, now).unwrap();
        is_heard = worker.sockets.news.iter().any(|(_, news)| news.is_readable);
        while let Ok(written) = the_conn(worker)?.stream_mut().write(&[0; 16 << 10]) {
            ahead += written;
        }
        worker.turn.run(&mut worker.sockets);
    }
    the_conn(worker)?.holds_back().then_some((client, ahead))
}

/// The worker's only connection.
fn the_conn(worker: &mut Worker) -> Option<&mut Conn> {
    worker.sockets.conns.iter_mut().flatten().next()
}

#[test]
fn a_handshake_that_the_socket_did_not_take_is_sent_when_it_does() {
    let (keeper, certificate) = identity();
    let (mut client, ahead, mut worker) = (0..100)
        .find_map(|_| {
            let ([mut worker], _) = workers(Some(&keeper));
            let (client, ahead) = unanswered(&mut worker, &certificate)?;
            Some((client, ahead, worker))
        })
        .expect("a full socket");
    client.read_exact(&mut vec![0; ahead]).unwrap();
    while the_conn(&mut worker).is_some_and(|conn| conn.holds_back()) {
        worker.sleep_and_turn().unwrap();
    }
    let mut record = [0];
    client.read_exact(&mut record).expect("a record follows");
    assert_eq!(record, [22], "the type of a handshake's records");
}

#[test]
fn a_client_that_moves_after_it_has_ended_tls_is_seen_off_although_no_event_tells() {
    let (keeper, certificate) = identity();
    let ([mut worker, another], postboxes) = workers(Some(&keeper));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut client, arrived) = arrival(&listener, None);
    postboxes[1].note_arrival();
    send(&postboxes, 1, arrived);
    let other = std::thread::spawn(|| another.run());
    let mut session = session(certificate);
    session.complete_io(&mut client).unwrap();
    // One read brings both, so the worker that gets the client has nothing more to read.
    let mut bytes = Vec::new();
    session.writer().write_all(request().as_bytes()).unwrap();
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    client.write_all(&bytes).unwrap();
    await_mail(&postboxes, 0, 1);
    worker.sleep_and_turn().unwrap();
    let stats = worker.turn.shard.stats();
    assert_eq!(stats.value(Stat::Connections), 1);
    assert_eq!(stats.value(Stat::DisconnectedLost), 1);
    send(&postboxes, 1, Mail::Stop);
    other.join().unwrap().unwrap();
}
