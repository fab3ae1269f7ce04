//! The compression of a topic: when a batch gets compressed frames, and when its window is emptied.
//!
//! A batch whose window was empty at its start is a *key*: every member can read it and go on from there. Members that have
//! joined or skipped read plain frames until the next key.
//!
//! A key costs all members the gain of a full window. So it comes when those that wait have got twice as many plain messages as
//! there are members that take compressed ones.
//!
//! Messages that do not shrink are left alone for a while.

use super::windows::{WindowKey, Windows};
use crate::metrics::stats::{Stat, Stats};
use crate::relay::batch::Batch;
use crate::relay::batch::deflated::{Mark, Volume, after};
use crate::time::Timestamp;
use crate::ws::deflate::WindowSize;

/// After this many messages it is judged whether they shrink enough.
const REVIEWED_MESSAGES: u64 = 32;

/// If they do not, so many messages are sent plain before the next try.
const LEFT_ALONE_MESSAGES: u64 = 1_024;

/// Messages of this length on average get the large window: they are longer than a small one is useful for.
const LARGE_FROM_BYTES: u64 = 1 << 10;

/// A key is due when those who wait have got so many plain messages for each member that takes compressed ones.
const PATIENCE: u64 = 2;

/// The settings of a topic. They are fixed when it is born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compression {
    /// Fewer members than these are not worth the time.
    pub min_members: u32,
    /// Members do not get their own messages, so each batch has to be readable by itself.
    pub only_keys: bool,
}

/// The members of a topic that take compressed frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takers {
    /// All of them.
    pub all: u32,
    /// Those that wait for a key.
    pub waiting: u32,
}

/// The reason why a window is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Start,
    Waiting,
    Evicted,
    Larger,
    Retry,
    Echo,
}

