//! A report as one screen of text.

use std::fmt::Write as _;

use super::Verdict;
use super::document::{Latency, Report};
use super::unit::{Unit, counted, exact};
use crate::scenario::options::Pace;
use crate::scenario::payload::Payload;
use crate::scenario::protocol::Resume;

/// The widest line of a sentence.
const WIDTH: usize = 110;

/// The most sentences shown of a kind; the JSON has all.
const SENTENCES: usize = 6;

/// The screen: the load, the figures, the verdict.
pub(crate) fn summary(report: &Report) -> String {
    let mut screen = String::new();
    title(report, &mut screen);
    connections(report, &mut screen);
    deliveries(report, &mut screen);
    compression(report, &mut screen);
    latencies(report, &mut screen);
    returns(report, &mut screen);
    machines(report, &mut screen);
    judgement(report, &mut screen);
    screen
}

fn time(nanos: u64) -> String {
    Unit::Nanoseconds.show(nanos as f64)
}

fn row(screen: &mut String, label: &str, text: &str) {
    let _ = writeln!(screen, "  {label:<12}{text}");
}

fn title(report: &Report, screen: &mut String) {
    let asked = &report.configuration;
    let kind = asked.opcode.name();
    let _ = writeln!(screen, "{} against {}", asked.scenario.name(), asked.url);
    let mut load = counted(asked.subscribers as u64, "subscriber", "subscribers");
    if asked.sse_subscribers > 0 {
        let _ = write!(load, " ({} by events)", exact(asked.sse_subscribers as u64));
    }
    if asked.publishers > 0 {
        let _ = write!(
            load,
            ", {}{}, {} of {kind}{}",
            counted(asked.publishers as u64, "publisher", "publishers"),
            if report.posts.is_some() {
                " by POST"
            } else {
                ""
            },
            Unit::Bytes.show(asked.payload_bytes as f64),
            match asked.payload {
                Payload::Fixed => String::new(),
                other => format!(" ({})", other.name()),
            }
        );
    }
    match asked.pace {
        Some(Pace::Rate(rate)) => {
            let _ = write!(load, ", {} messages/s (open loop)", Unit::Number.show(rate));
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
        "{} measured after {} of warm-up, {}{}",
        Unit::Seconds.show(report.measured_seconds),
        Unit::Seconds.show(asked.warmup_seconds),
        counted(
            asked.threads as u64,
            "generator thread",
            "generator threads"
        ),
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
        exact(connections.opened),
        exact(connections.wanted as u64),
        time(connections.handshake.p50),
        time(connections.handshake.p99),
        time(connections.handshake.max)
    );
    for (counts, what) in [
        (&connections.failed, "failed"),
        (&connections.ended_by_server, "ended by the relay"),
    ] {
        let sum: u64 = counts.values().sum();
        if sum > 0 {
            let _ = write!(text, "; {} {what}", exact(sum));
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
            "{}, {}/s; {} late",
            counted(found.published, "message", "messages"),
            Unit::Number.show(rate(found.published)),
            exact(found.sent_late)
        ),
    );
    row(
        screen,
        "delivered",
        &format!(
            "{} while measured, {}/s, {}/s; {} per read",
            exact(found.received_while_measured),
            Unit::Number.show(rate(found.received_while_measured)),
            Unit::Bytes.show(rate(found.payload_bytes_while_measured)),
            Unit::Number.show_any(report.messages_per_read())
        ),
    );
    row(
        screen,
        "checked",
        &format!(
            "{} of {} owed: reach {}; {} lost, {} lost to closes, {} twice",
            exact(found.received - found.duplicated),
            exact(found.expected),
            Unit::Share.show(found.reach),
            exact(found.lost),
            exact(found.lost_to_closes),
            exact(found.duplicated)
        ),
    );
    row(
        screen,
        "",
        &format!(
            "{} out of order, {} of another order, {} corrupt, {} misrouted; {}",
            exact(found.out_of_order),
            exact(found.disagreeing),
            exact(found.corrupt),
            exact(found.misrouted),
            if found.echo {
                "senders get their own"
            } else {
                "senders do not get their own"
            }
        ),
    );
}

/// The bytes on the wire, if compression was offered.
fn compression(report: &Report, screen: &mut String) {
    let Some(deflate) = &report.deflate else {
        return;
    };
    let mut text = String::new();
    if let (Some(each), Some(share)) = (
        deflate.wire_bytes_per_delivery,
        deflate.wire_bytes_per_payload_byte,
    ) {
        let _ = write!(
            text,
            "{} per delivery, {} per byte of payload; ",
            Unit::Bytes.show(each),
            Unit::Number.show(share)
        );
    }
    let all = deflate.compressed + deflate.plain;
    let _ = write!(
        text,
        "{} with the extension, {} without",
        counted(deflate.agreed, "connection", "connections"),
        exact(deflate.declined)
    );
    row(screen, "on the wire", &text);
    if all > 0 {
        let share = deflate.compressed as f64 / all as f64;
        let text = format!(
            "{} of {} came compressed to them; the generator's CPU includes inflating",
            Unit::Share.show(share),
            counted(all, "message", "messages")
        );
        row(screen, "", &text);
    }
}

fn percentiles(latency: &Latency) -> String {
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
        time(latency.p50),
        time(latency.p90),
        time(latency.p99),
        time(latency.p999),
        time(latency.p9999),
        time(latency.max)
    )
}

