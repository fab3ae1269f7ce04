//! The place that a request asks its stream to begin at: `Last-Event-ID`, `?since=`, `?last_event_id=` and `?last=`.
//!
//! A second reader, written here from the documentation, finds the same place. A position that is read is written again as it
//! was sent.
//!
//! The input is a query, a zero, and further lines of the head.

use std::time::Duration;

use fanwire::internals::http::RequestHead;
use fanwire::internals::port::{BadLast, Position, Start, start};

use super::head::{self, Reading};

/// The longest value that the relay reads, in bytes. Positions are shorter.
const MAX_VALUE_BYTES: usize = 64;

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0);
    let (query, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let fields = rest.get(1..).unwrap_or_default();
    let line_end = if fields.is_empty() { "" } else { "\r\n" };
    let head = [
        b"GET /?",
        query,
        b" HTTP/1.1\r\nHost: a\r\n",
        fields,
        line_end.as_bytes(),
        b"\r\n",
    ]
    .concat();
    // The relay's scanner refuses what is no head before it is read. The target `upgrade` sees to that.
    let (Ok(parsed), Reading::Head(second)) = (RequestHead::parse(&head), head::read(&head)) else {
        return;
    };
    let Some(target) = parsed.target_uri() else {
        return;
    };
    let query = second.target.strip_prefix("/?").expect("it begins so");
    assert_eq!(target.query, query);
    let field = second.values("last-event-id").first().copied();
    let read = start(&parsed, target.query);
    assert_eq!(read, expected(query, field));
    if let Ok(Start::At(position)) = read {
        let written = position.to_string();
        let sent = field.map(<[u8]>::to_vec);
        let sent = sent.or_else(|| position_in(query));
        assert_eq!(Some(written.into_bytes()), sent);
    }
}

/// The second reader.
fn expected(query: &str, field: Option<&[u8]>) -> Result<Start, BadLast> {
    let asked = field.map(<[u8]>::to_vec).or_else(|| position_in(query));
    if let Some(text) = asked {
        return Ok(position(&text).map_or(Start::Unknown, Start::At));
    }
    match value(query, "last") {
        Some(text) => last(&text).ok_or(BadLast),
        None => Ok(Start::Now),
    }
}

/// The position that the query has, decoded.
fn position_in(query: &str) -> Option<Vec<u8>> {
    value(query, "since").or_else(|| value(query, "last_event_id"))
}

/// The first parameter of this name, decoded; empty if it cannot be decoded, or is too long.
fn value(query: &str, name: &str) -> Option<Vec<u8>> {
    let text = query
        .split('&')
        .find_map(|pair| match pair.split_once('=') {
            Some((key, text)) => (key == name).then_some(text),
            None => (pair == name).then_some(""),
        })?;
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).and_then(|digits| {
            let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(digits, 16).expect("two digits"))
        });
        let Some(byte) = digits else {
            return Some(Vec::new());
        };
        bytes.push(byte);
        bytes.extend(&piece.as_bytes()[2..]);
    }
    Some(if bytes.len() > MAX_VALUE_BYTES {
        Vec::new()
    } else {
        bytes
    })
}

/// `E-N`: 1 to 32 letters or digits, and a number below 2^53 as a program writes it.
fn position(text: &[u8]) -> Option<Position> {
    let dash = text.iter().position(|&byte| byte == b'-')?;
    let (epoch, number) = (&text[..dash], &text[dash + 1..]);
    let is_epoch = (1..=32).contains(&epoch.len()) && epoch.iter().all(u8::is_ascii_alphanumeric);
    let number: u64 = str::from_utf8(number).ok()?.parse().ok()?;
    let written = [epoch, b"-", number.to_string().as_bytes()].concat();
    let is_canonical = written == text;
    let text = str::from_utf8(text).ok()?;
    (is_epoch && is_canonical && number < 1 << 53).then(|| text.parse().expect("a position"))
}

/// A number of messages, or a time with its unit.
fn last(text: &[u8]) -> Option<Start> {
    let text = str::from_utf8(text).ok()?;
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().ok()?;
    let factor = match unit {
        "" => return Some(Start::LastMessages(number)),
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 3_600 * 1_000,
        _ => return None,
    };
    let millis = u128::from(number) * factor;
    let millis = u64::try_from(millis).ok()?;
    Some(Start::LastTime(Duration::from_millis(millis)))
}
