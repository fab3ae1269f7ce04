//! The rules of `clients/fanwire.js`, one room each, against a relay of the test's own that says what the real one says rarely.

use std::net::{TcpListener, TcpStream};

use serde_json::json;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use super::engine::Room;
use crate::support::PATIENCE;

/// A relay with one client at a time.
struct Relay {
    listener: TcpListener,
}

/// A client's connection, and its request.
struct Peer {
    socket: WebSocket<TcpStream>,
    query: String,
    offer: String,
}

impl Relay {
    fn new() -> Relay {
        Relay {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}/room", self.listener.local_addr().unwrap())
    }

    /// Accepts the next connection, and selects this subprotocol.
    #[expect(clippy::result_large_err, reason = "the library's type")]
    fn accept(&self, protocol: &'static str) -> Peer {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut query, mut offer) = (String::new(), String::new());
        let look = |request: &Request, mut response: Response| {
            query.push_str(request.uri().query().unwrap_or_default());
            offer = request.headers()["sec-websocket-protocol"]
                .to_str()
                .unwrap()
                .replace(", ", ",");
            response
                .headers_mut()
                .insert("sec-websocket-protocol", protocol.parse().unwrap());
            Ok(response)
        };
        let socket = tungstenite::accept_hdr(stream, look).unwrap();
        Peer {
            socket,
            query,
            offer,
        }
    }

    /// Accepts the next connection, and says where the stream begins.
    fn greet(&self, at: &str) -> Peer {
        let mut peer = self.accept("fanwire.v1");
        peer.say(&format!("\0{{\"at\":\"{at}\",\"lost\":0}}"));
        peer
    }
}

impl Peer {
    fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        self.socket.close(Some(frame)).unwrap();
        // The client answers, and then the connection ends.
        while self.socket.read().is_ok() {}
    }

    fn hear(&mut self) -> String {
        self.socket.read().unwrap().into_text().unwrap().to_string()
    }
}

/// Every rule needs a room.
pub(super) const RULES: [fn(&mut Room); 9] = [
    every_message_of_the_topic_counts_and_no_word_of_the_relay,
    a_skip_is_told_and_counting_goes_on_behind_it,
    an_expired_token_is_replaced,
    what_would_happen_again_is_not_tried_again,
    the_pause_that_the_relay_names_is_kept,
    a_quiet_relay_is_asked,
    messages_wait_for_the_connection_up_to_a_limit,
    without_a_history_nobody_knows_what_is_lost,
    a_position_is_kept_under_its_key,
];

fn every_message_of_the_topic_counts_and_no_word_of_the_relay(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&relay.url(), json!({}));
    let mut peer = relay.greet("e-7");
    assert_eq!((&*peer.query, &*peer.offer), ("", "fanwire.v1,fanwire"));
    assert_eq!(room.expect("open")["at"], "e-7");
    peer.say("a\0");
    peer.socket.send(Message::binary(vec![0, 1])).unwrap();
    peer.say("\0{\"at\":\"e-9\"}");
    peer.say("");
    for (text, bytes, at) in [
        (json!("a\0"), json!(null), "e-8"),
        (json!(null), json!([0, 1]), "e-9"),
        (json!(""), json!(null), "e-10"),
    ] {
        let message = room.expect("message");
        assert_eq!((&message["text"], &message["bytes"]), (&text, &bytes));
        assert_eq!(message["at"], at);
    }
    drop(peer);
    assert_eq!(room.expect("down")["code"], 1006);
    let peer = relay.greet("e-10");
    assert_eq!(peer.query, "since=e-10");
    assert_eq!(room.expect("open")["at"], "e-10");
}

fn a_skip_is_told_and_counting_goes_on_behind_it(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&format!("{}?last=5", relay.url()), json!({}));
    let mut peer = relay.greet("e-1");
    assert_eq!(peer.query, "last=5");
    peer.say("\0{\"at\":\"e-84\",\"lost\":83}");
    peer.say("a");
    room.expect("open");
    let lost = room.expect("lost");
    assert_eq!(
        (lost["lost"].as_u64(), &lost["at"]),
        (Some(83), &json!("e-84"))
    );
    assert_eq!(room.expect("message")["at"], "e-85");
    drop(peer);
    let mut peer = relay.accept("fanwire.v1");
    assert_eq!(peer.query, "last=5&since=e-85");
    peer.say("\0{\"at\":\"f-2\",\"lost\":null}");
    room.expect("down");
    assert_eq!(room.expect("open")["at"], "f-2");
    assert!(room.expect("lost")["lost"].is_null());
}

fn an_expired_token_is_replaced(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&relay.url(), json!({ "tokens": ["one", "two", "three"] }));
    let peer = relay.greet("e-1");
    assert_eq!(peer.offer, "fanwire.v1,fanwire,bearer.one");
    room.expect("open");
    drop(peer);
    // It is still good after a cut.
    room.expect("down");
    let peer = relay.greet("e-1");
    assert_eq!(peer.offer, "fanwire.v1,fanwire,bearer.one");
    room.expect("open");
    peer.close(3000, "the token has expired; at e-1");
    assert_eq!(room.expect("down")["code"], 3000);
    let (refused, _) = relay.listener.accept().unwrap();
    drop(refused);
    room.expect("down");
    // A page does not see why an attempt failed. It may have been the token.
    let peer = relay.greet("e-1");
    assert_eq!(peer.offer, "fanwire.v1,fanwire,bearer.three");
    room.expect("open");
}

