//! Tests of the metrics port over real sockets, with scrapers, probes, and clients that are broken or hostile.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use fanwire::internals::ShardId;
use fanwire::internals::http::Health;
use fanwire::internals::metrics::{
    Exporter, ExporterHandle, Exposition, InboxDepth, Limits, METRICS, Published, TlsStatus,
};
use fanwire::server::{Stat, Stats};

/// The longest wait for an answer. Then the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The limit on connections that the exporter shows.
const MAX_CONNECTIONS: usize = 20_000;

/// An exporter over two shards, and the numbers that it reads.
struct World {
    exporter: ExporterHandle,
    shards: Vec<Arc<Published>>,
    health: Arc<Mutex<Health>>,
}

impl World {
    fn new() -> World {
        World::with(Limits::default())
    }

    fn with(limits: Limits) -> World {
        let shards = vec![
            Arc::new(Published::default()),
            Arc::new(Published::default()),
        ];
        let health = Arc::new(Mutex::new(Health::Ready));
        let exposition = Exposition::new(
            shards.clone(),
            |_| InboxDepth::default(),
            MAX_CONNECTIONS,
            Some(Arc::new(TlsStatus::new(1_800_000_000))),
        );
        let shared = Arc::clone(&health);
        let ask = move || *shared.lock().unwrap();
        let exporter = Exporter::start(listener(), exposition, ask, limits, |_| ()).unwrap();
        World {
            exporter,
            shards,
            health,
        }
    }

    fn connect(&self) -> Client {
        Client::connect(self.exporter.address())
    }

    /// The answer to one request on a connection of its own.
    fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect();
        client.send(request);
        client.answer()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Limits that give a request very little time.
fn hasty() -> Limits {
    Limits {
        request_timeout: Duration::from_millis(100),
        ..Limits::default()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            received: Vec::new(),
        }
    }

    fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    /// The next answer, its body as long as its Content-Length says.
    fn answer(&mut self) -> Answer {
        let head = self.head();
        let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
        while self.received.len() < length {
            self.read().unwrap();
        }
        let body = self.received.drain(..length).collect();
        Answer {
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// The next head, without the empty line behind it.
    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self
                .received
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                assert!(
                    head.starts_with(b"HTTP/1.1 "),
                    "a head has to follow the answer before"
                );
                return String::from_utf8(head).unwrap().trim_end().to_owned();
            }
            self.read().unwrap();
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.received.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }

    /// Waits for the orderly end of the connection. Nothing may come before it.
    fn expect_end(&mut self) {
        assert_eq!(
            self.read().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert!(
            self.received.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&self.received)
        );
    }

