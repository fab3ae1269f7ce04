//! What was found, judged: orders compared, figures put into the report, and sentences about what is wrong.

use std::collections::{BTreeMap, HashMap};
use std::thread::available_parallelism;

use crate::books::Life;
use crate::latency;
use crate::options::{Options, Pace, Scenario};
use crate::order::{Fingerprint, Likeness, Record};
use crate::plan::Plan;
use crate::procfs;
use crate::report::{
    Configuration, Connections, Counters, Deliveries, Generator, Latency, Machine, Report,
    SCHEMA_VERSION, Sample, Server,
};
use crate::scrape::Counted;
use crate::secrets;
use crate::series::rise;
use crate::shared::Totals;
use crate::worker::Outcome;

/// A thread that was busy, or ready and without a CPU, for more than this share of the time may have been what limited.
const SATURATED: f64 = 0.95;

/// A thread that waited for a CPU for more than this share of the time tells little about the server.
const STARVED: f64 = 0.2;

/// A share of messages sent late beyond which the pace was not kept.
const TOO_LATE: f64 = 0.01;

/// Growth of a soak's memory and of its latency that is worth a warning, and the least growth of memory, in bytes.
const GROWTH: f64 = 1.1;
const GROWTH_OF_LATENCY: f64 = 1.5;
const LEAST_GROWTH: f64 = 4e6;

/// All that a run has brought.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) started_unix_seconds: u64,
    pub(crate) measured_seconds: f64,
    pub(crate) totals: Totals,
    pub(crate) latency: Latency,
    pub(crate) rounds: Option<Latency>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) opened: u64,
    pub(crate) outcomes: Vec<Outcome>,
    /// How often messages in flight were given up.
    pub(crate) forgiven: u64,
    pub(crate) was_stopped: bool,
    /// Whether the wait for what is owed was ended as well.
    pub(crate) was_wait_stopped: bool,
    pub(crate) is_server_alive: bool,
    pub(crate) server: Option<Server>,
    pub(crate) counters: Option<Counters>,
}

impl Findings {
    /// What is compared with the relay's counters.
    pub(crate) fn counted(&self) -> Counted {
        let all_stayed = self.opened == self.stayed();
        Counted {
            published: self.totals.published,
            received: self.totals.counts.received,
            opened: self.opened,
            is_complete: all_stayed && self.outcomes.iter().all(|outcome| outcome.ended.is_empty()),
        }
    }

    /// Connections that were there until the end.
    fn stayed(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.stayed).sum()
    }
}

/// How the orders compare that connections have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    disagreeing: u64,
    /// Those that could not be compared, because the record does not reach so far.
    uncompared: u64,
}

/// Judges, and writes the report.
pub(crate) fn report(options: &Options, plan: &Plan, mut findings: Findings) -> Report {
    let orders = compare_orders(plan, &mut findings.outcomes);
    let connections = connections(plan, &findings);
    let deliveries = deliveries(plan, &findings, orders);
    let generator = generator(&findings);
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        passed: false,
        failures: Vec::new(),
        warnings: Vec::new(),
        started_unix_seconds: findings.started_unix_seconds,
        measured_seconds: findings.measured_seconds,
        configuration: configuration(options, plan),
        machine: Machine {
            processor: procfs::processor(),
            cpus: available_parallelism().map_or(1, usize::from),
            kernel: procfs::kernel(),
        },
        server: findings.server.take(),
        connections,
        deliveries,
        latency: std::mem::take(&mut findings.latency),
        rounds: findings.rounds.take(),
        samples: std::mem::take(&mut findings.samples),
        generator,
        counters: findings.counters.take(),
    };
    report.failures = failures(&report, &findings);
    report.warnings = warnings(&report, plan, &findings, orders);
    report.passed = report.failures.is_empty();
    report
}

/// Compares the orders of all who could be compared: those who were there all the time with each other, the rest with the
/// record of their topic.
fn compare_orders(plan: &Plan, outcomes: &mut [Outcome]) -> Orders {
    let mut by_topic: Vec<Vec<Life>> = vec![Vec::new(); plan.topics];
    let mut records: Vec<Option<Record>> = (0..plan.topics).map(|_| None).collect();
    for outcome in outcomes {
        for life in outcome.lives.drain(..) {
            by_topic[life.topic as usize].push(life);
        }
        for (topic, record) in outcome.records.drain(..).enumerate() {
            records[topic] = records[topic].take().or(record);
        }
    }
    let mut orders = Orders::default();
    for (lives, record) in by_topic.into_iter().zip(records) {
        let common = compare_whole(&lives, &mut orders);
        compare_parts(&lives, record, common, &mut orders);
    }
    orders
}

