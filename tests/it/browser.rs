//! `clients/fanwire.js` in real browsers and in Node.js, against the real relay, which is drained, killed, paused and cut off.

mod devtools;
mod engine;
mod line;
mod rules;
mod shown;
mod source;
mod types;

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::program::Program;
use crate::support::{Client, eventually};
use engine::{Engine, Room};
use line::Line;

/// Messages before an event and behind it.
const HALF: u64 = 25;

/// Events of each kind.
const EVENTS: u64 = 5;

/// Messages that the relay keeps where some are to be lost.
const KEPT: u64 = 30;

/// A relay that starts again at the same address. No other test has its host, so nobody takes its port meanwhile.
struct Relay {
    host: &'static str,
    history: String,
    program: Program,
}

impl Relay {
    fn start(host: &'static str, history: &str) -> Relay {
        let program = Relay::run(host, 0, history);
        Relay {
            host,
            history: history.to_owned(),
            program,
        }
    }

    fn run(host: &str, port: u16, history: &str) -> Program {
        let config = format!(
            "server: {{host: {host}, port: {port}, workers: 2, fill_workers_to: 0}}\nmetrics: {{port: 0}}\n\
             history: {{max_age: 5m{history}}}\n"
        );
        Program::spawn(&config, Command::new(env!("CARGO_BIN_EXE_fanwire")))
    }

    fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// Ends the relay in order, and starts another.
    fn drain(mut self) -> Relay {
        self.program.signal(Signal::TERM);
        assert!(self.program.await_exit().success());
        self.again()
    }

    fn kill(mut self) -> Relay {
        self.program.signal(Signal::KILL);
        self.program.await_exit();
        self.again()
    }

    fn again(self) -> Relay {
        let Relay {
            host,
            history,
            program,
        } = self;
        let port = program.address.port();
        drop(program);
        let program = Relay::run(host, port, &history);
        Relay {
            host,
            history,
            program,
        }
    }
}

/// Sends numbered messages, and knows that the relay has each.
struct Publisher {
    client: Client,
    next: u64,
}

impl Publisher {
    fn to(relay: &Relay, next: u64) -> Publisher {
        let client = Client::connect(relay.address(), "/room");
        Publisher { client, next }
    }

    fn send(&mut self, count: u64) {
        for n in self.next..self.next + count {
            self.client.say(n.to_string());
        }
    }

    /// Takes the messages back that were sent.
    fn hear(&mut self, count: u64) {
        for _ in 0..count {
            assert_eq!(self.client.hear(), self.next.to_string());
            self.next += 1;
        }
    }

    fn publish(&mut self, count: u64) {
        self.send(count);
        self.hear(count);
    }

    /// Leaves. Returns the number of the next message.
    fn leave(self) -> u64 {
        assert_eq!(self.client.leave(), []);
        self.next
    }
}

/// A room whose messages are checked: each comes exactly once and in order, or the client says how many are lost.
struct Checked {
    room: Room,
    /// The number of the next message.
    next: u64,
    /// Nobody knows how many are lost before the next message.
    is_unknown: bool,
    /// Whether messages may be missing then. They are not if the relay ends in order.
    may_miss: bool,
    /// The messages that are lost for sure.
    lost: u64,
    /// The number of times that the client has said that messages are lost.
    reports: u64,
}

impl Checked {
    fn follow(mut room: Room, address: SocketAddr) -> Checked {
        room.follow(&format!("ws://{address}/room"), json!({}));
        room.expect("open");
        Checked {
            room,
            next: 0,
            is_unknown: false,
            may_miss: false,
            lost: 0,
            reports: 0,
        }
    }

    /// Takes one event in. Returns its type.
    fn step(&mut self) -> String {
        let event = self.room.next();
        match event["type"].as_str().unwrap() {
            "message" => self.on_message(event["text"].as_str().unwrap().parse().unwrap()),
            "lost" => self.on_lost(event["lost"].as_u64()),
            "close" => panic!("it does not come back: {event}"),
            _ => {}
        }
        event["type"].as_str().unwrap().to_owned()
    }

    fn on_lost(&mut self, lost: Option<u64>) {
        self.reports += 1;
        self.is_unknown |= lost.is_none();
        self.lost += lost.unwrap_or_default();
        self.next += lost.unwrap_or_default();
    }

    fn on_message(&mut self, number: u64) {
        if self.is_unknown && self.may_miss {
            assert!(number >= self.next, "{number} came again");
        } else {
            assert_eq!(number, self.next, "{} lost so far", self.lost);
        }
        self.is_unknown = false;
        self.next = number + 1;
    }

    /// Waits until all messages before this one are there or lost.
    fn await_all(&mut self, end: u64) {
        while self.next < end {
            self.step();
        }
        assert_eq!(self.next, end);
    }

    fn await_event(&mut self, what: &str) {
        while self.step() != what {}
    }
}

/// Every message comes from a relay that is drained, also those that are published while the client waits.
fn drained(room: Room) {
    let client = restarted(room, "127.77.0.1", "", false, Relay::drain);
    assert_eq!(client.reports, EVENTS, "each relay has a stream of its own");
}

/// A relay that is killed may take messages with it, and the client says so.
fn killed(room: Room) {
    let client = restarted(room, "127.77.0.2", "", true, Relay::kill);
    assert_eq!(client.reports, EVENTS);
}

/// With a file for the history, the next relay goes on with the stream.
fn carried_over(room: Room) {
    let folder = tempfile::tempdir().unwrap();
    let file = format!(", file: '{}'", folder.path().join("history").display());
    let client = restarted(room, "127.77.0.3", &file, false, Relay::drain);
    assert_eq!(client.reports, 0, "the streams are one");
}

