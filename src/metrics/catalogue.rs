//! The catalogue of metrics: every name that the relay exposes, once, with its kind, its labels and its meaning.
//!
//! A metric is a row here first. The [`collector`](super::collector) turns the rows into an exposition,
//! `--list-metrics` prints them, and the README's table is tested against them. Names follow Prometheus' rules:
//! base units, the unit before `_total`, and labels whose values are closed sets, never a client's text.
//! Nothing here reads a number: a row only says where its numbers come from.

use std::fmt::Write as _;
use std::io;

use super::stats::Stat;

/// One metric: what a scraper sees, and where its series come from.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name in the exposition.
    pub name: &'static str,
    /// How a query may treat the numbers.
    pub kind: Kind,
    /// The meaning, as one sentence.
    pub help: &'static str,
    /// Where the numbers come from, and which labels tell them apart.
    pub source: Source,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; ask for its rate.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

/// Where the numbers of a metric come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One series: the statistic, added up over the shards.
    Total(Stat),
    /// One series for each case of the label, each a statistic added up over the shards.
    Cases(&'static str, &'static [(&'static str, Stat)]),
    /// One series for each shard.
    PerShard(Stat),
    /// One series for each shard; the statistic is in microseconds and shown in seconds.
    PerShardSeconds(Stat),
    /// Envelopes that wait in each shard's inbox, asked for at scrape.
    InboxEnvelopes,
    /// Bytes that wait in each shard's inbox, asked for at scrape.
    InboxBytes,
    /// The latency buckets, added up over the shards.
    FanoutLatency,
    /// When the certificate in force expires; no series where clients do not speak TLS.
    TlsExpiry,
    /// How often the certificate was read again, with success and without.
    TlsReloads,
    /// The constant 1 under labels that say which build this is.
    BuildInfo,
    /// CPU time of the process, to the microsecond.
    CpuTime,
    /// Prometheus' own collector of the standard `process_*` set.
    Process,
}

impl Kind {
    /// The kind as the exposition's `# TYPE` line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The names of the labels that every series of the metric carries, `le` of a histogram aside.
    pub fn labels(&self) -> Vec<&'static str> {
        match self.source {
            Source::Cases(label, _) => vec![label],
            Source::PerShard(_)
            | Source::PerShardSeconds(_)
            | Source::InboxEnvelopes
            | Source::InboxBytes => {
                vec!["shard"]
            }
            Source::BuildInfo => vec!["version", "profile", "os", "arch"],
            Source::TlsReloads => vec!["result"],
            Source::Total(_)
            | Source::FanoutLatency
            | Source::TlsExpiry
            | Source::CpuTime
            | Source::Process => Vec::new(),
        }
    }

    /// The statistics that the metric shows.
    pub fn stats(&self) -> Vec<Stat> {
        match self.source {
            Source::Total(stat) | Source::PerShard(stat) | Source::PerShardSeconds(stat) => {
                vec![stat]
            }
            Source::Cases(_, cases) => cases.iter().map(|&(_, stat)| stat).collect(),
            Source::InboxEnvelopes
            | Source::InboxBytes
            | Source::FanoutLatency
            | Source::TlsExpiry
            | Source::TlsReloads
            | Source::BuildInfo
            | Source::CpuTime
            | Source::Process => Vec::new(),
        }
    }
}

const fn counter(name: &'static str, source: Source, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        source,
    }
}

const fn gauge(name: &'static str, source: Source, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        source,
    }
}

const fn histogram(name: &'static str, source: Source, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        help,
        source,
    }
}

