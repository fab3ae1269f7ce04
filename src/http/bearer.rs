//! Bearer tokens (RFC 6750): the tokens that the relay knows, and the credentials of a request.
//!
//! The configuration reads each [`Token`] once, and `access` judges the credentials of each request. No token is ever shown,
//! not by `Debug`, `Display` or an error. The token that a request presents goes to `access` only.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use subtle::{Choice, ConstantTimeEq as _};

use super::percent;
use super::request::RequestHead;

/// The reason why a request's credentials do not do, as `WWW-Authenticate` says it (RFC 6750, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The request has none, or none of a known form. RFC 6750 has no error code for that.
    Missing,
    /// The token is not valid.
    InvalidToken,
    /// The token is valid, and does not allow what is asked for.
    InsufficientScope,
}

impl Challenge {
    /// The value of the field, with the text of the answer.
    pub(crate) fn value(self, text: &str) -> String {
        let error = match self {
            Challenge::Missing => return "Bearer".into(),
            Challenge::InvalidToken => "invalid_token",
            Challenge::InsufficientScope => "insufficient_scope",
        };
        let description = text.trim_end();
        debug_assert!(!description.contains(['"', '\\']), "not allowed in it");
        format!("Bearer error=\"{error}\", error_description=\"{description}\"")
    }
}

/// The allowed length of a token in bytes. 16 random letters and digits are 95 bits, too many to guess over a network.
/// 256 are enough for any random token.
pub(crate) const TOKEN_BYTES: RangeInclusive<usize> = 16..=256;

/// The `Authorization` scheme for a token. Schemes are case-insensitive (RFC 9110, section 11.1).
const SCHEME: &[u8] = b"Bearer";

/// The query parameter for a token. Browsers need it, because a web page cannot set headers on its WebSocket.
const PARAMETER: &str = "token";

/// Printed in place of a token.
const HIDDEN: &str = "(hidden)";

/// A secret that grants permission to publish.
#[derive(Clone)]
pub struct Token(Box<str>);

/// The reason for which a text is not a valid token. It never contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The text is the placeholder that is printed for a token.
    Hidden,
    /// The token has this many bytes, which is outside `TOKEN_BYTES`.
    Length(usize),
    /// The token has a character that RFC 6750 does not allow (section 2.1).
    Character,
}

/// The result of checking a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// The request has no credentials.
    Absent,
    /// The request has exactly one token, and it is known.
    Valid,
    /// Anything else: an unknown token, two tokens, or an `Authorization` without a scheme or without a token.
    Invalid,
}

impl Token {
    /// Accepts `TOKEN_BYTES` bytes: letters, digits and `-._~+/`, then any number of `=`.
    pub fn new(text: &str) -> Result<Token, TokenError> {
        let allowed = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        };
        let digits = text.trim_end_matches('=');
        if text == HIDDEN {
            Err(TokenError::Hidden)
        } else if digits.is_empty() || !digits.bytes().all(allowed) {
            Err(TokenError::Character)
        } else if TOKEN_BYTES.contains(&text.len()) {
            Ok(Token(text.into()))
        } else {
            Err(TokenError::Length(text.len()))
        }
    }

    /// Compares in constant time. Only the length can show in the timing, and it is not secret.
    fn agrees_with(&self, presented: &[u8]) -> Choice {
        self.0.as_bytes().ct_eq(presented)
    }
}

/// In constant time, so that no comparison of tokens can leak one.
impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.agrees_with(other.0.as_bytes()).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Checks the token of a request, from `Authorization: Bearer …` or from `token=…` in the query, percent-decoded.
///
/// A request with two tokens is refused (RFC 6750, section 2), because a proxy and the relay could each look at a
/// different one.
pub(crate) fn judge(head: &RequestHead<'_>, tokens: &[Token]) -> Credentials {
    let mut presented = in_header(head).chain(in_query(head, *TOKEN_BYTES.end()));
    match (presented.next(), presented.next()) {
        (None, _) => Credentials::Absent,
        (Some(Some(token)), None) if is_known(&token, tokens) => Credentials::Valid,
        (Some(_), _) => Credentials::Invalid,
    }
}

/// Compares with every token, even after a match, so that the time does not tell which one matched.
pub(crate) fn is_known(presented: &[u8], tokens: &[Token]) -> bool {
    let agreed = tokens.iter().fold(Choice::from(0), |agreed, token| {
        agreed | token.agrees_with(presented)
    });
    agreed.into()
}

/// The token of each `Authorization` field with the scheme `Bearer`; `None` for one without a token, and for one without a
/// scheme.
///
/// Credentials of another scheme are not for the relay. Often they are a proxy's own, and the proxy passes them on.
pub(crate) fn in_header<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = Option<Cow<'a, [u8]>>> {
    head.values("authorization").filter_map(|value| {
        let mut words = value.splitn(2, |&byte| byte == b' ');
        let scheme = words.next().unwrap_or_default();
        let credentials = words
            .next()
            .map(|rest| Cow::Borrowed(rest.trim_ascii_start()));
        let is_ours = scheme.eq_ignore_ascii_case(SCHEME) || credentials.is_none();
        is_ours.then_some(credentials)
    })
}

