//! The place that a request asks its stream to begin at.
//!
//! `Last-Event-ID` wins over `?since=` and `?last_event_id=`: an `EventSource` repeats its URL and adds a newer field. Each of
//! them wins over `?last=`.

use std::borrow::Cow;
use std::time::Duration;

use super::position::Start;
use crate::http::percent;
use crate::http::request::RequestHead;

/// The field in which an `EventSource` says where it was.
const FIELD: &str = "last-event-id";

/// The names of the query's parameter for a position.
const PARAMETERS: [&str; 2] = ["since", "last_event_id"];

/// The longest value that is read. Positions are shorter.
const MAX_VALUE_BYTES: usize = 64;

/// The value of `?last=` is neither a number nor a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLast;

/// The place that the request with this query asks for.
///
/// # Errors
///
/// `?last=` cannot be read. A position that cannot be read is [`Start::Unknown`], and not an error.
pub fn start(head: &RequestHead<'_>, query: &str) -> Result<Start, BadLast> {
    let field = head.values(FIELD).next();
    let asked = field.map(String::from_utf8_lossy).or_else(|| {
        let values = PARAMETERS.map(|name| parameter(query, name));
        values.into_iter().flatten().next()
    });
    if let Some(position) = asked {
        return Ok(position.parse().map_or(Start::Unknown, Start::At));
    }
    match parameter(query, "last") {
        Some(last) => parse_last(&last).ok_or(BadLast),
        None => Ok(Start::Now),
    }
}

/// The first parameter of that name, decoded.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    });
    let value = values.next()?;
    let decoded = percent::decode(value, MAX_VALUE_BYTES).unwrap_or_default();
    Some(Cow::Owned(String::from_utf8_lossy(&decoded).into_owned()))
}

/// `50` is messages; `30s`, `500ms`, `5m` and `1h` are times.
fn parse_last(text: &str) -> Option<Start> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "" => return Some(Start::LastMessages(number)),
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let span = Duration::from_millis(number.checked_mul(millis)?);
    Some(Start::LastTime(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str, fields: &str) -> Result<Start, BadLast> {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        start(&RequestHead::parse(request.as_bytes()).unwrap(), query)
    }

    fn at(position: &str) -> Start {
        Start::At(position.parse().unwrap())
    }

    #[test]
    fn the_field_wins_over_the_query_and_a_position_over_last() {
        let field = "Last-Event-ID: e-3\r\n";
        assert_eq!(ask("", ""), Ok(Start::Now));
        assert_eq!(ask("since=e-1", ""), Ok(at("e-1")));
        assert_eq!(ask("a=b&last_event_id=e%2D2&last=5", ""), Ok(at("e-2")));
        assert_eq!(ask("since=e-1&last=5", field), Ok(at("e-3")));
        assert_eq!(ask("last=5", ""), Ok(Start::LastMessages(5)));
    }

    #[test]
    fn a_position_that_cannot_be_read_is_unknown() {
        for query in [
            "since=",
            "since",
            "since=x",
            "since=%ff",
            "since=%",
            "last_event_id=1",
        ] {
            assert_eq!(ask(query, ""), Ok(Start::Unknown), "{query}");
        }
        assert_eq!(ask("since=e-1", "Last-Event-ID: \r\n"), Ok(Start::Unknown));
        assert_eq!(
            ask(&format!("since={}", "a".repeat(99)), ""),
            Ok(Start::Unknown)
        );
    }

    #[test]
    fn last_is_messages_or_a_time() {
        let time = |millis| Ok(Start::LastTime(Duration::from_millis(millis)));
        assert_eq!(ask("last=0", ""), Ok(Start::LastMessages(0)));
        assert_eq!(ask("last=500ms", ""), time(500));
        assert_eq!(ask("last=30s", ""), time(30_000));
        assert_eq!(ask("last=2m", ""), time(120_000));
        assert_eq!(ask("last=1h", ""), time(3_600_000));
        for last in [
            "",
            "x",
            "-1",
            "1d",
            "s",
            "1.5s",
            "99999999999999999999",
            "9999999999999999h",
        ] {
            assert_eq!(ask(&format!("last={last}"), ""), Err(BadLast), "{last}");
        }
    }
}