/// Every metric, in the order in which a person would want to read them.
pub const METRICS: &[Metric] = &[
    // The four names that users of the earlier relay scrape already.
    gauge(
        "websocket_connected_clients",
        Source::Total(Stat::ConnectedClients),
        "Clients connected now.",
    ),
    counter(
        "websocket_messages_total",
        Source::Total(Stat::Messages),
        "Messages accepted from clients.",
    ),
    counter(
        "websocket_connections_total",
        Source::Total(Stat::Connections),
        "Clients whose upgrade to WebSocket succeeded.",
    ),
    counter(
        "websocket_disconnections_total",
        Source::Total(Stat::Disconnections),
        "Clients gone, whatever the reason.",
    ),
    // At rest: offered = delivered + dropped + discarded.
    counter(
        "fanwire_offered_deliveries_total",
        Source::Total(Stat::Offered),
        "Deliveries owed: each message counts once for each client on its topic.",
    ),
    counter(
        "fanwire_deliveries_total",
        Source::Total(Stat::Delivered),
        "Deliveries whose last byte the kernel accepted, or TLS has encrypted for it.",
    ),
    counter(
        "fanwire_dropped_deliveries_total",
        Source::Total(Stat::Dropped),
        "Deliveries skipped for clients that lagged, under the policy drop.",
    ),
    counter(
        "fanwire_discarded_deliveries_total",
        Source::Total(Stat::Discarded),
        "Deliveries still owed to clients when they left.",
    ),
    counter(
        "fanwire_received_bytes_total",
        Source::Total(Stat::BytesIn),
        "Bytes read from clients, without what TLS adds.",
    ),
    counter(
        "fanwire_sent_bytes_total",
        Source::Total(Stat::BytesOut),
        "Bytes written to clients, without what TLS adds.",
    ),
    counter(
        "fanwire_disconnections_total",
        Source::Cases("reason", DISCONNECTIONS),
        "Clients gone, by the reason that came first.",
    ),
    counter(
        "fanwire_failed_handshakes_total",
        Source::Cases("reason", FAILED_HANDSHAKES),
        "Connections that ended without an upgrade to WebSocket, by reason.",
    ),
    counter(
        "fanwire_tls_handshakes_total",
        Source::Cases("kind", TLS_HANDSHAKES),
        "TLS handshakes completed, in full or resumed from a ticket.",
    ),
    gauge(
        "fanwire_tls_certificate_expiry_timestamp_seconds",
        Source::TlsExpiry,
        "When the certificate that clients are shown expires, in seconds since the Unix epoch; absent without TLS.",
    ),
    counter(
        "fanwire_tls_reloads_total",
        Source::TlsReloads,
        "Times that SIGHUP had the certificate and key read again, by result; after a failed one the old stay in force.",
    ),
    counter(
        "fanwire_write_calls_total",
        Source::Cases("result", WRITE_CALLS),
        "Write calls to clients, by what the kernel did with the bytes.",
    ),
    histogram(
        "fanwire_fanout_latency_seconds",
        Source::FanoutLatency,
        "Time from the decoded message to the last local byte that the kernel accepted in the turn that fanned it \
         out, one sample for each batch and shard.",
    ),
    gauge(
        "fanwire_members_lagging",
        Source::Total(Stat::MembersLagging),
        "Clients whose socket accepts no more for now.",
    ),
    gauge(
        "fanwire_log_bytes",
        Source::Total(Stat::LogBytes),
        "What the logs of topics cost, in bytes: messages, and what stands around them in memory.",
    ),
    gauge(
        "fanwire_coalescing_bytes",
        Source::Total(Stat::CoalescingBytes),
        "What waits for the next fan-out of its topic (relay.coalesce) costs, in bytes.",
    ),
    counter(
        "fanwire_coalesced_messages_total",
        Source::Total(Stat::Coalesced),
        "Messages that waited for the next fan-out of their topic.",
    ),
    counter(
        "fanwire_coalescing_limit_reached_total",
        Source::Total(Stat::CoalescingLimitReached),
        "Turns in which all that waited went out early, because it was a sixteenth of a shard's share of \
         limits.max_buffered_bytes.",
    ),
    counter(
        "fanwire_fan_outs_overtaken_total",
        Source::Total(Stat::Overtaken),
        "Fan-outs that were to be delivered before the next one of their topic (relay.coalesce), and were not.",
    ),
    gauge(
        "fanwire_partial_message_bytes",
        Source::Total(Stat::PartialBytes),
        "Bytes held of messages and requests that arrived in part.",
    ),
    gauge(
        "fanwire_carried_bytes",
        Source::Total(Stat::CarriedBytes),
        "Bytes that messages keep in memory which left the log and wait for clients in the middle of them.",
    ),
    counter(
        "fanwire_buffer_limit_reached_total",
        Source::Total(Stat::BufferLimitReached),
        "Turns at whose end a shard held more than its share of limits.max_buffered_bytes, so that somebody gave way.",
    ),
    gauge(
        "fanwire_topics",
        Source::Total(Stat::Topics),
        "Topics with clients or with messages of theirs on the way, counted once for each shard that has some of them.",
    ),
    gauge(
        "fanwire_owned_topics",
        Source::Total(Stat::OwnedTopics),
        "Topics with clients on any shard, or with messages of theirs on the way.",
    ),
    gauge(
        "fanwire_topics_held",
        Source::Total(Stat::TopicsHeld),
        "Topics whose publishers are not read for now, so that lagging clients can catch up.",
    ),
    counter(
        "fanwire_deferred_reads_total",
        Source::Total(Stat::ReadsDeferred),
        "Turns in which reads from clients were put off because the inbox of some shard was full.",
    ),
    gauge(
        "fanwire_shard_clients",
        Source::PerShard(Stat::ConnectedClients),
        "Clients connected now, by shard.",
    ),
    counter(
        "fanwire_shard_turns_total",
        Source::PerShard(Stat::Turns),
        "Turns of the shard's worker.",
    ),
    counter(
        "fanwire_shard_busy_seconds_total",
        Source::PerShardSeconds(Stat::BusyMicros),
        "Time that the shard's worker spent in turns; waiting for events does not count.",
    ),
    counter(
        "fanwire_shard_envelopes_total",
        Source::PerShard(Stat::Envelopes),
        "Envelopes that the shard took from its inbox.",
    ),
    counter(
        "fanwire_shard_transfers_total",
        Source::PerShard(Stat::Transferred),
        "Clients that moved from the shard which had accepted them to another, because of their topic.",
    ),
    gauge(
        "fanwire_inbox_envelopes",
        Source::InboxEnvelopes,
        "Envelopes that wait in the shard's inbox.",
    ),
    gauge(
        "fanwire_inbox_bytes",
        Source::InboxBytes,
        "Bytes of messages that wait in the shard's inbox.",
    ),
    counter(
        "fanwire_accounting_errors_total",
        Source::Total(Stat::AccountingErrors),
        "Times that a gauge was to fall below zero, and was kept at zero: a bug in fanwire. Please report it; other gauges may be wrong until a restart.",
    ),
    gauge(
        "fanwire_build_info",
        Source::BuildInfo,
        "Always 1; the labels say which build this is.",
    ),
    // Prometheus' process_cpu_seconds_total below counts whole seconds only.
    counter(
        "fanwire_process_cpu_seconds_total",
        Source::CpuTime,
        "User and system CPU time of the process, with fractions of a second.",
    ),
    // The texts of this group are Prometheus' own.
    counter(
        "process_cpu_seconds_total",
        Source::Process,
        "Total user and system CPU time spent in seconds.",
    ),
    gauge(
        "process_open_fds",
        Source::Process,
        "Number of open file descriptors.",
    ),
    gauge(
        "process_max_fds",
        Source::Process,
        "Maximum number of open file descriptors.",
    ),
    gauge(
        "process_virtual_memory_bytes",
        Source::Process,
        "Virtual memory size in bytes.",
    ),
    gauge(
        "process_resident_memory_bytes",
        Source::Process,
        "Resident memory size in bytes.",
    ),
    gauge(
        "process_start_time_seconds",
        Source::Process,
        "Start time of the process since unix epoch in seconds.",
    ),
    gauge(
        "process_threads",
        Source::Process,
        "Number of OS threads in the process.",
    ),
];

