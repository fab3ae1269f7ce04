//! Real clients join a topic at random, check every byte of what they get, and leave: those with compression and those without,
//! side by side, while somebody publishes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fanwire::config::SlowConsumerPolicy;
use tungstenite::Message;

use super::browser::Browser;
use super::{config, has, peers};
use crate::support::{Client, World};

/// The script for all clients in JavaScript.
const RECEIVE: &str = include_str!("receive.js");

/// The joins of each client.
const JOINS: usize = 12;

/// The most of its own messages that the publisher waits for.
const WINDOW: u64 = 32;

/// The end of the script for Node.js and for Bun, with their own clients or the library `ws`.
const RUN: &str = r"
const [url, joins, seed, misses, kind] = process.argv.slice(-5);
const WS = kind === 'ws' ? require('ws') : WebSocket;
receive({
  connect: (compressed) => kind === 'ws' ? new WS(url, { perMessageDeflate: compressed }) : new WS(url),
  leave: (socket, politely) => politely || !socket.terminate ? socket.close() : socket.terminate(),
  joins: Number(joins), seed: Number(seed), mayMiss: misses === 'may-miss',
}).then((said) => { console.log(said); process.exit(0); }, (error) => { console.error(error); process.exit(1); });
";

/// The same for a page.
const PAGE: &str = r"
receive({
  connect: () => new WebSocket('URL'), leave: (socket) => socket.close(), joins: JOINS, seed: 5, mayMiss: MISSES,
}).catch((error) => error.message)
";

/// The message with this number. The scripts know it, too.
fn message(number: u64) -> Message {
    let text = if number % 10 == 9 {
        number.to_string()
    } else {
        let price = number * 7919 % 100_003;
        let text = format!(r#"{{"event":"trade","number":{number},"price":"{price}","é":"€😀"}}"#);
        // Some are longer than a relay compresses at all.
        let is_long = number % 97 == 5;
        text.repeat(if is_long {
            1200
        } else {
            1 + number as usize % 40
        })
    };
    if number.is_multiple_of(3) {
        Message::binary(text)
    } else {
        Message::text(text)
    }
}

/// Ends the relay if a part of the test fails, so that nobody waits for ever.
struct Guard<'a>(&'a World);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.relay.shutdown();
        }
    }
}

/// Fails if the next message of a client is another than this one, and shows only the beginnings.
fn expect(client: &mut Client, expected: &Message) {
    let mut found = client.next();
    while found.is_ping() {
        found = client.next();
    }
    let beginning = |message: &Message| message.to_string().chars().take(100).collect::<String>();
    assert!(
        found == *expected,
        "{} instead of {}",
        beginning(&found),
        beginning(expected)
    );
}

/// Publishes until it is stopped, and checks what comes back. It waits for its own messages, so it is not far ahead of them.
fn publish(mut publisher: Client, mut witness: Client, is_over: &AtomicBool) {
    let mut number = 0;
    while !is_over.load(Ordering::SeqCst) {
        publisher.send(message(number));
        number += 1;
        if number >= WINDOW {
            let back = message(number - WINDOW);
            for client in [&mut publisher, &mut witness] {
                expect(client, &back);
            }
        }
    }
    for rest in number.saturating_sub(WINDOW - 1)..number {
        let back = message(rest);
        for client in [&mut publisher, &mut witness] {
            expect(client, &back);
        }
    }
}

/// A client that runs as a program: its name, and its command without the arguments.
fn programs() -> Vec<(&'static str, Command)> {
    let script = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/libraries")
            .join(name)
    };
    let javascript = format!("{RECEIVE}{RUN}");
    let mut programs = Vec::new();
    let python = peers().join("python-websockets/venv/bin/python");
    if has("Python's websockets", &python) {
        let mut command = Command::new(python);
        command.arg(script("receive.py"));
        programs.push(("websockets", command));
    }
    let modules = peers().join("node-ws/node_modules");
    if has("ws for Node.js", &modules) {
        for kind in ["ws", "undici"] {
            let mut command = Command::new("node");
            command
                .args([
                    "--no-warnings",
                    "--experimental-websocket",
                    "-e",
                    &javascript,
                    "--",
                ])
                .env("NODE_PATH", &modules);
            programs.push((kind, command));
        }
    }
    let bun = peers().join("bun/bun");
    if has("Bun", &bun) {
        let mut command = Command::new(bun);
        command.args(["-e", &javascript, "--"]);
        programs.push(("bun", command));
    }
    let gorilla = PathBuf::from("/usr/share/gocode/src/github.com/gorilla/websocket");
    if has("gorilla/websocket for Go", &gorilla) {
        let mut command = Command::new("go");
        command
            .arg("run")
            .arg(script("receive.go"))
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")]);
        programs.push(("gorilla", command));
    }
    programs
}

/// The number of messages that a client says it has checked.
fn checked(said: &str) -> u64 {
    let count = said.trim().strip_prefix("checked ");
    let count = count.unwrap_or_else(|| panic!("{said}"));
    count.parse().expect("a number")
}

/// Lets all clients that are installed join and leave under one policy.
fn receive(policy: SlowConsumerPolicy) {
    let may_miss = policy == SlowConsumerPolicy::Drop;
    let misses = if may_miss { "may-miss" } else { "all" };
    let mut config = config(2);
    config.compression.enabled = true;
    config.compression.min_members = 1;
    config.slow_consumer.policy = policy;
    let world = World::with(&config);
    let url = format!("ws://{}/room", world.relay.address());
    let is_over = AtomicBool::new(false);
    let (publisher, witness) = (world.connect("/room"), world.connect("/room"));
    thread::scope(|scope| {
        let _guard = Guard(&world);
        scope.spawn(|| {
            let _guard = Guard(&world);
            publish(publisher, witness, &is_over);
        });
        let mut clients = Vec::new();
        for (index, (name, mut command)) in programs().into_iter().enumerate() {
            let (joins, seed) = (JOINS.to_string(), (index + 1).to_string());
            command.args([url.as_str(), &joins, &seed, misses, name]);
            clients.push(scope.spawn(move || {
                let output = command.output().expect("the client starts");
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{name}: {complaint}");
                checked(&String::from_utf8_lossy(&output.stdout))
            }));
        }
        if let Some(mut browser) = Browser::start() {
            let page = PAGE
                .replace("URL", &url)
                .replace("JOINS", &JOINS.to_string())
                .replace("MISSES", &may_miss.to_string());
            // The helpers are the page's only for this expression.
            let said = browser.evaluate(&format!("(() => {{ {RECEIVE} return ({page}); }})()"));
            let said = said.as_str().unwrap_or_default();
            assert!(checked(said) >= JOINS as u64);
        }
        let results: Vec<_> = clients
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        is_over.store(true, Ordering::SeqCst);
        for result in results {
            assert!(result.expect("a client") >= JOINS as u64);
        }
    });
    world.end();
}

#[test]
fn clients_with_and_without_compression_get_every_byte() {
    receive(SlowConsumerPolicy::Backpressure);
}

#[test]
fn clients_that_miss_messages_get_every_byte_of_the_others() {
    receive(SlowConsumerPolicy::Drop);
}
