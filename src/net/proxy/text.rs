//! Version 1 of the PROXY header: one line of text, such as `PROXY TCP4 192.0.2.1 10.0.0.1 12345 443`.
//!
//! `Preface` collects the line and asks here how many bytes to read next and what the line says. The rules are
//! those of the specification, to the letter: single spaces, numbers without leading zeros or signs, and a line that ends
//! in CR LF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The beginning of every header of version 1.
pub(super) const BEGINNING: &[u8] = b"PROXY ";

/// The shortest header: `PROXY UNKNOWN` and its line end.
pub(super) const MIN_BYTES: usize = 15;

/// The longest header, with its line end (section 2.1 of the specification).
pub(super) const MAX_BYTES: usize = 107;

/// The reason for which a line is not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    /// It breaks a rule.
    Broken,
    /// It is longer than [`MAX_BYTES`].
    TooLong,
}

/// The least number of bytes that still belong to a line of which `line` has arrived. It is 0 if the line is complete.
///
/// Nothing tells the length of a line. So the fields that are still missing are counted at their shortest.
pub(super) fn missing(line: &[u8]) -> usize {
    let end = match line {
        [.., b'\r', b'\n'] => return 0,
        [.., b'\r'] => 1,
        _ => 2,
    };
    let shortest: &[usize] = match line.get(BEGINNING.len()..BEGINNING.len() + 5) {
        // Two addresses and two ports.
        Some(b"TCP4 ") => &["0.0.0.0".len(), "0.0.0.0".len(), 1, 1],
        Some(b"TCP6 ") => &["::".len(), "::".len(), 1, 1],
        Some(_) => &[],
        None => return MIN_BYTES - line.len(),
    };
    let fields = line.split(|&byte| byte == b' ').count();
    // The first two fields are the beginning and the protocol.
    let to_come = shortest.iter().skip(fields.saturating_sub(2));
    end + to_come.map(|length| 1 + length).sum::<usize>()
}

/// Checks a part of a line, so that something else than a header is refused before it is complete.
pub(super) fn check(line: &[u8]) -> Result<(), LineError> {
    let text = line.strip_suffix(b"\r\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.iter().any(u8::is_ascii_control) {
        // A line that ends in LF alone would take the request for a part of the header.
        return Err(LineError::Broken);
    }
    let is_cut = missing(line) > 0;
    if line.len() >= MAX_BYTES && is_cut {
        return Err(LineError::TooLong);
    }
    Ok(())
}

/// The client's address in a complete line; `None` if the proxy does not know it.
pub(super) fn named(line: &[u8]) -> Result<Option<IpAddr>, LineError> {
    let line = line.strip_prefix(BEGINNING);
    let line = line.and_then(|line| line.strip_suffix(b"\r\n"));
    let line = line.ok_or(LineError::Broken)?;
    match line.strip_prefix(b"UNKNOWN") {
        // The rest is to be ignored.
        Some(rest) if rest.is_empty() || rest.starts_with(b" ") => Ok(None),
        _ => source(line).map(Some).ok_or(LineError::Broken),
    }
}

/// The first of the two addresses behind the beginning.
fn source(line: &[u8]) -> Option<IpAddr> {
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    let family = fields.next()?;
    let [source, destination] = [fields.next()?, fields.next()?];
    for _ in 0..2 {
        port(fields.next()?)?;
    }
    if fields.next().is_some() {
        return None;
    }
    let source = address(family, source)?;
    address(family, destination)?;
    Some(source)
}

fn address(family: &str, text: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => text.parse().ok().map(|v4: Ipv4Addr| v4.into()),
        "TCP6" => text.parse().ok().map(|v6: Ipv6Addr| v6.into()),
        _ => None,
    }
}

