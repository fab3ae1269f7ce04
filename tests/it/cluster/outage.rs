//! An engine that takes nothing, or is gone, and comes back with its data or without.

use std::time::Duration;

use fanwire::server::Stat;

use super::engine::Engine;
use super::session::{Listener, Promise, Talker, await_close, compare};
use super::{Nodes, for_a_while, metric, section};
use crate::support::eventually;
use crate::wire::{FIN, TEXT, frame};

#[test]
fn an_engine_that_is_full_holds_senders_and_loses_nothing() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(2, &engine);
    let listeners = nodes.listen("/room");
    let talker = Talker::start(&nodes.worlds[0], "/room", "a");
    talker.await_more(10);
    engine.ask("CONFIG SET maxmemory 1");
    let mut before = usize::MAX;
    eventually("nothing goes while it is full", || {
        let count = talker.count();
        let stands_still = count == before;
        before = count;
        for_a_while(Duration::from_millis(300));
        stands_still
    });
    engine.ask("CONFIG SET maxmemory 0");
    talker.await_more(10);
    compare(listeners, vec![talker], Promise::Whole);
    nodes.end();
}

#[test]
fn an_engine_that_comes_back_with_its_data_loses_nothing() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut engine) = Engine::with(&options) else {
        return;
    };
    let nodes = Nodes::start(2, &engine);
    let listeners = nodes.listen("/room");
    let talker = Talker::start(&nodes.worlds[0], "/room", "a");
    for _ in 0..3 {
        talker.await_more(10);
        engine.kill();
        engine.restart();
    }
    talker.await_more(10);
    compare(listeners, vec![talker], Promise::Whole);
    nodes.end();
}

#[test]
fn an_engine_that_comes_back_empty_is_told() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(2, &engine);
    let listeners = nodes.listen("/room");
    let mut plain = nodes.worlds[1].join("/room");
    let talker = Talker::start(&nodes.worlds[0], "/room", "a");
    talker.await_more(10);
    engine.kill();
    engine.restart();
    talker.await_more(10);
    for listener in &listeners {
        eventually("a listener is told", || listener.was_told());
    }
    // A client that cannot be told in another way is closed.
    await_close(&mut plain, 1013);
    drop(plain);
    compare(listeners, vec![talker], Promise::ToldOrWhole);
    nodes.end();
}

#[test]
fn a_long_outage_ends_waiting_senders_and_listeners_stay() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::with(1, &section(&engine.url(), "  outage_timeout: 1s\n"));
    let world = &nodes.worlds[0];
    let listener = Listener::join(world, "/room");
    let mut sender = world.join("/room");
    engine.kill();
    eventually("the engine is lost", || {
        metric(world, "fanwire_cluster_up") == 0
    });
    sender.send(frame(FIN | TEXT, b"it waits"));
    await_close(&mut sender, 1013);
    drop(sender);
    // A new client is refused, a POST too.
    let mut wire = world.dial();
    wire.send("POST /room HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(wire.answer().status, 503);
    let mut wire = world.dial();
    wire.send(crate::wire::request("/room"));
    assert_eq!(wire.answer().status, 503);
    assert_eq!(world.total(Stat::ConnectedClients), 1);
    engine.restart();
    let talker = Talker::start(world, "/room", "a");
    talker.await_more(10);
    listener.await_text("a-5");
    assert!(!listener.texts().contains(&"it waits".to_owned()));
    talker.end();
    listener.end();
    nodes.end();
}
