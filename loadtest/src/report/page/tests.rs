//! Pages of invented reports: their contents, and that no text from outside becomes markup.

#![allow(clippy::cast_sign_loss, reason = "made-up figures are positive")]

use std::collections::BTreeMap;

use super::*;
use crate::report::document::{
    Check, Compared, Configuration, Connections, Counters, Deliveries, Generator, Latency, Machine,
    Point, Report, SCHEMA_VERSION, Sample, Server,
};
use crate::report::summary;
use crate::report::{Avalanche, ClientReturns, CutStyle, Returns};
use crate::scenario::options::{Opcode, Pace};
use crate::scenario::payload::Payload;
use crate::scenario::protocol::Resume;
use crate::scenario::scenarios::Scenario;

/// Markup in place of an address, a command line, a configuration, a counter or a reason.
const EVIL: &str = "<script>alert('&\"')</script>";

/// An invented run with everything that a report can have, `factor` times as slow.
fn made_up(factor: f64) -> Report {
    let samples: Vec<Sample> = (-10..100).map(|index| sample(index, factor)).collect();
    let latency = latency(factor);
    Report {
        schema_version: SCHEMA_VERSION,
        passed: true,
        failures: vec![],
        warnings: vec!["The generator's clock ticks slowly.".to_owned()],
        started_unix_seconds: 1_700_000_000,
        measured_seconds: 10.0,
        configuration: Configuration {
            version: "0.1.0".to_owned(),
            scenario: Scenario::Fanout,
            url: "ws://127.0.0.1:8443/load".to_owned(),
            subscribers: 1000,
            sse_subscribers: 0,
            publishers: 1,
            topics: 1,
            active_topics: 1,
            payload_bytes: 128,
            opcode: Opcode::Binary,
            payload: Payload::Fixed,
            deflate: false,
            pace: Some(Pace::Window(64)),
            warmup_seconds: 1.0,
            threads: 1,
            busy_poll: false,
            arguments: vec![
                "fanout".to_owned(),
                "--size".to_owned(),
                "16 KiB".to_owned(),
            ],
        },
        machine: Machine {
            processor: "A processor".to_owned(),
            cpus: 2,
            kernel: "Linux 6.18".to_owned(),
        },
        server: Some(server(factor)),
        connections: Connections {
            wanted: 1001,
            opened: 1001,
            stalls: 0,
            failed: BTreeMap::new(),
            ended_by_server: BTreeMap::from([("1013".to_owned(), 2)]),
            handshake: latency.clone(),
        },
        deliveries: Deliveries {
            echo: true,
            published: 60_000,
            expected: 66_000_000,
            received: 66_000_000,
            received_while_measured: 60_000_000,
            payload_bytes_while_measured: 60_000_000 * 128,
            wire_bytes_while_measured: 60_000_000 * 130,
            reach: 1.0,
            reads: 2_000_000,
            ..Deliveries::default()
        },
        latency,
        rounds: None,
        returns: None,
        posts: None,
        deflate: None,
        samples,
        generator: Generator {
            cpu_seconds: 9.2,
            busiest_thread: 0.93,
            waited_for_cpu: 0.01,
            saturated: false,
        },
        counters: Some(Counters {
            changes: BTreeMap::from([("messages_total".to_owned(), 60_000.0)]),
            checks: vec![Check {
                name: "delivered".to_owned(),
                server: 1.0,
                generator: 1.0,
                agrees: true,
            }],
        }),
    }
}

fn sample(index: i32, factor: f64) -> Sample {
    let at = f64::from(index) / 10.0;
    let wave = 1.0 + 0.3 * (at * 2.0).sin();
    let nanoseconds = |base: f64| (base * factor * wave) as u64;
    Sample {
        at_seconds: at,
        span_seconds: 0.1,
        published: nanoseconds(600.0 / factor),
        received: nanoseconds(600_000.0 / factor),
        lost: u64::from(index > 60) * 3,
        sent_late: 0,
        connections: 1001,
        latency_p50: nanoseconds(4e6),
        latency_p99: nanoseconds(9e6),
        latency_max: nanoseconds(if index % 20 == 7 { 6e7 } else { 1.1e7 }),
        generator_cpus: 0.9 * wave.min(1.05),
        server_cpus: Some(0.97),
        server_rss_bytes: Some((12 << 20) + u64::from(index.unsigned_abs()) * 10_000),
    }
}

fn latency(factor: f64) -> Latency {
    let value =
        |quantile: f64| (factor * 1e6 * (2.0 - 1.4 * (1.0 - quantile).max(1e-8).log10())) as u64;
    let mut curve: Vec<Point> = Vec::new();
    for step in 1..180 {
        let quantile = 1.0 - 2_f64.powf(-f64::from(step) / 7.0);
        curve.push(Point {
            quantile,
            value: value(quantile),
            count: 1,
        });
    }
    curve.push(Point {
        quantile: 1.0,
        value: value(1.0),
        count: 1,
    });
    Latency {
        count: 60_000_000,
        min: value(0.0),
        mean: factor * 2.6e6,
        p50: value(0.5),
        p90: value(0.9),
        p99: value(0.99),
        p999: value(0.999),
        p9999: value(0.9999),
        max: value(1.0),
        curve,
    }
}

