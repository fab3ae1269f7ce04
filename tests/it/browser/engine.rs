//! Programs that run `clients/fanwire.js`: browsers, and Node.js. Each opens rooms, and a room has one connection to the test.
//!
//! A program that is not installed is skipped, and says so. On CI, Chromium and Node.js must be there.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// The longest wait for a report. The pauses of the client are part of it.
const PATIENCE: Duration = Duration::from_secs(40);

/// The files that a page loads.
const FILES: [(&str, &str, &str); 2] = [
    (
        "/fanwire.js",
        "text/javascript",
        include_str!("../../../clients/fanwire.js"),
    ),
    (
        "/harness.mjs",
        "text/javascript",
        include_str!("harness.mjs"),
    ),
];

/// A running program. It is killed when the value is dropped.
pub(crate) struct Engine {
    process: Child,
    _profile: tempfile::TempDir,
}

/// One `Fanwire` in the program, under the test's orders.
pub(crate) struct Room {
    control: WebSocket<TcpStream>,
}

impl Engine {
    /// A headless Chromium with these rooms.
    pub(crate) fn chromium(rooms: usize) -> Option<(Engine, Vec<Room>)> {
        let name = installed(&["chromium", "chromium-browser", "google-chrome"], true)?;
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(name);
        command
            .args(CHROMIUM_FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()));
        Some(Engine::browser(command, profile, rooms))
    }

    /// A headless Firefox. It is optional, also on CI.
    pub(crate) fn firefox(rooms: usize) -> Option<(Engine, Vec<Room>)> {
        let name = installed(&["firefox-esr", "firefox"], false)?;
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(name);
        command
            .args(["--headless", "--no-remote", "--new-instance", "--profile"])
            .arg(profile.path());
        command.env("HOME", profile.path());
        Some(Engine::browser(command, profile, rooms))
    }

    /// Node.js with the package `ws`.
    pub(crate) fn node(rooms: usize) -> Option<(Engine, Vec<Room>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let package = root.join("loadtest/peers/node-ws/node_modules/ws");
        if !package.exists() {
            return skip("loadtest/peers/node-ws", true);
        }
        let name = installed(&["node"], true)?;
        let orders = listener();
        let mut command = Command::new(name);
        command
            .arg(root.join("tests/it/browser/node.mjs"))
            .args([url("ws", &orders), rooms.to_string()])
            .arg(package);
        Some(Engine::start(
            command,
            tempfile::tempdir().unwrap(),
            &orders,
            rooms,
        ))
    }

    fn browser(
        mut command: Command,
        profile: tempfile::TempDir,
        rooms: usize,
    ) -> (Engine, Vec<Room>) {
        let orders = listener();
        let page = format!(
            "<!doctype html><title>rooms</title><script type=module>\
             import {{ Fanwire }} from './fanwire.js'; import {{ open }} from './harness.mjs';\
             for (let n = 0; n < {rooms}; n += 1) open('{}', Fanwire, WebSocket);</script>",
            url("ws", &orders)
        );
        command.arg(serve(page));
        Engine::start(command, profile, &orders, rooms)
    }

    fn start(
        mut command: Command,
        profile: tempfile::TempDir,
        orders: &TcpListener,
        rooms: usize,
    ) -> (Engine, Vec<Room>) {
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Engine {
            process,
            _profile: profile,
        };
        let rooms = (0..rooms).map(|_| Room::accept(orders)).collect();
        (engine, rooms)
    }
}

impl Engine {
    /// Stops the program, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Room {
    fn accept(orders: &TcpListener) -> Room {
        let (stream, _) = orders.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Room {
            control: tungstenite::accept(stream).unwrap(),
        }
    }

    pub(crate) fn order(&mut self, act: &str, mut order: Value) {
        order["act"] = json!(act);
        self.control.send(Message::text(order.to_string())).unwrap();
    }

    /// Connects to this URL, with these options.
    pub(crate) fn follow(&mut self, url: &str, mut options: Value) {
        options["url"] = json!(url);
        self.order("follow", options);
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Value {
        let report = self.control.read().expect("a report");
        serde_json::from_str(report.to_text().unwrap()).unwrap()
    }

    /// The next event, which must be of this type.
    pub(crate) fn expect(&mut self, what: &str) -> Value {
        let report = self.next();
        assert_eq!(report["type"], what, "{report}");
        report
    }
}

/// Without these, Chromium asks for updates and the like on a network that may not be there.
pub(super) const CHROMIUM_FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
];

/// The first of these programs that is installed.
pub(super) fn installed(names: &[&'static str], must_be_there: bool) -> Option<&'static str> {
    let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    match names.iter().find(is_there) {
        Some(name) => Some(name),
        None => skip(names[0], must_be_there),
    }
}

fn skip<T>(name: &str, must_be_there: bool) -> Option<T> {
    let is_ci = std::env::var_os("CI").is_some();
    assert!(!(must_be_there && is_ci), "{name} is not installed");
    // Not captured, so that the skip is seen.
    let _ = writeln!(io::stderr(), "skipped: {name} is not installed");
    None
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn url(scheme: &str, listener: &TcpListener) -> String {
    format!("{scheme}://{}/", listener.local_addr().unwrap())
}

/// Serves a page and the files that it loads. Returns its URL.
fn serve(page: String) -> String {
    let listener = listener();
    let address = url("http", &listener);
    // The thread ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A browser may give up a connection.
            let _ = answer(stream, &page);
        }
    });
    address
}

fn answer(mut stream: TcpStream, page: &str) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let file = FILES.iter().find(|(name, ..)| *name == path);
    let (media_type, body) = file.map_or(("text/html", page), |(_, media_type, body)| {
        (*media_type, *body)
    });
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
