//! Tests of who may connect and publish.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::access::signing::{SECRET, Signer};
use crate::config::{TokenAlgorithm, TokenKey};
use crate::ws::handshake::RefusalKind;

const TOKEN: &str = "0123456789abcdef";
const LISTEN: Result<Permission, RefusalKind> = Ok(Permission::Listen);
const PUBLISH: Result<Permission, RefusalKind> = Ok(Permission::Publish);

fn access(change: impl FnOnce(&mut Config)) -> Access {
    let mut config = Config::default();
    change(&mut config);
    Access::new(&config)
}

fn publish(publish: Publish) -> Access {
    access(|config| {
        config.relay.publish = publish;
        config.relay.publish_tokens = vec![Token::new(TOKEN).unwrap()];
    })
}

/// The answer to a request to `target` with `fields`, each with the end of its line.
fn admit(access: &Access, target: &str, fields: &str) -> Result<Permission, RefusalKind> {
    let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    let head = RequestHead::parse(request.as_bytes()).unwrap();
    let admission = access.admit(&head, "/", Circumstances::default());
    admission
        .and_then(|admission| admission.to_join())
        .map_err(|refusal| refusal.kind)
}

#[test]
fn by_default_any_page_may_connect_and_publish() {
    let access = access(|_| {});
    for fields in [
        "",
        "Origin: https://a.example\r\n",
        "Origin: null\r\n",
        "Origin: ?\r\n",
    ] {
        assert_eq!(admit(&access, "/", fields), PUBLISH, "{fields}");
    }
}

#[test]
fn with_a_list_of_origins_others_are_refused_but_not_clients_without_one() {
    let access = access(|config| {
        config.server.allowed_origins = vec!["a.example".parse().unwrap()];
    });
    let refused = Err(RefusalKind::Origin);
    assert_eq!(admit(&access, "/", ""), PUBLISH);
    for (fields, expected) in [
        ("Origin: https://a.example\r\n", PUBLISH),
        ("Origin: https://b.example\r\n", refused),
        ("Origin: null\r\n", refused),
        ("Origin:\r\n", refused),
    ] {
        assert_eq!(admit(&access, "/", fields), expected, "{fields}");
    }
}

#[test]
fn with_same_origin_the_host_of_the_request_decides() {
    let access = access(|config| {
        config.server.allowed_origins = vec!["same-origin".parse().unwrap()];
    });
    let fields = "Host: relay.example:8443\r\nOrigin: https://relay.example:8443\r\n";
    assert_eq!(admit(&access, "/", fields), PUBLISH);
    // The host of the target counts instead (RFC 9112, section 3.2.2).
    let target = "http://other.example/";
    assert_eq!(admit(&access, target, fields), Err(RefusalKind::Origin));
    let foreign = "Host: relay.example:8443\r\nOrigin: https://other.example\r\n";
    assert_eq!(admit(&access, "/", foreign), Err(RefusalKind::Origin));
}

#[test]
fn two_origins_are_a_bad_request_whatever_is_listed() {
    let twice = "Origin: https://a.example\r\n".repeat(2);
    assert_eq!(
        admit(&access(|_| {}), "/", &twice),
        Err(RefusalKind::BadRequest)
    );
}

#[test]
fn a_token_allows_publishing_and_a_wrong_one_not_even_listening() {
    let access = publish(Publish::Token);
    assert_eq!(admit(&access, "/", ""), LISTEN);
    assert_eq!(admit(&access, &format!("/?token={TOKEN}"), ""), PUBLISH);
    assert_eq!(
        admit(&access, "/?token=wrong", ""),
        Err(RefusalKind::Unauthorized)
    );
    let wrong = "Authorization: Bearer wrong\r\n";
    assert_eq!(admit(&access, "/", wrong), Err(RefusalKind::Unauthorized));
}

#[test]
fn the_password_of_a_proxy_beside_a_token_is_no_reason_to_refuse() {
    let access = publish(Publish::Token);
    let basic = "Authorization: Basic dXNlcjpwYXNz\r\n";
    assert_eq!(admit(&access, "/", basic), LISTEN);
    assert_eq!(admit(&access, &format!("/?token={TOKEN}"), basic), PUBLISH);
}

