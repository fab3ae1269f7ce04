//! Real clients, with the compressors that their users have: libraries for Python, Node.js, Bun and Go, and Chromium. Here they
//! send; [`receiving`] has them receive.
//!
//! `loadtest/peers/install` installs the libraries. A client that is not installed is skipped, but not on CI.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fanwire::server::Stat;

use self::browser::Browser;
use crate::support::{World, config};

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the load generator's tests use more of it"
)]
#[path = "../../loadtest/tests/browser/mod.rs"]
mod browser;
mod receiving;

/// The messages that each client sends and gets back. The scripts know it, too.
const MESSAGES: u64 = 200;

/// Says messages, one by one and then many at once, and compares what comes back.
const PYTHON: &str = r#"
import asyncio, sys
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

def message(number):
    text = f'{{"event":"trade","number":{number},"price":"{number * 7919 % 100003}","é":"€😀"}}' * (1 + number % 40)
    return text if number % 3 else text.encode()

async def main(url, alone):
    offers = [ClientPerMessageDeflateFactory(client_no_context_takeover=alone, client_max_window_bits=True)]
    async with connect(url, compression=None, extensions=offers) as socket:
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == ["permessage-deflate"], names
        for number in range(100):
            await socket.send(message(number))
            assert await socket.recv() == message(number), number
        for number in range(100, 200):
            await socket.send(message(number))
        for number in range(100, 200):
            assert await socket.recv() == message(number), number

asyncio.run(main(sys.argv[1], sys.argv[2] == "alone"))
"#;

/// The same.
const NODE: &str = r#"
const WebSocket = require('ws');
const [url, kind] = process.argv.slice(1);
const message = (number) => {
  const text = `{"event":"trade","number":${number},"price":"${number * 7919 % 100003}","é":"€😀"}`.repeat(1 + number % 40);
  return number % 3 ? text : Buffer.from(text);
};
const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0, clientNoContextTakeover: kind === 'alone' } });
let next = 0;
socket.on('open', () => {
  if (!socket.extensions.startsWith('permessage-deflate')) throw new Error(`extensions: ${socket.extensions}`);
  socket.send(message(0));
});
socket.on('message', (data, isBinary) => {
  const expected = message(next);
  if (isBinary !== (next % 3 === 0) || !data.equals(Buffer.from(expected))) throw new Error(`message ${next}`);
  next += 1;
  if (next < 100) socket.send(message(next));
  if (next === 100) for (let number = 100; number < 200; number += 1) socket.send(message(number));
  if (next === 200) socket.close(1000);
});
socket.on('close', (code) => process.exit(code === 1000 && next === 200 ? 0 : 1));
"#;

/// The same, as the value of a page.
const PAGE: &str = r#"
new Promise((resolve) => {
  const message = (number) =>
    `{"event":"trade","number":${number},"price":"${number * 7919 % 100003}","é":"€😀"}`.repeat(1 + number % 40);
  const socket = new WebSocket('URL');
  let next = 0;
  socket.onopen = () => {
    if (socket.extensions !== 'permessage-deflate') resolve(`extensions: ${socket.extensions}`);
    socket.send(message(0));
  };
  socket.onmessage = ({ data }) => {
    if (data !== message(next)) resolve(`message ${next}`);
    next += 1;
    if (next < 100) socket.send(message(next));
    if (next === 100) for (let number = 100; number < 200; number += 1) socket.send(message(number));
    if (next === 200) socket.close(1000);
  };
  socket.onclose = ({ code, reason }) => resolve(`closed with ${code} ${reason} after ${next}`);
})
"#;

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/peers")
}

/// Whether a client is installed. On CI all are.
fn has(what: &str, path: &Path) -> bool {
    let is_there = path.exists();
    if !is_there {
        assert!(
            std::env::var_os("CI").is_none(),
            "{what} is not installed: {}",
            path.display()
        );
        // Not captured, so that the skip is seen.
        let _ = writeln!(std::io::stderr(), "skipped: {what} is not installed");
    }
    is_there
}

fn compressing() -> World {
    let mut config = config(2);
    config.compression.enabled = true;
    config.compression.min_members = 1;
    World::with(&config)
}

/// Has the client talk to a relay, and checks that all its messages were compressed, on both ways.
fn talk(client: impl FnOnce(&str)) {
    let world = compressing();
    client(&format!("ws://{}/room", world.relay.address()));
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), MESSAGES);
    assert_eq!(stats.value(Stat::InflatedMessages), MESSAGES);
    assert_eq!(stats.value(Stat::DeflatedMessages), MESSAGES);
    assert_eq!(stats.value(Stat::DeflatePlainDeliveries), 0);
    assert_eq!(stats.value(Stat::DisconnectedByClient), 1);
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("the client starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
}

#[test]
fn a_client_in_python_compresses() {
    let python = peers().join("python-websockets/venv/bin/python");
    if !has("Python's websockets", &python) {
        return;
    }
    for kind in ["in context", "alone"] {
        talk(|url| succeeds(Command::new(&python).args(["-c", PYTHON, url, kind])));
    }
}

#[test]
fn a_client_in_node_js_compresses() {
    let modules = peers().join("node-ws/node_modules");
    if !has("ws for Node.js", &modules) {
        return;
    }
    for kind in ["in context", "alone"] {
        talk(|url| {
            let mut node = Command::new("node");
            succeeds(
                node.args(["-e", NODE, url, kind])
                    .env("NODE_PATH", &modules),
            );
        });
    }
}

#[test]
fn a_page_in_chromium_compresses() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    talk(|url| {
        let outcome = browser.evaluate(&PAGE.replace("URL", url));
        assert_eq!(outcome, "closed with 1000  after 200");
    });
}