/// The value of each `token` parameter in the query; `None` for one that cannot be decoded to at most `max_bytes`.
pub(crate) fn in_query<'a>(
    head: &RequestHead<'a>,
    max_bytes: usize,
) -> impl Iterator<Item = Option<Cow<'a, [u8]>>> {
    let query = head.target_uri().map_or("", |uri| uri.query);
    query.split('&').filter_map(move |parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name == PARAMETER).then(|| percent::decode(value, max_bytes).ok().map(Cow::Owned))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "first-token-0123456789";
    const SECOND: &str = "second.token~with+plus/and==";

    fn tokens() -> [Token; 2] {
        [FIRST, SECOND].map(|text| Token::new(text).expect("a token"))
    }

    /// The verdict on a request to `target` with the header lines `fields`.
    fn verdict(target: &str, fields: &str) -> Credentials {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        judge(&head, &tokens())
    }

    #[test]
    fn a_request_without_a_token_has_no_credentials() {
        for target in ["/", "/?", "/?tokens=x&Token=y&a=token", "/token=x"] {
            assert_eq!(verdict(target, ""), Credentials::Absent, "{target}");
        }
    }

    #[test]
    fn each_token_is_known_in_the_header_and_in_the_query() {
        for token in [FIRST, SECOND] {
            for line in [
                format!("Authorization: Bearer {token}\r\n"),
                format!("authorization: bEARER   {token} \r\n"),
            ] {
                assert_eq!(verdict("/", &line), Credentials::Valid, "{line}");
            }
            let target = format!("/room?a=b&token={token}&c");
            assert_eq!(verdict(&target, ""), Credentials::Valid, "{target}");
        }
        for target in ["http://a/room", "http://a"] {
            let target = format!("{target}?token=first%2Dtoken-0123456789");
            assert_eq!(verdict(&target, ""), Credentials::Valid, "{target}");
        }
    }

    #[test]
    fn a_plus_in_the_query_is_a_plus() {
        let escaped = SECOND.replace('+', "%2B").replace('=', "%3d");
        assert_eq!(
            verdict(&format!("/?token={escaped}"), ""),
            Credentials::Valid
        );
        let spaced = SECOND.replace('+', "%20");
        assert_eq!(
            verdict(&format!("/?token={spaced}"), ""),
            Credentials::Invalid
        );
    }

    #[test]
    fn anything_but_a_known_token_is_invalid() {
        for target in [
            "/?token",
            "/?token=",
            "/?token=first-token-0123456780",
            "/?token=first-token-012345678",
            "/?token=FIRST-token-0123456789",
            "/?token=first-token-0123456789%20",
            "/?token=first-token-0123456789%2",
            "/?token=%zz",
        ] {
            assert_eq!(verdict(target, ""), Credentials::Invalid, "{target}");
        }
        let long = format!("/?token={}", "x".repeat(1000));
        assert_eq!(verdict(&long, ""), Credentials::Invalid);
        for value in [
            "",
            "Bearer",
            "Bearer x",
            "Bearerfirst-token-0123456789",
            "Basic",
            "first-token-0123456789",
            "Bearer first-token-0123456789, Bearer x",
            "Bearer first-token-0123456789 x",
        ] {
            let line = format!("Authorization: {value}\r\n");
            assert_eq!(verdict("/", &line), Credentials::Invalid, "{value}");
        }
    }

    #[test]
    fn credentials_of_another_scheme_are_not_for_the_relay() {
        let basic = "Authorization: Basic dXNlcjpwYXNz\r\n";
        let digest = "Authorization: Digest username=\"a\", realm=\"b\"\r\n";
        for lines in [basic, digest, &format!("{basic}{digest}")] {
            assert_eq!(verdict("/", lines), Credentials::Absent, "{lines}");
            let query = format!("/?token={FIRST}");
            assert_eq!(verdict(&query, lines), Credentials::Valid, "{lines}");
            assert_eq!(verdict("/?token=x", lines), Credentials::Invalid, "{lines}");
            let bearer = format!("{lines}Authorization: Bearer {FIRST}\r\n");
            assert_eq!(verdict("/", &bearer), Credentials::Valid, "{lines}");
        }
    }

    #[test]
    fn two_known_tokens_are_invalid_together() {
        let query = format!("/?token={FIRST}");
        let line = format!("Authorization: Bearer {FIRST}\r\n");
        assert_eq!(verdict(&query, &line), Credentials::Invalid);
        assert_eq!(verdict("/", &line.repeat(2)), Credentials::Invalid);
        assert_eq!(
            verdict(&format!("{query}&token={SECOND}"), ""),
            Credentials::Invalid
        );
    }

    #[test]
    fn an_empty_list_knows_no_token() {
        assert!(!is_known(b"", &[]));
        assert!(!is_known(FIRST.as_bytes(), &[]));
    }

    #[test]
    fn a_token_outside_its_length_or_characters_is_refused() {
        for text in ["x".repeat(16), "y".repeat(256), format!("{SECOND}==")] {
            assert!(Token::new(&text).is_ok(), "{text}");
        }
        for length in [1, 15, 257] {
            let error = Token::new(&"x".repeat(length)).expect_err("refused");
            assert_eq!(error, TokenError::Length(length));
        }
        for text in [
            "",
            "================",
            "=aaaaaaaaaaaaaaaa",
            "aaaaaaaa=aaaaaaaa",
            "aaaaaaaaaaaaaaaa ",
            "aaaaaaaa,aaaaaaaa",
            "ääääääääääääääää",
        ] {
            let error = Token::new(text).expect_err("refused");
            assert_eq!(error, TokenError::Character, "{text}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let shown = format!("{:?} {0:#?} {0}", tokens()[0]);
        assert!(!shown.contains("first"), "{shown}");
        assert_eq!(
            Token::new(&tokens()[0].to_string()),
            Err(TokenError::Hidden)
        );
    }
}
