//! What only the inside of the relay can bring about.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mio::{Poll, Waker};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::control;
use super::crew::{Crew, Work};
use super::{Relay, RelayHandle, RunError, Workers};
use crate::config::Config;
use crate::ids::ShardId;
use crate::mailbox::Mailbox;
use crate::metrics::stats::Stat;
use crate::net::mail::{ControlBox, PollWaker, Report};

/// A relay that spreads even a handful of clients over so many workers.
fn relay_with(workers: usize) -> RelayHandle {
    let mut config = Config::default();
    config.server.host = "127.0.0.1".into();
    config.server.port = 0;
    config.server.workers = workers;
    config.server.fill_workers_to = 0;
    config.metrics.enabled = false;
    Relay::start(&config).unwrap()
}

fn connect(relay: &RelayHandle, topic: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(relay.address()).unwrap();
    let url = format!("ws://localhost/{topic}");
    tungstenite::client(url, stream).unwrap().0
}

#[test]
fn workers_take_turns_at_those_who_arrive_wherever_these_go_then() {
    const WORKERS: usize = 4;
    const ARRIVALS: u64 = 256;
    let relay = relay_with(WORKERS);
    let crowd: Vec<_> = (0..32 * WORKERS)
        .map(|_| connect(&relay, "crowd"))
        .collect();
    let moved = || -> Vec<u64> {
        let shards = relay.published.iter();
        shards.map(|shard| shard.value(Stat::Transferred)).collect()
    };
    let before = moved();
    let arrivals: Vec<_> = (0..ARRIVALS)
        .map(|n| connect(&relay, &n.to_string()))
        .collect();
    // Of those that each was given, one in so many was its own already; and some had no room where they belong.
    for (after, before) in moved().into_iter().zip(before) {
        let least = ARRIVALS / WORKERS as u64 / 3;
        assert!(after - before >= least, "{} have moved", after - before);
    }
    drop((crowd, arrivals));
    relay.shutdown();
    relay.join().unwrap();
}

#[test]
fn when_a_worker_fails_the_members_of_the_others_are_told_before_the_relay_ends() {
    let relay = relay_with(2);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&relay, "room")).collect();
    // As a worker says it whose thread has ended; this one's goes on, and does what the others do.
    relay
        .control
        .push(Report::Failed(ShardId(1), "a planted fault".into()), 0);
    relay.control.notify();
    for client in &mut clients {
        let Message::Close(Some(close)) = client.read().unwrap() else {
            panic!("a Close with a code was expected");
        };
        assert_eq!(close.code, CloseCode::Error);
    }
    let published = relay.published.clone();
    let error = relay.join().unwrap_err();
    assert!(
        matches!(&error, RunError::Worker(ShardId(1), reason) if reason == "a planted fault"),
        "{error}"
    );
    let told: u64 = published
        .iter()
        .map(|shard| shard.value(Stat::DisconnectedInternal))
        .sum();
    assert_eq!(told, 4);
}

/// The inbox of a control thread, and the event loop that its waker needs.
fn control_box() -> (ControlBox, Poll) {
    let poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), control::WAKER).unwrap();
    (Arc::new(Mailbox::new(PollWaker(waker))), poll)
}

#[test]
fn when_a_worker_cannot_be_started_the_ones_that_run_are_stopped_and_joined() {
    let (control, _poll) = control_box();
    let workers = Workers::build(&Config::default(), 3, 100, None, &control, None).unwrap();
    let ended: [Arc<AtomicBool>; 2] = Default::default();
    let mut threads = ended.clone().into_iter();
    let spawn = |name: String, work: Work| {
        let Some(ended) = threads.next() else {
            return Err(io::Error::other(format!("no thread for {name}")));
        };
        thread::Builder::new().spawn(move || {
            work();
            ended.store(true, Ordering::SeqCst);
        })
    };
    let Err(error) = Crew::start_with(spawn, workers.workers, workers.postboxes, &control) else {
        panic!("three workers were started with two threads");
    };
    assert_eq!(error.to_string(), "no thread for worker-2");
    assert!(ended.iter().all(|ended| ended.load(Ordering::SeqCst)));
}
