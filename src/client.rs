//! `fanwire client`: a small client for a terminal. It sends each line of standard input as a text message, and prints what
//! arrives.
//!
//! `main` calls [`run`]. The client shares only the reader of PEM files with the relay: WebSocket is tungstenite's, TLS is
//! rustls'. It never prints the query of its URL, which may hold a token.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use crate::cli::ClientArgs;
use fanwire::internals::tls::read_trusted;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, InvalidMessage, RootCertStore, StreamOwned,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{Response, Uri};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// The longest wait for a step until the upgrade: to connect to an address, to write, or to read an answer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait of a read before the client looks at its input again.
const READ_PATIENCE: Duration = Duration::from_millis(20);

/// The largest file with authorities to trust, in bytes: several times the list of a system.
const MAX_CA_BYTES: u64 = 1 << 20;

/// The files in which systems keep the authorities that they trust: Debian, Fedora, and others.
const SYSTEM_CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// An end that is not in order. Displays as a sentence for the person who typed the command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// There was no connection, it is lost, or the relay closed it for a fault.
    Connection(String),
    /// Standard input cannot be sent, or standard output cannot be written to.
    Terminal(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Connection(text) | Failure::Terminal(text) => {
                f.write_str(text)
            }
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
    if args.ca.is_some() && !target.is_encrypted {
        let text = "--ca is for wss:// only: ws:// is not encrypted and has no certificates";
        return Err(Failure::Usage(text.to_owned()));
    }
    let stream = connect(&target)?;
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
    // Both halves are one socket: its timeouts can be changed when the handshake is over.
    let handle = stream.try_clone()?;
    let stream: Box<dyn Stream> = if target.is_encrypted {
        Box::new(encrypted(stream, &target, args.ca.as_deref())?)
    } else {
        Box::new(stream)
    };
    let (mut socket, _) =
        tungstenite::client(args.url.as_str(), stream).map_err(|error| refused(&target, error))?;
    handle.set_read_timeout(Some(READ_PATIENCE))?;
    // The relay may make a sender wait for as long as it likes.
    handle.set_write_timeout(None)?;
    let _ = writeln!(
        io::stderr(),
        "connected to {target}; type a line to send it, Ctrl-D to leave"
    );
    talk(&mut socket)
}

/// Connects to the first address of the host that answers.
fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let failed = |why: &dyn fmt::Display| Failure::Connection(format!("{target}: {why}"));
    let mut addresses = (target.host.as_str(), target.port)
        .to_socket_addrs()
        .map_err(|error| failed(&error))?;
    let mut last = failed(&"the host has no address");
    let connected = addresses.find_map(|address| {
        let stream = TcpStream::connect_timeout(&address, HANDSHAKE_TIMEOUT);
        stream.map_err(|error| last = failed(&error)).ok()
    });
    connected.ok_or(last)
}

/// Talks until the connection ends. Returns the first failure, but leaves in order all the same: what was sent before it
/// must arrive.
fn talk(socket: &mut Socket) -> Result<(), Failure> {
    let lines = read_lines();
    let mut outcome = Ok(());
    loop {
        // At most one line for each message that is read: the relay does not read a sender that does not read.
        let sent = if socket.can_write() {
            match lines.try_recv() {
                Ok(Ok(line)) => socket.send(Message::text(line)),
                Ok(Err(failure)) => {
                    outcome = outcome.and(Err(failure));
                    socket.close(None)
                }
                Err(TryRecvError::Empty) => Ok(()),
                Err(TryRecvError::Disconnected) => socket.close(None),
            }
        } else {
            Ok(())
        };
        match sent.and_then(|()| socket.read()) {
            Ok(Message::Close(frame)) => outcome = outcome.and(closed(frame.as_ref())),
            Ok(message) => match print(&message) {
                Ok(()) => {}
                // The reader needs no more, as in `fanwire client | head -1`.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return outcome,
                Err(error) => {
                    let text = format!("cannot write to standard output: {error}");
                    return outcome.and(Err(Failure::Terminal(text)));
                }
            },
            Err(Error::Io(error)) if is_timeout(&error) => {}
            Err(Error::ConnectionClosed) => return outcome,
            Err(error) => {
                let text = format!("the connection is lost: {}", explained(&error));
                return outcome.and(Err(Failure::Connection(text)));
            }
        }
    }
}