/// Returns the order that most have seen.
fn compare_whole(lives: &[Life], orders: &mut Orders) -> Option<Fingerprint> {
    let mut votes: HashMap<Fingerprint, u64> = HashMap::new();
    for life in lives.iter().filter(|life| life.is_whole) {
        *votes.entry(life.fingerprint).or_default() += 1;
    }
    let (common, most) = votes.iter().max_by_key(|(_, votes)| **votes)?;
    orders.disagreeing += votes.values().sum::<u64>() - most;
    Some(*common)
}

fn compare_parts(
    lives: &[Life],
    record: Option<Record>,
    common: Option<Fingerprint>,
    orders: &mut Orders,
) {
    let parts = || lives.iter().filter(|life| !life.is_whole);
    if parts().next().is_none() {
        return;
    }
    let reference = record.map(Record::index);
    // One that has seen another order than most others is no measure.
    let reference = reference.filter(|reference| {
        common.is_some_and(|common| reference.compare(&common) != Likeness::Different)
    });
    for life in parts() {
        let likeness = match &reference {
            Some(reference) => reference.compare(&life.fingerprint),
            None => Likeness::Unknown,
        };
        match likeness {
            Likeness::Same => {}
            Likeness::Different => orders.disagreeing += 1,
            Likeness::Unknown => orders.uncompared += 1,
        }
    }
}

fn configuration(options: &Options, plan: &Plan) -> Configuration {
    let publishers = plan.places.len();
    Configuration {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: plan.scenario,
        url: secrets::hide_in(&options.url),
        subscribers: options.subscribers,
        publishers,
        topics: plan.topics,
        active_topics: plan.topics_with_publishers(),
        payload_bytes: plan.format.size(),
        opcode: plan.format.opcode(),
        pace: plan.pace,
        warmup_seconds: options.warmup.as_secs_f64(),
        threads: plan.threads,
        busy_poll: plan.busy_poll,
        arguments: secrets::hide(std::env::args().skip(1).collect()),
    }
}

fn connections(plan: &Plan, findings: &Findings) -> Connections {
    let mut handshakes = latency::new();
    for outcome in &findings.outcomes {
        latency::merge(&mut handshakes, &outcome.handshakes);
    }
    Connections {
        wanted: plan.connections(),
        opened: findings.opened,
        failed: reasons(findings.outcomes.iter().map(|outcome| &outcome.failed)),
        ended_by_server: reasons(findings.outcomes.iter().map(|outcome| &outcome.ended)),
        stalls: findings.outcomes.iter().map(|outcome| outcome.stalls).sum(),
        handshake: latency::summarise(&handshakes),
    }
}

fn deliveries(plan: &Plan, findings: &Findings, orders: Orders) -> Deliveries {
    let totals = &findings.totals;
    let counts = &totals.counts;
    let expected = counts.expected();
    let arrived = counts.received - counts.duplicated;
    Deliveries {
        echo: plan.echo,
        published: totals.published_while_measured,
        expected,
        received: counts.received,
        received_while_measured: totals.received_while_measured,
        payload_bytes_while_measured: totals.received_while_measured * plan.format.size() as u64,
        reach: if expected == 0 {
            1.0
        } else {
            arrived as f64 / expected as f64
        },
        lost: counts.lost,
        lost_to_closes: counts.lost_to_closes,
        outstanding: counts.outstanding,
        duplicated: counts.duplicated,
        out_of_order: counts.out_of_order,
        disagreeing: orders.disagreeing,
        corrupt: counts.corrupt,
        misrouted: counts.misrouted,
        echoed: counts.echoed,
        foreign: counts.foreign,
        sent_late: totals.sent_late,
        unsent: totals.taken_back
            + findings
                .outcomes
                .iter()
                .map(|outcome| outcome.unsent)
                .sum::<u64>(),
        reads: totals.reads,
    }
}

