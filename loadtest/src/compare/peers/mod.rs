//! The servers that a comparison can start.
//!
//! `catalogue.rs` lists them, `peer.rs` describes an entry, and `start.rs` starts one. Their sources and configurations
//! are in `loadtest/peers`; `loadtest/peers/install` installs those that are not ours.

mod catalogue;
pub mod certificate;
mod listening;
mod peer;
mod start;
mod started;

pub use catalogue::PEERS;
pub(crate) use peer::Load;
pub use peer::{Peer, Places};
pub use started::Started;
