//! Coalescing over real sockets: which messages wait, and how many writes they take.
//!
//! No test expects anything to be fast. The time that has passed limits the number of fan-outs, however long it is, and
//! a counter tells whether a message waited.

use std::thread;
use std::time::{Duration, Instant};

use fanwire::config::Config;
use fanwire::internals::relay::PER_MEMBER;
use fanwire::server::Stat;
use tungstenite::Message;

use crate::support::{Client, World, config, eventually};

/// Members of the topic on each shard.
const MEMBERS: usize = 100;

/// The longest interval that applies to a topic of this size.
const INTERVAL: Duration = PER_MEMBER.saturating_mul(MEMBERS as u32);

const MESSAGES: u64 = 100;

/// The longest wait of a client for a message. It is shorter than the relay's other timers, so that a relay that
/// forgets its alarm fails the test.
const PATIENCE: Duration = Duration::from_secs(10);

fn coalescing(workers: usize, interval: Duration) -> Config {
    let mut config = config(workers);
    config.relay.coalesce = interval;
    config.server.handshake_timeout = Duration::from_hours(1);
    config.keepalive.ping_interval = Duration::ZERO;
    config
}

fn writes(world: &World) -> u64 {
    let kinds = [Stat::WritesFull, Stat::WritesPartial, Stat::WritesBlocked];
    kinds.iter().map(|&stat| world.total(stat)).sum()
}

/// Sends a message to the quiet topic. All members receive it.
fn send_to_quiet_topic(world: &World, members: &mut [Client]) {
    let before = world.total(Stat::Delivered);
    members[0].say("first");
    for member in &mut *members {
        assert_eq!(member.hear(), "first");
    }
    world.await_total(Stat::Delivered, before + members.len() as u64);
}

#[test]
fn a_message_to_a_quiet_topic_does_not_wait() {
    let world = World::with(&coalescing(2, Duration::from_secs(1)));
    for n in 0..10 {
        let mut members = world.connect_many(&format!("/room/{n}"), 4);
        send_to_quiet_topic(&world, &mut members);
    }
    assert_eq!(world.total(Stat::Coalesced), 0);
    world.end();
}

#[test]
fn messages_within_an_interval_leave_in_one_write_and_in_order() {
    for workers in [1, 2] {
        let world = World::with(&coalescing(workers, INTERVAL));
        let mut members = world.connect_many("/room", MEMBERS * workers);
        send_to_quiet_topic(&world, &mut members);
        let (before, delivered) = (writes(&world), world.total(Stat::Delivered));
        let began = Instant::now();
        for n in 0..MESSAGES {
            members[0].say(n.to_string());
            // One at a time, so that each message is read in a turn of its own.
            let deadline = Instant::now() + PATIENCE;
            while world.total(Stat::Messages) < 2 + n {
                assert!(Instant::now() < deadline, "message {n} is not taken in");
                thread::yield_now();
            }
        }
        // All waiting messages leave in one fan-out, whenever it comes.
        let intervals = began.elapsed().as_micros() / INTERVAL.as_micros();
        for member in &mut members {
            let socket = member.socket.get_ref();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for n in 0..MESSAGES {
                assert_eq!(member.hear(), n.to_string());
            }
        }
        let all = members.len() as u64 * MESSAGES;
        world.await_total(Stat::Delivered, delivered + all);
        let fan_outs = (writes(&world) - before) / members.len() as u64;
        assert!(
            u128::from(fan_outs) <= intervals + 2,
            "{fan_outs} fan-outs in {intervals} intervals"
        );
        let waited = world.total(Stat::Coalesced);
        if workers == 1 {
            // The owner gets one message per turn, so no fan-out has two messages that did not wait.
            assert!(waited + fan_outs >= MESSAGES, "{waited} waited");
        }
        drop(members);
        world.end();
    }
}

