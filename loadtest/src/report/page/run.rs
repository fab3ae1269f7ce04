//! The page of one run, from the verdict down to the samples.

use maud::{Markup, html};

use super::charts;
use super::parts::{self, Fact, facts, tile};
use super::returns;
use crate::report::chart::Series;
use crate::report::document::{Latency, Report, Sample, Server};
use crate::report::unit::{Unit, exact};
use crate::report::{Deflate, Posts};

/// A column of the table of latencies: its name and its value.
type Column = (&'static str, fn(&Latency) -> f64);

const COLUMNS: [Column; 8] = [
    ("min", |latency| latency.min as f64),
    ("mean", |latency| latency.mean),
    ("50%", |latency| latency.p50 as f64),
    ("90%", |latency| latency.p90 as f64),
    ("99%", |latency| latency.p99 as f64),
    ("99.9%", |latency| latency.p999 as f64),
    ("99.99%", |latency| latency.p9999 as f64),
    ("max", |latency| latency.max as f64),
];

pub(super) fn body(report: &Report) -> Markup {
    html! {
        (head(report))
        (tiles(report))
        (charts(report))
        @if report.latency.count + report.connections.handshake.count > 0 {
            h2 { "Latency" }
            (latencies(report))
        }
        div.columns {
            @if report.deliveries.expected > 0 || report.deliveries.published > 0 {
                section { h2 { "Deliveries" } (deliveries(report)) }
            }
            @if let Some(deflate) = &report.deflate {
                section { h2 { "Compression" } (deflate_facts(deflate)) }
            }
            @if let Some(posts) = &report.posts {
                section { h2 { "Posts" } (posts_facts(posts)) }
            }
            (returns::section(report))
            section { h2 { "Connections" } (connections(report)) }
            section { h2 { "Load" } (parts::configuration(&report.configuration)) }
            section { h2 { "Machine and generator" } (parts::machine(&report.machine, &generator(report))) }
        }
        (returns::clients(report))
        (counters(report))
        h2 { "Configurations" }
        h3 { "Generator" }
        (parts::command(&report.configuration.arguments))
        @if let Some(server) = &report.server { (server_section(server)) }
        (samples(report))
    }
}

fn head(report: &Report) -> Markup {
    let configuration = &report.configuration;
    let scenario = configuration.scenario.name();
    html! {
        header {
            h1 {
                (parts::badge(report.verdict()))
                (scenario) " against " (configuration.url)
            }
            p.sub {
                (Unit::Count.show(configuration.publishers as f64)) " publishing, "
                (Unit::Count.show(configuration.subscribers as f64)) " subscribed, "
                (parts::payload(configuration)) "; measured for "
                (Unit::Seconds.show(report.measured_seconds)) " from "
                (parts::date(report.started_unix_seconds))
            }
            (parts::notes("failed", "Failures", &report.failures))
            (parts::notes("absent", "Warnings", &report.warnings))
        }
    }
}

fn tiles(report: &Report) -> Markup {
    let deliveries = &report.deliveries;
    let per_second = |count: u64| format!("{}/s", Unit::Number.show(report.per_second(count)));
    let time = |of: fn(&Latency) -> u64| Unit::Nanoseconds.show_any(report.latency(of));
    let wrong = deliveries.duplicated
        + deliveries.out_of_order
        + deliveries.corrupt
        + deliveries.disagreeing
        + deliveries.misrouted;
    let server = report.server.as_ref();
    let bandwidth = report.per_second(deliveries.payload_bytes_while_measured);
    let has_load = deliveries.expected > 0 || deliveries.published > 0;
    html! {
        dl.tiles {
            @if has_load {
                (tile("Delivered", &per_second(deliveries.received_while_measured),
                    &format!("{}/s of payload", Unit::Bytes.show(bandwidth))))
                (tile("Published", &per_second(deliveries.published), ""))
            }
            @if report.latency.count > 0 {
                (tile("Median latency", &time(|latency| latency.p50), &format!("99%: {}", time(|latency| latency.p99))))
                (tile("Largest latency", &time(|latency| latency.max), &format!("99.9%: {}", time(|latency| latency.p999))))
            }
            @if has_load {
                (tile("Lost", &Unit::Count.show(deliveries.lost as f64),
                    &format!("of {} owed; {} to closes, {} wrong", Unit::Count.show(deliveries.expected as f64),
                        Unit::Count.show(deliveries.lost_to_closes as f64), Unit::Count.show(wrong as f64))))
            }
            @if let Some(server) = server {
                @if let Some(cost) = report.server_cpu_ns_per_delivery() {
                    (tile("Server CPU per delivery", &Unit::Nanoseconds.show(cost),
                        &format!("{} processors in use", Unit::Number.show_any(report.server_cpus()))))
                }
                (tile("Server memory", &Unit::Bytes.show(server.rss_peak_bytes as f64), &per_connection(server)))
            }
            (tile("Connections", &Unit::Count.show(report.connections.opened as f64), &ended(report)))
            @if let Some(messages) = report.messages_per_read() {
                (tile("Messages per read", &Unit::Number.show(messages), "whole messages that came at a time"))
            }
            (tile("Generator's busiest thread", &Unit::Share.show(report.generator.busiest_thread), limit(report)))
        }
    }
}

/// Whether the generator was the limit, in words.
fn limit(report: &Report) -> &'static str {
    let generator = &report.generator;
    if generator.saturated {
        "saturated: it may be the limit"
    } else if generator.is_starved() {
        "it waited for a processor, and may be the limit"
    } else {
        "not the limit"
    }
}

