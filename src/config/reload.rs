//! The verdict on each key at a reload: the table, and the differences between two configurations.
//!
//! The server asks for them when it has read its configuration again. A test compares the table with the keys that exist, so a
//! new key needs a row. `docs/operations.md` shows the table.

use serde_yaml::Value;

use super::types::Config;

/// The time at which another value of a key is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At once.
    AtOnce,
    /// For requests that come after the reload.
    NextRequest,
    /// For topics that come into being after the reload. A topic that lives keeps the old value.
    NextLife,
    /// After a restart. Until then, the old value stays in force.
    Restart,
}

impl Verdict {
    /// As the table and the log say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::AtOnce => "at once",
            Verdict::NextRequest => "at the next request",
            Verdict::NextLife => "at a topic's next life",
            Verdict::Restart => "at a restart",
        }
    }
}

/// The verdict on a key.
struct Row {
    key: &'static str,
    verdict: Verdict,
    /// The consequence for those who are connected.
    note: &'static str,
    differs: fn(&Config, &Config) -> bool,
    /// Gives the first configuration the value of the second.
    copy: fn(&mut Config, &Config),
}

macro_rules! row {
    ($first:ident $(. $rest:ident)*, $verdict:ident, $note:literal) => {
        Row {
            key: concat!(stringify!($first) $(, ".", stringify!($rest))*),
            verdict: Verdict::$verdict,
            note: $note,
            differs: |one, other| one.$first$(.$rest)* != other.$first$(.$rest)*,
            copy: |to, from| to.$first$(.$rest)*.clone_from(&from.$first$(.$rest)*),
        }
    };
}

/// Every key, in the order of the file.
const ROWS: &[Row] = &[
    row!(server.host, Restart, ""),
    row!(server.port, Restart, ""),
    row!(server.unix_socket, Restart, ""),
    row!(server.unix_socket_mode, Restart, ""),
    row!(server.unix_socket_group, Restart, ""),
    row!(server.workers, Restart, ""),
    row!(
        server.fill_workers_to,
        AtOnce,
        "Nobody moves who is connected."
    ),
    row!(
        server.max_connections,
        AtOnce,
        "Nobody is closed. New clients are refused until there are fewer."
    ),
    row!(
        server.max_connections_per_ip,
        AtOnce,
        "Nobody is closed. Connections from a time without a limit do not count."
    ),
    row!(
        server.handshake_timeout,
        AtOnce,
        "A request that is on its way keeps its time."
    ),
    row!(server.tcp_notsent_lowat, AtOnce, "For new connections."),
    row!(server.allowed_origins, NextRequest, "Nobody is closed."),
    row!(server.subprotocols, NextRequest, "Nobody is closed."),
    row!(
        server.health_path,
        NextRequest,
        "Clients that use this path as a topic stay."
    ),
    row!(
        server.trusted_proxies,
        NextRequest,
        "A connection from a proxy stays what it was when it came."
    ),
    row!(server.proxy_protocol.from, AtOnce, "For new connections."),
    row!(server.tls.enabled, Restart, ""),
    row!(
        server.tls.cert_file,
        AtOnce,
        "For new connections. The file is read again in any case."
    ),
    row!(
        server.tls.key_file,
        AtOnce,
        "For new connections. The file is read again in any case."
    ),
    row!(
        server.tls.client_ca_file,
        AtOnce,
        "For new connections. The file is read again in any case."
    ),
    row!(relay.topics, Restart, ""),
    row!(
        relay.echo,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        relay.coalesce,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        relay.publish,
        NextRequest,
        "A client that is connected keeps its right."
    ),
    row!(
        relay.publish_tokens,
        NextRequest,
        "A client that is connected keeps its right."
    ),
    row!(
        access.subscribe,
        NextRequest,
        "A client that is connected keeps its right."
    ),
    row!(
        access.publish,
        NextRequest,
        "A client that is connected keeps its right."
    ),
    row!(
        access.keys,
        NextRequest,
        "A client that is connected stays until its token ends. The files are read again in any case."
    ),
    row!(
        access.jwks_file,
        NextRequest,
        "A client that is connected stays until its token ends. The file is read again in any case."
    ),
    row!(
        access.issuer,
        NextRequest,
        "A client that is connected stays until its token ends."
    ),
    row!(
        access.audience,
        NextRequest,
        "A client that is connected stays until its token ends."
    ),
    row!(access.cookie, NextRequest, ""),
    row!(access.token_in_query, NextRequest, ""),
    row!(
        access.grants_header,
        NextRequest,
        "A client that is connected stays until its grants end."
    ),
    row!(
        limits.max_message_bytes,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        limits.max_header_bytes,
        AtOnce,
        "Also for a request that is on its way."
    ),
    row!(
        limits.messages_per_second,
        AtOnce,
        "Everybody begins with a whole burst."
    ),
    row!(limits.burst, AtOnce, "Everybody begins with a whole burst."),
    row!(
        limits.control_frames_per_second,
        AtOnce,
        "Everybody begins with a whole burst."
    ),
    row!(
        limits.max_buffered_bytes,
        AtOnce,
        "If more is held, kept messages give way first, and then the clients that hold most (1013)."
    ),
    row!(
        slow_consumer.policy,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        slow_consumer.max_lag_bytes,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        slow_consumer.stall_timeout,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        slow_consumer.close_timeout,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        keepalive.ping_interval,
        AtOnce,
        "Also for those who are connected."
    ),
    row!(keepalive.pong_timeout, AtOnce, "For the next ping."),
    row!(
        history.max_age,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        history.max_bytes,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(
        history.max_messages,
        NextLife,
        "A topic that has clients or kept messages keeps its value."
    ),
    row!(history.file, Restart, ""),
    row!(
        topics,
        NextLife,
        "Rights hold at the next request. A topic that has clients or kept messages keeps the rest."
    ),
    row!(http.page, NextRequest, ""),
    row!(
        compression.enabled,
        NextRequest,
        "Connections keep what they have agreed on."
    ),
    row!(compression.min_members, NextLife, ""),
    row!(cluster.engines, Restart, ""),
    row!(cluster.prefix, Restart, ""),
    row!(cluster.ca_file, Restart, ""),
    row!(cluster.cert_file, Restart, ""),
    row!(cluster.key_file, Restart, ""),
    row!(cluster.max_batch_bytes, Restart, ""),
    row!(cluster.history, Restart, ""),
    row!(cluster.history_ttl, Restart, ""),
    row!(cluster.topic_ttl, Restart, ""),
    row!(cluster.connect_timeout, Restart, ""),
    row!(cluster.io_timeout, Restart, ""),
    row!(cluster.probe_interval, Restart, ""),
    row!(cluster.audit_rate, Restart, ""),
    row!(cluster.pending_per_topic, Restart, ""),
    row!(cluster.pending, Restart, ""),
    row!(cluster.outage_timeout, Restart, ""),
    row!(cluster.close_spread, Restart, ""),
    row!(cluster.unready_after, Restart, ""),
    row!(shutdown.delay, AtOnce, "Not once a shutdown has begun."),
    row!(shutdown.timeout, AtOnce, "Not once a shutdown has begun."),
    row!(shutdown.spread, AtOnce, "Not once a shutdown has begun."),
    row!(metrics.enabled, Restart, ""),
    row!(metrics.host, Restart, ""),
    row!(metrics.port, Restart, ""),
    row!(log.level, AtOnce, ""),
    row!(log.format, Restart, ""),
];

/// The most characters of a value in the log.
const MOST_SHOWN: usize = 160;

/// A key whose value is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, with its sections.
    pub key: &'static str,
    /// The old value, as far as it may be shown.
    pub from: String,
    /// The new value, likewise.
    pub to: String,
    /// The time at which the new value is in force.
    pub verdict: Verdict,
}

