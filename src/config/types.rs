//! The keys of the configuration: their types and their defaults.
//!
//! The whole relay reads these fields; only [`super::file`] parses them from text. Nothing here checks a range: a value
//! that fits its type is accepted, and [`Config::validate`](super::Config::validate) checks it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::choices::{Publish, SlowConsumerPolicy, Subscribe};
use super::cluster::Cluster;
use super::proxies::ProxySource;
use super::rules::TopicRule;
use super::{lists, units};
use crate::http::bearer::Token;
use crate::http::origin::OriginPattern;
use crate::ws::subprotocol::Subprotocol;

/// The whole configuration. Every part is optional in the file; [`Config::default`] has the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping of sections such as `server:`"
)]
pub struct Config {
    /// The section `server`.
    pub server: Server,
    /// The section `relay`.
    pub relay: Relay,
    /// The section `access`.
    pub access: Access,
    /// The section `limits`.
    pub limits: Limits,
    /// The section `slow_consumer`.
    pub slow_consumer: SlowConsumer,
    /// The section `keepalive`.
    pub keepalive: Keepalive,
    /// The section `history`.
    pub history: History,
    /// The list `topics`: rules for some topics.
    #[serde(deserialize_with = "lists::mappings")]
    pub topics: Vec<TopicRule>,
    /// The section `http`.
    pub http: Http,
    /// The section `compression`.
    pub compression: Compression,
    /// The section `cluster`.
    pub cluster: Cluster,
    /// The section `shutdown`.
    pub shutdown: Shutdown,
    /// The section `metrics`.
    pub metrics: Metrics,
    /// The section `log`.
    pub log: Log,
}

/// `server`: the listeners and their limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `port: 8443`"
)]
pub struct Server {
    /// The address or host name to listen on.
    #[serde(deserialize_with = "units::host")]
    pub host: String,
    /// The TCP port to listen on. 0 picks a free one, which the `ready` log line names.
    #[serde(deserialize_with = "units::port")]
    pub port: u16,
    /// A Unix socket to listen on as well. A relative path starts at the working directory.
    pub unix_socket: Option<PathBuf>,
    /// The permission bits of the Unix socket's file.
    #[serde(with = "units::mode")]
    pub unix_socket_mode: u32,
    /// The group of the Unix socket's file, by name or number. Without it, the file has the group of the process.
    #[serde(deserialize_with = "units::group::deserialize")]
    pub unix_socket_group: Option<String>,
    /// The number of worker threads, each with one shard. 0 is one per available core.
    #[serde(deserialize_with = "units::count")]
    pub workers: usize,
    /// The number of connections up to which a worker takes the clients of its own topics, before the others share them.
    /// 0 spreads even a single small topic over all workers.
    #[serde(deserialize_with = "units::count")]
    pub fill_workers_to: usize,
    /// The most connections at once; more are answered 503. 0 derives it from the limit on open files.
    #[serde(deserialize_with = "units::count")]
    pub max_connections: usize,
    /// The most connections at once from one address; more are answered 429. An IPv6 address counts by its /64. 0 is no
    /// limit.
    #[serde(deserialize_with = "units::count")]
    pub max_connections_per_ip: usize,
    /// The longest time from accept to a complete request, and from the first byte of a later one. Received bytes do not
    /// extend it.
    #[serde(with = "units::duration")]
    pub handshake_timeout: Duration,
    /// `TCP_NOTSENT_LOWAT` in bytes; 0 is the kernel's default.
    #[serde(with = "units::size")]
    pub tcp_notsent_lowat: usize,
    /// The sites whose pages may connect; empty allows all. Programs that send no `Origin` are always allowed.
    #[serde(with = "lists")]
    pub allowed_origins: Vec<OriginPattern>,
    /// The subprotocols that the relay may select, in its order; empty selects none.
    #[serde(with = "lists")]
    pub subprotocols: Vec<Subprotocol>,
    /// The path of health checks on the relay's own port. It is not a topic.
    pub health_path: Option<String>,
    /// Trusted proxies that name their clients in `X-Forwarded-For` or `Forwarded`.
    #[serde(with = "lists")]
    pub trusted_proxies: Vec<ProxySource>,
    /// Trusted proxies that name their clients before the first byte.
    pub proxy_protocol: ProxyProtocol,
    /// Encryption.
    pub tls: Tls,
}

