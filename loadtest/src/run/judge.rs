//! The verdict in sentences: failures, and warnings to read before trusting the figures.
//!
//! `conclude.rs` calls it with a report that is otherwise finished. A new check needs a sentence here.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::series::rise;
use crate::check::agreement::Orders;
use crate::client::worker::outcome::Outcome;
use crate::report::unit::{Unit, counted};
use crate::report::{Deliveries, Generator, Posts, Report, Returns, Sample};
use crate::scenario::options::Pace;
use crate::scenario::plan::Plan;
use crate::scenario::protocol::Resume;
use crate::scenario::scenarios::Scenario;

/// Beyond this share of messages that were sent late, the pace was not kept.
const TOO_LATE: f64 = 0.01;

/// A soak warns if the server's memory or the latency grows by more than these factors. Memory must also grow by
/// [`LEAST_GROWTH`] bytes.
const GROWTH: f64 = 1.1;
const GROWTH_OF_LATENCY: f64 = 1.5;
const LEAST_GROWTH: f64 = 4e6;

/// The failures, a sentence each.
pub(super) fn failures(report: &Report, findings: &Findings) -> Vec<String> {
    let mut failures = Vec::new();
    connection_failures(report, findings, &mut failures);
    if !findings.is_server_alive {
        failures.push("the server's process has ended".to_owned());
    }
    delivery_failures(&report.deliveries, findings, &mut failures);
    if let Some(posts) = &report.posts {
        post_failures(posts, &mut failures);
    }
    if let Some(returns) = &report.returns {
        return_failures(returns, &mut failures);
    }
    let checks = report.counters.iter().flat_map(|counters| &counters.checks);
    for check in checks.filter(|check| !check.agrees) {
        failures.push(format!(
            "the relay's {} grew by {}, but the generator counted {}",
            check.name, check.server, check.generator
        ));
    }
    failures
}

fn connection_failures(report: &Report, findings: &Findings, failures: &mut Vec<String>) {
    let connections = &report.connections;
    let failed: u64 = connections.failed.values().sum();
    if failed > 0 {
        failures.push(format!(
            "{} could not be opened: {}",
            counted(failed, "connection", "connections"),
            listed(&connections.failed)
        ));
    }
    let ends: u64 = findings.outcomes.iter().map(|o| o.unexpected_ends).sum();
    if ends > 0 {
        failures.push(format!(
            "the relay ended {} that should have stayed: {}",
            counted(ends, "connection", "connections"),
            listed(&connections.ended_by_server)
        ));
    }
}

fn delivery_failures(deliveries: &Deliveries, findings: &Findings, failures: &mut Vec<String>) {
    if findings.totals.published > 0 && deliveries.received == 0 {
        failures.push("messages were sent, and none was delivered".to_owned());
    }
    for (count, one, several) in [
        (
            deliveries.lost,
            "delivery was lost without a word from the relay",
            "deliveries were lost without a word from the relay",
        ),
        (
            deliveries.duplicated,
            "delivery came more than once",
            "deliveries came more than once",
        ),
        (
            deliveries.out_of_order,
            "delivery came after a later one of the same publisher",
            "deliveries came after a later one of the same publisher",
        ),
        (
            deliveries.disagreeing,
            "connection saw another order than the others in its topic",
            "connections saw another order than the others in their topic",
        ),
        (
            deliveries.corrupt,
            "delivery was not what was sent: payload, kind or frame",
            "deliveries were not what was sent: payload, kind or frame",
        ),
        (
            deliveries.misrouted,
            "delivery came to a topic that the message was not sent to",
            "deliveries came to a topic that the message was not sent to",
        ),
        (
            deliveries.misplaced,
            "position that the relay said was not the counted one",
            "positions that the relay said were not the counted ones",
        ),
        (
            deliveries.echoed,
            "message came back to its sender, and others did not",
            "messages came back to their sender, and others did not",
        ),
    ] {
        if count > 0 {
            failures.push(counted(count, one, several));
        }
    }
    if deliveries.outstanding > 0 && !findings.was_wait_stopped {
        failures.push(format!(
            "{} still missing a minute after the last message was sent, though others kept coming",
            counted(deliveries.outstanding, "delivery was", "deliveries were")
        ));
    }
    if deliveries.unsent > 0 && !findings.was_stopped {
        failures.push(format!(
            "{} due, and the relay never took {}",
            counted(deliveries.unsent, "message was", "messages were"),
            if deliveries.unsent == 1 { "it" } else { "them" }
        ));
    }
}

