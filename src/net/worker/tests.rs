//! Faults that only the order of a worker's mail can show.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use mio::Waker;

use super::*;
use crate::config::Config;
use crate::ids::ShardId;
use crate::mailbox::Mailbox;
use crate::metrics::stats::Stat;
use crate::net::admission::{Admission, Entry};
use crate::net::mail::{Mail, PollWaker, Postbox, ended};
use crate::net::proxy::Preface;
use crate::net::stream::Stream;
use crate::relay::router::Router;
use crate::relay::shard::Settings;
use crate::relay::turn::Host;
use crate::ws::handshake::RefusalKind;

/// The only worker of a relay, its box, and what it publishes.
fn worker() -> (Worker, Postboxes, Arc<Published>) {
    let (poll, control) = (Poll::new().unwrap(), Poll::new().unwrap());
    let postbox = Postbox::new(Waker::new(poll.registry(), WAKER).unwrap());
    let postboxes: Postboxes = [postbox].into();
    let control_waker = Waker::new(control.registry(), WAKER).unwrap();
    let (clock, published) = (Clock::start(), Arc::new(Published::default()));
    let settings = Settings::new(&Config::default(), 1);
    let router = Router::new(1, 0);
    let worker = Worker::new(Parts {
        shard: Shard::new(ShardId(0), settings, router, clock.now()),
        alarm: Alarm::new(poll.registry(), ALARM).unwrap(),
        poll,
        postboxes: postboxes.clone(),
        control: Arc::new(Mailbox::new(PollWaker(control_waker))),
        published: published.clone(),
        fill_to: 0,
        seats: None,
        clock,
        tls: None,
    });
    (worker, postboxes, published)
}

/// A client of `listener`, and its arrival as mail.
fn arrival(listener: &TcpListener, admission: Admission) -> (TcpStream, Mail) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = Stream::Tcp(mio::net::TcpStream::from_std(socket));
    (client, Mail::Socket(stream, admission))
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
    let preface = Some(Box::new(Entry::Header(Preface::default())));
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
