//! `Idempotency-Key`: the name under which a request may be repeated, and a digest that tells another body from the same one.
//!
//! The owner of the topic remembers keys, because the repeat may come on any connection, to any shard.

use std::sync::Arc;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::reply::Fault;
use crate::http::request::RequestHead;

/// The longest key.
const MAX_KEY_BYTES: usize = 128;

/// A key that a client has chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(Arc<str>);

impl Key {
    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// There are two, or it is not 1 to 128 visible characters of ASCII.
    pub(super) fn of(head: &RequestHead<'_>) -> Result<Option<Key>, Fault> {
        let mut values = head.values("idempotency-key");
        let (Some(value), second) = (values.next(), values.next()) else {
            return Ok(None);
        };
        let is_key = (1..=MAX_KEY_BYTES).contains(&value.len())
            && value.iter().all(u8::is_ascii_graphic)
            && second.is_none();
        match std::str::from_utf8(value) {
            Ok(text) if is_key => Ok(Some(Key(text.into()))),
            Ok(_) | Err(_) => Err(Fault::KEY),
        }
    }

    /// A key of this text. For tests.
    #[cfg(test)]
    pub(crate) fn new(text: &str) -> Key {
        Key(text.into())
    }

    /// Its length.
    pub(crate) fn len_bytes(&self) -> usize {
        self.0.len()
    }
}

/// A digest that nobody can find a second body for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; SHA256_OUTPUT_LEN]);

impl Digest {
    /// The digest of messages, as frames: these say the kind and the length of each.
    pub(crate) fn of(frames: &[u8]) -> Digest {
        let digest = digest(&SHA256, frames);
        let bytes = digest.as_ref().try_into();
        Digest(bytes.expect("SHA-256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &str) -> Result<Option<usize>, Fault> {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let key = Key::of(&RequestHead::parse(head.as_bytes()).unwrap())?;
        Ok(key.map(|key| key.len_bytes()))
    }

    #[test]
    fn a_key_is_there_once_and_has_visible_characters() {
        let of = |value: &str| key(&format!("Idempotency-Key: {value}\r\n"));
        assert_eq!(key(""), Ok(None));
        assert_eq!(of("\"8e03978e-40d5\""), Ok(Some(15)));
        assert_eq!(of(&"k".repeat(128)), Ok(Some(128)));
        for value in ["", &"k".repeat(129), "a b", "a\tb", "é"] {
            assert_eq!(of(value), Err(Fault::KEY), "{value}");
        }
        let two = "Idempotency-Key: a\r\n".repeat(2);
        assert_eq!(key(&two), Err(Fault::KEY));
    }
}