fn post_failures(posts: &Posts, failures: &mut Vec<String>) {
    let refused = posts.answers.iter();
    let refused: BTreeMap<String, u64> = refused
        .filter(|(status, _)| **status != 202)
        .map(|(status, count)| (status.to_string(), *count))
        .collect();
    let count = refused.values().sum::<u64>();
    // Those that were sent again are a warning.
    if count > posts.repeated {
        failures.push(format!(
            "{} refused for good: {}",
            counted(count - posts.repeated, "post was", "posts were"),
            listed(&refused)
        ));
    }
}

fn return_failures(returns: &Returns, failures: &mut Vec<String>) {
    for (count, one, several) in [
        (
            returns.falsely_told,
            "message was said to be lost, and was not missing",
            "messages were said to be lost, and were not missing",
        ),
        (
            returns.forgotten,
            "time, the relay did not know a position of its own epoch",
            "times, the relay did not know a position of its own epoch",
        ),
    ] {
        if count > 0 {
            failures.push(counted(count, one, several));
        }
    }
    if let Some(avalanche) = &returns.avalanche {
        let missing = avalanche.clients - avalanche.recovered.count;
        if missing > 0 && returns.resume != Resume::None {
            failures.push(format!(
                "{} did not catch up after the avalanche",
                counted(missing, "client", "clients")
            ));
        }
    }
}

/// The warnings, a sentence each.
pub(super) fn warnings(
    report: &Report,
    plan: &Plan,
    findings: &Findings,
    orders: Orders,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if findings.was_stopped {
        warnings.push(format!(
            "stopped early: {} were measured",
            Unit::Seconds.show(report.measured_seconds)
        ));
    }
    generator_warnings(&report.generator, &mut warnings);
    load_warnings(report, plan, findings, &mut warnings);
    delivery_warnings(report, findings, &mut warnings);
    order_warnings(report, plan, findings, orders, &mut warnings);
    if let Some(posts) = &report.posts {
        post_warnings(posts, &mut warnings);
    }
    if let Some(returns) = &report.returns {
        return_warnings(report, returns, &mut warnings);
    }
    if plan.scenario == Scenario::Soak {
        trend_warnings(&report.samples, &mut warnings);
    }
    warnings
}

fn generator_warnings(generator: &Generator, warnings: &mut Vec<String>) {
    if generator.saturated {
        warnings.push(format!(
            "generator saturated: one of its threads was busy for {} of the time and waited for a CPU for {}, so the \
             generator may be the limit; give it more --threads, or CPUs of its own",
            Unit::Share.show(generator.busiest_thread),
            Unit::Share.show(generator.waited_for_cpu)
        ));
    } else if generator.is_starved() {
        warnings.push(format!(
            "a thread of the generator waited for a CPU for {} of the time, so latencies are partly its own; give \
             server and generator CPUs of their own",
            Unit::Share.show(generator.waited_for_cpu)
        ));
    }
}

/// Warns of a load that was not as it was asked for.
fn load_warnings(report: &Report, plan: &Plan, findings: &Findings, warnings: &mut Vec<String>) {
    if let Some(Pace::Rate(rate)) = plan.pace {
        let sent = findings.totals.published.max(1);
        let late = report.deliveries.sent_late as f64 / sent as f64;
        if late > TOO_LATE {
            warnings.push(format!(
                "the generator did not keep up with {} messages a second: {} were sent more than 1 ms late",
                Unit::Count.show(rate),
                Unit::Share.show(late)
            ));
        }
    }
    let active_topics = report.configuration.active_topics;
    if active_topics < plan.active_topics && active_topics > 0 {
        warnings.push(format!(
            "nothing is sent in {} of {} active topics: there are fewer --publishers",
            plan.active_topics - active_topics,
            plan.active_topics
        ));
    }
    if plan.scenario == Scenario::Slow && report.connections.stalls == 0 {
        warnings.push("no subscriber stalled: the load was over before the first stall".to_owned());
    }
    if findings.forgiven > 0 {
        warnings.push(format!(
            "{} nothing came for 1 s, and publishers went on without waiting for what was in flight",
            counted(findings.forgiven, "time", "times")
        ));
    }
    let left_out = sum(findings, |outcome| outcome.arrivals_left_out);
    if left_out > 0 {
        warnings.push(format!(
            "{} did not come: too many others were still connecting",
            counted(left_out, "client", "clients")
        ));
    }
}