fn generator(findings: &Findings) -> Generator {
    let measured = findings.measured_seconds.max(1e-9);
    let share = |nanos: u64| crate::clock::seconds(nanos) / measured;
    let outcomes = &findings.outcomes;
    let busiest = outcomes.iter().map(|outcome| share(outcome.cpu));
    let waited = outcomes.iter().map(|outcome| share(outcome.waited));
    // Whoever is ready all the time is saturated, whether it is given a CPU or not.
    let readiest = outcomes
        .iter()
        .map(|outcome| share(outcome.cpu + outcome.waited));
    let busiest_thread = busiest.fold(0.0, f64::max);
    Generator {
        cpu_seconds: outcomes
            .iter()
            .map(|outcome| crate::clock::seconds(outcome.cpu))
            .sum(),
        busiest_thread,
        waited_for_cpu: waited.fold(0.0, f64::max),
        saturated: readiest.fold(0.0, f64::max) > SATURATED,
    }
}

/// What is wrong, a sentence each.
fn failures(report: &Report, findings: &Findings) -> Vec<String> {
    let mut failures = Vec::new();
    let (connections, deliveries) = (&report.connections, &report.deliveries);
    let failed: u64 = connections.failed.values().sum();
    if failed > 0 {
        let reasons = listed(&connections.failed);
        failures.push(format!(
            "{failed} connections could not be opened: {reasons}"
        ));
    }
    let ends: u64 = findings.outcomes.iter().map(|o| o.unexpected_ends).sum();
    if ends > 0 {
        let reasons = listed(&connections.ended_by_server);
        failures.push(format!(
            "the relay ended {ends} connections that should have stayed: {reasons}"
        ));
    }
    if !findings.is_server_alive {
        failures.push("the server's process has ended".to_owned());
    }
    if findings.totals.published > 0 && deliveries.received == 0 {
        failures.push("nothing that was sent was delivered to anybody".to_owned());
    }
    for (count, what) in [
        (deliveries.lost, "deliveries were lost, and nobody was told"),
        (
            deliveries.duplicated,
            "messages came more than once to somebody",
        ),
        (
            deliveries.out_of_order,
            "messages came after a later one of the same publisher",
        ),
        (
            deliveries.disagreeing,
            "connections saw another order than the others in their topic",
        ),
        (
            deliveries.corrupt,
            "messages were not what was sent: payload, kind or frame",
        ),
        (
            deliveries.misrouted,
            "messages came to a topic that they were not sent to",
        ),
        (
            deliveries.echoed,
            "messages came back to their sender, and others did not",
        ),
    ] {
        if count > 0 {
            failures.push(format!("{count} {what}"));
        }
    }
    if deliveries.outstanding > 0 && !findings.was_wait_stopped {
        failures.push(format!(
            "{} deliveries had not come a minute after the last message was sent, though others did",
            deliveries.outstanding
        ));
    }
    if deliveries.unsent > 0 && !findings.was_stopped {
        failures.push(format!(
            "{} messages were due, and the relay never took them",
            deliveries.unsent
        ));
    }
    let checks = report.counters.iter().flat_map(|counters| &counters.checks);
    for check in checks.filter(|check| !check.agrees) {
        failures.push(format!(
            "the relay's {} grew by {}, and {} were counted here",
            check.name, check.server, check.generator
        ));
    }
    failures
}

