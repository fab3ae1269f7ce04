//! Tells the operator about an engine: that it is lost and why, that it is back, and what it complains about.
//!
//! All workers share the story of an engine, so a lost engine is one line and not one for each worker. A connection that
//! cannot be had again and again is a line a minute.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lane::Fault;
use super::target::Target;
use crate::cluster::place::NodeId;

/// The time between two lines of one kind.
const SAY_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The longest text of an engine that is shown.
const MAX_SHOWN_CHARS: usize = 200;

/// See the module.
#[derive(Debug)]
pub(crate) struct Story {
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    /// By worker: whether its connections are usable.
    up: Vec<bool>,
    /// Since when some worker has been without the engine, once it was there for all.
    away_since: Option<Instant>,
    /// It was there for all workers once.
    was_up: bool,
    lost: Quiet,
    refusals: Quiet,
    errors: Quiet,
    rubbish: Quiet,
    differing: Quiet,
}

/// A kind of line, of which one a minute is written.
#[derive(Debug, Default)]
struct Quiet {
    said_at: Option<Instant>,
    unsaid: u64,
}

impl Quiet {
    /// Notes `count` events. If one is to be told, returns how many before were not.
    fn note(&mut self, now: Instant, count: u64) -> Option<u64> {
        let is_said = |said: Instant| now.saturating_duration_since(said) < SAY_AGAIN_AFTER;
        if self.said_at.is_some_and(is_said) {
            self.unsaid += count;
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid) + count - 1)
    }
}

impl Story {
    /// Nothing has happened yet.
    pub(crate) fn new(workers: usize) -> Self {
        Story {
            told: Mutex::new(Told {
                up: vec![false; workers],
                away_since: None,
                was_up: false,
                lost: Quiet::default(),
                refusals: Quiet::default(),
                errors: Quiet::default(),
                rubbish: Quiet::default(),
                differing: Quiet::default(),
            }),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing panics while it holds the lock.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has both connections.
    pub(super) fn note_up(&self, worker: usize, target: &Target, address: Option<SocketAddr>) {
        let mut told = self.told();
        told.up[worker] = true;
        if !told.up.iter().all(|&is_up| is_up) {
            return;
        }
        told.lost = Quiet::default();
        let away = told.away_since.take().map(|since| since.elapsed());
        let engine = &target.name;
        let address = address.map_or_else(|| target.to_string(), |address| address.to_string());
        if let Some(away) = away {
            tracing::info!(%engine, %address, ?away, "the engine is back; topics go on, and clients hear if something is missing");
        } else if !std::mem::replace(&mut told.was_up, true) {
            tracing::info!(%engine, %address, "the engine is connected");
        }
    }

    /// A worker has lost a connection, or could not open it.
    pub(super) fn note_lost(&self, worker: usize, target: &Target, fault: &Fault, was_up: bool) {
        let now = Instant::now();
        let mut told = self.told();
        told.up[worker] = false;
        let engine = &target.name;
        if told.was_up && told.away_since.is_none() {
            if was_up {
                told.away_since = Some(now);
                told.lost.note(now, 1);
                tracing::warn!(%engine, address = %target, why = %fault, "the connection to the engine is lost; senders of its topics wait and clients that listen stay connected, while the relay tries again");
            }
            return;
        }
        if let Some(unsaid) = told.lost.note(now, 1) {
            let away = told.away_since.map(|since| now.duration_since(since));
            tracing::warn!(%engine, address = %target, why = %fault, away = away.map(tracing::field::debug), unsaid, "the engine cannot be reached; new clients of its topics are refused, and the relay tries again");
        }
    }

    /// The engine cannot write now.
    pub(super) fn note_refusal(&self, target: &Target, error: &str) {
        if let Some(unsaid) = self.told().refusals.note(Instant::now(), 1) {
            let (engine, error) = (&target.name, shown(error));
            tracing::warn!(%engine, error, unsaid, "the engine takes no messages now; their senders wait, and the relay tries again");
        }
    }

    /// The engine answers with an error that should not be.
    pub(super) fn note_error(&self, target: &Target, error: &str) {
        if let Some(unsaid) = self.told().errors.note(Instant::now(), 1) {
            let (engine, error) = (&target.name, shown(error));
            tracing::error!(%engine, error, unsaid, "the engine refuses a command of the relay; compare its users' rights (ACL) and its version with docs/cluster.md");
        }
    }

    /// The channel of a topic carries something that cannot be read as a batch.
    pub(super) fn note_rubbish(&self, target: &Target, count: u64) {
        if let Some(unsaid) = self.told().rubbish.note(Instant::now(), count) {
            let engine = &target.name;
            tracing::warn!(%engine, unsaid, "a message in the engine is not understood and was ignored; another program may use cluster.prefix, or a relay may be of a much newer version");
        }
    }

    /// A node was heard that does not fit to this one.
    pub(super) fn note_differing(
        &self,
        target: &Target,
        node: NodeId,
        keys: &[&'static str],
        has_joined: bool,
    ) {
        let Some(unsaid) = self.told().differing.note(Instant::now(), 1) else {
            return;
        };
        let (engine, keys) = (&target.name, keys.join(", "));
        if has_joined {
            tracing::warn!(%engine, %node, %keys, unsaid, "another relay of this cluster is configured in another way; make these keys alike");
        } else {
            tracing::error!(%engine, %node, %keys, unsaid, "a relay of this cluster is configured in another way; this one does not get ready before these keys are alike");
        }
    }
}

/// A text of an engine for the log: cut, and without control characters.
fn shown(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_is_written_and_the_others_are_counted() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        assert_eq!(quiet.note(start, 3), Some(2));
        assert_eq!(quiet.note(start, 2), None);
        assert_eq!(quiet.note(start + SAY_AGAIN_AFTER, 1), Some(2));
        assert_eq!(quiet.note(start + SAY_AGAIN_AFTER, 1), None);
    }

    #[test]
    fn a_text_is_cut_and_has_no_control_characters() {
        let text = format!("ERR\r\n{}", "x".repeat(1_000));
        let shown = shown(&text);
        assert!(shown.starts_with("ERRxx") && shown.len() == MAX_SHOWN_CHARS);
    }
}