#[test]
fn answers_from_several_workers_arrive_in_one_order() {
    const WORKERS: usize = 3;
    const ROUNDS: usize = 20;
    const ALL: usize = 30;
    let world = World::with(&coalescing(WORKERS, INTERVAL));
    let mut members = world.connect_many("/room", ALL);
    world.await_total(Stat::Topics, WORKERS as u64);
    for member in &mut members {
        let socket = member.socket.get_ref();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        member.say("0");
    }
    // A member answers as soon as it has received all messages, while others have not.
    let mut heard = vec![Vec::new(); ALL];
    for round in 1..=ROUNDS {
        for (member, heard) in members.iter_mut().zip(&mut heard) {
            heard.extend((0..ALL).map(|_| member.hear()));
            if round < ROUNDS {
                member.say(round.to_string());
            }
        }
    }
    let said = (0..ROUNDS).flat_map(|round| vec![round.to_string(); ALL]);
    assert_eq!(heard[0], said.collect::<Vec<_>>());
    assert!(heard.iter().all(|one| *one == heard[0]), "not in one order");
    world.await_total(Stat::Delivered, (ROUNDS * ALL * ALL) as u64);
    drop(members);
    world.end();
}

/// Plays rounds until a message has waited in one of them, and then a few more.
fn play_until_something_waited(world: &World, mut round: impl FnMut(u32)) {
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        round(number);
        if number >= 10 && world.total(Stat::Coalesced) > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "nothing ever waits");
    }
}

#[test]
fn the_shutdown_delivers_waiting_messages_before_it_closes() {
    let world = World::with(&coalescing(2, INTERVAL));
    let mut members = world.connect_many("/room", 2 * MEMBERS);
    let mut publisher = world.connect("/room");
    thread::scope(|scope| {
        scope.spawn(|| publish_until_closed(&mut publisher));
        eventually("something waits", || world.total(Stat::Coalesced) > 0);
        world.relay.shutdown();
        let heard = members.iter_mut().map(receive_until_shutdown);
        let heard: Vec<u64> = heard.collect();
        let stats = world.join_ended();
        // All members received every accepted message.
        let all = stats.value(Stat::Messages);
        assert_eq!(heard, vec![all; 2 * MEMBERS]);
        assert_eq!(stats.value(Stat::Discarded), 0);
    });
}

/// Sends numbers that count up from 0, with several always in flight, so that some wait at any time.
fn publish_until_closed(publisher: &mut Client) {
    let mut numbers = (0..).map(|n: u64| n.to_string());
    let mut say_next = |publisher: &mut Client| publisher.say(numbers.next().expect("endless"));
    for _ in 0..64 {
        say_next(publisher);
    }
    while let Message::Text(_) = publisher.next() {
        say_next(publisher);
    }
    publisher.expect_end();
}

/// Receives numbers from 0 up, and then Close 1001. Returns how many.
fn receive_until_shutdown(member: &mut Client) -> u64 {
    let mut heard = 0;
    loop {
        match member.next() {
            Message::Text(text) => assert_eq!(text.as_str(), heard.to_string()),
            Message::Close(Some(frame)) => {
                assert_eq!(u16::from(frame.code), 1001);
                member.expect_end();
                return heard;
            }
            other => panic!("unexpected: {other:?}"),
        }
        heard += 1;
    }
}

#[test]
fn the_last_message_of_a_leaving_client_is_delivered() {
    let world = World::with(&coalescing(2, INTERVAL));
    let mut members = world.connect_many("/room", MEMBERS);
    play_until_something_waited(&world, |round| {
        let mut visitor = world.connect("/room");
        for word in ["a", "b", "c"] {
            visitor.say(format!("{word}{round}"));
        }
        visitor.leave();
        for member in &mut members {
            for word in ["a", "b", "c"] {
                assert_eq!(member.hear(), format!("{word}{round}"));
            }
        }
    });
    drop(members);
    world.end();
}

#[test]
fn a_topic_that_everybody_left_while_messages_waited_is_forgotten() {
    let world = World::with(&coalescing(1, INTERVAL));
    play_until_something_waited(&world, |round| {
        let mut members = world.connect_many(&format!("/room/{round}"), MEMBERS);
        // Most messages come right after a fan-out of the topic, and all clients have left before the next one.
        for _ in 0..10 {
            members[0].say("more");
        }
        // The publisher leaves last, because a reset discards what the relay has not read.
        members.into_iter().rev().for_each(Client::reset);
        world.await_total(Stat::ConnectedClients, 0);
        world.await_total(Stat::OwnedTopics, 0);
        world.await_total(Stat::CoalescingBytes, 0);
    });
    world.end();
}
