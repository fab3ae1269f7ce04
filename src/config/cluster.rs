//! The section `cluster`: its types and its defaults.
//!
//! [`super::types`] has it. [`super::engines`] checks the values, and `server` reads the files that are named here.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine_url::EngineUrl;
use super::lists;
use super::units;

/// `cluster`: several relays as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `prefix: fanwire`"
)]
pub struct Cluster {
    /// The engines that put the messages of all relays into one order. Empty means a relay of its own.
    #[serde(deserialize_with = "lists::mappings")]
    pub engines: Vec<Engine>,
    /// The beginning of all names in the engines. Relays with the same prefix and the same engines are one.
    pub prefix: String,
    /// CA certificates in PEM that vouch for engines and Sentinels with `rediss://`.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain in PEM that the relay shows to engines.
    pub cert_file: Option<PathBuf>,
    /// Its private key in PEM.
    pub key_file: Option<PathBuf>,
    /// The most bytes of messages that are sent to the engine together. A larger message goes alone.
    #[serde(with = "units::size")]
    pub max_batch_bytes: usize,
    /// The bytes of each topic that the engine keeps, to bridge a break. Zero keeps none.
    #[serde(with = "units::size")]
    pub history: usize,
    /// The longest time that the engine keeps them.
    #[serde(with = "units::duration")]
    pub history_ttl: Duration,
    /// The engine forgets a topic that nobody uses after this time.
    #[serde(with = "units::duration")]
    pub topic_ttl: Duration,
    /// The longest time until a connection to an engine is usable.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// An engine that owes an answer and is silent for this time counts as gone.
    #[serde(with = "units::duration")]
    pub io_timeout: Duration,
    /// The time between two probes of an engine.
    #[serde(with = "units::duration")]
    pub probe_interval: Duration,
    /// The most quiet topics that are compared with the engine in a second, on each worker. Zero compares none.
    #[serde(deserialize_with = "units::count")]
    pub audit_rate: usize,
    /// The most bytes of a topic that are not back from the engine. Beyond it, the topic's senders wait.
    #[serde(with = "units::size")]
    pub pending_per_topic: usize,
    /// The most bytes of all topics that are not back from the engine. The workers share it.
    #[serde(with = "units::size")]
    pub pending: usize,
    /// After so long without the engine, senders that wait are closed, and messages that could not be sent are dropped.
    #[serde(with = "units::duration")]
    pub outage_timeout: Duration,
    /// The time over which clients are closed that cannot be told of a break in another way.
    #[serde(with = "units::duration")]
    pub close_spread: Duration,
    /// A relay that has been ready is not ready any more after so long without an engine. Zero means that it stays ready.
    #[serde(with = "units::duration")]
    pub unready_after: Duration,
}

/// An entry of `cluster.engines`: one server, or the master of one Sentinel group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as `{name: a, url: \"redis://10.0.0.1:6379\"}`"
)]
pub struct Engine {
    /// The name, by which topics are spread over the engines.
    pub name: String,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<EngineUrl>,
    /// The Sentinels that know the server.
    #[serde(default, with = "lists", skip_serializing_if = "Vec::is_empty")]
    pub sentinels: Vec<EngineUrl>,
    /// The Sentinels' name of the server, as the host of a URL: `redis://user:password@mymaster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<EngineUrl>,
    /// A file with the server's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A file with the Sentinels' password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel_password_file: Option<PathBuf>,
}

impl lists::Mapping<'_> for Engine {
    const LIST: &'static str = "a list such as `[{name: a, url: \"redis://10.0.0.1:6379\"}]`";
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            engines: Vec::new(),
            prefix: "fanwire".into(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            max_batch_bytes: 64 << 10,
            history: 256 << 10,
            history_ttl: Duration::from_mins(1),
            topic_ttl: Duration::from_hours(1),
            connect_timeout: Duration::from_secs(1),
            io_timeout: Duration::from_secs(2),
            probe_interval: Duration::from_secs(1),
            audit_rate: 1000,
            pending_per_topic: 1 << 20,
            pending: 64 << 20,
            outage_timeout: Duration::from_secs(10),
            close_spread: Duration::from_secs(2),
            unready_after: Duration::ZERO,
        }
    }
}

impl Cluster {
    /// Whether there are engines.
    pub fn is_on(&self) -> bool {
        !self.engines.is_empty()
    }

    /// Whether an engine or a Sentinel speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        let mut engines = self.engines.iter();
        engines.any(|engine| engine.urls().any(EngineUrl::is_tls))
    }
}

impl Engine {
    /// The URLs of the server and of its Sentinels.
    fn urls(&self) -> impl Iterator<Item = &EngineUrl> {
        let server = self.url.iter().chain(&self.master);
        server.chain(&self.sentinels)
    }
}
