//! Saves the history in a drain: the workers hand it in, and a thread writes `history.file`.
//!
//! The control thread owns a [`Saving`]. It waits for all shards, because numbers would be used again if some were missing.
//! The thread writes while clients are still being closed, and lets go of the file as soon as it is written. So the next
//! process need not wait for clients that do not take their Close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use tracing::{info, warn};

use super::crew::join_while;
use super::history_file::HistoryFile;
use crate::net::clock::Clock;
use crate::net::mail::{ControlBox, Report};
use crate::port::position::Epoch;
use crate::relay::owner::keepsake::Keepsake;
use crate::relay::saved::write::Clocks;

/// See the module.
pub(super) struct Saving {
    parts: Option<Parts>,
    shards: usize,
    keepsakes: Vec<Keepsake>,
    writer: Option<JoinHandle<()>>,
    /// The file gets its name, or is given up: whoever sets it first has decided.
    is_decided: Arc<AtomicBool>,
}

/// The parts that the writer takes along.
pub(super) struct Parts {
    pub(super) file: HistoryFile,
    pub(super) epoch: Epoch,
    pub(super) clock: Clock,
    pub(super) control: ControlBox,
}

/// The time now, on the clock of the workers and on that of the day.
pub(super) fn clocks(clock: Clock) -> Clocks {
    Clocks {
        now: clock.now(),
        wall: SystemTime::now().into(),
    }
}

impl Saving {
    /// Waits for the histories of this many shards.
    pub(super) fn new(parts: Parts, shards: usize) -> Saving {
        Saving {
            parts: Some(parts),
            shards,
            keepsakes: Vec::new(),
            writer: None,
            is_decided: Arc::default(),
        }
    }

    /// A shard hands in its history. With the last one, the file is written.
    pub(super) fn take(&mut self, keepsake: Keepsake) {
        self.keepsakes.push(keepsake);
        if self.keepsakes.len() < self.shards {
            return;
        }
        let Some(parts) = self.parts.take() else {
            return;
        };
        let (keepsakes, is_decided) =
            (std::mem::take(&mut self.keepsakes), self.is_decided.clone());
        let work = move || write(parts, keepsakes, &is_decided);
        match thread::Builder::new().name("history".into()).spawn(work) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                warn!(%error, "history.file is not written: the system refused a thread");
            }
        }
    }

    /// Whether the file is being written.
    pub(super) fn is_writing(&self) -> bool {
        self.writer.is_some()
    }

    /// The writer has ended.
    pub(super) fn on_end(&mut self) {
        if let Some(writer) = self.writer.take() {
            join_while(|| true, writer);
        }
    }

    /// The relay ends. Waits for the writer as long as `goes_on` says so.
    pub(super) fn end(mut self, goes_on: impl FnMut() -> bool) {
        if let Some(parts) = &self.parts {
            warn!(file = %parts.file.path().display(), "history.file is not written: the relay ended before the last messages of all topics had their numbers; the next process begins a new epoch");
        }
        let Some(writer) = self.writer.take() else {
            return;
        };
        // Relaxed: the flag decides who of the two has the last word, and bears no other data.
        if !join_while(goes_on, writer) && !self.is_decided.swap(true, Ordering::Relaxed) {
            warn!(
                "history.file is not written: the time for the shutdown is up; the next process begins a new epoch"
            );
        }
    }
}

fn write(parts: Parts, keepsakes: Vec<Keepsake>, is_decided: &AtomicBool) {
    let Parts {
        mut file,
        epoch,
        clock,
        control,
    } = parts;
    let began = Instant::now();
    // Relaxed: as above.
    let goes_on = || !is_decided.load(Ordering::Relaxed);
    let may_commit = || !is_decided.swap(true, Ordering::Relaxed);
    let result = file.write(keepsakes, clocks(clock), epoch, goes_on, may_commit);
    let path = file.path().display();
    match result {
        Ok(amount) => {
            info!(file = %path, topics = amount.topics, messages = amount.messages, bytes = amount.bytes, took = ?began.elapsed(), "history.file: the history is written");
        }
        // The control thread has said it.
        Err(_) if !goes_on() => {}
        Err(error) => {
            warn!(file = %path, %error, "history.file: the history cannot be written; the next process begins a new epoch");
        }
    }
    // The next process may go on.
    drop(file);
    control.send(Report::HistoryEnded);
}
