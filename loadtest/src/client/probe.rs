//! The probe: two connections before a run. They find out whether the server is a relay, and whether it sends clients
//! their own messages.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Error, HandshakeError, Message, WebSocket};

use crate::client::asking;
use crate::client::stream::{Route, Stream};
use crate::client::websocket::handshake;
use crate::scenario::message::{Format, Head, key};
use crate::scenario::options::Opcode;
use crate::scenario::plan::Plan;
use crate::scenario::protocol::{Protocol, Resume};
use crate::secrets;

/// Time that the server has for a connection or a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Time after which the message is sent again: a client may join a moment after the relay has answered it.
const REPEAT: Duration = Duration::from_millis(250);

/// Time to wait for a socket at once.
const TURN: Duration = Duration::from_millis(20);

/// Time that the two may take to close: they have to finish sending first.
const GOODBYE: Duration = Duration::from_secs(2);

/// Time by which a client's own message may come after another's that was sent later.
const OWN: Duration = Duration::from_millis(300);

/// One of the two connections.
struct Prober {
    socket: WebSocket<Stream>,
    format: Format,
    number: u32,
    sent: u64,
    /// Whether the kernel has not taken all that was sent.
    has_unsent: bool,
    /// Whether there may be more to read than the socket knows of.
    has_unread: bool,
}

/// Whether the relay sends clients their own messages. The error is a sentence.
pub(crate) fn probe(plan: &Plan, routes: &[Route], nonce: u64) -> Result<bool, String> {
    // Without its secrets, since it is shown.
    let url = secrets::hide_in(&plan.target.topic_url(0, plan.topics));
    let format = plan.format.of_run(nonce);
    // Relays that are not one would be found here.
    let ends = routes.first().zip(routes.last());
    let (near, far) = ends.ok_or("--url: it is missing")?;
    let mut first = Prober::connect(plan, near, format.clone(), 0, &url)?;
    let mut second = Prober::connect(plan, far, format, 1, &url)?;
    let patience = Duration::from_nanos(plan.patience);
    let echo = wait_for_first(&mut first, &mut second, &url, patience)?
        || has_echo(&mut first, &mut second, &url, patience)?;
    leave([first, second]);
    Ok(echo)
}

/// Waits until a message of the first reaches the second. Returns whether it came back to the first before that.
fn wait_for_first(
    first: &mut Prober,
    second: &mut Prober,
    url: &str,
    patience: Duration,
) -> Result<bool, String> {
    let began = Instant::now();
    let mut has_echoed = false;
    while began.elapsed() < patience {
        if !first.has_unsent {
            first.send(url)?;
        }
        let sent = Instant::now();
        while sent.elapsed() < REPEAT {
            let [own, others] = turn(first, second, url)?;
            has_echoed |= own == Some(0);
            if others == Some(0) {
                return Ok(has_echoed);
            }
        }
    }
    Err(format!(
        "{url} is not a relay: a message of one client did not reach another within {patience:?}"
    ))
}

