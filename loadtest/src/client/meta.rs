//! Messages of nchan's subprotocol `ws+meta.nchan`: a few lines with the message's id and kind, an empty line, and the
//! message.

/// The longest lines before a message.
const MAX_LINES: usize = 1 << 10;

/// The id and the message itself; `None` if there are no such lines.
pub(crate) fn split(payload: &[u8]) -> Option<(&str, &[u8])> {
    let beginning = &payload[..payload.len().min(MAX_LINES)];
    let end = beginning.windows(2).position(|two| two == b"\n\n")?;
    let lines = std::str::from_utf8(&payload[..end]).ok()?;
    let id = lines.lines().find_map(|line| line.strip_prefix("id: "))?;
    Some((id, &payload[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_and_the_message_are_told_apart() {
        let payload = b"id: 1796080119:1\ncontent-type: application/octet-stream\n\nhello\n\n";
        let expected = Some(("1796080119:1", &b"hello\n\n"[..]));
        assert_eq!(split(payload), expected);
        assert_eq!(split(b"id: 7:0\n\n"), Some(("7:0", &b""[..])));
        for bad in [&b"hello"[..], b"", b"id: 1\nhello", b"content-type: a\n\nx"] {
            assert_eq!(split(bad), None);
        }
    }
}
