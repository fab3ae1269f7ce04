//! The servers that a comparison can start: what they are, what they need to be there, and how each is started and ended.
//!
//! Their sources and configurations are in `loadtest/peers`; `loadtest/peers/install` installs what is not ours.

pub mod certificate;
mod started;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use certificate::{CERTIFICATE, Certificate, KEY};
use started::Scratch;
pub use started::Started;

/// Ports that servers get: below those that this system makes connections from, 32768 and up.
const FIRST_PORT: u16 = 12_000;
const PORTS: u32 = 20_000;

/// What is said of a server that shall speak TLS and cannot.
const NO_TLS: &str = "has no TLS here";

/// A server that can be started.
///
/// In its texts `{here}` is the folder of this program, `{peers}` that of the peers, `{scratch}` one that is removed when it
/// has ended, `{config}` its configuration, `{port}` and `{metrics}` ports, and `{workers}` how many processors it has. In its
/// template `{tls}` is what it needs to speak TLS, with `{certificate}` and `{key}`, and nothing if it shall not.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The program and its arguments. It finds `PORT` and `WORKERS` in its environment as well.
    command: &'static [&'static str],
    /// Its configuration, from which one without placeholders is made.
    template: Option<&'static str>,
    /// What is put behind the template.
    settings: &'static str,
    /// Files that must be there, beside the program.
    needs: &'static [&'static str],
    /// Whether it has counters to compare with the generator's, at `{metrics}`.
    has_metrics: bool,
    /// How it comes to speak TLS.
    tls: Tls,
    /// How to install it.
    install: &'static str,
}

/// How a server comes to speak TLS.
#[derive(Clone, Copy, Debug)]
enum Tls {
    /// It cannot.
    Never,
    /// It finds the files' names as `TLS_CERTIFICATE` and `TLS_KEY` in its environment.
    Environment,
    /// This is put in place of `{tls}` in its template.
    Template(&'static str),
}

const FANWIRE: &[&str] = &["{here}/fanwire", "--config-file", "{config}"];
const FANWIRE_TLS: Tls =
    Tls::Template(r#"tls: { enabled: true, cert_file: "{certificate}", key_file: "{key}" }"#);
const NGINX_TLS: Tls = Tls::Template(
    r#" ssl; ssl_protocols TLSv1.3; ssl_certificate "{certificate}"; ssl_certificate_key "{key}""#,
);
const BUILD: &str = "cargo build --release --workspace";
const TOKIO: &str = "{peers}/tokio-tungstenite/target/release/peer-tokio-tungstenite";

/// What every entry of [`PEERS`] begins with.
const PLAIN: Peer = Peer {
    name: "",
    about: "",
    command: &[],
    template: None,
    settings: "",
    needs: &[],
    has_metrics: false,
    tls: Tls::Never,
    install: BUILD,
};

/// All servers that can be started, in the order of a table.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "floor",
        about: "No relay, but the least that a server can do: one send per connection and turn.",
        command: &["{here}/floor", "--port", "{port}"],
        ..PLAIN
    },
    Peer {
        name: "fanwire",
        about: "This relay, with a worker for each processor that it has.",
        command: FANWIRE,
        template: Some("{peers}/fanwire/config.yaml"),
        has_metrics: true,
        tls: FANWIRE_TLS,
        ..PLAIN
    },
    Peer {
        name: "fanwire-at-once",
        about: "The same with relay.coalesce off: what has come goes out, however little it is.",
        command: FANWIRE,
        template: Some("{peers}/fanwire/config.yaml"),
        settings: "relay:\n  coalesce: 0s\n",
        has_metrics: true,
        tls: FANWIRE_TLS,
        ..PLAIN
    },
    Peer {
        name: "bun",
        about: "Bun's WebSocket server, which is µWebSockets, publishing to a topic.",
        command: &["{peers}/bun/bun", "{peers}/bun/server.js"],
        tls: Tls::Environment,
        install: "loadtest/peers/install bun",
        ..PLAIN
    },
    Peer {
        name: "tokio-tungstenite",
        about: "tokio-tungstenite; each task takes what is queued, and flushes once.",
        command: &[TOKIO],
        tls: Tls::Environment,
        install: "loadtest/peers/install tokio-tungstenite",
        ..PLAIN
    },
    Peer {
        name: "go-gorilla",
        about: "Go's gorilla/websocket; frames encoded once, and what is queued leaves in one write.",
        command: &["{peers}/go-gorilla/server"],
        tls: Tls::Environment,
        install: "loadtest/peers/install go-gorilla",
        ..PLAIN
    },
    Peer {
        name: "node-ws",
        about: "Node's ws; sockets corked, so that what a turn brings leaves in one write.",
        command: &["node", "{peers}/node-ws/server.js"],
        needs: &["{peers}/node-ws/node_modules/ws/package.json"],
        tls: Tls::Environment,
        install: "loadtest/peers/install node-ws",
        ..PLAIN
    },
    Peer {
        name: "nginx-nchan",
        about: "nginx with the nchan module.",
        command: &["nginx", "-p", "{scratch}", "-e", "stderr", "-c", "{config}"],
        template: Some("{peers}/nginx-nchan/nginx.conf"),
        needs: &["/usr/lib/nginx/modules/ngx_nchan_module.so"],
        tls: NGINX_TLS,
        install: "loadtest/peers/install nginx-nchan",
        ..PLAIN
    },
    Peer {
        name: "python-websockets",
        about: "Python's websockets with uvloop, broadcasting.",
        command: &[
            "{peers}/python-websockets/venv/bin/python",
            "{peers}/python-websockets/server.py",
        ],
        tls: Tls::Environment,
        install: "loadtest/peers/install python-websockets",
        ..PLAIN
    },
    Peer {
        name: "tokio-tungstenite-each",
        about: "tokio-tungstenite; each message is sent and flushed by itself.",
        command: &[TOKIO, "--each"],
        tls: Tls::Environment,
        install: "loadtest/peers/install tokio-tungstenite",
        ..PLAIN
    },
    Peer {
        name: "floor-frame",
        about: "No relay, but the least that a server can do that sends each frame by itself.",
        command: &["{here}/floor", "--port", "{port}", "--sends", "frame"],
        ..PLAIN
    },
    Peer {
        name: "floor-memfd",
        about: "No relay, but the least that a server can do with sendfile from memory: for large messages.",
        command: &["{here}/floor", "--port", "{port}", "--sends", "memfd"],
        ..PLAIN
    },
];

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of this program, with those of fanwire and the floor.
    pub here: PathBuf,
    /// `loadtest/peers`.
    pub peers: PathBuf,
}

