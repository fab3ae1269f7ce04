//! What an operator may set: the types, their defaults, and how each is spelled in YAML.
//!
//! Everybody reads these fields; only [`super::file`] makes them from text. Nothing here checks a range: a value that
//! fits its type is taken, and [`Config::validate`](super::Config::validate) judges it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::proxies::ProxySource;
use super::{lists, units};
use crate::http::bearer::Token;
use crate::http::origin::OriginPattern;

/// Everything an operator may set. Each part is optional in the file, and each default is that of [`Config::default`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping of sections such as `server:`"
)]
pub struct Config {
    /// Where clients connect, and how many.
    pub server: Server,
    /// What is relayed to whom.
    pub relay: Relay,
    /// How large an input may be, and how frequent.
    pub limits: Limits,
    /// What happens to clients that cannot keep up.
    pub slow_consumer: SlowConsumer,
    /// How dead clients are found.
    pub keepalive: Keepalive,
    /// How the relay stops.
    pub shutdown: Shutdown,
    /// Where the metrics are served.
    pub metrics: Metrics,
    /// What is logged.
    pub log: Log,
}

/// `server`: where clients connect, and how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `port: 8443`"
)]
pub struct Server {
    /// The address or name to listen on.
    #[serde(deserialize_with = "units::host")]
    pub host: String,
    /// The TCP port to listen on. 0: any free port, which the line at start names.
    #[serde(deserialize_with = "units::port")]
    pub port: u16,
    /// A Unix socket to listen on as well; a relative path starts at the working directory.
    pub unix_socket: Option<PathBuf>,
    /// The permission bits of the Unix socket's file.
    #[serde(with = "units::mode")]
    pub unix_socket_mode: u32,
    /// Worker threads, each with one shard. 0: one per available core.
    #[serde(deserialize_with = "units::count")]
    pub workers: usize,
    /// Up to how many connections a worker takes the clients of the topics that it owns, however few others have, before it is
    /// the next one's turn. 0: even a lone small topic is spread over all workers.
    #[serde(deserialize_with = "units::count")]
    pub fill_workers_to: usize,
    /// Connections served at once; more are answered 503. 0: derived from the limit on open files.
    #[serde(deserialize_with = "units::count")]
    pub max_connections: usize,
    /// Connections from one address served at once, an IPv6 address counted by its /64; more are answered 429. 0: no
    /// limit.
    #[serde(deserialize_with = "units::count")]
    pub max_connections_per_ip: usize,
    /// The longest time from accept to a complete upgrade request, not renewed by what arrives.
    #[serde(with = "units::duration")]
    pub handshake_timeout: Duration,
    /// `TCP_NOTSENT_LOWAT` in bytes; 0 leaves the kernel's default.
    #[serde(with = "units::size")]
    pub tcp_notsent_lowat: usize,
    /// The sites whose pages may connect. Empty: every site's. Programs that send no `Origin` always may.
    #[serde(with = "lists")]
    pub allowed_origins: Vec<OriginPattern>,
    /// Proxies that say whom they speak for.
    pub proxy_protocol: ProxyProtocol,
    /// Encryption.
    pub tls: Tls,
}

/// `server.proxy_protocol`: proxies that say whom they speak for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `from: [10.0.0.0/8]`"
)]
pub struct ProxyProtocol {
    /// Whose connections must begin with a header of the PROXY protocol, version 2.
    #[serde(with = "lists")]
    pub from: Vec<ProxySource>,
}

/// `server.tls`: encryption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `enabled: false`"
)]
pub struct Tls {
    /// Whether clients speak TLS.
    pub enabled: bool,
    /// The certificate chain in PEM, the server's own first; a relative path starts at the working directory. Read only
    /// when TLS is enabled, and again on SIGHUP.
    #[serde(alias = "certfile", alias = "certFile")]
    pub cert_file: Option<PathBuf>,
    /// The private key in PEM; a relative path starts at the working directory. Read only when TLS is enabled.
    #[serde(alias = "keyfile", alias = "keyFile")]
    pub key_file: Option<PathBuf>,
    /// Certificates in PEM of the authorities whose clients are served; every client must then have a certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// `relay`: what is relayed to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `topics: path`"
)]
pub struct Relay {
    /// What names a topic.
    #[serde(deserialize_with = "units::word")]
    pub topics: Topics,
    /// Whether a sender receives its own messages.
    pub echo: bool,
    /// The least time between two fan-outs of one topic. Zero: none.
    #[serde(with = "units::duration")]
    pub coalesce: Duration,
    /// Who may send messages.
    #[serde(deserialize_with = "units::word")]
    pub publish: Publish,
    /// The tokens that allow it, where `publish` demands one. Never printed.
    #[serde(with = "lists")]
    pub publish_tokens: Vec<Token>,
}

/// `relay.publish`: who may send messages. Everybody may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    /// Every client.
    Everyone,
    /// Clients that present one of `relay.publish_tokens`.
    Token,
    /// No client.
    Nobody,
}