impl Reason {
    fn stat(self) -> Stat {
        match self {
            Reason::Start => Stat::DeflateKeysStart,
            Reason::Waiting => Stat::DeflateKeysWaiting,
            Reason::Evicted => Stat::DeflateKeysEvicted,
            Reason::Larger => Stat::DeflateKeysLarger,
            Reason::Retry => Stat::DeflateKeysRetry,
            Reason::Echo => Stat::DeflateKeysEcho,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Deflation {
    settings: Compression,
    window: Option<WindowKey>,
    /// The reason for the next key if there is no window.
    without_window: Reason,
    /// The number of the next compressed batch.
    next_number: u32,
    /// Plain messages since the last key, for each member that waited.
    waited: u64,
    /// Messages since the last key.
    since_key: Volume,
    /// Messages since the last review, before and after.
    input: Volume,
    output: Volume,
    /// Messages to leave alone.
    left_alone: u64,
}

impl Deflation {
    pub(super) fn new(settings: Compression, windows: &Windows) -> Self {
        Deflation {
            settings,
            window: None,
            without_window: Reason::Start,
            next_number: windows.first_number(),
            waited: 0,
            since_key: Volume::default(),
            input: Volume::default(),
            output: Volume::default(),
            left_alone: 0,
        }
    }

    /// Nobody takes compressed frames any more.
    pub(super) fn end(self, windows: &mut Windows, stats: &mut Stats) {
        windows.note_last(self.next_number);
        if let Some(window) = self.window {
            windows.give_back(window, stats);
        }
    }

    /// Whether it has a window. For tests.
    pub(super) fn has_window(&self, windows: &Windows) -> bool {
        self.window.is_some_and(|key| windows.size(key).is_some())
    }

    /// Makes the compressed frames of a batch that was just numbered, if that is due. All subscribers are then sent it. Says
    /// whether it is a key.
    pub(super) fn deflate(
        &mut self,
        batch: &mut Batch,
        takers: Takers,
        windows: &mut Windows,
        now: Timestamp,
        stats: &mut Stats,
    ) -> bool {
        if takers.all == 0 || takers.all < self.settings.min_members {
            return false;
        }
        let messages = batch.len() as u64;
        if self.left_alone > 0 {
            self.left_alone = self.left_alone.saturating_sub(messages);
            return false;
        }
        self.waited += u64::from(takers.waiting) * messages;
        let volume = batch.compressible();
        if volume.messages == 0 || !windows.has_time_for(volume.bytes) {
            return false;
        }
        let reason = self.reason(takers, volume, windows);
        if reason.is_some() && !self.empty_window(volume, windows, now, stats) {
            return false;
        }
        let Some(window) = self.window else {
            return false;
        };
        let mark = Mark {
            number: self.next_number,
            is_key: reason.is_some(),
        };
        let compressed = batch.deflate(windows.compressor(window, volume.bytes, now), mark);
        self.next_number = after(mark.number);
        if let Some(reason) = reason {
            stats.inc(reason.stat());
        }
        stats.add(Stat::DeflatedMessages, volume.messages);
        stats.add(Stat::DeflateInputBytes, volume.bytes);
        stats.add(Stat::DeflateOutputBytes, compressed.bytes);
        self.since_key = self.since_key.with(volume);
        self.input = self.input.with(volume);
        self.output = self.output.with(compressed);
        self.review(windows, stats);
        mark.is_key
    }

    /// The reason to empty the window before a batch, if there is one.
    fn reason(&self, takers: Takers, volume: Volume, windows: &Windows) -> Option<Reason> {
        let Some(window) = self.window else {
            return Some(self.without_window);
        };
        let Some(size) = windows.size(window) else {
            return Some(Reason::Evicted);
        };
        if self.settings.only_keys {
            return Some(Reason::Echo);
        }
        let all_wait = takers.waiting >= takers.all;
        if all_wait || takers.waiting > 0 && self.waited >= PATIENCE * u64::from(takers.all) {
            return Some(Reason::Waiting);
        }
        let is_outgrown = size == WindowSize::Small
            && self.since_key.messages >= REVIEWED_MESSAGES
            && self.size_for(volume) == WindowSize::Large;
        let is_room = || windows.has_room(WindowSize::Large, Some(WindowSize::Small));
        (is_outgrown && is_room()).then_some(Reason::Larger)
    }

    /// The window for messages like those since the last key and `volume`.
    fn size_for(&self, volume: Volume) -> WindowSize {
        let Volume { messages, bytes } = self.since_key.with(volume);
        if bytes >= LARGE_FROM_BYTES * messages {
            WindowSize::Large
        } else {
            WindowSize::Small
        }
    }

    /// Empties the window, or takes one. Says whether there is one.
    fn empty_window(
        &mut self,
        volume: Volume,
        windows: &mut Windows,
        now: Timestamp,
        stats: &mut Stats,
    ) -> bool {
        let size = self.size_for(volume);
        let has = self.window.and_then(|key| windows.size(key));
        let is_kept = has.is_some_and(|has| has == size || !windows.has_room(size, Some(has)));
        match self.window {
            Some(key) if is_kept => windows.compressor(key, 0, now).reset(),
            before => {
                if let Some(key) = before {
                    windows.give_back(key, stats);
                    self.without_window = Reason::Evicted;
                }
                let taken = windows.take(size, now, stats);
                self.window = taken.or_else(|| windows.take(WindowSize::Small, now, stats));
            }
        }
        if self.window.is_none() {
            return false;
        }
        self.waited = 0;
        self.since_key = Volume::default();
        true
    }

    /// Leaves messages alone for a while if they do not shrink by a tenth.
    fn review(&mut self, windows: &mut Windows, stats: &mut Stats) {
        if self.input.messages < REVIEWED_MESSAGES {
            return;
        }
        if self.input.bytes * 10 < self.output.bytes * 11 {
            self.left_alone = LEFT_ALONE_MESSAGES;
            self.without_window = Reason::Retry;
            if let Some(window) = self.window.take() {
                windows.give_back(window, stats);
            }
        }
        self.input = Volume::default();
        self.output = Volume::default();
    }
}
