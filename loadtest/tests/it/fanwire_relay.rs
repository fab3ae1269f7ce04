//! Runs against the real relay, plain and under TLS. Every scenario must pass. The relay's policy of dropping messages
//! must not.

use std::fs;
use std::path::PathBuf;

use fanwire::config::{Config, SlowConsumerPolicy};
use fanwire::server::Stat;
use loadtest::report::Report;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::support::{load, pass, refused};
use crate::world::World;

#[test]
fn every_scenario_passes() {
    let world = World::start(|_| {});
    let here = world.here();
    for line in [
        "fanout --subscribers 20",
        "fanout --subscribers 20 --publishers 3 --rate 5000 --text",
        "chat --subscribers 12 --threads 2",
        "idle --subscribers 50",
        "churn --subscribers 10 --churn-rate 150",
        "slow --subscribers 10 --slow-share 0.3 --stall 50ms",
        "burst --subscribers 20 --publishers 3 --burst 50 --every 20ms",
        "reconnect --subscribers 20 --every 20ms",
        "soak --subscribers 10 --rate 2000 --duration 200ms",
        "fanout --subscribers 10 --busy-poll --threads 2",
    ] {
        let report = pass(&format!("{line} {here}"));
        let wanted = report.connections.wanted as u64;
        assert!(report.connections.opened >= wanted, "{line}");
        assert_eq!(
            report.connections.stalls > 0,
            line.starts_with("slow"),
            "{line}"
        );
        let has_rounds = line.starts_with("burst") || line.starts_with("reconnect");
        assert_eq!(report.rounds.is_some(), has_rounds, "{line}");
        if let Some(rounds) = &report.rounds {
            assert!(rounds.count > 0, "{line}: no round was measured");
        }
    }
}

#[test]
fn a_thread_that_never_sleeps_is_not_taken_for_busy() {
    let world = World::start(|_| {});
    let here = world.here();
    let report = pass(&format!(
        "fanout --subscribers 5 --rate 100 --busy-poll {here}"
    ));
    let generator = &report.generator;
    assert!(generator.busiest_thread < 0.5, "{generator:?}");
    assert!(generator.busiest_thread > 0.0, "{generator:?}");
}

fn is_warned_of_topics(report: &Report) -> bool {
    let warning = "nothing is sent in 1 of 3 active topics: there are fewer --publishers";
    report.warnings.iter().any(|given| given == warning)
}

#[test]
fn topics_are_kept_apart_and_the_idle_ones_hear_nothing() {
    let world = World::start(|_| {});
    let line = "fanout --subscribers 24 --publishers 6 --topics 6 --active 0.5 --threads 3";
    let report = pass(&format!("{line} {}", world.here()));
    assert_eq!(report.configuration.active_topics, 3);
    // Each of the three has four subscribers and two publishers.
    let deliveries = &report.deliveries;
    assert_eq!(deliveries.received % 6, 0, "{}", deliveries.received);
    assert!(!is_warned_of_topics(&report));

    let line = "fanout --subscribers 24 --publishers 2 --topics 6 --active 0.5";
    let report = pass(&format!("{line} {}", world.here()));
    assert_eq!(report.configuration.active_topics, 2);
    assert!(is_warned_of_topics(&report), "{:?}", report.warnings);

    let line = "chat --subscribers 13 --topics 4 --threads 2 --text --size 22";
    pass(&format!("{line} {}", world.here()));
    let line = "reconnect --subscribers 12 --topics 3 --publishers 5 --threads 2 --every 40ms";
    pass(&format!("{line} {}", world.here()));
}

#[test]
fn the_counters_and_the_process_are_read() {
    let world = World::start(|_| {});
    let pid = std::process::id();
    let watched = format!("{} {} --server-pid {pid}", world.here(), world.metrics());
    for line in [
        "chat --subscribers 8",
        "churn --subscribers 5",
        "idle --subscribers 5",
    ] {
        let report = pass(&format!("{line} {watched}"));
        let counters = report.counters.expect("they were read");
        assert_eq!(counters.checks.len(), 3);
        assert!(counters.checks.iter().all(|check| check.agrees));
        assert!(counters.changes["websocket_connections_total"] >= 5.0);
        let server = report.server.expect("it was watched");
        assert!(server.rss_before_bytes > 1 << 20);
        assert!(server.rss_peak_bytes >= server.rss_before_bytes);
        assert!(!server.name.is_empty() && !server.command.is_empty());
        let sample = report.samples.last().expect("there are samples");
        assert!(sample.server_rss_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}

#[test]
fn a_relay_without_echo_passes() {
    let world = World::start(|config| config.relay.echo = false);
    for line in [
        "chat --subscribers 9 --threads 2",
        "fanout --subscribers 9 --publishers 2 --rate 3000",
        "burst --subscribers 9 --publishers 2 --burst 40 --every 30ms",
    ] {
        let report = pass(&format!("{line} {} {}", world.here(), world.metrics()));
        assert!(!report.deliveries.echo, "{line}");
    }
}

#[test]
fn readers_that_stall_are_told_or_lose_something() {
    // The smallest limit that the relay allows, so that it is soon exceeded.
    let lag: usize = 64 << 10;
    let line = "slow --subscribers 8 --slow-share 0.5 --stall 250ms --window 8 --size 16KiB --duration 800ms";
    let told = World::start(|config| {
        config.limits.max_message_bytes = lag;
        config.slow_consumer.max_lag_bytes = 16 * lag;
    });
    let report = pass(&format!("{line} {}", told.here()));
    assert!(report.connections.ended_by_server["1013"] > 0);
    assert!(report.deliveries.lost_to_closes > 0);
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("1013"))
    );

    let dropped = World::start(|config| {
        config.limits.max_message_bytes = lag;
        config.slow_consumer.max_lag_bytes = 16 * lag;
        config.slow_consumer.policy = SlowConsumerPolicy::Drop;
    });
    let report = load(&format!("{line} {}", dropped.here()));
    assert!(!report.passed, "what is dropped in silence is lost");
    assert!(report.deliveries.lost > 0);
}

