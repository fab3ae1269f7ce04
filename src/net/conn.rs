//! The socket of one client, and what its worker knows about it.
//!
//! The worker reads and writes through it, with TLS or without. It knows nothing of frames.

use std::io::{self, IoSlice, Read, Write};

use mio::Token;

use super::admission::Admission;
use super::stream::Stream;
use super::tls::session::{Handshake, Session};
use crate::ids::ClientKey;
use crate::relay::shard::Written;
use crate::relay::turn::Filled;

/// A connection. It takes 32 bytes in a release build, and every idle client has one.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: Stream,
    /// The header of a proxy while it arrives, or the seat of the connection.
    pub(crate) admission: Admission,
    /// The TLS session, if the client speaks TLS and has not broken it.
    tls: Option<Box<Session>>,
    /// Tells it from other connections that had its slot.
    pub(crate) generation: u32,
    /// The client spoke TLS, and its session is over. Bytes that still arrive are ciphertext that nobody can read.
    gave_up_tls: bool,
    /// It is over a limit, and is being refused.
    pub(crate) refused: bool,
    /// The end of the client, or an error, was announced. It comes after what can still be read, without another event.
    pub(crate) ending: bool,
}

/// The buffers into which a worker reads, for all its connections.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Bytes for the shard.
    pub(crate) plain: Box<[u8]>,
    /// Bytes of TLS records as they come from the socket. Empty if TLS is off.
    sealed: Box<[u8]>,
}

/// A quarter of a second-level cache of 512 KiB, so that bytes are still there when they are decoded.
const PLAIN_BYTES: usize = 128 << 10;

/// Half of that, so that the plaintext has room there, with one more record that was incomplete before.
const SEALED_BYTES: usize = PLAIN_BYTES / 2;

impl Scratch {
    /// Buffers for connections that may speak TLS if `has_tls`.
    pub(crate) fn new(has_tls: bool) -> Self {
        let sealed_bytes = if has_tls { SEALED_BYTES } else { 0 };
        Scratch {
            plain: vec![0; PLAIN_BYTES].into_boxed_slice(),
            sealed: vec![0; sealed_bytes].into_boxed_slice(),
        }
    }
}

impl Conn {
    /// A connection over `stream`.
    pub(crate) fn new(
        stream: Stream,
        admission: Admission,
        tls: Option<Session>,
        generation: u32,
    ) -> Self {
        Conn {
            stream,
            admission,
            tls: tls.map(Box::new),
            generation,
            gave_up_tls: false,
            refused: false,
            ending: false,
        }
    }

    /// The socket, for registration.
    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether bytes are encrypted on their way.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the client spoke TLS and its session is over: what it still sends is to be thrown away.
    pub(crate) fn has_given_up_tls(&self) -> bool {
        self.gave_up_tls
    }

    /// Whether the TLS handshake is not over, so that nothing can be sent.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The kind of the TLS handshake, once it is over.
    pub(crate) fn handshake(&self) -> Option<Handshake> {
        self.tls.as_ref()?.handshake()
    }

    /// Reads once. The plaintext is then at the front of `scratch.plain`.
    pub(crate) fn fill(&mut self, scratch: &mut Scratch) -> Filled {
        let Some(tls) = &mut self.tls else {
            return read(&mut self.stream, self.ending, &mut scratch.plain);
        };
        if tls.failure().is_some() {
            return self.give_up_tls();
        }
        if tls.is_closed() {
            return Filled::Eof;
        }
        let (count, is_last) = match read(&mut self.stream, self.ending, &mut scratch.sealed) {
            Filled::More(count) => (count, false),
            Filled::Last(count) => (count, true),
            nothing @ (Filled::Empty | Filled::Eof | Filled::Failed | Filled::TlsFailed) => {
                return nothing;
            }
        };
        let held_back = tls.holds_back();
        let opened = tls.open(&scratch.sealed[..count], &mut scratch.plain);
        if tls.failure().is_some() {
            // Plaintext from before the failure counts.
            return match opened {
                0 => self.give_up_tls(),
                opened => Filled::More(opened),
            };
        }
        let is_last = is_last && !tls.is_closed();
        // Handshake messages do not wait for the end of the turn, because no fan-out will go with them.
        if tls.holds_back() && !held_back && tls.flush(&mut self.stream, &[]).is_err() {
            return Filled::Failed;
        }
        match opened {
            0 if is_last => Filled::Empty,
            opened if is_last => Filled::Last(opened),
            opened => Filled::More(opened),
        }
    }

    /// Reads once, into `buffer`, from a client that does not speak TLS.
    pub(crate) fn fill_plain(&mut self, buffer: &mut [u8]) -> Filled {
        debug_assert!(self.tls.is_none(), "records are not payload");
        read(&mut self.stream, self.ending, buffer)
    }

    /// Tells the client why its session has failed. From now on its bytes are thrown away.
    fn give_up_tls(&mut self) -> Filled {
        if let Some(mut tls) = self.end_session() {
            let failure = tls.failure().map(tracing::field::display);
            tracing::debug!(failure, "a client breaks TLS");
            if let Err(error) = tls.tell_failure(&mut self.stream) {
                tracing::trace!(%error, "the failure could not be sent");
            }
        }
        Filled::TlsFailed
    }

    /// Whether TLS has bytes that the kernel has not accepted.
    pub(crate) fn holds_back(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.holds_back())
    }

    /// Writes in one call: first the bytes that TLS holds back, then `slices`, which have `offered` bytes. After an error the
    /// connection is dead.
    pub(crate) fn flush(&mut self, slices: &[IoSlice<'_>], offered: usize) -> io::Result<Written> {
        if let Some(tls) = &mut self.tls {
            return tls.flush(&mut self.stream, slices);
        }
        let taken = loop {
            // Usually there is one slice, and the kernel need not read a list.
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

    /// Shuts the writing side. From now on received bytes are thrown away, and are not decrypted.
    pub(crate) fn shutdown_write(&mut self) {
        self.say_goodbye();
        if let Err(error) = self.stream.shutdown_write() {
            // The client was faster.
            tracing::trace!(%error, "the writing side could not be shut");
        }
    }

    fn end_session(&mut self) -> Option<Box<Session>> {
        self.gave_up_tls |= self.tls.is_some();
        self.tls.take()
    }

    /// Ends TLS in order, so that the client can tell the end from a cut.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(mut tls) = self.end_session()
            && let Err(error) = tls.close(&mut self.stream)
        {
            tracing::trace!(%error, "the end of TLS could not be sent");
        }
    }
}

/// Reads once. `is_ending` says that the end of the client, or an error, was announced.
fn read(stream: &mut Stream, is_ending: bool, buffer: &mut [u8]) -> Filled {
    loop {
        return match stream.read(buffer) {
            Ok(0) => Filled::Eof,
            // A read that leaves room has drained the socket, and an event announces more, unless the end was announced
            // with it.
            Ok(n) if n < buffer.len() && !is_ending => Filled::Last(n),
            Ok(n) => Filled::More(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Filled::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Filled::Failed,
        };
    }
}

/// The poll token of a client.
pub(crate) fn token_of(key: ClientKey) -> Token {
    // The relay runs where a pointer has 64 bits.
    Token((key.generation as usize) << 32 | key.slot as usize)
}

/// The client of a poll token.
pub(crate) fn client_of(token: Token) -> ClientKey {
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