impl Peer {
    /// The server of this name.
    pub fn named(name: &str) -> Option<&'static Peer> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// What is missing and how to install it; nothing if it can be started.
    pub fn missing(&self, places: &Places) -> Option<String> {
        let needed = self.command[..1]
            .iter()
            .chain(self.needs)
            .chain(&self.template);
        let missing = needed
            .map(|what| places.fill(what))
            .find(|what| !is_there(what))?;
        Some(format!(
            "not installed: {missing} is missing; {}",
            self.install
        ))
    }

    /// Why it cannot take part, if it cannot: it has no TLS and shall speak it, or something is missing.
    pub fn absent(&self, places: &Places, speaks_tls: bool) -> Option<String> {
        match self.tls {
            Tls::Never if speaks_tls => Some(NO_TLS.to_owned()),
            Tls::Never | Tls::Environment | Tls::Template(_) => self.missing(places),
        }
    }

    /// Starts it, and waits until it accepts connections: over TLS, if there is a certificate for it. It inherits this
    /// thread's processors, of which there are `workers`.
    pub fn start(
        &self,
        places: &Places,
        workers: usize,
        certificate: Option<&Certificate>,
    ) -> Result<Started, String> {
        if certificate.is_some() && matches!(self.tls, Tls::Never) {
            return Err(format!("{} {NO_TLS}", self.name));
        }
        let failed = |error: io::Error| format!("{} does not start: {error}", self.name);
        let (port, metrics) = (free_port().map_err(failed)?, free_port().map_err(failed)?);
        let scratch = Scratch::create(port).map_err(failed)?;
        let path = |name| scratch.join(name).display().to_string();
        let placeholders = [
            ("{port}", port.to_string()),
            ("{metrics}", metrics.to_string()),
            ("{workers}", workers.to_string()),
            ("{config}", path("config")),
            ("{certificate}", path(CERTIFICATE)),
            ("{key}", path(KEY)),
            ("{scratch}", scratch.0.display().to_string()),
        ];
        let fill = |text: &str| {
            let filled = placeholders.iter();
            filled.fold(places.fill(text), |text, (name, value)| {
                text.replace(name, value)
            })
        };
        let config = self.template.map(|_| scratch.join("config"));
        if let (Some(template), Some(config)) = (self.template, &config) {
            let text = fs::read_to_string(places.fill(template)).map_err(failed)? + self.settings;
            let tls = match self.tls {
                Tls::Template(tls) if certificate.is_some() => tls,
                Tls::Never | Tls::Environment | Tls::Template(_) => "",
            };
            fs::write(config, fill(&text.replace("{tls}", tls))).map_err(failed)?;
        }
        let words: Vec<String> = self.command.iter().map(|word| fill(word)).collect();
        let mut command = command(&words);
        tell_tls(&mut command, certificate, &scratch).map_err(failed)?;
        let errors = File::create(scratch.join("errors")).map_err(failed)?;
        let child = command
            .env("PORT", port.to_string())
            .env("WORKERS", workers.to_string())
            .env("GOMAXPROCS", workers.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut started = Started {
            child,
            ended: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            config,
            certificate: certificate.map(|_| scratch.join(CERTIFICATE)),
            metrics_url: self
                .has_metrics
                .then(|| format!("http://127.0.0.1:{metrics}/metrics")),
            scratch,
        };
        started
            .wait_until_ready()
            .map_err(|why| format!("{} {why}", self.name))?;
        Ok(started)
    }
}

/// Puts a certificate and its key where a program finds them; without one, what this process's own environment says of them
/// is kept from it.
fn tell_tls(
    command: &mut Command,
    certificate: Option<&Certificate>,
    scratch: &Scratch,
) -> io::Result<()> {
    for (variable, file) in [("TLS_CERTIFICATE", CERTIFICATE), ("TLS_KEY", KEY)] {
        match certificate {
            Some(_) => command.env(variable, scratch.join(file)),
            None => command.env_remove(variable),
        };
    }
    certificate.map_or(Ok(()), |certificate| certificate.write(&scratch.0))
}

/// Ends with this process, where the system has a tool for it: a second Ctrl-C must leave no server behind.
fn command(words: &[String]) -> Command {
    if is_there("setpriv") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).args(words);
        return command;
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Whether a file is there, or a program that is named without a folder.
fn is_there(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}

/// A port that is free, and will be so a moment later: not one of those that connections are made from, nor one that this
/// process has used before. Others that look for ports begin elsewhere.
fn free_port() -> io::Result<u16> {
    static USED: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(101);
    loop {
        // Relaxed: all that matters is that nobody gets the same twice.
        let next = USED.fetch_add(1, Ordering::Relaxed);
        // Within the bounds of a port by the modulus.
        let port = FIRST_PORT + (begin.wrapping_add(next) % PORTS) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) if next >= PORTS => return Err(error),
            Err(_) => {}
        }
    }
}

