//! Tokens of requests that publish or ask about a topic.

use super::*;

/// The answer to a request whose path, token and fields are given.
fn ask(strict: &Strict, line: &str, token: &str, fields: &str, body: &str) -> Answer {
    let mut wire = strict.world.dial();
    wire.send(format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\n{}{fields}Content-Length: {}\r\n\r\n{body}",
        bearer(token),
        body.len()
    ));
    wire.answer()
}

fn token(claims: &Value) -> String {
    Signer::hs256(SECRET).token(claims)
}

/// A token that may publish to these topics, of a bearer with this name.
fn publisher(sub: &str, topics: &[&str]) -> String {
    token(&json!({"exp": now() + 60, "sub": sub, "publish": topics}))
}

const MANY: &str = "Content-Type: application/vnd.fanwire+ndjson\r\n";

#[test]
fn a_token_for_one_topic_publishes_to_no_other_neither_alone_nor_among_many() {
    let strict = Strict::start();
    let all = token(&json!({"exp": now() + 60, "subscribe": ["/*"], "publish": ["/b"]}));
    let mut a = strict.join("/a", &bearer(&all));
    let mut b = strict.join("/b", &bearer(&all));
    let mine = publisher("42", &["/a"]);
    assert_eq!(ask(&strict, "POST /a", &mine, "", "one").status, 202);
    let refused = ask(&strict, "POST /b", &mine, "", "stolen");
    let text = "Your token does not allow you to publish to this topic.";
    assert_eq!(
        (refused.status, &*refused.body),
        (403, &*format!("{text}\n"))
    );
    assert_eq!(
        refused.header("www-authenticate"),
        Some(&*format!(
            "Bearer error=\"insufficient_scope\", error_description=\"{text}\""
        ))
    );
    let lines = [
        r#"{"topic":"/b","text":"stolen"}"#,
        r#"{"topic":"/a","text":"two"}"#,
        r#"{"topic":"/b","base64":"wrong"}"#,
        r#"{"topic":"/a/b","text":"stolen"}"#,
        r#"{"topic":"/a","text":"three"}"#,
    ];
    // The path of such a request means nothing.
    for path in ["/a", "/b"] {
        let answer = ask(
            &strict,
            &format!("POST {path}"),
            &mine,
            MANY,
            &lines.join("\n"),
        );
        assert_eq!(answer.status, 200);
        let answers: Vec<Value> = answer
            .body
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let forbidden = json!({"status": 403, "error": text});
        for (index, line) in answers.iter().enumerate() {
            if [1, 4].contains(&index) {
                assert!(line["at"].is_string(), "{line}");
            } else {
                assert_eq!(*line, forbidden);
            }
        }
        assert_eq!(answers.len(), lines.len());
    }
    for text in ["one", "two", "three", "two", "three"] {
        assert_eq!(a.hear(), text);
    }
    // Nothing came before this.
    b.send(frame(FIN | TEXT, b"mine"));
    assert_eq!(b.hear(), "mine");
    drop((a, b));
    strict.world.end();
}

#[test]
fn requests_with_tokens_that_are_not_valid_are_told_why_before_their_bodies_are_read() {
    let strict = Strict::start();
    let late = token(&claims(-60));
    let foreign = Signer::hs256(b"another secret of 32 characters.").token(&claims(60));
    for (token, text) in [
        (&*late, "The token has expired."),
        (&foreign, "The signature of the token is not valid."),
        ("wrong", "The token is not a signed JSON Web Token."),
    ] {
        for (line, fields) in [
            ("POST /room", ""),
            ("POST /room", MANY),
            ("GET /room", "Accept: application/json\r\n"),
        ] {
            let mut wire = strict.world.dial();
            let length = if line.starts_with("POST") {
                "Content-Length: 9\r\nExpect: 100-continue\r\n"
            } else {
                ""
            };
            wire.send(format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\n{}{fields}{length}\r\n",
                bearer(token)
            ));
            let answer = wire.answer();
            assert_eq!((answer.status, answer.body.trim_end()), (401, text));
            let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{text}\"");
            assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
            wire.expect_end();
        }
    }
    strict.world.end();
}

#[test]
fn only_who_may_listen_is_told_about_a_topic() {
    let strict = Strict::start();
    let deaf = publisher("42", &["/room"]);
    let mute = token(&json!({"exp": now() + 60, "subscribe": ["/room"]}));
    let json = "Accept: application/json\r\n";
    for (path, token, status) in [
        ("/room", &deaf, 403),
        ("/room", &mute, 200),
        ("/other", &mute, 403),
    ] {
        let mut wire = strict.world.dial();
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{json}{}\r\n",
            bearer(token)
        ));
        let answer = wire.answer();
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert_eq!(challenge.contains("insufficient_scope"), status == 403);
    }
    strict.world.end();
}

/// A relay with one worker, so that all requests are counted in one place.
fn counting(change: impl FnOnce(&mut Config)) -> Strict {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(1);
    config.access = access(&folder, &[Signer::hs256(SECRET)]);
    change(&mut config);
    let world = World::with(&config);
    Strict { world, folder }
}

#[test]
fn rates_go_by_the_bearer_of_a_token_and_not_by_its_address() {
    let strict = counting(|config| {
        // The rate gives back in five minutes all that is used up. By then the test is over.
        config.limits.messages_per_second = 1;
        config.limits.burst = 300;
    });
    let post = |token: &str| {
        let fields = "Content-Type: application/x-ndjson\r\n";
        ask(&strict, "POST /room", token, fields, &"a\n".repeat(300)).status
    };
    let of = |sub: &str| publisher(sub, &["/room"]);
    assert_eq!(post(&of("42")), 202);
    assert_eq!(post(&of("43")), 202, "it is another bearer");
    let again = token(&json!({"exp": now() + 50, "sub": "42", "publish": ["/**"]}));
    assert_eq!(post(&again), 429, "it is the same bearer");
    let foreign = json!({"exp": now() + 60, "sub": "42", "iss": "b", "publish": ["/room"]});
    assert_eq!(post(&token(&foreign)), 202, "another issuer's 42");
    let nameless = json!({"exp": now() + 60, "publish": ["/room"]});
    assert_eq!(post(&token(&nameless)), 202, "it is an address");
    assert_eq!(post(&token(&nameless)), 429);
    strict.world.end();
}

#[test]
fn a_key_is_of_the_bearer_who_has_chosen_it() {
    let strict = counting(|_| {});
    let position = |token: &str| {
        let answer = ask(&strict, "POST /room", token, "Idempotency-Key: k\r\n", "x");
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.header("fanwire-position").unwrap().to_owned()
    };
    let mut listener = strict.join("/room", &bearer(&token(&claims(60))));
    let first = position(&publisher("42", &["/room"]));
    assert_eq!(position(&publisher("42", &["/**"])), first, "a repeat");
    assert_ne!(position(&publisher("43", &["/room"])), first);
    assert_eq!((listener.hear(), listener.hear()), ("x".into(), "x".into()));
    drop(listener);
    strict.world.end();
}

#[test]
fn each_request_of_a_connection_is_judged_by_its_own_token() {
    let strict = Strict::start();
    let mut wire = strict.world.dial();
    for (token, status) in [
        (publisher("42", &["/room"]), 202),
        (publisher("42", &["/room"]), 202),
        (token(&claims(-60)), 401),
    ] {
        wire.send(format!(
            "POST /room HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 1\r\n\r\nx",
            bearer(&token)
        ));
        assert_eq!(wire.answer().status, status);
    }
    wire.expect_end();
    strict.world.end();
}
