//! Places in a topic's stream, as clients name them.
//!
//! A position is `E-N`: in epoch `E`, `N` messages of the topic lie before this point. The server says once where a stream
//! begins, and every message after that adds one. So no message carries its number.
//!
//! A client that comes back asks for a [`Start`]. A position that cannot be read is an unknown place and not an error: an
//! `EventSource` gives up for good on any status but 200.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use arrayvec::ArrayString;

use crate::ids::Seq;

/// The length of an epoch's name, in bytes.
const MAX_EPOCH_BYTES: usize = 32;

/// Numbers stay below this, so that JavaScript can count.
pub(crate) const MAX_NUMBER: u64 = 1 << 53;

/// A span in which numbers do not repeat: the life of a process, or longer if its history survives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(ArrayString<MAX_EPOCH_BYTES>);

impl Epoch {
    /// An epoch whose name is made of `bits`. Random bits give names that do not repeat.
    pub fn from_bits(bits: u64) -> Self {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut name = ArrayString::new();
        let mut rest = bits;
        // 62^11 is more than 2^64.
        for _ in 0..11 {
            name.push(char::from(DIGITS[(rest % 62) as usize]));
            rest /= 62;
        }
        Epoch(name)
    }

    /// The bits that its name is made of; `None` if [`Epoch::from_bits`] does not make such a name.
    pub(crate) fn to_bits(self) -> Option<u64> {
        let mut bits: u64 = 0;
        for digit in self.0.bytes().rev() {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'A'..=b'Z' => digit - b'A' + 10,
                _ => digit - b'a' + 36,
            };
            bits = bits.checked_mul(62)?.checked_add(u64::from(value))?;
        }
        (Epoch::from_bits(bits) == self).then_some(bits)
    }

    /// Its name: 1 to 32 letters or digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not an epoch or a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPosition;

impl FromStr for Epoch {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(NotAPosition);
        }
        let name = ArrayString::from(text).map_err(|_| NotAPosition)?;
        Ok(Epoch(name))
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The epoch.
    pub epoch: Epoch,
    /// The number of messages that lie before this point, which is also the number of the next message.
    pub next: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.as_str(), self.next.0)
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (epoch, number) = text.split_once('-').ok_or(NotAPosition)?;
        let is_canonical = number == "0" || !number.starts_with('0');
        if !is_canonical || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAPosition);
        }
        let number: u64 = number.parse().map_err(|_| NotAPosition)?;
        if number >= MAX_NUMBER {
            return Err(NotAPosition);
        }
        Ok(Position {
            epoch: epoch.parse()?,
            next: Seq(number),
        })
    }
}

/// The place where a member's stream is to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next message.
    #[default]
    Now,
    /// At a position: the client has what lies before it.
    At(Position),
    /// The client was there before, but its position cannot be read. It gets all that is kept.
    Unknown,
    /// With the last so many messages.
    LastMessages(u64),
    /// With the first message of the last so much time.
    LastTime(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for text in ["k3J9aZpQ-17234", "0-0", "a-9007199254740991"] {
            let position: Position = text.parse().unwrap();
            assert_eq!(position.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_not_positions() {
        let long = format!("{}-1", "a".repeat(33));
        for text in [
            "",
            "-",
            "a",
            "a-",
            "-1",
            "a-b",
            "a-+1",
            "a--1",
            "a-01",
            "a-1-2",
            "a b-1",
            "ä-1",
            "a-1 ",
            "a-9007199254740992",
            "a-99999999999999999999",
            &long,
        ] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }

    #[test]
    fn epochs_of_different_bits_differ() {
        let names = [0, 1, 61, 62, u64::MAX, u64::MAX - 1].map(Epoch::from_bits);
        for (at, name) in names.iter().enumerate() {
            assert_eq!(name.as_str().parse(), Ok(*name));
            let bits = name.to_bits().unwrap();
            assert_eq!(Epoch::from_bits(bits), *name);
            assert!(!names[at + 1..].contains(name));
        }
    }
}
