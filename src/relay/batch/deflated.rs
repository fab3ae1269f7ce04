//! The messages of a batch as compressed frames.
//!
//! The owner of a topic makes them last of all, in the order of the numbers, with one window for all members. A member can read
//! them only if it has read all compressed frames since the window was empty, so each batch that has some bears a number.

use std::ops::RangeInclusive;

use crate::ws::deflate::Compressor;
use crate::ws::encode::parts_of;

/// The payloads that are compressed, in bytes. Shorter ones gain nothing, and longer ones would take the owner too long. Both
/// stay plain frames, and the window does not see them.
const PAYLOADS: RangeInclusive<usize> = 16..=64 << 10;

/// The place of a batch among those of its topic that have compressed frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Counted by the owner, over these batches alone. Never 0.
    pub number: u32,
    /// The window was empty when the batch began, so everybody can read it.
    pub is_key: bool,
}

/// The number behind `number`. 0 is none.
pub(crate) fn after(number: u32) -> u32 {
    number.wrapping_add(1).max(1)
}

/// A number of messages, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Messages.
    pub messages: u64,
    /// Their bytes, as frames.
    pub bytes: u64,
}

impl Volume {
    /// Both together.
    #[must_use]
    pub(crate) fn with(self, other: Volume) -> Volume {
        Volume {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
        }
    }

    /// Adds one message.
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

fn is_for_window(frame: &[u8]) -> bool {
    PAYLOADS.contains(&parts_of(frame).1.len())
}

/// The messages among `frames` that are to be compressed.
pub(super) fn volume<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Volume {
    let mut volume = Volume::default();
    for frame in frames.filter(|frame| is_for_window(frame)) {
        volume.add(frame.len());
    }
    volume
}

/// The frames, compressed where that is due, the end of each, and the volume of the compressed ones.
pub(super) fn encode<'a>(
    frames: impl ExactSizeIterator<Item = &'a [u8]>,
    frame_bytes: usize,
    compressor: &mut Compressor,
) -> (Vec<u8>, Box<[u32]>, Volume) {
    let mut bytes = Vec::with_capacity(frame_bytes / 2 + 256);
    let mut compressed = Volume::default();
    let ends = frames.map(|frame| {
        let start = bytes.len();
        if is_for_window(frame) {
            let (kind, payload) = parts_of(frame);
            compressor.push_message(&mut bytes, kind, payload);
            compressed.add(bytes.len() - start);
        } else {
            bytes.extend_from_slice(frame);
        }
        // A message that is not compressed takes a few bytes more than its frame.
        u32::try_from(bytes.len()).expect("a batch is bounded by what one turn takes in")
    });
    let ends = ends.collect();
    bytes.shrink_to_fit();
    (bytes, ends, compressed)
}