impl Config {
    /// The keys that have another value in `new`, in the order of the file.
    pub fn changes(&self, new: &Config) -> Vec<Change> {
        let differing = ROWS.iter().filter(|row| (row.differs)(self, new));
        let values = [self, new].map(|config| serde_yaml::to_value(config).unwrap_or_default());
        differing
            .map(|row| Change {
                key: row.key,
                from: shown(&values[0], row.key),
                to: shown(&values[1], row.key),
                verdict: row.verdict,
            })
            .collect()
    }

    /// The configuration that is in force when `new` has been read: `new`, but what needs a restart is as it was.
    #[must_use]
    pub fn after_reload(&self, new: &Config) -> Config {
        let mut config = new.clone();
        for row in ROWS {
            if row.verdict == Verdict::Restart {
                (row.copy)(&mut config, self);
            }
        }
        config
    }
}

/// A value as the log shows it. Secrets are written as a placeholder, as everywhere.
fn shown(config: &Value, key: &str) -> String {
    let value = key
        .split('.')
        .try_fold(config, |value, name| value.get(name));
    let text = match value {
        None => return "?".into(),
        Some(Value::Sequence(list)) if list.is_empty() => "[]".into(),
        Some(Value::Sequence(list)) => {
            let entries = list.iter().map(line_of);
            format!("[{}]", entries.collect::<Vec<_>>().join(", "))
        }
        Some(value) => line_of(value),
    };
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A value on one line.
fn line_of(value: &Value) -> String {
    let text = serde_yaml::to_string(value).unwrap_or_default();
    text.trim_end().replace('\n', ", ")
}

/// Every key with what a reload does, as a table for `docs/operations.md`.
pub fn reload_table() -> String {
    let mut table = String::from(
        "| key | a new value is in force | those who are connected |\n|---|---|---|\n",
    );
    for row in ROWS {
        let line = format!(
            "| `{}` | {} | {} |\n",
            row.key,
            row.verdict.as_str(),
            row.note
        );
        table.push_str(&line);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::suggest;

    #[test]
    fn every_key_has_its_verdict_in_the_order_of_the_file() {
        let keys: Vec<String> = suggest::defaults()
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        let rows: Vec<&str> = ROWS.iter().map(|row| row.key).collect();
        assert_eq!(rows, keys, "a new key needs a row in src/config/reload.rs");
    }

    /// A configuration in which every key has another value. It need not be valid.
    fn other() -> Config {
        const OTHER: &str = r#"
server:
  {host: a, port: 1, unix_socket: s, unix_socket_mode: "0600", unix_socket_group: g, workers: 1, fill_workers_to: 1,
  max_connections: 1, max_connections_per_ip: 1, handshake_timeout: 1s, tcp_notsent_lowat: 1MiB,
  allowed_origins: [a.example.org], subprotocols: [x], health_path: /h, trusted_proxies: [10.0.0.0/8],
  proxy_protocol: {from: [10.0.0.0/8]}, tls: {enabled: true, cert_file: c, key_file: k, client_ca_file: a}}
relay: {topics: single, echo: false, coalesce: 1ms, publish: token, publish_tokens: [tokentokentokentoken]}
access:
  {subscribe: token, publish: token, keys: [{alg: ES256, file: f}], jwks_file: j, issuer: i, audience: a, cookie: c,
  token_in_query: true, grants_header: true}
limits:
  {max_message_bytes: 2MiB, max_header_bytes: 16KiB, messages_per_second: 1, burst: 1, control_frames_per_second: 1,
  max_buffered_bytes: 1GiB}
slow_consumer: {policy: drop, max_lag_bytes: 8MiB, stall_timeout: 1s, close_timeout: 3s}
keepalive: {ping_interval: 1s, pong_timeout: 1s}
history: {max_age: 1m, max_bytes: 2MiB, max_messages: 1, file: f}
topics: [{match: /a, publish: nobody}]
http: {page: "on"}
compression: {enabled: true, min_members: 1}
cluster:
  {engines: [{name: a, url: "redis://127.0.0.1"}], prefix: p, ca_file: c, cert_file: c, key_file: k, max_batch_bytes: 1KiB,
  history: 1KiB, history_ttl: 2s, topic_ttl: 20s, connect_timeout: 3s, io_timeout: 3s, probe_interval: 3s, audit_rate: 1,
  pending_per_topic: 2KiB, pending: 2KiB, outage_timeout: 3s, close_spread: 3s, unready_after: 3s}
shutdown: {delay: 1s, timeout: 20s, spread: 1s}
metrics: {enabled: false, host: a, port: 1}
log: {level: debug, format: json}
"#;
        serde_yaml::from_str(OTHER).unwrap()
    }

    #[test]
    fn every_key_is_compared_and_those_that_need_a_restart_stay_as_they_were() {
        let (old, new) = (Config::default(), other());
        let changes = old.changes(&new);
        assert_eq!(changes.len(), ROWS.len(), "add the new key to `other`");
        let reloaded = old.after_reload(&new);
        for (row, change) in ROWS.iter().zip(changes) {
            let stays = change.verdict == Verdict::Restart;
            assert_eq!((row.differs)(&reloaded, &new), stays, "{}", row.key);
            assert_eq!((row.differs)(&reloaded, &old), !stays, "{}", row.key);
        }
    }

    #[test]
    fn a_change_is_told_with_both_values() {
        let old = Config::default();
        let mut new = old.clone();
        new.limits.max_message_bytes = 64 << 10;
        new.server.workers = 2;
        let told: Vec<String> = old
            .changes(&new)
            .iter()
            .map(|change| {
                let when = change.verdict.as_str();
                format!("{}: {} → {}, {when}", change.key, change.from, change.to)
            })
            .collect();
        assert_eq!(
            told,
            [
                "server.workers: 0 → 2, at a restart",
                "limits.max_message_bytes: 1MiB → 64KiB, at a topic's next life",
            ]
        );
        assert_eq!(new.changes(&new.clone()), []);
    }

    #[test]
    fn another_token_is_a_change_and_is_not_shown() {
        let with = |token: &str| {
            let text = format!("relay: {{publish: token, publish_tokens: [{token}]}}");
            Config::from_yaml(&text, "test").unwrap()
        };
        let changes = with("secretsecretsecret1").changes(&with("secretsecretsecret2"));
        assert_eq!(changes.len(), 1);
        assert!(
            !format!("{changes:?}").contains("secretsecret"),
            "{changes:?}"
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let mut new = Config::default();
        new.server.host = "ä".repeat(500);
        let changes = Config::default().changes(&new);
        assert_eq!(changes[0].to.chars().count(), MOST_SHOWN + 1);
    }
}
