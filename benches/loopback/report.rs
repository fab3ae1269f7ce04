//! The printed report: one table in Markdown, and the machine. `docs/measuring.md` shows it.

use std::fmt;
use std::io::{self, Write};

use crate::load::Latency;

/// One row: the subject beside its reference, with one value of each for each repeat.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) reference: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) subject_values: Vec<f64>,
    pub(crate) reference_values: Vec<f64>,
    /// The limit on the ratio or on the subject's value.
    pub(crate) target: Target,
    /// Write calls for each delivery, of the subject and of the reference.
    pub(crate) writes_per_delivery: Option<(f64, f64)>,
}

/// The limit that a row is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The most that the ratio to the reference may be.
    Ratio(f64),
    /// The most that the subject's own value may be.
    Value(f64),
    /// There is no limit.
    None,
}

/// The median of some values, and their extremes.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Spread {
            median,
            least: values[0],
            most: values[values.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread {
            median,
            least,
            most,
        } = *self;
        f.write_str(&figure(median))?;
        if least < most {
            write!(f, " ({}–{})", figure(least), figure(most))?;
        }
        Ok(())
    }
}

/// A value as it is printed. Only latencies can be infinite.
fn figure(value: f64) -> String {
    if value.is_infinite() {
        return format!("> {}", Latency::REACH_MS);
    }
    let digits = if value < 100.0 { 3 } else { 0 };
    format!("{value:.digits$}")
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = Spread::of(self.subject_values.iter().copied());
        let reference = Spread::of(self.reference_values.iter().copied());
        // The ratio within each repeat: a disturbance that lasts longer than a moment disturbs both servers.
        let pairs = self.subject_values.iter().zip(&self.reference_values);
        let ratios = pairs.map(|(subject, reference)| subject / reference);
        let is_known = ratios.clone().all(f64::is_finite);
        let ratio = Spread::of(ratios);
        let target = match self.target {
            Target::Ratio(most) => verdict(ratio.median, most),
            Target::Value(most) => verdict(subject.median, most),
            Target::None => "–".into(),
        };
        let writes = self
            .writes_per_delivery
            .map_or("–".into(), |(subject, reference)| {
                format!("{subject:.4} / {reference:.4}")
            });
        let ratio = if is_known {
            ratio.to_string()
        } else {
            "–".into()
        };
        let Row {
            scenario,
            reference: name,
            unit,
            ..
        } = self;
        write!(
            f,
            "| {scenario} | {unit} | {subject} | {reference} ({name}) | {ratio} | {target} | {writes} |"
        )
    }
}

fn verdict(value: f64, most: f64) -> String {
    let met = if value <= most { "met" } else { "**missed**" };
    format!("≤ {most}: {met}")
}

/// Prints the head of the table.
pub(crate) fn print_head(repeats: usize) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "\nMachine: {}", machine())?;
    writeln!(
        out,
        "Medians of {repeats} interleaved repeats (extremes in brackets); CPU is the server's, user and system.\n"
    )?;
    writeln!(
        out,
        "| scenario | measure | fanwire | reference | ratio | target | writes per delivery |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")
}

/// Prints a row as soon as it is known.
pub(crate) fn print_row(row: &Row) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{row}")?;
    out.flush()
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cpus = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cpus} CPUs, Linux {}", kernel.trim())
}
