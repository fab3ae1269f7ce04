//! The catalogue of metrics: each name that the relay exposes, with its kind, its labels and its meaning.
//!
//! A new metric starts as a row here. The [`collector`](super::collector) turns rows into an exposition, and the
//! [`listing`](super::listing) prints them. A test compares them with the table in `docs/metrics.md`. Names follow the rules
//! of Prometheus: base units, and the unit before `_total`. Label values are closed sets, never text from a client. Nothing
//! here reads a number.

use super::engines::{ClusterStat, EngineStat, TOLD};
use super::labels::{
    DEFLATE_KEYS, DISCONNECTIONS, FAILED_HANDSHAKES, HTTP_REQUESTS, POSTS, RESUMES, TLS_HANDSHAKES,
    WRITE_CALLS,
};
use super::stats::Stat;

/// One metric: its description, and the source of its series.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name in the exposition.
    pub name: &'static str,
    /// Its type for queries.
    pub kind: Kind,
    /// The meaning, in one sentence.
    pub help: &'static str,
    /// The source of the numbers and the labels.
    pub source: Source,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; query its rate.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

/// The source of a metric's numbers.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One series: the sum of the statistic over all shards.
    Total(Stat),
    /// One series per value of the label, each the sum of a statistic over all shards.
    Cases(&'static str, &'static [(&'static str, Stat)]),
    /// One series per shard.
    PerShard(Stat),
    /// One series per shard. The statistic is in microseconds and exposed in seconds.
    PerShardSeconds(Stat),
    /// The envelopes in each shard's inbox, read during the scrape.
    InboxEnvelopes,
    /// The bytes in each shard's inbox, read during the scrape.
    InboxBytes,
    /// The limit on connections.
    MaxConnections,
    /// The latency buckets, summed over all shards.
    FanoutLatency,
    /// The expiry of the certificate in use; no series without TLS.
    TlsExpiry,
    /// The number of certificate reloads, successful and failed.
    TlsReloads,
    /// The number of times that the keys for tokens were read again, with success and without.
    KeyReloads,
    /// One series per engine; none in a relay without engines.
    Engine(EngineStat),
    /// The same. The number is in microseconds and exposed in seconds.
    EngineSeconds(EngineStat),
    /// A number of all topics that engines number; none in a relay without engines.
    Cluster(ClusterStat),
    /// The same, with one series per value of the label.
    ClusterCases(&'static str, &'static [(&'static str, ClusterStat)]),
    /// One series per engine and reason for which a connection was lost.
    EngineLosses,
    /// The number of times that the configuration was read again, with success and without.
    ConfigReloads,
    /// The time of the last success of these.
    ConfigSuccess,
    /// The constant 1, with labels that describe the build.
    BuildInfo,
    /// CPU time of the process, to the microsecond.
    CpuTime,
    /// The standard `process_*` set of the Prometheus library.
    Process,
}

impl Kind {
    /// The kind as the `# TYPE` line of the exposition spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The labels of every series of the metric, except a histogram's `le`.
    pub(crate) fn labels(&self) -> Vec<&'static str> {
        match self.source {
            Source::Cases(label, _) | Source::ClusterCases(label, _) => vec![label],
            Source::PerShard(_)
            | Source::PerShardSeconds(_)
            | Source::InboxEnvelopes
            | Source::InboxBytes => {
                vec!["shard"]
            }
            Source::BuildInfo => vec!["version", "profile", "os", "arch"],
            Source::TlsReloads | Source::KeyReloads | Source::ConfigReloads => vec!["result"],
            Source::Engine(_) | Source::EngineSeconds(_) => vec!["engine"],
            Source::EngineLosses => vec!["engine", "reason"],
            Source::Total(_)
            | Source::Cluster(_)
            | Source::MaxConnections
            | Source::FanoutLatency
            | Source::TlsExpiry
            | Source::ConfigSuccess
            | Source::CpuTime
            | Source::Process => Vec::new(),
        }
    }

    /// The statistics that the metric shows. For tests.
    #[cfg(test)]
    fn stats(&self) -> Vec<Stat> {
        match self.source {
            Source::Total(stat) | Source::PerShard(stat) | Source::PerShardSeconds(stat) => {
                vec![stat]
            }
            Source::Cases(_, cases) => cases.iter().map(|&(_, stat)| stat).collect(),
            Source::InboxEnvelopes
            | Source::InboxBytes
            | Source::MaxConnections
            | Source::FanoutLatency
            | Source::TlsExpiry
            | Source::TlsReloads
            | Source::KeyReloads
            | Source::Engine(_)
            | Source::EngineSeconds(_)
            | Source::EngineLosses
            | Source::Cluster(_)
            | Source::ClusterCases(..)
            | Source::ConfigReloads
            | Source::ConfigSuccess
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

/// Every metric, in a useful order for readers.
pub const METRICS: &[Metric] = &[
    // Dashboards of the earlier relay use these four names.
    gauge(
        "websocket_connected_clients",
        Source::Total(Stat::ConnectedClients),
        "Connected clients.",
    ),
    counter(
        "websocket_messages_total",
        Source::Total(Stat::Messages),
        "Messages accepted from clients.",
    ),
    counter(
        "websocket_connections_total",
        Source::Total(Stat::Connections),
        "Clients whose request was granted: an upgrade to WebSocket, or an event stream.",
    ),
    counter(
        "websocket_disconnections_total",
        Source::Total(Stat::Disconnections),
        "Clients that have disconnected, for any reason.",
    ),
    gauge(
        "fanwire_members",
        Source::Cases(
            "form",
            &[
                ("frames", Stat::MembersByFrames),
                ("events", Stat::MembersByEvents),
                ("deflated", Stat::MembersByDeflated),
            ],
        ),
        "Connected clients, by the form in which they read: WebSocket frames, server-sent events, or WebSocket frames that may be compressed.",
    ),
    gauge(
        "fanwire_max_connections",
        Source::MaxConnections,
        "The most connections at once; more are refused.",
    ),
    // At rest: offered = delivered + dropped + discarded.
    counter(
        "fanwire_offered_deliveries_total",
        Source::Total(Stat::Offered),
        "Deliveries due: each message counts once for every client of its topic.",
    ),
    counter(
        "fanwire_deliveries_total",
        Source::Total(Stat::Delivered),
        "Deliveries completely handed to the operating system (with TLS: encrypted for it).",
    ),
    counter(
        "fanwire_dropped_deliveries_total",
        Source::Total(Stat::Dropped),
        "Deliveries that slow clients skipped (slow_consumer.policy: drop).",
    ),
    counter(
        "fanwire_discarded_deliveries_total",
        Source::Total(Stat::Discarded),
        "Deliveries that were still due when their client disconnected.",
    ),
    counter(
        "fanwire_received_bytes_total",
        Source::Total(Stat::BytesIn),
        "Bytes read from clients, without the overhead of TLS.",
    ),
    counter(
        "fanwire_sent_bytes_total",
        Source::Total(Stat::BytesOut),
        "Bytes written to clients, without the overhead of TLS.",
    ),
    counter(
        "fanwire_disconnections_total",
        Source::Cases("reason", DISCONNECTIONS),
        "Clients that have disconnected, by the first reason.",
    ),
    counter(
        "fanwire_failed_handshakes_total",
        Source::Cases("reason", FAILED_HANDSHAKES),
        "Connections that ended before an upgrade to WebSocket, by reason.",
    ),
    counter(
        "fanwire_posts_total",
        Source::Cases("status", POSTS),
        "Requests that publish (POST), by the status of their answer; none for those whose connection was lost before.",
    ),
    counter(
        "fanwire_posted_messages_total",
        Source::Total(Stat::PostedMessages),
        "Messages published by POST. They are not among websocket_messages_total.",
    ),
    counter(
        "fanwire_forgotten_post_keys_total",
        Source::Total(Stat::PostKeysForgotten),
        "Idempotency keys that were forgotten before their five minutes were over, because there were too many.",
    ),
    counter(
        "fanwire_http_requests_total",
        Source::Cases("kind", HTTP_REQUESTS),
        "Other requests on the relay's port that were answered: about a topic (HEAD, or JSON), CORS (OPTIONS), and the page to try a topic.",
    ),
    counter(
        "fanwire_unmet_subprotocol_offers_total",
        Source::Total(Stat::SubprotocolsUnmet),
        "Upgrades of clients that offered subprotocols of which none was selected (server.subprotocols); many such clients then leave.",
    ),
    gauge(
        "fanwire_deflate_members",
        Source::Total(Stat::DeflateMembers),
        "Clients that have agreed on permessage-deflate (compression.enabled).",
    ),
    gauge(
        "fanwire_deflate_windows",
        Source::Total(Stat::DeflateWindows),
        "Topics whose messages are compressed: each has a window, which all its members share.",
    ),
    gauge(
        "fanwire_deflate_window_bytes",
        Source::Total(Stat::DeflateWindowBytes),
        "Memory of these windows, in bytes.",
    ),
    counter(
        "fanwire_deflated_messages_total",
        Source::Total(Stat::DeflatedMessages),
        "Messages that were compressed, once for all members of their topic.",
    ),
    counter(
        "fanwire_deflate_input_bytes_total",
        Source::Total(Stat::DeflateInputBytes),
        "Bytes of these messages before, with their frame headers.",
    ),
    counter(
        "fanwire_deflate_output_bytes_total",
        Source::Total(Stat::DeflateOutputBytes),
        "Bytes of these messages after that, with their frame headers.",
    ),
    counter(
        "fanwire_deflate_keys_total",
        Source::Cases("reason", DEFLATE_KEYS),
        "Times that compression began anew, so that every member could follow, by the reason.",
    ),
    counter(
        "fanwire_deflate_plain_deliveries_total",
        Source::Total(Stat::DeflatePlainDeliveries),
        "Deliveries of plain messages to members that take compressed ones.",
    ),
    counter(
        "fanwire_inflated_messages_total",
        Source::Total(Stat::InflatedMessages),
        "Compressed messages of clients that were inflated.",
    ),
    counter(
        "fanwire_inflated_bytes_total",
        Source::Total(Stat::InflatedBytes),
        "Bytes of these messages after inflating.",
    ),
    gauge(
        "fanwire_inflate_window_bytes",
        Source::Total(Stat::InflateWindowBytes),
        "Memory for the end of what clients have sent, to which their next compressed messages may refer, in bytes.",
    ),
    counter(
        "fanwire_tls_handshakes_total",
        Source::Cases("kind", TLS_HANDSHAKES),
        "Completed TLS handshakes: full ones, and ones resumed from a ticket.",
    ),
    gauge(
        "fanwire_tls_certificate_expiry_timestamp_seconds",
        Source::TlsExpiry,
        "Expiry of the TLS certificate in use, in seconds since the Unix epoch; absent without TLS.",
    ),
    counter(
        "fanwire_tls_reloads_total",
        Source::TlsReloads,
        "Reloads of the TLS certificate and key, by result; after a failure the old ones stay in use.",
    ),
    counter(
        "fanwire_token_key_reloads_total",
        Source::KeyReloads,
        "Reloads of the keys for tokens (access.keys, access.jwks_file), by result; after a failure the old ones stay in use.",
    ),
    counter(
        "fanwire_config_reloads_total",
        Source::ConfigReloads,
        "Reloads of the whole configuration, by result; after a failure the old one stays in use, with its certificates and keys.",
    ),
    gauge(
        "fanwire_config_last_reload_success_timestamp_seconds",
        Source::ConfigSuccess,
        "The time of the last successful reload of the configuration, in Unix time; 0 before the first.",
    ),
    counter(
        "fanwire_write_calls_total",
        Source::Cases("result", WRITE_CALLS),
        "Write calls to clients, by how many of the bytes the operating system accepted.",
    ),
    histogram(
        "fanwire_fanout_latency_seconds",
        Source::FanoutLatency,
        "Time from reading a message to its last write to clients in that round of work; one sample per batch of \
         messages and shard.",
    ),
    gauge(
        "fanwire_members_lagging",
        Source::Total(Stat::MembersLagging),
        "Clients whose socket currently accepts no more bytes.",
    ),
    gauge(
        "fanwire_log_bytes",
        Source::Total(Stat::LogBytes),
        "Memory of the messages in topic logs, in bytes, with their overhead.",
    ),
    gauge(
        "fanwire_history_bytes",
        Source::Total(Stat::HistoryBytes),
        "Memory of messages that are kept for clients that come later (history), in bytes.",
    ),
    gauge(
        "fanwire_topics_with_history",
        Source::Total(Stat::TopicsWithHistory),
        "Topics that are kept for clients that come later, with their messages or, after a restart, with their numbers alone.",
    ),
    gauge(
        "fanwire_replay_bytes",
        Source::Total(Stat::ReplayBytes),
        "Memory of kept messages that are being sent to clients far behind, in bytes.",
    ),
    counter(
        "fanwire_replayed_deliveries_total",
        Source::Total(Stat::Replayed),
        "Deliveries of messages that were published before the client connected. They are also counted as offered.",
    ),
    counter(
        "fanwire_resumes_total",
        Source::Cases("result", RESUMES),
        "Clients that came back with a position, by what they were told: nothing is lost (full), so many messages are lost \
         (partial), or the position is not known (unknown).",
    ),
    gauge(
        "fanwire_coalescing_bytes",
        Source::Total(Stat::CoalescingBytes),
        "Memory of messages that wait for the next fan-out of their topic (relay.coalesce), in bytes.",
    ),
    counter(
        "fanwire_coalesced_messages_total",
        Source::Total(Stat::Coalesced),
        "Messages that waited for the next fan-out of their topic (relay.coalesce).",
    ),
    counter(
        "fanwire_coalescing_limit_reached_total",
        Source::Total(Stat::CoalescingLimitReached),
        "Times that a shard sent all waiting messages early, because they used 1/16 of its share of \
         limits.max_buffered_bytes.",
    ),
    gauge(
        "fanwire_partial_message_bytes",
        Source::Total(Stat::PartialBytes),
        "Memory of incomplete messages and requests, in bytes.",
    ),
    gauge(
        "fanwire_carried_bytes",
        Source::Total(Stat::CarriedBytes),
        "Memory of messages that have left their topic's log but are still being sent to some client, in bytes.",
    ),
    counter(
        "fanwire_buffer_limit_reached_total",
        Source::Total(Stat::BufferLimitReached),
        "Times that a shard exceeded its share of limits.max_buffered_bytes; the largest users are then disconnected or skip.",
    ),
    gauge(
        "fanwire_topics",
        Source::Total(Stat::Topics),
        "Topics with clients or with messages on their way, counted once per shard that has some of their clients.",
    ),
    gauge(
        "fanwire_owned_topics",
        Source::Total(Stat::OwnedTopics),
        "Topics with clients or with messages on their way, each counted once.",
    ),
    gauge(
        "fanwire_topics_held",
        Source::Total(Stat::TopicsHeld),
        "Topics whose senders are currently paused so that slow clients can catch up.",
    ),
    counter(
        "fanwire_deferred_reads_total",
        Source::Total(Stat::ReadsDeferred),
        "Times that a worker paused reading from clients because the inbox of a shard was full.",
    ),
    gauge(
        "fanwire_shard_clients",
        Source::PerShard(Stat::ConnectedClients),
        "Connected clients, by shard.",
    ),
    counter(
        "fanwire_shard_turns_total",
        Source::PerShard(Stat::Turns),
        "Rounds of work (turns) of the shard's worker thread.",
    ),
    counter(
        "fanwire_shard_busy_seconds_total",
        Source::PerShardSeconds(Stat::BusyMicros),
        "Time that the shard's worker thread was busy, in seconds. Time spent waiting for events is left out.",
    ),
    counter(
        "fanwire_shard_pauses_total",
        Source::PerShard(Stat::Pauses),
        "Pauses of the shard's worker thread while it had clients: the process was stopped, the machine was paused, or there was too much to do. No client is blamed for that time.",
    ),
    counter(
        "fanwire_shard_paused_seconds_total",
        Source::PerShardSeconds(Stat::PausedMicros),
        "Time that the shard's worker thread stood still in these pauses, in seconds.",
    ),
    counter(
        "fanwire_shard_envelopes_total",
        Source::PerShard(Stat::Envelopes),
        "Internal messages from other shards that the shard has taken from its inbox.",
    ),
    counter(
        "fanwire_shard_transfers_total",
        Source::PerShard(Stat::Transferred),
        "Clients that moved from this shard, which accepted them, to another shard because of their topic.",
    ),
    gauge(
        "fanwire_inbox_envelopes",
        Source::InboxEnvelopes,
        "Internal messages from other shards in the shard's inbox.",
    ),
    gauge(
        "fanwire_inbox_bytes",
        Source::InboxBytes,
        "Bytes of client messages in the shard's inbox.",
    ),
    counter(
        "fanwire_accounting_errors_total",
        Source::Total(Stat::AccountingErrors),
        "Times that a gauge would have become negative and was kept at zero: a bug in fanwire, please report it. Other \
         gauges may be wrong until a restart.",
    ),
    gauge(
        "fanwire_build_info",
        Source::BuildInfo,
        "Always 1; the labels describe the build.",
    ),
    // process_cpu_seconds_total below has only whole seconds.
    counter(
        "fanwire_process_cpu_seconds_total",
        Source::CpuTime,
        "User and system CPU time of the process in seconds, with fractions.",
    ),
    // The help texts of this group come from the Prometheus library.
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

/// The metrics of a relay with engines (`cluster.engines`). Others do not have them.
pub(crate) const CLUSTER_METRICS: &[Metric] = &[
    gauge(
        "fanwire_cluster_up",
        Source::Engine(EngineStat::Up),
        "1 if all workers are connected to the engine.",
    ),
    counter(
        "fanwire_cluster_connection_losses_total",
        Source::EngineLosses,
        "Connections to the engine that were lost, or did not come about, by reason.",
    ),
    gauge(
        "fanwire_cluster_round_trip_seconds",
        Source::EngineSeconds(EngineStat::RoundTripMicros),
        "The time that the engine took to answer the last probe; the longest of all workers.",
    ),
    counter(
        "fanwire_cluster_probes_total",
        Source::Engine(EngineStat::Probes),
        "Probes that the engine has answered.",
    ),
    counter(
        "fanwire_cluster_published_batches_total",
        Source::Engine(EngineStat::Published),
        "Batches of messages that the engine was asked to number.",
    ),
    counter(
        "fanwire_cluster_received_batches_total",
        Source::Engine(EngineStat::Received),
        "Batches that came from the engine, with those of this relay.",
    ),
    counter(
        "fanwire_cluster_refused_batches_total",
        Source::Engine(EngineStat::Refused),
        "Messages in the engine that are not understood.",
    ),
    counter(
        "fanwire_cluster_sent_bytes_total",
        Source::Engine(EngineStat::BytesOut),
        "Bytes written to the engine, without the overhead of TLS.",
    ),
    counter(
        "fanwire_cluster_received_bytes_total",
        Source::Engine(EngineStat::BytesIn),
        "Bytes read from the engine, without the overhead of TLS.",
    ),
    gauge(
        "fanwire_cluster_pending_bytes",
        Source::Engine(EngineStat::PendingBytes),
        "Memory of messages that are on their way to the engine and back, and of those that came too early.",
    ),
    gauge(
        "fanwire_cluster_topics",
        Source::Engine(EngineStat::Topics),
        "Topics of this relay that the engine numbers.",
    ),
    counter(
        "fanwire_cluster_syncs_total",
        Source::Engine(EngineStat::Syncs),
        "Questions to the engine where a topic is.",
    ),
    counter(
        "fanwire_cluster_fills_total",
        Source::Engine(EngineStat::Fills),
        "Questions to the engine for messages that were missed.",
    ),
    counter(
        "fanwire_cluster_finds_total",
        Source::Engine(EngineStat::Finds),
        "Questions to the engine for messages that a client missed while it was away, and this relay does not have.",
    ),
    counter(
        "fanwire_cluster_fences_total",
        Source::Engine(EngineStat::Fences),
        "Waits for all that was published before a topic began to count anew.",
    ),
    counter(
        "fanwire_cluster_audits_total",
        Source::Engine(EngineStat::Audits),
        "Comparisons of a quiet topic with the engine.",
    ),
    counter(
        "fanwire_cluster_errors_total",
        Source::Engine(EngineStat::Errors),
        "Errors of the engine that a person should look at.",
    ),
    counter(
        "fanwire_cluster_told_topics_total",
        Source::ClusterCases("reason", TOLD),
        "Topics whose clients were told of a break or of another epoch: nothing is lost (moved), messages are missing (gap), \
         the engine has forgotten messages (back), or nothing is known (unknown).",
    ),
    counter(
        "fanwire_cluster_given_up_messages_total",
        Source::Cluster(ClusterStat::GivenUp),
        "Messages that were sent to the engine, and nobody knows whether they were published.",
    ),
    counter(
        "fanwire_cluster_dropped_messages_total",
        Source::Cluster(ClusterStat::Dropped),
        "Messages that were never sent to the engine, because it was away for longer than cluster.outage_timeout.",
    ),
    counter(
        "fanwire_cluster_passed_messages_total",
        Source::Cluster(ClusterStat::Passed),
        "Messages of this relay's clients that were published where its own listeners were told of a break.",
    ),
    gauge(
        "fanwire_cluster_peers",
        Source::Engine(EngineStat::Peers),
        "Other relays that were heard through the engine lately.",
    ),
    gauge(
        "fanwire_cluster_mismatched_peers",
        Source::Engine(EngineStat::MismatchedPeers),
        "Those of them whose version or configuration does not fit to this relay.",
    ),
];

/// All metrics.
pub(crate) fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().chain(CLUSTER_METRICS)
}

#[cfg(test)]
mod tests;