fn per_connection(server: &Server) -> String {
    let bytes = server.bytes_per_connection;
    bytes.map_or(String::new(), |bytes| {
        format!("{} per connection", Unit::Bytes.show(bytes))
    })
}

fn ended(report: &Report) -> String {
    let failed: u64 = report.connections.failed.values().sum();
    let ended: u64 = report.connections.ended_by_server.values().sum();
    format!("{failed} failed, {ended} ended by the server")
}

fn charts(report: &Report) -> Markup {
    let (latency, what) = if report.latency.count > 0 {
        (&report.latency, "deliveries")
    } else {
        // An idle run has no deliveries, but opening handshakes.
        (&report.connections.handshake, "opening handshakes")
    };
    let description = format!(
        "Percentile curve of {} {what} on an axis of nines. Median {}, 99% {}, largest {}.",
        Unit::Count.show(latency.count as f64),
        Unit::Nanoseconds.show(latency.p50 as f64),
        Unit::Nanoseconds.show(latency.p99 as f64),
        Unit::Nanoseconds.show(latency.max as f64),
    );
    let mut curves = vec![Series::line(what, charts::percentiles(latency))];
    if let Some(rounds) = &report.rounds {
        curves.push(Series::line("rounds", charts::percentiles(rounds)));
    }
    let (title, note) = if report.latency.count > 0 {
        (
            "Latency by percentile",
            "The share of deliveries that were at least so fast. With each nine more, a tenth of the rest is left.",
        )
    } else {
        (
            "Opening handshakes by percentile",
            "The share of handshakes that were at least so fast.",
        )
    };
    let distribution = charts::distribution(title, description, curves);
    let over_time = charts::over_time(report);
    html! {
        h2 { "Charts" }
        @if distribution.is_empty() && over_time.is_empty() { p.sub { "Nothing was measured." } }
        div.charts {
            @if !distribution.is_empty() {
                (parts::chart(&distribution, "chart-percentiles", note))
            }
            (returns::chart(report))
            @for (index, (chart, note)) in over_time.iter().enumerate() {
                (parts::chart(chart, &format!("chart-{index}"), note))
            }
        }
    }
}

fn latencies(report: &Report) -> Markup {
    let returns = report.returns.as_ref();
    let avalanche = returns.and_then(|returns| returns.avalanche.as_ref());
    let rows = [
        ("Deliveries", Some(&report.latency)),
        ("Rounds", report.rounds.as_ref()),
        ("Posts", report.posts.as_ref().map(|posts| &posts.latency)),
        ("Replays", report.returns.as_ref().map(|it| &it.replay)),
        ("Caught up", report.returns.as_ref().map(|it| &it.caught_up)),
        (
            "After the avalanche",
            avalanche.map(|avalanche| &avalanche.recovered),
        ),
        ("Opening handshakes", Some(&report.connections.handshake)),
    ];
    html! {
        (parts::scroll("Latency", &html! { table {
            thead { tr {
                th { "Of" } th.n { "count" }
                @for (name, _) in COLUMNS { th.n { (name) } }
            } }
            tbody {
                @for (name, latency) in rows {
                    @if let Some(latency) = latency.filter(|latency| latency.count > 0) {
                        tr {
                            th scope="row" { (name) }
                            td.n { (Unit::Count.show(latency.count as f64)) }
                            @for (_, value) in COLUMNS {
                                td.n { (Unit::Nanoseconds.show(value(latency))) }
                            }
                        }
                    }
                }
            }
        } }))
    }
}

