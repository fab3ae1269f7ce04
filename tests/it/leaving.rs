//! Clients that leave: each is counted once and costs the others nothing.

use std::net::Shutdown;
use std::thread;

use fanwire::server::Stat;

use crate::support::{World, config, eventually};
use crate::wire::{FIN, TEXT, frame, request};

/// The reason of the Close for a client that has ended its side.
const ENDED: &str = "you ended the connection without a Close";

#[test]
fn an_orderly_leave_is_counted_once() {
    let world = World::start();
    let clients = world.connect_many("/room", 10);
    for client in clients {
        assert_eq!(client.leave(), []);
    }
    let stats = world.end();
    assert_eq!(stats.value(Stat::Connections), 10);
    assert_eq!(stats.value(Stat::DisconnectedByClient), 10);
}

#[test]
fn a_reset_is_counted_once() {
    let world = World::start();
    for client in world.connect_many("/room", 10) {
        client.reset();
    }
    world.await_total(Stat::ConnectedClients, 0);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Connections), 10);
    assert_eq!(stats.value(Stat::DisconnectedLost), 10);
}

#[test]
fn a_topic_that_is_closed_by_hand_loses_its_clients_on_all_workers_and_no_other_does() {
    let world = World::start();
    let room: Vec<_> = (0..6).map(|_| world.join("/room")).collect();
    let mut other = world.join("/other");
    world.await_total(Stat::ConnectedClients, 7);
    world.relay.close_topic("/room");
    for mut client in room {
        assert_eq!(client.close(), (1000, "closed by the operator".into()));
    }
    other.send(frame(FIN | TEXT, b"still here"));
    assert_eq!(other.hear(), "still here");
    drop(other);
    assert_eq!(world.end().value(Stat::DisconnectedByHand), 6);
}

#[test]
fn a_client_that_shuts_down_its_side_is_told_and_counts_as_lost() {
    let world = World::start();
    let mut inside_a_frame = world.join("/room");
    inside_a_frame.send(&frame(FIN | TEXT, b"never complete")[..9]);
    let mut between_frames = world.join("/room");
    for client in [&mut inside_a_frame, &mut between_frames] {
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.close(), (1000, ENDED.into()));
        client.expect_end();
    }
    world.await_total(Stat::DisconnectedLost, 2);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), 0);
}

#[test]
fn the_end_in_the_packet_of_the_upgrade_comes_after_the_101_and_what_is_owed() {
    the_end_comes_last_with(1);
}

#[test]
fn the_end_in_the_packet_of_the_upgrade_comes_last_although_another_shard_is_asked() {
    the_end_comes_last_with(4);
}

fn the_end_comes_last_with(workers: u64) {
    const ROUNDS: u64 = 5;
    let world = World::with(&config(workers as usize));
    // Several topics, so that most of them have their owner on another shard.
    for n in 0..ROUNDS * workers {
        let path = format!("/room/{n}");
        let mut listener = world.connect(&path);
        let mut client = world.dial();
        let words = frame(FIN | TEXT, b"last words");
        client.send([request(&path).as_bytes(), &words].concat());
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer().status, 101);
        assert_eq!(client.hear(), "last words");
        assert_eq!(client.close(), (1000, ENDED.into()));
        client.expect_end();
        assert_eq!(listener.hear(), "last words");
        listener.leave();
    }
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedLost), ROUNDS * workers);
}

#[test]
fn a_reset_within_a_message_leaves_nothing_behind() {
    let world = World::start();
    let message = frame(FIN | TEXT, "x".repeat(20_000).as_bytes());
    for n in 0..50 {
        let client = world.join("/room");
        client.send(&message[..n * 400]);
        client.reset();
    }
    world.await_total(Stat::DisconnectedLost, 50);
    // The audit finds memory of incomplete messages that was not freed.
    world.end();
}

#[test]
fn a_write_error_removes_its_client_and_spares_the_others() {
    const VICTIMS: u64 = 100;
    let world = World::with(&config(1));
    let mut listener = world.connect("/room");
    let text = "x".repeat(64 * 1024);
    let mut rounds = 0;
    // A write fails only if the reset comes after the turn has looked for news of the client. So many clients reset while
    // the relay is in the middle of writing to them.
    while world.total(Stat::WritesFailed) == 0 {
        assert!(rounds < 100, "no write has failed");
        let victims: Vec<_> = (0..VICTIMS).map(|_| world.join("/room")).collect();
        listener.say(&text);
        assert_eq!(listener.hear().len(), text.len());
        for victim in victims.into_iter().rev() {
            victim.reset();
        }
        rounds += 1;
        world.await_total(Stat::DisconnectedLost, rounds * VICTIMS);
    }
    listener.say("unharmed");
    assert_eq!(listener.hear(), "unharmed");
    assert_eq!(listener.leave(), []);
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedLost), rounds * VICTIMS);
    assert_eq!(stats.value(Stat::Messages), rounds + 1);
    let discarded = stats.value(Stat::Discarded);
    assert!(discarded > 0, "what the failed write was to bring");
}

#[test]
fn clients_that_come_and_go_under_load_cost_the_others_nothing() {
    const MESSAGES: usize = 1500;
    let world = World::with(&config(3));
    let mut publisher = world.connect("/room");
    let mut listener = world.connect("/room");
    let publisher = thread::spawn(move || {
        for n in 0..MESSAGES {
            publisher.say(n.to_string());
            assert_eq!(publisher.hear(), n.to_string());
        }
    });
    let listener = thread::spawn(move || {
        for n in 0..MESSAGES {
            assert_eq!(listener.hear(), n.to_string());
        }
    });
    let mut came = 2;
    while !(publisher.is_finished() && listener.is_finished()) {
        for (n, client) in world.connect_many("/room", 6).into_iter().enumerate() {
            match n % 3 {
                0 => client.reset(),
                1 => drop(client.leave()),
                _ => drop(client),
            }
            came += 1;
        }
    }
    publisher.join().unwrap();
    listener.join().unwrap();
    let stats = world.end();
    assert_eq!(stats.value(Stat::Connections), came);
}

#[test]
fn a_topic_is_forgotten_with_its_last_member_and_begins_anew() {
    let world = World::with(&config(4));
    for _ in 0..20 {
        let mut clients = world.connect_many("/room", 5);
        clients[0].say("again");
        for client in &mut clients {
            assert_eq!(client.hear(), "again");
        }
        drop(clients);
        eventually("the topic is forgotten", || {
            world.total(Stat::Topics) == 0 && world.total(Stat::OwnedTopics) == 0
        });
    }
    world.end();
}
