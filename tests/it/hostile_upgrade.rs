//! Attacks on the way to the upgrade: connections that never ask, heads without end, requests that mean two things.
//! Each time an honest pair looks on, and must not notice.

use std::time::Duration;

use fanwire::metrics::stats::Stat;

use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::witness::Witness;

/// Growth of the process that no attack here may cause.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

#[test]
fn silent_connections_by_the_thousand_are_timed_out_and_give_back_what_they_held() {
    const SILENT: usize = 2000;
    let program = Program::with_server(", handshake_timeout: 5s", "");
    let witness = Witness::of_program(&program);
    let before = program.holdings();
    let silent: Vec<_> = (0..SILENT).map(|_| program.dial()).collect();
    program.await_rest();
    for mut silent in silent {
        assert_eq!(silent.answer().status, 408);
        silent.expect_end();
    }
    program.await_metric(
        r#"fanwire_failed_handshakes_total{reason="timeout"}"#,
        SILENT as u64,
    );
    program.await_return(&before, MAX_GROWTH_BYTES);
    witness.dismiss();
    program.end_well();
}

#[test]
fn a_byte_now_and_then_holds_no_connection_beyond_the_deadline() {
    const SLOW: u64 = 50;
    let mut config = config(2);
    config.server.handshake_timeout = Duration::from_millis(500);
    let world = World::with(&config);
    let witness = Witness::of(&world);
    let mut slow: Vec<_> = (0..SLOW).map(|_| world.dial()).collect();
    for slow in &slow {
        slow.send("GET /room HTTP/1.1\r\nX: ");
    }
    eventually("each was timed out", || {
        for slow in &slow {
            // A write behind the connection's end fails; one before it changes nothing.
            let _ = slow.try_send("x");
        }
        world.total(Stat::HandshakeTimeout) == SLOW
    });
    for slow in &mut slow {
        slow.expect_cut();
    }
    witness.dismiss();
    world.end();
}
