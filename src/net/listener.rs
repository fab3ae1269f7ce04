//! Accepting: the listening socket, the options of the sockets it brings, and what happens when descriptors run out.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Connections accepted before the control loop looks at its other events.
const ACCEPTS_IN_A_ROW: usize = 64;

/// How long to wait before trying again when descriptors have run out. No edge announces those that wait already.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Binds a listening socket to the first address of `host` that can be bound.
///
/// The address must be free: a second relay on the same port is refused, while a restart is not kept waiting by
/// connections of the last run (`SO_REUSEADDR` without `SO_REUSEPORT`).
pub fn bind(host: &str, port: u16) -> io::Result<std::net::TcpListener> {
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
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

/// What an attempt to accept brought.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and where it comes from.
    Socket(TcpStream, IpAddr),
    /// Nobody waits.
    Nobody,
    /// A connection that failed before it was accepted, as accept(2) reports with the network's own errors.
    Dead(io::Error),
    /// Descriptors or memory have run out, or the like: try again after [`Acceptor::retry_in`].
    Failed(io::Error),
}

/// The listening socket of the control loop.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    tcp_notsent_lowat: u32,
    retry_at: Option<Instant>,
}

impl Acceptor {
    /// Wraps a socket made by [`bind`]. `tcp_notsent_lowat` in bytes is set on every connection, unless it is 0.
    pub fn new(listener: std::net::TcpListener, tcp_notsent_lowat: u32) -> Self {
        Acceptor {
            listener: TcpListener::from_std(listener),
            tcp_notsent_lowat,
            retry_at: None,
        }
    }

    /// The socket, for registration.
    pub fn listener_mut(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// How many connections may be accepted before other events are looked at.
    pub fn budget() -> usize {
        ACCEPTS_IN_A_ROW
    }

    /// Accepts one connection and sets its options.
    pub fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                self.retry_at = None;
                self.configure(&stream);
                Accepted::Socket(stream, peer.ip())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.retry_at = None;
                Accepted::Nobody
            }
            Err(error) if is_exhaustion(&error) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                Accepted::Failed(error)
            }
            // The connection died while it waited, or a signal came; neither says anything about the next.
            Err(error) => Accepted::Dead(error),
        }
    }

    fn configure(&self, stream: &TcpStream) {
        let socket = SockRef::from(stream);
        // Either fails only on a connection that is dead already, which the first read will tell.
        let nodelay = socket.set_tcp_nodelay(true);
        let lowat = match self.tcp_notsent_lowat {
            0 => Ok(()),
            bytes => socket.set_tcp_notsent_lowat(bytes),
        };
        if let Err(error) = nodelay.and(lowat) {
            tracing::debug!(%error, "socket options");
        }
    }

    /// The time left until accepting is worth another attempt; none when no attempt has failed.
    pub fn retry_in(&self) -> Option<Duration> {
        self.retry_at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// Whether descriptors or memory have run out. Of `accept`, these errors leave the connection waiting and would come again
/// at once (accept(2)); of [`bind`], they say nothing about the address.
pub fn is_exhaustion(error: &io::Error) -> bool {
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
        assert!(is_exhaustion(&Errno::MFILE.into()));
        assert!(!is_exhaustion(&Errno::CONNABORTED.into()));
    }
}
