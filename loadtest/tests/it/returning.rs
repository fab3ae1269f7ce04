//! Clients that are cut and come back, against the real relay with a history: each gets all that it missed, or is told
//! how much of it is gone.

use std::time::Duration;

use crate::support::{load, pass, refused};
use crate::world::World;

/// A relay that keeps a history.
fn with_history() -> World {
    World::start(|config| config.history.max_age = Duration::from_mins(1))
}

/// Clients that are cut about six times a second, and come back after a moment.
const JITTER: &str = "jitter --subscribers 24 --topics 3 --publishers 6 --rate 3000 --threads 2 --cut-every 150ms \
                      --away 20ms --duration 1s --patience 5s";

#[test]
fn clients_that_are_cut_at_random_get_all_that_they_missed() {
    let world = with_history();
    for kind in ["", "--text"] {
        let report = pass(&format!("{JITTER} {kind} {}", world.here()));
        let returns = report.returns.expect("clients came back");
        assert_eq!(returns.clients, 21, "one stays in each topic");
        assert_eq!(returns.cuts.len(), 3, "in every style: {:?}", returns.cuts);
        assert!(returns.returned >= 10, "{}", returns.returned);
        assert_eq!(returns.full, returns.returned);
        assert!(
            returns.behind > returns.returned,
            "they had missed something"
        );
        assert!(returns.replay.count > 0 && returns.caught_up.count == returns.replay.count);
        assert_eq!(returns.worst_clients.len(), 21);
        let wrong = returns.worst_clients.iter();
        assert!(
            wrong
                .clone()
                .all(|client| client.lost + client.repeated + client.told == 0)
        );
        assert_eq!(
            wrong.map(|client| client.returns).sum::<u64>(),
            returns.returned
        );
        // Replayed messages were due long ago, and count in no latency.
        let delivered = report.deliveries.received_while_measured;
        assert!(report.latency.count < delivered, "{}", report.latency.count);
        // Clients that are there again are there from the beginning to the end: nothing was left uncompared.
        assert!(
            report
                .warnings
                .iter()
                .all(|warning| !warning.contains("not compared"))
        );
    }
}

#[test]
fn an_avalanche_tells_when_the_last_has_caught_up() {
    let world = with_history();
    let line = "jitter --subscribers 30 --publishers 2 --rate 500 --cut-every 0s --avalanche 200ms --duration 1500ms --patience 5s";
    let report = pass(&format!("{line} {}", world.here()));
    let returns = report.returns.expect("clients came back");
    let avalanche = returns.avalanche.expect("there was one");
    assert_eq!((avalanche.clients, avalanche.recovered.count), (29, 29));
    assert_eq!(returns.returned, 29);
    // They come back within a second.
    assert!(
        avalanche.recovered.max >= 500_000_000,
        "{}",
        avalanche.recovered.max
    );
}

#[test]
fn a_round_of_reconnections_goes_on_where_it_was() {
    let world = with_history();
    let line = "reconnect --subscribers 12 --topics 2 --publishers 2 --rate 4000 --every 30ms --duration 500ms --patience 5s";
    let report = pass(&format!("{line} --resume fanwire {}", world.here()));
    let returns = report.returns.expect("clients came back");
    assert!(returns.returned >= 10 && returns.returned == returns.full);
    assert!(returns.cuts.is_empty() && report.rounds.is_some());
    let report = pass(&format!("{line} {}", world.here()));
    assert!(report.returns.is_none(), "nobody goes on");
}

#[test]
fn clients_that_ask_for_nothing_miss_what_was_sent_meanwhile_and_nothing_else() {
    let world = World::start(|_| {});
    let report = pass(&format!("{JITTER} --resume none {}", world.here()));
    let returns = report.returns.expect("clients came back");
    assert!(returns.missed > returns.returned, "{}", returns.missed);
    assert_eq!(
        (returns.full, returns.told, returns.replay.count),
        (0, 0, 0)
    );
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("asked for nothing"))
    );
}

#[test]
fn a_history_that_is_too_short_is_told_and_believed() {
    let world = World::start(|config| {
        config.history.max_age = Duration::from_mins(1);
        config.history.max_messages = 20;
    });
    let line = "jitter --subscribers 10 --publishers 2 --rate 4000 --cut-every 200ms --away 100ms --duration 800ms --patience 5s";
    let report = load(&format!("{line} {}", world.here()));
    assert!(report.passed, "{:?}", report.failures);
    let returns = report.returns.expect("clients came back");
    assert!(returns.partial > 0 && returns.told > 0, "{returns:?}");
    assert_eq!(report.deliveries.told, returns.told);
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("does not reach back"))
    );
    let of_clients: u64 = returns.worst_clients.iter().map(|client| client.told).sum();
    assert_eq!(of_clients, returns.told);
}

#[test]
fn a_relay_without_a_history_is_refused_with_the_key_that_is_missing() {
    let world = World::start(|_| {});
    let error = refused(&format!("jitter --subscribers 4 {}", world.here())).to_string();
    assert!(
        error.contains("history.max_age") && error.contains("--resume none"),
        "{error}"
    );
}

#[test]
fn jitter_that_makes_no_sense_is_refused() {
    for (line, words) in [
        ("--cut-every 1ms", "--cut-every: it must be 100ms"),
        ("--cut-every 0s", "nobody is ever cut"),
        ("--avalanche 10s", "less than --duration"),
        ("--away 11m", "--away"),
        ("--subscribers 1", "two or more in each topic"),
    ] {
        let line = format!("jitter --url ws://127.0.0.1:1/ {line}");
        let error = refused(&line).to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}
