//! The part of HTTP/1.1 that the relay needs, without input or output.
//!
//! The relay's port and the metrics port both call it. It reads requests, with their bodies, and writes responses. `routes` and
//! `requests` serve the metrics port only, which takes no body.

pub(crate) mod accept;
pub(crate) mod authority;
pub(crate) mod bearer;
pub(crate) mod body;
pub(crate) mod cookie;
pub(crate) mod date;
pub(crate) mod forwarded;
pub(crate) mod health;
pub(crate) mod origin;
pub(crate) mod percent;
pub(crate) mod reader;
pub(crate) mod request;
pub(crate) mod requests;
pub(crate) mod response;
pub(crate) mod routes;
pub(crate) mod target;
pub(crate) mod token;
