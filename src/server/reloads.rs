//! A configuration that is read again: the checks before anything changes.
//!
//! The control thread calls it (`control/reload.rs`). All files that the configuration names are read here. Nothing is put in
//! force here.

use std::sync::Arc;

use super::memory::MemoryLimit;
use super::source::Source;
use super::{history_file, keyring, listening};
use crate::access::keys::Keys;
use crate::config::{Change, Config, ConfigError};
use crate::metrics::stats::ConfigStatus;
use crate::net::tls::identity::Identity;
use crate::net::tls::keeper::Keeper;
use crate::relay::shard::Settings;

/// The configuration in force, and where the next one comes from.
pub(super) struct Reloads {
    /// The configuration in force now.
    pub(super) config: Config,
    /// The settings that workers have from the last reload. Topics may live by older ones.
    pub(super) settings: Option<Settings>,
    /// Reads the configuration again. Without it, there is nothing to read but the files that the configuration names.
    pub(super) source: Option<Box<dyn Source>>,
    /// The number of workers, which stays.
    pub(super) workers: u16,
    /// The memory that the process may use.
    pub(super) memory: Option<MemoryLimit>,
    /// For the metrics.
    pub(super) status: Arc<ConfigStatus>,
}

/// A configuration that can be put in force: nothing can fail any more.
pub(super) struct Prepared {
    /// The configuration that will be in force.
    pub(super) config: Config,
    /// The keys that have other values, in force or not.
    pub(super) changes: Vec<Change>,
    /// The certificate, if TLS is on.
    pub(super) identity: Option<Identity>,
    /// The keys for tokens.
    pub(super) keys: Keys,
}

impl Reloads {
    /// Reads a configuration, or takes the one that is given, and checks it like `--check`.
    pub(super) fn read(&mut self, given: Option<Config>) -> Result<Config, ConfigError> {
        let new = match (given, &mut self.source) {
            (Some(config), _) => config,
            (None, Some(source)) => source.read()?,
            (None, None) => self.config.clone(),
        };
        new.validate()?;
        Ok(new)
    }

    /// Reads all that the configuration names, and finds what will be in force.
    pub(super) fn prepare(
        &self,
        new: &Config,
        tls: Option<&Keeper>,
    ) -> Result<Prepared, ConfigError> {
        // A value that needs a restart is checked as well. It should not fail then.
        if new.server.unix_socket_group != self.config.server.unix_socket_group {
            listening::group(new)?;
        }
        if new.history.file != self.config.history.file {
            history_file::check(new)?;
        }
        if new.server.tls.enabled && tls.is_none() {
            Keeper::new(&new.server.tls)?;
        }
        let config = self.config.after_reload(new);
        config.validate().map_err(|error| {
            error.or("restart the relay: another new value needs that, and this one does not go with the old value")
        })?;
        let identity = tls.map(|_| Keeper::read(&config.server.tls)).transpose()?;
        let keys = keyring::read(&config.access)?;
        let changes = self.config.changes(new);
        Ok(Prepared {
            config,
            changes,
            identity,
            keys,
        })
    }

    /// Counts a reload that has failed. A mistake in a file for TLS or for tokens also counts there.
    pub(super) fn note_failure(&self, error: &ConfigError, tls: Option<&Keeper>, now: i64) {
        self.status.note_reload(false, now);
        let key = error.key().unwrap_or_default();
        if let Some(tls) = tls
            && key.starts_with("server.tls.")
        {
            tls.status().note_failed_reload();
        }
        if key.starts_with("access.keys") || key == "access.jwks_file" {
            self.status.key_reloads().note(false);
        }
    }

    /// Adds the place of a wrong value to an error about it.
    pub(super) fn locate(&self, error: ConfigError) -> ConfigError {
        match &self.source {
            Some(source) => source.locate(error),
            None => error,
        }
    }
}
