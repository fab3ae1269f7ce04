//! Event streams over real sockets, read by a small independent reader and by `curl`.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use fanwire::config::{Config, Publish, SlowConsumerPolicy, Token};
use fanwire::server::Stat;
use serde_json::Value;
use tungstenite::Message;

use crate::curl;
use crate::program::Program;
use crate::support::{PATIENCE, World, config, connect_narrowly, eventually};
use crate::tls_support::TlsWorld;

/// An event, as a page would get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Empty for a message.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The last id that was sent, with this event or before it.
    pub(crate) id: String,
}

impl Event {
    fn json(&self) -> Value {
        assert_eq!(self.name, "fanwire", "{self:?}");
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A reader of one response: its head, and then its events (WHATWG HTML, section 9.2.6).
pub(crate) struct Reader<S> {
    pub(crate) stream: BufReader<S>,
    pub(crate) head: String,
    id: String,
    /// The time after which it would come back.
    retry: Option<u64>,
    comments: usize,
}

impl<S: Read + Write> Reader<S> {
    /// Asks for events and reads the head of the response.
    pub(crate) fn open(mut stream: S, path: &str, fields: &str) -> Reader<S> {
        let accept = "Accept: text/event-stream";
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: relay.example\r\n{accept}\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Reader::over(stream)
    }

    fn over(stream: S) -> Reader<S> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "{head:?}");
        }
        Reader {
            stream,
            head,
            id: String::new(),
            retry: None,
            comments: 0,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        let (mut event, mut data) = (Event::default(), Vec::new());
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap() == 0 {
                assert!(data.is_empty(), "an event is torn: {data:?}");
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !data.is_empty() {
                event.data = data.join("\n");
                event.id.clone_from(&self.id);
                return Some(event);
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" => self.comments += usize::from(!line.is_empty()),
                "data" => data.push(value.to_owned()),
                "id" => value.clone_into(&mut self.id),
                "event" => value.clone_into(&mut event.name),
                "retry" => self.retry = Some(value.parse().unwrap()),
                _ => panic!("{line:?}"),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Event {
        self.try_next().expect("one more event")
    }

    /// The data of the next event, which is a text message.
    fn hear(&mut self) -> String {
        let event = self.next();
        assert_eq!(event.name, "");
        event.data
    }

    /// The relay's own words, which must come next.
    pub(crate) fn words(&mut self) -> Value {
        self.next().json()
    }
}

fn dial(world: &World) -> TcpStream {
    let stream = TcpStream::connect(world.relay.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn listen(world: &World, path: &str, fields: &str) -> Reader<TcpStream> {
    Reader::open(dial(world), path, fields)
}

/// A relay that keeps messages for a minute.
fn keeping(change: impl FnOnce(&mut Config)) -> World {
    let mut config = config(2);
    config.history.max_age = Duration::from_mins(1);
    change(&mut config);
    World::with(&config)
}

#[test]
fn an_event_stream_has_the_messages_of_its_topic_in_their_order() {
    let world = World::start();
    let mut reader = listen(&world, "/caf%C3%A9", "");
    assert_eq!(reader.status(), 200);
    for (name, value) in [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
        ("Vary", "Accept, Origin"),
        ("Connection", "close"),
        ("Access-Control-Allow-Origin", "*"),
    ] {
        assert_eq!(reader.field(name), Some(value), "{name}");
    }
    for absent in ["Content-Length", "Transfer-Encoding", "Fanwire-Position"] {
        assert_eq!(reader.field(absent), None, "{absent}");
    }
    let mut other = world.connect("/café");
    other.say(" a\r\nb\n\rc\n");
    other.send(Message::binary(vec![0xff, 0, b'\n']));
    other.say("");
    other.say("id: x");
    assert_eq!(reader.hear(), " a\nb\n\nc\n");
    assert!((1_000..5_000).contains(&reader.retry.unwrap()));
    let binary = reader.next();
    assert_eq!((&*binary.name, &*binary.data), ("binary", "/wAK"));
    assert_eq!(
        (reader.hear(), reader.hear()),
        (String::new(), "id: x".into())
    );
    assert_eq!(reader.id, "", "without a history there are no ids");
    assert_eq!(world.total(Stat::MembersByEvents), 1);
    assert_eq!(world.total(Stat::MembersByFrames), 1);
    drop((reader, other));
    world.end();
}

#[test]
fn a_reader_that_comes_back_with_its_last_id_goes_on_exactly_there() {
    let world = keeping(|_| {});
    let mut other = world.connect("/room");
    other.say("early");
    other.hear();
    let mut reader = listen(&world, "/room?last=1", "");
    let hello = reader.words();
    assert_eq!(hello["lost"], 0);
    assert_eq!(reader.field("Fanwire-Position"), hello["at"].as_str());
    assert_eq!(reader.field("Fanwire-Lost"), Some("0"));
    assert_eq!(reader.id, hello["at"].as_str().unwrap());
    assert_eq!(reader.hear(), "early");
    for n in 0..200 {
        other.say(format!("{n}"));
    }
    let mut next = 0;
    while next < 200 {
        for _ in 0..7.min(200 - next) {
            let event = reader.next();
            assert_eq!(event.data, next.to_string());
            assert!(event.id.ends_with(&format!("-{}", next + 2)), "{event:?}");
            next += 1;
        }
        let id = reader.id.clone();
        // The last of these is a query, as of a client that cannot set a field.
        reader = match next % 3 {
            0 => listen(&world, &format!("/room?last_event_id={id}"), ""),
            1 => listen(&world, &format!("/room?since={id}"), ""),
            _ => listen(&world, "/room?since=x", &format!("Last-Event-ID: {id}\r\n")),
        };
        assert_eq!(reader.words()["at"], id.as_str());
    }
    let mut unknown = listen(&world, "/room", "Last-Event-ID: nobody-7\r\n");
    assert_eq!(unknown.words()["lost"], Value::Null);
    assert_eq!(unknown.hear(), "early");
    drop((reader, unknown, other));
    world.end();
}

#[test]
fn a_reader_on_every_worker_gets_what_was_kept_before_anybody_read_events() {
    let world = keeping(|config| config.server.workers = 4);
    let mut other = world.connect("/room");
    for n in 0..500 {
        other.say(format!("{n}"));
        other.hear();
    }
    let mut readers: Vec<_> = (0..40)
        .map(|_| listen(&world, "/room?last=1h", ""))
        .collect();
    for n in 500..600 {
        other.say(format!("{n}"));
    }
    for reader in &mut readers {
        assert_eq!(reader.words()["lost"], 0);
        for n in 0..600 {
            assert_eq!(reader.hear(), n.to_string());
        }
    }
    drop((readers, other));
    world.end();
}

#[test]
fn http_1_0_and_a_half_close_get_what_they_are_owed_and_then_the_end() {
    let world = keeping(|_| {});
    let mut other = world.connect("/room");
    other.say("x");
    other.hear();
    let mut stream = dial(&world);
    let request = "GET /room?last=9 HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reader = Reader::over(stream);
    assert_eq!(reader.words()["lost"], 0);
    assert_eq!(reader.hear(), "x");
    let end = reader.words();
    assert_eq!(
        (&end["code"], end["at"].as_str()),
        (&1000.into(), Some(&*reader.id))
    );
    assert_eq!(reader.try_next(), None);
    drop(other);
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedByClient), 1);
}

#[test]
fn a_shutdown_ends_each_stream_with_its_place_and_a_pause() {
    let world = keeping(|_| {});
    let mut other = world.connect("/room");
    let mut readers: Vec<_> = (0..20).map(|_| listen(&world, "/room", "")).collect();
    for reader in &mut readers {
        reader.words();
    }
    other.say("x");
    other.hear();
    world.relay.shutdown();
    let mut pauses = Vec::new();
    for reader in &mut readers {
        assert_eq!(reader.hear(), "x");
        let end = reader.words();
        assert_eq!(
            (&end["code"], &end["reason"]),
            (&1001.into(), &"going away".into())
        );
        assert_eq!(end["at"].as_str(), Some(&*reader.id));
        assert_eq!(end["retry"].as_u64(), reader.retry);
        pauses.push(reader.retry);
        assert_eq!(reader.try_next(), None);
    }
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 10, "{pauses:?}");
    drop((readers, other));
    world.join_ended();
}

#[test]
fn a_stream_too_many_is_a_200_that_ends_and_an_upgrade_too_many_a_503() {
    for per_address in [false, true] {
        let mut config = config(2);
        if per_address {
            config.server.max_connections_per_ip = 1;
        } else {
            config.server.max_connections = 1;
        }
        let world = World::with(&config);
        let first = world.connect("/room");
        let mut refused = listen(&world, "/room", "");
        assert_eq!(refused.status(), 200);
        assert_eq!(refused.field("Content-Type"), Some("text/event-stream"));
        let words = refused.words();
        let status = if per_address { 429 } else { 503 };
        assert_eq!(words["status"], status);
        assert_eq!(words["retry"].as_u64(), refused.retry);
        assert_eq!(refused.try_next(), None);
        assert_eq!(refused.id, "", "a client that is refused has no new place");
        let mut upgrade = world.dial();
        upgrade.send(crate::wire::request("/room"));
        assert_eq!(upgrade.answer().status, status);
        // Nobody has to say anything to be refused.
        let mut silent = world.dial();
        assert_eq!(silent.answer().status, status);
        drop((first, refused, upgrade, silent));
        let counts = world.end();
        let refusals = counts.value(Stat::HandshakePerIp) + counts.value(Stat::HandshakeCapacity);
        assert_eq!(refusals, 3);
    }
}

#[test]
fn origins_and_tokens_are_judged_as_for_an_upgrade() {
    let mut config = config(2);
    config.server.allowed_origins = vec!["a.example".parse().unwrap()];
    config.relay.publish = Publish::Token;
    config.relay.publish_tokens = vec![Token::new("0123456789abcdef").unwrap()];
    let world = World::with(&config);
    let allowed = listen(&world, "/", "Origin: https://a.example\r\n");
    assert_eq!(allowed.status(), 200);
    let origin = allowed.field("Access-Control-Allow-Origin");
    assert_eq!(origin, Some("https://a.example"));
    let plain = listen(&world, "/", "");
    assert_eq!(plain.status(), 200);
    assert_eq!(plain.field("Access-Control-Allow-Origin"), None);
    for (path, fields, status) in [
        ("/", "Origin: https://b.example\r\n", 403),
        ("/?token=wrong", "", 401),
        ("/%zz", "", 400),
        ("/", "Content-Length: 1\r\n", 400),
    ] {
        assert_eq!(
            listen(&world, path, fields).status(),
            status,
            "{path} {fields}"
        );
    }
    drop((allowed, plain));
    world.end();
}

#[test]
fn a_quiet_stream_is_kept_alive_by_comments() {
    let mut config = config(1);
    config.keepalive.ping_interval = Duration::from_secs(1);
    config.keepalive.pong_timeout = Duration::from_secs(1);
    let world = World::with(&config);
    let mut reader = listen(&world, "/room", "");
    let mut line = String::new();
    let mut comments = 0;
    while comments < 4 {
        line.clear();
        reader.stream.read_line(&mut line).unwrap();
        comments += usize::from(line == ":\n");
    }
    assert_eq!(world.total(Stat::Disconnections), 0);
    drop(reader);
    world.end();
}

#[test]
fn a_reader_that_is_made_to_skip_is_told_how_many_messages_it_missed() {
    const MESSAGES: u64 = 4_000;
    let world = keeping(|config| {
        config.slow_consumer.policy = SlowConsumerPolicy::Drop;
        config.limits.max_message_bytes = 16 << 10;
        config.slow_consumer.max_lag_bytes = 64 << 10;
    });
    let stream = connect_narrowly(world.relay.address());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = Reader::open(stream, "/room", "");
    reader.words();
    let mut other = world.connect("/room");
    for n in 0..MESSAGES {
        other.say(format!("{n} {}", "x".repeat(4 << 10)));
        other.hear();
    }
    let (mut next, mut skipped) = (0, 0);
    while next < MESSAGES {
        let event = reader.next();
        if event.name == "fanwire" {
            let lost = event.json()["lost"].as_u64().unwrap();
            (next, skipped) = (next + lost, skipped + lost);
        } else {
            assert!(event.data.starts_with(&format!("{next} ")), "{next}");
            next += 1;
        }
        assert!(
            event.id.ends_with(&format!("-{next}")),
            "{next}: {}",
            event.id
        );
    }
    assert!(skipped > 0);
    drop((reader, other));
    let stats = world.end();
    assert_eq!(stats.value(Stat::Dropped), skipped);
}

#[test]
fn many_readers_that_come_back_again_and_again_miss_nothing() {
    const ROUNDS: usize = 60;
    const READERS: usize = 20;
    let world = keeping(|_| {});
    let mut other = world.connect("/room");
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| (listen(&world, "/room", ""), 0))
        .collect();
    for (reader, _) in &mut readers {
        reader.words();
    }
    for round in 0..ROUNDS {
        other.say(format!("{round}"));
        other.hear();
        for (reader, next) in &mut readers {
            // Each comes back in another round than its neighbour.
            if (round + *next) % 3 == 0 {
                let field = format!("Last-Event-ID: {}\r\n", reader.id);
                *reader = listen(&world, "/room", &field);
                let hello = reader.words();
                assert_eq!(hello["lost"], 0, "{hello}");
            }
            while *next <= round {
                assert_eq!(reader.hear(), next.to_string());
                *next += 1;
            }
        }
    }
    eventually("the old streams are gone", || {
        world.total(Stat::MembersByEvents) == READERS as u64
    });
    assert!(world.total(Stat::ResumedFull) > 100);
    drop((readers, other));
    world.end();
}

#[test]
fn a_flood_behind_a_request_for_events_ends_the_stream() {
    let mut config = config(1);
    config.limits.control_frames_per_second = 10;
    let world = World::with(&config);
    let stream = dial(&world);
    let mut writer = stream.try_clone().unwrap();
    let mut reader = Reader::open(stream, "/room", "");
    let other = world.connect("/room");
    let flood = std::thread::spawn(move || while writer.write_all(&[b'x'; 10_000]).is_ok() {});
    eventually("the flood is noticed", || {
        world.total(Stat::DisconnectedControlRate) == 1
    });
    // The end may be lost, because a reset follows it.
    let mut rest = Vec::new();
    let _: io::Result<usize> = reader.stream.read_to_end(&mut rest);
    drop(reader);
    flood.join().unwrap();
    assert_eq!(world.total(Stat::Messages), 0);
    drop(other);
    world.end();
}

#[test]
fn an_event_stream_over_tls_is_the_same() {
    let mut config = config(2);
    config.history.max_age = Duration::from_mins(1);
    let tls = TlsWorld::with(config);
    let mut reader = Reader::open(tls.dial(), "/room", "");
    reader.words();
    let mut other = tls.connect("/room");
    let mut text = String::new();
    for n in 0..5_000 {
        writeln!(text, "line {n}").unwrap();
    }
    for _ in 0..20 {
        other.say(text.clone());
    }
    for _ in 0..20 {
        assert_eq!(reader.hear(), text);
    }
    tls.world.relay.shutdown();
    assert_eq!(reader.words()["code"], 1001);
    assert_eq!(reader.try_next(), None);
    drop((reader, other));
    tls.world.join_ended();
}

#[test]
fn curl_shows_the_messages_as_they_come_and_ends_with_the_relay() {
    if !curl::is_there() {
        return;
    }
    let program = Program::with("history: {max_age: 1m}");
    let mut curl = Command::new("curl")
        .args([
            "--silent",
            "--no-buffer",
            "--header",
            "Accept: text/event-stream",
        ])
        .arg(format!("http://{}/room", program.address))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let mut await_line = |text: &str| {
        let found = lines.find(|line| line.as_ref().unwrap().contains(text));
        found.expect("the stream goes on").unwrap()
    };
    await_line("\"lost\":0");
    let mut other = program.connect("/room");
    for n in 0..10 {
        other.say(format!("message {n}"));
        assert_eq!(await_line("data:"), format!("data: message {n}"));
    }
    program.signal(rustix::process::Signal::TERM);
    await_line("\"going away\"");
    assert!(curl.wait().unwrap().success());
    drop(other);
    program.end_well();
}
