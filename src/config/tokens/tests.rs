//! Tests of the section `access`.

use super::*;
use crate::config::{TokenAlgorithm, TokenKey, refusal};

fn key() -> TokenKey {
    TokenKey {
        alg: TokenAlgorithm::ES256,
        file: "token.pem".into(),
        kid: None,
    }
}

/// The error after a change to a configuration with a key.
fn refused(change: impl FnOnce(&mut Config)) -> String {
    refusal(|config| {
        config.access.keys = vec![key()];
        change(config);
    })
}

fn accepted(change: impl FnOnce(&mut Config)) {
    let mut config = Config::default();
    config.access.keys = vec![key()];
    change(&mut config);
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn who_may_publish_is_said_in_one_place() {
    assert_eq!(
        refused(|config| {
            config.relay.publish = Publish::Nobody;
            config.access.publish = Publish::Token;
        }),
        "configuration: access.publish: relay.publish says it, too; set only one of the two, and leave the other at everyone"
    );
    for (relay, access, expected) in [
        (Publish::Everyone, Publish::Everyone, Publish::Everyone),
        (Publish::Nobody, Publish::Everyone, Publish::Nobody),
        (Publish::Everyone, Publish::Token, Publish::Token),
        (Publish::Everyone, Publish::Nobody, Publish::Nobody),
    ] {
        accepted(|config| {
            config.relay.publish = relay;
            config.access.publish = access;
            assert_eq!(config.publish(), expected);
        });
    }
}

#[test]
fn what_needs_keys_is_refused_without_any() {
    assert_eq!(
        refusal(|config| config.access.subscribe = Subscribe::Token),
        "configuration: access.subscribe: it is token, but there are no keys for tokens: no client could hear anything; \
         name the keys of your tokens in access.keys or access.jwks_file, or set access.grants_header"
    );
    assert_eq!(
        refusal(|config| config.access.publish = Publish::Token),
        "configuration: access.publish: it is token, but there are no keys for tokens: no client could send anything; \
         name the keys of your tokens in access.keys or access.jwks_file, or set access.grants_header"
    );
    let no_effect = |key: &str| {
        format!(
            "configuration: access.{key}: it has no effect without keys for tokens; \
             name keys in access.keys or access.jwks_file, or remove it"
        )
    };
    let text = || Some("a".to_owned());
    assert_eq!(
        refusal(|config| config.access.issuer = text()),
        no_effect("issuer")
    );
    assert_eq!(
        refusal(|config| config.access.audience = text()),
        no_effect("audience")
    );
    assert_eq!(
        refusal(|config| config.access.cookie = text()),
        no_effect("cookie")
    );
    assert_eq!(
        refusal(|config| config.access.token_in_query = true),
        no_effect("token_in_query")
    );
    accepted(|config| {
        config.access.keys.clear();
        config.access.grants_header = true;
        config.access.subscribe = Subscribe::Token;
        config.server.trusted_proxies =
            Config::from_yaml("server: {trusted_proxies: [10.0.0.0/8]}", "t")
                .unwrap()
                .server
                .trusted_proxies;
    });
}

#[test]
fn a_cookie_needs_the_origins_of_its_pages() {
    let with = |origins: &[&str], cookie: &str| {
        let mut config = Config::default();
        config.access.keys = vec![key()];
        config.access.cookie = Some(cookie.into());
        config.server.allowed_origins = origins.iter().map(|text| text.parse().unwrap()).collect();
        config.validate().map_err(|error| error.to_string())
    };
    assert_eq!(with(&["same-origin"], "session"), Ok(()));
    assert_eq!(
        with(&[], "session").unwrap_err(),
        "configuration: access.cookie: server.allowed_origins is empty: any page that a user visits could connect with the \
         user's cookie; list the origins of your pages"
    );
    assert!(
        with(&["a.example", "null"], "session")
            .unwrap_err()
            .contains("server.allowed_origins has null")
    );
    for name in ["a b", "a=b", "a;b", "ä"] {
        assert!(
            with(&["a.example"], name)
                .unwrap_err()
                .contains("is not the name of a cookie"),
            "{name}"
        );
    }
}

#[test]
fn the_words_of_proxies_need_proxies() {
    assert_eq!(
        refused(|config| config.access.grants_header = true),
        "configuration: access.grants_header: it has no effect while server.trusted_proxies is empty; \
         list the proxies that send Fanwire-Grants, and have them remove the client's own"
    );
}

#[test]
fn texts_are_neither_empty_nor_long() {
    let long = || Some("x".repeat(257));
    assert_eq!(
        refused(|config| config.access.issuer = Some(String::new())),
        "configuration: access.issuer: the text has 0 bytes; use 1 to 256 bytes, or null for none"
    );
    assert!(
        refused(|config| config.access.audience = long())
            .contains("access.audience: the text has 257 bytes")
    );
    assert!(
        refused(|config| config.access.keys[0].kid = long())
            .contains("access.keys[0].kid: the text has 257")
    );
    assert!(
        refused(|config| config.access.keys = vec![key(); 257])
            .contains("access.keys: the list has 257 entries")
    );
}

#[test]
fn a_key_in_place_of_its_file_is_not_shown() {
    let contents = "the text of a key is given in place of the path of its file; write it to a file, and name that";
    for text in [
        "-----BEGIN PUBLIC KEY-----",
        "3q2-7wAAx5Jq9pQm",
        "{\"keys\": []}",
    ] {
        let error = refused(|config| config.access.keys[0].file = text.into());
        assert_eq!(
            error,
            format!("configuration: access.keys[0].file: {contents}")
        );
        let error = refused(|config| config.access.jwks_file = Some(text.into()));
        assert_eq!(
            error,
            format!("configuration: access.jwks_file: {contents}")
        );
    }
}

#[test]
fn mistakes_in_a_file_are_named_with_their_place() {
    let refuse = |text: &str| Config::from_yaml(text, "t.yaml").unwrap_err().to_string();
    for (text, expected) in [
        (
            "access:\n  keys:\n  - {alg: HS512, file: a}\n",
            "t.yaml:3: access.keys[0].alg: found `HS512`; use one of HS256, RS256, PS256, ES256, EdDSA",
        ),
        (
            "access:\n  keys:\n  - {alg: none, file: a}\n",
            "t.yaml:3: access.keys[0].alg: found `none`; use one of HS256, RS256, PS256, ES256, EdDSA",
        ),
        (
            "access:\n  keys: [a.pem]\n",
            "t.yaml:2: access.keys[0]: found a text that is not shown; use a mapping such as `{alg: ES256, file: token.pem}`",
        ),
        (
            "access: {subscribe: nobody}\n",
            "t.yaml:1: access.subscribe: found `nobody`; use one of everyone, token",
        ),
    ] {
        assert_eq!(refuse(text), expected, "{text}");
    }
    let hidden = "found a text that is not shown; use a";
    for (text, expected) in [
        (
            "access:\n  keys:\n  - {alg: ES256}\n",
            "t.yaml:3: access.keys[0]: `file` is missing; add it".to_owned(),
        ),
        (
            "access:\n  keys:\n  - {alg: ES256, file: a, kind: b}\n",
            "t.yaml:3: access.keys[0].kind: unknown key; did you mean `kid`?".to_owned(),
        ),
        (
            "access:\n  keys:\n  - {alg: ES256, file: a, 3q2-7wAAx5Jq9pQm: b}\n",
            "t.yaml:3: access.keys[0]: found an unknown key, which is not shown; write each key as `key: value`, with a blank \
             behind the colon, or use one of alg, file, kid"
                .to_owned(),
        ),
        (
            "access:\n  keys: {alg: ES256, file: a}\n",
            "t.yaml:2: access.keys: found map; use a list such as `[{alg: ES256, file: token.pem}]`".to_owned(),
        ),
        (
            "access:\n  keys: 3q2-7wAAx5Jq9pQm\n",
            format!("t.yaml:2: access.keys: {hidden} list such as `[{{alg: ES256, file: token.pem}}]`"),
        ),
        (
            "access:\n  keys: [3q2-7wAAx5Jq9pQm]\n",
            format!("t.yaml:2: access.keys[0]: {hidden} mapping such as `{{alg: ES256, file: token.pem}}`"),
        ),
    ] {
        assert_eq!(refuse(text), expected, "{text}");
    }
}

#[test]
fn keys_load_from_a_file_and_from_a_variable_and_are_printed_as_they_load() {
    let text = "access:\n  subscribe: token\n  jwks_file: keys.json\n  keys:\n  - {alg: EdDSA, file: a.pem}\n  - alg: RS256\n    \
                file: b.pem\n    kid: main\n";
    let config = Config::from_yaml(text, "t.yaml").unwrap();
    assert_eq!(config.access.keys.len(), 2);
    assert_eq!(config.access.keys[1].kid.as_deref(), Some("main"));
    let printed = config.to_yaml().unwrap();
    assert_eq!(Config::from_yaml(&printed, "printed").unwrap(), config);
}
