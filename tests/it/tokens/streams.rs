//! Tokens of clients that read event streams: in every place where one may be, and up to its end.

use super::*;
use crate::events::Reader;

/// The answer to a request for events.
fn listen(strict: &Strict, path: &str, fields: &str) -> Reader<TcpStream> {
    let stream = TcpStream::connect(strict.world.relay.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Reader::open(stream, path, fields)
}

#[test]
fn an_event_stream_needs_the_right_to_listen_wherever_its_token_is() {
    let strict = Strict::with(&[Signer::hs256(SECRET)], |config| {
        config.access.cookie = Some("session".into());
        config.access.token_in_query = true;
        config.server.allowed_origins = vec!["https://app.example".parse().unwrap()];
    });
    let token = |claims: Value| Signer::hs256(SECRET).token(&claims);
    let exp = now() + 60;
    let good = token(json!({"exp": exp, "subscribe": ["/room"]}));
    let deaf = token(json!({"exp": exp, "publish": ["/room"]}));
    let late = token(claims(-60));
    let cookie = format!("Cookie: session={good}\r\n");
    let page = "Origin: https://app.example\r\n";
    for (query, fields, status, challenge) in [
        ("", bearer(&good), 200, None),
        (&*format!("?token={good}"), String::new(), 200, None),
        ("", format!("{page}{cookie}"), 200, None),
        (
            "",
            format!("Sec-Fetch-Site: same-origin\r\n{cookie}"),
            200,
            None,
        ),
        ("", String::new(), 401, Some("Bearer")),
        ("", cookie, 401, Some("Bearer")),
        (
            "",
            format!("Sec-WebSocket-Protocol: bearer.{good}\r\n"),
            401,
            Some("Bearer"),
        ),
        (
            "",
            bearer(&late),
            401,
            Some("Bearer error=\"invalid_token\", error_description=\"The token has expired.\""),
        ),
        (
            "",
            bearer(&deaf),
            403,
            Some(
                "Bearer error=\"insufficient_scope\", \
                 error_description=\"Your token does not allow you to listen to this topic.\"",
            ),
        ),
    ] {
        let reader = listen(&strict, &format!("/room{query}"), &fields);
        assert_eq!(reader.status(), status, "{query} {fields}");
        assert_eq!(reader.field("WWW-Authenticate"), challenge);
        let allows = reader.field("Access-Control-Allow-Credentials");
        assert_eq!(allows.is_some(), fields.starts_with(page), "{fields}");
    }
    strict.world.end();
}

#[test]
fn a_stream_ends_when_its_token_is_not_accepted_any_more_and_goes_on_with_a_new_one() {
    const CLIENTS: usize = 60;
    let strict = Strict::with(&[Signer::hs256(SECRET)], |config| {
        config.history.max_age = Duration::from_mins(1);
    });
    let signer = Signer::hs256(SECRET);
    let token = signer.token(&claims(-28));
    let mut readers: Vec<_> = (0..CLIENTS)
        .map(|_| listen(&strict, "/room", &bearer(&token)))
        .collect();
    let member = strict.join("/room", &bearer(&signer.token(&claims(60))));
    member.send(frame(FIN | TEXT, b"kept"));
    for reader in &mut readers {
        assert_eq!(
            (reader.status(), reader.words()["lost"].as_u64()),
            (200, Some(0))
        );
        assert_eq!(reader.next().data, "kept");
    }
    eventually("one of them has ended", || {
        strict.world.total(Stat::DisconnectedExpired) > 0
    });
    let late = listen(&strict, "/room", &bearer(&token));
    assert_eq!(late.status(), 401, "it could not come back with this token");
    let ended = readers.iter_mut().find_map(|reader| {
        let stream = reader.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let has_end = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).unwrap();
        has_end.then(|| (reader.words(), reader.try_next()))
    });
    let (end, behind) = ended.unwrap();
    assert_eq!((end["code"].as_u64(), behind), (Some(3000), None));
    assert_eq!(end["reason"], "the token has expired");
    member.send(frame(FIN | TEXT, b"missed"));
    let fields = format!(
        "Last-Event-ID: {}\r\n{}",
        end["at"].as_str().unwrap(),
        bearer(&signer.token(&claims(60)))
    );
    let mut resumed = listen(&strict, "/room", &fields);
    assert_eq!(resumed.words()["lost"].as_u64(), Some(0));
    assert_eq!(resumed.next().data, "missed");
    drop((readers, resumed, member));
    strict.world.end();
}
