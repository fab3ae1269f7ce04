//! The log lines of a relay that has started: how everybody may publish, and the line `ready`.
//!
//! `main` calls it once. The words are the operator's: keys and values as in the configuration, and sizes with their unit.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tracing::field::display;

use fanwire::config::{Config, HumanSize, Publish};
use fanwire::server::RelayHandle;

/// Logs that the relay is ready, with its addresses and limits. Before that, warns of a relay that trusts everybody.
pub(crate) fn announce(config: &Config, relay: &RelayHandle) {
    if is_open_to_every_page(config, relay.address().ip()) {
        tracing::warn!(
            target: "fanwire",
            address = %relay.address(),
            "everybody may connect and publish, even any web page that a user visits; set server.allowed_origins or \
             relay.publish, or listen on 127.0.0.1"
        );
    }
    let size = |bytes: usize| display(HumanSize(bytes as u64));
    let time = |span: Duration| display(humantime::format_duration(span));
    tracing::info!(
        target: "fanwire",
        address = %relay.address(),
        unix_socket = relay.unix_socket().map(|path| display(path.display())),
        metrics = relay.metrics_address().map(display),
        tls = config.server.tls.enabled,
        workers = relay.shards(),
        cores = thread::available_parallelism().map_or(1, usize::from),
        memory = relay.memory().map(display),
        max_buffered_bytes = size(relay.max_buffered_bytes()),
        max_connections = relay.max_connections(),
        max_message_bytes = size(config.limits.max_message_bytes),
        max_header_bytes = size(config.limits.max_header_bytes),
        handshake_timeout = time(config.server.handshake_timeout),
        policy = display(word(config.slow_consumer.policy)),
        max_lag_bytes = size(config.slow_consumer.max_lag_bytes),
        stall_timeout = time(config.slow_consumer.stall_timeout),
        publish = display(word(config.relay.publish)),
        "ready"
    );
}

/// Whether any page that a user visits could connect over the network and publish on the user's behalf.
fn is_open_to_every_page(config: &Config, address: IpAddr) -> bool {
    let needs_certificate = config.server.tls.enabled && config.server.tls.client_ca_file.is_some();
    config.relay.publish == Publish::Everyone
        && config.server.allowed_origins.is_empty()
        && !needs_certificate
        && !address.to_canonical().is_loopback()
}

/// The spelling of a word in the configuration.
fn word(value: impl Serialize) -> String {
    let spelling = serde_yaml::to_string(&value).expect("a word can be written");
    spelling.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire::config::SlowConsumerPolicy;

    const PUBLIC: &str = "0.0.0.0";

    fn is_open(change: impl FnOnce(&mut Config), address: &str) -> bool {
        let mut config = Config::default();
        change(&mut config);
        is_open_to_every_page(&config, address.parse().unwrap())
    }

    #[test]
    fn a_relay_that_trusts_every_page_on_a_public_address_is_warned_of() {
        for address in [PUBLIC, "::", "192.0.2.1", "::ffff:192.0.2.1"] {
            assert!(is_open(|_| {}, address), "for {address}");
        }
        for address in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"] {
            assert!(!is_open(|_| {}, address), "for {address}");
        }
    }

    #[test]
    fn origins_tokens_or_client_certificates_are_enough() {
        let origin = |config: &mut Config| {
            config
                .server
                .allowed_origins
                .push("a.example".parse().unwrap());
        };
        assert!(!is_open(origin, PUBLIC));
        for publish in [Publish::Token, Publish::Nobody] {
            assert!(!is_open(|config| config.relay.publish = publish, PUBLIC));
        }
        let authority = |config: &mut Config| {
            config.server.tls.enabled = true;
            config.server.tls.client_ca_file = Some("ca.pem".into());
        };
        assert!(!is_open(authority, PUBLIC));
        assert!(is_open(|config| config.server.tls.enabled = true, PUBLIC));
    }

    #[test]
    fn words_are_spelled_as_in_the_configuration() {
        assert_eq!(word(SlowConsumerPolicy::Disconnect), "disconnect");
        assert_eq!(word(Publish::Everyone), "everyone");
    }
}
