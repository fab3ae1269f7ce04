//! Bytes that a client is sent before anything else.
//!
//! They are control frames, HTTP responses, or the rest of a message that left its log. A client carries one such load at a
//! time and sends it whole: nothing overtakes it.

use bytes::{Buf, Bytes};

use crate::relay::topic::member::Rest;

/// See the module. It is never empty.
#[derive(Debug)]
pub(super) struct Carry {
    bytes: Bytes,
    cargo: Cargo,
}

/// The kind of a load, and the memory that it takes until its last byte is sent.
#[derive(Debug)]
enum Cargo {
    /// Control frames, or the response to an upgrade.
    Plain,
    /// The answer to a request, of this length.
    Answer(u32),
    /// The rest of a message, as a copy of this length. The message is owed until its last byte is sent.
    Copy(u32),
    /// The rest of a message, as a part of this batch. It is owed in the same way.
    Part(Bytes),
}

/// The result of a write for the bytes that were carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CarryProgress {
    /// Bytes of the write that came behind the carried ones.
    pub(super) left: usize,
    /// Whether a message was completed.
    pub(super) delivered: bool,
    /// Whether something was completed that counted as memory of the client.
    pub(super) has_freed: bool,
}

impl Carry {
    /// Bytes that are not part of a message.
    pub(super) fn plain(bytes: Bytes) -> Self {
        let cargo = Cargo::Plain;
        Carry { bytes, cargo }
    }

    /// The answer to a request.
    pub(super) fn answer(bytes: Bytes) -> Self {
        // A request has at most 10,000 lines, so the length fits 32 bits.
        let cargo = Cargo::Answer(bytes.len() as u32);
        Carry { bytes, cargo }
    }

    /// The rest of a message; `None` if it is empty.
    pub(super) fn message(rest: Rest) -> Option<Self> {
        let Rest { bytes, batch } = rest;
        if bytes.is_empty() {
            return None;
        }
        // Messages are limited to far less than 4 GiB.
        let copied = Cargo::Copy(bytes.len() as u32);
        let cargo = batch.map_or(copied, Cargo::Part);
        Some(Carry { bytes, cargo })
    }

    /// The bytes that are still to be sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that are kept in memory for this client alone.
    pub(super) fn copied_bytes(&self) -> u32 {
        match self.cargo {
            Cargo::Copy(bytes) | Cargo::Answer(bytes) => bytes,
            Cargo::Plain | Cargo::Part(_) => 0,
        }
    }

    /// The batch that is kept in memory for this client, and perhaps for others.
    pub(super) fn batch(&self) -> Option<&Bytes> {
        match &self.cargo {
            Cargo::Part(batch) => Some(batch),
            Cargo::Plain | Cargo::Answer(_) | Cargo::Copy(_) => None,
        }
    }

    /// Whether its memory is counted.
    pub(super) fn is_counted(&self) -> bool {
        match self.cargo {
            Cargo::Plain => false,
            Cargo::Answer(_) | Cargo::Copy(_) | Cargo::Part(_) => true,
        }
    }

    /// Whether it is the rest of a message.
    pub(super) fn is_message(&self) -> bool {
        match self.cargo {
            Cargo::Plain | Cargo::Answer(_) => false,
            Cargo::Copy(_) | Cargo::Part(_) => true,
        }
    }

    /// Whether the last byte is sent.
    pub(super) fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes note that a write of `n` bytes began with these. Says how many of the `n` came behind them.
    pub(super) fn advance(&mut self, n: usize) -> usize {
        let taken = n.min(self.bytes.len());
        self.bytes.advance(taken);
        n - taken
    }
}
