//! `Accept` (RFC 9110, section 12.5.1): whether a client asks for a media type by name.
//!
//! Wildcards do not count: nearly every client sends `*/*`, and does not mean a certain answer by it.

use super::request::RequestHead;

/// Whether the request names this media type, written in small letters, and does not exclude it.
pub(crate) fn names(head: &RequestHead<'_>, media_type: &str) -> bool {
    let values = head.values("accept");
    let mut ranges = values.flat_map(|value| value.split(|&byte| byte == b','));
    ranges.any(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        name.eq_ignore_ascii_case(media_type.as_bytes()) && !parts.any(is_excluding)
    })
}

/// Whether a parameter is a weight of zero.
fn is_excluding(parameter: &[u8]) -> bool {
    let [b'q' | b'Q', b'=', weight @ ..] = parameter else {
        return false;
    };
    !weight.is_empty() && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(accept: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{accept}\r\n");
        let head = RequestHead::parse(head.as_bytes()).unwrap();
        names(&head, "application/json")
    }

    #[test]
    fn a_type_is_asked_for_by_its_name_only() {
        for accept in [
            "Accept: application/json\r\n",
            "Accept: text/html, Application/JSON;q=0.5\r\n",
            "Accept: text/html\r\nAccept: application/json ; charset=utf-8\r\n",
        ] {
            assert!(asks(accept), "{accept}");
        }
        for accept in [
            "",
            "Accept: */*\r\n",
            "Accept: application/*\r\n",
            "Accept: application/json;q=0\r\n",
            "Accept: application/json; q=0.000\r\n",
            "Accept: application/jsonx\r\n",
        ] {
            assert!(!asks(accept), "{accept}");
        }
    }
}