fn restarted(
    room: Room,
    host: &'static str,
    history: &str,
    may_miss: bool,
    again: impl Fn(Relay) -> Relay,
) -> Checked {
    let mut relay = Relay::start(host, history);
    let mut client = Checked::follow(room, relay.address());
    client.may_miss = may_miss;
    let mut next = 0;
    for _ in 0..EVENTS {
        let mut publisher = Publisher::to(&relay, next);
        publisher.publish(HALF);
        // A relay that ends would wait for its answer.
        next = publisher.leave();
        relay = again(relay);
        let mut publisher = Publisher::to(&relay, next);
        publisher.publish(HALF);
        next = publisher.leave();
        client.await_all(next);
    }
    client
}

/// A relay that stands still is given up, and what it had taken comes once it goes on. A short pause is nothing.
fn paused(room: Room) {
    let relay = Relay::start("127.77.0.4", "");
    let mut client = Checked::follow(room, relay.address());
    let mut publisher = Publisher::to(&relay, 0);
    for event in 0..EVENTS {
        publisher.publish(HALF);
        client.await_all(publisher.next);
        relay.program.signal(Signal::STOP);
        publisher.send(HALF);
        if event % 3 == 0 {
            client.room.order("wake", json!({}));
            client.await_event("down");
        }
        relay.program.signal(Signal::CONT);
        publisher.hear(HALF);
        client.await_all(publisher.next);
    }
    assert_eq!(client.lost, 0);
}

/// A network that fails loses nothing, unless it fails for longer than the relay keeps messages. Then the number is exact.
fn cut_off(room: Room) {
    let relay = Relay::start("127.77.0.5", &format!(", max_messages: {KEPT}"));
    let line = Line::to(relay.address());
    let mut client = Checked::follow(room, line.address());
    let mut publisher = Publisher::to(&relay, 0);
    for event in 0..EVENTS {
        publisher.publish(HALF);
        client.await_all(publisher.next);
        line.go_down();
        // Messages that were sent together are dropped together, so these are sent one by one.
        let missed = if event % 2 == 0 { HALF } else { 2 * KEPT };
        (0..missed).for_each(|_| publisher.publish(1));
        line.come_up();
        client.await_all(publisher.next);
        assert_eq!(
            client.lost,
            client.reports * KEPT,
            "half of {} each time",
            2 * KEPT
        );
    }
    assert_eq!(client.reports, EVENTS / 2);
}

/// The kinds of events. Each has a relay and a room of its own.
const KINDS: [fn(Room); 5] = [drained, killed, carried_over, paused, cut_off];

/// Lives through the events of all kinds at once.
fn live_through_everything(engine: Option<(Engine, Vec<Room>)>) {
    let Some((_engine, rooms)) = engine else {
        return;
    };
    thread::scope(|scope| {
        let mut rooms = rooms.into_iter();
        for kind in KINDS {
            let room = rooms.next().unwrap();
            scope.spawn(move || kind(room));
        }
    });
}

#[test]
fn a_page_in_chromium_misses_nothing_without_saying_so() {
    live_through_everything(Engine::chromium(KINDS.len()));
}

#[test]
fn a_page_in_firefox_misses_nothing_without_saying_so() {
    live_through_everything(Engine::firefox(KINDS.len()));
}

#[test]
fn a_program_in_node_misses_nothing_without_saying_so() {
    live_through_everything(Engine::node(KINDS.len()));
}

#[test]
fn a_program_that_slept_goes_on_where_it_was() {
    let Some((engine, mut rooms)) = Engine::node(1) else {
        return;
    };
    // The relay gives a client up that does not answer.
    let sections =
        "history: {max_age: 5m}\nkeepalive: {ping_interval: 100ms, pong_timeout: 500ms}\n";
    let program = Program::with(sections);
    let mut client = Checked::follow(rooms.pop().unwrap(), program.address);
    let mut next = 0;
    for _ in 0..2 {
        let mut publisher = Publisher {
            client: program.connect("/room"),
            next,
        };
        publisher.publish(HALF);
        engine.signal(Signal::STOP);
        // The publisher answers pings while it reads.
        eventually("the sleeper is given up", || {
            publisher.publish(1);
            program.metric("websocket_connected_clients") < 1.5
        });
        next = publisher.leave();
        engine.signal(Signal::CONT);
        client.await_all(next);
    }
    assert_eq!(client.reports, 0);
}

/// The rules of the client, each in a room of its own.
fn keep_the_rules(engine: Option<(Engine, Vec<Room>)>) {
    let Some((_engine, rooms)) = engine else {
        return;
    };
    thread::scope(|scope| {
        for (mut room, rule) in rooms.into_iter().zip(rules::RULES) {
            scope.spawn(move || rule(&mut room));
        }
    });
}

#[test]
fn the_client_keeps_its_rules_in_chromium() {
    keep_the_rules(Engine::chromium(rules::RULES.len()));
}

#[test]
fn the_client_keeps_its_rules_in_firefox() {
    keep_the_rules(Engine::firefox(rules::RULES.len()));
}

#[test]
fn the_client_keeps_its_rules_in_node() {
    keep_the_rules(Engine::node(rules::RULES.len()));
}

#[test]
fn the_client_does_not_wait_for_ever() {
    let engines = [Engine::chromium(1), Engine::node(1)];
    for (_engine, mut rooms) in engines.into_iter().flatten() {
        rules::long_waits_end(&mut rooms[0]);
    }
}
