//! Two relays and more, all well: one order, and positions that hold on all of them.

use super::engine::Engine;
use super::session::{Listener, Promise, Talker, compare};
use super::{Nodes, metric, section};
use crate::support::eventually;
use crate::wire::Wire;

#[test]
fn clients_of_three_relays_hear_one_order() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(3, &engine);
    let worlds = &nodes.worlds;
    let listeners: Vec<_> = worlds
        .iter()
        .flat_map(|world| {
            [
                Listener::join(world, "/room"),
                Listener::join(world, "/room"),
            ]
        })
        .collect();
    let talkers: Vec<_> = worlds
        .iter()
        .enumerate()
        .flat_map(|(at, world)| {
            ["a", "b"].map(|name| Talker::start(world, "/room", &format!("{name}{at}")))
        })
        .collect();
    for talker in &talkers {
        talker.await_more(100);
    }
    compare(listeners, talkers, Promise::Whole);
    nodes.end();
}

#[test]
fn topics_are_spread_over_engines_and_their_clients_hear_each_other() {
    let (Some(one), Some(other)) = (Engine::start(), Engine::start()) else {
        return;
    };
    let section = section(&one.url(), "").replace(
        "engines: [",
        &format!("engines: [{{name: other, url: '{}'}}, ", other.url()),
    );
    let nodes = Nodes::with(2, &section);
    let [first, second] = &nodes.worlds[..] else {
        unreachable!("there are two");
    };
    for room in 0..10 {
        let path = format!("/room/{room}");
        let listener = Listener::join(second, &path);
        let talker = Talker::start(first, &path, "a");
        talker.await_more(3);
        compare(vec![listener], vec![talker], Promise::Whole);
    }
    for engine in [&one, &other] {
        let topics = engine.ask("KEYS fanwire:{*}");
        let count = topics.items().expect("a list").len();
        assert!((1..=9).contains(&count), "{count} of ten topics");
    }
    nodes.end();
}

#[test]
fn a_client_goes_on_at_another_relay_with_its_position() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(2, &engine);
    let [first, second] = &nodes.worlds[..] else {
        unreachable!("there are two");
    };
    // The second relay has the topic, and so its history.
    let stays = Listener::join(second, "/room");
    let leaves = Listener::join(first, "/room");
    let talker = Talker::start(first, "/room", "a");
    talker.await_more(20);
    leaves.await_text("a-10");
    let at = leaves.place_of("a-10");
    let back = Listener::join(second, &format!("/room?since={at}"));
    back.await_text("a-15");
    assert_eq!(back.texts()[0], "a-11");
    compare(vec![stays, leaves], vec![talker], Promise::Whole);
    back.end();
    nodes.end();
}

/// The line of the page is all that the relays need.
#[test]
fn the_rights_on_the_page_are_enough() {
    let page = std::fs::read_to_string("docs/cluster.md").expect("the page");
    let line = page
        .lines()
        .find(|line| line.starts_with("user relay on "))
        .expect("the line");
    let user: Vec<&str> = line.split(' ').skip(1).collect();
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ask_words(&[&["ACL", "SETUSER"][..], &user].concat());
    let url = format!(
        "redis://relay:CHANGE-THIS-PASSWORD@127.0.0.1:{}",
        engine.port()
    );
    let nodes = Nodes::with(2, &section(&url, ""));
    let listeners = nodes.listen("/room%20with/%7B%C3%A4%7D");
    let talker = Talker::start(&nodes.worlds[0], "/room%20with/%7B%C3%A4%7D", "a");
    talker.await_more(20);
    engine.ask("CLIENT KILL TYPE pubsub");
    talker.await_more(20);
    compare(listeners, vec![talker], Promise::Whole);
    for world in &nodes.worlds {
        assert_eq!(metric(world, "fanwire_cluster_errors_total"), 0);
    }
    nodes.end();
}

#[test]
fn the_members_of_all_relays_are_counted() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let nodes = Nodes::start(2, &engine);
    let listeners = nodes.listen("/room");
    for world in &nodes.worlds {
        eventually("both members are counted", || {
            let mut wire: Wire = world.dial();
            wire.send("GET /room HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n");
            wire.answer().body.contains("\"members\":2")
        });
        assert_eq!(metric(world, "fanwire_cluster_errors_total"), 0);
    }
    for listener in listeners {
        listener.end();
    }
    nodes.end();
}