/// Lets the second answer. The first gets its own message back before the answer, or not at all.
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
        match turn(first, second, url)? {
            [Some(0), _] => return Ok(true),
            [Some(_), _] if !has_answer => {
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

/// Closes both connections, and waits for the relay's answers.
fn leave(both: [Prober; 2]) {
    let deadline = Instant::now() + GOODBYE;
    let mut there = Vec::from(both);
    there.retain_mut(Prober::begins_to_leave);
    while !there.is_empty() && Instant::now() < deadline {
        if there.iter().all(|prober| !prober.has_unread) {
            wait(there.iter_mut().map(Prober::watched));
        }
        there.retain_mut(Prober::goes_on_leaving);
    }
}

/// Waits a moment for something to do, then lets both send and read. Both take turns, since a relay may stop reading
/// from one client until the other takes something. Returns whose message each has received.
fn turn(first: &mut Prober, second: &mut Prober, url: &str) -> Result<[Option<u32>; 2], String> {
    if !first.has_unread && !second.has_unread {
        wait([first.watched(), second.watched()]);
    }
    first.flush(url)?;
    second.flush(url)?;
    Ok([first.read(url)?, second.read(url)?])
}

/// Waits a moment until one of the streams has something to read or, if it is to write, has room.
fn wait<'s>(streams: impl IntoIterator<Item = (bool, &'s mut Stream)>) {
    const MOMENT: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: TURN.as_nanos() as i64,
    };
    let watched = streams.into_iter().map(|(is_to_write, stream)| {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, is_to_write);
        let socket: &'s _ = stream.socket();
        PollFd::from_borrowed_fd(socket.as_fd(), flags)
    });
    let mut watched: Vec<PollFd<'s>> = watched.collect();
    // An error is a signal: what there is to do is tried all the same.
    let _ = poll(&mut watched, Some(&MOMENT));
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
        let stream = connected(route).map_err(|error| wrong(error.to_string()))?;
        let target = plan.targets().nth(route.node).unwrap_or(&plan.target);
        let bare = target.request(0, plan.topics)?;
        let protocol = match plan.resume {
            Resume::Fanwire => Protocol::Positions,
            Resume::None | Resume::Nchan => Protocol::WebSocket,
        };
        let request = asking::request(bare, protocol, None);
        // The messages of a run may be larger than the usual limits.
        let limits = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let deadline = Instant::now() + HANDSHAKE;
        let mut step = client_with_config(request, stream, Some(limits));
        let socket = loop {
            match step {
                Ok((socket, _)) => break socket,
                Err(HandshakeError::Failure(error)) if asking::has_no_positions(&error) => {
                    return Err(format!(
                        "{url} does not say positions: it did not select the subprotocol fanwire.v1; fanwire does if \
                         history.max_age is above 0s, and clients of other servers come back with --resume none"
                    ));
                }
                Err(HandshakeError::Failure(error)) => {
                    return Err(wrong(handshake::reason(&error)));
                }
                Err(HandshakeError::Interrupted(mut mid)) if Instant::now() < deadline => {
                    // If the request itself has not left yet, it is tried again after a moment.
                    wait([(false, mid.get_mut().get_mut())]);
                    step = mid.handshake();
                }
                Err(HandshakeError::Interrupted(_)) => {
                    let patience = HANDSHAKE.as_secs();
                    return Err(wrong(format!(
                        "no answer to the handshake within {patience} s"
                    )));
                }
            }
        };
        Ok(Prober {
            socket,
            format,
            number,
            sent: 0,
            has_unsent: false,
            has_unread: true,
        })
    }

    /// Begins to send a message. [`Prober::flush`] sends the rest of it.
    fn send(&mut self, url: &str) -> Result<(), String> {
        let mut payload = vec![0; self.format.head_bytes()];
        let head = Head {
            key: key(self.number, self.sent),
            due: 0,
        };
        self.format.write_head(head, &mut payload);
        payload.extend_from_slice(self.format.filler(head.key));
        self.sent += 1;
        let message = match self.format.opcode() {
            Opcode::Binary => Message::binary(Bytes::from(payload)),
            Opcode::Text => Message::text(String::from_utf8(payload).map_err(|e| e.to_string())?),
        };
        let sent = self.socket.send(message);
        self.note_sent(sent).map_err(|error| not_taken(url, &error))
    }

    /// Goes on sending.
    fn flush(&mut self, url: &str) -> Result<(), String> {
        let sent = self.socket.flush();
        self.note_sent(sent).map_err(|error| not_taken(url, &error))
    }

    /// Notes whether something is unsent. It is not an error that the kernel takes no more for now.
    fn note_sent(&mut self, sent: Result<(), Error>) -> Result<(), Error> {
        self.has_unsent = matches!(&sent, Err(error) if is_too_early(error));
        if self.has_unsent { Ok(()) } else { sent }
    }

    /// Reads a message. Returns its sender, if it belongs to the probe.
    fn read(&mut self, url: &str) -> Result<Option<u32>, String> {
        let payload = match self.next() {
            Ok(Some(Message::Text(text))) => Bytes::from(text),
            Ok(Some(Message::Binary(bytes))) => bytes,
            Ok(Some(Message::Close(frame))) => {
                let why = frame.map_or_else(String::new, |frame| format!(" ({})", frame.code));
                return Err(format!("{url} has closed a connection of the probe{why}"));
            }
            Ok(Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) | None) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(format!(
                    "{url} has ended a connection of the probe: {error}"
                ));
            }
        };
        let head = self.format.read_head(&payload);
        Ok(head.map(|head| head.publisher() as u32))
    }

    /// The next message, if one has come.
    fn next(&mut self) -> Result<Option<Message>, Error> {
        let read = self.socket.read();
        self.has_unread = read.is_ok();
        match read {
            Ok(message) => Ok(Some(message)),
            Err(error) if is_too_early(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its stream for [`wait`], and whether it is to write.
    fn watched(&mut self) -> (bool, &mut Stream) {
        (self.has_unsent, self.socket.get_mut())
    }

    /// Sends a Close. Returns whether the connection is still there.
    fn begins_to_leave(&mut self) -> bool {
        let said = self.socket.close(None);
        self.note_sent(said).is_ok()
    }

    /// Goes on closing. Returns whether the connection is still there.
    fn goes_on_leaving(&mut self) -> bool {
        let said = self.socket.flush();
        self.note_sent(said).is_ok() && !matches!(self.next(), Err(_) | Ok(Some(Message::Close(_))))
    }
}

fn is_too_early(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn not_taken(url: &str, error: &Error) -> String {
    format!("{url} does not take a message of the probe: {error}")
}

/// A stream that is connected.
fn connected(route: &Route) -> io::Result<Stream> {
    let deadline = Instant::now() + HANDSHAKE;
    let mut stream = Stream::dial(route, None, false)?;
    while !stream.is_connected()? {
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        wait([(true, &mut stream)]);
    }
    Ok(stream)
}
