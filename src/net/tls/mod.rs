//! TLS, by rustls. Of the relay, nothing outside this folder names rustls.
//!
//! [`identity`] reads certificates and keys, [`keeper`] holds the ones in force, and [`session`] encrypts the bytes of one
//! connection.

pub(crate) mod identity;
pub(crate) mod keeper;
pub(crate) mod session;
