//! The metrics before, during and after clients, read by an independent parser.

use std::net::TcpStream;

use fanwire::server::Stat;
use prometheus_parse::{Labels, Sample, Scrape, Value};

use crate::support::{World, config};
use crate::wire::Wire;

/// The current metrics, parsed.
pub(crate) fn scrape(world: &World) -> Scrape {
    let address = world.relay.metrics_address().expect("metrics are on");
    let mut scraper = Wire::over(TcpStream::connect(address).unwrap());
    scraper.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = scraper.answer();
    assert_eq!(answer.status, 200);
    let lines = answer.body.lines().map(|line| Ok(line.to_owned()));
    Scrape::parse(lines).unwrap()
}

fn number(sample: &Sample) -> f64 {
    match &sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
        Value::Histogram(counts) => counts.last().unwrap().count,
        Value::Summary(_) => panic!("there are no summaries"),
    }
}

/// The samples of a metric.
fn samples<'s>(scrape: &'s Scrape, name: &str) -> Vec<&'s Sample> {
    let all = scrape.samples.iter();
    let samples: Vec<_> = all.filter(|sample| sample.metric == name).collect();
    assert!(!samples.is_empty(), "there is no {name}");
    samples
}

/// The sum over all series of a metric.
pub(crate) fn sum(scrape: &Scrape, name: &str) -> f64 {
    samples(scrape, name).into_iter().map(number).sum()
}

/// The series of a metric with this label value.
pub(crate) fn case(scrape: &Scrape, name: &str, label: &str, value: &str) -> f64 {
    let series = samples(scrape, name);
    let found = series
        .into_iter()
        .find(|sample| sample.labels.get(label) == Some(value));
    number(found.unwrap_or_else(|| panic!("{name} has no {label}={value}")))
}

/// Compares counts that came as floats.
#[track_caller]
fn assert_count(actual: f64, expected: u64) {
    assert!(
        (actual - expected as f64).abs() < 0.5,
        "{actual} should be {expected}"
    );
}

#[test]
fn the_names_of_the_earlier_relay_exist_with_their_kinds() {
    let world = World::start();
    let scrape = scrape(&world);
    let value = |name| &samples(&scrape, name)[0].value;
    assert!(matches!(
        value("websocket_connected_clients"),
        Value::Gauge(_)
    ));
    for counter in [
        "websocket_messages_total",
        "websocket_connections_total",
        "websocket_disconnections_total",
    ] {
        assert!(matches!(value(counter), Value::Counter(_)), "{counter}");
    }
    world.end();
}

#[test]
fn every_series_is_zero_before_the_first_client() {
    let world = World::with(&config(3));
    let scrape = scrape(&world);
    // The metrics about the process and its turns are never at rest, and a limit is not.
    let is_about_clients = |sample: &&Sample| {
        let others = [
            "process_",
            "fanwire_process_",
            "fanwire_build_",
            "fanwire_max_connections",
            "fanwire_shard_busy",
            "fanwire_shard_turns",
        ];
        !others
            .iter()
            .any(|prefix| sample.metric.starts_with(prefix))
    };
    for sample in scrape.samples.iter().filter(is_about_clients) {
        assert_count(number(sample), 0);
    }
    let labels = |name, label: &str| -> Vec<String> {
        let label_of = |labels: &Labels| labels.get(label).unwrap().to_owned();
        samples(&scrape, name)
            .iter()
            .map(|sample| label_of(&sample.labels))
            .collect()
    };
    assert_eq!(labels("fanwire_disconnections_total", "reason").len(), 18);
    assert_eq!(
        labels("fanwire_failed_handshakes_total", "reason").len(),
        18
    );
    assert_eq!(labels("fanwire_write_calls_total", "result").len(), 4);
    assert_eq!(labels("fanwire_shard_clients", "shard"), ["0", "1", "2"]);
    world.end();
}