/// `server.proxy_protocol`: trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `from: [10.0.0.0/8]`"
)]
pub struct ProxyProtocol {
    /// The proxies whose connections must begin with a PROXY header, version 1 or 2.
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
    /// The certificate chain in PEM, with the server's own certificate first. A relative path starts at the working
    /// directory. Read only if TLS is enabled, and again on SIGHUP.
    #[serde(alias = "certfile", alias = "certFile")]
    pub cert_file: Option<PathBuf>,
    /// The private key in PEM. A relative path starts at the working directory. Read only if TLS is enabled, and again
    /// on SIGHUP.
    #[serde(alias = "keyfile", alias = "keyFile")]
    pub key_file: Option<PathBuf>,
    /// CA certificates in PEM. If set, every client must have a certificate from one of these authorities.
    pub client_ca_file: Option<PathBuf>,
}

/// `relay`: topics, and the permission to publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `topics: path`"
)]
pub struct Relay {
    /// Whether the URL path names the topic.
    #[serde(deserialize_with = "units::word")]
    pub topics: Topics,
    /// Whether senders receive their own messages.
    pub echo: bool,
    /// The shortest time between two fan-outs of one topic. Zero sends every message at once.
    #[serde(with = "units::duration")]
    pub coalesce: Duration,
    /// The clients that may send messages.
    #[serde(deserialize_with = "units::word")]
    pub publish: Publish,
    /// The valid tokens if `publish` is `token`. Never printed.
    #[serde(with = "lists")]
    pub publish_tokens: Vec<Token>,
}

/// `relay.topics`: whether the URL path names the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topics {
    /// The URL path names the topic.
    Path,
    /// There is one topic, whatever the path.
    Single,
}

/// `access`: tokens with grants, and what they are needed for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `subscribe: token`"
)]
pub struct Access {
    /// The clients that may hear a topic.
    #[serde(deserialize_with = "units::word")]
    pub subscribe: Subscribe,
    /// The clients that may send messages. `relay.publish` is the older name; only one of them may differ from `everyone`.
    #[serde(deserialize_with = "units::word")]
    pub publish: Publish,
    /// The keys that verify tokens. Read at the start, and again on SIGHUP.
    #[serde(deserialize_with = "lists::mappings")]
    pub keys: Vec<TokenKey>,
    /// A file with more keys, a JSON Web Key Set. Read at the start, and again on SIGHUP.
    pub jwks_file: Option<PathBuf>,
    /// The value that the claim `iss` of a token must have.
    pub issuer: Option<String>,
    /// The value that the claim `aud` of a token must have, or must have in its list.
    pub audience: Option<String>,
    /// The name of the cookie that carries a token. It needs `server.allowed_origins`.
    pub cookie: Option<String>,
    /// Whether `?token=` may carry a token.
    pub token_in_query: bool,
    /// Whether `Fanwire-Grants` of the proxies in `server.trusted_proxies` is believed.
    pub grants_header: bool,
}

/// An entry of `access.keys`: a file with a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as `{alg: ES256, file: token.pem}`"
)]
pub struct TokenKey {
    /// The only algorithm that the key is for.
    #[serde(deserialize_with = "units::word")]
    pub alg: TokenAlgorithm,
    /// The file: a secret for HS256, and otherwise a public key in PEM. A relative path starts at the working directory.
    pub file: PathBuf,
    /// The name by which tokens choose the key. A key without a name is for tokens that name no other key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

impl lists::Mapping<'_> for TokenKey {
    const LIST: &'static str = "a list such as `[{alg: ES256, file: token.pem}]`";
}

