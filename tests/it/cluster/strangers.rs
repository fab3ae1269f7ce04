//! Relays that do not fit: other settings, another version.

use fanwire::config::Config;
use fanwire::internals::cluster::{Hello, NodeId, Shared, VERSION};

use super::engine::Engine;
use super::session::{Listener, Promise, Talker, compare};
use super::{Nodes, metric, section};
use crate::support::{World, config, eventually};
use crate::wire::Wire;

/// The answer to `/readyz`.
fn readiness(world: &World) -> String {
    let address = world.relay.metrics_address().expect("metrics are on");
    let mut wire = Wire::over(std::net::TcpStream::connect(address).unwrap());
    wire.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    wire.answer().body
}

#[test]
fn a_relay_with_other_settings_does_not_get_ready_and_the_others_stay_ready() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(1, &engine);
    let right = &nodes.worlds[0];
    eventually("it is ready", || readiness(right) == "ready\n");
    let mut other = config(1);
    let section = section(&engine.url(), "");
    other.cluster = Config::from_yaml(&section, "test").unwrap().cluster;
    other.relay.echo = false;
    let wrong = World::with(&other);
    eventually("both have heard the other", || {
        [&wrong, right]
            .iter()
            .all(|world| metric(world, "fanwire_cluster_mismatched_peers") >= 1)
    });
    assert_eq!(readiness(&wrong), "joining the cluster\n");
    assert_eq!(readiness(right), "ready\n");
    wrong.end();
    nodes.end();
}

#[test]
fn a_relay_of_another_version_is_named_and_its_messages_are_ignored() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(1, &engine);
    let world = &nodes.worlds[0];
    let listener = Listener::join(world, "/room");
    let talker = Talker::start(world, "/room", "a");
    let hello = Hello {
        version: VERSION + 2,
        node: NodeId(7),
        shared: Shared {
            engines: 1,
            prefix: "fanwire".into(),
            topics: "path".into(),
            history: true,
            echo: true,
            max_message_bytes: 1 << 20,
        },
    };
    engine.ask_words(&["PUBLISH", "fanwire!hello", &hello.to_string()]);
    let newer = format!("{}{}", "\0".repeat(16), "\t".repeat(60));
    engine.ask_words(&["PUBLISH", "fanwire:{/room}:c", &newer]);
    talker.await_more(10);
    eventually("it is counted", || {
        metric(world, "fanwire_cluster_mismatched_peers") >= 1
            && metric(world, "fanwire_cluster_refused_batches_total") >= 1
    });
    compare(vec![listener], vec![talker], Promise::Whole);
    nodes.end();
}
