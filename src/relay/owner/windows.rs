//! The windows with which topics are compressed: a pool of bounded memory.
//!
//! A topic takes a window for its first compressed batch. If there is no room, it gets the window that was used least
//! recently, if nobody has used it for a second. Otherwise topics would take windows from each other all the time.
//!
//! A topic that has lost its window finds out when it needs it.

use std::collections::BTreeSet;
use std::time::Duration;

use slab::Slab;

use crate::metrics::stats::{Stat, Stats};
use crate::time::Timestamp;
use crate::ws::deflate::{Compressor, WindowSize};

/// Windows take at most this part of the shard's memory.
const PART_FOR_WINDOWS: u64 = 32;

/// A window that was used in this time stays with its topic.
const IN_USE: Duration = Duration::from_secs(1);

/// The order of use is exact up to this, which spares most batches a change of the order.
const STEP: Duration = Duration::from_millis(250);

/// The most payload that is compressed in a turn. It takes less than a millisecond.
const TURN_BYTES: u64 = 256 << 10;

/// A window of a topic, if the topic still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowKey {
    slot: usize,
    serial: u64,
}

#[derive(Debug)]
struct Window {
    compressor: Compressor,
    size: WindowSize,
    /// Exact up to [`STEP`].
    used_at: Timestamp,
    /// No two windows have the same.
    serial: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Windows {
    max_bytes: u64,
    taken_bytes: u64,
    windows: Slab<Window>,
    by_use: BTreeSet<(Timestamp, usize)>,
    next_serial: u64,
    left_in_turn: u64,
    /// The number of the next compressed batch of any topic that is new here. Topics count on from there, so that none gives a
    /// number that members of its earlier life may remember.
    next_number: u32,
}

impl Windows {
    /// The pool of a shard that may hold `max_buffered_bytes`.
    pub(super) fn new(max_buffered_bytes: u64) -> Self {
        Windows {
            max_bytes: max_buffered_bytes / PART_FOR_WINDOWS,
            taken_bytes: 0,
            windows: Slab::new(),
            by_use: BTreeSet::new(),
            next_serial: 0,
            left_in_turn: TURN_BYTES,
            next_number: 1,
        }
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.left_in_turn = TURN_BYTES;
    }

    /// Whether `bytes` may still be compressed in this turn.
    pub(super) fn has_time_for(&self, bytes: u64) -> bool {
        bytes <= self.left_in_turn
    }

    /// The number with which a topic begins to count.
    pub(super) fn first_number(&self) -> u32 {
        self.next_number
    }

    /// A topic is not compressed any more. Its next number would have been `next`.
    pub(super) fn note_last(&mut self, next: u32) {
        self.next_number = self.next_number.max(next);
    }

    /// The size of a window, if the topic still has it.
    pub(super) fn size(&self, key: WindowKey) -> Option<WindowSize> {
        let window = self.windows.get(key.slot);
        Some(window.filter(|window| window.serial == key.serial)?.size)
    }

    /// The compressor of a window that the topic still has, to compress `bytes`.
    pub(super) fn compressor(
        &mut self,
        key: WindowKey,
        bytes: u64,
        now: Timestamp,
    ) -> &mut Compressor {
        self.left_in_turn = self.left_in_turn.saturating_sub(bytes);
        let window = &mut self.windows[key.slot];
        debug_assert_eq!(window.serial, key.serial, "the topic has lost its window");
        if now.since(window.used_at) >= STEP {
            self.by_use.remove(&(window.used_at, key.slot));
            window.used_at = now;
            self.by_use.insert((now, key.slot));
        }
        &mut window.compressor
    }

    /// Whether a window of `size` could be had, if one of `instead_of` were given back.
    pub(super) fn has_room(&self, size: WindowSize, instead_of: Option<WindowSize>) -> bool {
        let back = instead_of.map_or(0, WindowSize::memory_bytes);
        self.taken_bytes + size.memory_bytes() as u64 <= self.max_bytes + back as u64
    }

    /// Takes an empty window, perhaps from a topic that has not used its own for a second.
    pub(super) fn take(
        &mut self,
        size: WindowSize,
        now: Timestamp,
        stats: &mut Stats,
    ) -> Option<WindowKey> {
        while !self.has_room(size, None) {
            let &(used_at, slot) = self.by_use.first()?;
            if now.since(used_at) < IN_USE + STEP {
                return None;
            }
            self.remove(slot, stats);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let slot = self.windows.insert(Window {
            compressor: Compressor::new(size),
            size,
            used_at: now,
            serial,
        });
        self.by_use.insert((now, slot));
        self.taken_bytes += size.memory_bytes() as u64;
        stats.inc(Stat::DeflateWindows);
        stats.add(Stat::DeflateWindowBytes, size.memory_bytes() as u64);
        Some(WindowKey { slot, serial })
    }

    /// Takes a window back, if the topic still has it.
    pub(super) fn give_back(&mut self, key: WindowKey, stats: &mut Stats) {
        if self.size(key).is_some() {
            self.remove(key.slot, stats);
        }
    }

    fn remove(&mut self, slot: usize, stats: &mut Stats) {
        let window = self.windows.remove(slot);
        self.by_use.remove(&(window.used_at, slot));
        let bytes = window.size.memory_bytes() as u64;
        self.taken_bytes -= bytes;
        stats.dec(Stat::DeflateWindows);
        stats.replace(Stat::DeflateWindowBytes, bytes, 0);
        if self.windows.is_empty() {
            self.windows = Slab::new();
        }
    }

    /// Checks the sums, if topics have `held` windows. For tests.
    pub(super) fn check(&self, held: usize, stats: &Stats) {
        let sizes = self
            .windows
            .iter()
            .map(|(_, window)| window.size.memory_bytes() as u64);
        assert_eq!(sizes.sum::<u64>(), self.taken_bytes);
        assert!(self.taken_bytes <= self.max_bytes, "windows have a bound");
        assert_eq!(self.taken_bytes, stats.value(Stat::DeflateWindowBytes));
        assert_eq!(self.windows.len(), held, "a window belongs to a topic");
        assert_eq!(self.windows.len(), self.by_use.len());
        assert_eq!(held as u64, stats.value(Stat::DeflateWindows));
    }
}
