//! TLS, by rustls. Of the relay, nothing outside this folder names rustls.
//!
//! [`identity`] reads certificates and keys, [`keeper`] holds the ones in force, and [`session`] encrypts the bytes of one
//! connection. For connections that the relay opens itself, [`trust`] reads the files and [`outgoing`] encrypts.
//!
//! For [`identity`], [`pem`] finds the sections of a file, [`contents`] says which ones it may have, [`chain`] checks
//! certificates, [`key`] names kinds of keys, and [`validity`] warns of dates.

mod chain;
pub(crate) mod contents;
pub(crate) mod identity;
pub(crate) mod keeper;
mod key;
pub(crate) mod outgoing;
mod pem;
pub(crate) mod session;
pub(crate) mod trust;
mod validity;
