//! Attacks by connecting and leaving: in every style, at the worst moment, and in numbers. The relay is a separate
//! process. Afterwards it holds what it held before, has counted each connection once, and an honest pair of clients
//! has noticed nothing.

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tungstenite::Message;

use crate::program::Program;
use crate::support::{eventually, reset};
use crate::wire::{BINARY, FIN, TEXT, Wire, frame, request};
use crate::witness::Witness;

/// The most memory that an attack here may add to the process.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

/// The honest pair, which is also counted.
const PAIR: u64 = 2;

const LOST: &str = r#"fanwire_disconnections_total{reason="lost"}"#;
const LOST_EARLY: &str = r#"fanwire_failed_handshakes_total{reason="lost"}"#;

/// Ends the program and checks its counters: `came` clients have come and gone, and `failed` more did not complete the
/// handshake.
fn end(program: Program, came: u64, failed: u64) {
    program.await_metric("websocket_connected_clients", 0);
    program.await_metric("websocket_connections_total", came + PAIR);
    program.await_metric("websocket_disconnections_total", came + PAIR);
    program.await_metric("fanwire_failed_handshakes_total", failed);
    program.end_well();
}

#[test]
fn a_client_that_shuts_down_its_side_at_any_moment_is_closed_and_frees_its_descriptor() {
    const EACH: u64 = 20;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let mut clients: Vec<Wire> = Vec::new();
    for _ in 0..EACH {
        let (silent, half) = (program.dial(), program.dial());
        half.send(&request("/room")[..40]);
        let (joined, inside) = (program.join("/room"), program.join("/room"));
        inside.send(&frame(FIN | TEXT, b"never complete")[..9]);
        clients.extend([silent, half, joined, inside]);
    }
    for client in &mut clients {
        client.stream().shutdown(Shutdown::Write).unwrap();
    }
    for mut client in clients {
        client.expect_cut();
    }
    program.await_metric(LOST, 2 * EACH);
    program.await_metric(LOST_EARLY, 2 * EACH);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    end(program, 2 * EACH, 2 * EACH);
}

#[test]
fn resets_inside_a_message_one_by_one_and_in_groups_leave_nothing_behind() {
    const ONE_BY_ONE: usize = 200;
    const FLOCKS: usize = 10;
    const FLOCK: usize = 24;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let message = frame(FIN | BINARY, &vec![7; 60_000]);
    for n in 0..ONE_BY_ONE {
        let client = program.join(crate::witness::PATH);
        client.send(&message[..n * 300]);
        client.reset();
    }
    for _ in 0..FLOCKS {
        let flock: Vec<Wire> = (0..FLOCK)
            .map(|_| program.join(crate::witness::PATH))
            .collect();
        for (n, client) in flock.iter().enumerate() {
            client.send(&message[..n * 2_500]);
        }
        flock.into_iter().for_each(Wire::reset);
    }
    let all = (ONE_BY_ONE + FLOCKS * FLOCK) as u64;
    program.await_metric(LOST, all);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    end(program, all, 0);
}

/// While the process is stopped, clients send and reset, and others take their places. The relay sees it all in one
/// batch of events, in which slots get new clients.
#[test]
fn resets_and_newcomers_in_one_batch_of_events_are_not_confused() {
    const FLOCK: usize = 100;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let text = frame(FIN | TEXT, b"last words");
    let victims: Vec<Wire> = (0..FLOCK).map(|_| program.join("/room")).collect();
    program.signal(Signal::STOP);
    for victim in &victims {
        victim.send(&text);
    }
    victims.into_iter().for_each(Wire::reset);
    let newcomers: Vec<Wire> = (0..FLOCK)
        .map(|_| {
            let newcomer = program.dial();
            newcomer.send(request("/other"));
            newcomer
        })
        .collect();
    program.signal(Signal::CONT);
    for mut newcomer in newcomers {
        assert_eq!(newcomer.answer().status, 101);
        newcomer.send(frame(FIN | TEXT, b"here"));
        // Each client receives at least its own message.
        assert_eq!(newcomer.hear(), "here");
    }
    let all = 2 * FLOCK as u64;
    program.await_metric(LOST, all);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    end(program, all, 0);
}

#[test]
fn clients_that_vanish_silently_are_detected_by_the_next_ping() {
    const VANISHED: u64 = 50;
    let program = Program::with("keepalive: {ping_interval: 100ms, pong_timeout: 2s}");
    let mut honest = program.connect("/room");
    honest.say("here");
    assert_eq!(honest.hear(), "here");
    let before = program.holdings();
    // Their kernels acknowledge what comes, but no program answers.
    let vanished: Vec<Wire> = (0..VANISHED).map(|_| program.join("/room")).collect();
    let honest = thread::spawn(move || {
        // Reading answers pings.
        while let Message::Ping(_) = honest.next() {}
        honest
    });
    program.await_metric(
        r#"fanwire_disconnections_total{reason="pong_timeout"}"#,
        VANISHED,
    );
    program.await_return(&before, MAX_GROWTH_BYTES);
    let mut other = program.connect("/room");
    other.say("found");
    drop((honest.join().unwrap(), other, vanished));
    end(program, VANISHED, 0);
}

#[test]
fn a_thousand_that_connect_and_leave_are_counted_once() {
    const VISITORS: u64 = 1000;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    for _ in 0..VISITORS {
        drop(program.dial());
    }
    program.await_metric(LOST_EARLY, VISITORS);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    end(program, 0, VISITORS);
}

