//! A report as one screen of text.

use std::fmt::Write as _;

use crate::chart;
use crate::clock::whole;
use crate::options::Pace;
use crate::report::{Latency, Report};

/// The widest line of a sentence.
const WIDTH: usize = 110;

/// The most sentences shown of a kind; the JSON has all.
const SENTENCES: usize = 6;

/// One screen: what was done, what was found, and whether it was right.
pub fn summary(report: &Report) -> String {
    let mut screen = String::new();
    title(report, &mut screen);
    connections(report, &mut screen);
    deliveries(report, &mut screen);
    latencies(report, &mut screen);
    machines(report, &mut screen);
    judgement(report, &mut screen);
    screen
}

fn row(screen: &mut String, label: &str, text: &str) {
    let _ = writeln!(screen, "  {label:<12}{text}");
}

fn title(report: &Report, screen: &mut String) {
    let asked = &report.configuration;
    let kind = asked.opcode.name();
    let _ = writeln!(screen, "{} against {}", asked.scenario.name(), asked.url);
    let mut load = format!("{} subscribers", grouped(asked.subscribers as u64));
    if asked.publishers > 0 {
        let _ = write!(
            load,
            ", {} publishers, {} of {kind}",
            grouped(asked.publishers as u64),
            bytes(asked.payload_bytes as f64)
        );
    }
    match asked.pace {
        Some(Pace::Rate(rate)) => {
            let _ = write!(load, ", {} messages/s (open loop)", count(rate));
        }
        Some(Pace::Window(window)) => {
            let _ = write!(load, ", {window} in flight each (closed loop)");
        }
        None => {}
    }
    if asked.topics > 1 {
        let _ = write!(
            load,
            ", {} topics, {} active",
            asked.topics, asked.active_topics
        );
    }
    row(screen, "load", &load);
    let time = format!(
        "{:.1} s measured after {:.1} s of warm-up, {} generator thread{}{}",
        report.measured_seconds,
        asked.warmup_seconds,
        asked.threads,
        if asked.threads == 1 { "" } else { "s" },
        if asked.busy_poll {
            ", never asleep"
        } else {
            ""
        }
    );
    row(screen, "time", &time);
}

fn connections(report: &Report, screen: &mut String) {
    let connections = &report.connections;
    let mut text = format!(
        "{} opened, {} at once; handshake p50 {}, p99 {}, max {}",
        grouped(connections.opened),
        grouped(connections.wanted as u64),
        duration(connections.handshake.p50),
        duration(connections.handshake.p99),
        duration(connections.handshake.max)
    );
    for (counts, what) in [
        (&connections.failed, "failed"),
        (&connections.ended_by_server, "ended by the relay"),
    ] {
        let sum: u64 = counts.values().sum();
        if sum > 0 {
            let _ = write!(text, "; {} {what}", grouped(sum));
        }
    }
    row(screen, "connections", &text);
}

fn deliveries(report: &Report, screen: &mut String) {
    let found = &report.deliveries;
    if found.expected == 0 && found.received == 0 && found.published == 0 {
        return;
    }
    let rate = |value: u64| report.per_second(value);
    row(
        screen,
        "sent",
        &format!(
            "{} messages, {}/s; {} late",
            grouped(found.published),
            count(rate(found.published)),
            grouped(found.sent_late)
        ),
    );
    row(
        screen,
        "delivered",
        &format!(
            "{} while measured, {}/s, {}/s; {} per read",
            grouped(found.received_while_measured),
            count(rate(found.received_while_measured)),
            bytes(rate(found.payload_bytes_while_measured)),
            report
                .messages_per_read()
                .map_or_else(|| chart::NOTHING.to_owned(), |each| format!("{each:.1}"))
        ),
    );
    row(
        screen,
        "checked",
        &format!(
            "{} of {} owed: reach {:.4} %; {} lost, {} lost to closes, {} twice",
            grouped(found.received - found.duplicated),
            grouped(found.expected),
            100.0 * found.reach,
            grouped(found.lost),
            grouped(found.lost_to_closes),
            grouped(found.duplicated)
        ),
    );
    row(
        screen,
        "",
        &format!(
            "{} out of order, {} of another order, {} corrupt, {} misrouted; {}",
            grouped(found.out_of_order),
            grouped(found.disagreeing),
            grouped(found.corrupt),
            grouped(found.misrouted),
            if found.echo {
                "senders get their own"
            } else {
                "senders do not get their own"
            }
        ),
    );
}

