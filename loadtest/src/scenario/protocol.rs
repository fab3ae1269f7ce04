//! The ways in which a connection may speak with the relay, and in which a client that comes back goes on.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The way in which a client that comes back goes on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// It begins anew: messages sent while it was away are missed.
    #[default]
    None,
    /// It goes on where it was, by fanwire's positions: the subprotocol fanwire.v1 and ?since=.
    Fanwire,
    /// It goes on behind the last message that it got, by the ids that nchan gives in its subprotocol ws+meta.nchan.
    Nchan,
}

/// The way in which a connection speaks with the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// WebSocket, nothing else.
    WebSocket,
    /// WebSocket with the subprotocol `fanwire.v1`: the relay says where the stream begins.
    Positions,
    /// WebSocket with nchan's subprotocol `ws+meta.nchan`: each message has lines with its id before it.
    Meta,
    /// HTTP: it reads server-sent events, and sends nothing.
    Events,
    /// HTTP: it publishes by POST, and hears nothing.
    Post {
        /// The most requests in flight.
        pipeline: usize,
    },
}

impl Protocol {
    /// Whether a connection ends with a Close.
    pub(crate) fn has_close(self) -> bool {
        match self {
            Protocol::WebSocket | Protocol::Positions | Protocol::Meta => true,
            Protocol::Events | Protocol::Post { .. } => false,
        }
    }
}
