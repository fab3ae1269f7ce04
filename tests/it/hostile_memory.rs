//! Attacks on the total memory of the relay, by many clients that each stay within all limits. The relay is a separate
//! process with a small memory limit, and the kernel tells its peak.

use crate::program::Program;
use crate::support::eventually;
use crate::wire::{BINARY, FIN, Wire, frame, header};
use crate::witness::Witness;

/// The configured limit for all buffers, for two shards together.
const MAX_BUFFERED_BYTES: usize = 16 << 20;

/// The allowed growth of the process: the limit, about 10 MiB for each of two workers, and the allocator's overhead.
const MAX_GROWTH_BYTES: u64 = 48 << 20;

/// The bytes that the attackers want the relay to hold.
const WANTED_BYTES: usize = 96 << 20;

/// One attacker's part of them, just below the limit on messages.
const PART_BYTES: usize = 1000 << 10;

/// A lag that is not too long under any policy.
const BACKLOG_BYTES: usize = 900 << 10;

const MESSAGE_BYTES: usize = 15 << 10;

fn program(policy: &str) -> Program {
    Program::with(&format!(
        "limits: {{max_buffered_bytes: {MAX_BUFFERED_BYTES}}}\n\
         slow_consumer: {{policy: {policy}, max_lag_bytes: 2MiB, stall_timeout: 1h}}"
    ))
}

fn departures(program: &Program, reason: &str) -> f64 {
    program.metric(&format!(
        "fanwire_disconnections_total{{reason={reason:?}}}"
    ))
}

#[test]
fn incomplete_messages_are_held_up_to_the_limit_and_the_largest_is_closed_with_1013() {
    let program = program("disconnect");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let mut attackers: Vec<Wire> = Vec::new();
    for _ in 0..WANTED_BYTES / PART_BYTES {
        let attacker = program.join("/parts");
        attacker.send(header(FIN | BINARY, PART_BYTES as u64 + 1));
        // The relay does not read the rest from a client that it closes.
        let _ = attacker.try_send(vec![0; PART_BYTES]);
        attacker.stream().set_nonblocking(true).unwrap();
        attackers.push(attacker);
    }
    let least = (WANTED_BYTES - MAX_BUFFERED_BYTES) / PART_BYTES - 1;
    eventually("most attackers were closed", || {
        departures(&program, "memory") >= least as f64
    });
    assert!(program.metric("fanwire_buffer_limit_reached_total") > 0.0);
    assert!(program.metric("fanwire_partial_message_bytes") <= MAX_BUFFERED_BYTES as f64);
    let mut told = 0;
    eventually("those were told", || {
        let codes = attackers.iter_mut().filter_map(Wire::try_close);
        told += codes.filter(|&code| code == 1013).count();
        told >= least / 2
    });
    drop(attackers);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

/// On each of many topics, a client publishes less than any limit, and another does not read it, until `is_enough`.
fn backlogs_on_many_topics(policy: &str, is_enough: impl Fn(&Program) -> bool) {
    let program = program(policy);
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let message = frame(FIN | BINARY, &[7; MESSAGE_BYTES]);
    let attackers: Vec<[Wire; 2]> = (0..WANTED_BYTES / BACKLOG_BYTES)
        .map(|topic| {
            let path = format!("/backlog/{topic}");
            let (reader, publisher) = (program.join_narrowly(&path), program.join(&path));
            publisher.send(message.repeat(BACKLOG_BYTES / MESSAGE_BYTES));
            [reader, publisher]
        })
        .collect();
    eventually("somebody gave way", || is_enough(&program));
    witness.await_rounds(3);
    drop(attackers);
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn backlogs_on_many_topics_are_limited_by_disconnecting_laggards() {
    backlogs_on_many_topics("disconnect", |program| {
        departures(program, "memory") >= 50.0
    });
}

#[test]
fn backlogs_on_many_topics_are_limited_by_skipping() {
    backlogs_on_many_topics("drop", |program| {
        program.metric("fanwire_dropped_deliveries_total") >= (50 * MESSAGE_BYTES / 1024) as f64
    });
}

#[test]
fn backlogs_on_many_topics_are_limited_by_pausing_publishers() {
    backlogs_on_many_topics("backpressure", |program| {
        program.metric("fanwire_topics_held") >= 10.0
    });
}

/// This needs the program's own allocator.
#[cfg(feature = "mimalloc")]
#[test]
fn memory_of_a_burst_is_released_although_nothing_large_follows() {
    const CLIENTS: usize = 64;
    const HELD: u64 = (CLIENTS * PART_BYTES) as u64;
    // No timer does anything either, because freeing something large also makes the allocator release memory.
    let program = Program::with_server(", handshake_timeout: 1h", "keepalive: {ping_interval: 0s}");
    let before = program.resident_bytes();
    let clients: Vec<Wire> = (0..CLIENTS)
        .map(|_| {
            let client = program.join("/burst");
            client.send(header(FIN | BINARY, PART_BYTES as u64 + 1));
            client.send(vec![0; PART_BYTES]);
            client
        })
        .collect();
    eventually("all of it is held", || {
        program.resident_bytes() >= before + HELD
    });
    drop(clients);
    eventually("most of it is given back", || {
        program.resident_bytes() < before + HELD / 4
    });
    program.end_well();
}
