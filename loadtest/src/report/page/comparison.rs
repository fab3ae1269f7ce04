//! The page of a comparison: the table, a chart for each figure, the percentile curves, and a section for each server.

use maud::{Markup, html};

use super::{charts, parts};
use crate::report;
use crate::report::chart::{Axis, Rank, Ranks, Scale, Series};
use crate::report::document::{Compared, Comparison, Report};
use crate::report::table::{self, Table, Verdict};
use crate::report::unit::Unit;

/// A figure of a run that has a chart of its own.
struct Figure {
    title: &'static str,
    note: &'static str,
    unit: Unit,
    of: fn(&Report) -> Option<f64>,
}

const FIGURES: [Figure; 6] = [
    Figure {
        title: "Server CPU per delivery",
        note: "Less is better.",
        unit: Unit::Nanoseconds,
        of: Report::server_cpu_ns_per_delivery,
    },
    Figure {
        title: "Deliveries a second",
        note: "In an open loop, all servers that keep up deliver the same.",
        unit: Unit::Number,
        of: Report::deliveries_per_second,
    },
    Figure {
        title: "Median latency",
        note: "Less is better.",
        unit: Unit::Nanoseconds,
        of: |run| run.latency(|latency| latency.p50),
    },
    Figure {
        title: "99th percentile of latency",
        note: "Less is better.",
        unit: Unit::Nanoseconds,
        of: |run| run.latency(|latency| latency.p99),
    },
    Figure {
        title: "Messages per read",
        note: "Messages that come at once, because the server joins them or the reader is busy. More is less work for both.",
        unit: Unit::Number,
        of: Report::messages_per_read,
    },
    Figure {
        title: "Server memory, at most",
        note: "Resident memory of the server's process. Less is better.",
        unit: Unit::Bytes,
        of: Report::server_peak_bytes,
    },
];

pub(super) fn body(comparison: &Comparison) -> Markup {
    let first = comparison
        .servers
        .iter()
        .find_map(|server| server.runs.first());
    html! {
        (head(comparison, first))
        h2 { "Figures" }
        (figures_table(comparison))
        h2 { "Charts" }
        div.charts {
            @for (index, figure) in FIGURES.iter().enumerate() {
                @let ranks = ranks(comparison, figure);
                @if !ranks.is_empty() { (parts::ranks(&ranks, &format!("ranks-{index}"), figure.note)) }
            }
            (percentiles(comparison))
        }
        @if let Some(run) = first {
            div.columns {
                section { h2 { "Load" } (parts::configuration(&run.configuration)) }
                section { h2 { "Machine" } (parts::machine(&run.machine, &processors(comparison))) }
            }
        }
        h2 { "Servers" }
        @for server in &comparison.servers { (server_section(server)) }
    }
}

fn head(comparison: &Comparison, first: Option<&Report>) -> Markup {
    let ran = comparison
        .servers
        .iter()
        .filter(|server| !server.runs.is_empty())
        .count();
    let absent = comparison
        .servers
        .iter()
        .filter(|server| server.absent.is_some())
        .count();
    html! {
        header {
            h1 {
                (parts::badge(overall(comparison)))
                (ran) " servers under the same load"
                @if absent > 0 { ", " (absent) " not there" }
            }
            @if let Some(run) = first {
                p.sub {
                    (run.configuration.scenario.name()) ": "
                    (Unit::Count.show(run.configuration.publishers as f64)) " publishing, "
                    (Unit::Count.show(run.configuration.subscribers as f64)) " subscribed, "
                    (parts::payload(&run.configuration)) "; "
                    (comparison.repeats) @if comparison.repeats == 1 { " run" } @else { " runs" } " each, " (Unit::Seconds.show(run.measured_seconds)) " long, in turns; from "
                    (parts::date(run.started_unix_seconds))
                }
            }
        }
    }
}

