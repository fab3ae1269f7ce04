//! What only the inside of the relay can bring about.

use std::net::TcpStream;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::{Relay, RelayHandle, RunError};
use crate::config::Config;
use crate::ids::ShardId;
use crate::metrics::stats::Stat;
use crate::net::mail::Report;

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
