//! The report of a run, made from its findings.
//!
//! The control's findings come in, and `judge.rs` adds the verdict.

use std::cmp::Reverse;
use std::thread::available_parallelism;

use super::findings::{Findings, reasons};
use super::judge::{failures, warnings};
use super::machine;
use crate::check::agreement::{self, Orders};
use crate::clock::seconds;
use crate::report::{
    Avalanche, ClientReturns, Configuration, Connections, Deflate, Deliveries, Generator, LISTED,
    Machine, Posts, Report, Returns, SCHEMA_VERSION, latency, per_second,
};
use crate::scenario::options::Options;
use crate::scenario::plan::{Kind, Plan, Wanted};
use crate::secrets;

/// A thread that was busy, or waited for a CPU, for more than this share of the time may have been the limit.
const SATURATED: f64 = 0.95;

/// Makes the report, with its verdict.
pub(crate) fn report(options: &Options, plan: &Plan, mut findings: Findings) -> Report {
    let orders = compare_orders(plan, &mut findings);
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
            processor: machine::processor(),
            cpus: available_parallelism().map_or(1, usize::from),
            kernel: machine::kernel(),
        },
        server: findings.server.take(),
        connections,
        deliveries,
        latency: std::mem::take(&mut findings.latency),
        rounds: findings.rounds.take(),
        returns: returns(plan, &mut findings),
        posts: posts(plan, &findings),
        deflate: None,
        samples: std::mem::take(&mut findings.samples),
        generator,
        counters: findings.counters.take(),
    };
    report.deflate = deflate(plan, &findings, &report);
    report.failures = failures(&report, &findings);
    report.warnings = warnings(&report, plan, &findings, orders);
    report.passed = report.failures.is_empty();
    report
}

/// Gathers the orders that the connections of all threads saw, and compares them.
fn compare_orders(plan: &Plan, findings: &mut Findings) -> Orders {
    let (mut lives, mut placed) = (Vec::new(), Vec::new());
    let mut records: Vec<_> = (0..plan.topics).map(|_| None).collect();
    for outcome in &mut findings.outcomes {
        lives.append(&mut outcome.lives);
        placed.append(&mut outcome.posts.placed);
        for (topic, record) in outcome.records.drain(..).enumerate() {
            records[topic] = records[topic].take().or(record);
        }
    }
    agreement::compare(lives, records, placed)
}

/// The URLs of all relays, as they may be shown.
fn urls(options: &Options) -> String {
    let urls = options.url.iter().map(|url| secrets::hide_in(url));
    urls.collect::<Vec<_>>().join(", ")
}

fn configuration(options: &Options, plan: &Plan) -> Configuration {
    let publishers = plan.places.len();
    Configuration {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: plan.scenario,
        url: urls(options),
        subscribers: options.subscribers,
        sse_subscribers: plan.event_readers(),
        publishers,
        topics: plan.topics,
        active_topics: plan.topics_with_publishers(),
        payload_bytes: plan.format.size(),
        opcode: plan.format.opcode(),
        payload: options.payload,
        deflate: plan.deflate,
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
        wire_bytes_while_measured: totals.wire_bytes_while_measured,
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
        told: counts.told,
        misplaced: counts.misplaced + orders.misplaced,
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

/// Publishers that send by POST; `None` without `--post`.
fn posts(plan: &Plan, findings: &Findings) -> Option<Posts> {
    if !plan.posts {
        return None;
    }
    let mut posts = Posts {
        pipeline: plan.pipeline,
        ..Posts::default()
    };
    let mut latencies = latency::new();
    for outcome in &findings.outcomes {
        for (status, count) in &outcome.posts.answers {
            *posts.answers.entry(*status).or_default() += count;
        }
        posts.unplaced += outcome.posts.unplaced;
        posts.repeated += outcome.posts_repeated;
        posts.reopened += outcome.posts_reopened;
        latency::merge(&mut latencies, &outcome.posts.latency);
    }
    posts.latency = latency::summarise(&latencies);
    Some(posts)
}

/// Compression; `None` without `--deflate`.
fn deflate(plan: &Plan, findings: &Findings, report: &Report) -> Option<Deflate> {
    if !plan.deflate {
        return None;
    }
    let totals = &findings.totals;
    Some(Deflate {
        agreed: totals.agreed,
        declined: totals.declined,
        compressed: totals.came_compressed,
        plain: totals.came_plain,
        wire_bytes_per_delivery: report.wire_bytes_per_delivery(),
        wire_bytes_per_payload_byte: report.wire_bytes_per_payload_byte(),
    })
}

/// Clients that were cut and came back; `None` in scenarios without them.
fn returns(plan: &Plan, findings: &mut Findings) -> Option<Returns> {
    let clients = plan.wanted.iter().flatten();
    let is_cut = |wanted: &&Wanted| wanted.kind != Kind::Steady && plan.has_story(wanted);
    let clients = clients.filter(is_cut).count();
    if clients == 0 {
        return None;
    }
    let counts = findings.totals.counts;
    let mut returns = Returns {
        resume: plan.resume,
        clients,
        missed: counts.missed,
        told: counts.told,
        falsely_told: counts.falsely_told,
        forgotten: counts.forgotten,
        retried: reasons(findings.outcomes.iter().map(|of| &of.returns.retried)),
        ..Returns::default()
    };
    let (mut replay, mut caught_up) = (latency::new(), latency::new());
    let (mut recovered, mut fallen) = (latency::new(), 0);
    for outcome in &mut findings.outcomes {
        let of = &mut outcome.returns;
        for (style, cuts) in &of.cuts {
            *returns.cuts.entry(*style).or_default() += cuts;
        }
        returns.returned += of.returned;
        returns.up_to_date += of.up_to_date;
        returns.behind += of.behind;
        returns.full += outcome.resumes.full;
        returns.partial += outcome.resumes.partial;
        returns.unknown += outcome.resumes.unknown;
        latency::merge(&mut replay, &of.replays);
        latency::merge(&mut caught_up, &of.catch_ups);
        latency::merge(&mut recovered, &of.recoveries);
        fallen += of.fallen;
        returns.worst_clients.append(&mut of.clients);
    }
    returns.replay = latency::summarise(&replay);
    returns.caught_up = latency::summarise(&caught_up);
    if plan.avalanche.is_some() || fallen > 0 {
        returns.avalanche = Some(Avalanche {
            clients: fallen,
            recovered: latency::summarise(&recovered),
        });
    }
    let badness = |of: &ClientReturns| (Reverse(of.wrong()), Reverse(of.slowest_replay), of.client);
    returns.worst_clients.sort_by_key(badness);
    returns.worst_clients.truncate(LISTED);
    Some(returns)
}

fn generator(findings: &Findings) -> Generator {
    let outcomes = &findings.outcomes;
    let share = |nanos: u64| per_second(seconds(nanos), findings.measured_seconds);
    let largest = |shares: &mut dyn Iterator<Item = f64>| shares.fold(0.0, f64::max);
    let busiest = largest(&mut outcomes.iter().map(|of| share(of.cpu)));
    let waited = largest(&mut outcomes.iter().map(|of| share(of.waited)));
    // A thread that is always ready is saturated, whether it is given a CPU or not.
    let readiest = largest(&mut outcomes.iter().map(|of| share(of.cpu + of.waited)));
    Generator {
        cpu_seconds: outcomes.iter().map(|of| seconds(of.cpu)).sum(),
        busiest_thread: busiest,
        waited_for_cpu: waited,
        saturated: readiest > SATURATED,
    }
}
