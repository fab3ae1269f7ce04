//! A tiny relay that keeps its messages: it says positions, replays to clients that come back, writes server-sent
//! events and takes posts. It is right unless it is told to lie. One thread goes round its clients.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

/// A pause when there is nothing to do.
const NAP: Duration = Duration::from_micros(200);

/// Time for which nobody is let in after a restart.
const DOWN: Duration = Duration::from_millis(300);

/// Time that a client has for the head of its request.
const HEAD: Duration = Duration::from_secs(2);

/// A lie, told once: to the first client that comes back, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Everything is right.
    None,
    /// One message too many is replayed.
    Repeat,
    /// One message too few is replayed, and nothing is said.
    Skip,
    /// Three messages are said to be lost, and all are replayed.
    SayLost,
    /// Three are left out, and one is said to be lost.
    SayTooFew,
    /// Three are left out and said to be lost, but the position stays.
    SayNoPlace,
    /// A position of its own epoch is said to be unknown.
    SayUnknown,
    /// The replay begins with another message than the history has there.
    Exchange,
    /// A client is closed with a position that is not its own.
    CloseElsewhere,
    /// An event has the number of the one after it.
    MisnumberEvent,
    /// An event of binary data has another byte.
    SpoilEvent,
    /// A post is accepted and thrown away.
    DropPost,
    /// A post is accepted, and its answer has the position of another.
    MisplacePost,
    /// A post is refused for good.
    RefusePost,
    /// A post is refused for now.
    HoldPost,
    /// No lie: all clients are sent away as by a restart, and the messages are kept.
    Restart,
}

/// Messages with their opcode: whether each is text.
type Log = Vec<(bool, Vec<u8>)>;

