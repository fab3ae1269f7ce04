//! The log line of a relay that has started: `ready`.
//!
//! `main` calls it once. The words are the operator's: keys and values as in the configuration, and sizes with their unit.

use std::thread;
use std::time::Duration;

use serde::Serialize;
use tracing::field::display;

use fanwire::config::{Config, HumanSize};
use fanwire::server::RelayHandle;

/// Logs that the relay is ready, with its addresses and limits.
pub(crate) fn announce(config: &Config, relay: &RelayHandle) {
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
        history = (!config.history.max_age.is_zero()).then(|| time(config.history.max_age)),
        subscribe = display(word(config.access.subscribe)),
        publish = display(word(config.publish())),
        "ready"
    );
}

/// The spelling of a word in the configuration.
fn word(value: impl Serialize) -> String {
    let spelling = serde_yaml::to_string(&value).expect("a word can be written");
    spelling.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire::config::{Publish, SlowConsumerPolicy};

    #[test]
    fn words_are_spelled_as_in_the_configuration() {
        assert_eq!(word(SlowConsumerPolicy::Disconnect), "disconnect");
        assert_eq!(word(Publish::Everyone), "everyone");
    }
}
