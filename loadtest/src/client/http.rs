//! The head of an HTTP response, as a client reads it: the status, and the fields that are asked for.

/// The longest head.
pub(crate) const MAX_HEAD: usize = 16 << 10;

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// A head that is there whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the head, its empty line included.
    pub(crate) bytes: usize,
    /// Names in small letters, and values.
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads the head at the beginning of `input`; `Ok(None)` if a part of it is missing.
    pub(crate) fn parse(input: &[u8]) -> Result<Option<Head>, &'static str> {
        let found = input.windows(END.len()).position(|four| four == END);
        let Some(end) = found else {
            return if input.len() > MAX_HEAD {
                Err("a head that does not end")
            } else {
                Ok(None)
            };
        };
        let text = std::str::from_utf8(&input[..end]).map_err(|_| "a head that is not text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(status).ok_or("no HTTP/1.1 status")?;
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        let fields = fields
            .collect::<Option<_>>()
            .ok_or("a field without a colon")?;
        Ok(Some(Head {
            status,
            bytes: end + END.len(),
            fields,
        }))
    }

    /// The value of a field, by its name in small letters.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let (_, status) = rest.split_once(' ')?;
    status.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let response = b"HTTP/1.1 202 Accepted\r\nFanwire-Position:  a-7\r\nX:\r\n\r\nbody";
        let end = response.len() - 4;
        for short in 0..end {
            assert_eq!(Head::parse(&response[..short]), Ok(None));
        }
        let head = Head::parse(response).unwrap().unwrap();
        assert_eq!((head.status, head.bytes), (202, end));
        assert_eq!(head.field("fanwire-position"), Some("a-7"));
        assert_eq!((head.field("x"), head.field("y")), (Some(""), None));
        for bad in [
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na\r\n\r\n",
        ] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Head::parse(&vec![b'a'; MAX_HEAD + 1]).is_err());
    }
}
