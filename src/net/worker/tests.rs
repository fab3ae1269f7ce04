//! Faults that only the order of a worker's mail can show.

use std::net::{TcpListener, TcpStream};

use mio::Waker;

use super::*;
use crate::config::Config;
use crate::mailbox::Mailbox;
use crate::metrics::stats::Stat;
use crate::net::mail::{Mail, PollWaker, Postbox};
use crate::net::stream::Stream;
use crate::relay::router::Router;
use crate::relay::shard::Settings;

#[test]
fn a_connection_behind_a_stop_is_not_taken_in() {
    let (poll, control) = (Poll::new().unwrap(), Poll::new().unwrap());
    let postbox = Postbox::new(Waker::new(poll.registry(), WAKER).unwrap());
    let postboxes: Postboxes = [postbox].into();
    let control_waker = Waker::new(control.registry(), WAKER).unwrap();
    let (clock, published) = (Clock::start(), Arc::new(Published::default()));
    let settings = Settings::new(&Config::default(), 1);
    let router = Router::new(1, 0);
    let worker = Worker::new(Parts {
        shard: Shard::new(ShardId(0), settings, router, clock.now()),
        id: ShardId(0),
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let arrival = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = Stream::Tcp(mio::net::TcpStream::from_std(socket));
        (client, Mail::Socket(stream, None))
    };
    let (early, late) = (arrival(), arrival());
    for mail in [Mail::Drain, early.1, Mail::Stop, late.1] {
        postboxes[0].inbox.push(mail, 0);
    }
    postboxes[0].inbox.notify();
    worker.run().unwrap();
    // The early one was refused, the late one was never seen.
    assert_eq!(published.read().value(Stat::HandshakeShutdown), 1);
}
