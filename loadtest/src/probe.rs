//! The probe: two connections before a run, which find out whether the server is a relay at all, and whether it sends
//! clients their own messages.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Error, HandshakeError, Message, WebSocket};

use crate::handshake;
use crate::message::{Format, Head, key};
use crate::options::Opcode;
use crate::plan::Plan;
use crate::procfs::without_secret_parameters;
use crate::stream::Route;

/// How long the server has for a connection or a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After so long the message is sent again: a relay may have a client join a moment after it has answered it.
const REPEAT: Duration = Duration::from_millis(250);

/// How long a read or a write waits before there is something else to do: a relay may take no more from one client before
/// the other takes something from it.
const TURN: Duration = Duration::from_millis(20);

/// How long a client's own message may come after another's that was sent later.
const OWN: Duration = Duration::from_millis(300);

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// One of the two.
struct Prober {
    socket: WebSocket<Box<dyn Duplex>>,
    format: Format,
    number: u32,
    sent: u64,
}

/// Whether the relay sends clients their own messages. The error is a sentence.
pub(crate) fn probe(plan: &Plan, route: &Route, nonce: u64) -> Result<bool, String> {
    // As it may be shown.
    let url = without_secret_parameters(&plan.target.topic_url(0, plan.topics));
    let format = Format::new(plan.format.size(), plan.format.opcode(), nonce);
    let mut first = Prober::connect(plan, route, format.clone(), 0, &url)?;
    let mut second = Prober::connect(plan, route, format, 1, &url)?;
    let patience = Duration::from_nanos(plan.patience);
    let echo = wait_for_first(&mut first, &mut second, &url, patience)?
        || has_echo(&mut first, &mut second, &url, patience)?;
    first.leave();
    second.leave();
    Ok(echo)
}

/// Waits until what the first sends reaches the second; says whether it has come back before that. Both are read: a relay
/// may take no more from one that leaves what it is sent.
fn wait_for_first(
    first: &mut Prober,
    second: &mut Prober,
    url: &str,
    patience: Duration,
) -> Result<bool, String> {
    let began = Instant::now();
    let mut has_echoed = false;
    while began.elapsed() < patience {
        if first.flush(url)? {
            first.send(url)?;
        }
        let sent = Instant::now();
        while sent.elapsed() < REPEAT {
            first.flush(url)?;
            if second.read(url)? == Some(0) {
                return Ok(has_echoed);
            }
            has_echoed |= first.read(url)? == Some(0);
        }
    }
    Err(format!(
        "{url} is no relay: what one client sent did not reach another within {patience:?}"
    ))
}

/// The second answers; what the first has sent comes back to it before that, or not at all.
fn has_echo(
    first: &mut Prober,
    second: &mut Prober,
    url: &str,
    patience: Duration,
) -> Result<bool, String> {
    second.send(url)?;
    let mut deadline = Instant::now() + patience;
    let mut has_answer = false;
    while Instant::now() < deadline {
        second.flush(url)?;
        // From whoever takes nothing, a relay may take nothing either.
        second.read(url)?;
        match first.read(url)? {
            Some(0) => return Ok(true),
            Some(_) if !has_answer => {
                has_answer = true;
                deadline = Instant::now() + OWN;
            }
            _ => {}
        }
    }
    if has_answer {
        Ok(false)
    } else {
        Err(format!(
            "{url}: messages go from one client to another, but no answer comes back within {patience:?}"
        ))
    }
}

impl Prober {
    fn connect(
        plan: &Plan,
        route: &Route,
        format: Format,
        number: u32,
        url: &str,
    ) -> Result<Prober, String> {
        let wrong = |what: String| format!("{url} cannot be connected to: {what}");
        let tcp = TcpStream::connect_timeout(&route.address, HANDSHAKE)
            .map_err(|error| wrong(error.to_string()))?;
        let set_timeout = |timeout| {
            tcp.set_read_timeout(Some(timeout))?;
            tcp.set_write_timeout(Some(timeout))
        };
        set_timeout(HANDSHAKE).map_err(|error| wrong(error.to_string()))?;
        let duplicate = tcp.try_clone().map_err(|error| wrong(error.to_string()))?;
        let stream: Box<dyn Duplex> = match &route.tls {
            None => Box::new(duplicate),
            Some((config, name)) => {
                let session = ClientConnection::new(config.clone(), name.clone());
                let session = session.map_err(|error| wrong(error.to_string()))?;
                Box::new(StreamOwned::new(session, duplicate))
            }
        };
        let request = plan.target.request(0, plan.topics)?;
        // As large as the run's messages may be.
        let limits = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let socket = match client_with_config(request, stream, Some(limits)) {
            Ok((socket, _)) => socket,
            Err(HandshakeError::Failure(error)) => return Err(wrong(handshake::reason(&error))),
            Err(HandshakeError::Interrupted(_)) => {
                let patience = HANDSHAKE.as_secs();
                return Err(wrong(format!(
                    "no answer to the handshake within {patience} s"
                )));
            }
        };
        set_timeout(TURN).map_err(|error| wrong(error.to_string()))?;
        Ok(Prober {
            socket,
            format,
            number,
            sent: 0,
        })
    }

    /// Begins to send a message; what is not taken at once, [`Prober::flush`] sends.
    fn send(&mut self, url: &str) -> Result<(), String> {
        let mut payload = vec![0; self.format.head_bytes()];
        let head = Head {
            key: key(self.number, self.sent),
            due: 0,
        };
        self.format.write_head(head, &mut payload);
        payload.extend_from_slice(self.format.filler(self.number as usize));
        self.sent += 1;
        let message = match self.format.opcode() {
            Opcode::Binary => Message::binary(Bytes::from(payload)),
            Opcode::Text => Message::text(String::from_utf8(payload).map_err(|e| e.to_string())?),
        };
        is_done(self.socket.send(message))
            .map(|_| ())
            .map_err(|error| not_taken(url, &error))
    }

    /// Goes on sending; whether all is sent.
    fn flush(&mut self, url: &str) -> Result<bool, String> {
        is_done(self.socket.flush()).map_err(|error| not_taken(url, &error))
    }

    /// Who sent the message that came, if one did that belongs to the probe.
    fn read(&mut self, url: &str) -> Result<Option<u32>, String> {
        let payload = match self.socket.read() {
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(frame)) => {
                let why = frame.map_or_else(String::new, |frame| format!(" ({})", frame.code));
                return Err(format!("{url} has closed a connection of the probe{why}"));
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => return Ok(None),
            Err(Error::Io(error)) if is_too_early(&error) => return Ok(None),
            Err(error) => {
                return Err(format!(
                    "{url} has ended a connection of the probe: {error}"
                ));
            }
        };
        let head = self.format.read_head(&payload);
        Ok(head.map(|head| head.publisher() as u32))
    }

    /// Leaves with a word, and waits a moment for the answer.
    fn leave(mut self) {
        let began = Instant::now();
        if self.socket.close(None).is_err() {
            return;
        }
        while began.elapsed() < OWN {
            match self.socket.read() {
                Err(Error::Io(error)) if is_too_early(&error) => {}
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether something was done to its end, and not only begun.
fn is_done(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::Io(error)) if is_too_early(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_too_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn not_taken(url: &str, error: &Error) -> String {
    format!("{url} does not take a message of the probe: {error}")
}