/// A client that comes and goes in one of five styles.
fn visit(program: &Program, style: usize) {
    match style {
        0 => drop(program.dial()),
        1 => {
            let half = program.dial();
            half.send(&request("/churn")[..50]);
            reset(half.stream());
        }
        2 => drop(program.connect("/churn").leave()),
        3 => program.join("/churn").reset(),
        _ => {
            let mut shut = program.join("/churn");
            shut.send(frame(FIN | TEXT, b"good bye"));
            shut.stream().shutdown(Shutdown::Write).unwrap();
            shut.expect_cut();
        }
    }
}

#[test]
fn two_thousand_that_come_and_go_in_five_styles_are_counted_exactly() {
    const EACH: u64 = 400;
    const STYLES: usize = 5;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let began = Instant::now();
    thread::scope(|scope| {
        for style in 0..STYLES {
            let program = &program;
            scope.spawn(move || (0..EACH).for_each(|_| visit(program, style)));
        }
    });
    eprintln!("{:.0} a second", 2000.0 / began.elapsed().as_secs_f64());
    program.await_metric(r#"fanwire_disconnections_total{reason="client"}"#, EACH);
    program.await_metric(LOST, 2 * EACH);
    program.await_metric(LOST_EARLY, 2 * EACH);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    end(program, 3 * EACH, 2 * EACH);
}

#[test]
fn idle_clients_cost_few_bytes_and_one_descriptor_each() {
    const IDLE: usize = if cfg!(debug_assertions) { 1000 } else { 10_000 };
    const MAX_BYTES_EACH: u64 = 450;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    // The first clients make the process allocate some memory for good. Do not count it.
    drop((0..100).map(|_| program.join("/idle")).collect::<Vec<_>>());
    program.await_metric("websocket_connected_clients", PAIR);
    // Their topic goes with them. The pair's topic is on both shards.
    program.await_metric("fanwire_owned_topics", 1);
    program.await_metric("fanwire_topics", 2);
    let before = program.holdings();
    let descriptors = program.descriptors();
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|_| program.join("/idle").stream().try_clone().unwrap())
        .collect();
    program.await_metric("websocket_connected_clients", PAIR + IDLE as u64);
    // A scrape may open or close one.
    assert!((program.descriptors() - descriptors).abs_diff(IDLE) <= 1);
    let each = program.resident_bytes().saturating_sub(before.resident()) / IDLE as u64;
    eprintln!("{each} bytes each");
    assert!(each < MAX_BYTES_EACH || cfg!(debug_assertions), "{each}");
    drop(idle);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    end(program, 100 + IDLE as u64, 0);
}

#[test]
fn when_descriptors_run_out_nothing_spins_and_waiting_clients_are_served_later() {
    const GRANTED: u64 = 40;
    const WAITING: usize = 20;
    let program = Program::with_server(", max_connections: 100000", "");
    let witness = Witness::of_program(&program);
    let before = program.limit_descriptors(program.descriptors() as u64 + GRANTED);
    let served: Vec<Wire> = (0..GRANTED).map(|_| program.join("/room")).collect();
    let waiting: Vec<Wire> = (0..WAITING)
        .map(|_| {
            let waiting = program.dial();
            waiting.send(request("/room"));
            waiting
        })
        .collect();
    // Members are served, and no thread spins while there is no free descriptor.
    let (began, before_that) = (Instant::now(), program.cpu_time("control"));
    witness.await_rounds(100);
    let spent = program.cpu_time("control").saturating_sub(before_that);
    let elapsed = began.elapsed();
    assert!(spent < elapsed / 10, "{spent:?} in {elapsed:?}");
    // Leaving clients make room, although no new connection wakes the listener.
    drop(served);
    for mut waiting in waiting {
        assert_eq!(waiting.answer().status, 101);
    }
    program.limit_descriptors(before);
    program.await_metric(LOST, GRANTED + WAITING as u64);
    witness.dismiss();
    end(program, GRANTED + WAITING as u64, 0);
}

/// All deadlines pass while the process is stopped, which is not the clients' fault.
#[test]
fn a_process_stopped_for_three_seconds_cuts_nobody_and_loses_nothing() {
    const PAUSE: Duration = Duration::from_secs(3);
    let program = Program::with_server(
        ", handshake_timeout: 2s",
        "keepalive: {ping_interval: 2s, pong_timeout: 1s}\nslow_consumer: {stall_timeout: 1s}",
    );
    let witness = Witness::of_program(&program);
    let mut late = program.dial();
    late.send(&request("/room")[..40]);
    let mut stalled = program.join_narrowly("/room");
    let mut publisher = program.join("/room");
    let message = frame(FIN | BINARY, &[7; 16 << 10]);
    // Fill its socket, so that messages wait for it.
    let mut sent = 0;
    while program.metric("fanwire_log_bytes") < f64::from(200 << 10) {
        publisher.send(&message);
        publisher.next();
        sent += 1;
    }
    program.signal(Signal::STOP);
    thread::sleep(PAUSE);
    program.signal(Signal::CONT);
    late.send(&request("/room")[40..]);
    for _ in 0..sent {
        assert_eq!(stalled.next().payload.len(), 16 << 10);
    }
    assert_eq!(late.answer().status, 101);
    eventually("it goes on", || program.metric("fanwire_log_bytes") < 1.0);
    program.await_metric("websocket_disconnections_total", 0);
    program.await_metric("fanwire_failed_handshakes_total", 0);
    drop((late, stalled, publisher));
    witness.dismiss();
    end(program, 3, 0);
}
