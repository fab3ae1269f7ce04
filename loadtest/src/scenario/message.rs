//! The messages of a run. A head says who sent a message, which one it is and when it was due; a filler makes up the
//! size.
//!
//! ```text
//! word 0    publisher (24 bits), sequence (40 bits)
//! word 1    due time in nanoseconds since the run began (48 bits), a check of the head and the run (16 bits)
//! filler    a body of the run's kind of payload (`bodies.rs`); by default fixed for a publisher
//! ```
//!
//! Binary messages have the words as 16 bytes, big endian. Text messages have each word as 11 characters of six bits,
//! and a filler of the same characters, which are printable ASCII.

use crate::scenario::bodies::{Bodies, FIRST_CHAR};
use crate::scenario::options::Opcode;
use crate::scenario::payload::Payload;

/// Bytes before the filler of a binary message.
const BINARY_HEAD_BYTES: usize = 16;

/// Bytes before the filler of a text message: two words of 11 characters.
const TEXT_HEAD_BYTES: usize = 22;

/// The longest head.
pub(crate) const MAX_HEAD_BYTES: usize = TEXT_HEAD_BYTES;

/// Characters of a word as text.
const WORD_CHARS: usize = 11;

/// Bits of a sequence number.
const SEQUENCE_BITS: u32 = 40;

/// Publishers that the head has room for.
pub(crate) const MAX_PUBLISHERS: usize = 1 << 24;

/// Nanoseconds that the head has room for: more than three days.
pub(crate) const MAX_DUE: u64 = (1 << 48) - 1;

/// The number of a message: it orders by publisher, then by sequence.
pub(crate) type Key = u64;

/// The key of a message.
pub(crate) fn key(publisher: u32, sequence: u64) -> Key {
    u64::from(publisher) << SEQUENCE_BITS | sequence & ((1 << SEQUENCE_BITS) - 1)
}

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its publisher and sequence number.
    pub(crate) key: Key,
    /// When it was due, in nanoseconds since the run began.
    pub(crate) due: u64,
}

impl Head {
    /// The publisher that sent it.
    pub(crate) fn publisher(&self) -> usize {
        (self.key >> SEQUENCE_BITS) as usize
    }

    /// Its number among that publisher's messages, from 0.
    pub(crate) fn sequence(&self) -> u64 {
        self.key & ((1 << SEQUENCE_BITS) - 1)
    }
}

/// The form of a run's messages.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    /// Bytes of a whole payload.
    size: usize,
    opcode: Opcode,
    head_bytes: usize,
    /// Tells this run's messages from those of others.
    nonce: u64,
    /// The fillers.
    bodies: Bodies,
}

impl Format {
    /// The smallest payload that can be checked.
    pub(crate) fn min_size(opcode: Opcode) -> usize {
        match opcode {
            Opcode::Text => TEXT_HEAD_BYTES,
            Opcode::Binary => BINARY_HEAD_BYTES,
        }
    }

    /// Messages of `size` bytes, which must be [`Format::min_size`] or more.
    pub(crate) fn new(payload: Payload, size: usize, opcode: Opcode, nonce: u64) -> Format {
        let head_bytes = Format::min_size(opcode);
        assert!(size >= head_bytes, "the plan has refused smaller ones");
        Format {
            size,
            opcode,
            head_bytes,
            nonce,
            bodies: Bodies::new(payload, size - head_bytes, opcode),
        }
    }

    /// The same messages in another run.
    pub(crate) fn of_run(&self, nonce: u64) -> Format {
        Format {
            nonce,
            ..self.clone()
        }
    }

    /// Bytes of a payload.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Text or binary.
    pub(crate) fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// Bytes before the filler.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// The filler of a message.
    #[inline]
    pub(crate) fn filler(&self, key: Key) -> &[u8] {
        let head = Head { key, due: 0 };
        self.bodies.of(head.publisher(), head.sequence())
    }

    /// Whether each message of a publisher has another filler than the one before it.
    #[inline]
    pub(crate) fn varies(&self) -> bool {
        self.bodies.vary()
    }

    /// Writes a head over the beginning of `out`.
    pub(crate) fn write_head(&self, head: Head, out: &mut [u8]) {
        let words = [head.key, head.due << 16 | self.check(head.key, head.due)];
        match self.opcode {
            Opcode::Binary => {
                out[..8].copy_from_slice(&words[0].to_be_bytes());
                out[8..16].copy_from_slice(&words[1].to_be_bytes());
            }
            Opcode::Text => {
                for (chars, word) in out.chunks_exact_mut(WORD_CHARS).zip(words) {
                    write_chars(word, chars);
                }
            }
        }
    }

