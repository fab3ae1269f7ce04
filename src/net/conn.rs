//! One client's socket, and what the worker remembers beside it.

use std::io::{self, IoSlice, Read, Write};

use mio::Token;

use super::stream::Stream;
use crate::ids::ClientKey;
use crate::relay::shard::Written;

/// See the module. It counts towards what an idle connection costs: sixteen bytes in a release build.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    /// Tells this connection from others that had its slot.
    pub generation: u32,
    /// Waits in the worker's list of connections to be read.
    pub ready: bool,
    /// It is one over the limit, and counted with those.
    pub refused: bool,
    /// The client's end, or an error, has been announced: it lies behind what can still be read, and no further edge
    /// will come.
    pub ending: bool,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// This many bytes, and there may be more, or the end.
    More(usize),
    /// This many bytes, and the socket is drained: an edge will announce the next.
    Last(usize),
    /// Nothing now.
    Empty,
    /// The client has shut its writing side.
    Eof,
    /// The connection is dead.
    Failed,
}

impl Conn {
    /// Takes in a socket.
    pub fn new(stream: Stream, generation: u32) -> Self {
        Conn {
            stream,
            generation,
            ready: false,
            refused: false,
            ending: false,
        }
    }

    /// The socket, for registration.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Reads once.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Filled {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Filled::Eof,
                // Under edge triggering a read that leaves room has drained the socket, and what comes later is announced;
                // unless the same edge has announced the end already.
                Ok(n) if n < buffer.len() && !self.ending => Filled::Last(n),
                Ok(n) => Filled::More(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Filled::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Filled::Failed,
            };
        }
    }

    /// Writes `slices`, of `offered` bytes together, once. An error means that the connection is dead.
    pub fn flush(&mut self, slices: &[IoSlice<'_>], offered: usize) -> io::Result<Written> {
        let taken = loop {
            // One slice is the rule, and `send` spares the kernel the list.
            let result = match slices {
                [slice] => self.stream.write(slice),
                slices => self.stream.write_vectored(slices),
            };
            match result {
                Ok(taken) => break taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Written::plain(taken, offered))
    }

    /// Shuts the writing side.
    pub fn shutdown_write(&self) {
        if let Err(error) = self.stream.shutdown_write() {
            // The client was faster.
            tracing::trace!(%error, "shutdown");
        }
    }
}

/// The poll token of a client.
pub fn token_of(key: ClientKey) -> Token {
    // The relay runs where a pointer has 64 bits.
    Token((key.generation as usize) << 32 | key.slot as usize)
}

/// The client of a poll token.
pub fn client_of(token: Token) -> ClientKey {
    ClientKey {
        slot: token.0 as u32,
        generation: (token.0 >> 32) as u32,
    }
}

const _: () = assert!(usize::BITS == 64, "a token holds a generation and a slot");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_one_tenant_of_a_slot() {
        let key = ClientKey {
            slot: 7,
            generation: u32::MAX - 1,
        };
        assert_eq!(client_of(token_of(key)), key);
    }
}
