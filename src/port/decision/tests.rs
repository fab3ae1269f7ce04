//! Tests of decisions on requests.

use super::*;
use crate::config::Publish;
use crate::port::position::Start;
use crate::port::terms::{Beginning, Welcome};
use crate::ws::handshake::RefusalKind;
use std::time::Duration;

const LOOPBACK: Peer = Peer {
    is_loopback: true,
    names_clients: false,
    is_proxy: false,
};

fn decide(
    change: impl FnOnce(&mut Config),
    target: &str,
    fields: &str,
) -> Result<Terms, RefusalKind> {
    let mut config = Config::default();
    change(&mut config);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    );
    match Port::new(&config).decide(request.as_bytes(), LOOPBACK, None) {
        Ok(Decision::Join(terms, None)) => Ok(terms),
        Ok(Decision::Join(_, Some(_))) => panic!("no proxy was there"),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.kind),
    }
}

#[test]
fn an_upgrade_is_granted_with_all_its_terms() {
    let terms = decide(
        |config| config.relay.publish = Publish::Nobody,
        "/a%20b?c",
        "",
    )
    .unwrap();
    assert_eq!(&*terms.topic, "/a b");
    assert_eq!(
        (terms.form, terms.permission),
        (Form::Frames, Permission::Listen)
    );
    let response = terms.response(Welcome::default());
    assert!(response.starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_proxy_that_asks_for_an_upgrade_in_every_request_passes_descriptions_on() {
    let port = Port::new(&Config::default());
    for fields in [
        "",
        // nginx with `proxy_set_header Connection upgrade`.
        "Connection: upgrade\r\n",
        // A client that would rather speak HTTP/2.
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Upgrade: websocket\r\n",
    ] {
        for version in ["1.0", "1.1"] {
            let head = format!(
                "GET /a HTTP/{version}\r\nHost: a\r\n{fields}Accept: application/json\r\n\r\n"
            );
            let decision = port.decide(head.as_bytes(), Peer::default(), None);
            assert!(matches!(decision, Ok(Decision::Describe(_))), "{head}");
        }
    }
    let upgrade = decide(|_| {}, "/a", "Accept: application/json\r\n").unwrap();
    assert_eq!(upgrade.form, Form::Frames);
}

/// The answer to a head of a relay with the health path `/healthz`.
fn probe(head: &str) -> Result<Option<Body>, RefusalKind> {
    let mut config = Config::default();
    config.server.health_path = Some("/healthz".into());
    match Port::new(&config).decide(head.as_bytes(), Peer::default(), None) {
        Ok(Decision::Probe(body)) => Ok(Some(body)),
        Ok(Decision::Decline(Decline {
            kind: Some(kind), ..
        })) => Err(kind),
        Ok(_) => Ok(None),
        Err(refusal) => Err(refusal.kind),
    }
}

/// Whether a browser's request with this host gets the page.
fn is_shown(page: Page, peer: Peer, host: &str) -> bool {
    let mut config = Config::default();
    config.http.page = page;
    let head = format!("GET /room HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n");
    match Port::new(&config).decide(head.as_bytes(), peer, None) {
        Ok(Decision::Page) => true,
        Err(refusal) if refusal.kind == RefusalKind::NotUpgrade => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_page_is_for_browsers_on_this_machine_unless_it_is_for_all_or_for_none() {
    let proxy = Peer {
        names_clients: true,
        is_proxy: true,
        ..Peer::default()
    };
    for peer in [Peer::default(), LOOPBACK, proxy] {
        for host in ["localhost", "relay.example"] {
            let is_here = peer == LOOPBACK && host == "localhost";
            assert_eq!(
                is_shown(Page::Loopback, peer, host),
                is_here,
                "{peer:?} {host}"
            );
            assert!(is_shown(Page::On, peer, host) && !is_shown(Page::Off, peer, host));
        }
    }
}

#[test]
fn a_health_check_is_known_by_its_path_whatever_else_it_says() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for head in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz?a=b HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n\r\n",
        "GET http://a/%68ealthz HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"),
    ] {
        assert_eq!(probe(head), Ok(Some(Body::Send)), "{head}");
        let head = head.replacen("GET", "HEAD", 1);
        assert_eq!(probe(&head), Ok(Some(Body::Omit)), "{head}");
    }
    let other = format!("GET /healthz/ HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n");
    assert_eq!(probe(&other), Ok(None));
}

#[test]
fn a_health_check_that_breaks_a_rule_is_refused_like_any_request() {
    for (head, kind) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", RefusalKind::BadRequest),
        (
            "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
            RefusalKind::BadRequest,
        ),
        (
            "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            RefusalKind::BadRequest,
        ),
        (
            "POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            RefusalKind::Method,
        ),
        (
            "GET /Healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            RefusalKind::NotUpgrade,
        ),
        (
            "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
            RefusalKind::NotUpgrade,
        ),
    ] {
        assert_eq!(probe(head), Err(kind), "{head}");
    }
}

