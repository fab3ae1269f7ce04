//! A reload: the whole configuration is read again, and put in force at once or not at all.
//!
//! The control thread calls it for SIGHUP, and for the library's user. First everything is read and checked that the new
//! configuration names. Only then something changes, so a mistake anywhere leaves all as it was.
//!
//! Each worker gets its settings as one value. It comes before the connections that are accepted by the new configuration,
//! because mail keeps its order.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::Control;
use crate::access::keys::Keys;
use crate::config::{Change, Config, Verdict};
use crate::net::mail::{Mail, NewSettings};
use crate::relay::shard::Settings;
use crate::server::descriptors;
use crate::server::expiry::seconds_since_epoch;
use crate::server::memory::Sizes;
use crate::server::reloads::Prepared;

impl Control {
    /// Reads the configuration again, or takes the one that is `given`.
    pub(super) fn take_reload(&mut self, cause: &str, given: Option<Config>) {
        if self.ending.is_some() {
            info!(cause, "nothing is reloaded: the relay is ending");
            return;
        }
        self.supervisor.reloading();
        let prepared = self.reloads.read(given).and_then(|new| {
            let prepared = self.reloads.prepare(&new, self.tls.as_deref());
            prepared.map_err(|error| self.reloads.locate(error))
        });
        let now = seconds_since_epoch();
        match prepared {
            Ok(prepared) => self.put_in_force(cause, prepared, now),
            Err(error) => {
                self.reloads.note_failure(&error, self.tls.as_deref(), now);
                warn!(cause, %error, "nothing has changed: the old configuration, certificate and keys stay in force");
            }
        }
        self.supervisor.ready();
    }

    fn put_in_force(&mut self, cause: &str, prepared: Prepared, now: i64) {
        let Prepared {
            config,
            changes,
            identity,
            keys,
        } = prepared;
        if let (Some(tls), Some(identity)) = (&self.tls, identity) {
            tls.adopt(identity);
            self.expiry.renew();
            info!(
                cause,
                "certificate and key read again; new connections get them"
            );
        }
        if config.access.has_keys() {
            self.reloads.status.key_reloads().note(true);
            info!(
                cause,
                keys = keys.len(),
                "keys for tokens read again; new requests are judged by them"
            );
        }
        self.apply(&config, Arc::new(keys));
        self.reloads.status.note_reload(true, now);
        tell_of(cause, &config, &changes);
        if let Some(source) = &mut self.reloads.source {
            source.in_force(&config);
        }
        self.reloads.config = config;
    }

    /// Hands a configuration to all that have a part of it.
    fn apply(&mut self, config: &Config, keys: Arc<Keys>) {
        let workers = self.reloads.workers;
        let server = &config.server;
        let max_connections = descriptors::raise_and_derive(config, workers);
        self.vitals.set_max_connections(max_connections);
        self.reloads.status.set_max_connections(max_connections);
        self.placement
            .seats
            .set_limit(server.max_connections_per_ip);
        self.placement
            .proxies
            .clone_from(&server.proxy_protocol.from);
        self.placement.trusted.clone_from(&server.trusted_proxies);
        for acceptor in &mut self.acceptors {
            // The configuration allows 64 MiB at most.
            acceptor.set_notsent_lowat(server.tcp_notsent_lowat as u32);
        }
        self.refusals
            .set_handshake_timeout(server.handshake_timeout, Instant::now());
        self.shutdown = config.shutdown.clone();
        let mut resolved = config.clone();
        let sizes = Sizes::derive(config, usize::from(workers), self.reloads.memory);
        resolved.limits.max_buffered_bytes = sizes.max_buffered_bytes;
        let older = self.reloads.settings.take();
        let older = older.unwrap_or_else(|| Settings::new(&self.reloads.config, workers));
        let settings = Settings::new(&resolved, workers)
            .with_keys(keys)
            .after(&older);
        self.reloads.settings = Some(settings.clone());
        let new = NewSettings {
            settings,
            fill_to: server.fill_workers_to,
        };
        for worker in self.placement.postboxes.iter() {
            worker.inbox.send(Mail::Settings(Box::new(new.clone())));
        }
    }
}

/// Logs the changes.
fn tell_of(cause: &str, config: &Config, changes: &[Change]) {
    let mut restart = 0;
    for change in changes {
        let Change {
            key,
            from,
            to,
            verdict,
        } = change;
        match verdict {
            Verdict::Restart => {
                restart += 1;
                warn!(key, %from, %to, "the new value needs a restart; the old one stays in force");
            }
            Verdict::AtOnce | Verdict::NextRequest | Verdict::NextLife => {
                info!(key, %from, %to, when = verdict.as_str(), "the configuration has changed");
            }
        }
    }
    if !changes.is_empty() {
        for warning in config.warnings() {
            warn!("{warning}");
        }
    }
    info!(
        cause,
        changed = changes.len() - restart,
        need_a_restart = restart,
        "the configuration is reloaded"
    );
}
