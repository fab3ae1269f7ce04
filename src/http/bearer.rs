//! Bearer tokens (RFC 6750): what a server knows, what a request presents, and whether the two agree.
//!
//! The configuration reads each [`Token`] once, and the relay asks [`judge`] at an upgrade. A token is never shown:
//! neither by `Debug` and `Display` nor by an error, and what a request presents does not leave this file.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use subtle::{Choice, ConstantTimeEq as _};

use super::percent;
use super::request::RequestHead;

/// How long a token may be, in bytes. 16 random letters and digits are 95 bits, which nobody guesses over a network; 256
/// have room for any token that is random, and none for a document.
pub const TOKEN_BYTES: RangeInclusive<usize> = 16..=256;

/// The scheme of `Authorization` that carries a token; schemes are compared in any case (RFC 9110, section 11.1).
const SCHEME: &[u8] = b"Bearer";

/// The parameter of the query that carries a token, for browsers, whose WebSocket sends no header of a page's choice.
const PARAMETER: &str = "token";

/// What stands in a token's place wherever it would be shown.
const HIDDEN: &str = "(hidden)";

/// A secret that proves a permission.
#[derive(Clone)]
pub struct Token(Box<str>);

/// Why a text is no token. Says nothing of what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is what a token is shown as.
    Hidden,
    /// It has this many bytes, not [`TOKEN_BYTES`].
    Length(usize),
    /// It has a character that RFC 6750 does not allow in a token (section 2.1).
    Character,
}

/// What a request's credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// None are presented.
    Absent,
    /// One token is presented, and it is one of those known.
    Valid,
    /// Anything else: an unknown token, several, or an `Authorization` that is no bearer token.
    Invalid,
}

impl Token {
    /// Takes a token of [`TOKEN_BYTES`]: letters, digits and `-._~+/`, with any number of `=` at its end.
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

    /// Takes as long for any `presented` of the token's length. Of another length it takes less: a length is no secret.
    fn agrees_with(&self, presented: &[u8]) -> Choice {
        self.0.as_bytes().ct_eq(presented)
    }
}

/// In constant time like every comparison of tokens, so that none can be the wrong one.
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

/// Judges the credentials of a request: a token in `Authorization: Bearer …`, or in the query as `token=…`,
/// percent-decoded.
///
/// Whoever presents two is refused, whatever they are (RFC 6750, section 2): of two, a proxy and the relay might each
/// look at another.
pub fn judge(head: &RequestHead<'_>, tokens: &[Token]) -> Credentials {
    let mut presented = in_header(head).chain(in_query(head));
    match (presented.next(), presented.next()) {
        (None, _) => Credentials::Absent,
        (Some(Some(token)), None) if is_known(&token, tokens) => Credentials::Valid,
        (Some(_), _) => Credentials::Invalid,
    }
}

/// Compares with every token, whichever agrees, so that the time taken does not tell one from another.
fn is_known(presented: &[u8], tokens: &[Token]) -> bool {
    let agreed = tokens.iter().fold(Choice::from(0), |agreed, token| {
        agreed | token.agrees_with(presented)
    });
    agreed.into()
}

/// The token of each `Authorization` field; `None` for a field that has none.
fn in_header<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = Option<Cow<'a, [u8]>>> {
    head.values("authorization").map(|value| {
        let (scheme, token) = value.split_at_checked(SCHEME.len())?;
        let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && token.starts_with(b" ");
        is_bearer.then(|| Cow::Borrowed(token.trim_ascii_start()))
    })
}

/// The token of each such parameter of the query; `None` for one that cannot be decoded.
fn in_query<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = Option<Cow<'a, [u8]>>> {
    let query = head
        .path_and_query()
        .and_then(|target| target.split_once('?'))
        .map_or("", |(_path, query)| query);
    query.split('&').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name == PARAMETER).then(|| {
            percent::decode(value, *TOKEN_BYTES.end())
                .ok()
                .map(Cow::Owned)
        })
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

    /// The verdict on a request to `target` with `fields`, each ended as lines are.
    fn verdict(target: &str, fields: &str) -> Credentials {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        judge(&head, &tokens())
    }

    #[test]
    fn a_request_without_credentials_has_none() {
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
        assert_eq!(
            verdict("http://a/room?token=first%2Dtoken-0123456789", ""),
            Credentials::Valid
        );
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
    fn what_is_presented_and_is_not_a_known_token_is_invalid() {
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
            "Basic dXNlcjpwYXNz",
            "first-token-0123456789",
            "Bearer first-token-0123456789, Bearer x",
            "Bearer first-token-0123456789 x",
        ] {
            let line = format!("Authorization: {value}\r\n");
            assert_eq!(verdict("/", &line), Credentials::Invalid, "{value}");
        }
    }

    #[test]
    fn two_are_invalid_although_both_are_known() {
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
    fn no_token_is_known_where_none_is_listed() {
        assert!(!is_known(b"", &[]));
        assert!(!is_known(FIRST.as_bytes(), &[]));
    }

    #[test]
    fn a_token_has_its_length_and_its_characters() {
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
