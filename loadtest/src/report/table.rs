//! The table of a comparison, for the screen and for the page: a row for each server, with the same figures.

use std::fmt::Write as _;

use crate::report;
use crate::report::document::{Compared, Comparison, Report, Spread, Summary};
use crate::report::merged::merged;
use crate::report::unit::{NOTHING, Unit};

/// The verdict on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All its runs passed.
    Passed,
    /// All its runs passed, and the generator was the limit in some.
    Limited,
    /// A run failed, or could not be made.
    Failed,
    /// It did not run.
    Absent,
}

/// The table. It has no column of figures that no server has.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    /// Names of the figures.
    pub(crate) columns: Vec<&'static str>,
    /// The rows, in the order of the servers.
    pub(crate) rows: Vec<Row<'a>>,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row<'a> {
    /// The server.
    pub(crate) server: &'a Compared,
    /// Its verdict.
    pub(crate) verdict: Verdict,
    /// Its figures, in the order of the columns: the median, and the range if there are several runs.
    pub(crate) cells: Vec<(String, Option<String>)>,
}

struct Column {
    name: &'static str,
    cell: fn(&Summary) -> (String, Option<String>),
}

const COLUMNS: [Column; 9] = [
    Column {
        name: "CPU per delivery",
        cell: |s| show(s.cpu_ns_per_delivery, Unit::Nanoseconds),
    },
    Column {
        name: "of floor",
        cell: |s| (times(s.cpu_of_floor), None),
    },
    Column {
        name: "CPUs",
        cell: |s| show(s.server_cpus, Unit::Number),
    },
    Column {
        name: "messages per read",
        cell: |s| show(s.messages_per_read, Unit::Number),
    },
    Column {
        name: "deliveries/s",
        cell: |s| show(s.deliveries_per_second, Unit::Number),
    },
    Column {
        name: "latency 50%",
        cell: |s| show(s.latency_p50, Unit::Nanoseconds),
    },
    Column {
        name: "99%",
        cell: |s| show(s.latency_p99, Unit::Nanoseconds),
    },
    Column {
        name: "memory",
        cell: |s| show(s.rss_peak_bytes, Unit::Bytes),
    },
    Column {
        name: "per connection",
        cell: |s| show(s.bytes_per_connection, Unit::Bytes),
    },
];

/// The table of a comparison.
pub(crate) fn table(comparison: &Comparison) -> Table<'_> {
    let mut rows = rows(comparison);
    let is_there = |column: usize| rows.iter().any(|row| row.cells[column].0 != NOTHING);
    let there: Vec<bool> = (0..COLUMNS.len()).map(is_there).collect();
    for row in &mut rows {
        let mut there = there.iter();
        row.cells.retain(|_| there.next() == Some(&true));
    }
    let named = COLUMNS.iter().zip(&there).filter(|(_, there)| **there);
    Table {
        columns: named.map(|(column, _)| column.name).collect(),
        rows,
    }
}

fn rows(comparison: &Comparison) -> Vec<Row<'_>> {
    let cells = |server: &Compared| match &server.summary {
        Some(summary) => COLUMNS
            .iter()
            .map(|column| (column.cell)(summary))
            .collect(),
        None => COLUMNS.iter().map(|_| (NOTHING.to_owned(), None)).collect(),
    };
    let row = |server| Row {
        server,
        verdict: verdict(server),
        cells: cells(server),
    };
    comparison.servers.iter().map(row).collect()
}

/// The verdict on a server.
pub(crate) fn verdict(server: &Compared) -> Verdict {
    let is = |verdict| move |run: &Report| run.verdict() == verdict;
    if server.absent.is_some() {
        return Verdict::Absent;
    }
    let has_failed = server.runs.iter().any(is(report::Verdict::Failed));
    if has_failed || !server.errors.is_empty() || server.runs.is_empty() {
        Verdict::Failed
    } else if server.runs.iter().any(is(report::Verdict::Limited)) {
        Verdict::Limited
    } else {
        Verdict::Passed
    }
}