fn what_would_happen_again_is_not_tried_again(room: &mut Room) {
    for (code, reason) in [
        (1002, "the opcode is reserved"),
        (1007, "the text is not UTF-8"),
        (1008, "not allowed to publish; at e-0"),
        (1009, "the message exceeds the limit"),
    ] {
        let relay = Relay::new();
        room.follow(&relay.url(), json!({}));
        let peer = relay.greet("e-0");
        room.expect("open");
        peer.close(code, reason);
        let close = room.expect("close");
        assert_eq!(
            (&close["code"], &close["reason"]),
            (&json!(code), &json!(reason))
        );
        room.order("send", json!({ "text": "a" }));
        let sent = room.expect("sent");
        assert_eq!(
            (&sent["taken"], &sent["state"]),
            (&json!(false), &json!("closed"))
        );
    }
}

fn the_pause_that_the_relay_names_is_kept(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&relay.url(), json!({}));
    let peer = relay.greet("e-0");
    room.expect("open");
    peer.close(1001, "going away; at e-0; retry 600000");
    assert_eq!(room.expect("down")["pause"], 600_000);
    // Not even a network that is back makes it come sooner.
    room.order("wake", json!({}));
    room.order("send", json!({ "text": "a" }));
    let sent = room.expect("sent");
    assert_eq!(
        (&sent["taken"], &sent["state"]),
        (&json!(true), &json!("waiting"))
    );
    room.order("close", json!({}));
    assert_eq!(room.expect("close")["unsent"], 1);
}

fn a_quiet_relay_is_asked(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&relay.url(), json!({}));
    let mut peer = relay.greet("e-3");
    room.expect("open");
    room.order("wake", json!({}));
    assert_eq!(peer.hear(), "\0");
    // The answer corrects a wrong count, too.
    peer.say("\0{\"at\":\"e-5\"}");
    peer.say("a");
    assert_eq!(room.expect("message")["at"], "e-6");
    room.order("look", json!({}));
    assert_eq!(peer.hear(), "\0");
    // Nothing comes, although the connection stands.
    let down = room.expect("down");
    assert_eq!(
        (&down["code"], &down["reason"]),
        (&json!(1006), &json!("the connection is dead"))
    );
    let peer = relay.greet("e-6");
    assert_eq!(peer.query, "since=e-6");
    room.expect("open");
}

/// The waits that are too long for a test, in a program of its own whose clock is hastened.
pub(super) fn long_waits_end(room: &mut Room) {
    room.order("hasten", json!({ "ms": 30_000 }));
    let relay = Relay::new();
    room.follow(&relay.url(), json!({}));
    let mut peer = relay.greet("e-0");
    room.expect("open");
    for _ in 0..2 {
        assert_eq!(peer.hear(), "\0");
        peer.say("\0{\"at\":\"e-0\"}");
    }
    room.order("close", json!({}));
    room.expect("close");
    room.order("hasten", json!({ "ms": 10_000 }));
    room.follow(&relay.url(), json!({}));
    assert_eq!(room.expect("down")["reason"], "no answer in time");
}

fn a_position_is_kept_under_its_key(room: &mut Room) {
    let relay = Relay::new();
    for (query, at) in [("", "e-8"), ("since=e-8", "e-9")] {
        room.follow(&relay.url(), json!({ "key": "room" }));
        let mut peer = relay.accept("fanwire.v1");
        assert_eq!(peer.query, query);
        let begin = query.strip_prefix("since=").unwrap_or("e-7");
        peer.say(&format!("\0{{\"at\":\"{begin}\",\"lost\":0}}"));
        peer.say("a");
        room.expect("open");
        assert_eq!(room.expect("message")["at"], at);
        // As if the page were loaded again.
        room.order("close", json!({}));
        room.expect("close");
    }
}

fn messages_wait_for_the_connection_up_to_a_limit(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&relay.url(), json!({ "queueBytes": 100 }));
    for taken in [true, false, false] {
        room.order("send", json!({ "text": "x".repeat(20) }));
        assert_eq!(room.expect("sent")["taken"], taken);
    }
    room.order("send", json!({ "text": "y" }));
    assert_eq!(room.expect("sent")["taken"], true);
    let mut peer = relay.greet("e-0");
    assert_eq!((peer.hear(), peer.hear()), ("x".repeat(20), "y".to_owned()));
    room.expect("open");
    room.order("send", json!({ "text": "x".repeat(20) }));
    assert_eq!(room.expect("sent")["taken"], true);
}

fn without_a_history_nobody_knows_what_is_lost(room: &mut Room) {
    let relay = Relay::new();
    room.follow(&relay.url(), json!({}));
    let mut peer = relay.accept("fanwire");
    assert!(room.expect("open")["at"].is_null());
    peer.say("\0{}");
    let message = room.expect("message");
    assert_eq!(
        (&message["text"], &message["at"]),
        (&json!("\0{}"), &json!(null))
    );
    drop(peer);
    room.expect("down");
    let peer = relay.accept("fanwire");
    assert_eq!(peer.query, "");
    room.expect("open");
    assert!(room.expect("lost")["lost"].is_null());
}
