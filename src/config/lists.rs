//! Reads and writes lists in YAML.
//!
//! [`super::types`] names these functions in its serde attributes. An entry is read as it is spelled: `null` is a word,
//! and a token of digits stays text. Errors made here never show a token; [`super::explain`] removes it from the
//! parser's own.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serializer};

use crate::http::bearer::{TOKEN_BYTES, Token, TokenError};
use crate::http::origin::{OriginError, OriginPattern};
use crate::secrecy::{Kind, quoted};
use crate::ws::subprotocol::{MAX_NAME_BYTES, Subprotocol, SubprotocolError};

/// An entry of a list.
pub(super) trait Entry: Sized {
    /// The shape of such a list, for errors.
    const LIST: &'static str;

    /// Reads an entry. An error has what was found, and what to use instead.
    fn read(text: &str) -> Result<Self, (String, String)>;
}

impl Entry for OriginPattern {
    const LIST: &'static str = "a list such as `[https://app.example.org]`";

    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|OriginError { problem, remedy }| {
            let text = quoted(text, Kind::Name);
            (format!("{text}, which {problem}"), remedy.into())
        })
    }
}

impl Entry for Token {
    const LIST: &'static str =
        "a list such as `[token, token]`, or with each token on its own line after a dash";

    fn read(text: &str) -> Result<Self, (String, String)> {
        let (least, most) = TOKEN_BYTES.into_inner();
        Token::new(text).map_err(|error| match error {
            TokenError::Hidden => (
                "the placeholder that --print-config prints".into(),
                "the token itself".into(),
            ),
            TokenError::Length(length) => (
                format!("a token of {length} bytes"),
                format!("{least} to {most} bytes"),
            ),
            TokenError::Character => (
                "a token with characters that are not allowed".into(),
                "letters, digits and -._~+/, and = only at the end (RFC 6750)".into(),
            ),
        })
    }
}

impl Entry for Subprotocol {
    const LIST: &'static str = "a list such as `[chat]`";

    fn read(text: &str) -> Result<Self, (String, String)> {
        Subprotocol::new(text).map_err(|error| match error {
            SubprotocolError::NotAToken => (
                format!(
                    "{}, which is not the name of a subprotocol",
                    quoted(text, Kind::Value)
                ),
                "letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)".into(),
            ),
            SubprotocolError::TooLong => (
                format!("a name of {} bytes", text.len()),
                format!("at most {MAX_NAME_BYTES} bytes"),
            ),
            SubprotocolError::Reserved(beginning) => (
                format!("a name that begins with `{beginning}`, which is reserved"),
                "a name that does not begin with `fanwire` or `bearer.`".into(),
            ),
        })
    }
}

/// Writes a list of the entries as they display.
pub(super) fn serialize<S: Serializer, T: fmt::Display>(
    entries: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(ToString::to_string))
}

/// Reads a list.
pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Entry>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(List(PhantomData))
}

/// Reads a single entry, as it is spelled.
pub(super) fn one<'de, D: Deserializer<'de>, T: Entry>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Entry> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::LIST)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(One(entry)) = list.next_element()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Reads a list of mappings.
pub(super) fn mappings<'de, D: Deserializer<'de>, T: Mapping<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(Mappings(PhantomData))
}

/// An entry of a list of mappings.
pub(super) trait Mapping<'de>: Deserialize<'de> {
    /// The shape of such a list, for errors.
    const LIST: &'static str;
}

struct Mappings<T>(PhantomData<T>);

impl<'de, T: Mapping<'de>> Visitor<'de> for Mappings<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::LIST)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// An entry, read from its spelling.
struct One<T>(T);

impl<'de, T: Entry> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData)).map(One)
    }
}

struct Text<T>(PhantomData<T>);

