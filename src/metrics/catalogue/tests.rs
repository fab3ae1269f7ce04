//! The rows are right: names, kinds, labels, meanings.

use std::collections::HashSet;

use super::*;

#[test]
fn every_statistic_is_shown_once_but_clients_also_by_shard() {
    let mut shown = [0; Stat::COUNT];
    for stat in METRICS.iter().flat_map(Metric::stats) {
        shown[stat as usize] += 1;
    }
    shown[Stat::ConnectedClients as usize] -= 1;
    assert_eq!(shown, [1; Stat::COUNT], "by index of Stat");
}

#[test]
fn no_name_appears_twice() {
    let names: HashSet<_> = all().map(|metric| metric.name).collect();
    assert_eq!(names.len(), all().count());
}

#[test]
fn the_names_of_the_earlier_relay_are_kept() {
    let legacy: Vec<_> = METRICS
        .iter()
        .filter(|metric| metric.name.starts_with("websocket_"))
        .collect();
    let legacy: Vec<_> = legacy
        .iter()
        .map(|metric| (metric.name, metric.kind))
        .collect();
    assert_eq!(
        legacy,
        [
            ("websocket_connected_clients", Kind::Gauge),
            ("websocket_messages_total", Kind::Counter),
            ("websocket_connections_total", Kind::Counter),
            ("websocket_disconnections_total", Kind::Counter),
        ]
    );
}

#[test]
fn every_other_name_starts_with_fanwire_or_process() {
    for metric in all() {
        let known = ["websocket_", "fanwire_", "process_"]
            .iter()
            .any(|prefix| metric.name.starts_with(prefix));
        assert!(known, "{}", metric.name);
    }
}

#[test]
fn counters_and_only_counters_end_in_total() {
    for metric in all() {
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{}",
            metric.name
        );
    }
}

#[test]
fn every_meaning_is_one_line_and_ends_with_a_full_stop() {
    for metric in all() {
        assert!(
            metric.help.ends_with('.') && !metric.help.contains(['\n', '|']),
            "{}",
            metric.name
        );
    }
}
