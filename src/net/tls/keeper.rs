//! The identity in force, and its replacement while the relay runs.
//!
//! The control thread reads the files again when it is asked to; workers take what is in force for each connection that
//! begins. Connections that live keep what they began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::identity::{self, Identity};
use super::session::Session;
use crate::config::{ConfigError, Tls};
use crate::metrics::stats::TlsStatus;

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    files: Tls,
    current: ArcSwap<ServerConfig>,
    status: Arc<TlsStatus>,
}

impl Keeper {
    /// Reads the files for the first time; none where TLS is not enabled.
    pub fn new(files: &Tls) -> Result<Option<Keeper>, ConfigError> {
        if !files.enabled {
            return Ok(None);
        }
        let Identity { config, expires_at } = identity::load(files)?;
        let status = Arc::new(TlsStatus::new(expires_at));
        Ok(Some(Keeper {
            files: files.clone(),
            current: ArcSwap::new(config),
            status,
        }))
    }

    /// Reads the files again, and puts what they hold in force. Whatever is wrong with them, the last that was right
    /// stays.
    pub fn reload(&self) -> Result<(), ConfigError> {
        match identity::load(&self.files) {
            Ok(Identity { config, expires_at }) => {
                self.current.store(config);
                self.status.note_reload(expires_at);
                Ok(())
            }
            Err(error) => {
                self.status.note_failed_reload();
                Err(error)
            }
        }
    }

    /// What the metrics say of it.
    pub fn status(&self) -> &Arc<TlsStatus> {
        &self.status
    }

    /// The session of a connection that begins now.
    pub fn session(&self) -> Session {
        Session::new(self.current.load_full())
    }
}
