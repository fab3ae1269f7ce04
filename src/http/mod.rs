//! The part of HTTP/1.1 that the relay needs, without input or output.
//!
//! The upgrade to WebSocket and the metrics port both call it. It reads request heads and writes responses. It says
//! whether a request has a body, which both refuse. `routes` and `requests` serve the metrics port only.

pub(crate) mod authority;
pub(crate) mod bearer;
pub(crate) mod date;
pub(crate) mod forwarded;
pub(crate) mod health;
pub(crate) mod origin;
pub(crate) mod percent;
pub(crate) mod request;
pub(crate) mod requests;
pub(crate) mod response;
pub(crate) mod routes;
pub(crate) mod target;
pub(crate) mod token;
