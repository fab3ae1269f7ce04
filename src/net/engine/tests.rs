//! Real sockets: a server of Redis if there is one, and servers that do everything wrong.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};

use super::*;
use crate::cluster::engine::EngineSettings;
use crate::cluster::hello::{Hello, Shared as SharedSettings};
use crate::cluster::link::LinkSettings;
use crate::cluster::place::NodeId;
use crate::cluster::topic::TopicSettings;
use crate::cluster::topic::effect::Effect;
use crate::config::Config;
use crate::http::health::Health;
use crate::net::clock::Clock;
use crate::net::mail::Postboxes;

/// The longest time that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Frames to publish.
#[derive(Debug, PartialEq)]
struct Frames(Vec<u8>);

impl Parcel for Frames {
    fn messages(&self) -> u32 {
        1
    }

    fn len_bytes(&self) -> usize {
        self.0.len()
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.0[..])
    }
}

/// A worker without clients: its engines, its connections, its event loop.
struct Rig {
    poll: Poll,
    links: Links,
    engines: Vec<Engine<Frames>>,
    clock: Clock,
    found: Receiver<Found>,
    vitals: Arc<Vitals>,
    published: Arc<PublishedEngines>,
    events: Vec<Effect<Frames>>,
    hears: bool,
}

impl Rig {
    /// A worker with the engines of a configuration's `cluster`.
    fn new(cluster: &str, node: u64) -> Rig {
        let config = Config::from_yaml(&format!("cluster: {cluster}"), "t.yaml").unwrap();
        let cluster = &config.cluster;
        let targets: Arc<[Target]> = target::load(cluster).unwrap().into();
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, found) = mpsc::channel();
        let finder = |(at, target): (usize, &Target)| {
            let (sender, waker) = (sender.clone(), waker.clone());
            let tell = move |_, found| {
                let is_heard = sender.send(found).is_ok();
                waker.wake().unwrap();
                is_heard
            };
            let finder = Finder::start(at, target.clone(), 1, cluster.connect_timeout, tell);
            Some(finder.unwrap())
        };
        let postbox = crate::net::mail::Postbox::new(
            Waker::new(Poll::new().unwrap().registry(), Token(0)).unwrap(),
        );
        let postboxes: Postboxes = [postbox].into_iter().collect();
        let vitals = Arc::new(Vitals::new(postboxes, 10).of_cluster());
        let names = targets.iter().map(|target| target.name.clone()).collect();
        let published = PublishedEngines::new(names, 1);
        let shared = Shared {
            finders: targets.iter().enumerate().map(finder).collect(),
            stories: targets.iter().map(|_| Story::new(1)).collect(),
            published: published.clone(),
            vitals: vitals.clone(),
            limits: Limits {
                max_reply_bytes: 1 << 20,
                max_message_bytes: 1 << 20,
                unready_after: cluster.unready_after,
            },
            targets: targets.clone(),
        };
        let clock = Clock::start();
        let settings = settings(cluster, NodeId(node));
        let engines = targets
            .iter()
            .map(|_| Engine::new(settings.clone(), node, clock.now()));
        Rig {
            links: Links::new(0, shared),
            engines: engines.collect(),
            poll,
            clock,
            found,
            vitals,
            published,
            events: Vec::new(),
            hears: true,
        }
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        let due = self.engines.iter().filter_map(Engine::poll_timeout).min();
        let sleep = due.map_or(Duration::from_millis(50), |due| due.since(now));
        let sleep = if self.links.is_busy() {
            Duration::ZERO
        } else {
            sleep.min(Duration::from_millis(50))
        };
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(sleep)).unwrap();
        for event in &events {
            assert!(self.links.note_event(event) || event.token() == Token(0));
        }
        for found in self.found.try_iter() {
            self.links.on_found(&found, self.poll.registry());
        }
        let now = self.clock.now();
        self.links.take_news(&mut self.engines, self.hears, now);
        for (at, engine) in self.engines.iter_mut().enumerate() {
            while engine.poll_timeout().is_some_and(|due| due <= now) {
                engine.handle_timeout(now);
            }
            for action in engine.take_actions() {
                self.links.act(at, action, self.poll.registry());
            }
            let events = engine.take_events().into_iter();
            self.events.extend(events.map(|(_, effect)| effect));
        }
        self.links.flush();
        self.links.publish(&self.engines);
    }

    /// Turns until something is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Rig) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < until, "not within the time: {what}");
            self.turn();
        }
    }

    fn until_up(&mut self) {
        self.until("the engine is up", |rig| {
            rig.engines.iter().all(Engine::is_up)
        });
    }

    fn until_lost(&mut self, loss: Loss) {
        self.until(&format!("lost: {loss:?}"), |rig| rig.losses(loss) > 0);
    }

    fn losses(&self, loss: Loss) -> u64 {
        let mut losses = self.published.losses();
        losses.next().expect("an engine").1[loss as usize]
    }

    /// A member joins a topic of the first engine.
    fn join(&mut self, topic: &str) -> crate::cluster::engine::asked::TopicKey {
        let now = self.clock.now();
        let key = self.engines[0].topic(topic);
        self.engines[0].on_members(key, 1, now);
        self.until("the topic is live", |rig| {
            rig.engines[0]
                .get(key)
                .is_some_and(crate::cluster::topic::Topic::is_joinable)
        });
        key
    }

    fn publish(&mut self, topic: &str, text: &str) {
        let now = self.clock.now();
        let key = self.engines[0].topic(topic);
        let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
        frame.extend_from_slice(text.as_bytes());
        self.engines[0].publish(key, Frames(frame), now);
    }

    /// The frames that were delivered.
    fn delivered(&self) -> Vec<&[u8]> {
        let frames = self.events.iter().filter_map(|effect| match effect {
            Effect::Deliver { arrival, .. } => Some(&arrival.frames[..]),
            _ => None,
        });
        frames.collect()
    }
}

