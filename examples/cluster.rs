//! A first look at several relays as one: starts a `redis-server` and three relays on this machine.
//!
//! ```sh
//! cargo run --release --example cluster
//! ```
//!
//! Open two of the pages that it names, and write in one of them. Stop the engine, or one of the relays' connections, and
//! see what happens. Ctrl-C ends it all. Nothing is kept.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fanwire::config::Config;
use fanwire::server::{Relay, RelayHandle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The number of relays.
const RELAYS: usize = 3;

/// The longest wait for the engine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The engine. It ends with the example.
struct Engine {
    process: Child,
    port: u16,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already: Ctrl-C reaches it, too.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let folder = tempfile::tempdir()?;
    let engine = start_engine(folder.path())?;
    let relays = (0..RELAYS)
        .map(|_| start_relay(engine.port))
        .collect::<Result<Vec<_>, _>>()?;
    tell(&engine, &relays)?;
    // Waits for the first signal.
    signals.forever().next();
    for relay in &relays {
        relay.shutdown();
    }
    for relay in relays {
        relay.join()?;
    }
    Ok(())
}

fn start_engine(folder: &Path) -> Result<Engine, Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let process = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--maxmemory-policy", "noeviction"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| {
            format!(
                "redis-server cannot be started: {error}; on Debian: apt-get install redis-server"
            )
        })?;
    let engine = Engine { process, port };
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > until {
            return Err("redis-server does not listen".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(engine)
}

fn start_relay(port: u16) -> Result<RelayHandle, Box<dyn Error>> {
    let text = format!(
        "server: {{host: 127.0.0.1, port: 0}}\n\
         metrics: {{port: 0}}\n\
         history: {{max_age: 2m}}\n\
         cluster:\n  engines: [{{name: main, url: 'redis://127.0.0.1:{port}'}}]\n"
    );
    let config = Config::from_yaml(&text, "the example")?;
    Ok(Relay::start(&config)?)
}

fn tell(engine: &Engine, relays: &[RelayHandle]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "The engine: redis-cli -p {}", engine.port)?;
    for relay in relays {
        write!(out, "A relay:    http://{}/room", relay.address())?;
        if let Some(metrics) = relay.metrics_address() {
            write!(out, "   and its metrics: http://{metrics}/metrics")?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "Open two of the pages, and write in one of them. Ctrl-C ends it."
    )
}