/// Reads standard input on a thread of its own, because a terminal cannot be waited for together with a socket. The first
/// failure is the last that it sends.
fn read_lines() -> Receiver<Result<String, Failure>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for (line, number) in io::stdin().lock().lines().zip(1_u64..) {
            let line = line.map_err(|error| unreadable(number, &error));
            let is_last = line.is_err();
            if sender.send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// A line of standard input that cannot be sent.
fn unreadable(number: u64, error: &io::Error) -> Failure {
    Failure::Terminal(if error.kind() == io::ErrorKind::InvalidData {
        format!(
            "line {number} of standard input is not UTF-8, so it cannot be sent as text; nothing from it on was sent"
        )
    } else {
        format!("cannot read standard input: {error}")
    })
}

/// The Close of the relay. The codes 1000 and 1001 are an orderly end, and so is the answer to a Close of ours, which has no
/// code.
fn closed(frame: Option<&CloseFrame>) -> Result<(), Failure> {
    let Some(frame) = frame else {
        return Ok(());
    };
    let reason = printable(&frame.reason);
    let text = format!("closed by the relay: {} {reason}", frame.code);
    let text = text.trim_end().to_owned();
    if matches!(frame.code, CloseCode::Normal | CloseCode::Away) {
        // Standard error may be closed.
        let _ = writeln!(io::stderr(), "{text}");
        Ok(())
    } else {
        Err(Failure::Connection(text))
    }
}

fn print(message: &Message) -> io::Result<()> {
    match message {
        Message::Text(text) => writeln!(io::stdout(), "{}", printable(text)),
        Message::Binary(bytes) => writeln!(io::stdout(), "({} bytes of binary)", bytes.len()),
        // The library answers pings by itself. A Close is not printed here.
        Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
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
        HandshakeError::Failure(error) => format!("{target}: {}", explained(&error)),
        HandshakeError::Interrupted(_) => format!("{target}: no answer in time"),
    })
}

/// The error in words that say what happened and, if it is a common failure of TLS, what to do.
fn explained(error: &Error) -> String {
    let Error::Io(error) = error else {
        return error.to_string();
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the certificate was not issued by an authority that is trusted here. \
             If you trust this relay, pass its certificate, or its authority's, with --ca FILE"
                .to_owned()
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "this port does not speak TLS; use ws:// instead of wss://".to_owned()
        }
        Some(tls) => format!("TLS failed: {tls}"),
        None => error.to_string(),
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

// The same as the relay's, or a build with AWS-LC would test another library than its clients meet.
#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as backend;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as backend;

fn encrypted(
    stream: TcpStream,
    target: &Target,
    ca: Option<&Path>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
    let name = ServerName::try_from(target.host.clone())
        .map_err(|error| Failure::Usage(format!("{}: {error}", target.host)))?;
    let config = ClientConfig::builder_with_provider(Arc::new(backend::default_provider()))
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
    file.map_or_else(of_system, of_file)
}

/// The authorities of a file that its user names. The file is taken whole or not at all.
fn of_file(path: &Path) -> Result<RootCertStore, Failure> {
    let unusable = |problem: &dyn fmt::Display, fix: &str| {
        Failure::Usage(format!(
            "--ca: {:?} {problem}; {fix}",
            path.to_string_lossy()
        ))
    };
    let file = File::open(path)
        .map_err(|error| unusable(&format_args!("cannot be read: {error}"), "name a PEM file"))?;
    let mut bytes = Vec::new();
    match file.take(MAX_CA_BYTES + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 <= MAX_CA_BYTES => {}
        Ok(_) => return Err(unusable(&"is larger than 1 MiB", "name a PEM file")),
        Err(error) => {
            return Err(unusable(
                &format_args!("cannot be read: {error}"),
                "name a PEM file",
            ));
        }
    }
    let certificates = read_trusted(&bytes).map_err(|(problem, fix)| unusable(&problem, &fix))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        // The error of the library is not shown: it could hold bytes of the file.
        roots.add(certificate).map_err(|_| {
            unusable(
                &"has a certificate with damaged extensions",
                "name another file",
            )
        })?;
    }
    Ok(roots)
}

/// The authorities that the system trusts. Some may be too old to be understood, and are left out.
fn of_system() -> Result<RootCertStore, Failure> {
    let none =
        || Failure::Usage("this system has no list of authorities: name one with --ca".to_owned());
    let mut paths = SYSTEM_CA_FILES.into_iter().map(Path::new);
    let path = paths.find(|path| path.exists()).ok_or_else(none)?;
    let certificates = CertificateDer::pem_file_iter(path).map_err(|_| none())?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        Err(none())
    } else {
        Ok(roots)
    }
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