/// A relay that runs until it is dropped.
pub(crate) struct Keeper {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    lies: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

enum Io {
    Socket(Box<WebSocket<TcpStream>>),
    Events(TcpStream),
    Post(TcpStream, Vec<u8>),
}

struct Client {
    io: Io,
    path: String,
    /// The number of the next message that it is sent.
    next: usize,
    /// The number that it counts.
    counted: usize,
    has_words: bool,
    is_gone: bool,
    is_closing: bool,
    unsent: Vec<u8>,
}

struct Hub {
    lie: Lie,
    lies: Arc<AtomicU64>,
    logs: HashMap<String, Log>,
    clients: Vec<Client>,
    /// Until when nobody is let in after a restart.
    closed_until: Option<Instant>,
}

impl Keeper {
    pub(crate) fn start(lie: Lie) -> Keeper {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let lies = Arc::new(AtomicU64::new(0));
        let mut hub = Hub {
            lie,
            lies: lies.clone(),
            logs: HashMap::new(),
            clients: Vec::new(),
            closed_until: None,
        };
        let stopped = is_stopped.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                while hub.is_open()
                    && let Ok((stream, _)) = listener.accept()
                {
                    hub.accept(stream);
                }
                hub.restart();
                if !hub.turn() {
                    thread::sleep(NAP);
                }
            }
        });
        Keeper {
            address,
            is_stopped,
            lies,
            thread: Some(thread),
        }
    }

    /// The number of lies told.
    pub(crate) fn lies(&self) -> u64 {
        self.lies.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/topic", self.address)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// The head of a request, without taking it.
fn peek(stream: &TcpStream) -> Option<String> {
    stream.set_nonblocking(true).ok()?;
    let began = Instant::now();
    let mut buffer = [0; 4096];
    while began.elapsed() < HEAD {
        let bytes = stream.peek(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            return Some(format!("{head}\r\n\r\n"));
        }
        thread::sleep(NAP);
    }
    None
}

/// The number of a position that is asked for.
fn asked(head: &str) -> Option<usize> {
    let field = head
        .lines()
        .find_map(|line| line.strip_prefix("Last-Event-ID: fake-"));
    let query = head.split("since=fake-").nth(1);
    let text = field.or(query)?;
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Hub {
    /// Whether a lie of this kind is told now.
    fn lies(&self, lie: Lie) -> bool {
        let is_now = self.lie == lie && self.lies.load(Ordering::SeqCst) == 0;
        if is_now {
            self.lies.fetch_add(1, Ordering::SeqCst);
        }
        is_now
    }

    fn is_open(&self) -> bool {
        self.closed_until
            .is_none_or(|until| Instant::now() >= until)
    }

    /// Sends all clients away. Connections that publish are ended with their next answer.
    fn restart(&mut self) {
        let is_time = self.logs.values().any(|log| log.len() > 200);
        if !is_time || !self.lies(Lie::Restart) {
            return;
        }
        self.closed_until = Some(Instant::now() + DOWN);
        for client in &mut self.clients {
            let at = client.counted;
            match &mut client.io {
                Io::Socket(socket) => {
                    let frame = CloseFrame {
                        code: 1001.into(),
                        reason: format!("going away; at fake-{at}; retry 100").into(),
                    };
                    // The client may be gone already.
                    let _ = socket.close(Some(frame));
                    let _ = socket.flush();
                    client.next = usize::MAX;
                }
                Io::Events(_) => {
                    let end =
                        format!("{{\"at\":\"fake-{at}\",\"code\":1001,\"reason\":\"going away\"}}");
                    let event = format!("id: fake-{at}\nevent: fanwire\ndata: {end}\n\n");
                    client.unsent.extend_from_slice(event.as_bytes());
                    client.flush();
                    client.is_gone = true;
                }
                Io::Post(..) => client.is_closing = true,
            }
        }
    }

    fn accept(&mut self, mut stream: TcpStream) {
        let Some(head) = peek(&stream) else {
            return;
        };
        let path = head.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_owned();
        if head.starts_with("POST ") {
            return self.admit(Io::Post(stream, Vec::new()), path, 0, 0, false);
        }
        let end = self.logs.entry(path.clone()).or_default().len();
        let from = asked(&head);
        let (next, at, lost) = match from {
            None => (end, end, Some(0)),
            Some(from) => self.judge(from, end),
        };
        let lost = lost.map_or("null".to_owned(), |lost| lost.to_string());
        let hello = format!("{{\"at\":\"fake-{at}\",\"lost\":{lost}}}");
        if head.contains("text/event-stream") {
            stream.set_nonblocking(false).unwrap();
            let mut taken = vec![0; head.len()];
            stream.read_exact(&mut taken).unwrap();
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            let hello = format!(
                "retry: 1234\n: a comment\n\nevent: fanwire\nid: fake-{at}\ndata: {hello}\n\n"
            );
            // The client may be gone already.
            let _ = stream.write_all((answer.to_owned() + &hello).as_bytes());
            stream.set_nonblocking(true).unwrap();
            return self.admit(Io::Events(stream), path, next, at, false);
        }
        let mut has_words = false;
        #[expect(
            clippy::result_large_err,
            reason = "the callback's type is tungstenite's"
        )]
        let callback = |request: &Request, mut response: Response| {
            has_words = request.headers().contains_key("Sec-WebSocket-Protocol");
            if has_words {
                let name = HeaderValue::from_static("fanwire.v1");
                response
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", name);
            }
            Ok(response)
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        let Ok(mut socket) = tungstenite::accept_hdr(stream, callback) else {
            return;
        };
        if has_words && socket.send(Message::text(format!("\0{hello}"))).is_err() {
            return;
        }
        socket.get_ref().set_nonblocking(true).unwrap();
        self.admit(Io::Socket(Box::new(socket)), path, next, at, has_words);
    }

    fn admit(&mut self, io: Io, path: String, next: usize, counted: usize, has_words: bool) {
        self.clients.push(Client {
            io,
            path,
            next,
            counted,
            has_words,
            is_gone: false,
            is_closing: false,
            unsent: Vec::new(),
        });
    }

    /// For a client that asks for a position: the next message, the position that is said, and what is said to be lost.
    fn judge(&self, from: usize, end: usize) -> (usize, usize, Option<usize>) {
        // Enough must be there to lie about.
        let has_room = from > 10 && end > from + 5;
        match self.lie {
            Lie::Repeat if has_room && self.lies(Lie::Repeat) => (from - 1, from, Some(0)),
            Lie::Skip if has_room && self.lies(Lie::Skip) => (from + 1, from, Some(0)),
            Lie::SayLost if has_room && self.lies(Lie::SayLost) => (from, from + 3, Some(3)),
            Lie::SayTooFew if has_room && self.lies(Lie::SayTooFew) => {
                (from + 3, from + 1, Some(1))
            }
            Lie::SayNoPlace if has_room && self.lies(Lie::SayNoPlace) => (from + 3, from, Some(3)),
            Lie::SayUnknown if has_room && self.lies(Lie::SayUnknown) => (end, end, None),
            _ => (from.min(end), from.min(end), Some(0)),
        }
    }

    /// Whether anything was done.
    fn turn(&mut self) -> bool {
        let mut was_busy = false;
        for index in 0..self.clients.len() {
            was_busy |= self.take(index);
        }
        for index in 0..self.clients.len() {
            was_busy |= self.give(index);
        }
        self.clients.retain(|client| !client.is_gone);
        was_busy
    }

    /// Takes what a client has sent.
    fn take(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        match &mut client.io {
            Io::Socket(socket) => {
                let (is_text, payload) = match socket.read() {
                    Ok(Message::Text(text)) => (true, text.as_bytes().to_vec()),
                    Ok(Message::Binary(bytes)) => (false, bytes.to_vec()),
                    Ok(_) => return false,
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return false,
                    Err(_) => {
                        client.is_gone = true;
                        return false;
                    }
                };
                let log = self.logs.entry(client.path.clone()).or_default();
                log.push((is_text, payload));
                true
            }
            Io::Events(stream) => {
                client.is_gone |= matches!(stream.read(&mut [0; 64]), Ok(0));
                false
            }
            Io::Post(stream, input) => {
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer) {
                    Ok(0) => client.is_gone = true,
                    Ok(bytes) => input.extend_from_slice(&buffer[..bytes]),
                    Err(_) => {}
                }
                self.answer_posts(index)
            }
        }
    }

    fn answer_posts(&mut self, index: usize) -> bool {
        let mut was_busy = false;
        loop {
            let Io::Post(_, input) = &mut self.clients[index].io else {
                return was_busy;
            };
            let Some((is_text, payload)) = take_post(input) else {
                return was_busy;
            };
            was_busy = true;
            let path = self.clients[index].path.clone();
            let end = self.logs.entry(path.clone()).or_default().len();
            let is_late = end > 50;
            if is_late && self.lies(Lie::RefusePost) {
                self.write(
                    index,
                    "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                );
                continue;
            }
            if is_late && self.lies(Lie::HoldPost) {
                self.write(
                    index,
                    "HTTP/1.1 503 Later\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
                );
                continue;
            }
            if std::mem::take(&mut self.clients[index].is_closing) {
                let answer = "HTTP/1.1 503 Later\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                self.write(index, answer);
                self.clients[index].flush();
                self.clients[index].is_gone = true;
                return true;
            }
            let is_dropped = is_late && self.lies(Lie::DropPost);
            let log = self.logs.entry(path).or_default();
            if !is_dropped {
                log.push((is_text, payload));
            }
            let mut at = log.len();
            if is_late && self.lies(Lie::MisplacePost) {
                at += 1;
            }
            let body = format!("{{\"at\":\"fake-{at}\",\"members\":1}}");
            let length = body.len();
            self.write(
                index,
                &format!("HTTP/1.1 202 Accepted\r\nFanwire-Position: fake-{at}\r\nContent-Length: {length}\r\n\r\n{body}"),
            );
        }
    }

    fn write(&mut self, index: usize, text: &str) {
        self.clients[index]
            .unsent
            .extend_from_slice(text.as_bytes());
    }

    /// Gives a client what it has not had.
    fn give(&mut self, index: usize) -> bool {
        let path = self.clients[index].path.clone();
        let end = self.logs.get(&path).map_or(0, Vec::len);
        let mut was_busy = false;
        let is_post = matches!(self.clients[index].io, Io::Post(..));
        while !is_post && self.clients[index].next < end && !self.clients[index].is_gone {
            was_busy = true;
            self.give_one(index, &path);
        }
        self.clients[index].flush();
        was_busy
    }

    fn give_one(&mut self, index: usize, path: &str) {
        let client = &self.clients[index];
        let (next, counted) = (client.next, client.counted);
        let is_event = matches!(client.io, Io::Events(_));
        let is_socket = matches!(client.io, Io::Socket(_)) && client.has_words;
        let mut number = counted + 1;
        if is_socket && next > 100 && index > 2 && self.lies(Lie::CloseElsewhere) {
            let frame = CloseFrame {
                code: 1001.into(),
                reason: format!("going away; at fake-{}", counted + 3).into(),
            };
            if let Io::Socket(socket) = &mut self.clients[index].io {
                // The client may be gone already.
                let _ = socket.close(Some(frame));
                let _ = socket.flush();
            }
            self.clients[index].next = usize::MAX;
            return;
        }
        let is_misnumbered = is_event && next > 100 && self.lies(Lie::MisnumberEvent);
        let is_spoilt = is_event && next > 100 && self.lies(Lie::SpoilEvent);
        let is_exchanged = is_socket && next > 100 && self.lies(Lie::Exchange);
        let log = &self.logs[path];
        let (is_text, mut payload) = log[if is_exchanged { next - 1 } else { next }].clone();
        number += usize::from(is_misnumbered);
        if is_spoilt {
            *payload.last_mut().unwrap() ^= 1;
        }
        let client = &mut self.clients[index];
        client.next += 1;
        client.counted += 1;
        client.send(is_text, &payload, number);
    }
}

/// Takes a whole request out of the input: whether it is text, and its body.
fn take_post(input: &mut Vec<u8>) -> Option<(bool, Vec<u8>)> {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..end]).into_owned();
    let length = head.split("Content-Length: ").nth(1)?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    if input.len() < end + length {
        return None;
    }
    let body = input[end..end + length].to_vec();
    input.drain(..end + length);
    Some((head.contains("text/plain"), body))
}

impl Client {
    fn send(&mut self, is_text: bool, payload: &[u8], number: usize) {
        match &mut self.io {
            Io::Socket(socket) => {
                let message = if is_text {
                    Message::text(String::from_utf8_lossy(payload).into_owned())
                } else {
                    Message::binary(payload.to_vec())
                };
                match socket.write(message) {
                    Ok(()) => {}
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => self.is_gone = true,
                }
            }
            Io::Events(_) => {
                let mut event = format!("id: fake-{number}\n");
                if is_text {
                    let _ = writeln!(event, "data: {}", String::from_utf8_lossy(payload));
                } else {
                    let _ = writeln!(event, "event: binary\ndata: {}", BASE64.encode(payload));
                }
                event.push('\n');
                self.unsent.extend_from_slice(event.as_bytes());
            }
            Io::Post(..) => {}
        }
    }

    fn flush(&mut self) {
        let stream = match &mut self.io {
            Io::Socket(socket) => {
                match socket.flush() {
                    Ok(()) => {}
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => self.is_gone = true,
                }
                return;
            }
            Io::Events(stream) | Io::Post(stream, _) => stream,
        };
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(bytes) => drop(self.unsent.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
    }
}
