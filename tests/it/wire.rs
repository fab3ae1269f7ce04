//! The other peer: bytes on a TCP connection, for what a well-behaved client never sends and never leaves unread.
//!
//! It knows just enough of HTTP and of RFC 6455 to be wrong on purpose, and shares no code with the relay.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use crate::support::{PATIENCE, reset};

/// The bit of a frame's first byte that ends a message (RFC 6455, section 5.2).
pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The bit of a frame's second byte that says that a key follows, and what stands in the place of a longer length.
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// Any key will do.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// See the module.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

/// A frame from the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A request for an upgrade that leaves nothing to be desired.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// The header of a client's frame that announces `len` bytes.
pub(crate) fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(MASKED | len as u8),
        126..=0xffff => {
            bytes.push(MASKED | LENGTH_16);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | LENGTH_64);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// The body of a Close.
pub(crate) fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

impl Wire {
    pub(crate) fn over(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire {
            reader: BufReader::new(stream),
        }
    }

    /// Over a Unix socket: std's `TcpStream` reads and writes a descriptor of any family.
    pub(crate) fn over_unix(stream: UnixStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire {
            reader: BufReader::new(TcpStream::from(OwnedFd::from(stream))),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Another handle on the same connection, to write while this one is being read.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream().try_clone().unwrap()
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends one byte or more to a peer that may be gone.
    pub(crate) fn try_send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream().write_all(bytes.as_ref())
    }

    /// Sends on a thread of its own, so that what comes back can be read meanwhile. The thread ends when everything is
    /// sent, or when the connection has ended.
    pub(crate) fn send_beside(
        &self,
        chunks: impl Iterator<Item = Vec<u8>> + Send + 'static,
    ) -> JoinHandle<()> {
        let writer = Wire::over(self.writer());
        thread::spawn(move || {
            for chunk in chunks {
                if writer.try_send(chunk).is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) fn upgrade(&mut self, path: &str) {
        self.send(request(path));
        let answer = self.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
    }

    /// The next answer, its body as long as its `Content-Length` says.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// The next answer without its body, as a HEAD is answered.
    pub(crate) fn head(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.reader.read_line(&mut head).unwrap();
            assert!(read > 0, "the connection ended within a head: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head,
            body: String::new(),
        }
    }

    /// The status of the answer, unless the connection ends before it.
    pub(crate) fn try_answer(&mut self) -> Option<u16> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        line.split(' ').nth(1)?.parse().ok()
    }

    /// The next frame, which must be a server's: unmasked and of minimal length, with no reserved bit or opcode.
    pub(crate) fn next(&mut self) -> Frame {
        let [first, second] = self.bytes();
        assert_eq!(first & 0x70, 0, "reserved bits");
        assert!(
            matches!(first & 0xf, 0..=2 | 8..=10),
            "opcode of {first:#x}"
        );
        let length = match second {
            0..=125 => u64::from(second),
            LENGTH_16 => u64::from(u16::from_be_bytes(self.bytes())),
            LENGTH_64 => u64::from_be_bytes(self.bytes()),
            MASKED.. => panic!("a masked frame came from a server"),
        };
        assert!(
            second != LENGTH_16 || length > 125,
            "a length of 16 bits that fits 7"
        );
        assert!(
            second != LENGTH_64 || length > 0xffff,
            "a length of 64 bits that fits 16"
        );
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.reader.read_exact(&mut payload).unwrap();
        Frame { first, payload }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next frame, which must be a whole text message.
    pub(crate) fn hear(&mut self) -> String {
        let frame = self.next();
        assert_eq!(frame.first, FIN | TEXT, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The Close that comes next: its code and reason.
    pub(crate) fn close(&mut self) -> (u16, String) {
        let frame = self.next();
        assert_eq!(frame.first, FIN | CLOSE, "{frame:?}");
        let (code, reason) = frame.payload.split_first_chunk().expect("a code");
        (
            u16::from_be_bytes(*code),
            String::from_utf8(reason.to_vec()).unwrap(),
        )
    }

    /// The code of the Close that comes, unless the connection is reset before it, or does not block and nothing is there.
    pub(crate) fn try_close(&mut self) -> Option<u16> {
        let mut frame = [0; 4];
        self.reader.read_exact(&mut frame).ok()?;
        (frame[0] == FIN | CLOSE).then(|| u16::from_be_bytes([frame[2], frame[3]]))
    }

    /// The orderly end of the relay's side.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "behind the end: {rest:?}");
    }

    /// The end, in order or by a reset, whatever comes before it.
    pub(crate) fn expect_cut(&mut self) {
        match self.reader.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => {}
        }
    }

    /// Leaves without a word: by a reset.
    pub(crate) fn reset(self) {
        reset(self.stream());
    }
}
