//! The listening sockets of a relay that starts, and the errors if it cannot have them.

use std::io;
use std::net::TcpListener;

use super::error::StartError;
use crate::config::{Config, ConfigError};
use crate::net::{listener, unix};
use crate::secrecy::{Kind, quoted};

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
    let group = group(config).map_err(StartError::Config)?;
    let bound = unix::bind(path, config.server.unix_socket_mode, group);
    bound.map(Some).map_err(|source| StartError::UnixSocket {
        path: path.clone(),
        source,
    })
}

/// The number of the group of the Unix socket.
pub(super) fn group(config: &Config) -> Result<Option<u32>, ConfigError> {
    let Some(group) = &config.server.unix_socket_group else {
        return Ok(None);
    };
    let shown = || quoted(group, Kind::Name);
    let problem = match unix::group_id(group) {
        Ok(Some(id)) => return Ok(Some(id)),
        Ok(None) => format!("this machine has no group {}", shown()),
        Err(error) => format!("the group {} cannot be looked up ({error})", shown()),
    };
    let fix = "use the name or the number of a group, such as www-data";
    Err(ConfigError::new(problem, fix).of_key("server.unix_socket_group"))
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