const DISCONNECTIONS: &[(&str, Stat)] = &[
    ("client", Stat::DisconnectedByClient),
    ("lost", Stat::DisconnectedLost),
    ("protocol_error", Stat::DisconnectedProtocol),
    ("message_too_big", Stat::DisconnectedTooBig),
    ("lag", Stat::DisconnectedLag),
    ("stall", Stat::DisconnectedStall),
    ("pong_timeout", Stat::DisconnectedPong),
    ("rate", Stat::DisconnectedRate),
    ("publish_denied", Stat::DisconnectedPublishDenied),
    ("memory", Stat::DisconnectedMemory),
    ("shutdown", Stat::DisconnectedShutdown),
    ("internal_error", Stat::DisconnectedInternal),
];

const FAILED_HANDSHAKES: &[(&str, Stat)] = &[
    ("bad_request", Stat::HandshakeBadRequest),
    ("not_upgrade", Stat::HandshakeNotUpgrade),
    ("method", Stat::HandshakeMethod),
    ("path_too_long", Stat::HandshakePathTooLong),
    ("head_too_large", Stat::HandshakeHeadTooLarge),
    ("origin", Stat::HandshakeOrigin),
    ("unauthorized", Stat::HandshakeUnauthorized),
    ("timeout", Stat::HandshakeTimeout),
    ("lost", Stat::HandshakeLost),
    ("capacity", Stat::HandshakeCapacity),
    ("per_ip", Stat::HandshakePerIp),
    ("proxy_header", Stat::HandshakeProxyHeader),
    ("shutdown", Stat::HandshakeShutdown),
    ("tls", Stat::HandshakeTls),
];

