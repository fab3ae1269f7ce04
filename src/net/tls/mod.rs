//! TLS, by rustls: what a server shows its clients, and one client's session.
//!
//! Nothing outside this folder names rustls. [`identity`] reads certificates and keys, [`keeper`] holds what is in force
//! and replaces it while the relay runs, and [`session`] is what a connection has between its socket and its shard.

pub mod identity;
pub mod keeper;
pub mod session;
