//! The other peer: raw bytes on a TCP connection, for everything that a well-behaved client never does.
//!
//! It knows just enough of HTTP and RFC 6455 to break the rules on purpose, and shares no code with the relay.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use crate::support::{PATIENCE, reset};

/// The FIN bit of a frame's first byte (RFC 6455, section 5.2).
pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The mask bit of a frame's second byte, and the values that stand for a longer length.
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// Any key works.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A raw connection to the relay.
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

/// An HTTP response.
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

/// A correct upgrade request.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame with `first` as its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// The header of a client's frame that claims `len` bytes.
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

    /// Over a Unix socket. std's `TcpStream` reads and writes a socket of any kind.
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

    /// A second handle on the same connection, to write while another thread reads.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream().try_clone().unwrap()
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends some bytes to a peer that may have gone.
    pub(crate) fn try_send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream().write_all(bytes.as_ref())
    }

    /// Sends on a new thread, so that the caller can read meanwhile. The thread ends when all is sent or the connection
    /// has ended.
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

    /// The next response. `Content-Length` tells the length of its body.
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

    /// The next response without a body, as the answer to a HEAD.
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

    /// The status of the next response, or `None` if the connection ends first.
    pub(crate) fn try_answer(&mut self) -> Option<u16> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        line.split(' ').nth(1)?.parse().ok()
    }

    /// The next frame. It must be a server's: unmasked, with a minimal length and no reserved bit or opcode.
    pub(crate) fn next(&mut self) -> Frame {
        let frame = self.next_of_extension();
        assert_eq!(frame.first & 0x70, 0, "reserved bits");
        frame
    }

    /// The same for a client that has agreed on compression: the first reserved bit may be set.
    pub(crate) fn next_of_extension(&mut self) -> Frame {
        let [first, second] = self.bytes();
        assert_eq!(first & 0x30, 0, "reserved bits");
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

    /// The next frame, which must be a complete text message.
    pub(crate) fn hear(&mut self) -> String {
        let frame = self.next();
        assert_eq!(frame.first, FIN | TEXT, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The code and reason of the next frame, which must be a Close.
    pub(crate) fn close(&mut self) -> (u16, String) {
        let frame = self.next();
        assert_eq!(frame.first, FIN | CLOSE, "{frame:?}");
        let (code, reason) = frame.payload.split_first_chunk().expect("a code");
        (
            u16::from_be_bytes(*code),
            String::from_utf8(reason.to_vec()).unwrap(),
        )
    }

    /// The code of a Close, or `None` if the connection is reset first, or is non-blocking and has none.
    pub(crate) fn try_close(&mut self) -> Option<u16> {
        let mut frame = [0; 4];
        self.reader.read_exact(&mut frame).ok()?;
        (frame[0] == FIN | CLOSE).then(|| u16::from_be_bytes([frame[2], frame[3]]))
    }

    /// Expects the orderly end of the relay's side.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "behind the end: {rest:?}");
    }

    /// Expects the end, by a FIN or a reset, whatever comes before it.
    pub(crate) fn expect_cut(&mut self) {
        match self.reader.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => {}
        }
    }

    /// Leaves with a reset, without a Close.
    pub(crate) fn reset(self) {
        reset(self.stream());
    }
}
