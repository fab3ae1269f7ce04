//! RFC 6455 and RFC 7692 for a server, without input or output.
//!
//! Each connection has a [`decode::Decoder`] in its shard, which turns bytes into events. Publishers call [`encode`] to
//! turn messages into frames. Compressed messages go through the shard's [`inflate::Inflater`], and [`deflate`] makes some.
//!
//! A connection that still speaks HTTP goes through [`handshake`], and its offer of an extension through [`extension`].
//!
//! Nothing here touches a socket, a clock or a thread. Limits come in as arguments.

// The decoder's input is a cursor over the scratch buffer, like a slice in `Read for &[u8]`: reading shortens it.
#![allow(clippy::mut_mut)]

pub(crate) mod assembled;
pub(crate) mod close;
pub(crate) mod decode;
pub(crate) mod deflate;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod extension;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod inflate;
mod mask;
mod message;
mod partial;
pub(crate) mod served;
pub(crate) mod subprotocol;
mod utf8;
pub(crate) mod walk;
