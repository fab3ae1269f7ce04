//! Tokens, patterns and the words of proxies. A second reader, written here from RFC 7515 and 7519, finds the same grants.
//!
//! The first byte of the input says what the rest is: a pattern and a name, a whole token, or a part of one that is signed here.

use std::time::Duration;

use fanwire::config::TokenAlgorithm;
use fanwire::internals::WallTime;
use fanwire::internals::access::{Grants, Keys, Rules, TokenError, verify};
use fanwire::internals::pattern::Pattern;
use ring::hmac;
use serde_json::Value;

use super::input::Input;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

/// The names with which grants are tried.
const NAMES: [&str; 8] = ["/", "/a", "/a/", "/a/b", "//", "/*", "/a/../b", "/é"];

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(7);
    let rest = input.rest();
    match kind {
        0 | 1 => pattern(rest, kind == 1),
        2 => whole_token(rest),
        3 => signed(br#"{"alg":"HS256"}"#, rest),
        4 => {
            let end = rest.iter().position(|&byte| byte == 0);
            let (header, payload) = rest.split_at(end.unwrap_or(rest.len()));
            signed(header, payload.get(1..).unwrap_or_default());
        }
        5 => proxy(rest),
        _ => {
            // The bytes are keys, or the error is one short line.
            let mut keys = keys();
            if let Err(error) = keys.add_set(rest) {
                assert!(!error.problem.contains('\n') && error.problem.len() < 200);
            }
        }
    }
}

fn keys() -> Keys {
    let mut keys = Keys::new();
    let added = keys.add_file(TokenAlgorithm::HS256, None, SECRET);
    added.expect("a good secret");
    keys
}

fn now() -> WallTime {
    WallTime(Duration::from_secs(NOW))
}

/// A pattern and a name, with a zero between them.
fn pattern(bytes: &[u8], is_encoded: bool) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (text, name) = text.split_once('\0').unwrap_or((text, "/"));
    let read = if is_encoded {
        Pattern::from_encoded(text)
    } else {
        Pattern::new(text)
    };
    let expected = segments(text, is_encoded);
    assert_eq!(read.is_ok(), expected.is_some(), "{text:?}");
    let (Ok(pattern), Some(segments)) = (read, expected) else {
        return;
    };
    assert_eq!(
        pattern.matches(name),
        agrees(&segments, name),
        "{text:?} {name:?}"
    );
    // A pattern without an asterisk has exactly its own name.
    if !text.contains(['*', '%']) {
        assert_eq!(pattern.matches(name), text == name);
    }
}

/// A segment of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Segment {
    Text(String),
    Any,
    Rest,
}

