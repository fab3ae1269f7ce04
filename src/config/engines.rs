//! Checks of the section `cluster`. [`super::bounds`] checks the other keys.
//!
//! Whether the files exist is seen when they are read.

use std::time::Duration;

use super::choices::SlowConsumerPolicy;
use super::cluster::{Cluster, Engine};
use super::error::ConfigError;
use super::range::check_range;
use super::types::Config;
use super::units::{Bytes, Span};

/// The most engines. Each worker has two connections to each.
const MAX_ENGINES: usize = 64;
/// The most Sentinels of an engine. They are asked one after the other.
const MAX_SENTINELS: usize = 16;
/// The longest name and the longest prefix. They are a part of each key.
const MAX_NAME_BYTES: usize = 64;
/// The largest `limits.max_message_bytes` with engines: a script of the engine copies each batch several times.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The largest `cluster.history`.
const MAX_HISTORY_BYTES: usize = 64 << 20;
/// The largest `cluster.pending`.
const MAX_PENDING_BYTES: usize = 1 << 40;
/// The smallest size of each key.
const MIN_BYTES: usize = 1 << 10;
/// The largest `cluster.audit_rate`.
const MAX_AUDIT_RATE: usize = 1_000_000;

impl Config {
    pub(super) fn validate_cluster(&self) -> Result<(), ConfigError> {
        let cluster = &self.cluster;
        check_prefix(&cluster.prefix)?;
        check_sizes(cluster)?;
        check_times(cluster)?;
        if !cluster.is_on() {
            return Ok(());
        }
        check_engines(&cluster.engines)?;
        check_tls(cluster)?;
        self.check_rest_with_engines()
    }

    /// Refuses what does not go together with engines, in general or in a rule for topics.
    pub(super) fn check_rest_with_engines(&self) -> Result<(), ConfigError> {
        if !self.cluster.is_on() {
            return Ok(());
        }
        if self.slow_consumer.policy == SlowConsumerPolicy::Backpressure {
            return Err(wrong(
                "slow_consumer.policy",
                "it is backpressure, and cluster.engines are set: this relay cannot hold the senders on other relays",
                "use disconnect or drop",
            ));
        }
        if self.history.file.is_some() {
            return Err(wrong(
                "history.file",
                "a file is named, and cluster.engines are set: other relays go on while this one is away, so the file would \
                 have a gap",
                "set history.file to null; clients resume on another relay meanwhile",
            ));
        }
        let bytes = self.limits.max_message_bytes;
        if bytes > MAX_MESSAGE_BYTES {
            return Err(wrong(
                "limits.max_message_bytes",
                format!(
                    "{} is too large while cluster.engines are set",
                    Bytes(bytes)
                ),
                format!("use at most {}", Bytes(MAX_MESSAGE_BYTES)),
            ));
        }
        if self.cluster.pending < self.cluster.pending_per_topic {
            return Err(wrong(
                "cluster.pending",
                format!(
                    "{} is less than cluster.pending_per_topic ({})",
                    Bytes(self.cluster.pending),
                    Bytes(self.cluster.pending_per_topic)
                ),
                "raise it, or lower cluster.pending_per_topic",
            ));
        }
        Ok(())
    }
}

fn check_prefix(prefix: &str) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    let is_right = (1..=MAX_NAME_BYTES).contains(&prefix.len()) && prefix.bytes().all(is_plain);
    if is_right {
        return Ok(());
    }
    let problem = "it is empty, too long, or has characters that mean something to the engine";
    let fix = format!("use 1 to {MAX_NAME_BYTES} letters, digits and -_.:/");
    Err(wrong("cluster.prefix", problem, fix))
}

fn check_sizes(cluster: &Cluster) -> Result<(), ConfigError> {
    if cluster.history > 0 {
        check_range(
            "cluster.history",
            Bytes(cluster.history),
            Bytes(MIN_BYTES)..=Bytes(MAX_HISTORY_BYTES),
        )
        .map_err(|error| error.or("0 to keep nothing in the engine"))?;
    }
    for (key, bytes, most) in [
        (
            "cluster.max_batch_bytes",
            cluster.max_batch_bytes,
            MAX_MESSAGE_BYTES,
        ),
        (
            "cluster.pending_per_topic",
            cluster.pending_per_topic,
            MAX_PENDING_BYTES,
        ),
        ("cluster.pending", cluster.pending, MAX_PENDING_BYTES),
    ] {
        check_range(key, Bytes(bytes), Bytes(MIN_BYTES)..=Bytes(most))?;
    }
    check_range("cluster.audit_rate", cluster.audit_rate, 0..=MAX_AUDIT_RATE)
}

