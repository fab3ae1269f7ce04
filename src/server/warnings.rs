//! All warnings about a configuration on this machine. The relay starts all the same.
//!
//! [`check`](super::check) calls it. This is the only list: `--check` prints it, and a start logs it.

use std::net::IpAddr;
use std::path::Path;
use std::thread;

use super::descriptors;
use super::expiry::seconds_since_epoch;
use super::memory::{MemoryLimit, Sizes};
use crate::config::{Config, Publish, Warning};
use crate::net::listener;
use crate::net::tls::keeper::Keeper;

/// The warnings about a valid configuration with these certificates.
pub(super) fn all(config: &Config, tls: Option<&Keeper>) -> Vec<Warning> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let memory = MemoryLimit::find(Path::new("/"));
    let sizes = Sizes::derive(config, cores, memory);
    let host = &config.server.host;
    // If it has no address, the start fails and says so.
    let addresses = listener::resolve(host, 0).unwrap_or_default();
    let mut addresses = addresses.into_iter().map(|address| address.ip());
    let open = addresses.any(|address| is_open_to_every_page(config, address));

    let mut warnings = config.warnings();
    if open {
        warnings.push(Warning::about(
            ["server.host"],
            "everybody may connect and publish, even any web page that a user visits; set server.allowed_origins or \
             relay.publish, or listen on 127.0.0.1",
        ));
    }
    warnings.extend(sizes.warnings(config, memory));
    warnings.extend(descriptors::warning(config, sizes.workers));
    warnings.extend(tls.map_or_else(Vec::new, |tls| tls.warnings(seconds_since_epoch())));
    warnings
}

/// Whether any page that a user visits could connect over the network and publish on the user's behalf.
fn is_open_to_every_page(config: &Config, address: IpAddr) -> bool {
    let needs_certificate = config.server.tls.enabled && config.server.tls.client_ca_file.is_some();
    let by_rule = config.topics.iter().filter_map(|rule| rule.publish);
    let mut publishers = by_rule.chain([config.publish()]);
    publishers.any(|publish| publish == Publish::Everyone)
        && config.server.allowed_origins.is_empty()
        && !needs_certificate
        && !address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(!is_open(|config| config.access.publish = publish, PUBLIC));
        }
        let by_rule = |config: &mut Config| {
            let rules = "topics: [{match: /chat, publish: everyone}]";
            config.access.publish = Publish::Nobody;
            config.topics = Config::from_yaml(rules, "rules").unwrap().topics;
        };
        assert!(is_open(by_rule, PUBLIC), "one topic is enough");
        let authority = |config: &mut Config| {
            config.server.tls.enabled = true;
            config.server.tls.client_ca_file = Some("ca.pem".into());
        };
        assert!(!is_open(authority, PUBLIC));
        assert!(is_open(|config| config.server.tls.enabled = true, PUBLIC));
    }
}