fn figures_table(comparison: &Comparison) -> Markup {
    let Table { columns, rows } = table::table(comparison);
    html! {
        (parts::scroll("Figures", &html! { table.servers {
            thead { tr {
                th { "Server" } th { "Verdict" }
                @for name in columns { th.n { (name) } }
            } }
            tbody {
                @for row in rows {
                    tr {
                        th scope="row" { (row.server.name) }
                        td { (badge(row.verdict)) }
                        @for (median, range) in &row.cells {
                            td.n { (median) @if let Some(range) = range { span.range { (range) } } }
                        }
                    }
                }
            }
        } }))
        p.sub {
            "Medians; under them the smallest and the largest of the runs. "
            @if let Some(floor) = &comparison.floor {
                "“Of floor” is the CPU per delivery as a multiple of that of " (floor)
                ", which is not a relay but the least that a server can do."
            }
        }
    }
}

/// The verdict on all servers together.
fn overall(comparison: &Comparison) -> report::Verdict {
    let is_limited = |server: &Compared| table::verdict(server) == Verdict::Limited;
    match comparison.passed {
        false => report::Verdict::Failed,
        true if comparison.servers.iter().any(is_limited) => report::Verdict::Limited,
        true => report::Verdict::Passed,
    }
}

fn badge(verdict: Verdict) -> Markup {
    match verdict {
        Verdict::Passed => html! { span.badge.passed { "passed" } },
        Verdict::Limited => html! { span.badge.absent { "generator at its limit" } },
        Verdict::Failed => html! { span.badge.failed { "failed" } },
        Verdict::Absent => html! { span.badge.absent { "not there" } },
    }
}

fn ranks(comparison: &Comparison, figure: &Figure) -> Ranks {
    let there = comparison
        .servers
        .iter()
        .filter(|server| !server.runs.is_empty());
    let rows: Vec<Rank> = there
        .map(|server| Rank {
            name: server.name.clone(),
            values: server.runs.iter().filter_map(figure.of).collect(),
            is_marked: Some(&server.name) == comparison.floor.as_ref(),
        })
        .collect();
    Ranks {
        title: figure.title.to_owned(),
        description: format!(
            "{} of each server: the median as a dot, the runs as a line.",
            figure.title
        ),
        axis: Axis::new("logarithmic", figure.unit, Scale::Log),
        rows,
    }
}

/// One curve for each server, of its run with the middle median latency.
fn percentiles(comparison: &Comparison) -> Markup {
    let curve = |server: &Compared| {
        let mut runs: Vec<&Report> = server
            .runs
            .iter()
            .filter(|run| run.latency.count > 0)
            .collect();
        runs.sort_by_key(|run| run.latency.p50);
        let run = runs.get(runs.len() / 2)?;
        Some(Series::line(
            &server.name,
            charts::percentiles(&run.latency),
        ))
    };
    let curves: Vec<Series> = comparison.servers.iter().filter_map(curve).collect();
    let description =
        "Percentile curves of the servers' latencies, on an axis of nines.".to_owned();
    let chart = charts::distribution("Latency by percentile", description, curves);
    parts::chart(
        &chart,
        "chart-percentiles",
        "Of the run in the middle by its median latency.",
    )
}

fn processors(comparison: &Comparison) -> [parts::Fact; 2] {
    let list = |cpus: &[usize]| {
        let all: Vec<String> = cpus.iter().map(usize::to_string).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    [
        ("Servers pinned to", list(&comparison.server_cpus)),
        ("Generator pinned to", list(&comparison.generator_cpus)),
    ]
}

fn server_section(server: &Compared) -> Markup {
    let process = server.runs.iter().find_map(|run| run.server.as_ref());
    html! {
        section.server {
            h3 { (badge(table::verdict(server))) (server.name) }
            p.sub { (server.about) }
            (parts::notes("absent", "Why it is absent", server.absent.as_slice()))
            (parts::notes("failed", "Failures", &table::complaints(server)))
            (parts::notes("absent", "Warnings", &table::warnings(server)))
            @if let Some(process) = process {
                details {
                    summary { "Command and configuration" }
                    (parts::command(&process.command))
                    @if let Some(text) = &process.configuration { pre { code { (text) } } }
                }
            }
        }
    }
}
