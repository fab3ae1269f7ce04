//! The floor: the least that a WebSocket server can do to pass messages on. Others are measured by it; it is not a
//! relay.
//!
//! One thread works in turns: it reads all that has arrived, puts the frames into a buffer per path, and sends that
//! buffer to each connection. It knows just enough of RFC 6455 for the load generator: the handshake, whole frames,
//! ping and close. It has no limits and trusts everybody: do not serve with it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use clap::{Parser, ValueEnum};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use slab::Slab;
use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

/// The most bytes of one read.
const SCRATCH_BYTES: usize = 128 << 10;

/// The most buffers that one send joins.
const MAX_SLICES: usize = 64;

/// Connections that may wait to be accepted. With the usual 128 the load generator would wait for a second.
const BACKLOG: i32 = 4096;

const LISTENER: Token = Token(usize::MAX);

const PING: u8 = 0x9;
const CLOSE: u8 = 0x8;

/// The frames that leave in one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sends {
    /// All frames of a turn.
    Turn,
    /// One frame.
    Frame,
    /// All frames of a turn, from a file in memory by sendfile, which copies nothing: for large messages.
    Memfd,
}

/// The least that a WebSocket server can do, for others to be measured by.
#[derive(Clone, Copy, Debug, Parser)]
struct Args {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The frames that leave in one send.
    #[arg(long, value_enum, default_value_t = Sends::Turn)]
    sends: Sends,
}

/// The frames of one turn on one path, the same for all its connections.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The end of each frame.
    ends: Vec<usize>,
    /// The same bytes as a file, if they are sent from one.
    file: Option<OwnedFd>,
}

impl Batch {
    fn push(&mut self, first: u8, payload: &[u8], mask: [u8; 4]) {
        self.bytes.push(first);
        match payload.len() {
            // The pattern of each arm bounds the length.
            len @ ..126 => self.bytes.push(len as u8),
            len @ ..65_536 => {
                self.bytes.push(126);
                self.bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.bytes.push(127);
                self.bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        unmask(&mut self.bytes[start..], mask);
        self.ends.push(self.bytes.len());
    }
}

/// Unmasks eight bytes at a time, which compilers make fast.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u64::from(u32::from_ne_bytes(mask));
    let word = word << 32 | word;
    let mut words = payload.chunks_exact_mut(8);
    for chunk in &mut words {
        let chunk: &mut [u8; 8] = chunk.try_into().expect("chunks of eight");
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (index, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
}

struct Conn {
    stream: TcpStream,
    /// The beginning of a request or a frame.
    partial: Vec<u8>,
    /// The room of its path, after the handshake.
    room: Option<usize>,
    /// Buffers that the kernel has not taken, and the bytes of the first that it has.
    owed: VecDeque<Rc<Batch>>,
    sent_bytes: usize,
    is_over: bool,
}

#[derive(Default)]
struct Room {
    members: Vec<usize>,
    turn: Batch,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    sends: Sends,
    conns: Slab<Conn>,
    rooms: Vec<Room>,
    rooms_by_path: HashMap<String, usize>,
    /// Rooms with frames of this turn.
    dirty: Vec<usize>,
    scratch: Vec<u8>,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut listener = listen(args.port)?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    writeln!(io::stdout(), "ready {}", listener.local_addr()?)?;
    let mut floor = Floor {
        poll,
        listener,
        sends: args.sends,
        conns: Slab::new(),
        rooms: Vec::new(),
        rooms_by_path: HashMap::new(),
        dirty: Vec::new(),
        scratch: vec![0; SCRATCH_BYTES],
    };
    let mut events = Events::with_capacity(1024);
    loop {
        floor.turn(&mut events)?;
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Floor {
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        if let Err(error) = self.poll.poll(events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        let mut over = Vec::new();
        for event in events.iter() {
            let Token(key) = event.token();
            if event.token() == LISTENER {
                self.accept()?;
                continue;
            }
            if event.is_writable() && !self.conns[key].owed.is_empty() {
                self.conns[key].flush(self.sends);
            }
            if event.is_readable() {
                self.read(key);
            }
            if self.conns[key].is_over {
                over.push(key);
            }
        }
        for key in over {
            self.remove(key);
        }
        for room in std::mem::take(&mut self.dirty) {
            self.spread(room)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let entry = self.conns.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(entry.key()), interest)?;
            entry.insert(Conn {
                stream,
                partial: Vec::new(),
                room: None,
                owed: VecDeque::new(),
                sent_bytes: 0,
                is_over: false,
            });
        }
    }

    fn read(&mut self, key: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            let n = match self.conns[key].stream.read(&mut scratch) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => 0,
            };
            if n == 0 {
                self.conns[key].is_over = true;
                break;
            }
            self.take(key, &scratch[..n]);
            if n < scratch.len() {
                // A short read has emptied the socket.
                break;
            }
        }
        self.scratch = scratch;
    }

    /// Takes the bytes that have arrived, and keeps an incomplete end.
    fn take(&mut self, key: usize, arrived: &[u8]) {
        let mut partial = std::mem::take(&mut self.conns[key].partial);
        let bytes = if partial.is_empty() {
            arrived
        } else {
            partial.extend_from_slice(arrived);
            &partial
        };
        let mut used = 0;
        if self.conns[key].room.is_none() {
            used = self.upgrade(key, bytes);
        }
        if self.conns[key].room.is_some() {
            while let Some(len) = self.frame(key, &bytes[used..]) {
                used += len;
            }
        }
        self.conns[key].partial = if partial.is_empty() {
            arrived[used..].to_vec()
        } else {
            partial.drain(..used);
            partial
        };
    }

    /// Answers a request if it is complete. Returns its length.
    fn upgrade(&mut self, key: usize, bytes: &[u8]) -> usize {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return 0;
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let name = "sec-websocket-key:";
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name));
        let accept =
            derive_accept_key(line.map_or("", |line| line[name.len()..].trim()).as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let room = *self.rooms_by_path.entry(path).or_insert_with(|| {
            self.rooms.push(Room::default());
            self.rooms.len() - 1
        });
        let conn = &mut self.conns[key];
        // It fits into an empty socket. If the client is gone, the next read tells.
        let _ = conn.stream.write(response.as_bytes());
        conn.room = Some(room);
        self.rooms[room].members.push(key);
        end + 4
    }

    /// Takes one frame if it is complete. Returns its length.
    fn frame(&mut self, key: usize, bytes: &[u8]) -> Option<usize> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        // A client's message fits into memory.
        let (header, len) = match second & 0x7f {
            126 => (
                4,
                usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            ),
            127 => (
                10,
                u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            ),
            short => (2, usize::from(short)),
        };
        let mask: [u8; 4] = bytes.get(header..header + 4)?.try_into().ok()?;
        let payload = bytes.get(header + 4..header + 4 + len)?;
        let conn = &mut self.conns[key];
        match first & 0xf {
            PING | CLOSE => {
                // A ping is answered by a pong, a close by a close.
                let opcode = if first & 0xf == PING { 0xa } else { CLOSE };
                let mut answer = Batch::default();
                answer.push(0x80 | opcode, payload, mask);
                // It is small, so it is always sent from memory.
                conn.owed.push_back(Rc::new(answer));
                conn.flush(self.sends);
                conn.is_over |= opcode == CLOSE;
            }
            0x1 | 0x2 => {
                let room = conn.room.expect("frames come after the handshake");
                let turn = &mut self.rooms[room].turn;
                if turn.ends.is_empty() {
                    self.dirty.push(room);
                }
                turn.push(first, payload, mask);
            }
            // Pongs, and fragments, which the load generator does not send.
            _ => {}
        }
        Some(header + 4 + len)
    }