/// The segments of a pattern; `None` if it is none.
fn segments(text: &str, is_encoded: bool) -> Option<Vec<Segment>> {
    let parts: Vec<&str> = text.strip_prefix('/')?.split('/').collect();
    let mut segments = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        match *part {
            "*" => segments.push(Segment::Any),
            "**" if at + 1 == parts.len() => segments.push(Segment::Rest),
            part if part.contains('*') => return None,
            part if is_encoded => {
                let decoded = String::from_utf8(unescaped(part)?).ok()?;
                segments.extend(decoded.split('/').map(|text| Segment::Text(text.into())));
            }
            part => segments.push(Segment::Text(part.into())),
        }
    }
    Some(segments)
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.as_bytes().get(..2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        bytes.extend(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}

fn agrees(segments: &[Segment], name: &str) -> bool {
    let Some(path) = name.strip_prefix('/') else {
        return false;
    };
    let parts: Vec<&str> = path.split('/').collect();
    let fixed: Vec<&Segment> = segments
        .iter()
        .filter(|segment| **segment != Segment::Rest)
        .collect();
    let has_rest = fixed.len() < segments.len();
    let fits = parts.len() == fixed.len() || has_rest && parts.len() > fixed.len();
    fits && fixed
        .iter()
        .zip(&parts)
        .all(|(segment, part)| match segment {
            Segment::Text(text) => text == part,
            Segment::Any | Segment::Rest => true,
        })
}

/// Any bytes in place of a token. Nobody can sign one without the secret.
fn whole_token(token: &[u8]) {
    if verify(token, &keys(), &Rules::default(), now()).is_err() {
        return;
    }
    let text = str::from_utf8(token).expect("a token is text");
    let (message, signature) = text.rsplit_once('.').expect("a token has three parts");
    let (_, payload) = message.split_once('.').expect("a token has three parts");
    assert_eq!(signature, sign(message), "somebody else has signed it");
    let payload = decoded(payload).expect("its payload is Base64");
    assert!(expected(&payload).is_some(), "its claims do not count");
}

/// A header and a payload that are signed here.
fn signed(header: &[u8], payload: &[u8]) {
    let message = format!("{}.{}", base64(header), base64(payload));
    let token = format!("{message}.{}", sign(&message));
    let judged = verify(token.as_bytes(), &keys(), &Rules::default(), now());
    let is_usual = header == br#"{"alg":"HS256"}"#;
    match (&judged, expected(payload)) {
        (Ok(grants), Some(expected)) => {
            for name in NAMES {
                assert_eq!(grants.may_publish(name), has(&expected.0, name), "{name}");
                assert_eq!(grants.may_subscribe(name), has(&expected.1, name), "{name}");
            }
        }
        (Ok(_), None) => panic!("claims that do not count are accepted"),
        // Claims that are there twice are refused, and the second reader takes the last.
        (Err(error), Some(_)) => {
            let is_twice = is_usual && *error == TokenError::Claims;
            assert!(is_twice || !is_usual, "{error:?}");
        }
        (Err(_), None) => {}
    }
}

type Patterns = Vec<Vec<Segment>>;

fn has(patterns: &Patterns, name: &str) -> bool {
    patterns.iter().any(|segments| agrees(segments, name))
}

/// The grants in a payload, as a second reader finds them: to publish, and to subscribe.
fn expected(payload: &[u8]) -> Option<(Patterns, Patterns)> {
    let claims: Value = serde_json::from_slice(payload).ok()?;
    let claims = claims.as_object()?;
    let number = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => Some(Some(value.as_f64()?.floor())),
    };
    let now = NOW as f64;
    if number("exp")?? + 30.0 <= now || number("nbf")?.unwrap_or_default() > now + 30.0 {
        return None;
    }
    if !claims.get("aud").is_none_or(Value::is_null) {
        return None;
    }
    if !claims
        .get("sub")
        .is_none_or(|sub| sub.is_null() || sub.is_string() || sub.is_number())
    {
        return None;
    }
    let patterns = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(list) => {
            let texts = list.as_array()?.iter();
            texts.map(|text| segments(text.as_str()?, false)).collect()
        }
    };
    Some((patterns("publish")?, patterns("subscribe")?))
}

/// The field of a proxy.
fn proxy(value: &[u8]) {
    let Ok(grants) = Grants::from_proxy(value, now()) else {
        return;
    };
    assert!(grants.expires_at + 30 > NOW || grants.expires_at > NOW);
    let text = str::from_utf8(value).expect("grants are text");
    let part = |name: &str| {
        let mut parts = text
            .split(';')
            .filter_map(|part| part.trim().split_once('='));
        parts
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    assert_eq!(
        part("exp").and_then(|exp| exp.parse().ok()),
        Some(grants.expires_at)
    );
    for (name, patterns) in [
        ("publish", &grants.publish),
        ("subscribe", &grants.subscribe),
    ] {
        let words = part(name).unwrap_or_default().split_ascii_whitespace();
        assert_eq!(words.clone().count(), patterns.len(), "{name}");
        for (word, pattern) in words.zip(patterns) {
            let segments = segments(word, true).expect("it was read as a pattern");
            for name in NAMES {
                assert_eq!(
                    pattern.matches(name),
                    agrees(&segments, name),
                    "{word} {name}"
                );
            }
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..=chunk.len() {
            text.push(char::from(DIGITS[(number >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut number, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|&digit| digit == byte)?;
        number = number << 6 | digit as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits) as u8);
        }
    }
    Some(bytes)
}

fn sign(message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    base64(hmac::sign(&key, message.as_bytes()).as_ref())
}