    /// Waits for the end of the connection, orderly or by a reset.
    fn expect_cut(&mut self) {
        let error = self.read().unwrap_err().kind();
        assert!(
            matches!(
                error,
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ),
            "{error}"
        );
    }
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut headers = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    headers
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn parse(exposition: &str) -> prometheus_parse::Scrape {
    prometheus_parse::Scrape::parse(exposition.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

// Answers

#[test]
fn a_scrape_gets_every_metric_in_prometheus_text_format() {
    let answer = World::new().ask(&get("/metrics"));
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let mut names: Vec<_> = parse(&answer.body).docs.into_keys().collect();
    let mut expected: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn a_scrape_shows_what_the_workers_published_last() {
    let world = World::new();
    let mut stats = Stats::default();
    for connected in [2, 1] {
        stats.set(Stat::ConnectedClients, connected);
        world.shards[1].publish(&stats);
        let text = world.ask(&get("/metrics")).body;
        assert!(
            text.lines()
                .any(|line| line == format!("websocket_connected_clients {connected}")),
            "{text}"
        );
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let text = World::new().ask(&get("/metrics")).body;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && std::env::var_os("CI").is_none() =>
        {
            // Not captured, so that the skip is seen.
            let _ = writeln!(io::stderr(), "skipped: promtool is not installed");
            return;
        }
        Err(error) => panic!("promtool (Debian's package prometheus): {error}"),
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(promtool.wait().unwrap().success());
}

#[test]
fn a_client_that_asks_for_openmetrics_gets_the_plain_text_format() {
    let answer = World::new().ask(
        "GET /metrics HTTP/1.1\r\nHost: here\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n",
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
}

#[test]
fn head_gets_a_length_but_no_body() {
    let world = World::new();
    let mut client = world.connect();
    client.send("HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    let head = client.head();
    assert!(
        header(&head, "content-length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
            > 1000
    );
    client.send(&get("/livez"));
    assert_eq!(
        client.answer().body,
        "ok\n",
        "the next answer follows the head at once"
    );
}

#[test]
fn a_query_is_accepted() {
    assert_eq!(World::new().ask(&get("/livez?verbose=1")).status(), 200);
}

#[test]
fn readiness_follows_the_relay() {
    let world = World::new();
    let before = world.ask(&get("/readyz"));
    assert_eq!((before.status(), &*before.body), (200, "ready\n"));
    *world.health.lock().unwrap() = Health::Draining;
    let after = world.ask(&get("/readyz"));
    assert_eq!((after.status(), &*after.body), (503, "draining\n"));
    assert_eq!(world.ask(&get("/livez")).status(), 200);
}

#[test]
fn an_unknown_path_is_not_found() {
    assert_eq!(World::new().ask(&get("/")).status(), 404);
}

#[test]
fn a_method_other_than_get_and_head_is_refused_and_told_so() {
    let answer = World::new().ask("DELETE /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
}

#[test]
fn an_upgrade_is_answered_as_if_it_were_none() {
    let answer = World::new().ask(
        "GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(answer.status(), 200);
}

// Connections

#[test]
fn a_connection_serves_one_request_after_another() {
    let world = World::new();
    let mut client = world.connect();
    for _ in 0..3 {
        client.send(&get("/metrics"));
        let answer = client.answer();
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (200, Some("keep-alive"))
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::new();
    let mut client = world.connect();
    client.send(
        &[
            get("/livez"),
            get("/nothing"),
            get("/metrics"),
            get("/readyz"),
        ]
        .concat(),
    );
    let statuses = [(); 4]
        .map(|()| client.answer())
        .map(|answer| (answer.status(), answer.body.len() > 1000));
    assert_eq!(
        statuses,
        [(200, false), (404, false), (200, true), (200, false)]
    );
}

#[test]
fn more_pipelined_requests_than_one_turn_serves_are_all_answered() {
    let world = World::new();
    let mut client = world.connect();
    client.send(&get("/livez").repeat(100));
    for _ in 0..100 {
        assert_eq!(client.answer().body, "ok\n");
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let world = World::new();
    let mut client = world.connect();
    client.stream.set_nodelay(true).unwrap();
    for byte in get("/livez").chars() {
        client.send(&byte.to_string());
    }
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn connection_close_is_honoured() {
    let world = World::new();
    let mut client = world.connect();
    client.send("GET /livez HTTP/1.1\r\nHost: here\r\nConnection: te, Close\r\n\r\n");
    assert_eq!(client.answer().header("connection"), Some("close"));
    client.expect_end();
}

#[test]
fn what_a_client_sends_behind_the_last_answer_is_no_reason_for_a_reset() {
    let world = World::with(Limits {
        linger_timeout: Duration::from_hours(1),
        ..Limits::default()
    });
    let mut client = world.connect();
    client.send("GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
    client.expect_end();
    client.send("more");
    client.send("after a reset, this would fail");
}

#[test]
fn a_request_of_http_1_0_needs_no_host_and_ends_the_connection() {
    let world = World::new();
    let mut client = world.connect();
    client.send("GET /livez HTTP/1.0\r\n\r\n");
    let answer = client.answer();
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (200, Some("close"))
    );
    client.expect_end();
}

#[test]
fn a_client_that_has_shut_its_side_gets_its_answer() {
    let world = World::new();
    let mut client = world.connect();
    client.send(&get("/metrics"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().status(), 200);
    client.expect_end();
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    let world = World::new();
    let address = world.exporter.address();
    let scrapers: Vec<_> = (0..20)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..5 {
                    let mut client = Client::connect(address);
                    client.send(&get("/metrics"));
                    assert!(parse(&client.answer().body).docs.len() == METRICS.len());
                }
            })
        })
        .collect();
    for scraper in scrapers {
        scraper.join().unwrap();
    }
}

// Requests that are refused

/// Expects that the answer to `request` has this status, is whole, and is followed by the orderly end of the connection.
fn assert_refused(request: &str, status: u16) {
    let world = World::new();
    let mut client = world.connect();
    client.send(request);
    let answer = client.answer();
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (status, Some("close"))
    );
    client.expect_end();
}

#[test]
fn garbage_is_a_bad_request() {
    assert_refused("\u{16}\u{3}\u{1}\u{0}not HTTP at all\r\n\r\n", 400);
}

#[test]
fn http_2_is_not_supported() {
    assert_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

#[test]
fn a_request_without_one_valid_host_is_a_bad_request() {
    assert_refused("GET /livez HTTP/1.1\r\n\r\n", 400);
    for host in ["", "here\r\nHost: there", "a b", "a:99999", "[::1"] {
        let request = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_refused(&request, 400);
    }
}

#[test]
fn a_request_with_a_body_is_refused_and_the_body_is_not_a_request() {
    let body = get("/livez");
    let length = body.len();
    assert_refused(
        &format!("GET /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n{body}"),
        400,
    );
    assert_refused(
        &format!("GET /metrics HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        400,
    );
}

#[test]
fn a_post_with_a_body_hears_of_its_method_first() {
    assert_refused(
        "POST /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\na=b",
        405,
    );
}

#[test]
fn a_head_over_the_limit_is_refused_before_it_is_complete() {
    assert_refused(
        &format!(
            "GET /livez HTTP/1.1\r\nHost: here\r\nX: {}",
            "x".repeat(8 << 10)
        ),
        431,
    );
}

#[test]
fn the_refusal_of_an_endless_path_arrives_although_the_client_goes_on_sending() {
    assert_refused(&format!("GET /{}", "x".repeat(1 << 20)), 414);
}

#[test]
fn too_many_headers_are_refused() {
    assert_refused(
        &format!(
            "GET /livez HTTP/1.1\r\nHost: here\r\n{}\r\n",
            "X: y\r\n".repeat(101)
        ),
        431,
    );
}

// Clients that are stuck

#[test]
fn stuck_scrapers_do_not_keep_a_new_one_out() {
    let world = World::new();
    let stuck: Vec<_> = (0..Limits::default().max_connections + 6)
        .map(|i| {
            let mut client = world.connect();
            client.send(&get("/metrics")[..i % 20]);
            client
        })
        .collect();
    assert_eq!(world.ask(&get("/metrics")).status(), 200);
    drop(stuck);
}

#[test]
fn a_connection_too_many_ends_the_one_that_waited_longest() {
    let world = World::with(Limits {
        max_connections: 2,
        ..Limits::default()
    });
    let mut older = world.connect();
    older.send(&get("/livez"));
    older.answer();
    let mut newer = world.connect();
    newer.send(&get("/livez"));
    newer.answer();
    older.send(&get("/livez"));
    older.answer();

    // The older connection was served later, so the newer one has waited longest.
    assert_eq!(world.ask(&get("/livez")).status(), 200);
    newer.expect_cut();
    older.send(&get("/livez"));
    assert_eq!(older.answer().status(), 200);
}

#[test]
fn a_silent_connection_is_cut() {
    let world = World::with(hasty());
    world.connect().expect_cut();
}

#[test]
fn half_a_request_is_cut() {
    let world = World::with(hasty());
    let mut client = world.connect();
    client.send("GET /metrics HT");
    client.expect_cut();
}

#[test]
fn a_trickle_of_bytes_does_not_renew_the_deadline() {
    let world = World::with(hasty());
    let mut client = world.connect();
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    client.send("GET /metrics HTTP/1.1\r\nX: ");
    let end = (0..1000).find_map(|_| {
        // A write after the cut fails, and the next read tells the reason.
        let _ = client.stream.write_all(b"x");
        client
            .read()
            .map_err(|error| error.kind())
            .err()
            .filter(|&kind| kind != io::ErrorKind::WouldBlock)
    });
    assert!(end.is_some(), "the connection was never cut");
}

#[test]
fn a_connection_that_rests_between_requests_is_kept_for_the_idle_timeout_only() {
    let world = World::with(Limits {
        request_timeout: Duration::from_hours(1),
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    });
    let mut client = world.connect();
    client.send(&get("/livez"));
    assert_eq!(client.answer().status(), 200);
    client.expect_cut();
}

#[test]
fn a_client_that_does_not_read_its_answers_is_cut() {
    let world = World::with(hasty());
    let client = world.connect();
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let requests = get("/metrics").repeat(100);
    let cut = (0..10_000).any(|_| match (&client.stream).write(requests.as_bytes()) {
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    });
    assert!(cut, "the connection was never cut");
}

// The thread

#[test]
fn a_dropped_handle_stops_the_exporter_and_cuts_its_connections() {
    let world = World::new();
    let mut client = world.connect();
    client.send(&get("/livez"));
    client.answer();
    drop(world);
    client.expect_end();
}

/// An exporter over one shard, which calls `depth`, and the failure that it reports.
fn watched(
    depth: impl Fn(ShardId) -> InboxDepth + Send + Sync + 'static,
) -> (ExporterHandle, mpsc::Receiver<String>) {
    let exposition = Exposition::new(vec![Arc::default()], depth, MAX_CONNECTIONS, None);
    let (tell, told) = mpsc::channel();
    let on_failure = move |reason| tell.send(reason).unwrap();
    let exporter = Exporter::start(
        listener(),
        exposition,
        || Health::Ready,
        Limits::default(),
        on_failure,
    );
    (exporter.unwrap(), told)
}

#[test]
fn a_panic_in_the_thread_is_told_at_once() {
    let (exporter, told) = watched(|shard| panic!("{shard:?} has no inbox"));
    let mut client = Client::connect(exporter.address());
    client.send(&get("/metrics"));
    client.expect_cut();
    assert_eq!(
        told.recv_timeout(PATIENCE).unwrap(),
        "ShardId(0) has no inbox"
    );
}

#[test]
fn an_exporter_that_is_stopped_has_not_failed() {
    let (exporter, told) = watched(|_| InboxDepth::default());
    drop(exporter);
    assert!(told.recv().is_err());
}
