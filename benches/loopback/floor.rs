//! The floor: a bare loop that sends ready-made bytes to every socket. Nothing on sockets and epoll can be faster.
//!
//! It is not a relay. It counts the bytes that it reads, and does not look at them. It sends the frames that a relay would send,
//! from a ring that was filled beforehand.
//!
//! It makes the same system calls as the relay: edge-triggered events and one read for each
//! readable socket. In a turn it makes one send for each socket ([`Sends::PerTurn`]), or one for each frame
//! ([`Sends::PerFrame`]).

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::wire::Traffic;

/// As large as the relay's scratch buffer.
const SCRATCH_BYTES: usize = 128 << 10;

const LISTENER: Token = Token(usize::MAX);

/// The frames that leave in one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sends {
    /// All frames of a turn.
    PerTurn,
    /// One frame.
    PerFrame,
}

/// A floor that runs on a thread of its own.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) address: SocketAddr,
    writes: Arc<AtomicU64>,
}

impl Handle {
    /// The number of send calls so far.
    pub(crate) fn writes(&self) -> u64 {
        // Relaxed: no other data depends on the count.
        self.writes.load(Ordering::Relaxed)
    }
}

/// Starts a floor. It ends with the process.
pub(crate) fn start(traffic: Traffic, sends: Sends) -> io::Result<Handle> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let address = listener.local_addr()?;
    let writes = Arc::<AtomicU64>::default();
    let mut floor = Floor {
        poll,
        listener,
        sockets: Vec::new(),
        ring: ring(traffic),
        lap_bytes: traffic.publishers * traffic.counts() as usize * traffic.server_frame_bytes(),
        message_bytes: traffic.client_frame_bytes(),
        frame_bytes: traffic.server_frame_bytes(),
        sends,
        published_bytes: 0,
        scratch: vec![0; SCRATCH_BYTES],
        writes: 0,
    };
    let published = writes.clone();
    thread::spawn(move || {
        loop {
            floor.turn().expect("epoll and accept do not fail here");
            published.store(floor.writes, Ordering::Relaxed);
        }
    });
    Ok(Handle { address, writes })
}

/// Every message once, with the publishers in turn, and then the first ones again. So any messages that are in flight together
/// lie in one piece.
fn ring(traffic: Traffic) -> Vec<u8> {
    let frames = traffic.publishers * traffic.counts() as usize + traffic.in_flight();
    let mut ring = Vec::with_capacity(frames * traffic.server_frame_bytes());
    for frame in 0..frames {
        let (count, sender) = (frame / traffic.publishers, frame % traffic.publishers);
        ring.extend_from_slice(&traffic.server_frame_start(sender, count as u64));
        ring.resize((frame + 1) * traffic.server_frame_bytes(), 0);
    }
    ring
}

struct Socket {
    stream: TcpStream,
    /// Bytes of a message whose end has not arrived.
    partial_bytes: usize,
    sent_bytes: u64,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    sockets: Vec<Socket>,
    ring: Vec<u8>,
    /// The ring repeats after this number of bytes.
    lap_bytes: usize,
    message_bytes: usize,
    frame_bytes: usize,
    sends: Sends,
    /// Bytes for every socket since the start.
    published_bytes: u64,
    scratch: Vec<u8>,
    writes: u64,
}

impl Floor {
    fn turn(&mut self) -> io::Result<()> {
        // As many as the relay takes. The allocation is too cheap to matter.
        let mut events = Events::with_capacity(1024);
        if let Err(error) = self.poll.poll(&mut events, None)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let before = self.published_bytes;
        let mut writable = Vec::new();
        for event in &events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(index) => {
                    if event.is_readable() {
                        self.read(index);
                    }
                    if event.is_writable() {
                        writable.push(index);
                    }
                }
            }
        }
        if self.published_bytes > before {
            for index in 0..self.sockets.len() {
                self.flush(index);
            }
        } else {
            for index in writable {
                self.flush(index);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.sockets.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, token, interest)?;
            self.sockets.push(Socket {
                stream,
                partial_bytes: 0,
                sent_bytes: self.published_bytes,
            });
        }
    }

    fn read(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        loop {
            // A client leaves only when its measurement is over, so an error does not matter.
            let n = socket.stream.read(&mut self.scratch).unwrap_or(0);
            let arrived = socket.partial_bytes + n;
            socket.partial_bytes = arrived % self.message_bytes;
            self.published_bytes += (arrived / self.message_bytes * self.frame_bytes) as u64;
            if n < self.scratch.len() {
                return;
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        while socket.sent_bytes < self.published_bytes {
            // The remainder is below the ring's length.
            let at = (socket.sent_bytes % self.lap_bytes as u64) as usize;
            let most = match self.sends {
                Sends::PerTurn => self.ring.len() - at,
                Sends::PerFrame => self.frame_bytes - at % self.frame_bytes,
            };
            // At most the bytes that may be in flight.
            let owed = (self.published_bytes - socket.sent_bytes) as usize;
            let end = at + owed.min(most);
            self.writes += 1;
            let Ok(sent) = socket.stream.write(&self.ring[at..end]) else {
                return;
            };
            socket.sent_bytes += sent as u64;
            if at + sent < end {
                return;
            }
        }
    }
}