#[test]
fn a_token_that_the_configuration_does_not_ask_for_is_ignored() {
    for target in ["/", "/?token=wrong", &format!("/?token={TOKEN}")] {
        assert_eq!(admit(&publish(Publish::Everyone), target, ""), PUBLISH);
        assert_eq!(admit(&publish(Publish::Nobody), target, ""), LISTEN);
    }
}

// Tokens with grants

const NOW: u64 = 1_800_000_000;

/// A relay where both rights need a token, with one key for HS256.
fn strict(change: impl FnOnce(&mut Config)) -> Access {
    let mut access = access(|config| {
        config.access.subscribe = Subscribe::Token;
        config.access.publish = Publish::Token;
        config.access.keys = vec![TokenKey {
            alg: TokenAlgorithm::HS256,
            file: "token.key".into(),
            kid: None,
        }];
        change(config);
    });
    let mut keys = Keys::new();
    keys.add_file(TokenAlgorithm::HS256, None, SECRET).unwrap();
    access.set_keys(Arc::new(keys));
    access
}

/// A token for `/room` in both directions, or in one.
fn token(claims: &str) -> String {
    let claims = match claims {
        "both" => {
            json!({"exp": NOW + 60, "sub": "42", "subscribe": ["/room"], "publish": ["/room"]})
        }
        "listen" => json!({"exp": NOW + 60, "subscribe": ["/room"]}),
        "publish" => json!({"exp": NOW + 60, "publish": ["/room"]}),
        "expired" => json!({"exp": NOW - 60, "subscribe": ["/room"]}),
        _ => json!({"exp": NOW + 60}),
    };
    Signer::hs256(SECRET).token(&claims)
}

/// The answer in the topic `/room`.
fn ask(
    access: &Access,
    target: &str,
    fields: &str,
    is_from_proxy: bool,
) -> Result<Admission, Refusal> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
    let head = RequestHead::parse(request.as_bytes()).unwrap();
    let circumstances = Circumstances {
        now: Some(WallTime(Duration::from_secs(NOW))),
        is_from_proxy,
        is_upgrade: true,
    };
    access.admit(&head, "/room", circumstances)
}

/// The answer to a client that asks for an event stream of the topic `/room`.
fn listen(access: &Access, target: &str, fields: &str) -> Result<Permission, Refusal> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
    let head = RequestHead::parse(request.as_bytes()).unwrap();
    let circumstances = Circumstances {
        now: Some(WallTime(Duration::from_secs(NOW))),
        ..Circumstances::default()
    };
    access.admit(&head, "/room", circumstances)?.to_listen()
}

fn join(access: &Access, target: &str, fields: &str) -> Result<Permission, &'static str> {
    let admission = ask(access, target, fields, false);
    let joined = admission.and_then(|admission| admission.to_join());
    joined.map_err(|refusal| refusal.text().split(['.', ':']).next().unwrap())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn grants_decide_on_each_direction_and_none_at_all_is_forbidden() {
    let access = strict(|_| {});
    for (claims, expected) in [
        ("both", Ok(Permission::Publish)),
        ("listen", Ok(Permission::Listen)),
        ("publish", Ok(Permission::PublishOnly)),
        ("neither", Err("Your token does not allow this topic")),
        ("expired", Err("The token has expired")),
    ] {
        assert_eq!(
            join(&access, "/room", &bearer(&token(claims))),
            expected,
            "{claims}"
        );
    }
    assert_eq!(join(&access, "/room", ""), Err("This needs a token"));
    let admission = ask(&access, "/room", &bearer(&token("both")), false).unwrap();
    assert_eq!(admission.expires_at, Some(NOW + 60));
    assert_eq!(admission.subject.as_deref(), Some("42"));
}

#[test]
fn a_client_that_only_listens_needs_the_right_to_do_so_and_gets_no_other() {
    let access = strict(|_| {});
    for (claims, expected) in [
        ("both", Ok(Permission::Listen)),
        ("listen", Ok(Permission::Listen)),
        ("publish", Err(Refusal::FORBIDDEN_TO_LISTEN)),
        ("neither", Err(Refusal::FORBIDDEN_TO_LISTEN)),
        ("expired", Err(Refusal::TOKEN_EXPIRED)),
    ] {
        let answer = listen(&access, "/room", &bearer(&token(claims)));
        assert_eq!(answer, expected, "{claims}");
    }
    assert_eq!(listen(&access, "/room", ""), Err(Refusal::TOKEN_NEEDED));
    // Everybody may publish, and that is not enough.
    let open = strict(|config| config.access.publish = Publish::Everyone);
    assert_eq!(listen(&open, "/room", ""), Err(Refusal::TOKEN_NEEDED));
}

