//! One client's TLS session: between its socket and its shard, and without either's state.
//!
//! rustls encrypts before it sends, and what it has encrypted cannot be taken back. So that a member's backlog waits in
//! its topic's log, where it is held once for all, a session is given at most [`MAX_SEALED_BYTES`] ahead of the kernel.
//! At rest it holds no plaintext and no record.
//!
//! `rustls::Stream` and `complete_io` are not used: the first loops on a `close_notify` in the handshake, and both read
//! from the socket in small pieces into a buffer of each connection's own.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::relay::shard::Written;
use crate::ws::handshake::Refusal;

/// The most that a session may hold encrypted and not yet accepted by the kernel: four records' worth. Enough that a
/// write is worth its system call, and little enough to be bounded by clients times this.
pub const MAX_SEALED_BYTES: usize = 64 << 10;

/// Plaintext of a record, at most (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// What a client that speaks plain HTTP is answered, as web servers do.
const PLAIN_HTTP: Refusal = Refusal::bad_request(
    "This port speaks TLS. Use wss:// instead of ws://, https:// instead of http://.\n",
);

/// See the module.
#[derive(Debug)]
pub struct Session {
    connection: ServerConnection,
    /// Something has been received.
    has_begun: bool,
    /// The client has said that nothing more will come (`close_notify`).
    is_closed: bool,
    /// Why it cannot go on. What was opened before that is good.
    failure: Option<Failure>,
    /// Records sealed so far, at most.
    records: u64,
}

/// The session cannot go on: the client broke TLS, has nothing in common with us, or said that it gives up.
#[derive(Debug)]
pub enum Failure {
    /// It speaks HTTP without TLS.
    PlainHttp,
    /// As rustls says.
    Tls(rustls::Error),
    /// A handshake message is longer than any that has a meaning.
    Flood,
}

/// How a handshake came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// In full.
    Full,
    /// From a ticket.
    Resumed,
}

impl Session {
    /// A session that awaits its client's first byte.
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        let mut connection = ServerConnection::new(config)
            .expect("refuses nothing but a fragment size, which we leave alone");
        connection.set_buffer_limit(Some(MAX_SEALED_BYTES));
        Session {
            connection,
            has_begun: false,
            is_closed: false,
            failure: None,
            records: 0,
        }
    }

    /// Whether nothing can be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// How the handshake came about, once it is over.
    pub fn handshake(&self) -> Option<Handshake> {
        if self.is_handshaking() {
            return None;
        }
        Some(match self.connection.handshake_kind()? {
            HandshakeKind::Resumed => Handshake::Resumed,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => Handshake::Full,
        })
    }

    /// Whether the client has ended its side in order.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why the session cannot go on, if so: it is then to be told, with [`Session::tell_failure`], and given up.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether something waits to be accepted by the kernel.
    pub fn holds_back(&self) -> bool {
        self.connection.wants_write()
    }

    /// Decrypts what was received, and says how many bytes of plaintext are at the front of `opened`, which must have
    /// room for what was received and a record more. An incomplete record is kept. A failure shows afterwards in
    /// [`Session::failure`].
    pub fn open(&mut self, mut sealed: &[u8], opened: &mut [u8]) -> usize {
        if !std::mem::replace(&mut self.has_begun, true) && looks_like_http(sealed) {
            self.failure = Some(Failure::PlainHttp);
        }
        let mut count = 0;
        while !sealed.is_empty() && !self.is_closed && self.failure.is_none() {
            // Reading from memory fails only where rustls has no room, although all that was whole has been taken out.
            if self.connection.read_tls(&mut sealed).is_err() {
                self.failure = Some(Failure::Flood);
                break;
            }
            match self.connection.process_new_packets() {
                Ok(state) => self.is_closed = state.peer_has_closed(),
                Err(error) => self.failure = Some(Failure::Tls(error)),
            }
            // Behind a failure too: how TCP cut the stream must not decide what of it is heard.
            count += self.take_opened(&mut opened[count..]);
        }
        self.release();
        count
    }

    fn take_opened(&mut self, opened: &mut [u8]) -> usize {
        let mut count = 0;
        // Ends with `Ok(0)` or an error, which says whether more may come; that is known already.
        while let Ok(len @ 1..) = self.connection.reader().read(&mut opened[count..]) {
            count += len;
        }
        count
    }

    /// Has rustls give back what a long record needed, however many reads brought it. It cuts its buffer to size before
    /// it reads, and only then.
    fn release(&mut self) {
        if self.failure.is_none() {
            let nothing = self.connection.read_tls(&mut Nothing);
            debug_assert!(nothing.is_err() || self.is_closed, "nothing was read");
        }
    }

    /// Encrypts what fits of `slices` and writes what has been encrypted, once. An error means that the connection is
    /// dead, or must end, because its keys are used up.
    pub fn flush(
        &mut self,
        stream: &mut impl Write,
        slices: &[IoSlice<'_>],
    ) -> io::Result<Written> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = match slices {
            [] => 0,
            slices => self.seal(slices)?,
        };
        let sent = if self.holds_back() {
            self.write(stream)?
        } else {
            0
        };
        // What the kernel left is left because it is full: all that there is fits in one call.
        Ok(Written {
            taken,
            has_progressed: sent > 0,
            is_blocked: self.holds_back(),
            holds_back: self.holds_back(),
        })
    }

    fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        self.records += offered.min(MAX_SEALED_BYTES).div_ceil(RECORD_BYTES) as u64;
        if self.records >= self.most_records() {
            // rustls would say goodbye by itself, and then take whatever it is given and send nothing.
            tracing::debug!("the keys of a session of TLS 1.2 are used up");
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.connection.writer().write_vectored(slices)
    }

    /// Records that may be sealed under one key. TLS 1.3 changes keys by itself; TLS 1.2 cannot.
    fn most_records(&self) -> u64 {
        match self.connection.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) => suite.common.confidentiality_limit,
            Some(SupportedCipherSuite::Tls13(_)) | None => u64::MAX,
        }
    }

    /// Says goodbye before our side of the connection is shut (RFC 8446, section 6.1), as far as the socket takes it.
    pub fn close(&mut self, stream: &mut impl Write) -> io::Result<()> {
        if self.is_handshaking() || self.holds_back() {
            return Ok(());
        }
        self.connection.send_close_notify();
        self.write(stream).map(drop)
    }

    /// Tells the client why the session has failed, as far as the socket takes it.
    pub fn tell_failure(&mut self, stream: &mut impl Write) -> io::Result<()> {
        match self.failure {
            Some(Failure::PlainHttp) => stream.write(&PLAIN_HTTP.encode()).map(drop),
            // The alert is the last that rustls has to send.
            Some(Failure::Tls(_) | Failure::Flood) if self.holds_back() => {
                self.write(stream).map(drop)
            }
            Some(Failure::Tls(_) | Failure::Flood) | None => Ok(()),
        }
    }

    fn write(&mut self, stream: &mut impl Write) -> io::Result<usize> {
        loop {
            return match self.connection.write_tls(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result,
            };
        }
    }
}

/// A reader that has nothing for now.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Whether these are the first bytes of a request, and not of a record: its first byte says what kind it is, and is no
/// letter (RFC 8446, section 5.1).
fn looks_like_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests;