    /// Sends the frames of a turn to all on its path.
    fn spread(&mut self, room: usize) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.rooms[room].turn);
        if self.sends == Sends::Memfd {
            let mut file = std::fs::File::from(memfd_create("turn", MemfdFlags::CLOEXEC)?);
            file.write_all(&batch.bytes)?;
            batch.file = Some(file.into());
        }
        let batch = Rc::new(batch);
        for &member in &self.rooms[room].members {
            let conn = &mut self.conns[member];
            conn.owed.push_back(batch.clone());
            if conn.owed.len() == 1 {
                conn.flush(self.sends);
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: usize) {
        if let Some(room) = self.conns.remove(key).room {
            self.rooms[room].members.retain(|member| *member != key);
        }
    }
}

impl Conn {
    /// Sends until all is sent or the kernel takes no more.
    fn flush(&mut self, sends: Sends) {
        while let Some(batch) = self.owed.front() {
            let sent = match &batch.file {
                Some(file) => {
                    let mut offset = self.sent_bytes as u64;
                    let rest = batch.bytes.len() - self.sent_bytes;
                    sendfile(&self.stream, file, Some(&mut offset), rest).map_err(io::Error::from)
                }
                None if sends == Sends::Frame => {
                    let sent = batch.ends.partition_point(|end| *end <= self.sent_bytes);
                    self.stream
                        .write(&batch.bytes[self.sent_bytes..batch.ends[sent]])
                }
                None if self.owed.len() == 1 => self.stream.write(&batch.bytes[self.sent_bytes..]),
                None => self.write_several(),
            };
            match sent {
                Ok(sent) => self.advance(sent),
                // The next read tells of an error. Unsent bytes wait for the socket.
                Err(_) => return,
            }
        }
    }

    fn write_several(&mut self) -> io::Result<usize> {
        let batches = self.owed.iter().take_while(|batch| batch.file.is_none());
        let skip = |index| if index == 0 { self.sent_bytes } else { 0 };
        let slices: Vec<IoSlice<'_>> = batches
            .take(MAX_SLICES)
            .enumerate()
            .map(|(index, batch)| IoSlice::new(&batch.bytes[skip(index)..]))
            .collect();
        self.stream.write_vectored(&slices)
    }

    fn advance(&mut self, sent: usize) {
        self.sent_bytes += sent;
        while let Some(batch) = self.owed.front()
            && self.sent_bytes >= batch.bytes.len()
        {
            self.sent_bytes -= batch.bytes.len();
            self.owed.pop_front();
        }
    }
}
