//! Accepting: the listening sockets, the options of accepted sockets, and the pause when descriptors run out.
//!
//! The control loop calls it. It does not decide whether a connection may stay.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::BACKLOG;
use super::stream::Stream;
use super::unix::{Bound, SocketFile};

/// The wait after accepting has failed. No event announces the connections that are left.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The time between two log lines about failures to accept. Accepting may fail and work again ten times a second.
const SAY_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The addresses of `host`. A name may take time to resolve.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Binds a listening socket to the first address of `host` that can be bound.
pub(crate) fn bind(host: &str, port: u16) -> io::Result<std::net::TcpListener> {
    bind_any(&resolve(host, port)?)
}

/// Binds a listening socket to the first of `addresses` that can be bound.
///
/// A second relay on the same port is refused. A restart need not wait for the connections of the last run
/// (`SO_REUSEADDR` without `SO_REUSEPORT`).
pub(crate) fn bind_any(addresses: &[SocketAddr]) -> io::Result<std::net::TcpListener> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match bind_address(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn bind_address(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The result of an attempt to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection, and its origin.
    Socket(Stream, Peer),
    /// No connection waits.
    Nobody,
    /// A connection that failed before it was accepted (accept(2)).
    Dead(io::Error),
    /// Descriptors or memory have run out, or the like. Try again after [`Acceptor::retry_in`].
    Failed {
        /// The error of the system.
        error: io::Error,
        /// Whether it is time to log it.
        is_news: bool,
    },
}

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// From this address.
    Address(IpAddr),
    /// Through the Unix socket.
    Unix,
}

impl Peer {
    /// Whether it is a program on this machine that has not come through the Unix socket, which is for proxies.
    pub(crate) fn is_loopback(self) -> bool {
        match self {
            Peer::Address(address) => address.to_canonical().is_loopback(),
            Peer::Unix => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.to_canonical().fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

/// A listening socket of the control loop.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Listener,
    retry_at: Option<Instant>,
    /// The time of the last log line about a failure to accept.
    said_at: Option<Instant>,
}

#[derive(Debug)]
enum Listener {
    Tcp {
        listener: TcpListener,
        notsent_lowat: u32,
    },
    Unix {
        // First, as in `Bound`.
        _file: SocketFile,
        listener: UnixListener,
    },
}

impl Acceptor {
    /// Wraps a socket made by [`bind`]. Every connection gets `notsent_lowat`, in bytes, unless that is 0.
    pub(crate) fn tcp(listener: std::net::TcpListener, notsent_lowat: u32) -> Self {
        Acceptor::new(Listener::Tcp {
            listener: TcpListener::from_std(listener),
            notsent_lowat,
        })
    }

    /// Wraps a socket made by [`super::unix::bind`]. Dropping it removes the file.
    pub(crate) fn unix(bound: Bound) -> Self {
        Acceptor::new(Listener::Unix {
            _file: bound.file,
            listener: UnixListener::from_std(bound.listener),
        })
    }

    fn new(listener: Listener) -> Self {
        Acceptor {
            listener,
            retry_at: None,
            said_at: None,
        }
    }

    /// Connections that are accepted from now on get this `notsent_lowat`. The Unix socket has none.
    pub(crate) fn set_notsent_lowat(&mut self, bytes: u32) {
        if let Listener::Tcp { notsent_lowat, .. } = &mut self.listener {
            *notsent_lowat = bytes;
        }
    }

    /// Registers the socket.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.listener {
            Listener::Tcp { listener, .. } => {
                registry.register(listener, token, Interest::READABLE)
            }
            Listener::Unix { listener, .. } => {
                registry.register(listener, token, Interest::READABLE)
            }
        }
    }

    /// Accepts one connection and sets its options.
    pub(crate) fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                self.retry_at = None;
                Accepted::Socket(stream, peer)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.retry_at = None;
                Accepted::Nobody
            }
            // It says nothing about the next connection.
            Err(error) if is_about_one(&error) => Accepted::Dead(error),
            Err(error) => {
                let now = Instant::now();
                self.retry_at = Some(now + RETRY_AFTER);
                let is_said = |said| now.saturating_duration_since(said) < SAY_AGAIN_AFTER;
                let is_news = !self.said_at.is_some_and(is_said);
                if is_news {
                    self.said_at = Some(now);
                }
                Accepted::Failed { error, is_news }
            }
        }
    }

    /// The time left until the next attempt; `None` if the last one did not fail.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        self.retry_at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

impl Listener {
    fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp {
                listener,
                notsent_lowat,
            } => {
                let (stream, peer) = listener.accept()?;
                configure(&stream, *notsent_lowat);
                Ok((stream.into(), Peer::Address(peer.ip())))
            }
            Listener::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                Ok((stream.into(), Peer::Unix))
            }
        }
    }
}

fn configure(stream: &TcpStream, notsent_lowat: u32) {
    let socket = SockRef::from(stream);
    // Either fails on a dead connection only. The first read will find out.
    let nodelay = socket.set_tcp_nodelay(true);
    let lowat = match notsent_lowat {
        0 => Ok(()),
        bytes => socket.set_tcp_notsent_lowat(bytes),
    };
    if let Err(error) = nodelay.and(lowat) {
        tracing::debug!(%error, "socket options");
    }
}

/// Whether an error of `accept` is a signal, or the death of the connection that waited first (accept(2)). Any other error
/// would come again at once.
fn is_about_one(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(
            Errno::INTR
                | Errno::CONNABORTED
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
}

/// Whether descriptors or memory have run out. Such an error of [`bind`] says nothing about the address.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused() {
        let first = bind("127.0.0.1", 0).unwrap();
        let port = first.local_addr().unwrap().port();
        assert_eq!(
            bind("127.0.0.1", port).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn running_out_of_descriptors_is_told_from_a_connection_that_died() {
        for lasting in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::PERM,
            Errno::INVAL,
        ] {
            assert!(!is_about_one(&lasting.into()), "{lasting}");
        }
        assert!(is_about_one(&Errno::CONNABORTED.into()));
    }
}