fn settings(cluster: &crate::config::Cluster, node: NodeId) -> EngineSettings {
    EngineSettings {
        worker: 0,
        link: LinkSettings {
            connect_timeout: cluster.connect_timeout,
            io_timeout: cluster.io_timeout,
            probe_interval: cluster.probe_interval,
        },
        topic: TopicSettings {
            node,
            max_batch_bytes: cluster.max_batch_bytes,
            max_pending_bytes: cluster.pending_per_topic as u64,
            outage_timeout: cluster.outage_timeout,
            topic_ttl: cluster.topic_ttl,
            linger: Duration::from_secs(5),
        },
        hello: Hello {
            version: crate::cluster::batch::VERSION,
            node,
            shared: SharedSettings {
                engines: 1,
                prefix: cluster.prefix.clone(),
                topics: "path".into(),
                history: false,
                echo: true,
                max_message_bytes: 1 << 20,
            },
        },
        history_bytes: cluster.history as u64,
        history_ttl: cluster.history_ttl,
        audit_rate: cluster.audit_rate,
        pending_bytes: cluster.pending as u64,
    }
}

/// A server that ends with the test.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts a server that listens on a Unix socket, and as `more` says. `None`, with a line, where none is installed; in
    /// CI, one is.
    fn start(more: &[&str]) -> Option<Server> {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::new("redis-server");
        process.args(["--save", "", "--appendonly", "no", "--unixsocket"]);
        process.arg(folder.path().join("engine.sock"));
        process
            .arg("--dir")
            .arg(folder.path())
            .args(["--bind", "127.0.0.1"]);
        if !more.contains(&"--port") {
            process.args(["--port", "0"]);
        }
        process
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        match process.spawn() {
            Ok(process) => Some(Server { process, folder }),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no redis-server: {error}");
                eprintln!("skipped: no redis-server is installed");
                None
            }
        }
    }

    fn url(&self) -> String {
        format!("unix:{}", self.folder.path().join("engine.sock").display())
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn one(url: &str) -> String {
    format!("{{engines: [{{name: a, url: '{url}'}}], io_timeout: 300ms, connect_timeout: 300ms}}")
}

#[test]
fn two_nodes_hear_each_other_and_themselves_in_one_order() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let cluster = format!("{{engines: [{{name: a, url: '{}'}}]}}", server.url());
    let mut rigs = [Rig::new(&cluster, 1), Rig::new(&cluster, 2)];
    for rig in &mut rigs {
        rig.until_up();
        rig.join("/room");
    }
    for round in 0..50 {
        for (at, rig) in rigs.iter_mut().enumerate() {
            rig.publish("/room", &format!("{at}-{round}"));
            rig.turn();
        }
    }
    for rig in &mut rigs {
        rig.until("all frames are there", |rig| {
            let bytes: usize = rig.delivered().iter().map(|frames| frames.len()).sum();
            bytes == 2 * (10 * 5 + 40 * 6)
        });
    }
    let [one, other] = &rigs;
    assert_eq!(one.delivered().concat(), other.delivered().concat());
    let total = |stat| one.published.totals(stat).next().unwrap().1;
    assert_eq!(total(EngineStat::Up), 1);
    assert!(total(EngineStat::Published) > 0 && total(EngineStat::BytesIn) > 1000);
    assert!(total(EngineStat::BytesOut) > 1000 && total(EngineStat::Topics) == 1);
}

