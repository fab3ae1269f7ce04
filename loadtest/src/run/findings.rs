//! The findings of a run, before they are judged.

use std::collections::BTreeMap;

use super::counters::Counted;
use crate::check::tally::Totals;
use crate::client::worker::outcome::Outcome;
use crate::report::{Counters, Latency, Sample, Server};

/// The findings of a run.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) started_unix_seconds: u64,
    pub(super) measured_seconds: f64,
    pub(super) totals: Totals,
    pub(super) latency: Latency,
    pub(super) rounds: Option<Latency>,
    pub(super) samples: Vec<Sample>,
    pub(super) opened: u64,
    pub(super) outcomes: Vec<Outcome>,
    /// The number of times that messages in flight were given up.
    pub(super) forgiven: u64,
    pub(super) was_stopped: bool,
    /// Whether the wait for missing deliveries was stopped as well.
    pub(super) was_wait_stopped: bool,
    pub(super) is_server_alive: bool,
    pub(super) server: Option<Server>,
    pub(super) counters: Option<Counters>,
}

impl Findings {
    /// The counts that are compared with the relay's counters.
    pub(super) fn counted(&self) -> Counted {
        let all_stayed = self.opened == self.stayed();
        Counted {
            published: self.totals.published,
            received: self.totals.counts.received,
            opened: self.opened,
            has_posts: self
                .outcomes
                .iter()
                .any(|outcome| !outcome.posts.answers.is_empty()),
            is_complete: all_stayed && self.outcomes.iter().all(|outcome| outcome.ended.is_empty()),
        }
    }

    /// Connections that were there until the end.
    fn stayed(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.stayed).sum()
    }
}

/// Adds up counts by reason.
pub(super) fn reasons<'r>(
    all: impl Iterator<Item = &'r BTreeMap<String, u64>>,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in all.flatten() {
        *sums.entry(reason.clone()).or_default() += count;
    }
    sums
}
