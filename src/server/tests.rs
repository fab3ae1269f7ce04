//! Tests of faults that only the inside of the relay can plant.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::control;
use super::crew::{Crew, Work};
use super::history_file::HistoryFile;
use super::{Files, Relay, RelayHandle, RunError, Sizes, Workers, metrics_port, reserved_clients};
use crate::config::Config;
use crate::ids::ShardId;
use crate::mailbox::Mailbox;
use crate::metrics::collector::Exposition;
use crate::metrics::stats::Stat;
use crate::net::admission::Seats;
use crate::net::clock::Clock;
use crate::net::mail::{ControlBox, PollWaker, Report};
use crate::net::vitals::Vitals;
use crate::port::position::Epoch;
use crate::relay::saved::write::Writer;

/// A relay that spreads even a few clients over `workers`.
fn relay_with(workers: usize) -> RelayHandle {
    let mut config = Config::default();
    config.server.host = "127.0.0.1".into();
    config.server.port = 0;
    config.server.workers = workers;
    config.server.fill_workers_to = 0;
    config.metrics.enabled = false;
    Relay::start(&config).unwrap()
}

fn connect(relay: &RelayHandle, topic: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(relay.address()).unwrap();
    let url = format!("ws://localhost/{topic}");
    tungstenite::client(url, stream).unwrap().0
}

/// A history without topics is read, and then something happens to its file. Returns the epoch of the file, and that of the
/// relay that takes the history over.
fn epochs_if(happens: impl FnOnce(&Path)) -> (Epoch, Epoch) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let mut config = Config::default();
    config.history.max_age = Duration::from_mins(1);
    config.history.file = Some(path.clone());
    let epoch = Epoch::from_bits(7);
    let mut bytes = Vec::new();
    let writer = Writer::new(Vec::new(), super::saving::clocks(Clock::start()));
    let written = writer.write(epoch, |piece| bytes.write_all(piece));
    written.unwrap();
    fs::write(&path, bytes).unwrap();
    let sizes = Sizes {
        workers: 2,
        max_buffered_bytes: 1 << 30,
    };
    let poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), control::WAKER).unwrap();
    let control: ControlBox = Arc::new(Mailbox::new(PollWaker(waker)));
    let mut file = HistoryFile::claim(&config).unwrap();
    let files = Files {
        history: file.as_mut(),
        ..Files::default()
    };
    let workers = Workers::build(&config, sizes, 100, &Seats::new(0), &control, files);
    let mut workers = workers.unwrap();
    assert_eq!(workers.epoch, epoch);
    happens(&path);
    drop(workers.leave_history(file.unwrap(), &control));
    assert!(!path.is_file());
    (epoch, workers.epoch)
}

#[test]
fn a_relay_goes_on_in_the_epoch_of_a_history_only_if_the_file_can_be_removed() {
    let (file, relay) = epochs_if(|_| {});
    assert_eq!(file, relay);
    let (file, relay) = epochs_if(|path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
    assert_ne!(file, relay);
}

fn three_workers(control: &ControlBox) -> Workers {
    let sizes = Sizes {
        workers: 3,
        max_buffered_bytes: 1 << 30,
    };
    Workers::build(
        &Config::default(),
        sizes,
        100,
        &Seats::new(0),
        control,
        Files::default(),
    )
    .unwrap()
}

#[test]
fn workers_take_turns_at_those_who_arrive_wherever_these_go_then() {
    const WORKERS: usize = 4;
    const ARRIVALS: u64 = 256;
    let relay = relay_with(WORKERS);
    let crowd: Vec<_> = (0..32 * WORKERS)
        .map(|_| connect(&relay, "crowd"))
        .collect();
    let moved = || -> Vec<u64> {
        let shards = relay.published.iter();
        shards.map(|shard| shard.value(Stat::Transferred)).collect()
    };
    let before = moved();
    let arrivals: Vec<_> = (0..ARRIVALS)
        .map(|n| connect(&relay, &n.to_string()))
        .collect();
    // One in four arrivals was on its worker already, and some had no room there.
    for (after, before) in moved().into_iter().zip(before) {
        let least = ARRIVALS / WORKERS as u64 / 3;
        assert!(after - before >= least, "{} have moved", after - before);
    }
    drop((crowd, arrivals));
    relay.shutdown();
    relay.join().unwrap();
}

/// The error of a relay whose control thread hears of a failure. Its four clients are told first.
fn error_after(report: Report) -> RunError {
    let relay = relay_with(2);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&relay, "room")).collect();
    relay.control.send(report);
    for client in &mut clients {
        let Message::Close(Some(close)) = client.read().unwrap() else {
            panic!("a Close with a code was expected");
        };
        assert_eq!(close.code, CloseCode::Error);
    }
    let published = relay.published.clone();
    let error = relay.join().unwrap_err();
    let told: u64 = published
        .iter()
        .map(|shard| shard.value(Stat::DisconnectedInternal))
        .sum();
    assert_eq!(told, 4);
    error
}