/// The failures and errors of a server, each kind of sentence once.
pub(crate) fn complaints(server: &Compared) -> Vec<String> {
    let errors = server.errors.chunks(1);
    let failures = server.runs.iter().map(|run| run.failures.as_slice());
    merged(errors.chain(failures))
}

/// The warnings about a server's runs, each kind of sentence once.
pub(crate) fn warnings(server: &Compared) -> Vec<String> {
    merged(server.runs.iter().map(|run| run.warnings.as_slice()))
}

fn show(spread: Option<Spread>, unit: Unit) -> (String, Option<String>) {
    let Some(Spread { median, min, max }) = spread else {
        return (NOTHING.to_owned(), None);
    };
    let (least, most) = (unit.show(min), unit.show(max));
    // If both have the same unit, it is written once.
    let unit_of = |text: &str| text.split_once(' ').map(|(_, unit)| unit.to_owned());
    let shared = unit_of(&most).filter(|unit| unit_of(&least).as_ref() == Some(unit));
    let short = shared.map_or(least.as_str(), |unit| {
        least.trim_end_matches(&unit).trim_end()
    });
    (
        unit.show(median),
        (min < max).then(|| format!("{short}–{most}")),
    )
}

fn times(multiple: Option<f64>) -> String {
    multiple.map_or(NOTHING.to_owned(), |multiple| format!("{multiple:.2} ×"))
}

/// The table as text for a screen, with sentences about single servers under it.
pub(crate) fn text(comparison: &Comparison) -> String {
    let Table { columns, rows } = table(comparison);
    let mut lines: Vec<Vec<String>> = Vec::new();
    let head = ["server", "verdict"].into_iter().chain(columns);
    lines.push(head.map(str::to_owned).collect());
    for row in &rows {
        let verdict = match row.verdict {
            Verdict::Passed => "passed",
            Verdict::Limited => "generator at its limit",
            Verdict::Failed => "FAILED",
            Verdict::Absent => "absent",
        };
        let mut medians = vec![row.server.name.clone(), verdict.to_owned()];
        medians.extend(row.cells.iter().map(|(median, _)| median.clone()));
        lines.push(medians);
        if row.cells.iter().any(|(_, range)| range.is_some()) {
            let mut ranges = vec![String::new(); 2];
            ranges.extend(
                row.cells
                    .iter()
                    .map(|(_, range)| range.clone().unwrap_or_default()),
            );
            lines.push(ranges);
        }
    }
    let mut out = aligned(&lines);
    for sentence in sentences(&rows) {
        writeln!(out, "{sentence}").expect("a String takes everything");
    }
    out
}

/// The table in Markdown, without figures that no server has, with sentences about single servers under it.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let Table { columns, rows } = table(comparison);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut head = vec!["server".to_owned()];
    head.extend(columns.into_iter().map(str::to_owned));
    let rule = head.iter().map(|_| "---".to_owned()).collect();
    let mut out = line(head) + &line(rule);
    for row in &rows {
        let mut cells = vec![row.server.name.clone()];
        cells.extend(row.cells.iter().map(|cell| match cell {
            (median, Some(range)) => format!("{median} ({range})"),
            (median, None) => median.clone(),
        }));
        out.push_str(&line(cells));
    }
    let said = sentences(&rows);
    if !said.is_empty() {
        out.push('\n');
    }
    for sentence in said {
        writeln!(out, "- {sentence}").expect("a String takes everything");
    }
    out
}

/// Sentences about single servers: why one is absent, and its failures.
fn sentences(rows: &[Row<'_>]) -> Vec<String> {
    let of = |row: &Row<'_>| {
        let absent = row.server.absent.iter().cloned();
        let all = absent.chain(complaints(row.server));
        let named = all.map(|sentence| format!("{}: {sentence}", row.server.name));
        named.collect::<Vec<String>>()
    };
    rows.iter().flat_map(of).collect()
}

/// Aligns cells in columns: the first two to the left, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column < 2 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}
