//! The TLS session of one client, between its socket and its shard.
//!
//! A backlog waits in the log of its topic, where it is held once for all members. So a session encrypts at most
//! [`MAX_SEALED_BYTES`] that the kernel has not accepted. At rest it holds no plaintext and no record.
//!
//! `rustls::Stream` and `complete_io` are not used. The first loops on a `close_notify` in the handshake, and both read in
//! small pieces into a buffer of each connection.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::relay::shard::Written;
use crate::time::WallTime;
use crate::ws::handshake::Refusal;

/// The most encrypted bytes that a session holds until the kernel accepts them: four records. It is enough to make a
/// write worth its system call.
pub(crate) const MAX_SEALED_BYTES: usize = 64 << 10;

/// The most plaintext of a record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// The TLS session of one client.
#[derive(Debug)]
pub(crate) struct Session {
    connection: ServerConnection,
    /// The client has sent something.
    has_begun: bool,
    /// The client has sent `close_notify`, and sends no more.
    is_closed: bool,
    /// The error that ended it. Plaintext from before is good.
    failure: Option<Failure>,
    /// An upper bound of the records encrypted so far.
    records: u64,
}

/// The reason for which a session cannot go on: the client broke TLS, gave up, or supports nothing that the relay does.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It speaks HTTP without TLS.
    PlainHttp,
    /// As rustls says.
    Tls(rustls::Error),
    /// A handshake message is longer than any useful one.
    Flood,
}

/// The kind of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
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

    /// Whether the handshake is not over, so that nothing can be sent.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The kind of the handshake, once it is over.
    pub(crate) fn handshake(&self) -> Option<Handshake> {
        if self.is_handshaking() {
            return None;
        }
        Some(match self.connection.handshake_kind()? {
            HandshakeKind::Resumed => Handshake::Resumed,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => Handshake::Full,
        })
    }

    /// Whether the client has ended its side in order.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The reason for which the session cannot go on, if it cannot. The caller tells the client with
    /// [`Session::tell_failure`] and gives the session up.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether it has bytes that the kernel has not accepted.
    pub(crate) fn holds_back(&self) -> bool {
        self.connection.wants_write()
    }

    /// Decrypts `sealed` into the front of `opened`, and returns how many bytes that are. `opened` must have room for
    /// `sealed` and one more record. An incomplete record is kept. See [`Session::failure`] for errors.
    pub(crate) fn open(&mut self, mut sealed: &[u8], opened: &mut [u8]) -> usize {
        if !std::mem::replace(&mut self.has_begun, true) && looks_like_http(sealed) {
            self.failure = Some(Failure::PlainHttp);
        }
        let mut count = 0;
        while !sealed.is_empty() && !self.is_closed && self.failure.is_none() {
            // Reading from memory fails only if rustls has no room, although all whole records were taken out.
            if self.connection.read_tls(&mut sealed).is_err() {
                self.failure = Some(Failure::Flood);
                break;
            }
            match self.connection.process_new_packets() {
                Ok(state) => self.is_closed = state.peer_has_closed(),
                Err(error) => self.failure = Some(Failure::Tls(error)),
            }
            // After a failure, too: the result must not depend on how TCP cuts the stream.
            count += self.take_opened(&mut opened[count..]);
        }
        self.release();
        count
    }

    fn take_opened(&mut self, opened: &mut [u8]) -> usize {
        let mut count = 0;
        // It ends with `Ok(0)` or an error. Both say only whether more may come, which is known.
        while let Ok(len @ 1..) = self.connection.reader().read(&mut opened[count..]) {
            count += len;
        }
        count
    }

    /// Makes rustls give back the memory of a long record. It cuts its buffer to size only when it reads.
    fn release(&mut self) {
        if self.failure.is_none() {
            let nothing = self.connection.read_tls(&mut Nothing);
            debug_assert!(nothing.is_err() || self.is_closed, "nothing was read");
        }
    }

    /// Encrypts as much of `slices` as fits, and writes once. After an error the connection is dead, or must end because its
    /// keys are used up.
    pub(crate) fn flush(
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
        // All bytes fit in one call, so if some are left, the kernel is full.
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
            // rustls would end the session by itself, then take all bytes and send none.
            tracing::debug!("the keys of a session of TLS 1.2 are used up");
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.connection.writer().write_vectored(slices)
    }

    /// The number of records that one key may encrypt. TLS 1.3 changes keys by itself; TLS 1.2 cannot.
    fn most_records(&self) -> u64 {
        match self.connection.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) => suite.common.confidentiality_limit,
            Some(SupportedCipherSuite::Tls13(_)) | None => u64::MAX,
        }
    }

    /// Sends `close_notify` before our side is shut (RFC 8446, section 6.1), if the socket takes it.
    pub(crate) fn close(&mut self, stream: &mut impl Write) -> io::Result<()> {
        if self.is_handshaking() || self.holds_back() {
            return Ok(());
        }
        self.connection.send_close_notify();
        self.write(stream).map(drop)
    }

    /// Tells the client why the session has failed, if the socket takes it.
    pub(crate) fn tell_failure(&mut self, stream: &mut impl Write) -> io::Result<()> {
        match self.failure {
            // Web servers answer it as well.
            Some(Failure::PlainHttp) => {
                let now = WallTime::from(SystemTime::now());
                let answer = Refusal::PLAIN_HTTP.encode(Some(now));
                stream.write(&answer).map(drop)
            }
            // The alert is the last message of rustls.
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::PlainHttp => f.write_str("it speaks HTTP without TLS"),
            Failure::Tls(error) => error.fmt(f),
            Failure::Flood => f.write_str("its handshake message is too long"),
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

/// Whether these are the first bytes of a request. A record does not begin with a letter (RFC 8446, section 5.1).
fn looks_like_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests;
