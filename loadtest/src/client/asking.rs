//! The request that opens a WebSocket: with a key of its own, with the subprotocol that the connection speaks, with the
//! extension that it offers, and with the position that a client goes on from.

use tungstenite::Error;
use tungstenite::error::{ProtocolError, SubProtocolError};
use tungstenite::handshake::client::{Request, generate_key};
use tungstenite::http::{HeaderValue, Uri};

use super::websocket::deflate;
use crate::scenario::protocol::Protocol;

/// The subprotocol in which fanwire says positions.
const POSITIONS: &str = "fanwire.v1";

/// The subprotocol in which nchan says ids.
const META: &str = "ws+meta.nchan";

/// Adds the offer of compression to a request.
pub(crate) fn offer(request: &mut Request) {
    let offer = HeaderValue::from_static(deflate::OFFER);
    request
        .headers_mut()
        .insert("Sec-WebSocket-Extensions", offer);
}

/// The request of one connection. `from` is the position or the id that it goes on from.
pub(crate) fn request(mut plain: Request, protocol: Protocol, from: Option<&str>) -> Request {
    let headers = plain.headers_mut();
    // Each handshake has a key of its own (RFC 6455, 4.1).
    if let Ok(key) = generate_key().parse() {
        headers.insert("Sec-WebSocket-Key", key);
    }
    let (name, parameter) = match protocol {
        Protocol::Positions => (POSITIONS, "since"),
        Protocol::Meta => (META, "last_event_id"),
        Protocol::WebSocket | Protocol::Events | Protocol::Post { .. } => return plain,
    };
    let name = HeaderValue::from_static(name);
    headers.insert("Sec-WebSocket-Protocol", name);
    if let Some(uri) = from.and_then(|from| asking(plain.uri(), parameter, from)) {
        *plain.uri_mut() = uri;
    }
    plain
}

fn asking(uri: &Uri, parameter: &str, from: &str) -> Option<Uri> {
    let sign = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{sign}{parameter}={from}").parse().ok()
}

/// Whether a handshake failed because the server does not speak the subprotocol.
pub(crate) fn has_no_positions(error: &Error) -> bool {
    use SubProtocolError::{InvalidSubProtocol, NoSubProtocol};
    matches!(
        error,
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            NoSubProtocol | InvalidSubProtocol
        ))
    )
}

#[cfg(test)]
mod tests {
    use tungstenite::client::IntoClientRequest as _;

    use super::*;

    #[test]
    fn a_client_asks_for_its_position_beside_what_the_url_asks_for() {
        for (url, asked) in [
            ("ws://a/topic", "/topic?since=abc-17"),
            ("ws://a/topic?key=1", "/topic?key=1&since=abc-17"),
        ] {
            let plain = url.into_client_request().unwrap();
            let request = request(plain, Protocol::Positions, Some("abc-17"));
            assert_eq!(request.uri().path_and_query().unwrap().as_str(), asked);
            assert_eq!(request.headers()["Sec-WebSocket-Protocol"], POSITIONS);
        }
        let plain = "ws://a/topic".into_client_request().unwrap();
        let asked = request(plain.clone(), Protocol::Meta, Some("17:0"));
        assert_eq!(asked.uri().query(), Some("last_event_id=17:0"));
        assert_eq!(asked.headers()["Sec-WebSocket-Protocol"], META);
        let request = request(plain, Protocol::WebSocket, None);
        assert!(!request.headers().contains_key("Sec-WebSocket-Protocol"));
    }
}