#[test]
fn the_metrics_add_up_before_during_and_after() {
    let world = World::with(&config(4));
    assert_count(sum(&scrape(&world), "websocket_connected_clients"), 0);

    let mut clients = world.connect_many("/room", 8);
    for client in &mut clients[..5] {
        client.say("hello");
    }
    for client in &mut clients {
        for _ in 0..5 {
            client.hear();
        }
    }
    world.await_total(Stat::Messages, 5);
    world.await_total(Stat::Delivered, 40);
    world.await_rest();
    let during = scrape(&world);
    assert_count(sum(&during, "websocket_connected_clients"), 8);
    assert_count(sum(&during, "websocket_messages_total"), 5);
    assert_count(sum(&during, "websocket_connections_total"), 8);
    assert_count(sum(&during, "websocket_disconnections_total"), 0);
    assert_count(sum(&during, "fanwire_offered_deliveries_total"), 40);
    assert_count(sum(&during, "fanwire_deliveries_total"), 40);
    assert_count(sum(&during, "fanwire_log_bytes"), 0);
    assert_count(sum(&during, "fanwire_owned_topics"), 1);
    assert_count(sum(&during, "fanwire_topics"), 4);
    for shard in ["0", "1", "2", "3"] {
        assert_count(case(&during, "fanwire_shard_clients", "shard", shard), 2);
    }
    // 8 frames of 2 + 5 bytes for each of the 5 messages, besides the upgrade responses.
    assert!(sum(&during, "fanwire_sent_bytes_total") > f64::from(8 * 5 * 7));
    let rounds = samples(&during, "fanwire_fanout_latency_seconds")
        .into_iter()
        .map(number)
        .sum::<f64>();
    assert!(rounds >= 4.0, "{rounds} samples of four shards");

    let left = clients.pop().unwrap().leave();
    assert_eq!(left, []);
    clients.pop().unwrap().reset();
    world.await_total(Stat::Disconnections, 2);
    drop(clients);
    world.await_total(Stat::Disconnections, 8);
    for gauge in [Stat::ConnectedClients, Stat::Topics, Stat::OwnedTopics] {
        world.await_total(gauge, 0);
    }
    let after = scrape(&world);
    assert_count(sum(&after, "websocket_connected_clients"), 0);
    assert_count(sum(&after, "websocket_disconnections_total"), 8);
    let reasons = "fanwire_disconnections_total";
    assert_count(sum(&after, reasons), 8);
    assert_count(case(&after, reasons, "reason", "client"), 1);
    assert_count(case(&after, reasons, "reason", "lost"), 7);
    assert_count(sum(&after, "fanwire_topics"), 0);
    assert_count(sum(&after, "fanwire_owned_topics"), 0);
    world.end();
}

#[test]
fn connections_are_spread_over_the_shards_evenly() {
    let world = World::with(&config(4));
    let clients: Vec<_> = (0..10).map(|n| world.connect(&format!("/{n}"))).collect();
    world.await_total(Stat::ConnectedClients, 10);
    let scrape = scrape(&world);
    for shard in ["0", "1", "2", "3"] {
        let clients = case(&scrape, "fanwire_shard_clients", "shard", shard);
        assert!((2.0..=3.0).contains(&clients), "{clients} on shard {shard}");
    }
    drop(clients);
    world.end();
}

#[test]
fn a_failed_handshake_is_counted_by_its_reason() {
    let world = World::start();
    let mut client = world.dial();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer().status, 426);
    world.await_total(Stat::HandshakeNotUpgrade, 1);
    let scrape = scrape(&world);
    let name = "fanwire_failed_handshakes_total";
    assert_count(case(&scrape, name, "reason", "not_upgrade"), 1);
    assert_count(sum(&scrape, name), 1);
    drop(client);
    world.end();
}

#[test]
fn without_metrics_nothing_listens_for_scrapes() {
    let mut config = config(2);
    config.metrics.enabled = false;
    let world = World::with(&config);
    assert_eq!(world.relay.metrics_address(), None);
    world.end();
}
