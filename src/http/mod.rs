//! The little HTTP/1.1 that a relay needs, without input or output.

pub mod bearer;
pub mod origin;
pub mod percent;
pub mod request;
pub mod requests;
pub mod response;
pub mod routes;