fn deliveries(report: &Report) -> Markup {
    let deliveries = &report.deliveries;
    // With all digits, as on the screen and in the JSON: these numbers are compared.
    let count = |value: u64| Some(exact(value));
    facts(&[
        (
            "Senders get their own messages",
            Some(if deliveries.echo { "yes" } else { "no" }.to_owned()),
        ),
        ("Published while measured", count(deliveries.published)),
        ("Owed, warm-up included", count(deliveries.expected)),
        ("Received, warm-up included", count(deliveries.received)),
        ("Reach", Some(Unit::Share.show(deliveries.reach))),
        ("Lost", count(deliveries.lost)),
        (
            "Lost to closes by the server",
            count(deliveries.lost_to_closes),
        ),
        ("Owed and not waited for", count(deliveries.outstanding)),
        ("Duplicated", count(deliveries.duplicated)),
        ("Out of order", count(deliveries.out_of_order)),
        (
            "Subscribers that disagree about the order",
            count(deliveries.disagreeing),
        ),
        ("Lost, and said to be", count(deliveries.told)),
        ("Positions said wrongly", count(deliveries.misplaced)),
        ("Corrupt", count(deliveries.corrupt)),
        ("Misrouted", count(deliveries.misrouted)),
        ("Back to their sender", count(deliveries.echoed)),
        ("Not of this run", count(deliveries.foreign)),
        ("Sent late", count(deliveries.sent_late)),
        ("Due and never sent", count(deliveries.unsent)),
        ("Reads with whole messages", count(deliveries.reads)),
    ])
}

fn deflate_facts(deflate: &Deflate) -> Markup {
    let bytes = |value: f64| Unit::Bytes.show(value);
    let all = deflate.compressed + deflate.plain;
    facts(&[
        (
            "On the wire per delivery",
            deflate.wire_bytes_per_delivery.map(bytes),
        ),
        (
            "On the wire per byte of payload",
            deflate
                .wire_bytes_per_payload_byte
                .map(|value| Unit::Number.show(value)),
        ),
        (
            "Connections with the extension",
            Some(exact(deflate.agreed)),
        ),
        ("Connections without", Some(exact(deflate.declined))),
        (
            "Compressed messages to the former",
            Some(format!("{} of {}", exact(deflate.compressed), exact(all))),
        ),
        (
            "Inflating",
            Some("is a part of the generator's CPU".to_owned()),
        ),
    ])
}

fn posts_facts(posts: &Posts) -> Markup {
    let answers = posts.answers.iter();
    let answers = answers.map(|(status, count)| format!("{} × {status}", exact(*count)));
    facts(&[
        ("Answers", Some(answers.collect::<Vec<_>>().join(", "))),
        (
            "In flight on a connection",
            Some(exact(posts.pipeline as u64)),
        ),
        (
            "Refused for now, and sent again",
            Some(exact(posts.repeated)),
        ),
        ("Connections opened again", Some(exact(posts.reopened))),
        ("Accepted without a position", Some(exact(posts.unplaced))),
    ])
}

fn connections(report: &Report) -> Markup {
    let connections = &report.connections;
    let reasons = |counts: &std::collections::BTreeMap<String, u64>| {
        let each = counts
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}"));
        let text = each.collect::<Vec<_>>().join(", ");
        Some(if text.is_empty() {
            "none".to_owned()
        } else {
            text
        })
    };
    facts(&[
        (
            "Wanted at once",
            Some(Unit::Count.show(connections.wanted as f64)),
        ),
        ("Opened", Some(Unit::Count.show(connections.opened as f64))),
        ("Failed", reasons(&connections.failed)),
        ("Ended by the server", reasons(&connections.ended_by_server)),
    ])
}

fn generator(report: &Report) -> [Fact; 4] {
    let generator = &report.generator;
    [
        (
            "CPU of the generator",
            Some(Unit::Seconds.show(generator.cpu_seconds)),
        ),
        (
            "Its busiest thread",
            Some(Unit::Share.show(generator.busiest_thread)),
        ),
        (
            "Waited for a processor",
            Some(Unit::Share.show(generator.waited_for_cpu)),
        ),
        (
            "Saturated",
            Some(if generator.saturated { "yes" } else { "no" }.to_owned()),
        ),
    ]
}