fn server(factor: f64) -> Server {
    Server {
        name: "fanwire".to_owned(),
        command: vec![
            "fanwire".to_owned(),
            "--config-file".to_owned(),
            "relay.yaml".to_owned(),
        ],
        configuration: Some("server:\n  port: 0\n".to_owned()),
        cpu_seconds: 9.7,
        cpu_user_seconds: 0.4,
        cpu_ns_per_delivery: Some(150.0 * factor),
        rss_before_bytes: 5 << 20,
        rss_peak_bytes: 14 << 20,
        rss_after_bytes: 13 << 20,
        rss_closed_bytes: 8 << 20,
        bytes_per_connection: Some(432.0 * factor),
    }
}

#[test]
fn clients_that_came_back_have_a_chart_a_table_and_rows() {
    let mut report = made_up(1.0);
    assert!(!of_run(&report).contains("came back"));
    report.returns = Some(Returns {
        resume: Resume::Fanwire,
        clients: 999,
        cuts: BTreeMap::from([(CutStyle::Rst, 7_001)]),
        returned: 7_001,
        full: 7_000,
        partial: 1,
        told: 83,
        replay: latency(0.5),
        caught_up: latency(0.7),
        avalanche: Some(Avalanche {
            clients: 999,
            recovered: latency(3.0),
        }),
        worst_clients: vec![ClientReturns {
            client: 412,
            repeated: 5,
            ..ClientReturns::default()
        }],
        ..Returns::default()
    });
    let page = of_run(&report);
    for part in [
        "Clients that came back",
        "Time to catch up by percentile",
        "after the avalanche",
        "7,001 reset",
        "Until the last had caught up",
        ">412<",
        "Said to be lost, and missing",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

/// An invented comparison.
fn made_up_comparison() -> Comparison {
    let server = |name: &str, factors: &[f64]| Compared {
        name: name.to_owned(),
        about: format!("{name}, made up"),
        absent: None,
        errors: vec![],
        summary: None,
        runs: factors.iter().map(|factor| made_up(*factor)).collect(),
    };
    let mut servers = vec![
        server("floor", &[1.0, 0.9, 1.2]),
        server("fanwire", &[1.05, 1.2, 1.1]),
        server("tokio-tungstenite", &[1.8, 2.2, 1.9]),
        server("node-ws", &[80.0, 77.0, 91.0]),
        server("nginx", &[]),
    ];
    servers[4].absent =
        Some("not installed: nginx is missing; loadtest/peers/install nginx".to_owned());
    servers[3].runs[0].passed = false;
    servers[3].runs[0]
        .failures
        .push("12 deliveries were lost.".to_owned());
    let mut comparison = Comparison {
        schema_version: SCHEMA_VERSION,
        passed: true,
        repeats: 3,
        server_cpus: vec![0],
        generator_cpus: vec![1],
        floor: Some("floor".to_owned()),
        servers,
    };
    summary::summarise(&mut comparison);
    comparison
}

fn evil() -> Report {
    let mut report = made_up(1.0);
    let evil = || EVIL.to_owned();
    report.passed = false;
    report.failures.push(evil());
    report.warnings.push(evil());
    report.configuration.url = evil();
    report.configuration.arguments.push(evil());
    report.connections.failed.insert(evil(), 1);
    report.machine.processor = evil();
    let server = report.server.as_mut().unwrap();
    server.name = evil();
    server.command.push(evil());
    server.configuration = Some(evil());
    let counters = report.counters.as_mut().unwrap();
    counters.checks[0].name = evil();
    counters.changes.insert(evil(), 1.0);
    report
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let report = evil();
    let mut compared = made_up_comparison();
    compared.servers[0].name = EVIL.to_owned();
    compared.servers[1].about = EVIL.to_owned();
    compared.servers[2].errors.push(EVIL.to_owned());
    compared.servers[3].runs = vec![report.clone()];
    compared.servers[4].absent = Some(EVIL.to_owned());
    compared.floor = Some(EVIL.to_owned());
    for page in [super::of_run(&report), super::of_comparison(&compared)] {
        assert!(page.contains("&lt;script&gt;alert"), "it is shown");
        assert_eq!(page.matches("<script").count(), 1, "ours alone");
        assert_eq!(page.matches("</script").count(), 1, "ours alone");
    }
}

#[test]
fn a_page_names_nothing_to_load_and_forbids_it() {
    for page in [
        super::of_run(&made_up(1.0)),
        super::of_comparison(&made_up_comparison()),
    ] {
        assert!(page.contains("default-src 'none'; script-src 'sha256-"));
        for loading in [
            " src=", " href=", "url(", "@import", "<link", "<img", "fetch(", "<iframe", " style=",
        ] {
            assert!(!page.contains(loading), "{loading}");
        }
    }
}

#[test]
fn a_page_has_the_verdict_the_charts_and_both_configurations() {
    let page = super::of_run(&made_up(1.0));
    assert!(page.contains(">Passed<"));
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 6);
    assert!(
        page.contains("fanout --size '16 KiB'"),
        "the generator's command"
    );
    assert!(
        page.contains("fanwire --config-file relay.yaml"),
        "the server's command"
    );
    assert!(
        page.contains("server:\n  port: 0\n"),
        "the server's configuration"
    );
    assert!(page.contains("2 × 1013"));
    assert!(super::of_run(&evil()).contains(">Failed<"));
}

#[test]
fn a_generator_at_its_limit_is_not_under_a_green_verdict() {
    for (saturated, waited_for_cpu) in [(true, 0.0), (false, 0.3)] {
        let mut report = made_up(1.0);
        report.generator.saturated = saturated;
        report.generator.waited_for_cpu = waited_for_cpu;
        let page = super::of_run(&report);
        assert!(!page.contains("badge passed"), "{saturated}");
        assert!(
            page.contains("<span class=\"badge absent\">Passed, but the generator was the limit<")
        );
        assert!(!page.contains("not the limit"));
        let screen = crate::report::screen::summary(&report);
        assert!(
            screen.contains("\nPASSED, BUT THE GENERATOR WAS THE LIMIT"),
            "{screen}"
        );
        report.passed = false;
        assert!(super::of_run(&report).contains(">Failed<"));

        let mut comparison = made_up_comparison();
        for server in &mut comparison.servers {
            server.runs.iter_mut().for_each(|run| run.passed = true);
        }
        comparison.servers[1].runs[2].generator.saturated = true;
        summary::summarise(&mut comparison);
        let page = super::of_comparison(&comparison);
        assert!(page.contains(">generator at its limit<"));
        assert!(page.contains(">Passed, but the generator was the limit<"));
    }
}

#[test]
fn warnings_of_several_runs_that_differ_in_numbers_are_shown_once() {
    let mut comparison = made_up_comparison();
    for (index, run) in comparison.servers[0].runs.iter_mut().enumerate() {
        run.warnings = vec![format!("busy for 9{index}.5% of the time")];
    }
    let page = super::of_comparison(&comparison);
    assert_eq!(page.matches("of the time").count(), 1);
    assert!(page.contains("busy for 90.5% of the time (similar in 3 runs)"));
}

#[test]
fn a_page_has_no_column_and_no_chart_without_values() {
    let mut report = made_up(1.0);
    report.server = None;
    for sample in &mut report.samples {
        sample.server_cpus = None;
        sample.server_rss_bytes = None;
        sample.lost = 0;
    }
    let page = super::of_run(&report);
    for absent in [
        "server CPUs",
        "server memory",
        "sent late",
        "lost so far",
        "Server memory",
        "Lost and late",
    ] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 4);
    assert!(page.contains("CPU of the generator over time"));

    let mut comparison = made_up_comparison();
    for server in &mut comparison.servers {
        for run in &mut server.runs {
            run.server = None;
        }
    }
    summary::summarise(&mut comparison);
    let page = super::of_comparison(&comparison);
    for absent in [
        "CPU per delivery",
        ">memory<",
        "per connection",
        "Server memory",
    ] {
        assert!(
            !page.contains(&format!("<th class=\"n\">{absent}")),
            "{absent}"
        );
    }
    assert!(page.contains("deliveries/s"));
}

