//! Messages between clients: who receives them, and in which order.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Barrier};
use std::thread;

use fanwire::config::{SlowConsumerPolicy, Topics};
use fanwire::server::Stat;
use tungstenite::{Bytes, Message};

use crate::support::{Client, World, config};

/// A hash of all messages that a client received.
fn digest(client: &mut Client, messages: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    for _ in 0..messages {
        client.hear().hash(&mut hasher);
    }
    hasher.finish()
}

#[test]
fn a_message_reaches_everybody_including_its_sender() {
    let world = World::start();
    let mut clients = world.connect_many("/room", 50);
    clients[0].say("hello");
    for client in &mut clients {
        assert_eq!(client.hear(), "hello");
    }
    world.await_total(Stat::Delivered, 50);
    world.await_rest();
    drop(clients);
    let stats = world.end();
    assert_eq!(
        (stats.value(Stat::Messages), stats.value(Stat::Discarded)),
        (1, 0)
    );
}

#[test]
fn text_stays_text_and_binary_stays_binary() {
    let world = World::start();
    let mut clients = world.connect_many("/room", 3);
    let messages = [
        Message::text("text"),
        Message::binary(&b"\xff\x00binary"[..]),
        Message::text(""),
        Message::binary(Bytes::new()),
        Message::text("größer"),
    ];
    for message in &messages {
        clients[1].send(message.clone());
    }
    for client in &mut clients {
        for message in &messages {
            assert_eq!(&client.next(), message);
        }
    }
    drop(clients);
    world.end();
}

#[test]
fn payloads_of_every_form_of_length_arrive_whole() {
    let world = World::start();
    let mut clients = world.connect_many("/room", 3);
    for length in [1, 125, 126, 127, 4095, 4096, 65535, 65536, 200_000] {
        let payload: Bytes = (0..=250).cycle().take(length).collect();
        clients[0].send(Message::Binary(payload.clone()));
        for client in &mut clients {
            assert!(client.binary() == payload, "{length} bytes");
        }
    }
    drop(clients);
    world.end();
}

// Topics

#[test]
fn topics_are_kept_apart() {
    let world = World::with(&config(4));
    let mut rooms: Vec<_> = (0..8)
        .map(|n| world.connect_many(&format!("/room/{n}"), 2))
        .collect();
    for (n, clients) in rooms.iter_mut().enumerate() {
        clients[0].say(format!("for room {n}"));
    }
    for (n, clients) in rooms.iter_mut().enumerate() {
        for client in clients {
            assert_eq!(client.hear(), format!("for room {n}"));
        }
    }
    // An additional message would arrive before the answer to the Close.
    for client in rooms.into_iter().flatten() {
        assert_eq!(client.leave(), []);
    }
    let stats = world.end();
    assert_eq!(stats.value(Stat::Offered), 16);
}

#[test]
fn a_trailing_slash_or_another_case_is_another_topic() {
    let world = World::start();
    let clients = ["/room", "/room/", "/Room"].map(|path| world.connect(path));
    world.await_total(Stat::OwnedTopics, 3);
    drop(clients);
    world.end();
}

#[test]
fn with_a_single_topic_all_paths_are_one() {
    let mut config = config(2);
    config.relay.topics = Topics::Single;
    let world = World::with(&config);
    let mut clients = ["/a", "/b", "/"].map(|path| world.connect(path));
    clients[0].say("hello");
    for client in &mut clients {
        assert_eq!(client.hear(), "hello");
    }
    drop(clients);
    world.end();
}

#[test]
fn all_spellings_of_a_path_are_one_topic_and_the_query_is_ignored() {
    let world = World::start();
    let mut clients = ["/a%20%62", "/a%20b", "/%61%20b?token=1", "/a%20b?token=2"]
        .map(|path| world.connect(path));
    clients[0].say("hello");
    for client in &mut clients {
        assert_eq!(client.hear(), "hello");
    }
    drop(clients);
    world.end();
}

// Order

#[test]
fn all_clients_on_all_shards_see_the_same_order() {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 500;
    let world = World::with(&config(4));
    let publishers = world.connect_many("/room", PUBLISHERS);
    let mut listeners = world.connect_many("/room", 4);
    let start = Arc::new(Barrier::new(PUBLISHERS));
    let publishers: Vec<_> = publishers
        .into_iter()
        .enumerate()
        .map(|(publisher, mut client)| {
            let start = start.clone();
            thread::spawn(move || {
                start.wait();
                for n in 0..EACH {
                    client.say(format!("{publisher} {n}"));
                }
                digest(&mut client, PUBLISHERS * EACH)
            })
        })
        .collect();
    let mut next = [0; PUBLISHERS];
    let mut hasher = DefaultHasher::new();
    for _ in 0..PUBLISHERS * EACH {
        let text = listeners[0].hear();
        text.hash(&mut hasher);
        let (publisher, n) = text.split_once(' ').unwrap();
        let expected = &mut next[publisher.parse::<usize>().unwrap()];
        assert_eq!(n, expected.to_string(), "of publisher {publisher}");
        *expected += 1;
    }
    let expected = hasher.finish();
    for listener in &mut listeners[1..] {
        assert_eq!(digest(listener, PUBLISHERS * EACH), expected);
    }
    for publisher in publishers {
        assert_eq!(publisher.join().unwrap(), expected);
    }
    drop(listeners);
    let stats = world.end();
    assert_eq!(stats.value(Stat::Delivered), stats.value(Stat::Offered));
}