#[test]
fn messages_larger_than_any_buffer_pass_a_relay_that_holds_publishers() {
    let certificate = Certificate::new();
    for (is_tls, echo) in [(false, true), (false, false), (true, true), (true, false)] {
        let world = World::start(|config| {
            config.limits.max_message_bytes = 20 << 20;
            config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
            config.slow_consumer.max_lag_bytes = 40 << 20;
            config.relay.echo = echo;
            if is_tls {
                certificate.put_into(config);
            }
        });
        let here = if is_tls {
            certificate.here(&world)
        } else {
            world.here()
        };
        let line = "fanout --subscribers 2 --size 17MiB --window 1 --patience 20s";
        let report = pass(&format!("{line} {here}"));
        assert_eq!(report.deliveries.echo, echo);
        assert_eq!(
            world.relay().total(Stat::DisconnectedLost),
            0,
            "all have said goodbye"
        );
    }
}

/// A certificate for localhost, its key and its authority.
struct Certificate {
    folder: TempDir,
}

impl Certificate {
    fn new() -> Certificate {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let cert = params
            .signed_by(&key, &issuer)
            .expect("a certificate")
            .pem();
        for (name, text) in [("ca", ca), ("cert", cert), ("key", key.serialize_pem())] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        Certificate { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets a relay speak TLS with it.
    fn put_into(&self, config: &mut Config) {
        config.server.tls.enabled = true;
        config.server.tls.cert_file = Some(self.path("cert"));
        config.server.tls.key_file = Some(self.path("key"));
    }

    /// The options that name a relay with this certificate.
    fn here(&self, world: &World) -> String {
        let (port, ca) = (world.relay().address().port(), self.path("ca"));
        format!("--url wss://localhost:{port}/topic --ca {}", ca.display())
    }
}

#[test]
fn every_scenario_passes_under_tls() {
    let certificate = Certificate::new();
    let world = World::start(|config| certificate.put_into(config));
    let here = certificate.here(&world);
    for line in [
        "fanout --subscribers 8 --size 128",
        "fanout --subscribers 4 --size 200KiB --window 4 --text",
        "chat --subscribers 8 --threads 2 --text",
        "churn --subscribers 4 --churn-rate 50",
        "slow --subscribers 4 --slow-share 0.5 --stall 50ms --rate 500",
        "burst --subscribers 8 --burst 50 --every 20ms",
        "reconnect --subscribers 6 --every 20ms",
        "idle --subscribers 8",
    ] {
        pass(&format!("{line} {here}"));
    }
    let port = world.relay().address().port();
    pass(&format!(
        "--subscribers 2 --url wss://localhost:{port}/topic --insecure"
    ));
    pass(&format!(
        "--subscribers 2 --url wss://127.0.0.1:{port}/topic --insecure"
    ));
    let distrusted = refused(&format!(
        "--url wss://127.0.0.1:{port}/topic --ca {}",
        certificate.path("ca").display()
    ));
    assert!(
        distrusted.to_string().contains("certificate"),
        "{distrusted}"
    );
}

#[test]
fn a_thread_with_little_to_do_sleeps() {
    let world = World::start(|_| {});
    for line in [
        "fanout --subscribers 2 --rate 100",
        "burst --subscribers 2 --burst 2 --every 100ms",
        "idle --subscribers 2",
    ] {
        let report = pass(&format!("{line} --duration 400ms {}", world.here()));
        let busy = report.generator.busiest_thread;
        assert!(busy < 0.4, "{line}: busy for {busy} of the time");
    }
}

#[test]
fn pings_are_answered() {
    let second = std::time::Duration::from_secs(1);
    let world = World::start(|config| {
        config.keepalive.ping_interval = second / 10;
        config.keepalive.pong_timeout = second / 3;
    });
    pass(&format!(
        "idle --subscribers 3 --duration 900ms {}",
        world.here()
    ));
}

#[test]
fn connections_come_from_the_addresses_that_were_named() {
    let world = World::start(|config| config.server.max_connections_per_ip = 6);
    let line = "fanout --subscribers 9";
    pass(&format!(
        "{line} --source-ips 127.0.0.2-127.0.0.3,127.0.0.7 {}",
        world.here()
    ));
    let one = load(&format!("{line} --source-ips 127.0.0.2 {}", world.here()));
    assert!(!one.passed, "one address may have six connections only");
    assert_eq!(one.connections.failed.values().sum::<u64>(), 4);
}