impl Places {
    fn fill(&self, text: &str) -> String {
        let text = text.replace("{here}", &self.here.display().to_string());
        text.replace("{peers}", &self.peers.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn places() -> Places {
        Places {
            here: PathBuf::from("/nowhere"),
            peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_the_way_to_get_it() {
        let missing = Peer::named("floor").unwrap().missing(&places()).unwrap();
        assert_eq!(
            missing,
            format!("not installed: /nowhere/floor is missing; {BUILD}")
        );
    }

    /// Why a server that is started so is none.
    fn failure_of(command: &'static [&'static str]) -> String {
        let peer = Peer {
            name: "liar",
            command,
            ..PLAIN
        };
        peer.start(&places(), 1, None).unwrap_err()
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_last_words() {
        let error = failure_of(&["sh", "-c", "echo ready; echo no such luck >&2; exit 3"]);
        assert!(
            error.contains("no such luck") && error.contains("status: 3"),
            "{error}"
        );
    }

    #[test]
    fn what_a_server_that_crashed_has_started_ends_with_it() {
        let error = failure_of(&["sh", "-c", "sleep 600 & echo child $! left >&2; exit 3"]);
        let mut words = error.split(' ').skip_while(|word| !word.ends_with("child"));
        let child: u32 = words.nth(1).unwrap().parse().unwrap();
        let is_there =
            || fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty());
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_there() {
            assert!(Instant::now() < deadline, "{child} is left");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn names_are_unique_and_templates_and_sources_are_there() {
        for (index, peer) in PEERS.iter().enumerate() {
            assert!(PEERS[..index].iter().all(|other| other.name != peer.name));
            let template = peer.template.map(|file| places().fill(file));
            let text = template.map_or(String::new(), |file| fs::read_to_string(file).unwrap());
            let has_place = matches!(peer.tls, Tls::Template(_));
            assert_eq!(text.contains("{tls}"), has_place, "{}", peer.name);
            let sources = peer.command[1..]
                .iter()
                .filter(|word| word.starts_with("{peers}"));
            for file in sources.chain(&peer.template) {
                assert!(is_there(&places().fill(file)), "{file}");
            }
        }
    }
}