#[test]
fn two_hundred_clients_that_all_send_see_one_sequence() {
    const CLIENTS: usize = 200;
    const EACH: usize = 2;
    let world = World::start();
    let address = world.relay.address();
    let start = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let start = start.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address, "/room");
                start.wait();
                for n in 0..EACH {
                    client.say(format!("{id} {n}"));
                }
                let digest = digest(&mut client, CLIENTS * EACH);
                assert_eq!(client.leave(), [], "nothing comes twice");
                digest
            })
        })
        .collect();
    let digests: Vec<_> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    assert!(digests.iter().all(|&digest| digest == digests[0]));
    let stats = world.end();
    assert_eq!(
        stats.value(Stat::Delivered),
        (CLIENTS * CLIENTS * EACH) as u64
    );
    assert_eq!(stats.value(Stat::DisconnectedByClient), CLIENTS as u64);
}

// Joining

#[test]
fn a_late_joiner_sees_no_earlier_message() {
    let world = World::with(&config(4));
    let mut early = world.connect("/room");
    early.say("before");
    assert_eq!(early.hear(), "before");
    let mut late = world.connect_many("/room", 4);
    early.say("after");
    for client in &mut late {
        assert_eq!(client.hear(), "after");
    }
    drop((early, late));
    let stats = world.end();
    assert_eq!(stats.value(Stat::Offered), 1 + 5);
}

#[test]
fn a_client_that_joins_during_traffic_sees_everything_from_some_point_on() {
    const MESSAGES: usize = 3000;
    const JOINERS: usize = 40;
    let world = World::with(&config(4));
    let mut publisher = world.connect("/room");
    let publisher = thread::spawn(move || {
        for n in 0..MESSAGES {
            publisher.say(n.to_string());
            assert_eq!(publisher.hear(), n.to_string());
        }
        publisher
    });
    let joiners: Vec<_> = (0..JOINERS)
        .map(|_| {
            let mut client = world.connect("/room");
            thread::spawn(move || {
                client.send(Message::Ping(Bytes::new()));
                let mut last = None;
                while last != Some(MESSAGES) {
                    let n = match client.next() {
                        Message::Text(text) if text == "end" => MESSAGES,
                        Message::Text(text) => text.parse().unwrap(),
                        _ => continue,
                    };
                    assert!(last.is_none_or(|last| n == last + 1), "{last:?}, {n}");
                    last = Some(n);
                }
                client
            })
        })
        .collect();
    let mut publisher = publisher.join().unwrap();
    publisher.say("end");
    let joiners: Vec<_> = joiners
        .into_iter()
        .map(|joiner| joiner.join().unwrap())
        .collect();
    drop((publisher, joiners));
    world.end();
}

// Without echo

#[test]
fn without_echo_everybody_but_the_sender_gets_a_message() {
    let mut config = config(2);
    config.relay.echo = false;
    let world = World::with(&config);
    let mut clients = world.connect_many("/room", 4);
    for n in 0..clients.len() {
        clients[n].say(n.to_string());
        for (other, client) in clients.iter_mut().enumerate() {
            if other != n {
                assert_eq!(client.hear(), n.to_string());
            }
        }
    }
    for client in clients {
        assert_eq!(client.leave(), [], "its own message did not come back");
    }
    let stats = world.end();
    assert_eq!(stats.value(Stat::Offered), 4 * 3);
    assert_eq!(stats.value(Stat::Delivered), 4 * 3);
}

#[test]
fn without_echo_the_others_messages_come_in_one_order() {
    const CLIENTS: usize = 6;
    const EACH: usize = 300;
    let mut config = config(3);
    config.relay.echo = false;
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    let world = World::with(&config);
    let clients = world.connect_many("/room", CLIENTS);
    let mut listener = world.connect("/room");
    let clients: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(id, mut client)| {
            thread::spawn(move || {
                for n in 0..EACH {
                    client.say(format!("{id} {n}"));
                }
                let heard: Vec<_> = (0..(CLIENTS - 1) * EACH).map(|_| client.hear()).collect();
                assert_eq!(client.leave(), []);
                heard
            })
        })
        .collect();
    let all: Vec<_> = (0..CLIENTS * EACH).map(|_| listener.hear()).collect();
    for (id, client) in clients.into_iter().enumerate() {
        let own = format!("{id} ");
        let expected = all.iter().filter(|text| !text.starts_with(&own));
        assert!(client.join().unwrap().iter().eq(expected));
    }
    drop(listener);
    let stats = world.end();
    assert_eq!(
        stats.value(Stat::Delivered),
        (CLIENTS * CLIENTS * EACH) as u64
    );
}