fn latencies(report: &Report, screen: &mut String) {
    if report.latency.count > 0 {
        row(screen, "latency", &percentiles(&report.latency));
    }
    if let Some(posts) = &report.posts {
        let answers = posts.answers.iter();
        let answers = answers.map(|(status, count)| format!("{} × {status}", exact(*count)));
        let answers = answers.collect::<Vec<_>>().join(", ");
        row(
            screen,
            "posts",
            &format!("{answers}; {} in flight", posts.pipeline),
        );
        if posts.latency.count > 0 {
            row(screen, "", &percentiles(&posts.latency));
        }
    }
    if let Some(rounds) = &report.rounds {
        let text = format!("{}: {}", exact(rounds.count), percentiles(rounds));
        row(screen, "rounds", &text);
    }
}

/// Clients that were cut and came back.
fn returns(report: &Report, screen: &mut String) {
    let Some(returns) = &report.returns else {
        return;
    };
    let cuts: u64 = returns.cuts.values().sum();
    let styles = returns.cuts.iter();
    let styles = styles.map(|(style, count)| format!("{} {}", exact(*count), style.name()));
    let styles = styles.collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{} came back {} with {} missed until then",
        counted(returns.clients as u64, "client", "clients"),
        counted(returns.returned, "time", "times"),
        counted(returns.behind, "message", "messages"),
    );
    if cuts > 0 {
        let _ = write!(text, "; cut: {styles}");
    }
    row(screen, "returns", &text);
    let text = match returns.resume {
        Resume::Fanwire => format!(
            "told of no loss {}, of some {}, of an unknown position {}; {} said to be lost and missing, {} not missing",
            exact(returns.full),
            exact(returns.partial),
            exact(returns.unknown),
            exact(returns.told),
            exact(returns.falsely_told),
        ),
        // Its relay says nothing of losses.
        Resume::Nchan => "each asked for what followed its last message".to_owned(),
        Resume::None => format!(
            "{} missed while away",
            counted(returns.missed, "message", "messages")
        ),
    };
    row(screen, "", &text);
    for (what, latency) in [
        ("replay", &returns.replay),
        ("caught up", &returns.caught_up),
    ] {
        if latency.count > 0 {
            row(screen, what, &percentiles(latency));
        }
    }
    if let Some(avalanche) = &returns.avalanche {
        let recovered = &avalanche.recovered;
        let text = format!(
            "{} of {} recovered: p50 {}, p99 {}, the last after {}",
            exact(recovered.count),
            counted(avalanche.clients, "client", "clients"),
            time(recovered.p50),
            time(recovered.p99),
            time(recovered.max)
        );
        row(screen, "avalanche", &text);
    }
}

fn machines(report: &Report, screen: &mut String) {
    if let Some(server) = &report.server {
        let mut text = format!(
            "{}: {} CPUs",
            server.name,
            Unit::Number.show_any(report.server_cpus())
        );
        if let Some(nanos) = report.server_cpu_ns_per_delivery() {
            let _ = write!(text, ", {} per delivery", Unit::Nanoseconds.show(nanos));
        }
        let _ = write!(
            text,
            "; memory {} before, {} at most, {} after",
            Unit::Bytes.show(server.rss_before_bytes as f64),
            Unit::Bytes.show(server.rss_peak_bytes as f64),
            Unit::Bytes.show(server.rss_closed_bytes as f64)
        );
        if let Some(each) = server.bytes_per_connection {
            let _ = write!(text, ", {} per connection", Unit::Bytes.show(each));
        }
        row(screen, "server", &text);
    }
    let generator = &report.generator;
    let mut text = format!(
        "{} CPUs, busiest thread {}, waiting for a CPU {}",
        Unit::Number.show(report.generator_cpus()),
        Unit::Share.show(generator.busiest_thread),
        Unit::Share.show(generator.waited_for_cpu)
    );
    if let Some(nanos) = report.generator_cpu_ns_per_delivery() {
        let _ = write!(text, ", {} per delivery", Unit::Nanoseconds.show(nanos));
    }
    row(screen, "generator", &text);
    if let Some(counters) = &report.counters {
        let agreeing = counters.checks.iter().filter(|check| check.agrees).count();
        let text = format!(
            "{} changed; {agreeing} of {} that can be compared agree",
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
    let verdict = match (report.verdict(), report.deliveries.expected) {
        (Verdict::Failed, _) => "FAILED",
        (Verdict::Limited, _) => {
            "PASSED, BUT THE GENERATOR WAS THE LIMIT: do not trust the figures"
        }
        (Verdict::Passed, 0) => "PASSED",
        (Verdict::Passed, _) => "PASSED: every delivery was right",
    };
    let _ = writeln!(screen, "{verdict}");
}

/// Cuts a sentence where two lines would end.
fn shortened(sentence: &str) -> String {
    if sentence.chars().count() <= 2 * WIDTH {
        return sentence.to_owned();
    }
    sentence.chars().take(2 * WIDTH).chain(['…']).collect()
}