/// The algorithm of a token's signature (RFC 7518, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// Ed25519 (RFC 8037).
    EdDSA,
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `limits`: limits on the size and rate of input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `max_message_bytes: 1MiB`"
)]
pub struct Limits {
    /// The largest message in bytes, all fragments together, and the largest body of a POST. A larger message closes its
    /// sender with 1009; a larger body is answered 413.
    #[serde(with = "units::size")]
    pub max_message_bytes: usize,
    /// The largest HTTP request head in bytes. A larger one is answered 431.
    #[serde(with = "units::size")]
    pub max_header_bytes: usize,
    /// The average number of messages per second that a client may send. Beyond it, the client is closed with 1008, and
    /// a POST is answered 429. 0 is no limit.
    #[serde(deserialize_with = "units::count")]
    pub messages_per_second: usize,
    /// The number of messages that a client may send at once. 0 is the messages of 5 seconds.
    #[serde(deserialize_with = "units::count")]
    pub burst: usize,
    /// The average number of control frames per second that a client may send, and of fragments without payload. Beyond it,
    /// the client is closed with 1008. 0 is no limit. Ten times as many may come at once.
    #[serde(deserialize_with = "units::count")]
    pub control_frames_per_second: usize,
    /// The most memory for logs and incomplete messages, in bytes. Beyond it, the clients that use most are
    /// disconnected. 0 derives it from the memory that the process may use, when the relay starts.
    #[serde(with = "units::size")]
    pub max_buffered_bytes: usize,
}

/// `slow_consumer`: the treatment of slow clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `policy: disconnect`"
)]
pub struct SlowConsumer {
    /// The treatment of a client that lags too far behind.
    #[serde(deserialize_with = "units::word")]
    pub policy: SlowConsumerPolicy,
    /// The most bytes that a client may lag behind its topic. It also limits the topic's log.
    #[serde(with = "units::size")]
    pub max_lag_bytes: usize,
    /// The longest time that a client with pending messages may accept no byte.
    #[serde(with = "units::duration")]
    pub stall_timeout: Duration,
    /// The longest time that a client has to take its Close and to answer it.
    #[serde(with = "units::duration")]
    pub close_timeout: Duration,
}

/// `keepalive`: the detection of dead clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `ping_interval: 25s`"
)]
pub struct Keepalive {
    /// A client that has sent nothing for this time, or was sent nothing, is pinged. Zero sends no pings.
    #[serde(with = "units::duration")]
    pub ping_interval: Duration,
    /// The longest wait for an answer to a ping.
    #[serde(with = "units::duration")]
    pub pong_timeout: Duration,
}

/// `history`: how much of each topic is kept for clients that come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `max_age: 2m`"
)]
pub struct History {
    /// The longest time that a message is kept. Zero keeps none.
    #[serde(with = "units::duration")]
    pub max_age: Duration,
    /// The most that the messages of one topic may take in memory, in bytes.
    #[serde(with = "units::size")]
    pub max_bytes: usize,
    /// The most messages that are kept of one topic. 0 is no limit.
    #[serde(deserialize_with = "units::count")]
    pub max_messages: usize,
    /// The file in which the history waits for the next process while the relay is restarted. A relative path starts at the
    /// working directory.
    pub file: Option<PathBuf>,
}

/// `http`: answers to requests that are not upgrades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `page: loopback`"
)]
pub struct Http {
    /// The browsers that get a page to try a topic.
    #[serde(deserialize_with = "units::word")]
    pub page: Page,
}

/// `http.page`: the browsers that get a page to try a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Page {
    /// Those on this machine.
    Loopback,
    /// All.
    On,
    /// None.
    Off,
}

/// `compression`: messages in fewer bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `enabled: true`"
)]
pub struct Compression {
    /// Whether clients may send compressed messages, and get them.
    pub enabled: bool,
    /// The members of a topic that must take compressed messages before the relay compresses.
    #[serde(deserialize_with = "units::count")]
    pub min_members: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Compression {
            enabled: false,
            min_members: 20,
        }
    }
}

/// `shutdown`: the end of the relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `timeout: 10s`"
)]
pub struct Shutdown {
    /// The time from the signal to the beginning of the drain. Meanwhile the relay is not ready, but goes on.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// The longest time that the rest of the shutdown takes, all in all. Zero does not wait for clients.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// The time over which clients are closed, one after the other in a random order. Zero closes all at once.
    #[serde(with = "units::duration")]
    pub spread: Duration,
}