/// The name that a relay with this list selects from `offer`, or else whether there was an offer to it.
fn selected(list: &[&str], offer: &str) -> Result<String, bool> {
    let listed = |config: &mut Config| {
        let entries = list.iter().map(|text| Subprotocol::new(text).unwrap());
        config.server.subprotocols = entries.collect();
    };
    let fields = format!("Sec-WebSocket-Protocol: {offer}\r\n");
    let terms = decide(listed, "/", &fields).unwrap();
    let answer = String::from_utf8(terms.response(Welcome::default()).into()).unwrap();
    match terms.subprotocol.selection(false) {
        Selection::Selected(name) => {
            assert!(answer.contains(&format!("\r\nSec-WebSocket-Protocol: {name}\r\n")));
            Ok((**name).into())
        }
        other @ (Selection::NotOffered | Selection::Unmet { .. }) => {
            assert!(!answer.contains("Protocol:"), "{answer}");
            Err(*other != Selection::NotOffered)
        }
    }
}

#[test]
fn the_first_subprotocol_of_the_relay_that_the_client_offers_is_selected() {
    assert_eq!(selected(&["a", "b"], "b, a"), Ok("a".into()));
    assert_eq!(selected(&["a", "b"], "c, b"), Ok("b".into()));
    assert_eq!(selected(&["a"], "A, aa"), Err(true));
    assert_eq!(selected(&["a"], ""), Err(false));
}

#[test]
fn without_a_list_no_subprotocol_is_selected() {
    assert_eq!(selected(&[], "a, b"), Err(true));
    assert_eq!(selected(&[], ""), Err(false));
}

#[test]
fn an_asterisk_selects_the_first_of_the_client_that_is_not_reserved() {
    assert_eq!(selected(&["*"], "b, a"), Ok("b".into()));
    assert_eq!(selected(&["*"], "fanwire.v1, Bearer.x, c"), Ok("c".into()));
    assert_eq!(selected(&["*"], "bearer.x"), Err(true));
    assert_eq!(selected(&["*"], ", a b"), Err(false));
}

/// The terms of a request for an event stream with this head, of a relay with a history.
fn events(head: &str) -> Result<Terms, RefusalKind> {
    let mut config = Config::default();
    config.history.max_age = Duration::from_mins(1);
    match Port::new(&config).decide(head.as_bytes(), Peer::default(), None) {
        Ok(Decision::Join(terms, _)) => Ok(terms),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.kind),
    }
}

#[test]
fn an_event_stream_is_granted_over_http_1_0_as_well() {
    let accept = "Accept: text/event-stream\r\n";
    for head in [
        format!("GET /a%20b?since=e-7 HTTP/1.0\r\n{accept}\r\n"),
        format!("GET /a%20b HTTP/1.1\r\nHost: a\r\nLast-Event-ID: e-7\r\n{accept}\r\n"),
    ] {
        let terms = events(&head).unwrap();
        assert_eq!((&*terms.topic, terms.form), ("/a b", Form::Events));
        assert_eq!(terms.start, Start::At("e-7".parse().unwrap()));
        let beginning = Beginning {
            at: "e-9".parse().unwrap(),
            lost: Some(2),
        };
        let response = terms.response(Welcome {
            beginning: Some(beginning),
            pause_ms: 1500,
            ..Welcome::default()
        });
        let response = String::from_utf8(response.to_vec()).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"));
        assert!(response.ends_with(
            "\r\nConnection: close\r\nFanwire-Position: e-9\r\nFanwire-Lost: 2\r\n\r\n\
             retry: 1500\nid: e-9\nevent: fanwire\ndata: {\"at\":\"e-9\",\"lost\":2}\n\n"
        ));
    }
}

#[test]
fn without_a_history_an_event_stream_names_no_place() {
    let head = "GET / HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n";
    let response = events(head).unwrap().response(Welcome {
        pause_ms: 1500,
        ..Welcome::default()
    });
    assert!(response.ends_with(b"\r\nConnection: close\r\n\r\nretry: 1500\n\n"));
}

#[test]
fn an_event_stream_that_breaks_a_rule_is_refused() {
    let accept = "Accept: text/event-stream\r\n";
    for fields in [
        accept,
        &format!("Host: a b\r\n{accept}"),
        &format!("Host: a\r\nContent-Length: 1\r\n{accept}"),
        &format!("Host: a\r\nOrigin: a\r\nOrigin: b\r\n{accept}"),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(events(&head), Err(RefusalKind::BadRequest), "{head}");
    }
    let head = format!("GET /%zz HTTP/1.1\r\nHost: a\r\n{accept}\r\n");
    assert_eq!(events(&head), Err(RefusalKind::BadRequest));
}

#[test]
fn the_topic_is_judged_before_access() {
    let listed = |config: &mut Config| {
        config.server.allowed_origins = vec!["a.example".parse().unwrap()];
    };
    let foreign = "Origin: https://b.example\r\n";
    assert_eq!(decide(listed, "/", foreign), Err(RefusalKind::Origin));
    assert_eq!(decide(listed, "/%", foreign), Err(RefusalKind::BadRequest));
}

#[test]
fn an_extension_is_agreed_if_the_operator_allows_it_and_the_client_offers_it() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    for (enabled, fields, expected) in [
        (true, offer, Some(Deflate::default())),
        (true, "", None),
        (false, offer, None),
    ] {
        let terms = decide(|config| config.compression.enabled = enabled, "/", fields).unwrap();
        assert_eq!(terms.deflate, expected, "{enabled} {fields}");
        let answer = terms.response(Welcome::default());
        let answer = String::from_utf8(answer.into()).unwrap();
        let line = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
        assert_eq!(answer.contains(line), expected.is_some(), "{answer}");
    }
}
