//! RFC 6455 for a server, without input or output.
//!
//! Bytes go in, events come out, and frames are bytes again. The relay's shard holds one [`decode::Decoder`] per
//! connection; whoever publishes calls [`encode`]; a connection that is still HTTP goes through [`handshake`]. Nothing
//! here touches a socket, a clock or a thread, and nothing here decides policy: limits come in as arguments.

// The decoder's input is a cursor over the scratch buffer, as `Read for &[u8]` is over a slice: what is taken leaves it.
#![allow(clippy::mut_mut)]

pub mod assembled;
pub mod close;
pub mod decode;
pub mod encode;
pub mod error;
pub mod frame;
pub mod handshake;
mod mask;
mod partial;
mod utf8;
