//! A tiny relay that compresses, with a window for each client, and the lies that it may tell.
//!
//! It speaks raw frames, because no library here compresses.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tungstenite::handshake::server::{Request, Response};
use zlib_rs::{Deflate, DeflateFlush};

/// A pause when there is nothing to do.
const NAP: Duration = Duration::from_micros(200);

/// The message that it lies about, once, and to one client. The probe has fewer.
const LIE_AT: u64 = 200;

/// The client that it lies to, from 0, those of the probe included.
const VICTIM: usize = 4;

/// The ways in which it compresses, or fails to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It agrees, and compresses all but every third message.
    Honest,
    /// It compresses each message by itself, and says so.
    Forgetful,
    /// It agrees, and compresses nothing.
    Plain,
    /// It does not agree.
    Declining,
    /// A message is compressed and not sent: those after it refer to what the client does not have.
    Skips,
    /// One byte of a compressed message is changed.
    Damages,
    /// A message is compressed although the client has not got the extension.
    Unasked,
    /// It agrees on something that was not offered.
    Invents,
}

impl Manner {
    fn answer(self) -> Option<&'static str> {
        match self {
            Manner::Declining | Manner::Unasked => None,
            Manner::Forgetful => {
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
            }
            Manner::Invents => Some("permessage-deflate; client_max_window_bits=9"),
            Manner::Honest | Manner::Plain | Manner::Skips | Manner::Damages => {
                Some("permessage-deflate; client_no_context_takeover")
            }
        }
    }
}

/// A relay that runs until it is dropped.
pub(crate) struct Deflating {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    has_lied: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Deflating {
    pub(crate) fn start(manner: Manner) -> Deflating {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let has_lied = Arc::new(AtomicBool::new(false));
        let (stopped, lied) = (is_stopped.clone(), has_lied.clone());
        let thread = thread::spawn(move || {
            let mut hub = Hub {
                manner,
                clients: Vec::new(),
                accepted: 0,
                messages: 0,
                has_lied: lied,
            };
            while !stopped.load(Ordering::SeqCst) {
                hub.accept(&listener);
                if !hub.turn() {
                    thread::sleep(NAP);
                }
            }
        });
        Deflating {
            address,
            is_stopped,
            has_lied,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/topic", self.address)
    }

    pub(crate) fn has_lied(&self) -> bool {
        self.has_lied.load(Ordering::SeqCst)
    }
}

impl Drop for Deflating {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

struct Hub {
    manner: Manner,
    clients: Vec<Client>,
    accepted: usize,
    messages: u64,
    has_lied: Arc<AtomicBool>,
}

struct Client {
    id: usize,
    stream: TcpStream,
    /// Bytes that it has sent and that are not a whole frame.
    input: Vec<u8>,
    output: Vec<u8>,
    /// Its compressor, if it has the extension.
    compressor: Option<Deflate>,
    is_gone: bool,
}

impl Hub {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut agreed = None;
            #[expect(
                clippy::result_large_err,
                reason = "the callback's type is tungstenite's"
            )]
            let callback = |request: &Request, mut response: Response| {
                let offer = request.headers().get("Sec-WebSocket-Extensions");
                agreed = self.manner.answer().filter(|_| offer.is_some());
                if let Some(answer) = agreed {
                    let answer = answer.parse().unwrap();
                    response
                        .headers_mut()
                        .insert("Sec-WebSocket-Extensions", answer);
                }
                Ok(response)
            };
            let Ok(socket) = tungstenite::accept_hdr(stream, callback) else {
                continue;
            };
            let stream = socket.into_inner();
            stream.set_nonblocking(true).unwrap();
            self.clients.push(Client {
                id: self.accepted,
                stream,
                input: Vec::new(),
                output: Vec::new(),
                compressor: agreed.map(|_| Deflate::new(1, false, 15)),
                is_gone: false,
            });
            self.accepted += 1;
        }
    }

    /// Whether anything was done.
    fn turn(&mut self) -> bool {
        let mut was_busy = false;
        for sender in 0..self.clients.len() {
            for (opcode, payload) in self.clients[sender].read() {
                was_busy = true;
                match opcode {
                    1 | 2 => self.pass_on(opcode, &payload),
                    8 => {
                        let client = &mut self.clients[sender];
                        client.push(0x88, &payload);
                        client.flush();
                        client.is_gone = true;
                    }
                    9 => self.clients[sender].push(0x8a, &payload),
                    _ => {}
                }
            }
        }
        for client in &mut self.clients {
            client.flush();
        }
        self.clients.retain(|client| !client.is_gone);
        was_busy
    }

    fn pass_on(&mut self, opcode: u8, payload: &[u8]) {
        let number = self.messages;
        self.messages += 1;
        for client in &mut self.clients {
            let is_lie = number == LIE_AT && client.id == VICTIM;
            let is_plain = match self.manner {
                Manner::Honest => number % 3 == 2,
                Manner::Plain | Manner::Declining => true,
                Manner::Unasked => !is_lie,
                Manner::Forgetful | Manner::Skips | Manner::Damages | Manner::Invents => false,
            };
            let mut unasked = is_lie.then(|| Deflate::new(1, false, 15));
            let compressor = client.compressor.as_mut().or(unasked.as_mut());
            let Some(compressor) = compressor.filter(|_| !is_plain) else {
                client.push(0x80 | opcode, payload);
                continue;
            };
            if self.manner == Manner::Forgetful {
                compressor.reset();
            }
            let mut deflated = compress(compressor, payload);
            if is_lie {
                self.has_lied.store(
                    matches!(
                        self.manner,
                        Manner::Skips | Manner::Damages | Manner::Unasked
                    ),
                    Ordering::SeqCst,
                );
                match self.manner {
                    Manner::Skips => continue,
                    Manner::Damages => {
                        let middle = deflated.len() / 2;
                        deflated[middle] ^= 0x10;
                    }
                    _ => {}
                }
            }
            client.push(0xc0 | opcode, &deflated);
        }
    }
}

