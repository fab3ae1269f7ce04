//! Faults that only the order of a worker's mail can show, or a connection in a rare state.

mod tls;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use mio::Waker;

use super::*;
use crate::config::Config;
use crate::ids::ShardId;
use crate::mailbox::Mailbox;
use crate::metrics::stats::Stat;
use crate::net::admission::{Admission, Entry};
use crate::net::listener::Peer;
use crate::net::mail::{Mail, PollWaker, Postbox, ended};
use crate::net::proxy::Preface;
use crate::net::stream::Stream;
use crate::relay::router::Router;
use crate::relay::shard::Settings;
use crate::relay::turn::Host;
use crate::ws::handshake::RefusalKind;

/// The only worker of a relay, its box, and what it publishes.
fn worker() -> (Worker, Postboxes, Arc<Published>) {
    let ([worker], postboxes) = workers(None);
    let published = worker.sockets.published.clone();
    (worker, postboxes, published)
}

/// The workers of a relay, and their boxes. Clients are never pinged.
fn workers<const N: usize>(tls: Option<&Arc<Keeper>>) -> ([Worker; N], Postboxes) {
    let polls = std::array::from_fn::<_, N, _>(|_| Poll::new().unwrap());
    let postboxes: Postboxes = polls
        .iter()
        .map(|poll| Postbox::new(Waker::new(poll.registry(), WAKER).unwrap()))
        .collect();
    let control = Poll::new().unwrap();
    let control_waker = Waker::new(control.registry(), WAKER).unwrap();
    let control: ControlBox = Arc::new(Mailbox::new(PollWaker(control_waker)));
    let clock = Clock::start();
    let mut config = Config::default();
    config.keepalive.ping_interval = std::time::Duration::ZERO;
    let settings = Settings::new(&config, N as u16);
    let router = Router::new(N as u16, 0);
    let mut ids = router.shards();
    let workers = polls.map(|poll| {
        let id = ids.next().expect("a shard for each worker");
        Worker::new(Parts {
            shard: Shard::new(id, settings.clone(), router, clock.now()),
            alarm: Alarm::new(poll.registry(), ALARM).unwrap(),
            poll,
            postboxes: postboxes.clone(),
            control: control.clone(),
            published: Arc::new(Published::default()),
            vitals: Arc::new(Vitals::new(postboxes.clone(), 1)),
            complaints: Arc::default(),
            fill_to: 10,
            seats: Seats::new(0),
            clock,
            tls: tls.cloned(),
            leaves_history: false,
            links: None,
        })
    });
    (workers, postboxes)
}

/// A request for a topic that the first of two shards owns.
fn request() -> String {
    let router = Router::new(2, 0);
    let mut paths = (0..100).map(|n| format!("/{n}"));
    let path = paths.find(|path| router.owner(path) == ShardId(0)).unwrap();
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}

/// Sends mail to a worker, and wakes it.
fn send(postboxes: &Postboxes, to: usize, mail: Mail) {
    postboxes[to].inbox.push(mail, 0);
    postboxes[to].inbox.notify();
}

/// Waits until a worker has as much mail.
fn await_mail(postboxes: &Postboxes, to: usize, count: usize) {
    while postboxes[to].inbox.len() < count {
        std::thread::yield_now();
    }
}

/// A client of `listener`, and its arrival as mail.
fn arrival(listener: &TcpListener, admission: Admission) -> (TcpStream, Mail) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = Stream::Tcp(mio::net::TcpStream::from_std(socket));
    let peer = Peer::Address(client.peer_addr().unwrap().ip());
    (client, Mail::Socket(stream, peer, admission))
}

#[test]
fn a_connection_behind_a_stop_is_not_taken_in() {
    let (worker, postboxes, published) = worker();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (early, late) = (arrival(&listener, None), arrival(&listener, None));
    for mail in [Mail::Drain, early.1, Mail::Stop, late.1] {
        postboxes[0].inbox.push(mail, 0);
    }
    postboxes[0].inbox.notify();
    worker.run().unwrap();
    // The early one was refused, the late one was never seen.
    assert_eq!(published.read().value(Stat::HandshakeShutdown), 1);
}

#[test]
fn the_next_tenant_of_a_slot_is_not_closed_in_place_of_the_last_one() {
    let (worker, postboxes, _) = worker();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let preface = Some(Box::new(Entry::Header(Preface::default(), Peer::Unix)));
    // In a drain, a proxy that has sent no header is closed without a word, and all others are told.
    let (_silent, silent) = arrival(&listener, preface);
    let (mut client, told) = arrival(&listener, None);
    for mail in [silent, Mail::Drain, told] {
        postboxes[0].inbox.push(mail, 0);
    }
    postboxes[0].inbox.notify();
    let running = std::thread::spawn(|| worker.run());
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 503 "), "{heard:?}");
    postboxes[0].inbox.push(Mail::Stop, 0);
    postboxes[0].inbox.notify();
    running.join().unwrap().unwrap();
    assert_eq!(ended(&postboxes), 2, "each connection is over once");
}

#[test]
fn an_inbox_that_is_full_keeps_a_worker_from_reading() {
    let (mut worker, postboxes, _) = worker();
    let mut push = |bytes| {
        let mail = Mail::Surplus(RefusalKind::PerIp);
        postboxes[0].inbox.push(mail, bytes);
        worker.sockets.is_congested()
    };
    assert!(!push(8 << 20));
    assert!(push(1));
}

#[test]
fn a_client_that_moves_to_a_slot_is_not_closed_in_place_of_its_last_tenant() {
    let ([worker, another], postboxes) = workers(None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let preface = Some(Box::new(Entry::Header(Preface::default(), Peer::Unix)));
    // In a drain, a proxy that has sent no header is closed without a word, and all others are told.
    let (_silent, silent) = arrival(&listener, preface);
    postboxes[0].note_arrival();
    for mail in [silent, Mail::Drain] {
        postboxes[0].inbox.push(mail, 0);
    }
    let (mut client, arrived) = arrival(&listener, None);
    postboxes[1].note_arrival();
    send(&postboxes, 1, arrived);
    let other = std::thread::spawn(|| another.run());
    client.write_all(request().as_bytes()).unwrap();
    await_mail(&postboxes, 0, 3);
    let running = std::thread::spawn(|| worker.run());
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 503 "), "{heard:?}");
    for (id, thread) in [running, other].into_iter().enumerate() {
        send(&postboxes, id, Mail::Stop);
        thread.join().unwrap().unwrap();
    }
    assert_eq!(ended(&postboxes), 2, "each connection is over once");
}