fn check_times(cluster: &Cluster) -> Result<(), ConfigError> {
    let (ms, secs) = (Duration::from_millis, Duration::from_secs);
    let hour = Duration::from_hours(1);
    for (key, value, least, most) in [
        ("history_ttl", cluster.history_ttl, secs(1), 24 * hour),
        ("topic_ttl", cluster.topic_ttl, secs(10), 7 * 24 * hour),
        ("connect_timeout", cluster.connect_timeout, ms(10), secs(60)),
        ("io_timeout", cluster.io_timeout, ms(100), secs(60)),
        ("probe_interval", cluster.probe_interval, ms(100), secs(60)),
        ("outage_timeout", cluster.outage_timeout, ms(100), secs(600)),
        ("close_spread", cluster.close_spread, secs(0), secs(600)),
        ("unready_after", cluster.unready_after, secs(0), hour),
    ] {
        check_range(
            &format!("cluster.{key}"),
            Span(value),
            Span(least)..=Span(most),
        )?;
    }
    if cluster.topic_ttl < cluster.outage_timeout {
        return Err(wrong(
            "cluster.topic_ttl",
            format!(
                "{} is less than cluster.outage_timeout ({})",
                Span(cluster.topic_ttl),
                Span(cluster.outage_timeout)
            ),
            "raise it: the engine must not forget a topic in an outage",
        ));
    }
    Ok(())
}

fn check_engines(engines: &[Engine]) -> Result<(), ConfigError> {
    if engines.len() > MAX_ENGINES {
        let problem = format!("the list has {} entries", engines.len());
        return Err(wrong(
            "cluster.engines",
            problem,
            format!("use at most {MAX_ENGINES}"),
        ));
    }
    for (at, engine) in engines.iter().enumerate() {
        let key = |name: &str| format!("cluster.engines[{at}].{name}");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = &engine.name;
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
            let fix = format!("use 1 to {MAX_NAME_BYTES} letters, digits and -_.");
            return Err(wrong(key("name"), "it is no plain name", fix));
        }
        if engines[..at].iter().any(|other| other.name == *name) {
            return Err(wrong(
                key("name"),
                format!("`{name}` is there twice"),
                "give each engine a name of its own; topics are spread by it",
            ));
        }
        check_engine(engine, &key)?;
    }
    Ok(())
}

fn check_engine(engine: &Engine, key: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
    const FORMS: &str =
        "use {name: …, url: …} for one server, or {name: …, sentinels: […], master: …}";
    let has_sentinels = !engine.sentinels.is_empty();
    let problem = match (&engine.url, has_sentinels, &engine.master) {
        (Some(_), false, None) | (None, true, Some(_)) => None,
        (Some(_), _, _) => Some("it has a url, and sentinels or a master as well"),
        (None, false, None) => Some("it has neither a url nor sentinels"),
        (None, false, Some(_)) => Some("it has a master, and no sentinels that know it"),
        (None, true, None) => Some("it has sentinels, and no master"),
    };
    if let Some(problem) = problem {
        return Err(wrong(key("url"), problem, FORMS));
    }
    if engine.sentinels.len() > MAX_SENTINELS {
        return Err(wrong(
            key("sentinels"),
            format!("the list has {} entries", engine.sentinels.len()),
            format!("use at most {MAX_SENTINELS}"),
        ));
    }
    let master = engine.master.as_ref();
    if master.is_some_and(|master| master.has_port() || master.path().is_some()) {
        return Err(wrong(
            key("master"),
            "it names a port or a socket, which only the Sentinels know",
            "use the Sentinels' name of the server as the host, as in redis://user:password@mymaster",
        ));
    }
    let mut servers = engine.url.iter().chain(master);
    let pairs = [
        (
            "password_file",
            &engine.password_file,
            servers.any(|url| url.password.is_some()),
        ),
        (
            "sentinel_password_file",
            &engine.sentinel_password_file,
            engine.sentinels.iter().any(|url| url.password.is_some()),
        ),
    ];
    for (name, file, has_password) in pairs {
        if file.is_some() && has_password {
            return Err(wrong(
                key(name),
                "a file is named, and the URL has a password as well",
                "keep one of the two",
            ));
        }
    }
    if engine.sentinel_password_file.is_some() && !has_sentinels {
        return Err(wrong(
            key("sentinel_password_file"),
            "a file is named, but there are no sentinels",
            "remove it, or list the Sentinels",
        ));
    }
    Ok(())
}

fn check_tls(cluster: &Cluster) -> Result<(), ConfigError> {
    if cluster.has_tls() && cluster.ca_file.is_none() {
        return Err(wrong(
            "cluster.ca_file",
            "no file is named, but an engine or a Sentinel has rediss://: nothing would tell the right server from a wrong one",
            "name the file with the certificates of your authority; for a public one, the system's, such as \
             /etc/ssl/certs/ca-certificates.crt",
        ));
    }
    for (key, file) in [
        ("ca_file", &cluster.ca_file),
        ("cert_file", &cluster.cert_file),
        ("key_file", &cluster.key_file),
    ] {
        if file.is_some() && !cluster.has_tls() {
            return Err(wrong(
                format!("cluster.{key}"),
                "a file is named, but no engine and no Sentinel has rediss://: nothing would be encrypted",
                format!("use rediss:// in place of redis://, or set {key} to null"),
            ));
        }
    }
    if cluster.cert_file.is_some() != cluster.key_file.is_some() {
        return Err(wrong(
            "cluster.cert_file",
            "a certificate needs its key, and a key its certificate",
            "set cluster.cert_file and cluster.key_file, or neither",
        ));
    }
    Ok(())
}

fn wrong(
    key: impl Into<String>,
    problem: impl Into<String>,
    fix: impl Into<String>,
) -> ConfigError {
    ConfigError::new(problem, fix).of_key(key)
}

#[cfg(test)]
mod tests;