#[test]
fn a_stall_of_the_generator_is_a_gap_in_its_lines() {
    let lines = |report: &Report| {
        let chart = &charts::over_time(report)[0].0;
        let svg = chart.svg("it").into_string();
        svg.matches('M').count()
    };
    let mut report = made_up(1.0);
    let without = lines(&report);
    report.samples.drain(40..50);
    report.samples[40].span_seconds = 1.1;
    assert_eq!(lines(&report), without + 3, "median, 99% and maximum");
}

#[test]
fn figures_are_rounded_alike_on_the_page_and_on_the_screen() {
    let mut report = made_up(1.0);
    report.generator.busiest_thread = 0.923_456;
    report.generator.waited_for_cpu = 0.012_345;
    report.deliveries.reach = 0.999_987_654;
    report.server.as_mut().unwrap().cpu_seconds = 9.712_345;
    let (page, screen) = (
        super::of_run(&report),
        crate::report::screen::summary(&report),
    );
    for shown in ["92.3%", "1.23%", "99.9987%", "0.971 ", "66,000,000"] {
        assert!(page.contains(shown), "{shown} on the page");
        assert!(screen.contains(shown), "{shown} on the screen: {screen}");
    }
}

#[test]
fn a_run_without_anything_has_a_page_too() {
    let mut report = made_up(1.0);
    report.server = None;
    report.counters = None;
    report.samples.clear();
    report.latency = Latency::default();
    report.connections.handshake = Latency::default();
    report.deliveries = Deliveries::default();
    let page = super::of_run(&report);
    assert!(page.contains("Nothing was measured."));
    assert!(!page.contains("NaN"));
}

#[test]
fn the_page_of_a_comparison_shows_every_server_the_failed_and_the_absent_too() {
    let page = super::of_comparison(&made_up_comparison());
    assert!(page.contains("12 deliveries were lost."));
    assert!(page.contains("not installed: nginx is missing"));
    assert!(page.contains(">Failed<"));
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 7);
}
