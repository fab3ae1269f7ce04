//! `fanwire client`: a small client for a terminal. It sends each line of standard input as a text message, and prints what
//! arrives.
//!
//! `main` calls [`run`]. The client shares no code with the relay: WebSocket is tungstenite's, TLS is rustls'. It never
//! prints the query of its URL, which may hold a token.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use crate::cli::ClientArgs;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, InvalidMessage, RootCertStore, StreamOwned,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{Response, Uri};
use tungstenite::{Error, Message, WebSocket};

/// The longest wait for a step of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait of a read before the client looks at its input again.
const READ_PATIENCE: Duration = Duration::from_millis(20);

/// The files in which systems keep the authorities that they trust: Debian, Fedora, and others.
const SYSTEM_CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// An end other than by a Close. Displays as a sentence for the person who typed the command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// There was no connection, or it is lost.
    Connection(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Connection(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Connection(error.to_string())
    }
}

/// A connection, encrypted or not.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

type Socket = WebSocket<Box<dyn Stream>>;

/// Connects, and talks until either side closes.
pub(crate) fn run(args: &ClientArgs) -> Result<(), Failure> {
    let target = Target::parse(&args.url)?;
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .map_err(|error| Failure::Connection(format!("{target}: {error}")))?;
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    // Both halves are one socket: its timeout can be changed when the handshake is over.
    let handle = stream.try_clone()?;
    let stream: Box<dyn Stream> = if target.is_encrypted {
        Box::new(encrypted(stream, &target, args.ca.as_deref())?)
    } else {
        Box::new(stream)
    };
    let (mut socket, _) =
        tungstenite::client(args.url.as_str(), stream).map_err(|error| refused(&target, error))?;
    handle.set_read_timeout(Some(READ_PATIENCE))?;
    let _ = writeln!(
        io::stderr(),
        "connected to {target}; type a line to send it, Ctrl-D to leave"
    );
    talk(&mut socket)
}

fn talk(socket: &mut Socket) -> Result<(), Failure> {
    let lines = read_lines();
    loop {
        // At most one line for each message that is read: the relay does not read a sender that does not read.
        let sent = if socket.can_write() {
            send_line(socket, &lines)
        } else {
            Ok(())
        };
        match sent.and_then(|()| socket.read()) {
            Ok(message) => print(&message)?,
            Err(Error::Io(error)) if is_timeout(&error) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => {
                return Err(Failure::Connection(format!(
                    "the connection is lost: {error}"
                )));
            }
        }
    }
}

/// Reads standard input on a thread of its own, because a terminal cannot be waited for together with a socket.
fn read_lines() -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Sends a line, if one has been typed. Begins to leave when the input has ended.
fn send_line(socket: &mut Socket, lines: &Receiver<String>) -> tungstenite::Result<()> {
    match lines.try_recv() {
        Ok(line) => socket.send(Message::text(line)),
        Err(TryRecvError::Empty) => Ok(()),
        Err(TryRecvError::Disconnected) => socket.close(None),
    }
}

fn print(message: &Message) -> io::Result<()> {
    match message {
        Message::Text(text) => writeln!(io::stdout(), "{}", printable(text)),
        Message::Binary(bytes) => writeln!(io::stdout(), "({} bytes of binary)", bytes.len()),
        Message::Close(Some(frame)) => {
            let reason = printable(&frame.reason);
            writeln!(io::stderr(), "closed by the relay: {} {reason}", frame.code)
        }
        // The library answers pings by itself.
        Message::Close(None) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
    }
}

/// The text without what would command a terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(shown).collect()
}

/// Explains a handshake that failed.
fn refused<R>(target: &Target, error: HandshakeError<R>) -> Failure
where
    R: tungstenite::handshake::HandshakeRole,
{
    Failure::Connection(match error {
        HandshakeError::Failure(Error::Http(response)) => refusal(target, &response),
        HandshakeError::Failure(error) => format!("{target}: {error}{}", hint(&error)),
        HandshakeError::Interrupted(_) => format!("{target}: no answer in time"),
    })
}

