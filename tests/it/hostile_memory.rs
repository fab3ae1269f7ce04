//! Attacks on the relay's memory as a whole: many clients that each stay within every limit of their own. The relay is a
//! process of its own with little memory to give, and what it grew by at its worst is asked of the kernel.

use crate::program::Program;
use crate::support::eventually;
use crate::wire::{BINARY, FIN, Wire, frame, header};
use crate::witness::Witness;

/// What all that piles up may come to, on two shards together.
const MAX_BUFFERED_BYTES: usize = 16 << 20;

/// Growth of the process that no attack here may cause: that, some 10 MiB for each of two workers, and the allocator's.
const MAX_GROWTH_BYTES: u64 = 48 << 20;

/// What the attackers here would like the relay to hold.
const WANTED_BYTES: usize = 96 << 20;

/// The share of one attacker, just below the limit on messages.
const PART_BYTES: usize = 1000 << 10;

/// A member that lags by so much is no laggard yet under any policy.
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
fn messages_in_part_are_held_up_to_the_limit_and_whoever_holds_most_is_told_1013() {
    let program = program("disconnect");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let mut attackers: Vec<Wire> = Vec::new();
    for _ in 0..WANTED_BYTES / PART_BYTES {
        let attacker = program.join("/parts");
        attacker.send(header(FIN | BINARY, PART_BYTES as u64 + 1));
        // Whoever is closed meanwhile is not read to the end.
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

/// On each of many topics somebody publishes less than any limit, and somebody does not read it. Until `is_enough`.
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
fn backlogs_on_many_topics_are_kept_up_to_the_limit_and_laggards_disconnected() {
    backlogs_on_many_topics("disconnect", |program| {
        departures(program, "memory") >= 50.0
    });
}

#[test]
fn backlogs_on_many_topics_are_kept_up_to_the_limit_and_skipped() {
    backlogs_on_many_topics("drop", |program| {
        program.metric("fanwire_dropped_deliveries_total") >= (50 * MESSAGE_BYTES / 1024) as f64
    });
}

#[test]
fn backlogs_on_many_topics_hold_publishers_where_nothing_may_be_lost() {
    backlogs_on_many_topics("backpressure", |program| {
        program.metric("fanwire_topics_held") >= 10.0
    });
}

/// Of the allocator of the program, without which the system's decides.
#[cfg(feature = "mimalloc")]
#[test]
fn what_a_burst_has_needed_is_given_back_although_nothing_large_follows() {
    const CLIENTS: usize = 64;
    const HELD: u64 = (CLIENTS * PART_BYTES) as u64;
    // No timer has anything to do either: whoever frees something large has the allocator look at all that is free.
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