#[test]
fn a_request_that_is_judged_once_has_its_own_rights_in_each_topic() {
    let access = strict(|_| {});
    let fields = bearer(&token("publish"));
    let request = format!("POST / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
    let head = RequestHead::parse(request.as_bytes()).unwrap();
    let circumstances = Circumstances {
        now: Some(WallTime(Duration::from_secs(NOW))),
        ..Circumstances::default()
    };
    let judged = access.judge(&head, circumstances).unwrap();
    for (topic, may_publish) in [("/room", true), ("/room/", false), ("/", false)] {
        let admission = access.rights(&judged, topic);
        let rights = (admission.may_publish, admission.may_subscribe);
        assert_eq!(rights, (may_publish, false), "{topic}");
    }
}

#[test]
fn the_names_of_subprotocols_mean_nothing_in_a_request_that_is_no_upgrade() {
    let access = strict(|_| {});
    let offer = format!("Sec-WebSocket-Protocol: bearer.{}\r\n", token("both"));
    assert_eq!(join(&access, "/room", &offer), Ok(Permission::Publish));
    assert_eq!(listen(&access, "/room", &offer), Err(Refusal::TOKEN_NEEDED));
    let both = offer + &bearer(&token("listen"));
    assert_eq!(listen(&access, "/room", &both), Ok(Permission::Listen));
}

#[test]
fn a_presented_token_is_judged_also_if_none_is_asked_for() {
    let open = strict(|config| {
        config.access.subscribe = Subscribe::Everyone;
        config.access.publish = Publish::Everyone;
    });
    assert_eq!(join(&open, "/room", ""), Ok(Permission::Publish));
    assert_eq!(
        join(&open, "/room", &bearer(&token("neither"))),
        Ok(Permission::Publish)
    );
    assert_eq!(
        join(&open, "/room", &bearer(&token("expired"))),
        Err("The token has expired")
    );
    assert_eq!(
        join(&open, "/room", &bearer("x")),
        Err("The token is not a signed JSON Web Token")
    );
    let admission = ask(&open, "/room", &bearer(&token("neither")), false).unwrap();
    assert_eq!(admission.expires_at, Some(NOW + 60), "it ends all the same");
}

#[test]
fn a_client_that_only_publishing_is_open_to_is_let_in_without_a_token() {
    let drop_box = strict(|config| config.access.publish = Publish::Everyone);
    assert_eq!(join(&drop_box, "/room", ""), Ok(Permission::PublishOnly));
    let nobody = strict(|config| config.access.publish = Publish::Nobody);
    assert_eq!(join(&nobody, "/room", ""), Err("This needs a token"));
    assert_eq!(
        join(&nobody, "/room", &bearer(&token("both"))),
        Ok(Permission::Listen)
    );
    assert_eq!(
        join(&nobody, "/room", &bearer(&token("publish"))),
        Err("Your token does not allow this topic")
    );
}

#[test]
fn a_token_travels_in_the_header_in_a_subprotocol_or_in_the_query_if_that_is_on() {
    let access = strict(|_| {});
    let query = strict(|config| config.access.token_in_query = true);
    let good = token("both");
    let offer = format!("Sec-WebSocket-Protocol: fanwire, bearer.{good}\r\n");
    let upper = format!("Sec-WebSocket-Protocol: Bearer.{good}, fanwire.v1\r\n");
    for fields in [&bearer(&good), &offer, &upper] {
        assert_eq!(join(&access, "/room", fields), Ok(Permission::Publish));
    }
    let target = format!("/room?a=b&token={good}");
    assert_eq!(
        join(&access, &target, ""),
        Err("This needs a token"),
        "the query does not count"
    );
    assert_eq!(join(&query, &target, ""), Ok(Permission::Publish));
    assert_eq!(
        join(&query, "/room?token=x", ""),
        Err("The token is not a signed JSON Web Token")
    );
    assert_eq!(
        join(&query, "/room?token=%zz", ""),
        Err("The token is not a signed JSON Web Token")
    );
    // A password for a proxy is not for the relay.
    let basic = "Authorization: Basic dXNlcjpwYXNz\r\n";
    assert_eq!(join(&access, "/room", basic), Err("This needs a token"));
    for fields in [
        "Authorization: Bearer\r\n",
        "Authorization: x\r\n",
        "Sec-WebSocket-Protocol: bearer.\r\n",
    ] {
        assert_eq!(
            join(&access, "/room", fields),
            Err("The token is not a signed JSON Web Token"),
            "{fields}"
        );
    }
}

#[test]
fn two_explicit_tokens_must_be_the_same() {
    let access = strict(|config| config.access.token_in_query = true);
    let (one, other) = (token("both"), token("listen"));
    let offer = |token: &str| format!("Sec-WebSocket-Protocol: fanwire, bearer.{token}\r\n");
    let query = |token: &str| format!("/room?token={token}");
    let same = format!("{}{}", bearer(&one), offer(&one));
    assert_eq!(join(&access, &query(&one), &same), Ok(Permission::Publish));
    for (target, fields) in [
        (query(&other), bearer(&one)),
        (query(&one), offer(&other)),
        ("/room".into(), format!("{}{}", bearer(&one), offer(&other))),
        ("/room".into(), bearer(&one) + &bearer(&other)),
        ("/room".into(), bearer(&one) + "Authorization: x\r\n"),
        (format!("/room?token={one}&token={other}"), String::new()),
        (format!("/room?token={one}&token="), String::new()),
    ] {
        assert_eq!(
            join(&access, &target, &fields),
            Err("The request has several tokens"),
            "{target}"
        );
    }
}

#[test]
fn a_cookie_counts_only_for_pages_that_may_use_it_and_not_beside_an_explicit_token() {
    let access = strict(|config| {
        config.access.cookie = Some("session".into());
        config.server.allowed_origins = vec!["https://a.example".parse().unwrap()];
    });
    let cookie = |token: &str| format!("Cookie: x=y; session={token}\r\n");
    let (good, page) = (cookie(&token("both")), "Origin: https://a.example\r\n");
    assert_eq!(
        join(&access, "/room", &(page.to_owned() + &good)),
        Ok(Permission::Publish)
    );
    let same = format!("Sec-Fetch-Site: same-origin\r\n{good}");
    assert_eq!(join(&access, "/room", &same), Ok(Permission::Publish));
    for (fields, refusal) in [
        (good.clone(), "This needs a token"),
        (
            format!("Sec-Fetch-Site: same-site\r\n{good}"),
            "This needs a token",
        ),
        (
            format!("Sec-Fetch-Site: none\r\n{good}"),
            "This needs a token",
        ),
        (
            format!("Origin: https://b.example\r\n{good}"),
            "Pages from this origin may not connect",
        ),
        (
            page.to_owned() + "Cookie: session=\r\n",
            "This needs a token",
        ),
        (
            page.to_owned() + "Cookie: session=x\r\n",
            "The token is not a signed JSON Web Token",
        ),
        (
            page.to_owned() + &good + &cookie(&token("listen")),
            "The request has several tokens",
        ),
        (
            page.to_owned() + &good + &bearer(&token("expired")),
            "The token has expired",
        ),
    ] {
        assert_eq!(join(&access, "/room", &fields), Err(refusal), "{fields}");
    }
    let beside = page.to_owned() + &cookie(&token("expired")) + &bearer(&token("listen"));
    assert_eq!(join(&access, "/room", &beside), Ok(Permission::Listen));
    let twice = page.to_owned() + &good + &good;
    assert_eq!(join(&access, "/room", &twice), Ok(Permission::Publish));
}

#[test]
fn publish_tokens_keep_their_query_beside_tokens_with_grants() {
    let access = strict(|config| {
        config.access.publish = Publish::Everyone;
        config.relay.publish = Publish::Token;
        config.relay.publish_tokens = vec![Token::new(TOKEN).unwrap()];
    });
    let query = format!("/room?token={TOKEN}");
    assert_eq!(join(&access, &query, ""), Ok(Permission::PublishOnly));
    assert_eq!(
        join(&access, "/room", &bearer(TOKEN)),
        Ok(Permission::PublishOnly)
    );
    assert_eq!(
        join(&access, "/room", &bearer(&token("both"))),
        Ok(Permission::Publish)
    );
    assert_eq!(
        join(&access, "/room?token=wrong", ""),
        Err("The token is not valid")
    );
    let jwt = format!("/room?token={}", token("both"));
    assert_eq!(
        join(&access, &jwt, ""),
        Err("The token is not valid"),
        "the query is off for these"
    );
    assert_eq!(
        join(&access, &query, &bearer(&token("both"))),
        Err("The request has several tokens")
    );
}

#[test]
fn the_words_of_a_trusted_proxy_are_grants_and_those_of_others_are_nothing() {
    let access = strict(|config| config.access.grants_header = true);
    let off = strict(|_| {});
    let says = |words: &str| format!("Fanwire-Grants: {words}\r\n");
    let good = says("publish=/room; subscribe=/room; exp=1800000060; sub=42");
    let admission = ask(&access, "/room", &good, true).unwrap();
    assert_eq!(admission.to_join(), Ok(Permission::Publish));
    assert_eq!(admission.expires_at, Some(NOW + 60));
    assert_eq!(admission.subject.as_deref(), Some("42"));
    for (access, is_from_proxy) in [(&access, false), (&off, true)] {
        let admission = ask(access, "/room", &good, is_from_proxy).unwrap();
        assert_eq!(admission.to_join(), Err(Refusal::TOKEN_NEEDED));
    }
    let bad = "The proxy's Fanwire-Grants cannot be used";
    for (fields, text) in [
        (good.clone() + &good, bad),
        (says("publish=/room; subscribe=/room"), bad),
        (says(""), bad),
        (
            says("exp=1799999970"),
            "The proxy's Fanwire-Grants have expired",
        ),
        (
            says("exp=1800000060"),
            "Your token does not allow this topic",
        ),
        (
            good.clone() + &bearer("x"),
            "The token is not a signed JSON Web Token",
        ),
    ] {
        let refused =
            ask(&access, "/room", &fields, true).and_then(|admission| admission.to_join());
        assert!(refused.unwrap_err().text().starts_with(text), "{fields}");
    }
}

#[test]
fn grants_of_a_proxy_count_instead_of_a_token_and_end_with_the_first_of_both() {
    let access = strict(|config| config.access.grants_header = true);
    for (exp, end) in [(NOW + 5, NOW + 5), (NOW + 500, NOW + 60)] {
        let fields = format!(
            "Fanwire-Grants: subscribe=/room; exp={exp}\r\n{}",
            bearer(&token("both"))
        );
        let admission = ask(&access, "/room", &fields, true).unwrap();
        assert_eq!(admission.to_join(), Ok(Permission::Listen));
        assert_eq!(admission.expires_at, Some(end));
    }
}

#[test]
fn an_answer_about_a_token_has_no_part_of_it_and_says_what_rfc_6750_asks_for() {
    let access = strict(|_| {});
    let answer = |fields: &str| {
        let admission = ask(&access, "/room", fields, false);
        let refusal = admission
            .and_then(|admission| admission.to_join())
            .unwrap_err();
        String::from_utf8(refusal.encode(None)).unwrap()
    };
    let bare = answer("");
    assert!(
        bare.starts_with("HTTP/1.1 401 ") && bare.contains("\r\nWWW-Authenticate: Bearer\r\n"),
        "{bare}"
    );
    let expired = token("expired");
    let text = answer(&bearer(&expired));
    let challenge = "\r\nWWW-Authenticate: Bearer error=\"invalid_token\", error_description=\"The token has expired.\"\r\n";
    assert!(
        text.starts_with("HTTP/1.1 401 ") && text.contains(challenge),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\nThe token has expired.\n"), "{text}");
    assert!(!expired.split('.').any(|part| text.contains(part)));
    let forbidden = answer(&bearer(&token("neither")));
    let challenge = "\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\", error_description=";
    assert!(
        forbidden.starts_with("HTTP/1.1 403 ") && forbidden.contains(challenge),
        "{forbidden}"
    );
}
