//! The connections of the load generator: bare TCP to the floor, and WebSocket to the relay, with or without TLS, or server-sent
//! events.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const UPGRADE: &[u8] =
    b"GET /bench HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const LISTEN: &[u8] =
    b"GET /bench HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Frames, without a handshake.
    Bare,
    /// WebSocket.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketOverTls,
    /// Server-sent events.
    Events,
}

/// A member's connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A file of the tests' certificate and key.
pub(crate) fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/keys")
        .join(name)
}

/// The settings of a client that trusts that certificate.
pub(crate) fn trust() -> io::Result<ClientConfig> {
    let certificate =
        CertificateDer::from_pem_file(key_file("ec_cert.pem")).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(io::Error::other)?;
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl Transport {
    /// Connects one client, and joins it to the topic unless it speaks to the floor.
    pub(crate) fn connect(
        server: SocketAddr,
        speech: Speech,
        trust: &Arc<ClientConfig>,
    ) -> io::Result<Transport> {
        let mut stream = std::net::TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let mut session = match speech {
            Speech::Bare => return nonblocking(stream).map(Transport::Plain),
            Speech::WebSocket | Speech::Events => None,
            Speech::WebSocketOverTls => {
                let name = "localhost".try_into().expect("a name");
                Some(ClientConnection::new(trust.clone(), name).map_err(io::Error::other)?)
            }
        };
        match &mut session {
            None if speech == Speech::Events => listen(&mut stream)?,
            None => upgrade(&mut stream)?,
            Some(session) => upgrade(&mut rustls::Stream::new(session, &mut stream))?,
        }
        let stream = nonblocking(stream)?;
        Ok(match session {
            None => Transport::Plain(stream),
            Some(session) => Transport::Tls(Box::new(StreamOwned::new(session, stream))),
        })
    }

    /// The socket, for registration.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => &mut stream.sock,
        }
    }

    /// Whether a read that leaves room means that nothing is left. A TLS session returns one record at a time.
    pub(crate) fn is_drained_by_a_short_read(&self) -> bool {
        matches!(self, Transport::Plain(_))
    }
}

fn upgrade(stream: &mut (impl Read + Write)) -> io::Result<()> {
    ask(stream, UPGRADE, b"HTTP/1.1 101 ", b"\r\n\r\n")
}

/// Reads the first event as well. It has no message: it is the relay's wish for a pause.
fn listen(stream: &mut (impl Read + Write)) -> io::Result<()> {
    ask(stream, LISTEN, b"HTTP/1.1 200 ", b"\n\n")
}

fn ask(
    stream: &mut (impl Read + Write),
    request: &[u8],
    start: &[u8],
    end: &[u8],
) -> io::Result<()> {
    stream.write_all(request)?;
    let mut response = Vec::new();
    let mut byte = [0];
    // One byte at a time, because the bytes behind the end belong to the stream.
    while !response.ends_with(end) {
        stream.read_exact(&mut byte)?;
        response.push(byte[0]);
    }
    if !response.starts_with(start) {
        return Err(io::Error::other(String::from_utf8_lossy(&response)));
    }
    Ok(())
}

fn nonblocking(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.read(buffer),
            Transport::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.write(bytes),
            Transport::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.flush(),
            Transport::Tls(stream) => stream.flush(),
        }
    }
}