/// What a reader should know, a sentence each.
fn warnings(report: &Report, plan: &Plan, findings: &Findings, orders: Orders) -> Vec<String> {
    let mut warnings = Vec::new();
    let deliveries = &report.deliveries;
    let sum = |of: fn(&Outcome) -> u64| findings.outcomes.iter().map(of).sum::<u64>();
    if findings.was_stopped {
        warnings.push(format!(
            "stopped early: {:.1} s were measured",
            report.measured_seconds
        ));
    }
    generator_warnings(&report.generator, &mut warnings);
    if let Some(Pace::Rate(rate)) = plan.pace {
        let late = deliveries.sent_late as f64 / findings.totals.published.max(1) as f64;
        if late > TOO_LATE {
            warnings.push(format!(
                "{rate} messages a second were not kept up: {:.1} % were sent more than 1 ms late",
                100.0 * late
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
    if deliveries.lost_to_closes > 0 {
        warnings.push(format!(
            "{} deliveries were owed to connections that the relay closed: {}",
            deliveries.lost_to_closes,
            listed(&report.connections.ended_by_server)
        ));
    }
    if deliveries.outstanding > 0 && findings.was_wait_stopped {
        warnings.push(format!(
            "{} deliveries were still owed when the run was told to end",
            deliveries.outstanding
        ));
    }
    if plan.scenario == Scenario::Slow && report.connections.stalls == 0 {
        warnings.push("nobody stalled: the load was over before anybody's turn".to_owned());
    }
    if deliveries.foreign > 0 {
        warnings.push(format!(
            "{} messages came that this run did not send, before its own: greetings, or kept from before",
            deliveries.foreign
        ));
    }
    if !deliveries.echo && plan.publishers_by_topic.iter().any(|all| all.len() > 1) {
        warnings.push(
            "the relay does not send clients their own messages: publishers' orders were not compared with others'"
                .to_owned(),
        );
    }
    let uncompared = orders.uncompared + sum(|outcome| outcome.forgotten_lives);
    if uncompared > 0 {
        warnings.push(format!(
            "the orders that {uncompared} connections saw were not compared: the record of the topic does not reach so far"
        ));
    }
    if findings.forgiven > 0 {
        warnings.push(format!(
            "{} times nothing came for 1 s, and publishers went on without waiting for what was in flight",
            findings.forgiven
        ));
    }
    let left_out = sum(|outcome| outcome.arrivals_left_out);
    if left_out > 0 {
        warnings.push(format!(
            "{left_out} clients did not come: too many others were still connecting"
        ));
    }
    if plan.scenario == Scenario::Soak {
        trend_warnings(&report.samples, &mut warnings);
    }
    warnings
}

fn generator_warnings(generator: &Generator, warnings: &mut Vec<String>) {
    if generator.saturated {
        warnings.push(format!(
            "generator saturated: a thread of it was busy for {:.0} % of the time and waited for a CPU for {:.0} %, and may be \
             what limited; give it more --threads or CPUs",
            100.0 * generator.busiest_thread,
            100.0 * generator.waited_for_cpu
        ));
    }
    if generator.waited_for_cpu > STARVED {
        warnings.push(format!(
            "a thread of the generator waited for a CPU for {:.0} % of the time: latencies are partly its own; \
             give server and generator CPUs of their own",
            100.0 * generator.waited_for_cpu
        ));
    }
}

/// What rises all the time may rise for ever.
fn trend_warnings(samples: &[Sample], warnings: &mut Vec<String>) {
    let measured = || samples.iter().filter(|sample| sample.at_seconds > 0.0);
    let memory: Vec<f64> = measured()
        .filter_map(|sample| Some(sample.server_rss_bytes? as f64))
        .collect();
    if let Some(factor) = rise(&memory) {
        let growth = memory.last().unwrap_or(&0.0) - memory.first().unwrap_or(&0.0);
        if factor > GROWTH && growth > LEAST_GROWTH {
            warnings.push(format!(
                "the server's memory rose all the time, by {:.0} %",
                100.0 * (factor - 1.0)
            ));
        }
    }
    let latencies: Vec<f64> = measured()
        .filter(|sample| sample.received > 0)
        .map(|sample| sample.latency_p99 as f64)
        .collect();
    if let Some(factor) = rise(&latencies).filter(|factor| *factor > GROWTH_OF_LATENCY) {
        warnings.push(format!(
            "latency rose all the time: its 99th percentile by {:.0} %",
            100.0 * (factor - 1.0)
        ));
    }
}

/// Adds up counts by reason.
pub(crate) fn reasons<'r>(
    all: impl Iterator<Item = &'r BTreeMap<String, u64>>,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in all.flatten() {
        *sums.entry(reason.clone()).or_default() += count;
    }
    sums
}

/// Reasons in a sentence: `1013 (4), eof (1)`.
pub(crate) fn listed(reasons: &BTreeMap<String, u64>) -> String {
    let parts = reasons
        .iter()
        .map(|(reason, count)| format!("{reason} ({count})"));
    parts.collect::<Vec<_>>().join(", ")
}
