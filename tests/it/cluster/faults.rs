//! Faults that nobody may notice: lost connections, stalls, lost scripts, lost keys.

use std::time::Duration;

use super::engine::Engine;
use super::session::{Listener, Promise, Talker, compare};
use super::{Nodes, for_a_while, metric, section};

/// Two relays with a listener and a talker each, while `torment` does something to the engine. Nobody misses anything.
fn unharmed(torment: impl FnOnce(&Engine, &dyn Fn())) {
    unharmed_with("", torment);
}

/// The same, with more keys of the section `cluster`.
fn unharmed_with(more: &str, torment: impl FnOnce(&Engine, &dyn Fn())) {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::with(2, &section(&engine.url(), more));
    let join = |world| Listener::join(world, "/room");
    let listeners: Vec<_> = nodes.worlds.iter().map(join).collect();
    let names = ["a", "b"].into_iter();
    let talkers: Vec<_> = nodes
        .worlds
        .iter()
        .zip(names)
        .map(|(world, name)| Talker::start(world, "/room", name))
        .collect();
    let go_on = || {
        for talker in &talkers {
            talker.await_more(10);
        }
    };
    go_on();
    torment(&engine, &go_on);
    go_on();
    compare(listeners, talkers, Promise::Whole);
    nodes.end();
}

#[test]
fn connections_for_commands_are_killed_again_and_again() {
    unharmed(|engine, go_on| {
        for _ in 0..10 {
            engine.ask("CLIENT KILL TYPE normal SKIPME yes");
            go_on();
        }
    });
}

#[test]
fn subscriptions_are_killed_again_and_again() {
    unharmed(|engine, go_on| {
        for _ in 0..10 {
            engine.ask("CLIENT KILL TYPE pubsub");
            go_on();
        }
    });
}

#[test]
fn all_connections_are_killed_again_and_again() {
    unharmed(|engine, go_on| {
        for _ in 0..10 {
            engine.ask("CLIENT KILL TYPE pubsub");
            engine.ask("CLIENT KILL TYPE normal SKIPME yes");
            go_on();
        }
    });
}

#[test]
fn the_engine_stands_still_for_a_second() {
    unharmed(|engine, _| {
        engine.freeze();
        for_a_while(Duration::from_secs(1));
        engine.thaw();
    });
}

#[test]
fn the_engine_stands_still_for_five_seconds() {
    unharmed(|engine, _| {
        engine.freeze();
        for_a_while(Duration::from_secs(5));
        engine.thaw();
    });
}

#[test]
fn scripts_and_keys_are_lost() {
    // A relay that takes a busy engine for dead would have nothing to fill its gap from.
    unharmed_with("  io_timeout: 20s", |engine, go_on| {
        engine.ask("SCRIPT FLUSH");
        go_on();
        engine.ask("DEL fanwire:{/room}:s");
        go_on();
        engine.ask("DEL fanwire:{/room}");
        go_on();
        engine.ask("FLUSHALL");
        go_on();
    });
}

#[test]
fn rubbish_on_the_channel_is_ignored() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(1, &engine);
    let world = &nodes.worlds[0];
    let listener = Listener::join(world, "/room");
    let talker = Talker::start(world, "/room", "a");
    let large = "x".repeat(1 << 20);
    for rubbish in ["", "hello", "\0\0\0\0", &large] {
        engine.ask_words(&["PUBLISH", "fanwire:{/room}:c", rubbish]);
        engine.ask_words(&["PUBLISH", "fanwire!hello", rubbish]);
        talker.await_more(5);
    }
    assert_eq!(metric(world, "fanwire_cluster_refused_batches_total"), 4);
    compare(vec![listener], vec![talker], Promise::Whole);
    nodes.end();
}