fn latencies(report: &Report, screen: &mut String) {
    let line = |latency: &Latency| {
        format!(
            "p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
            duration(latency.p50),
            duration(latency.p90),
            duration(latency.p99),
            duration(latency.p999),
            duration(latency.p9999),
            duration(latency.max)
        )
    };
    if report.latency.count > 0 {
        row(screen, "latency", &line(&report.latency));
    }
    if let Some(rounds) = &report.rounds {
        let text = format!("{}: {}", grouped(rounds.count), line(rounds));
        row(screen, "rounds", &text);
    }
}

fn machines(report: &Report, screen: &mut String) {
    if let Some(server) = &report.server {
        let mut text = format!(
            "{}: {:.2} CPUs",
            server.name,
            report.server_cpus().unwrap_or(0.0)
        );
        if let Some(nanos) = report.server_cpu_ns_per_delivery() {
            let _ = write!(text, ", {} per delivery", duration(whole(nanos)));
        }
        let _ = write!(
            text,
            "; memory {} before, {} at most, {} after",
            bytes(server.rss_before_bytes as f64),
            bytes(server.rss_peak_bytes as f64),
            bytes(server.rss_closed_bytes as f64)
        );
        if let Some(each) = server.bytes_per_connection {
            let _ = write!(text, ", {} per connection", bytes(each));
        }
        row(screen, "server", &text);
    }
    let generator = &report.generator;
    let mut text = format!(
        "{:.2} CPUs, busiest thread {:.0} %, waiting for a CPU {:.0} %",
        report.generator_cpus(),
        100.0 * generator.busiest_thread,
        100.0 * generator.waited_for_cpu
    );
    if let Some(nanos) = report.generator_cpu_ns_per_delivery() {
        let _ = write!(text, ", {} per delivery", duration(whole(nanos)));
    }
    row(screen, "generator", &text);
    if let Some(counters) = &report.counters {
        let agreeing = counters.checks.iter().filter(|check| check.agrees).count();
        let text = format!(
            "{} changed; {agreeing} of {} that mean what is counted here agree",
            counters.changes.len(),
            counters.checks.len()
        );
        row(screen, "counters", &text);
    }
}

fn judgement(report: &Report, screen: &mut String) {
    for (label, sentences) in [("warning", &report.warnings), ("FAILURE", &report.failures)] {
        for sentence in sentences.iter().take(SENTENCES) {
            let sentence: String = shortened(sentence);
            row(screen, label, &sentence);
        }
        if sentences.len() > SENTENCES {
            row(
                screen,
                label,
                &format!("{} more", sentences.len() - SENTENCES),
            );
        }
    }
    let verdict = match (report.passed, report.deliveries.expected) {
        (false, _) => "FAILED",
        (true, 0) => "PASSED",
        (true, _) => "PASSED: every delivery was right",
    };
    let _ = writeln!(screen, "{verdict}");
}

/// A sentence that may be long, cut where two lines would end.
fn shortened(sentence: &str) -> String {
    if sentence.chars().count() <= 2 * WIDTH {
        return sentence.to_owned();
    }
    sentence.chars().take(2 * WIDTH).chain(['…']).collect()
}

/// Nanoseconds with the unit that suits them.
pub(crate) fn duration(nanos: u64) -> String {
    let value = nanos as f64;
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} µs", three(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", three(value / 1e6)),
        _ => format!("{} s", three(value / 1e9)),
    }
}

/// A number with a suffix that suits it.
pub(crate) fn count(value: f64) -> String {
    match value {
        value if value < 1e4 => format!("{value:.0}"),
        value if value < 1e6 => format!("{} k", three(value / 1e3)),
        value if value < 1e9 => format!("{} M", three(value / 1e6)),
        value => format!("{} G", three(value / 1e9)),
    }
}

/// Bytes with the unit that suits them; growth may be negative.
fn bytes(value: f64) -> String {
    const STEP: f64 = 1024.0;
    let (mut scaled, mut unit) = (value, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if scaled.abs() < STEP {
            break;
        }
        scaled /= STEP;
        unit = larger;
    }
    if unit == "B" {
        format!("{scaled:.0} B")
    } else {
        format!("{} {unit}", three(scaled))
    }
}

/// Three digits.
fn three(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A number with its thousands apart.
fn grouped(value: u64) -> String {
    chart::grouped(value as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_500), "1.50 µs");
        assert_eq!(duration(45_600_000), "45.6 ms");
        assert_eq!(duration(12_000_000_000), "12.0 s");
        assert_eq!(count(1_234_567.0), "1.23 M");
        assert_eq!(bytes(-2048.0), "-2.00 KiB");
        assert_eq!(bytes(128.0), "128 B");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }
}
