//! Tests of decisions by the rules for topics: every kind of request, in topics with different rules.

use super::*;
use crate::access::Judged;
use crate::port::post::MANY;
use crate::port::terms::Welcome;

const CONFIG: &str = "\
access: {grants_header: true}
relay: {publish: token, publish_tokens: [aaaaaaaaaaaaaaaa]}
server: {trusted_proxies: [127.0.0.1]}
limits: {max_message_bytes: 2000}
topics:
- {match: /private/lobby, subscribe: everyone, publish: everyone}
- {match: /private/**, subscribe: token}
- {match: /news/*, publish: nobody}
- {match: /chat/**, publish: everyone, history: {max_age: 1m}, max_message_bytes: 200}
";

fn port() -> Port {
    Port::new(&Config::from_yaml(CONFIG, "test.yaml").expect("it is valid"))
}

const PROXY: Peer = Peer {
    is_loopback: false,
    names_clients: false,
    is_proxy: true,
};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const EVENTS: &str = "Accept: text/event-stream\r\n";
const JSON: &str = "Accept: application/json\r\n";
const TOKEN: &str = "Authorization: Bearer aaaaaaaaaaaaaaaa\r\n";
const GRANTS: &str =
    "Fanwire-Grants: subscribe=/private/a; publish=/private/a /news/a; exp=9999999999\r\n";

fn decide(method: &str, path: &str, fields: &str) -> Result<Decision, Refusal> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let now = WallTime(std::time::Duration::from_hours(500_000));
    port().decide(head.as_bytes(), PROXY, Some(now))
}

/// The right that a WebSocket gets, or the status of its refusal.
fn upgrade(path: &str, fields: &str) -> Result<Permission, u16> {
    match decide("GET", path, &format!("{UPGRADE}{fields}")) {
        Ok(Decision::Join(terms, _)) => Ok(terms.permission),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(Fault::from(refusal).code()),
    }
}

/// Whether another request is let in, or the status of its refusal.
fn ask(method: &str, path: &str, fields: &str) -> Result<(), u16> {
    match decide(method, path, fields) {
        Ok(Decision::Decline(decline)) => Err(decline.fault.code()),
        Ok(_) => Ok(()),
        Err(refusal) => Err(Fault::from(refusal).code()),
    }
}

#[test]
fn a_request_is_judged_by_the_rule_of_its_topic_whatever_kind_it_is() {
    use Permission::{Listen, Publish, PublishOnly};
    // The path; the rights of a WebSocket with nothing, with a token to publish, and with grants; whether somebody with nothing
    // may listen; whether each of the three may publish.
    for (path, socket, hears, posts) in [
        (
            "/",
            [Ok(Listen), Ok(Publish), Ok(Listen)],
            true,
            [401, 0, 403],
        ),
        (
            "/private",
            [Err(401), Ok(PublishOnly), Err(403)],
            false,
            [401, 0, 403],
        ),
        (
            "/private/a",
            [Err(401), Ok(PublishOnly), Ok(Publish)],
            false,
            [401, 0, 0],
        ),
        (
            "/%70rivate%2Fa",
            [Err(401), Ok(PublishOnly), Ok(Publish)],
            false,
            [401, 0, 0],
        ),
        (
            "/private/../a",
            [Err(401), Ok(PublishOnly), Err(403)],
            false,
            [401, 0, 403],
        ),
        (
            "/private/lobby",
            [Ok(Publish), Ok(Publish), Ok(Publish)],
            true,
            [0, 0, 0],
        ),
        (
            "/private/lobby/",
            [Err(401), Ok(PublishOnly), Err(403)],
            false,
            [401, 0, 403],
        ),
        (
            "/news/a",
            [Ok(Listen), Ok(Listen), Ok(Listen)],
            true,
            [403, 403, 403],
        ),
        (
            "/news",
            [Ok(Listen), Ok(Publish), Ok(Listen)],
            true,
            [401, 0, 403],
        ),
        (
            "/chat",
            [Ok(Publish), Ok(Publish), Ok(Publish)],
            true,
            [0, 0, 0],
        ),
    ] {
        for (fields, (socket, post)) in ["", TOKEN, GRANTS]
            .into_iter()
            .zip(socket.into_iter().zip(posts))
        {
            assert_eq!(upgrade(path, fields), socket, "{path} {fields}");
            let expected = if post == 0 { Ok(()) } else { Err(post) };
            assert_eq!(ask("POST", path, fields), expected, "{path} {fields}");
        }
        let listens = if hears { Ok(()) } else { Err(401) };
        for (method, fields) in [("GET", EVENTS), ("GET", JSON), ("HEAD", "")] {
            assert_eq!(ask(method, path, fields), listens, "{method} {path}");
        }
    }
}

#[test]
fn a_wrong_token_is_refused_even_where_the_rule_asks_for_none() {
    let wrong = "Authorization: Bearer bbbbbbbbbbbbbbbb\r\n";
    for path in ["/chat", "/news/a", "/"] {
        assert_eq!(upgrade(path, wrong), Err(401), "{path}");
    }
}

#[test]
fn each_line_for_many_topics_is_judged_by_the_rule_of_its_topic() {
    let port = port();
    // Some topic may be for everybody.
    assert_eq!(
        ask("POST", "/", &format!("Content-Type: {MANY}\r\n")),
        Ok(())
    );
    let line = |topic: &str, length: usize| {
        port.allow_line(&Judged::default(), topic)?;
        port.allow_message(
            topic,
            crate::ws::frame::MessageKind::Text,
            &vec![b'x'; length],
        )
    };
    assert_eq!(line("/chat", 200), Ok(()));
    assert_eq!(line("/chat", 201), Err(Fault::LINE_TOO_LARGE));
    assert_eq!(line("/private/lobby", 2000), Ok(()));
    assert_eq!(line("/private/lobby", 2001), Err(Fault::LINE_TOO_LARGE));
    assert_eq!(line("/", 1), Err(Fault::TOKEN_NEEDED));
    assert_eq!(line("/private/a", 1), Err(Fault::TOKEN_NEEDED));
    assert_eq!(line("/news/a", 1), Err(Fault::FORBIDDEN));
    let reserved = |topic| port.allow_message(topic, crate::ws::frame::MessageKind::Text, b"\0");
    assert_eq!(reserved("/chat/a"), Err(Fault::RESERVED));
    assert_eq!(reserved("/private/lobby"), Ok(()));
}

#[test]
fn only_a_topic_that_keeps_messages_refuses_a_number_that_cannot_be_read() {
    assert_eq!(upgrade("/chat?last=x", ""), Err(400));
    assert_eq!(upgrade("/?last=x", ""), Ok(Permission::Listen));
}

#[test]
fn clients_may_compress_where_the_rule_says_so() {
    let config = "topics: [{match: /a, compression: {enabled: true}}]";
    let port = Port::new(&Config::from_yaml(config, "test.yaml").expect("it is valid"));
    for (path, is_agreed) in [("/a", true), ("/b", false)] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\n{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        );
        let Ok(Decision::Join(terms, _)) = port.decide(head.as_bytes(), Peer::default(), None)
        else {
            panic!("everybody may listen");
        };
        assert_eq!(terms.deflate.is_some(), is_agreed, "{path}");
    }
}

#[test]
fn the_subprotocol_is_settled_when_the_owner_has_said_whether_messages_are_kept() {
    let offer = format!("{UPGRADE}Sec-WebSocket-Protocol: fanwire.v1, fanwire\r\n");
    for path in ["/chat", "/"] {
        let Ok(Decision::Join(terms, _)) = decide("GET", path, &offer) else {
            panic!("it may listen");
        };
        let response =
            String::from_utf8(terms.response(Welcome::default()).into()).expect("it is ASCII");
        assert!(
            response.contains("\r\nSec-WebSocket-Protocol: fanwire\r\n"),
            "{response}"
        );
        assert!(terms.has_words(true) && !terms.has_words(false));
    }
}
