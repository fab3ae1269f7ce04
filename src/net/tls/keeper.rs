//! The certificate and key in force, which can be replaced while the relay runs.
//!
//! The control thread reloads the files. Workers take the identity in force for each new connection. Older connections
//! keep theirs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::identity::{self, Identity};
use super::session::Session;
use super::validity::{self, Dated};
use crate::config::{ConfigError, Tls, Warning};
use crate::metrics::stats::TlsStatus;

/// The identity in force.
#[derive(Debug)]
pub(crate) struct Keeper {
    current: ArcSwap<ServerConfig>,
    dated: ArcSwap<Vec<Dated>>,
    status: Arc<TlsStatus>,
}

impl Keeper {
    /// Reads the files for the first time; `None` if TLS is off.
    pub(crate) fn new(files: &Tls) -> Result<Option<Keeper>, ConfigError> {
        if !files.enabled {
            return Ok(None);
        }
        let Identity {
            config,
            expires_at,
            dated,
        } = identity::load(files)?;
        let status = Arc::new(TlsStatus::new(expires_at));
        Ok(Some(Keeper {
            current: ArcSwap::new(config),
            dated: ArcSwap::from_pointee(dated),
            status,
        }))
    }

    /// Reads files again. Nothing changes before [`Keeper::adopt`].
    pub(crate) fn read(files: &Tls) -> Result<Identity, ConfigError> {
        identity::load(files)
    }

    /// Puts the contents of files in force.
    pub(crate) fn adopt(&self, identity: Identity) {
        let Identity {
            config,
            expires_at,
            dated,
        } = identity;
        self.current.store(config);
        self.dated.store(Arc::new(dated));
        self.status.note_reload(expires_at);
    }

    /// The warnings about certificates in force that are due at `now`, in seconds since the Unix epoch.
    pub(crate) fn warnings(&self, now: i64) -> Vec<Warning> {
        validity::warnings(&self.dated.load(), now)
    }

    /// Its state, for the metrics.
    pub(crate) fn status(&self) -> &Arc<TlsStatus> {
        &self.status
    }

    /// The session for a new connection.
    pub(crate) fn session(&self) -> Session {
        Session::new(self.current.load_full())
    }
}