/// The compressed payload of a message.
fn compress(compressor: &mut Deflate, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 2 * payload.len() + 64];
    let before = compressor.total_out();
    compressor
        .compress(payload, &mut out, DeflateFlush::SyncFlush)
        .unwrap();
    out.truncate((compressor.total_out() - before) as usize);
    let end = out.len() - 4;
    assert_eq!(out[end..], [0x00, 0x00, 0xff, 0xff]);
    out.truncate(end);
    out
}

impl Client {
    /// Whole frames that it has sent, without their masks.
    fn read(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_gone = true,
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.is_gone = true,
        }
        let mut frames = Vec::new();
        while let Some((frame, end)) = frame(&self.input) {
            frames.push(frame);
            self.input.drain(..end);
        }
        frames
    }

    fn push(&mut self, first: u8, payload: &[u8]) {
        self.output.push(first);
        if payload.len() < 126 {
            self.output.push(payload.len() as u8);
        } else {
            self.output.push(126);
            let len = u16::try_from(payload.len()).expect("small messages only");
            self.output.extend(len.to_be_bytes());
        }
        self.output.extend_from_slice(payload);
    }

    fn flush(&mut self) {
        while !self.output.is_empty() && !self.is_gone {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_gone = true,
            }
        }
    }
}

/// The first frame of a client's bytes, and where it ends.
fn frame(input: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let [first, second, ..] = input else {
        return None;
    };
    let (len, at) = match second & 0x7f {
        126 => (
            usize::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)),
            4,
        ),
        127 => panic!("small messages only"),
        short => (usize::from(short), 2),
    };
    let mask: [u8; 4] = *input.get(at..)?.first_chunk()?;
    let end = at + 4 + len;
    let masked = input.get(at + 4..end)?;
    let payload = masked.iter().zip(mask.iter().cycle());
    let payload = payload.map(|(byte, mask)| byte ^ mask).collect();
    Some(((first & 0x0f, payload), end))
}