/// The remedy for common failures of TLS.
fn hint(error: &Error) -> &'static str {
    let inner = match error {
        Error::Io(error) => error.get_ref(),
        _ => None,
    };
    match inner.and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; name who is trusted with --ca FILE"
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "; there is no TLS here, so use ws://"
        }
        _ => "",
    }
}

/// The status, and the line of text that says what to do.
fn refusal(target: &Target, response: &Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    let text = printable(String::from_utf8_lossy(body).trim());
    let separator = if text.is_empty() { "" } else { ": " };
    format!("{target} refuses: {}{separator}{text}", response.status())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

// The URL

/// A parsed URL. Displays without the query, and without a user or password.
#[derive(Debug)]
struct Target {
    is_encrypted: bool,
    host: String,
    port: u16,
    shown: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Target {
    fn parse(url: &str) -> Result<Target, Failure> {
        let usage = || Failure::Usage("the URL must be like ws://127.0.0.1:8443/room".to_owned());
        let uri: Uri = url.parse().map_err(|_| usage())?;
        let is_encrypted = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(_) | None => return Err(usage()),
        };
        let host = uri.host().ok_or_else(usage)?;
        let port = uri
            .port_u16()
            .unwrap_or(if is_encrypted { 443 } else { 80 });
        let scheme = if is_encrypted { "wss" } else { "ws" };
        Ok(Target {
            is_encrypted,
            shown: format!("{scheme}://{host}:{port}{}", uri.path()),
            // An IPv6 address has brackets in a URL, and nowhere else.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }
}

// TLS

fn encrypted(
    stream: TcpStream,
    target: &Target,
    ca: Option<&Path>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
    let name = ServerName::try_from(target.host.clone())
        .map_err(|error| Failure::Usage(format!("{}: {error}", target.host)))?;
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Usage(error.to_string()))?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(StreamOwned::new(session, stream))
}

/// The authorities of `file`, or else those of the system.
fn roots(file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let of_system = || {
        SYSTEM_CA_FILES
            .into_iter()
            .map(Path::new)
            .find(|path| path.exists())
    };
    let path = file.or_else(of_system).ok_or_else(|| {
        Failure::Usage("this system has no list of authorities: name one with --ca".to_owned())
    })?;
    let unusable = |why: &dyn fmt::Display| Failure::Usage(format!("{}: {why}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        // A system's list may hold some that are too old to be understood.
        let added = roots.add(certificate);
        if file.is_some() {
            added.map_err(|error| unusable(&error))?;
        }
    }
    if roots.is_empty() {
        return Err(unusable(&"there is no certificate in it"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_shown_without_its_secrets() {
        let target = Target::parse("wss://user:password@relay.example/a?token=secret#b").unwrap();
        assert_eq!(target.to_string(), "wss://relay.example:443/a");
        assert_eq!((target.host.as_str(), target.port), ("relay.example", 443));
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let target = Target::parse("ws://[::1]:8443").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 8443));
        assert_eq!(target.to_string(), "ws://[::1]:8443/");
    }

    #[test]
    fn another_scheme_is_wrong_usage_and_is_not_repeated() {
        for url in [
            "http://a/?token=secret",
            "a?token=secret",
            "",
            "ws:///?token=secret",
        ] {
            let Err(Failure::Usage(text)) = Target::parse(url) else {
                panic!("{url} was taken");
            };
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_refusal_has_its_status_and_its_text() {
        let target = Target::parse("ws://a/?token=secret").unwrap();
        let mut response = Response::new(Some(b"Present one \x1b[31mtoken.\n".to_vec()));
        *response.status_mut() = tungstenite::http::StatusCode::UNAUTHORIZED;
        assert_eq!(
            refusal(&target, &response),
            "ws://a:80/ refuses: 401 Unauthorized: Present one \\u{1b}[31mtoken."
        );
    }

    #[test]
    fn text_cannot_command_the_terminal() {
        assert_eq!(printable("a\tb\nc\u{7}\u{9b}é"), "a\tb\nc\\u{7}\\u{9b}é");
    }
}