/// `metrics`: the metrics port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `port: 9090`"
)]
pub struct Metrics {
    /// Whether the metrics are served.
    pub enabled: bool,
    /// The address or host name to listen on.
    #[serde(deserialize_with = "units::host")]
    pub host: String,
    /// The TCP port to listen on. 0 picks a free one, which the `ready` log line names.
    #[serde(deserialize_with = "units::port")]
    pub port: u16,
}

/// `log`: the log on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `level: info`"
)]
pub struct Log {
    /// The lowest level that is written.
    #[serde(deserialize_with = "units::word")]
    pub level: LogLevel,
    /// The format of a line.
    #[serde(deserialize_with = "units::word")]
    pub format: LogFormat,
}

/// `log.level`: the lowest level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The relay cannot continue.
    Error,
    /// A person should look.
    Warn,
    /// Changes of the relay's state.
    Info,
    /// Unusual behaviour of clients.
    Debug,
    /// Single messages. Release builds have none, so there it equals `debug`.
    Trace,
}

/// `log.format`: the format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
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
            unix_socket_group: None,
            workers: 0,
            fill_workers_to: 64,
            max_connections: 0,
            max_connections_per_ip: 0,
            handshake_timeout: Duration::from_secs(10),
            tcp_notsent_lowat: 16 << 10,
            allowed_origins: Vec::new(),
            subprotocols: Vec::new(),
            health_path: None,
            trusted_proxies: Vec::new(),
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

impl Default for Access {
    fn default() -> Self {
        Access {
            subscribe: Subscribe::Everyone,
            publish: Publish::Everyone,
            keys: Vec::new(),
            jwks_file: None,
            issuer: None,
            audience: None,
            cookie: None,
            token_in_query: false,
            grants_header: false,
        }
    }
}

impl Limits {
    /// The default burst in seconds of the average rate. It covers most pauses of a connection or a machine, after
    /// which the messages of the pause arrive together.
    pub(crate) const DEFAULT_BURST_SECONDS: usize = 5;

    /// The most that is derived for `max_buffered_bytes`. Stalled clients of one relay should not fill a large machine.
    pub(crate) const MOST_DERIVED_BYTES: usize = 1 << 30;

    /// The control frames that may come at once, in seconds of the average rate.
    pub(crate) const CONTROL_BURST_SECONDS: usize = 10;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_message_bytes: 1 << 20,
            max_header_bytes: 8 << 10,
            messages_per_second: 0,
            burst: 0,
            control_frames_per_second: 200,
            max_buffered_bytes: 0,
        }
    }
}

impl Default for SlowConsumer {
    fn default() -> Self {
        SlowConsumer {
            policy: SlowConsumerPolicy::Disconnect,
            max_lag_bytes: 4 << 20,
            stall_timeout: Duration::from_secs(15),
            close_timeout: Duration::from_secs(5),
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

impl Default for History {
    fn default() -> Self {
        History {
            max_age: Duration::ZERO,
            max_bytes: 1 << 20,
            max_messages: 0,
            file: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            page: Page::Loopback,
        }
    }
}

impl Shutdown {
    /// The most time that the last steps of a shutdown take, when all connections are gone: threads stop, and the last lines
    /// of the log are written.
    pub(crate) const LAST_STEPS: Duration = Duration::from_secs(2);

    /// The time that clients have from the beginning of the shutdown. The last steps have the rest of the timeout, but at most
    /// a quarter of it.
    pub(crate) fn time_for_clients(&self) -> Duration {
        self.timeout.saturating_sub(self.last_steps())
    }

    /// The longest wait for the last lines of the log, when all threads have stopped. It is a quarter of the last steps, but
    /// long enough for a reader that is only slow.
    pub fn time_for_last_lines(&self) -> Duration {
        (self.last_steps() / 4).max(Duration::from_millis(250))
    }

    fn last_steps(&self) -> Duration {
        Shutdown::LAST_STEPS.min(self.timeout / 4)
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            delay: Duration::ZERO,
            timeout: Duration::from_secs(10),
            spread: Duration::ZERO,
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
