//! The errors of a relay that does not start, or that ends without a shutdown, in words for the operator.
//!
//! [`Relay`](super::Relay) returns both. `main.rs` chooses the exit code by the kind of a [`StartError`].

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::ids::ShardId;
use crate::net::unix::BindError;

/// The reason for which a relay did not start. The operator can mend it.
#[derive(Debug)]
pub enum StartError {
    /// An address that cannot be listened on.
    Listen {
        /// The key in the configuration, such as `server.port`.
        key: &'static str,
        /// The host that was configured.
        host: String,
        /// The port that was configured.
        port: u16,
        /// The error of the system.
        source: io::Error,
    },
    /// A Unix socket that cannot be listened on.
    UnixSocket {
        /// The path that was configured.
        path: PathBuf,
        /// The reason.
        source: BindError,
    },
    /// A value out of range, or one that this build cannot serve.
    Config(ConfigError),
    /// The system refused an event loop, a thread or a signal handler.
    System(io::Error),
}

/// The reason for which a relay ended without a shutdown.
#[derive(Debug, PartialEq, Eq)]
pub enum RunError {
    /// A worker ended: a bug in fanwire, or the kernel refused to wait for events.
    Worker(ShardId, String),
    /// The metrics thread ended, for one of the same reasons.
    Metrics(String),
    /// Another process held the metrics port, and did not give it up in time.
    MetricsPort(String),
    /// The control thread ended, for one of the same reasons.
    Control(String),
    /// This thread stands still, such as `worker 0`. The relay was asked to end and did, without it. The thread is left
    /// behind; it ends with the process.
    Frozen(String),
}

impl StartError {
    /// The key in the configuration that is at fault, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            StartError::Listen { key, .. } => Some(key),
            StartError::UnixSocket { .. } => Some("server.unix_socket"),
            StartError::Config(error) => error.key(),
            StartError::System(_) => None,
        }
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        StartError::System(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen {
                key,
                host,
                port,
                source,
            } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{key}: {port}: the port is in use on {host}; stop the other process or choose another port"
                )
            }
            StartError::Listen {
                key, port, source, ..
            } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{key}: {port}: this user may not listen on the port; choose one from 1024 on, or grant CAP_NET_BIND_SERVICE"
                )
            }
            StartError::Config(error) => error.fmt(f),
            StartError::UnixSocket { path, source } => {
                // In quotes, so that a path with a line break stays on one line.
                write!(
                    f,
                    "server.unix_socket: {:?}: {source}",
                    path.to_string_lossy()
                )
            }
            StartError::Listen {
                key,
                host,
                port,
                source,
            } => {
                let host_key = key.replace(".port", ".host");
                write!(
                    f,
                    "{host_key}: {host:?}, {key}: {port}: cannot listen there ({source}); choose an address of this machine"
                )
            }
            StartError::System(source) => write!(
                f,
                "the system refused what the relay needs to start: {source}"
            ),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen { source, .. }
            | StartError::UnixSocket {
                source: BindError::System(source) | BindError::Group(source),
                ..
            }
            | StartError::System(source) => Some(source),
            StartError::UnixSocket { .. } => None,
            StartError::Config(error) => Some(error),
        }
    }
}

impl RunError {
    /// The failure of a relay whose worker stands still.
    pub(super) fn frozen(worker: usize) -> RunError {
        RunError::Frozen(format!("worker {worker}"))
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Worker(shard, reason) => write!(f, "worker {} ended: {reason}", shard.0),
            RunError::Metrics(reason) => write!(f, "the metrics thread ended: {reason}"),
            RunError::MetricsPort(reason) => f.write_str(reason),
            RunError::Control(reason) => write!(f, "the control loop ended: {reason}"),
            RunError::Frozen(thread) => write!(
                f,
                "{thread} stands still and did not end; the relay ends without it"
            ),
        }
    }
}

impl std::error::Error for RunError {}
