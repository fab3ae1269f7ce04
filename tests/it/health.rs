//! The health of the relay as probes see it: `/livez` and `/readyz` while it is full, before and after.

use std::net::{SocketAddr, TcpStream};

use crate::metrics::{scrape, sum};
use crate::support::{World, config, eventually};
use crate::wire::Wire;

/// The status and the body of a page of the metrics port.
pub(crate) fn probe(metrics: SocketAddr, page: &str) -> (u16, String) {
    let mut probe = Wire::over(TcpStream::connect(metrics).unwrap());
    probe.send(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let answer = probe.answer();
    (answer.status, answer.body)
}

#[test]
fn a_relay_that_is_full_is_alive_but_not_ready_until_a_connection_ends() {
    let mut config = config(2);
    config.server.max_connections = 2;
    let world = World::with(&config);
    let metrics = world.relay.metrics_address().unwrap();
    let ready = (200, "ready\n".to_owned());
    let first = world.connect("/room");
    assert_eq!(probe(metrics, "/readyz"), ready);
    // A connection counts before it has joined.
    let second = world.dial();
    eventually("the relay is full", || {
        probe(metrics, "/readyz") == (503, "full\n".to_owned())
    });
    assert_eq!(probe(metrics, "/livez"), (200, "ok\n".to_owned()));
    let limit = sum(&scrape(&world), "fanwire_max_connections");
    assert!((limit - 2.0).abs() < 0.5, "{limit}");
    drop(second);
    eventually("there is room again", || probe(metrics, "/readyz") == ready);
    drop(first);
    world.end();
}
