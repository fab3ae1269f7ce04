//! Positions: where a client is in the stream of its topic. The relay says once where the stream begins, and the client
//! counts its messages from there.
//!
//! A connection calls it with every message, and with all that the relay says of positions. Each later word of the relay
//! is compared with the count.

use std::fmt;

/// The most letters and digits of an epoch.
const MAX_EPOCH: usize = 32;

/// Positions stay below this, so that JavaScript can count them.
const MAX_NUMBER: u64 = 1 << 53;

/// A position: in an epoch, the number of messages that lie before this point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: Box<str>,
    pub(crate) number: u64,
}

impl Position {
    /// Reads `E-N`; `None` if it is not a position.
    pub(crate) fn parse(text: &str) -> Option<Position> {
        let (epoch, digits) = text.split_once('-')?;
        let is_epoch = (1..=MAX_EPOCH).contains(&epoch.len())
            && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|number| *number < MAX_NUMBER)?;
        (is_epoch && is_number).then(|| Position {
            epoch: epoch.into(),
            number,
        })
    }

    /// The same for all positions of an epoch, and hardly ever for those of two.
    pub(crate) fn epoch_hash(&self) -> u64 {
        let bytes = self.epoch.bytes();
        // FNV-1a.
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// The number of messages that the relay says are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// So many.
    Known(u64),
    /// It does not know: the position is of another epoch, or of an earlier life of the topic.
    Unknown,
}

/// The words of a relay about positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The stream begins here, or goes on here after a skip.
    Begins(Position, Lost),
    /// The client is here.
    Is(Position),
}

impl Word {
    /// Reads `{"at":"E-N","lost":0}`, in which `lost` may be missing; `None` if it is something else.
    pub(crate) fn parse(json: &[u8]) -> Option<Word> {
        let value: serde_json::Value = serde_json::from_slice(json).ok()?;
        let at = Position::parse(value.get("at")?.as_str()?)?;
        Some(match value.get("lost") {
            None => Word::Is(at),
            Some(serde_json::Value::Null) => Word::Begins(at, Lost::Unknown),
            Some(lost) => Word::Begins(at, Lost::Known(lost.as_u64()?)),
        })
    }
}

/// The judgement on a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It agrees with the count.
    Right,
    /// The position is not the counted one.
    Misplaced,
    /// The relay says that it does not know a position of its own epoch.
    Forgetful,
}

/// The count of one client, over all its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counting {
    at: Option<Position>,
    /// The id of the last message, from a relay that gives each its own in place of positions.
    id: Option<Box<str>>,
    /// Whether the relay has said where the stream of this connection begins.
    has_begun: bool,
}

impl Counting {
    /// The position or the id to go on from, once there is one.
    pub(crate) fn token(&self) -> Option<String> {
        let id = || self.id.as_deref().map(str::to_owned);
        self.at.as_ref().map(Position::to_string).or_else(id)
    }

    /// Notes the id of a message.
    pub(crate) fn note_id(&mut self, id: &str) {
        self.id = Some(id.into());
    }

    /// The position to go on from, once there is one.
    pub(crate) fn at(&self) -> Option<&Position> {
        self.at.as_ref()
    }

    /// Whether the relay has said where the stream of this connection begins.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// A new connection begins.
    pub(crate) fn reconnect(&mut self) {
        self.has_begun = false;
    }

    /// Counts a message.
    #[inline]
    pub(crate) fn on_message(&mut self) {
        if let Some(at) = &mut self.at {
            at.number += 1;
        }
    }

    /// Takes the place where the stream begins or goes on. The relay's word holds from now on, even if it is wrong: one
    /// fault is counted once.
    pub(crate) fn begin(&mut self, at: Position, lost: Lost) -> Judgement {
        let judgement = match (&self.at, lost) {
            (None, Lost::Known(0)) => Judgement::Right,
            // Nothing was asked for, so nothing can be lost.
            (None, _) => Judgement::Misplaced,
            (Some(was), Lost::Unknown) if was.epoch == at.epoch => Judgement::Forgetful,
            (Some(_), Lost::Unknown) => Judgement::Right,
            (Some(was), Lost::Known(lost)) => {
                let is_right = was.epoch == at.epoch && was.number + lost == at.number;
                Judgement::of(is_right)
            }
        };
        self.at = Some(at);
        self.has_begun = true;
        judgement
    }