#[test]
fn a_server_that_restarts_is_connected_again() {
    let port = free_port().to_string();
    let Some(server) = Server::start(&["--port", &port]) else {
        return;
    };
    let mut rig = Rig::new(&one(&format!("redis://127.0.0.1:{port}")), 1);
    rig.until_up();
    rig.join("/room");
    drop(server);
    rig.until_lost(Loss::Closed);
    rig.until_lost(Loss::Refused);
    let server = Server::start(&["--port", &port]);
    rig.until_up();
    rig.publish("/room", "hello");
    rig.until("the message is back", |rig| !rig.delivered().is_empty());
    drop(server);
}

#[test]
fn a_user_and_a_password_are_shown_to_the_server_and_a_wrong_one_is_named() {
    let port = free_port().to_string();
    let users = [
        "--port", &port, "--user", "relay", "on", ">correct", "~*", "&*", "+@all", "--user",
        "default", "off",
    ];
    let Some(_server) = Server::start(&users) else {
        return;
    };
    let mut rig = Rig::new(&one(&format!("redis://relay:correct@127.0.0.1:{port}")), 1);
    rig.until_up();
    let mut rig = Rig::new(&one(&format!("redis://relay:wrong@localhost:{port}")), 1);
    rig.until_lost(Loss::Auth);
}

#[test]
fn a_server_that_stops_is_silent_and_one_that_is_not_read_is_not() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let cluster = format!(
        "{{engines: [{{name: a, url: '{}'}}], io_timeout: 300ms, probe_interval: 100ms}}",
        server.url()
    );
    let mut rig = Rig::new(&cluster, 1);
    rig.until_up();
    rig.join("/room");
    rig.hears = false;
    rig.publish("/room", "hello");
    let probes = rig.engines[0].counts().probes;
    rig.until("a second without reading", |rig| {
        rig.engines[0].counts().probes > probes + 10
    });
    assert_eq!(rig.losses(Loss::Silent), 0);
    assert!(rig.delivered().is_empty());
    rig.hears = true;
    rig.until("the message is back", |rig| !rig.delivered().is_empty());
    let pid = rustix::process::Pid::from_child(&server.process);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    rig.until_lost(Loss::Silent);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    rig.until_up();
}

#[test]
fn a_node_is_ready_once_it_has_listened_to_the_others_and_fits() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let cluster = format!(
        "{{engines: [{{name: a, url: '{}'}}], unready_after: 100ms}}",
        server.url()
    );
    let mut rig = Rig::new(&cluster, 1);
    rig.until_up();
    assert_eq!(rig.vitals.health(), Health::Joining);
    rig.until("it has listened", |rig| {
        rig.vitals.health() == Health::Ready
    });
    drop(server);
    rig.until("it is cut off", |rig| rig.vitals.health() == Health::CutOff);
}

/// A server that does `work` with each connection.
fn bad_server(work: impl Fn(TcpStream) + Send + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || work(stream));
        }
    });
    address
}

fn say(mut stream: TcpStream, bytes: &[u8]) {
    let mut buffer = [0; 4096];
    // The relay speaks first, and may be gone.
    let _ = stream.read(&mut buffer);
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut buffer);
    thread::sleep(Duration::from_secs(1));
}