/// `relay.topics`: what names a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topics {
    /// The URL path names the topic.
    Path,
    /// One topic, whatever the path.
    Single,
}

/// `limits`: how large an input may be, and how frequent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `max_message_bytes: 1MiB`"
)]
pub struct Limits {
    /// The largest message in bytes, the sum of its fragments; a larger one closes its sender with 1009.
    #[serde(with = "units::size")]
    pub max_message_bytes: usize,
    /// The largest head of an HTTP request in bytes; a larger one is answered 431.
    #[serde(with = "units::size")]
    pub max_header_bytes: usize,
    /// Messages that a client may send in a second, on average; one more closes it with 1008. 0: any number.
    #[serde(deserialize_with = "units::count")]
    pub messages_per_second: usize,
    /// Messages that a client may send at once. 0: [`Limits::DEFAULT_BURST_SECONDS`] of `messages_per_second`.
    #[serde(deserialize_with = "units::count")]
    pub burst: usize,
    /// The most that logs and what arrived in part may hold together, in bytes; those who cost most give way.
    #[serde(with = "units::size")]
    pub max_buffered_bytes: usize,
}

/// `slow_consumer`: what happens to clients that cannot keep up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `policy: disconnect`"
)]
pub struct SlowConsumer {
    /// What happens to a member that lags too far behind.
    #[serde(deserialize_with = "units::word")]
    pub policy: SlowConsumerPolicy,
    /// How many bytes a member may lag behind the head of its topic; it bounds the topic's log as well.
    #[serde(with = "units::size")]
    pub max_lag_bytes: usize,
    /// The longest time in which a member that is owed something accepts no byte.
    #[serde(with = "units::duration")]
    pub stall_timeout: Duration,
}

/// `slow_consumer.policy`: what happens to a member that lags too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowConsumerPolicy {
    /// Close 1013, counted.
    Disconnect,
    /// The cursor jumps to the head; what it skipped is counted.
    Drop,
    /// Publishers of the topic are no longer read while a member lags.
    Backpressure,
}

/// `keepalive`: how dead clients are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `ping_interval: 25s`"
)]
pub struct Keepalive {
    /// A client silent for so long is pinged. Zero: no pings.
    #[serde(with = "units::duration")]
    pub ping_interval: Duration,
    /// The longest wait for the answer to a ping.
    #[serde(with = "units::duration")]
    pub pong_timeout: Duration,
}

/// `shutdown`: how the relay stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `timeout: 10s`"
)]
pub struct Shutdown {
    /// The longest wait for clients to take what they are owed and to answer the Close. Zero: none.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

/// `metrics`: where the metrics are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `port: 9090`"
)]
pub struct Metrics {
    /// Whether they are served at all.
    pub enabled: bool,
    /// The address or name to listen on.
    #[serde(deserialize_with = "units::host")]
    pub host: String,
    /// The TCP port to listen on. 0: any free port, which the line at start names.
    #[serde(deserialize_with = "units::port")]
    pub port: u16,
}

/// `log`: what is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `level: info`"
)]
pub struct Log {
    /// The least urgent lines that are written.
    #[serde(deserialize_with = "units::word")]
    pub level: LogLevel,
    /// What a line looks like.
    #[serde(deserialize_with = "units::word")]
    pub format: LogFormat,
}

/// `log.level`: the least urgent lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The relay cannot go on.
    Error,
    /// A person should look.
    Warn,
    /// Changes of state.
    Info,
    /// Odd peers.
    Debug,
    /// Single messages; not compiled into release builds, where it equals `debug`.
    Trace,
}

/// `log.format`: what a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            host: "0.0.0.0".into(),
            port: 8443,
            unix_socket: None,
            unix_socket_mode: 0o660,
            workers: 0,
            fill_workers_to: 64,
            max_connections: 0,
            max_connections_per_ip: 0,
            handshake_timeout: Duration::from_secs(10),
            tcp_notsent_lowat: 16 << 10,
            allowed_origins: Vec::new(),
            proxy_protocol: ProxyProtocol::default(),
            tls: Tls::default(),
        }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Relay {
            topics: Topics::Path,
            echo: true,
            coalesce: Duration::from_millis(2),
            publish: Publish::Everyone,
            publish_tokens: Vec::new(),
        }
    }
}

impl Limits {
    /// How many seconds' messages the burst is by default. As long as most pauses of a connection or a machine: what was
    /// sent during one arrives at once behind it.
    pub const DEFAULT_BURST_SECONDS: usize = 5;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_message_bytes: 1 << 20,
            max_header_bytes: 8 << 10,
            messages_per_second: 0,
            burst: 0,
            max_buffered_bytes: 1 << 30,
        }
    }
}

impl Default for SlowConsumer {
    fn default() -> Self {
        SlowConsumer {
            policy: SlowConsumerPolicy::Disconnect,
            max_lag_bytes: 4 << 20,
            stall_timeout: Duration::from_secs(15),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(20),
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            timeout: Duration::from_secs(10),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            enabled: true,
            host: "127.0.0.1".into(),
            port: 9090,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
        }
    }
}
