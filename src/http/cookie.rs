//! The cookies of a request (RFC 6265, section 4.2).
//!
//! `access` calls [`values`] for the cookie that carries a token. Nothing is decoded, and no value is ever shown.

use super::request::RequestHead;

/// The values of all cookies with this name, in the order of the request. A browser may send several, from several paths.
pub(crate) fn values<'a>(head: &RequestHead<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = head.values("cookie");
    let pairs = pairs.flat_map(|field| field.split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        (key == name.as_bytes()).then(|| without_quotes(value))
    })
}

fn without_quotes(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    inner
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &str) -> Vec<String> {
        let request = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        let values = values(&head, "t");
        values
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_wherever_it_stands() {
        assert_eq!(found(""), [""; 0]);
        assert_eq!(found("Cookie: a=1; t=x.y-z_; b=2\r\n"), ["x.y-z_"]);
        assert_eq!(
            found("Cookie: t=\"x\";t = y\r\ncookie: t=z=\r\n"),
            ["x", "y", "z="]
        );
        assert_eq!(found("Cookie: T=1; tt=2; at=3; t; =t\r\n"), [""; 0]);
        assert_eq!(found("Cookie: t=; t=\"\r\n"), ["", "\""]);
    }
}
