//! What only the inside of the relay can bring about.

use std::net::TcpStream;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::{Relay, RunError};
use crate::config::Config;
use crate::ids::ShardId;
use crate::metrics::stats::Stat;
use crate::net::mail::Report;

#[test]
fn when_a_worker_fails_the_members_of_the_others_are_told_before_the_relay_ends() {
    let mut config = Config::default();
    config.server.host = "127.0.0.1".into();
    config.server.port = 0;
    config.server.workers = 2;
    config.metrics.enabled = false;
    let relay = Relay::start(&config).unwrap();
    let connect = |_| -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(relay.address()).unwrap();
        tungstenite::client("ws://localhost/room", stream)
            .unwrap()
            .0
    };
    let mut clients: Vec<_> = (0..4).map(connect).collect();
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