#[test]
fn servers_that_speak_rubbish_are_dropped() {
    for server in [
        bad_server(|stream| say(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        bad_server(|stream| say(stream, b"$99999999999\r\n")),
        bad_server(|stream| say(stream, b"*1000000000\r\n")),
        bad_server(|stream| say(stream, &b"*1\r\n".repeat(1_000))),
        bad_server(|stream| say(stream, b":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n")),
        bad_server(|stream| say(stream, b"*3\r\n:1\r\n:2\r\n:3\r\n")),
    ] {
        let mut rig = Rig::new(&one(&format!("redis://{server}")), 1);
        rig.until("dropped for what it says", |rig| {
            rig.losses(Loss::Protocol) + rig.losses(Loss::Unfit) > 0
        });
    }
}

#[test]
fn a_server_that_is_slow_or_silent_or_hangs_up_is_dropped() {
    let drip = bad_server(|mut stream| {
        for _ in 0..100 {
            if stream.write_all(b"$").is_err() && stream.write_all(b"1").is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut rig = Rig::new(&one(&format!("redis://{drip}")), 1);
    rig.until("dropped", |rig| {
        rig.losses(Loss::Timeout) + rig.losses(Loss::Protocol) > 0
    });
    let silent = bad_server(|stream| say(stream, b""));
    Rig::new(&one(&format!("redis://{silent}")), 1).until_lost(Loss::Timeout);
    let gone = bad_server(drop);
    Rig::new(&one(&format!("redis://{gone}")), 1).until_lost(Loss::Closed);
    let nobody = free_port();
    Rig::new(&one(&format!("redis://127.0.0.1:{nobody}")), 1).until_lost(Loss::Refused);
    Rig::new(&one("redis://no-such-host.invalid"), 1).until_lost(Loss::Lookup);
}

/// A Sentinel that names the server with this port.
fn sentinel(port: u16) -> u16 {
    sentinel_of(Arc::new(AtomicU16::new(port)))
}

/// The same, with a port that changes.
fn sentinel_of(port: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let port = port.load(Ordering::Relaxed).to_string();
            let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    at
}

#[test]
fn sentinels_are_asked_one_after_the_other() {
    let port = free_port();
    let Some(_server) = Server::start(&["--port", &port.to_string()]) else {
        return;
    };
    let (dead, rubbish, good) = (
        free_port(),
        bad_server(|stream| say(stream, b"+OK\r\n")).port(),
        sentinel(port),
    );
    let cluster = format!(
        "{{engines: [{{name: a, sentinels: ['redis://127.0.0.1:{dead}', 'redis://127.0.0.1:{rubbish}', \
         'redis://127.0.0.1:{good}'], master: 'redis://mymaster'}}]}}"
    );
    let mut rig = Rig::new(&cluster, 1);
    rig.until_up();
}

#[test]
fn a_server_that_the_sentinels_do_not_name_any_more_is_left() {
    let ports = [free_port(), free_port()];
    let start = |port: u16| Server::start(&["--port", &port.to_string()]);
    let (Some(_old), Some(_new)) = (start(ports[0]), start(ports[1])) else {
        return;
    };
    let named = Arc::new(AtomicU16::new(ports[0]));
    let sentinel = sentinel_of(named.clone());
    let cluster = format!(
        "{{engines: [{{name: a, sentinels: ['redis://127.0.0.1:{sentinel}'], master: 'redis://mymaster'}}]}}"
    );
    let mut rig = Rig::new(&cluster, 1);
    rig.until_up();
    named.store(ports[1], Ordering::Relaxed);
    rig.until_lost(Loss::Moved);
    assert_eq!(rig.losses(Loss::Moved), 2, "both connections");
    rig.until_up();
    let wired = rig.links.ends[0].slots.iter().map(|slot| match slot {
        Slot::Wired(wire) => wire.address.map(|address| address.port()),
        _ => None,
    });
    assert!(wired.into_iter().all(|port| port == Some(ports[1])));
}

#[test]
fn a_tls_server_must_have_a_certificate_of_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        (rcgen::Issuer::new(params, key), pem)
    };
    let (issuer, ca) = authority("ours");
    let (_, other) = authority("another");
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let cert_file = write("cert.pem", &certificate.pem());
    let key_file = write("key.pem", &key.serialize_pem());
    let (ca_file, other_file) = (write("ca.pem", &ca), write("other.pem", &other));
    let port = free_port().to_string();
    let options = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert_file,
        "--tls-key-file",
        &key_file,
        "--tls-ca-cert-file",
        &ca_file,
    ];
    let Some(server) = Server::start(&options) else {
        return;
    };
    wait_for(server.folder.path());
    let with = |rest: &str| {
        format!("{{engines: [{{name: a, url: 'rediss://localhost:{port}'}}], {rest}}}")
    };
    // The server asks for a certificate, as it does by default.
    let rest = format!("ca_file: '{ca_file}', cert_file: '{cert_file}', key_file: '{key_file}'");
    let mut rig = Rig::new(&with(&rest), 1);
    rig.until_up();
    rig.join("/room");
    rig.publish("/room", &"x".repeat(100));
    rig.until("the message is back", |rig| !rig.delivered().is_empty());
    Rig::new(&with(&format!("ca_file: '{other_file}'")), 1).until_lost(Loss::Tls);
}

/// Waits for the server's socket.
fn wait_for(folder: &Path) {
    let until = Instant::now() + PATIENCE;
    while !folder.join("engine.sock").exists() {
        assert!(Instant::now() < until, "no server");
        thread::yield_now();
    }
}