fn port(text: &str) -> Option<u16> {
    let has_sign_or_zero = text.len() > 1 && !text.starts_with(|first| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| !has_sign_or_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\r\n";
    const V6: &str = "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n";

    /// The longest lines of each kind, as the specification has them.
    const LONGEST: [&str; 3] = [
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    ];

    fn longest() -> [String; 3] {
        LONGEST.map(|line| line.replace("f...f", "ffff:".repeat(6).trim_end_matches(':')))
    }

    #[test]
    fn the_longest_lines_fit_and_are_read() {
        let [v4, v6, unknown] = longest();
        assert_eq!([v4.len(), v6.len(), unknown.len()], [56, 104, MAX_BYTES]);
        assert_eq!(named(v4.as_bytes()), Ok(Some([255, 255, 255, 255].into())));
        assert_eq!(named(v6.as_bytes()), Ok(Some([0xffff_u16; 8].into())));
        assert_eq!(named(unknown.as_bytes()), Ok(None));
    }

    #[test]
    fn no_line_is_longer_than_its_missing_bytes_say() {
        let others = [
            V4,
            V6,
            "PROXY UNKNOWN\r\n",
            "PROXY UNKNOWN \r\n",
            "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
            "PROXY TCP6 :: :: 0 0\r\n",
        ];
        let all = others.map(str::to_owned).into_iter().chain(longest());
        for line in all {
            let line = line.as_bytes();
            for end in 1..line.len() {
                let (arrived, left) = (&line[..end], line.len() - end);
                assert!(
                    (1..=left).contains(&missing(arrived)),
                    "{}",
                    arrived.escape_ascii()
                );
                assert_eq!(check(arrived), Ok(()));
            }
            assert_eq!(missing(line), 0);
            assert_eq!(check(line), Ok(()));
        }
    }

    #[test]
    fn the_client_is_the_source_of_either_family() {
        assert_eq!(named(V4.as_bytes()), Ok(Some("192.0.2.1".parse().unwrap())));
        assert_eq!(
            named(V6.as_bytes()),
            Ok(Some("2001:db8::1".parse().unwrap()))
        );
        let mapped = V6.replace("2001:db8::1", "::ffff:192.0.2.1");
        assert_eq!(
            named(mapped.as_bytes()),
            Ok(Some("::ffff:192.0.2.1".parse().unwrap()))
        );
    }

    #[test]
    fn a_proxy_that_does_not_know_its_client_names_nobody() {
        for rest in ["", " ", " TCP4", " 192.0.2.1 10.0.0.1 1 2", " \u{e4}"] {
            let line = format!("PROXY UNKNOWN{rest}\r\n");
            assert_eq!(named(line.as_bytes()), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn a_line_that_departs_from_the_rules_is_refused() {
        for (what, line) in [
            ("a family that is unknown", V4.replace("TCP4", "TCP5")),
            ("UDP", V4.replace("TCP4", "UDP4")),
            ("small letters", V4.replace("TCP4", "tcp4")),
            ("no space behind UNKNOWN", "PROXY UNKNOWNS\r\n".into()),
            ("two spaces", V4.replace(" 443", "  443")),
            ("a space at the end", V4.replace("443", "443 ")),
            ("a field too few", V4.replace(" 443", "")),
            ("a field too many", V4.replace("443", "443 1")),
            ("the other family", V4.replace("TCP4", "TCP6")),
            ("addresses of two families", V4.replace("10.0.0.1", "::1")),
            ("a leading zero", V4.replace("192.0.2.1", "192.0.2.01")),
            ("three numbers", V4.replace("192.0.2.1", "192.0.2")),
            ("a name", V4.replace("192.0.2.1", "localhost")),
            ("a zone", V6.replace("2001:db8::1", "fe80::1%eth0")),
            ("brackets", V6.replace("2001:db8::1", "[2001:db8::1]")),
            ("a port that is too large", V4.replace("443", "65536")),
            ("a port with a sign", V4.replace("443", "+443")),
            ("a port with a leading zero", V4.replace("443", "0443")),
            ("two zeros", V4.replace("443", "00")),
            ("a port that is missing", V4.replace("443", "")),
            ("bytes that are not UTF-8", V4.replace("443", "\u{e4}")),
        ] {
            assert_eq!(named(line.as_bytes()), Err(LineError::Broken), "{what}");
        }
    }

    #[test]
    fn a_control_character_in_the_line_is_refused_when_it_comes() {
        for line in [
            "PROXY UNKNOWN\nGE",
            "PROXY UNKNOWN \0",
            "PROXY UNKNOWN\r ",
            "PROXY TCP4\t192",
        ] {
            assert_eq!(check(line.as_bytes()), Err(LineError::Broken), "{line:?}");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_refused_at_the_limit() {
        let line = format!("PROXY UNKNOWN {:x<120}", "");
        assert_eq!(check(&line.as_bytes()[..MAX_BYTES - 1]), Ok(()));
        assert_eq!(
            check(&line.as_bytes()[..MAX_BYTES]),
            Err(LineError::TooLong)
        );
    }
}