fn counters(report: &Report) -> Markup {
    let Some(counters) = &report.counters else {
        return html! {};
    };
    html! {
        h2 { "The server's own counters" }
        @if !counters.checks.is_empty() { (parts::scroll("Counters", &html! { table {
            thead { tr { th { "Counter" } th.n { "server" } th.n { "generator" } th { "verdict" } } }
            tbody {
                @for check in &counters.checks {
                    tr {
                        th scope="row" { code { (check.name) } }
                        td.n { (check.server) } td.n { (check.generator) }
                        td.bad[!check.agrees] { @if check.agrees { "agrees" } @else { "differs" } }
                    }
                }
            }
        } })) }
        details {
            summary { "All counters that changed (" (counters.changes.len()) ")" }
            (parts::scroll("All counters", &html! { table { tbody {
                @for (name, change) in &counters.changes {
                    tr { th scope="row" { code { (name) } } td.n { (change) } }
                }
            } } }))
        }
    }
}

fn server_section(server: &Server) -> Markup {
    let bytes = |value: u64| Some(Unit::Bytes.show(value as f64));
    html! {
        h3 { "Server: " (server.name) }
        (parts::command(&server.command))
        (facts(&[
            ("CPU while measured", Some(Unit::Seconds.show(server.cpu_seconds))),
            ("of which user", Some(Unit::Seconds.show(server.cpu_user_seconds))),
            ("CPU per delivery", server.cpu_ns_per_delivery.map(|cost| Unit::Nanoseconds.show(cost))),
            ("Memory before the first connection", bytes(server.rss_before_bytes)),
            ("Memory at most", bytes(server.rss_peak_bytes)),
            ("Memory after the measurement", bytes(server.rss_after_bytes)),
            ("Memory when connections were closed", bytes(server.rss_closed_bytes)),
            ("Memory per connection", server.bytes_per_connection.map(|bytes| Unit::Bytes.show(bytes))),
        ]))
        @if let Some(text) = &server.configuration {
            p { "Its configuration:" }
            pre { code { (text) } }
        }
    }
}

/// A column of the table of samples: its name, and its value if a sample has one.
type SampleColumn = (&'static str, fn(&Sample) -> Option<String>);

const SAMPLE_COLUMNS: [SampleColumn; 11] = [
    ("published", |sample| some_count(sample.published)),
    ("received", |sample| some_count(sample.received)),
    ("median", |sample| some_time(sample.latency_p50)),
    ("99%", |sample| some_time(sample.latency_p99)),
    ("max", |sample| some_time(sample.latency_max)),
    ("lost so far", |sample| some_count(sample.lost)),
    ("sent late", |sample| some_count(sample.sent_late)),
    ("connections", |sample| {
        some_count(sample.connections as u64)
    }),
    ("generator CPUs", |sample| {
        Some(Unit::Number.show(sample.generator_cpus))
    }),
    ("server CPUs", |sample| {
        sample.server_cpus.map(|cpus| Unit::Number.show(cpus))
    }),
    ("server memory", |sample| {
        let bytes = sample.server_rss_bytes;
        bytes.map(|bytes| Unit::Bytes.show(bytes as f64))
    }),
];

/// A count; `None` for 0, so that a column in which nothing happened is left out.
fn some_count(count: u64) -> Option<String> {
    (count > 0).then(|| Unit::Count.show(count as f64))
}

fn some_time(nanoseconds: u64) -> Option<String> {
    (nanoseconds > 0).then(|| Unit::Nanoseconds.show(nanoseconds as f64))
}

fn samples(report: &Report) -> Markup {
    if report.samples.is_empty() {
        return html! {};
    }
    let has_value =
        |(_, of): &&SampleColumn| report.samples.iter().any(|sample| of(sample).is_some());
    let columns: Vec<&SampleColumn> = SAMPLE_COLUMNS.iter().filter(has_value).collect();
    html! {
        h2 { "Samples" }
        details {
            summary { "The numbers of the charts over time (" (report.samples.len()) " samples)" }
            (parts::scroll("Samples", &html! { table {
                thead { tr {
                    th.n { "at" }
                    @for (name, _) in &columns { th.n { (name) } }
                } }
                tbody {
                    @for sample in &report.samples {
                        tr {
                            th.n scope="row" { (Unit::Seconds.show(sample.at_seconds)) }
                            @for (_, of) in &columns { td.n { (of(sample).unwrap_or("–".to_owned())) } }
                        }
                    }
                }
            } }))
        }
    }
}