    /// Whether a text is the counted position.
    #[inline]
    pub(crate) fn is_at(&self, text: &[u8]) -> bool {
        let Some(at) = &self.at else {
            return false;
        };
        // Without making a text of the count, since every event is compared.
        let rest = text.strip_prefix(at.epoch.as_bytes());
        let digits = rest.and_then(|rest| rest.strip_prefix(b"-"));
        digits.is_some_and(|digits| is_number(digits, at.number))
    }

    /// Takes a position that is not the counted one: one fault is counted once.
    pub(crate) fn correct(&mut self, at: Position) {
        self.at = Some(at);
    }

    /// Compares a position with the count.
    pub(crate) fn compare(&self, said: &Position) -> Judgement {
        Judgement::of(self.at.as_ref() == Some(said))
    }
}

/// Whether these are the digits of a number, without a zero in front.
#[inline]
fn is_number(digits: &[u8], mut number: u64) -> bool {
    for digit in digits.iter().rev() {
        if u64::from(digit.wrapping_sub(b'0')) != number % 10 {
            return false;
        }
        number /= 10;
    }
    number == 0 && !digits.is_empty() && (digits.len() == 1 || digits[0] != b'0')
}

impl Judgement {
    fn of(is_right: bool) -> Judgement {
        if is_right {
            Judgement::Right
        } else {
            Judgement::Misplaced
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        Position::parse(text).unwrap()
    }

    #[test]
    fn positions_are_read_as_they_are_written() {
        for text in ["k3J9aZpQ-17234", "a-0", "E-9007199254740991"] {
            assert_eq!(at(text).to_string(), text);
        }
        for text in [
            "",
            "a",
            "a-",
            "-1",
            "a-+1",
            "a-1-2",
            "a b-1",
            "a-9007199254740992",
        ] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
        assert_ne!(at("a-1").epoch_hash(), at("b-1").epoch_hash());
    }

    #[test]
    fn a_text_is_the_counted_position_or_not() {
        for number in [0, 7, 10, 1_000, 123_456] {
            let mut counting = Counting::default();
            assert!(!counting.is_at(b"a-0"));
            counting.begin(at(&format!("abc-{number}")), Lost::Known(0));
            assert!(counting.is_at(format!("abc-{number}").as_bytes()));
            for other in [
                format!("abc-{}", number + 1),
                format!("abc-0{number}"),
                format!("abd-{number}"),
                format!("abc{number}"),
                "abc-".to_owned(),
            ] {
                assert!(!counting.is_at(other.as_bytes()), "{other}");
            }
        }
    }

    #[test]
    fn words_are_told_apart_by_what_they_say_of_losses() {
        let parse = |text: &str| Word::parse(text.as_bytes());
        assert_eq!(parse(r#"{"at":"a-3"}"#), Some(Word::Is(at("a-3"))));
        assert_eq!(
            parse(r#"{"at":"a-3","lost":2}"#),
            Some(Word::Begins(at("a-3"), Lost::Known(2)))
        );
        assert_eq!(
            parse(r#"{"lost":null,"at":"a-3"}"#),
            Some(Word::Begins(at("a-3"), Lost::Unknown))
        );
        for text in ["", "{}", r#"{"at":"a"}"#, r#"{"at":"a-3","lost":-1}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn whatever_the_relay_says_is_compared_with_the_count() {
        let mut counting = Counting::default();
        assert_eq!(counting.begin(at("a-5"), Lost::Known(0)), Judgement::Right);
        counting.on_message();
        counting.on_message();
        assert_eq!(counting.compare(&at("a-7")), Judgement::Right);
        assert_eq!(counting.compare(&at("a-6")), Judgement::Misplaced);
        for (said, lost, judgement) in [
            ("a-7", Lost::Known(0), Judgement::Right),
            ("a-10", Lost::Known(3), Judgement::Right),
            ("a-9", Lost::Known(1), Judgement::Misplaced),
            ("a-8", Lost::Known(0), Judgement::Misplaced),
            ("b-7", Lost::Known(0), Judgement::Misplaced),
            ("b-70", Lost::Unknown, Judgement::Right),
            ("a-9", Lost::Unknown, Judgement::Forgetful),
        ] {
            let mut counting = counting.clone();
            counting.reconnect();
            assert_eq!(counting.begin(at(said), lost), judgement, "{said} {lost:?}");
            assert_eq!(counting.at(), Some(&at(said)));
        }
        let mut fresh = Counting::default();
        assert_eq!(fresh.begin(at("a-5"), Lost::Known(2)), Judgement::Misplaced);
    }
}