fn delivery_warnings(report: &Report, findings: &Findings, warnings: &mut Vec<String>) {
    let deliveries = &report.deliveries;
    let owed = |count| counted(count, "delivery was", "deliveries were");
    if deliveries.lost_to_closes > 0 {
        warnings.push(format!(
            "{} owed to connections that the relay closed: {}",
            owed(deliveries.lost_to_closes),
            listed(&report.connections.ended_by_server)
        ));
    }
    if deliveries.outstanding > 0 && findings.was_wait_stopped {
        warnings.push(format!(
            "{} still owed when the run was told to end",
            owed(deliveries.outstanding)
        ));
    }
    if deliveries.foreign > 0 {
        warnings.push(format!(
            "{} from elsewhere came before this run's own: greetings, or messages kept from earlier",
            counted(deliveries.foreign, "message", "messages")
        ));
    }
}

fn post_warnings(posts: &Posts, warnings: &mut Vec<String>) {
    if posts.repeated > 0 {
        warnings.push(format!(
            "{} refused for now, and sent again",
            counted(posts.repeated, "post was", "posts were")
        ));
    }
    if posts.reopened > 0 {
        warnings.push(format!(
            "{} between two posts, and had to be opened again",
            counted(posts.reopened, "connection ended", "connections ended")
        ));
    }
    if posts.unplaced > 0 {
        warnings.push(format!(
            "{} accepted without a position, so nothing could be compared with it",
            counted(posts.unplaced, "post was", "posts were")
        ));
    }
}

/// Warns of what clients met that came back.
fn return_warnings(report: &Report, returns: &Returns, warnings: &mut Vec<String>) {
    if returns.told > 0 {
        warnings.push(format!(
            "{} missing, and the relay said so: its history does not reach back far enough",
            counted(returns.told, "delivery was", "deliveries were")
        ));
    }
    if returns.missed > 0 {
        warnings.push(format!(
            "{} missed while clients were away: they asked for nothing when they came back",
            counted(returns.missed, "message was", "messages were")
        ));
    }
    let retries: u64 = returns.retried.values().sum();
    if retries > 0 {
        warnings.push(format!(
            "{} to come back failed and had to be repeated: {}",
            counted(retries, "attempt", "attempts"),
            listed(&returns.retried)
        ));
    }
    let ended = &report.connections.ended_by_server;
    if !ended.is_empty() && returns.resume != Resume::None {
        warnings.push(format!(
            "the relay ended connections whose clients then came back: {}",
            listed(ended)
        ));
    }
    if returns.returned == 0 {
        warnings.push("nobody was cut: the load was over before the first cut".to_owned());
    }
}

/// Warns of orders that could not be compared.
fn order_warnings(
    report: &Report,
    plan: &Plan,
    findings: &Findings,
    orders: Orders,
    warnings: &mut Vec<String>,
) {
    let has_several = |all: &Vec<u32>| all.len() > 1;
    if !report.deliveries.echo && plan.publishers_by_topic.iter().any(has_several) {
        warnings.push(
            "the relay does not send clients their own messages: the orders that publishers saw were not compared"
                .to_owned(),
        );
    }
    let uncompared = orders.uncompared + sum(findings, |outcome| outcome.forgotten_lives);
    if uncompared > 0 {
        warnings.push(format!(
            "the orders that {} saw were not compared: the record of the topic does not reach so far",
            counted(uncompared, "connection", "connections")
        ));
    }
}

/// Warns of memory and latency that rise all the time: they may rise for ever.
fn trend_warnings(samples: &[Sample], warnings: &mut Vec<String>) {
    let measured = || samples.iter().filter(|sample| sample.at_seconds > 0.0);
    let memory: Vec<f64> = measured()
        .filter_map(|sample| Some(sample.server_rss_bytes? as f64))
        .collect();
    if let Some(factor) = rise(&memory) {
        let growth = memory.last().unwrap_or(&0.0) - memory.first().unwrap_or(&0.0);
        if factor > GROWTH && growth > LEAST_GROWTH {
            warnings.push(format!(
                "the server's memory rose all the time, by {}",
                Unit::Share.show(factor - 1.0)
            ));
        }
    }
    let latencies: Vec<f64> = measured()
        .filter(|sample| sample.received > 0)
        .map(|sample| sample.latency_p99 as f64)
        .collect();
    if let Some(factor) = rise(&latencies).filter(|factor| *factor > GROWTH_OF_LATENCY) {
        warnings.push(format!(
            "latency rose all the time: its 99th percentile by {}",
            Unit::Share.show(factor - 1.0)
        ));
    }
}

/// A count over all threads.
fn sum(findings: &Findings, of: fn(&Outcome) -> u64) -> u64 {
    findings.outcomes.iter().map(of).sum()
}

/// Reasons in a sentence: `1013 (4), eof (1)`.
pub(super) fn listed(reasons: &BTreeMap<String, u64>) -> String {
    let parts = reasons
        .iter()
        .map(|(reason, count)| format!("{reason} ({count})"));
    parts.collect::<Vec<_>>().join(", ")
}
