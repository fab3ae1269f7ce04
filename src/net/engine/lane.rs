//! One connection to an engine: its socket, TLS, what waits to be sent, and replies that are not complete.
//!
//! [`super::Links`] calls it. It knows nothing of topics: it hands on whole replies, in order.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

use super::target::Login;
use crate::cluster::command::Command;
use crate::cluster::reply::{Replies, Reply};
use crate::metrics::engines::Loss;
use crate::net::stream::Stream;
use crate::net::tls::outgoing::Outgoing;

/// The most bytes that wait to be sent. The engine asks little before it has answers, so only subscriptions to very many
/// topics and messages that are allowed to be pending wait here.
const MAX_QUEUED_BYTES: usize = 256 << 20;

/// A buffer that has grown beyond this is given back once it is empty.
const KEPT_BYTES: usize = 256 << 10;

/// A connection without traffic asks the other system after this time whether it is still there, and so often.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A reason for which a connection ended, for the log and for the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) loss: Loss,
    pub(crate) why: String,
}

impl Fault {
    pub(crate) fn new(loss: Loss, why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Fault { loss, why }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The kernel connects.
    Connecting,
    /// The engine has the user and the password, and has not answered.
    LoggingIn,
    /// The connection is the engine's.
    Open,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read1 {
    /// Some bytes.
    Some(usize),
    /// Nothing more now: the socket has been read empty.
    Empty,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    tls: Option<Outgoing>,
    stage: Stage,
    /// The command that logs in, until it is sent.
    login: Option<Command>,
    replies: Replies,
    out: Vec<u8>,
    /// All before this has been sent.
    sent: usize,
    /// Bytes that were sent and not counted.
    sent_bytes: u64,
    /// An event has announced bytes, or the end, and they have not all been read.
    pub(super) is_readable: bool,
    /// The kernel takes bytes.
    is_writable: bool,
    /// The address, for the log and to compare with news from Sentinels.
    pub(super) address: Option<SocketAddr>,
}

/// Begins to connect over the network.
pub(super) fn connect(
    address: SocketAddr,
    tls: Option<Outgoing>,
    login: Option<&Login>,
    max_reply_bytes: usize,
    registry: &Registry,
    token: Token,
) -> io::Result<Wire> {
    let stream = TcpStream::connect(address)?;
    let mut wire = Wire::new(stream.into(), tls, login, max_reply_bytes);
    wire.address = Some(address);
    wire.watch(registry, token)?;
    Ok(wire)
}

/// Connects to a socket on this machine.
pub(super) fn connect_unix(
    path: &Path,
    login: Option<&Login>,
    max_reply_bytes: usize,
    registry: &Registry,
    token: Token,
) -> io::Result<Wire> {
    let stream = UnixStream::connect(path)?;
    let mut wire = Wire::new(stream.into(), None, login, max_reply_bytes);
    wire.watch(registry, token)?;
    Ok(wire)
}

/// The command that logs in.
pub(super) fn auth(login: &Login) -> Command {
    let command = Command::new("AUTH");
    let command = match &login.user {
        Some(user) => command.arg(user.clone()),
        None => command,
    };
    command.arg(login.password.reveal().to_owned())
}

impl Wire {
    fn new(
        stream: Stream,
        tls: Option<Outgoing>,
        login: Option<&Login>,
        max_reply_bytes: usize,
    ) -> Self {
        Wire {
            stream,
            tls,
            stage: Stage::Connecting,
            login: login.map(auth),
            replies: Replies::new(max_reply_bytes),
            out: Vec::new(),
            sent: 0,
            sent_bytes: 0,
            is_readable: false,
            is_writable: false,
            address: None,
        }
    }

    fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.stream, token, interest)
    }

    /// The engine may be sent commands, and its replies are for it.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// There may be something to read, also in a connection that was not there at the last look.
    pub(super) fn has_input(&self) -> bool {
        self.is_readable && self.stage != Stage::Connecting
    }

