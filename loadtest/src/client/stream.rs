//! A connection's bytes: TCP, plain or under TLS, never blocking.
//!
//! Received bytes are handed on where they lie, in the thread's read buffer or in rustls' own. A stream knows nothing
//! of frames.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};

/// The receive buffer of a slow connection. It is small, so that the relay soon notices that nobody reads.
const SMALL_RECEIVE_BUFFER: usize = 32 << 10;

/// The way to a relay, the same for all connections to it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The relay's number, of those that are one.
    pub(crate) node: usize,
    /// Its address.
    pub(crate) address: SocketAddr,
    /// TLS, and the name that the certificate must have.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Plain or TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    /// `ws://`
    Plain(TcpStream),
    /// `wss://`
    Tls(Box<TlsStream>),
}

/// A socket and the TLS session on it.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// The buffer was filled: there may be more.
    Full,
    /// The buffer was not filled: all that was there was read.
    Short,
    /// There was nothing.
    Nothing,
    /// The peer has ended its side.
    End,
}

impl Stream {
    /// Begins to connect, from `source` if there is one.
    pub(crate) fn dial(
        route: &Route,
        source: Option<Ipv4Addr>,
        has_small_buffer: bool,
    ) -> io::Result<Stream> {
        let domain = Domain::for_address(route.address);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if has_small_buffer {
            socket.set_recv_buffer_size(SMALL_RECEIVE_BUFFER)?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&route.address.into()) {
            Ok(()) => {}
            // Connecting goes on in the background. The first writable event tells how it ended.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let socket = TcpStream::from_std(socket.into());
        Ok(match &route.tls {
            None => Stream::Plain(socket),
            Some((config, name)) => Stream::Tls(Box::new(TlsStream {
                socket,
                session: ClientConnection::new(config.clone(), name.clone())
                    .map_err(io::Error::other)?,
            })),
        })
    }

    /// The socket, for the poll.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &mut tls.socket,
        }
    }

    /// Whether the connection is made. An error says why it will not be.
    pub(crate) fn is_connected(&mut self) -> io::Result<bool> {
        let socket = self.socket();
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads once, at most what `scratch` holds. Calls `each` with the bytes, in one piece or several.
    pub(crate) fn pull(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Pulled> {
        match self {
            Stream::Plain(socket) => {
                let pulled = read_once(socket, scratch)?;
                if let (_, bytes @ 1..) = pulled {
                    each(&scratch[..bytes]);
                }
                Ok(pulled.0)
            }
            Stream::Tls(tls) => tls.pull(scratch, each),
        }
    }

    /// Writes the records that TLS still holds. Returns whether all of them are gone.
    pub(crate) fn flush_records(&mut self) -> io::Result<bool> {
        match self {
            Stream::Plain(_) => Ok(true),
            Stream::Tls(tls) => tls.flush_records(),
        }
    }
}

impl TlsStream {
    fn pull(&mut self, scratch: &mut [u8], mut each: impl FnMut(&[u8])) -> io::Result<Pulled> {
        let (pulled, bytes) = read_once(&mut self.socket, scratch)?;
        if pulled == Pulled::End {
            return Ok(pulled);
        }
        let mut records = &scratch[..bytes];
        let mut has_ended = false;
        loop {
            if !records.is_empty() {
                self.session.read_tls(&mut records)?;
                let state = self
                    .session
                    .process_new_packets()
                    .map_err(io::Error::other)?;
                has_ended |= state.peer_has_closed();
            }
            let had_any = self.hand_on(&mut each)?;
            if records.is_empty() && !had_any || has_ended {
                break;
            }
        }
        // The session may have answers of its own, such as key updates.
        self.flush_records()?;
        Ok(if has_ended { Pulled::End } else { pulled })
    }

    /// Hands on the plaintext that is there. Returns whether there was any.
    fn hand_on(&mut self, each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut had_any = false;
        loop {
            let mut reader = self.session.reader();
            let bytes = match reader.fill_buf() {
                Ok([]) => return Ok(had_any),
                Ok(plain) => {
                    each(plain);
                    plain.len()
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(had_any),
                Err(error) => return Err(error),
            };
            reader.consume(bytes);
            had_any = true;
        }
    }

    fn flush_records(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// One read, and its result.
fn read_once(socket: &mut TcpStream, scratch: &mut [u8]) -> io::Result<(Pulled, usize)> {
    loop {
        return match socket.read(scratch) {
            Ok(0) => Ok((Pulled::End, 0)),
            Ok(bytes) if bytes == scratch.len() => Ok((Pulled::Full, bytes)),
            Ok(bytes) => Ok((Pulled::Short, bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((Pulled::Nothing, 0)),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// For the opening handshake and the probe, which need not be fast.
impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Stream::Plain(socket) => return socket.read(buffer),
            Stream::Tls(tls) => tls,
        };
        loop {
            match tls.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let received = tls.session.read_tls(&mut tls.socket)?;
            let state = tls.session.process_new_packets();
            // The alert says what was wrong; it leaves before the connection is given up.
            let flushed = tls.flush_records();
            state.map_err(io::Error::other)?;
            flushed?;
            if received == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let tls = match self {
            Stream::Plain(socket) => return socket.write(bytes),
            Stream::Tls(tls) => tls,
        };
        if !tls.flush_records()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = tls.session.writer().write(bytes)?;
        tls.flush_records()?;
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.flush_records()? {
            Ok(())
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }
}
