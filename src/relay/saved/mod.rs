//! The bytes of a history file: history, epoch and numbers of a relay, for the next process.
//!
//! [`write`] makes them and [`restore`] makes shards of them. Both go piece by piece, so a history is never in memory twice.
//! The file itself is opened, locked and renamed in `server/history_file.rs`.
//!
//! ```text
//! file       magic, version u32, head, topic…, end, checksum u32
//! head       saved at u64, high-water mark u64, epoch (length u8, text)
//! topic      1 u8, name (length u16, text), born u64, oldest u64, next u64, number of batches u32, batch…
//! batch      2 u8, numbered at u64, messages u32, length u32, frames
//! end        0 u8, topics u64, messages u64
//! ```
//!
//! Numbers are little-endian. Times are microseconds since the Unix epoch. The frames are those that members get; they say
//! themselves where they end. The first batch of a topic begins with message `oldest`, and the last one ends before `next`.
//! The checksum is CRC-32 of all that is before it.

pub(crate) mod read;
pub(crate) mod restore;
#[cfg(test)]
mod tests;
pub(crate) mod write;

use std::fmt;

/// The first bytes of a file.
const MAGIC: &[u8; 16] = b"fanwire history\n";

/// The version of the format. A change of the format raises it.
const VERSION: u32 = 1;

/// First bytes of the parts.
const TAG_END: u8 = 0;
const TAG_TOPIC: u8 = 1;
const TAG_BATCH: u8 = 2;

/// Bytes of a batch before its frames.
const BATCH_HEAD: usize = 17;

/// The reason for which a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not begin like a history.
    NotAHistory,
    /// It has another version of the format.
    OtherVersion(u32),
    /// It ends too early.
    Truncated,
    /// Something follows its end.
    TooLong,
    /// The checksum does not fit.
    Checksum,
    /// This part cannot be true.
    Impossible(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NotAHistory => f.write_str("it is not a history of fanwire"),
            Damage::OtherVersion(version) => write!(
                f,
                "it has version {version} of the format, and this fanwire reads version {VERSION}"
            ),
            Damage::Truncated => f.write_str("it is cut off"),
            Damage::TooLong => f.write_str("something follows its end"),
            Damage::Checksum => f.write_str("its checksum is wrong"),
            Damage::Impossible(part) => write!(f, "it is damaged: {part}"),
        }
    }
}