const TLS_HANDSHAKES: &[(&str, Stat)] = &[("full", Stat::TlsFull), ("resumed", Stat::TlsResumed)];

/// The values of the label of [`Source::TlsReloads`], in the order of
/// [`TlsStatus::reloads`](super::stats::TlsStatus::reloads).
pub const TLS_RELOADS: [&str; 2] = ["ok", "failed"];

const WRITE_CALLS: &[(&str, Stat)] = &[
    ("full", Stat::WritesFull),
    ("partial", Stat::WritesPartial),
    ("would_block", Stat::WritesBlocked),
    ("error", Stat::WritesFailed),
];

/// Prints the catalogue for people: one line for the name, the kind and the labels, one for the meaning.
///
/// # Errors
/// Those of the writer, such as a reader of the pipe that is gone.
pub fn print(out: &mut impl io::Write) -> io::Result<()> {
    for metric in METRICS {
        writeln!(
            out,
            "{}{}  {}",
            metric.name,
            braces(&metric.labels()),
            metric.kind.as_str()
        )?;
        writeln!(out, "    {}", metric.help)?;
    }
    Ok(())
}

fn braces(labels: &[&str]) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    }
}

/// The catalogue as the table that the README holds, each line ended by `\n`.
pub fn markdown_table() -> String {
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric
            .labels()
            .iter()
            .map(|label| label_cell(metric, label))
            .collect();
        let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )
        .expect("writing to a String cannot fail");
    }
    table
}

/// A label with its values, where those are known beforehand.
fn label_cell(metric: &Metric, label: &str) -> String {
    let values: Vec<&str> = match metric.source {
        Source::Cases(_, cases) => cases.iter().map(|&(value, _)| value).collect(),
        Source::TlsReloads => TLS_RELOADS.to_vec(),
        Source::Total(_)
        | Source::PerShard(_)
        | Source::PerShardSeconds(_)
        | Source::InboxEnvelopes
        | Source::InboxBytes
        | Source::FanoutLatency
        | Source::TlsExpiry
        | Source::BuildInfo
        | Source::CpuTime
        | Source::Process => return format!("`{label}`"),
    };
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    format!("`{label}`: {}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_statistic_is_shown_once_and_clients_by_shard_as_well() {
        let mut shown = [0; Stat::COUNT];
        for stat in METRICS.iter().flat_map(Metric::stats) {
            shown[stat as usize] += 1;
        }
        shown[Stat::ConnectedClients as usize] -= 1;
        assert_eq!(shown, [1; Stat::COUNT], "by index of Stat");
    }

    #[test]
    fn no_name_appears_twice() {
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn the_names_of_the_earlier_relay_are_kept() {
        let legacy: Vec<_> = METRICS
            .iter()
            .filter(|metric| metric.name.starts_with("websocket_"))
            .collect();
        let legacy: Vec<_> = legacy
            .iter()
            .map(|metric| (metric.name, metric.kind))
            .collect();
        assert_eq!(
            legacy,
            [
                ("websocket_connected_clients", Kind::Gauge),
                ("websocket_messages_total", Kind::Counter),
                ("websocket_connections_total", Kind::Counter),
                ("websocket_disconnections_total", Kind::Counter),
            ]
        );
    }

    #[test]
    fn every_other_name_starts_with_fanwire_or_process() {
        for metric in METRICS {
            let known = ["websocket_", "fanwire_", "process_"]
                .iter()
                .any(|prefix| metric.name.starts_with(prefix));
            assert!(known, "{}", metric.name);
        }
    }

    #[test]
    fn counters_and_only_counters_end_in_total() {
        for metric in METRICS {
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn every_meaning_is_one_line_and_ends_with_a_full_stop() {
        for metric in METRICS {
            assert!(
                metric.help.ends_with('.') && !metric.help.contains(['\n', '|']),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn the_printed_list_has_name_labels_kind_and_meaning_of_every_metric() {
        let mut printed = Vec::new();
        print(&mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(printed.lines().count(), 2 * METRICS.len());
        assert!(
            printed.contains("fanwire_disconnections_total{reason}  counter\n    Clients gone, by")
        );
        assert!(printed.contains("process_threads  gauge\n"));
    }

    #[test]
    fn the_table_names_the_cases_of_a_closed_label() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), 2 + METRICS.len());
        assert!(table.contains("| `result`: `full`, `partial`, `would_block`, `error` |"));
    }
}