impl<T: Entry> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain text for each entry")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(|(found, remedy)| {
            E::invalid_value(Unexpected::Other(&found), &remedy.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn refuse(text: &str) -> String {
        let refusal = Config::from_yaml(text, "test.yaml").unwrap_err();
        refusal.to_string()
    }

    fn refuse_tokens(tokens: &str) -> String {
        refuse(&format!(
            "relay:\n  publish: token\n  publish_tokens: {tokens}\n"
        ))
    }

    #[test]
    fn an_entry_is_taken_as_it_is_spelled() {
        let config = Config::from_yaml(
            "server: {allowed_origins: [null, a.example, '*.b.example']}\n\
             relay:\n  publish: token\n  publish_tokens:\n  - 1234567890123456\n  - 0x12345678901234567890\n  - 1e1000000000000000\n",
            "test.yaml",
        )
        .unwrap();
        let origins: Vec<String> = config
            .server
            .allowed_origins
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(origins, ["null", "a.example", "*.b.example"]);
        let tokens = [
            "1234567890123456",
            "0x12345678901234567890",
            "1e1000000000000000",
        ];
        let tokens = tokens.map(|text| super::Token::new(text).unwrap());
        assert_eq!(config.relay.publish_tokens, tokens);
    }

    #[test]
    fn an_origin_that_could_never_match_is_refused_with_its_line_and_remedy() {
        assert_eq!(
            refuse("server:\n  allowed_origins:\n  - a.example\n  - https://a.example/\n"),
            "test.yaml:4: server.allowed_origins[1]: found `https://a.example/`, which has more than a scheme, host \
             and port; use an origin without a path"
        );
        assert_eq!(
            refuse("server: {allowed_origins: ['*']}"),
            "test.yaml:1: server.allowed_origins[0]: found `*`, which matches no origin; \
             use an empty list to allow every origin"
        );
    }

    #[test]
    fn a_subprotocol_that_cannot_be_selected_is_refused_with_a_remedy() {
        assert_eq!(
            refuse("server:\n  subprotocols: [chat, a b]\n"),
            "test.yaml:2: server.subprotocols[1]: found `a b`, which is not the name of a subprotocol; \
             use letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)"
        );
        assert_eq!(
            refuse("server: {subprotocols: [fanwire.v1]}"),
            "test.yaml:1: server.subprotocols[0]: found a name that begins with `fanwire`, which is reserved; \
             use a name that does not begin with `fanwire` or `bearer.`"
        );
        assert_eq!(
            refuse("server: {subprotocols: [chat, bearer.3q2-7wAAx5Jq9pQm]}"),
            "test.yaml:1: server.subprotocols[1]: found a name that begins with `bearer.`, which is reserved; \
             use a name that does not begin with `fanwire` or `bearer.`"
        );
        assert_eq!(
            refuse("server: {subprotocols: [Bearer 3q2-7wAAx5Jq9pQm]}"),
            "test.yaml:1: server.subprotocols[0]: found a text that is not shown, which is not the name of a subprotocol; \
             use letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)"
        );
        let long = "x".repeat(129);
        assert_eq!(
            refuse(&format!("server: {{subprotocols: [{long}]}}")),
            "test.yaml:1: server.subprotocols[0]: found a name of 129 bytes; use at most 128 bytes"
        );
    }

    #[test]
    fn a_token_in_another_list_is_not_shown() {
        for list in [
            "allowed_origins: [3q2-7wAAx5Jq9pQm==]",
            "trusted_proxies: [3q2-7wAAx5Jq9pQm]",
            "host: 3q2-7wAAx5Jq9pQm==",
            "health_path: 3q2-7wAAx5Jq9pQm",
        ] {
            let refusal = refuse(&format!("server: {{{list}}}"));
            assert!(
                !refusal.contains("3q2-") && refusal.contains("a text that is not shown"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_value_instead_of_a_list_is_refused() {
        assert_eq!(
            refuse("server: {allowed_origins: a.example}"),
            "test.yaml:1: server.allowed_origins: found string \"a.example\"; use a list such as `[https://app.example.org]`"
        );
        assert!(refuse("server: {allowed_origins: }").contains("found no value; use a list"));
        assert!(refuse("server: {allowed_origins: {a: b}}").contains("found map; use a list"));
    }

    #[test]
    fn a_bad_token_is_named_by_its_place_and_never_quoted() {
        assert_eq!(
            refuse_tokens("[aaaaaaaaaaaaaaaa, secret]"),
            "test.yaml:3: relay.publish_tokens[1]: found a token of 6 bytes; use 16 to 256 bytes"
        );
        assert_eq!(
            refuse_tokens("['secret secret secret']"),
            "test.yaml:3: relay.publish_tokens[0]: found a token with characters that are not allowed; \
             use letters, digits and -._~+/, and = only at the end (RFC 6750)"
        );
        assert!(refuse_tokens("['(hidden)']").ends_with(
            "[0]: found the placeholder that --print-config prints; use the token itself"
        ));
    }

    #[test]
    fn no_mistake_in_front_of_a_token_shows_it() {
        const TOKEN: &str = "3q2-7wAAx5Jq9pQm";
        let hidden = "found a text that is not shown; use a mapping";
        let unknown = "found an unknown key, which is not shown; write each key as `key: value`";
        let blank = "write each key as `key: value`, with a blank behind the colon";
        for (text, place, words, advice) in [
            (
                format!("relay:\n  publish_tokens:{TOKEN}\n"),
                ":2: relay: ",
                hidden,
                blank,
            ),
            (
                format!("relay:\n  publish_tokens={TOKEN}\n"),
                ":2: relay: ",
                hidden,
                blank,
            ),
            (
                format!("relay: {TOKEN}\n"),
                ":1: relay: ",
                hidden,
                "such as",
            ),
            (
                "relay: 1234567890123456\n".to_owned(),
                ":1: relay: ",
                "found integer; use a mapping",
                "",
            ),
            (format!("publish_tokens={TOKEN}\n"), ":1: ", hidden, blank),
            (format!("{TOKEN}\n"), ":1: ", hidden, "such as"),
            (
                format!("server:\n  tls: {TOKEN}\n"),
                ":2: server.tls: ",
                hidden,
                "",
            ),
            (
                format!("relay: {{publish: token, {TOKEN}}}"),
                ":1: relay: ",
                unknown,
                blank,
            ),
            (
                format!("relay: {{publish_tokens:[{TOKEN}]: x}}"),
                ":1: not valid YAML: ",
                "",
                "",
            ),
            (format!("{TOKEN}: x"), ":1: ", unknown, blank),
            (
                format!("relay:\n  \u{a0}{TOKEN}: x"),
                ":2: relay: a blank that",
                "",
                "",
            ),
            (
                format!("relay: {{publish: {TOKEN}}}"),
                ":1: relay.publish: ",
                "found a text that is not shown; use one",
                "",
            ),
            (
                format!("log: {{level: {TOKEN}}}"),
                ":1: log.level: ",
                "found a text that is not shown; use one",
                "",
            ),
            (
                "server: {port: 1234567890123456}".to_owned(),
                ":1: server.port: ",
                "found integer; use a port",
                "",
            ),
        ] {
            let refusal = refuse(&text);
            let shows = [TOKEN, "1234567890123456"]
                .iter()
                .any(|token| refusal.contains(token));
            assert!(
                !shows && refusal.starts_with(&format!("test.yaml{place}{words}")),
                "{text}: {refusal}"
            );
            assert!(refusal.contains(advice), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_tag_is_named_in_front_of_a_token_too() {
        assert_eq!(
            refuse_tokens("!secret-4711-secret-4711 x"),
            "test.yaml:3: relay.publish_tokens: found a tag: the value begins with `!`; use quotes around the value"
        );
    }

    #[test]
    fn no_mistake_near_a_token_shows_it() {
        for tokens in [
            "secret-4711-secret-4711",
            "'secret-4711-secret-4711'",
            "[[secret-4711-secret-4711]]",
            "[{secret-4711-secret-4711: 1}]",
            "[{a: secret-4711-secret-4711}]",
            "{a: secret-4711-secret-4711}",
            "{secret-4711-secret-4711: }",
            "!secret-4711-secret-4711 x",
            "[!secret-4711-secret-4711 x]",
            "!!int secret-4711-secret-4711",
            "!!binary secret-4711-secret-4711",
            "[*secret-4711-secret-4711]",
            "[&secret-4711-secret-4711 x]",
            "[secret-4711-secret-4711",
            "[secret-4711-secret-4711\n  publish: x",
            "[\"secret-4711-secret-4711]",
            "[secret-4711-secret-4711]: x",
            "secret-4711-secret-4711: x",
            "[@secret-4711-secret-4711]",
            "[%secret-4711-secret-4711]",
            "[\"secret-4711-secret-4711\\q\"]",
            "4711",
            "471147114711471147114711",
            "-471147114711471147114711",
            "-4711",
            "4711.5",
            "!!int 4711",
            "!!float secret-4711-secret-4711",
            "!!bool secret-4711-secret-4711",
            "!!null secret-4711-secret-4711",
            "!!seq secret-4711-secret-4711",
            "!!map secret-4711-secret-4711",
            "[4711]",
            "[-4711]",
            "[4711471147114711, 4711.5]",
        ] {
            let refusal = refuse_tokens(tokens);
            assert!(
                !refusal.contains("4711") && !refusal.contains("secret"),
                "for {tokens}: {refusal}"
            );
        }
    }
}
