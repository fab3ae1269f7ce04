//! The shard's inflater, the memory for windows of clients that compress, and what inflating costs.
//!
//! [`inflating`](super::inflating) asks it. The shard has one inflater for all its clients. All windows together take at most a
//! small part of the shard's memory.

use crate::ws::assembled::Assembled;
use crate::ws::frame::MessageKind;
use crate::ws::inflate::{Inflater, Window};

/// Windows take at most this part of the shard's memory.
const PART_FOR_WINDOWS: u64 = 32;

/// The cost of a compressed message in plain frames of a step, each of which takes a tenth of a microsecond. This is for the
/// message itself: its window is copied, and an empty stream begins.
const COST_FRAMES: usize = 8;
/// Compressed bytes that cost as much as a frame. Blocks without content cost most, because each has tables of its own.
const BYTES_PER_FRAME: usize = 4;
/// Inflated bytes that cost as much as a frame.
const INFLATED_BYTES_PER_FRAME: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Inflation {
    /// Made for the first compressed message.
    inflater: Option<Box<Inflater>>,
    /// The most memory for windows.
    pool_bytes: u64,
    /// A message that was inflated, and is to be treated like any other.
    plain: Option<(MessageKind, Assembled)>,
    /// The cost of messages that no step counts yet.
    cost_frames: usize,
    /// Bytes of inflated messages that no budget counts yet.
    inflated_bytes: usize,
}

impl Inflation {
    /// For a shard with this share of memory.
    pub(super) fn new(share_bytes: u64) -> Self {
        Inflation {
            inflater: None,
            pool_bytes: share_bytes / PART_FOR_WINDOWS,
            plain: None,
            cost_frames: 0,
            inflated_bytes: 0,
        }
    }

    /// Whether there is room for one more window, if windows may take this part of the pool.
    pub(super) fn has_room(&self, taken_bytes: u64, part: u64) -> bool {
        taken_bytes + Window::BYTES as u64 <= self.pool_bytes / part
    }

    /// The inflater.
    pub(super) fn inflater(&mut self) -> &mut Inflater {
        self.inflater.get_or_insert_default()
    }

    /// A message of `wire_bytes` was inflated to this one.
    pub(super) fn set_plain(&mut self, wire_bytes: usize, kind: MessageKind, payload: Assembled) {
        let bytes = payload.len();
        self.plain = Some((kind, payload));
        self.inflated_bytes += bytes;
        self.cost_frames +=
            COST_FRAMES + wire_bytes / BYTES_PER_FRAME + bytes / INFLATED_BYTES_PER_FRAME;
    }

    /// The message that was inflated last, if it was not taken yet.
    pub(super) fn take_plain(&mut self) -> Option<(MessageKind, Assembled)> {
        self.plain.take()
    }

    /// The cost of messages that were inflated since the last call, in frames.
    pub(super) fn take_cost_frames(&mut self) -> usize {
        std::mem::take(&mut self.cost_frames)
    }

    /// Their bytes, since the last call.
    pub(super) fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.inflated_bytes)
    }
}
