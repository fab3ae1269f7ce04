//! Attacks on the metrics port of a busy relay. `tests/exporter.rs` tests the answers to single odd requests. Here the
//! relay must notice nothing, and the exporter must free what it held.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use crate::program::Program;
use crate::support::connect_narrowly;
use crate::wire::{Wire, request};
use crate::witness::Witness;

/// The most memory that an attack here may add to the process.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A scraper that keeps asking and never reads an answer.
fn deaf_scraper(program: &Program) -> Wire {
    let mut stream = connect_narrowly(program.metrics);
    let timeout = Some(Duration::from_millis(10));
    stream.set_write_timeout(timeout).unwrap();
    let requests = GET.repeat(1000);
    // Fill the buffers, so that the exporter cannot send its answers.
    loop {
        match stream.write(requests.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Wire::over(stream),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn sixty_stuck_scrapers_keep_nobody_waiting_and_nothing_busy() {
    const DEAF: usize = 4;
    const OTHERS: usize = 28;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let mut stuck: Vec<_> = (0..DEAF).map(|_| deaf_scraper(&program)).collect();
    for _ in 0..OTHERS {
        let [silent, half] = [(); 2].map(|()| program.dial_metrics());
        half.send(&GET[..30]);
        stuck.extend([silent, half]);
    }
    witness.while_silent(|| program.await_rest_beside(&before, DEAF + 2 * OTHERS));
    for _ in 0..20 {
        program.scrape();
    }
    drop(stuck);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn a_hundred_scrapes_twenty_at_a_time_have_growing_counters_and_exact_gauges() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let clients: Vec<_> = (0..20).map(|n| program.connect(&format!("/{n}"))).collect();
    program.await_metric("websocket_connected_clients", 22);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut last = 0.0;
                for _ in 0..5 {
                    program.assert_metric("websocket_connected_clients", 22);
                    let messages = program.metric("websocket_messages_total");
                    assert!(messages >= last, "{messages} after {last}");
                    last = messages;
                }
            });
        }
    });
    for client in clients {
        client.leave();
    }
    program.await_metric("websocket_disconnections_total", 20);
    program.await_metric("websocket_connections_total", 22);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn odd_requests_are_answered_in_order_and_not_logged() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let megabyte = "x".repeat(1 << 20);
    for (request, status) in [
        (
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {megabyte}"),
            431,
        ),
        (
            format!("GET /metrics HTTP/1.1\r\n{}", "X: y\r\n".repeat(5000)),
            431,
        ),
        (format!("GET /{megabyte}"), 414),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}".into(), 400),
        ("\0".repeat(1000), 400),
        ("\u{ff}\u{fe} GET\r\n\r\n".into(), 400),
        ("GET /metrics HTTP/2.0\r\n\r\n".into(), 505),
    ] {
        for _ in 0..20 {
            let mut scraper = program.dial_metrics();
            scraper.send(&request);
            let excerpt: String = request.chars().take(60).collect();
            assert_eq!(scraper.answer().status, status, "{excerpt:?}");
            scraper.expect_end();
        }
    }
    let mut upgrade = program.dial_metrics();
    upgrade.send(request("/metrics"));
    assert_eq!(upgrade.answer().status, 200);
    upgrade.send(GET);
    assert_eq!(upgrade.answer().status, 200, "it still speaks HTTP");
    drop(upgrade);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    let log = program.end_well();
    assert!(log.lines().count() < 10, "{log}");
}

#[test]
fn requests_pipelined_by_the_thousand_are_all_answered_one_at_a_time() {
    const REQUESTS: usize = 2000;
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let mut scraper = program.dial_metrics();
    let sender = scraper.send_beside(std::iter::once(GET.repeat(REQUESTS).into_bytes()));
    for _ in 0..REQUESTS {
        let answer = scraper.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("keep-alive"))
        );
    }
    sender.join().unwrap();
    drop(scraper);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn scrapers_that_reset_their_connections_leave_nothing_behind() {
    let program = Program::with("");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    for n in 0..200 {
        let scraper = program.dial_metrics();
        scraper.send(&GET[..n % GET.len()]);
        if n % 2 == 0 {
            scraper.send(&GET[n % GET.len()..]);
        }
        scraper.reset();
    }
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.while_silent(|| program.await_rest());
    witness.dismiss();
    let log = program.end_well();
    assert!(log.lines().count() < 10, "{log}");
}
