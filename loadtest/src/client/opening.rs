//! The opening of a connection, by the protocol that it speaks.

use tungstenite::handshake::client::Request;

use super::asking;
use super::events::opening as events;
use super::stream::Stream;
use super::websocket::deflate::Agreement;
use super::websocket::handshake::{self, Handshake};
use crate::scenario::protocol::Protocol;

/// A connection that is being opened.
pub(crate) enum Opening {
    /// A WebSocket.
    WebSocket(Handshake),
    /// An event stream.
    Events(events::Opening),
}

/// The state of an opening after a step.
pub(crate) enum Progress {
    /// It waits for the peer.
    Waits(Opening),
    /// It is done. The bytes came behind the head of the answer. Here is what is agreed on, if the server may compress.
    Done(Stream, Vec<u8>, Option<Agreement>),
    /// It failed, for this reason.
    Failed(String),
}

impl Opening {
    /// Begins on a stream that is connected. `plain` asks for the topic, and `from` is the position or the id to go on
    /// from. With `deflate` it offers compression.
    pub(crate) fn start(
        stream: Stream,
        plain: &Request,
        protocol: Protocol,
        from: Option<&str>,
        deflate: bool,
    ) -> Progress {
        match protocol {
            Protocol::WebSocket | Protocol::Positions | Protocol::Meta => {
                let mut request = asking::request(plain.clone(), protocol, from);
                if deflate {
                    asking::offer(&mut request);
                }
                match Handshake::start(stream, request) {
                    Ok(handshake) => Opening::WebSocket(handshake).proceed(),
                    Err(reason) => Progress::Failed(reason),
                }
            }
            // Its first request is its first message.
            Protocol::Post { .. } => Progress::Done(stream, Vec::new(), None),
            Protocol::Events => {
                Opening::Events(events::Opening::new(stream, plain, from)).proceed()
            }
        }
    }

    /// Goes on as far as it can.
    pub(crate) fn proceed(self) -> Progress {
        match self {
            Opening::WebSocket(handshake) => match handshake.proceed() {
                handshake::Progress::Waits(it) => Progress::Waits(Opening::WebSocket(it)),
                handshake::Progress::Done(stream, behind, agreed) => {
                    Progress::Done(stream, behind, agreed)
                }
                handshake::Progress::Failed(reason) => Progress::Failed(reason),
            },
            Opening::Events(opening) => match opening.proceed() {
                events::Progress::Waits(it) => Progress::Waits(Opening::Events(it)),
                events::Progress::Done(stream, behind) => Progress::Done(stream, behind, None),
                events::Progress::Failed(reason) => Progress::Failed(reason),
            },
        }
    }
}
