//! WebSocket from a client's side (RFC 6455): the opening handshake, frames that arrive, frames that wait to be sent.
//!
//! A connection calls it. It knows nothing of topics or checks.

pub(crate) mod deflate;
pub(crate) mod handshake;
pub(crate) mod inbound;
pub(crate) mod outgoing;
pub(crate) mod wire;
