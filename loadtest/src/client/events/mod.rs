//! Server-sent events from a client's side (WHATWG HTML, section 9.2): the request, and the events that arrive.
//!
//! A connection calls it. It knows nothing of topics or checks, and shares no line with the relay's own writer of events.

pub(crate) mod inbound;
pub(crate) mod opening;
