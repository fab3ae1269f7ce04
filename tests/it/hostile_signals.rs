//! Starting and ending the program under attack: signals while clients are stuck or storm in, a stopped process, a log
//! that nobody reads, ports in use, and too few descriptors.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::program::{Program, failed_start, limited_to_descriptors};
use crate::shutdown::reserved_port;
use crate::support::eventually;
use crate::wire::{FIN, TEXT, Wire, frame, header, request};
use crate::witness::Witness;

/// A configuration with these ports.
fn on_ports(server: u16, metrics: u16) -> String {
    format!(
        "server: {{host: 127.0.0.1, port: {server}, workers: 2, fill_workers_to: 0}}\n\
         metrics: {{port: {metrics}}}\n"
    )
}

// The end

#[test]
fn without_clients_sigterm_ends_the_program_at_once() {
    Program::with("shutdown: {timeout: 600s}").end_well();
}

#[test]
fn fifty_polite_clients_do_not_wait_for_the_timeout() {
    let program = Program::with("shutdown: {timeout: 600s}");
    let mut clients: Vec<_> = (0..50)
        .map(|n| program.connect(&format!("/{}", n % 7)))
        .collect();
    program.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.expect_close().code, CloseCode::Away);
    }
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn clients_stuck_in_every_way_are_cut_at_the_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let program = Program::with("shutdown: {timeout: 1s}\nlog: {level: debug}");
    let mut publisher = program.connect("/room");
    let deaf: Vec<_> = (0..5).map(|_| program.join_narrowly("/room")).collect();
    let text = "x".repeat(60_000);
    for _ in 0..40 {
        publisher.say(&text);
        assert_eq!(publisher.hear().len(), text.len());
    }
    let stuck: Vec<_> = (0..5)
        .flat_map(|_| {
            let [in_frame, in_header] = [(); 2].map(|()| program.join("/frames"));
            in_frame.send(header(FIN | TEXT, 1000));
            in_header.send([FIN | TEXT]);
            let [in_handshake, silent] = [(); 2].map(|()| program.dial());
            in_handshake.send(&request("/room")[..50]);
            let [in_scrape, idle] = [(); 2].map(|()| program.dial_metrics());
            in_scrape.send("GET /metrics HT");
            [in_frame, in_header, in_handshake, silent, in_scrape, idle]
        })
        .collect();
    program.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(publisher.expect_close().code, CloseCode::Away);
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panic"), "{log}");
    // Far below the other timeouts, which are at least 5 seconds.
    assert!(
        began.elapsed() < TIMEOUT + Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    for mut stuck in stuck.into_iter().chain(deaf) {
        stuck.expect_cut();
    }
}

#[test]
fn dozens_of_signals_end_the_program_once() {
    let program = Program::with("shutdown: {timeout: 600s}");
    let silent: Vec<_> = (0..10).map(|_| program.join("/room")).collect();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP].repeat(10) {
        program.signal(signal);
    }
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panic"), "{log}");
    drop(silent);
}

#[test]
fn sigterm_closes_the_listener_first_while_clients_storm_in() {
    // The storm ends when nothing listens on its port, so no other test may get it.
    let (server, _reserved) = reserved_port();
    let config = on_ports(server, 0) + "shutdown: {timeout: 600s}\n";
    let program = Program::spawn(&config, Command::new(env!("CARGO_BIN_EXE_fanwire")));
    let address = program.address;
    let storm: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || storm(address)))
        .collect();
    let welcomed = || program.metric("websocket_connections_total");
    eventually("the storm has begun", || welcomed() >= 100.0);
    program.signal(Signal::TERM);
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
    for storm in storm {
        storm.join().unwrap();
    }
}

/// Connects, joins, sends and leaves in three ways, until nothing listens any more.
fn storm(address: std::net::SocketAddr) {
    for n in 0.. {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            // It was in the backlog when the listener closed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
            Ok(stream) => {
                let mut wire = Wire::over(stream);
                let hello = [request("/room").as_bytes(), &frame(FIN | TEXT, b"hello")].concat();
                let _ = wire.try_send(hello);
                if n % 3 == 0 || wire.try_answer().is_none() {
                    wire.reset();
                }
            }
        }
    }
}

// Survival