    /// Reads the head at the beginning of `payload`; `None` if that is too short or not a head of this run.
    #[inline]
    pub(crate) fn read_head(&self, payload: &[u8]) -> Option<Head> {
        let words = match self.opcode {
            Opcode::Binary => {
                let (first, rest) = payload.split_first_chunk()?;
                [
                    u64::from_be_bytes(*first),
                    u64::from_be_bytes(*rest.first_chunk()?),
                ]
            }
            Opcode::Text => {
                let (first, rest) = payload.split_first_chunk::<WORD_CHARS>()?;
                [read_chars(first)?, read_chars(rest.first_chunk()?)?]
            }
        };
        let head = Head {
            key: words[0],
            due: words[1] >> 16,
        };
        (words[1] & 0xffff == self.check(head.key, head.due)).then_some(head)
    }

    /// 16 bits that depend on every bit of the head and on the run.
    #[inline]
    fn check(&self, key: Key, due: u64) -> u64 {
        let mixed = (key ^ self.nonce).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ due.wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48
    }
}

/// A word as characters, the highest bits first.
fn write_chars(word: u64, chars: &mut [u8]) {
    for (index, char) in chars.iter_mut().enumerate() {
        let shift = 6 * (WORD_CHARS - 1 - index);
        *char = FIRST_CHAR + (word >> shift & 63) as u8;
    }
}

/// The word that the characters stand for.
#[inline]
fn read_chars(chars: &[u8; WORD_CHARS]) -> Option<u64> {
    let mut word = 0;
    let mut are_valid = chars[0] & 0xf0 == FIRST_CHAR;
    for &char in chars {
        let value = char.wrapping_sub(FIRST_CHAR);
        are_valid &= value < 64;
        word = word << 6 | u64::from(value & 63);
    }
    are_valid.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(format: &Format, head: Head) -> Vec<u8> {
        let mut payload = vec![0; format.head_bytes()];
        format.write_head(head, &mut payload);
        payload.extend_from_slice(format.filler(head.key));
        payload
    }

    #[test]
    fn a_head_that_is_written_is_read_again_as_text_and_as_binary() {
        for opcode in [Opcode::Text, Opcode::Binary] {
            for size in [Format::min_size(opcode), 128] {
                let format = Format::new(Payload::Fixed, size, opcode, 7);
                for (publisher, sequence, due) in [
                    (0, 0, 0),
                    (3, 9, 1_000),
                    (0xff_ffff, (1 << 40) - 1, MAX_DUE),
                ] {
                    let head = Head {
                        key: key(publisher, sequence),
                        due,
                    };
                    let payload = message(&format, head);
                    assert_eq!(payload.len(), size);
                    assert_eq!(format.read_head(&payload), Some(head));
                    assert_eq!(head.publisher(), publisher as usize);
                    assert_eq!(head.sequence(), sequence);
                }
            }
        }
    }

    #[test]
    fn text_is_printable_ascii() {
        let format = Format::new(Payload::Fixed, 400, Opcode::Text, 1);
        let head = Head {
            key: u64::MAX,
            due: MAX_DUE,
        };
        let payload = message(&format, head);
        assert!(payload.iter().all(u8::is_ascii_graphic));
    }

    #[test]
    fn any_flipped_bit_of_a_head_is_noticed() {
        for opcode in [Opcode::Text, Opcode::Binary] {
            let format = Format::new(Payload::Fixed, 64, opcode, 99);
            let head = Head {
                key: key(2, 1234),
                due: 5_678_901,
            };
            let payload = message(&format, head);
            for bit in 0..format.head_bytes() * 8 {
                let mut flipped = payload.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(format.read_head(&flipped), None, "{opcode:?}, bit {bit}");
            }
        }
    }

    #[test]
    fn messages_of_another_run_are_not_ours() {
        let head = Head {
            key: key(0, 5),
            due: 10,
        };
        let theirs = message(&Format::new(Payload::Fixed, 64, Opcode::Binary, 1), head);
        assert_eq!(
            Format::new(Payload::Fixed, 64, Opcode::Binary, 2).read_head(&theirs),
            None
        );
    }
}
