//! The part of a run's page about clients that were cut and came back.

use maud::{Markup, html};

use super::charts;
use super::parts::{self, facts};
use crate::report::chart::Series;
use crate::report::document::Report;
use crate::report::returns::{ClientReturns, Returns};
use crate::report::unit::{Unit, exact};
use crate::scenario::protocol::Resume;

/// The most clients in the table; the JSON has more.
const ROWS: usize = 20;

/// The chart of the times until clients had caught up; nothing if none of them had missed anything.
pub(super) fn chart(report: &Report) -> Markup {
    let Some(returns) = &report.returns else {
        return html! {};
    };
    let avalanche = returns.avalanche.as_ref();
    let curves = [
        ("replay", Some(&returns.replay)),
        ("caught up", Some(&returns.caught_up)),
        ("after the avalanche", avalanche.map(|it| &it.recovered)),
    ];
    let curves = curves.into_iter().filter_map(|(name, latency)| {
        let latency = latency.filter(|latency| latency.count > 0)?;
        Some(Series::line(name, charts::percentiles(latency)))
    });
    let curves: Vec<Series> = curves.collect();
    let description = format!(
        "Percentile curves on an axis of nines. Replay: median {}, 99% {}, largest {}.",
        Unit::Nanoseconds.show(returns.replay.p50 as f64),
        Unit::Nanoseconds.show(returns.replay.p99 as f64),
        Unit::Nanoseconds.show(returns.replay.max as f64),
    );
    let chart = charts::distribution("Time to catch up by percentile", description, curves);
    let note = "Replay counts from the answer to the handshake, and the other from when the client began to connect.";
    html! {
        @if !chart.is_empty() { (parts::chart(&chart, "chart-returns", note)) }
    }
}

/// The facts about clients that came back.
pub(super) fn section(report: &Report) -> Markup {
    let Some(returns) = &report.returns else {
        return html! {};
    };
    html! {
        section { h2 { "Clients that came back" } (facts_of(returns)) }
    }
}

fn facts_of(returns: &Returns) -> Markup {
    let count = |value: u64| Some(exact(value));
    let if_any = |value: u64| (value > 0).then(|| exact(value));
    let is_resumed = returns.resume == Resume::Fanwire;
    let told = |value: u64| is_resumed.then(|| exact(value));
    let cuts = returns.cuts.iter();
    let cuts = cuts.map(|(style, count)| format!("{} {}", exact(*count), style.name()));
    let cuts = cuts.collect::<Vec<_>>().join(", ");
    let retried = returns.retried.iter();
    let retried = retried.map(|(reason, count)| format!("{count} × {reason}"));
    let retried = retried.collect::<Vec<_>>().join(", ");
    facts(&[
        ("Clients", count(returns.clients as u64)),
        ("Cut", Some(cuts).filter(|text| !text.is_empty())),
        ("Came back", count(returns.returned)),
        ("Had missed nothing", count(returns.up_to_date)),
        ("Messages missed until then", if_any(returns.behind)),
        ("Told that nothing is lost", told(returns.full)),
        ("Told how much is lost", told(returns.partial)),
        ("Told that the position is unknown", told(returns.unknown)),
        ("Said to be lost, and missing", told(returns.told)),
        (
            "Said to be lost, and not missing",
            told(returns.falsely_told),
        ),
        ("Own positions not known", told(returns.forgotten)),
        ("Missed, and not asked for", if_any(returns.missed)),
        (
            "Attempts that failed",
            Some(retried).filter(|text| !text.is_empty()),
        ),
        (
            "Clients in the avalanche",
            returns.avalanche.as_ref().map(|it| exact(it.clients)),
        ),
        (
            "Until the last had caught up",
            returns
                .avalanche
                .as_ref()
                .map(|it| Unit::Nanoseconds.show(it.recovered.max as f64)),
        ),
    ])
}

/// The clients that fared worst.
pub(super) fn clients(report: &Report) -> Markup {
    let returns = report.returns.as_ref();
    let Some(returns) = returns.filter(|returns| !returns.worst_clients.is_empty()) else {
        return html! {};
    };
    html! {
        details {
            summary { "The clients that fared worst" }
            (parts::scroll("Clients", &html! { table {
                thead { tr {
                    th.n { "client" }
                    @for (name, _) in COLUMNS { th.n { (name) } }
                    th.n { "slowest replay" }
                } }
                tbody {
                    @for client in returns.worst_clients.iter().take(ROWS) {
                        tr {
                            th.n scope="row" { (client.client) }
                            @for (_, value) in COLUMNS { td.n { (exact(value(client))) } }
                            td.n { (Unit::Nanoseconds.show(client.slowest_replay as f64)) }
                        }
                    }
                }
            } }))
        }
    }
}

/// A column of the table: its name and its value.
type Column = (&'static str, fn(&ClientReturns) -> u64);

const COLUMNS: [Column; 8] = [
    ("topic", |client| u64::from(client.topic)),
    ("came back", |client| client.returns),
    ("failed attempts", |client| client.failed_attempts),
    ("lost", |client| client.lost),
    ("repeated", |client| client.repeated),
    ("told", |client| client.told),
    ("told falsely", |client| client.falsely_told),
    ("missed", |client| client.missed),
];
