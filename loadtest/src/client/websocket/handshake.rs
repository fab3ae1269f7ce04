//! The opening handshake. tungstenite does it, on a stream that gives it the head of the response and nothing behind
//! it.
//!
//! A relay may send messages in one packet with its 101. tungstenite would keep those to itself; here they wait for the
//! next read.

use std::io::{self, Read, Write};

use tungstenite::Error;
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::WebSocketConfig;

use super::deflate::Agreement;
use crate::client::stream::Stream;

/// The end of the head of a response.
const END: &[u8] = b"\r\n\r\n";

/// A handshake in progress.
pub(crate) struct Handshake(MidHandshake<ClientHandshake<HeadOnly<Stream>>>);

/// The state of a handshake after a step.
pub(crate) enum Progress {
    /// It waits for the peer.
    Waits(Handshake),
    /// It is done. The bytes came behind the head. Here is what is agreed on, if the server may compress.
    Done(Stream, Vec<u8>, Option<Agreement>),
    /// It failed, for this reason.
    Failed(String),
}

impl Handshake {
    /// Begins on a stream that is connected.
    pub(crate) fn start(stream: Stream, request: Request) -> Result<Handshake, String> {
        // The socket that it makes is thrown away, so its buffers may be as small as possible.
        let config = WebSocketConfig::default().read_buffer_size(1);
        ClientHandshake::start(HeadOnly::new(stream), request, Some(config))
            .map(Handshake)
            .map_err(|error| error.to_string())
    }

    /// Goes on as far as it can.
    pub(crate) fn proceed(self) -> Progress {
        match self.0.handshake() {
            Ok((socket, response)) => match Agreement::read(response.headers()) {
                Ok(agreed) => {
                    let stream = socket.into_inner();
                    Progress::Done(stream.inner, stream.behind, agreed)
                }
                Err(reason) => Progress::Failed(reason),
            },
            Err(HandshakeError::Interrupted(mid)) => Progress::Waits(Handshake(mid)),
            Err(HandshakeError::Failure(error)) => Progress::Failed(reason(&error)),
        }
    }
}

/// The reason why a handshake failed, in words that are the same for all that failed alike.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Http(response) => format!("the answer was HTTP {}", response.status()),
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// A stream that gives its reader the head of an HTTP response and no more.
#[derive(Debug)]
pub(crate) struct HeadOnly<S> {
    inner: S,
    /// Bytes of [`END`] seen so far.
    matched: usize,
    /// The bytes that were read behind the head.
    behind: Vec<u8>,
}

impl<S> HeadOnly<S> {
    fn new(inner: S) -> HeadOnly<S> {
        HeadOnly {
            inner,
            matched: 0,
            behind: Vec::new(),
        }
    }

    /// The number of these bytes that belong to the head.
    fn head_of(&mut self, bytes: &[u8]) -> usize {
        for (index, &byte) in bytes.iter().enumerate() {
            self.matched = match byte {
                byte if byte == END[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == END.len() {
                return index + 1;
            }
        }
        bytes.len()
    }
}

impl<S: Read> Read for HeadOnly<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.matched == END.len() {
            return Ok(0);
        }
        let bytes = self.inner.read(buffer)?;
        let head = self.head_of(&buffer[..bytes]);
        self.behind.extend_from_slice(&buffer[head..bytes]);
        Ok(head)
    }
}

impl<S: Write> Write for HeadOnly<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_the_head_are_kept_however_the_stream_is_cut() {
        let input = b"HTTP/1.1 101 Yes\r\nA: b\r\r\n\r\nframes\r\n\r\n";
        let end = input.len() - b"frames\r\n\r\n".len();
        for cut in 1..input.len() {
            let mut stream = HeadOnly::new(input.as_slice());
            let mut head = Vec::new();
            let mut buffer = vec![0; cut];
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    bytes => head.extend_from_slice(&buffer[..bytes]),
                }
            }
            let mut rest = stream.behind;
            stream.inner.read_to_end(&mut rest).unwrap();
            assert_eq!(head, &input[..end], "cut at {cut}");
            assert_eq!(rest, b"frames\r\n\r\n", "cut at {cut}");
        }
    }
}
