//! The TLS session of a connection that the relay opens itself.
//!
//! The caller brings the socket, which may block or not.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

/// The most bytes that a session takes until the kernel accepts them.
const MAX_SEALED_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outgoing {
    connection: ClientConnection,
}

impl Outgoing {
    /// A session that has sent nothing yet. The other side must have a certificate for `name`.
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(MAX_SEALED_BYTES));
        Ok(Outgoing { connection })
    }

    /// Reads from the socket until there is some plaintext, and writes what the handshake has to say. Zero bytes are an end in
    /// order.
    pub(crate) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            self.flush(stream)?;
            self.connection.read_tls(stream)?;
            let state = self.connection.process_new_packets();
            state.map_err(io::Error::other)?;
        }
    }

    /// Takes as many of `bytes` as fit, and writes what the socket accepts.
    pub(crate) fn write(&mut self, stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.connection.writer().write(bytes)?;
        self.flush(stream)?;
        Ok(taken)
    }

    /// Writes what the socket accepts.
    pub(crate) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether bytes wait for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }
}