#[test]
fn a_process_frozen_for_three_seconds_cuts_nobody_and_loses_nothing() {
    const FREEZE: Duration = Duration::from_secs(3);
    let program = Program::with_server(
        ", handshake_timeout: 2s",
        "keepalive: {ping_interval: 500ms, pong_timeout: 500ms}\nslow_consumer: {stall_timeout: 1s}",
    );
    let witness = Witness::of_program(&program);
    let idle: Vec<_> = (0..5)
        .map(|_| {
            let mut client = program.connect("/idle");
            // Reading answers pings.
            thread::spawn(move || {
                loop {
                    match client.next() {
                        Message::Ping(_) => {}
                        Message::Close(Some(frame)) => return frame.code,
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    program.await_metric("websocket_connected_clients", 7);
    let mut late = program.dial();
    let request = request("/late");
    let (front, back) = request.split_at(50);
    late.send(front);
    program.signal(Signal::STOP);
    thread::sleep(FREEZE);
    late.send(back);
    program.signal(Signal::CONT);
    assert_eq!(late.answer().status, 101);
    late.reset();
    witness.await_rounds(100);
    assert!(
        witness.dismiss().slowest_round >= FREEZE / 2,
        "it was frozen"
    );
    // The pair, and the late client.
    program.assert_metric("websocket_disconnections_total", 3);
    program.signal(Signal::TERM);
    for idle in idle {
        assert_eq!(idle.join().unwrap(), CloseCode::Away);
    }
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log}");
    // One for all workers. A busy machine may add pauses of its own.
    assert!(log.contains("the relay stood still"), "{log}");
    assert!(!log.contains("shard stood still"), "{log}");
}

#[test]
fn a_stuck_reader_of_the_log_delays_nobody() {
    /// More lines than the queue of the log holds.
    const LINES: usize = 4200;
    let (reader, mut writer) = io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    command.stderr(writer.try_clone().unwrap());
    let config = on_ports(0, 0) + "log: {level: debug}\n";
    let mut program = Program::spawn_logging_to(reader, &config, command);
    // Fills the pipe. The thread ends when the last reader does.
    let stuffing = thread::spawn(move || while writer.write_all(b"stuffing\n").is_ok() {});
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..LINES / 4).for_each(|_| program.refused()));
        }
    });
    program.await_return(&before, 64 << 20);
    witness.while_silent(|| program.await_rest());
    witness.dismiss();
    program.signal(Signal::TERM);
    assert_eq!(program.await_exit().code(), Some(0));
    drop(program);
    stuffing.join().unwrap();
}

// The start

#[test]
fn a_killed_program_can_restart_at_once_on_its_ports() {
    let [(server, _one), (metrics, _other)] = [reserved_port(), reserved_port()];
    let start = || {
        let command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
        Program::spawn(&on_ports(server, metrics), command)
    };
    let mut program = start();
    let mut orphans: Vec<_> = (0..10).map(|_| program.join("/room")).collect();
    program.signal(Signal::KILL);
    program.await_exit();
    let again = start();
    assert_eq!(again.address, program.address);
    orphans.iter_mut().for_each(Wire::expect_cut);
    let witness = Witness::of_program(&again);
    witness.await_rounds(5);
    witness.dismiss();
    again.end_well();
}

#[test]
fn a_second_program_on_the_same_port_is_refused() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let [server, metrics] = [program.address.port(), program.metrics.port()];
    for (config, key, port) in [
        (on_ports(server, 0), "server.port", server),
        (on_ports(metrics, 0), "server.port", metrics),
    ] {
        let (code, log) = failed_start(&config, Command::new(env!("CARGO_BIN_EXE_fanwire")));
        // A failure of the machine, which may pass: a supervisor should try again.
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains(&format!("{key}: {port}: the port is in use")),
            "{log}"
        );
        assert!(!log.contains("panic"), "{log}");
    }
    witness.dismiss();
    program.end_well();
}

#[test]
fn with_sixty_four_descriptors_members_are_served_and_waiting_clients_after_them() {
    const LIMIT: u32 = 64;
    const WAITING: usize = 400;
    let program = Program::with_descriptors(LIMIT, &on_ports(0, 0));
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let waiting: Vec<_> = (0..WAITING).map(|_| program.dial()).collect();
    let mut last = program.dial();
    last.send(request("/room"));
    // Neither accepting nor the metrics use CPU time while nothing can be accepted.
    let is_exhausted = || program.descriptors() >= LIMIT as usize;
    eventually("no thread spins while descriptors have run out", || {
        is_exhausted()
            && program.rests_during(
                || witness.await_rounds(1),
                |thread| !thread.starts_with("worker"),
            )
            && is_exhausted()
    });
    drop(waiting);
    // No later connection wakes the listener. This one may find the places still taken.
    let answer = last.answer().status;
    assert!(matches!(answer, 101 | 503), "{answer}");
    last.reset();
    program.await_return(&before, 64 << 20);
    let mut late = program.connect("/room");
    late.say("served");
    assert_eq!(late.hear(), "served");
    late.leave();
    witness.dismiss();
    let log = program.end_well();
    assert_eq!(log.matches("accepting fails").count(), 1, "{log}");
}

#[test]
fn with_too_few_descriptors_the_start_error_blames_the_system_and_not_the_configuration() {
    for limit in 5..=12 {
        let command = limited_to_descriptors(limit);
        let (code, log) = failed_start(&on_ports(0, 0), command);
        assert_eq!(code, Some(1), "{limit}: {log}");
        let reason = "the system refused what the relay needs to start: Too many open files";
        assert!(log.contains(reason), "{limit}: {log}");
    }
}