    /// Takes the count of bytes that were sent.
    pub(super) fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent_bytes)
    }

    /// The kernel has something to say.
    pub(super) fn note(&mut self, is_readable: bool, is_writable: bool) {
        self.is_readable |= is_readable;
        self.is_writable |= is_writable;
    }

    /// Goes on connecting. Returns whether the connection has just become the engine's.
    pub(super) fn advance(&mut self) -> Result<bool, Fault> {
        if self.stage != Stage::Connecting || !(self.is_writable || self.is_readable) {
            return Ok(false);
        }
        if !self.is_connected()? {
            return Ok(false);
        }
        self.is_writable = true;
        let Some(login) = self.login.take() else {
            self.stage = Stage::Open;
            return Ok(true);
        };
        self.stage = Stage::LoggingIn;
        login.encode(&mut self.out);
        self.flush()?;
        Ok(false)
    }

    fn is_connected(&mut self) -> Result<bool, Fault> {
        let refused = |error: io::Error| Fault::new(Loss::Refused, error);
        let error = match &self.stream {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        };
        if let Some(error) = error.map_err(refused)? {
            return Err(refused(error));
        }
        let Stream::Tcp(stream) = &self.stream else {
            return Ok(true);
        };
        match stream.peer_addr() {
            Ok(_) => {
                tune(stream);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                // An event from before: the next one says more.
                (self.is_readable, self.is_writable) = (false, false);
                Ok(false)
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Reads once. Complete replies can then be taken.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<Read1, Fault> {
        loop {
            let read = match &mut self.tls {
                Some(tls) => tls.read(&mut self.stream, buffer),
                None => self.stream.read(buffer),
            };
            return match read {
                Ok(0) => Err(Fault::new(
                    Loss::Closed,
                    "the engine has closed the connection",
                )),
                Ok(count) => {
                    self.replies.push(&buffer[..count]);
                    Ok(Read1::Some(count))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_readable = false;
                    Ok(Read1::Empty)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(self.failed(&error)),
            };
        }
    }

    /// Takes the next reply for the engine. Returns `Opened` in front of the first.
    pub(super) fn take(&mut self) -> Result<Option<Heard>, Fault> {
        let taken = self.replies.take();
        let reply = taken.map_err(|error| Fault::new(Loss::Protocol, error))?;
        let Some(reply) = reply else {
            return Ok(None);
        };
        if self.stage == Stage::Open {
            return Ok(Some(Heard::Reply(reply)));
        }
        if let Reply::Error(text) = &reply {
            let text = public(text);
            let why = format!("the engine refuses the user or the password: {text}");
            return Err(Fault::new(Loss::Auth, why));
        }
        self.stage = Stage::Open;
        Ok(Some(Heard::Opened))
    }

    /// Queues a command.
    pub(super) fn send(&mut self, command: &Command) -> Result<(), Fault> {
        command.encode(&mut self.out);
        if self.out.len() - self.sent > MAX_QUEUED_BYTES {
            return Err(Fault::new(
                Loss::Silent,
                "the engine does not take what is sent to it",
            ));
        }
        Ok(())
    }

    /// Writes what the kernel takes.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        while self.is_writable && self.has_queued() {
            let bytes = &self.out[self.sent..];
            let written = match &mut self.tls {
                Some(tls) if bytes.is_empty() => tls.flush(&mut self.stream).map(|()| 0),
                Some(tls) => tls.write(&mut self.stream, bytes),
                None => self.stream.write(bytes),
            };
            match written {
                Ok(count) => {
                    self.sent += count;
                    self.sent_bytes += count as u64;
                    // TLS takes bytes that the kernel does not take, up to a limit.
                    let is_stuck = self.tls.as_ref().is_some_and(Outgoing::wants_write);
                    self.is_writable = !is_stuck;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_writable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        self.tidy();
        Ok(())
    }

    fn has_queued(&self) -> bool {
        let tls = self.tls.as_ref();
        self.sent < self.out.len() || tls.is_some_and(Outgoing::wants_write)
    }

    /// Gives back the memory of what is sent.
    fn tidy(&mut self) {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.out.shrink_to(KEPT_BYTES);
        } else if self.sent > KEPT_BYTES {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn failed(&self, error: &io::Error) -> Fault {
        let is_tls = error.get_ref().is_some_and(|_| self.tls.is_some());
        if is_tls {
            Fault::new(Loss::Tls, format!("TLS fails: {error}"))
        } else {
            Fault::new(Loss::Closed, error)
        }
    }
}

/// The part of an error about a login that quotes nothing. A server that knows no AUTH repeats the password.
pub(super) fn public(error: &str) -> &str {
    error.split(['`', '\'', '"', ',']).next().unwrap_or("")
}

/// Something for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The connection is usable.
    Opened,
    /// A reply.
    Reply(Reply),
}

/// Small commands leave at once, and a server that vanishes is noticed.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let socket = SockRef::from(stream);
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection to an engine keeps the system's settings");
    }
}
