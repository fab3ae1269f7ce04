//! Idle connections: the relay pings them, keeps those that answer and drops the others.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fanwire::config::Config;
use fanwire::server::Stat;
use tungstenite::Message;

use crate::support::{World, config};
use crate::wire::{FIN, Frame, PING, PONG, TEXT, frame};

/// Frequent pings, and a pong timeout long enough for a busy machine.
fn config_that_pings() -> Config {
    let mut config = config(2);
    config.keepalive.ping_interval = Duration::from_millis(50);
    config.keepalive.pong_timeout = Duration::from_secs(2);
    config
}

#[test]
fn a_client_that_does_not_answer_pings_is_dropped_and_one_that_does_stays() {
    let world = World::with(&config_that_pings());
    let mut honest = world.connect("/room");
    let mut silent = world.join("/room");
    let (pinged, pings) = mpsc::channel();
    let honest = thread::spawn(move || {
        loop {
            match honest.next() {
                Message::Ping(_) => pinged.send(()).unwrap(),
                Message::Text(text) => return (honest, text.to_string()),
                other => panic!("{other:?}"),
            }
        }
    });
    let ping = Frame {
        first: FIN | PING,
        payload: Vec::new(),
    };
    assert_eq!(silent.next(), ping);
    let (code, reason) = silent.close();
    assert_eq!((code, &*reason), (3008, "no pong in time"));
    silent.expect_end();
    world.await_total(Stat::DisconnectedPong, 1);
    assert!(
        pings.try_iter().count() > 4,
        "whoever answers is pinged again after the interval, however long it could have taken"
    );
    let mut third = world.connect("/room");
    third.say("unharmed");
    let (honest, text) = honest.join().unwrap();
    assert_eq!(text, "unharmed");
    drop((honest, silent, third));
    assert_eq!(world.end().value(Stat::DisconnectedPong), 1);
}

#[test]
fn anything_that_a_client_sends_is_a_sign_of_life() {
    let world = World::with(&config_that_pings());
    let mut client = world.join("/room");
    // It sends messages but no pong. It is pinged and never dropped.
    for n in 0..20 {
        while client.next().first != FIN | PING {}
        client.send(frame(FIN | TEXT, format!("{n}").as_bytes()));
    }
    client.send(frame(FIN | PONG, b""));
    assert_eq!(world.total(Stat::Disconnections), 0);
    drop(client);
    world.end();
}