#[test]
fn when_a_worker_fails_the_members_of_the_others_are_told_before_the_relay_ends() {
    // This worker has not failed, and does what the others do.
    let error = error_after(Report::Failed(ShardId(1), "a planted fault".into()));
    assert_eq!(error.to_string(), "worker 1 ended: a planted fault");
}

#[test]
fn when_the_metrics_thread_fails_all_members_are_told_and_the_relay_ends_with_an_error() {
    let error = error_after(Report::MetricsFailed("a planted fault".into()));
    assert_eq!(
        error.to_string(),
        "the metrics thread ended: a planted fault"
    );
}

#[test]
fn the_control_thread_is_woken_when_the_metrics_thread_panics() {
    let (control, mut poll) = control_box();
    let exposition = Exposition::new(vec![Arc::default()], |_| panic!("a planted fault"), 0, None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let vitals = Arc::new(Vitals::new([].into(), 0));
    let exporter = metrics_port::serve(listener, exposition, vitals, &control).unwrap();
    let mut scraper = TcpStream::connect(exporter.address()).unwrap();
    scraper.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();

    let mut events = Events::with_capacity(1);
    poll.poll(&mut events, None).unwrap();
    control.open();
    assert!(
        matches!(control.pop(), Some(Report::MetricsFailed(reason)) if reason == "a planted fault")
    );
}

/// The inbox of a control thread, and the event loop that its waker needs.
fn control_box() -> (ControlBox, Poll) {
    let poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), control::WAKER).unwrap();
    (Arc::new(Mailbox::new(PollWaker(waker))), poll)
}

#[test]
fn when_a_worker_cannot_be_started_the_ones_that_run_are_stopped_and_joined() {
    let (control, _poll) = control_box();
    let workers = three_workers(&control);
    let ended: [Arc<AtomicBool>; 2] = Default::default();
    let mut threads = ended.clone().into_iter();
    let spawn = |name: String, work: Work| {
        let Some(ended) = threads.next() else {
            return Err(io::Error::other(format!("no thread for {name}")));
        };
        thread::Builder::new().spawn(move || {
            work();
            ended.store(true, Ordering::SeqCst);
        })
    };
    let Err(error) = Crew::start_with(spawn, workers.workers, workers.postboxes, &control) else {
        panic!("three workers were started with two threads");
    };
    assert_eq!(error.to_string(), "no thread for worker-2");
    assert!(ended.iter().all(|ended| ended.load(Ordering::SeqCst)));
}

#[test]
fn a_worker_that_stands_still_is_left_behind_and_the_others_are_joined() {
    let (control, _poll) = control_box();
    let workers = three_workers(&control);
    let (release, stand_still) = mpsc::channel::<()>();
    let mut stand_still = Some(stand_still);
    let spawn = |name: String, work: Work| {
        let until = if name == "worker-1" {
            stand_still.take()
        } else {
            None
        };
        thread::Builder::new().spawn(move || {
            // Until the other end is dropped.
            let _ = until.map(|until| until.recv());
            work();
        })
    };
    let crew = Crew::start_with(spawn, workers.workers, workers.postboxes, &control).unwrap();
    let by = Instant::now() + Duration::from_secs(1);
    let left = crew.stop(|| Instant::now() < by);
    assert_eq!(left, [ShardId(1)]);
    drop(release);
}

#[test]
fn tables_are_made_for_a_million_clients_at_most_and_an_eighth_more() {
    assert_eq!(reserved_clients(1000, 2, 64), 562);
    assert_eq!(reserved_clients(10, 2, 64), 10);
    assert_eq!(reserved_clients(10_000_000, 1, 64), 1_125_000);
    assert_eq!(reserved_clients(10_000_000, 8, 64), 140_625);
}
