//! The listening sockets of a relay that starts, and the errors if it cannot have them.

use std::io;
use std::net::TcpListener;

use super::error::StartError;
use crate::config::Config;
use crate::net::{listener, unix};

/// Listens on the relay's own port.
pub(super) fn on_port(config: &Config) -> Result<TcpListener, StartError> {
    let (host, port) = (&config.server.host, config.server.port);
    listener::bind(host, port).map_err(|source| refused("server.port", host, port, source))
}

/// Called after the port is bound. Of two relays with the same configuration the second fails at the port, and does not
/// touch the file of the first.
pub(super) fn on_path(config: &Config) -> Result<Option<unix::Bound>, StartError> {
    let Some(path) = &config.server.unix_socket else {
        return Ok(None);
    };
    let bound = unix::bind(path, config.server.unix_socket_mode);
    bound.map(Some).map_err(|source| StartError::UnixSocket {
        path: path.clone(),
        source,
    })
}

/// The error for a port that cannot be listened on. `key` is its key in the configuration.
pub(super) fn refused(key: &'static str, host: &str, port: u16, source: io::Error) -> StartError {
    if listener::is_exhaustion(&source) {
        return StartError::System(source);
    }
    StartError::Listen {
        key,
        host: host.into(),
        port,
        source,
    }
}
