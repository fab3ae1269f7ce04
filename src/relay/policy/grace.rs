//! The time for which a topic's publishers wait for members that lag, under the policies `disconnect` and `drop`.
//!
//! A burst faster than any reader would put every member over the limit, and honest readers must not be disconnected for it.
//! So before laggards are judged, publishers wait for them a little. A member that drains half of `max_lag_bytes` within
//! [`GRACE`] stays, as long as the topic has time left to give.
//!
//! A [`Grace`] is one shard's side. It asks the topic's owner when its log is over the mark, and gives up when no laggard
//! makes progress. An [`Allowance`] is the owner's side. It grants one wait for all shards together.
//!
//! Within [`RECOVERY`] an allowance spends at most [`GRACE`] in vain, or `CAUGHT_UP_DISCOUNT` times as much on laggards that
//! catch up, whatever their number. So publishers wait out a burst of about twice `max_lag_bytes`. A client that is
//! permanently slower than its topic is eventually judged, however cleverly it reads.

use std::time::Duration;

use crate::time::Timestamp;

/// The longest wait for laggards that make progress, and the most that is spent within [`RECOVERY`].
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// The longest wait in which no laggard takes a byte. No shorter wait is granted.
pub(crate) const WITHOUT_PROGRESS: Duration = Duration::from_millis(50);

/// The time after which what was spent can be spent again.
pub(crate) const RECOVERY: Duration = Duration::from_secs(5);

/// A wait in which everybody caught up costs its time divided by this. It did help, but publishers waited all the same. So
/// laggards can take up to a fifth of a topic's time: 4 × 250 ms in 5 s.
const CAUGHT_UP_DISCOUNT: u32 = 4;

/// The state of a log that a review looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogState {
    /// The lag of the slowest member that publishers may wait for.
    pub trusted_lag_bytes: u64,
    /// Above it, publishers are to wait.
    pub hold_mark: u64,
    /// Below it, publishers go on. Above it, the shard makes use of a wait that others were granted.
    pub release_mark: u64,
    /// The shard has many bytes for members that it has not visited yet.
    pub is_shard_behind: bool,
    /// A member that is behind has taken bytes since the last review.
    pub laggards_progress: bool,
    /// The owner has granted a wait, to this or another shard.
    pub is_granted: bool,
}

impl LogState {
    fn is_over(self) -> bool {
        self.trusted_lag_bytes > self.hold_mark
    }
}

/// A shard's side. See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Grace {
    /// There is no need of it.
    #[default]
    Unneeded,
    /// The owner is asked. Publishers wait until it says no.
    Asked {
        /// The latest end of the wait.
        until: Timestamp,
        /// The last moment at which a laggard took bytes.
        progress_at: Timestamp,
        /// The log was over the mark meanwhile. If not, the shard only makes use of a wait that others were granted.
        is_needed: bool,
    },
    /// The wait was in vain or not granted. Members are judged until the log has drained.
    Spent {
        /// The moment from which on it may be asked for again.
        until: Timestamp,
    },
}

impl Grace {
    /// Reviews the state at `now`. No time passes while the shard itself is far behind, because then the members wait for
    /// the shard. An open round alone does not stop the time: a client that sends now and then could keep one open for
    /// ever.
    #[must_use]
    pub(crate) fn review(self, now: Timestamp, log: LogState) -> Grace {
        match self {
            Grace::Spent { until } if now < until && log.trusted_lag_bytes > log.release_mark => {
                self
            }
            Grace::Asked { .. } if log.trusted_lag_bytes <= log.release_mark => Grace::Unneeded,
            Grace::Asked {
                until,
                progress_at,
                is_needed,
            } => {
                let is_needed = is_needed || log.is_over();
                if log.is_shard_behind {
                    return Grace::ask(now, is_needed);
                }
                let progress_at = if log.laggards_progress {
                    now
                } else {
                    progress_at
                };
                if now >= until.min(progress_at + WITHOUT_PROGRESS) {
                    return Grace::spent(now);
                }
                Grace::Asked {
                    until,
                    progress_at,
                    is_needed,
                }
            }
            Grace::Unneeded | Grace::Spent { .. } => {
                let mark = if log.is_granted {
                    log.release_mark
                } else {
                    log.hold_mark
                };
                if log.trusted_lag_bytes <= mark || log.is_shard_behind {
                    return Grace::Unneeded;
                }
                Grace::ask(now, log.is_over())
            }
        }
    }

    fn ask(now: Timestamp, is_needed: bool) -> Grace {
        Grace::Asked {
            until: now + GRACE,
            progress_at: now,
            is_needed,
        }
    }

    /// Nothing could happen for `span`, so that time does not count.
    pub(crate) fn excuse(&mut self, span: Duration) {
        match self {
            Grace::Asked {
                until, progress_at, ..
            } => {
                *until = *until + span;
                *progress_at = *progress_at + span;
            }
            Grace::Unneeded | Grace::Spent { .. } => {}
        }
    }

    /// From `now` on nobody waits any more.
    pub(crate) fn spent(now: Timestamp) -> Grace {
        Grace::Spent {
            until: now + RECOVERY,
        }
    }

    /// Whether publishers are to wait.
    pub(crate) fn is_asked(self) -> bool {
        matches!(self, Grace::Asked { .. })
    }

    /// Whether publishers are to wait on this shard's own account.
    pub(crate) fn is_needed(self) -> bool {
        matches!(
            self,
            Grace::Asked {
                is_needed: true,
                ..
            }
        )
    }

    /// Whether members over the limit are to be judged.
    pub(crate) fn is_spent(self) -> bool {
        matches!(self, Grace::Spent { .. })
    }

    /// The moment of the next review, even if nothing happens.
    pub(crate) fn next_review(self) -> Option<Timestamp> {
        match self {
            Grace::Asked {
                until, progress_at, ..
            } => Some(until.min(progress_at + WITHOUT_PROGRESS)),
            Grace::Unneeded | Grace::Spent { .. } => None,
        }
    }
}

/// The owner's side. See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    wait: Option<Wait>,
    /// Time spent since `since`.
    spent: Duration,
    since: Timestamp,
}

/// A wait that was granted and is not over.
#[derive(Clone, Copy, Debug)]
struct Wait {
    began: Timestamp,
    until: Timestamp,
    /// A shard has given up on its laggards.
    in_vain: bool,
}

impl Allowance {
    /// Asks for a wait at `now`. Says whether there is one. A shard that asks during a wait shares it.
    pub(crate) fn ask(&mut self, now: Timestamp) -> bool {
        if self.wait.is_some() {
            return true;
        }
        if now >= self.since + RECOVERY {
            self.spent = Duration::ZERO;
        }
        let left = GRACE.saturating_sub(self.spent);
        if left < WITHOUT_PROGRESS {
            return false;
        }
        self.wait = Some(Wait {
            began: now,
            until: now + left,
            in_vain: false,
        });
        true
    }

    /// Nothing could happen for `span`, so that time does not count.
    pub(crate) fn excuse(&mut self, span: Duration) {
        if let Some(wait) = &mut self.wait {
            wait.began = wait.began + span;
            wait.until = wait.until + span;
        }
    }

    /// Notes that somebody has waited in vain.
    pub(crate) fn note_in_vain(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.in_vain = true;
        }
    }

    /// Ends the wait. It costs less if everybody has caught up.
    pub(crate) fn end(&mut self, now: Timestamp) {
        let Some(wait) = self.wait.take() else {
            return;
        };
        if self.spent.is_zero() {
            self.since = wait.began;
        }
        let lasted = now.since(wait.began);
        self.spent += if wait.in_vain {
            lasted
        } else {
            lasted / CAUGHT_UP_DISCOUNT
        };
    }

    /// The latest end of the wait, if there is one.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        self.wait.map(|wait| wait.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn log(trusted_lag_bytes: u64) -> LogState {
        LogState {
            trusted_lag_bytes,
            hold_mark: 500,
            release_mark: 250,
            is_shard_behind: false,
            laggards_progress: false,
            is_granted: false,
        }
    }

    fn at(after_ms: u64) -> Timestamp {
        START + Duration::from_millis(after_ms)
    }

    fn review(grace: Grace, after_ms: u64, trusted_lag_bytes: u64) -> Grace {
        grace.review(at(after_ms), log(trusted_lag_bytes))
    }

    fn review_with_progress(grace: Grace, after_ms: u64, trusted_lag_bytes: u64) -> Grace {
        let log = LogState {
            laggards_progress: true,
            ..log(trusted_lag_bytes)
        };
        grace.review(at(after_ms), log)
    }

    fn review_behind(grace: Grace, after_ms: u64, trusted_lag_bytes: u64) -> Grace {
        let log = LogState {
            is_shard_behind: true,
            ..log(trusted_lag_bytes)
        };
        grace.review(at(after_ms), log)
    }

    fn asked() -> Grace {
        review(Grace::default(), 0, 501)
    }

    #[test]
    fn grace_is_asked_for_over_the_mark_and_not_below() {
        assert!(!review(Grace::default(), 0, 500).is_asked());
        assert!(asked().is_asked() && asked().is_needed());
    }

    #[test]
    fn laggards_that_drain_in_time_are_not_judged_and_may_need_it_again() {
        let drained = review(review(asked(), 40, 400), 80, 250);
        assert_eq!(drained, Grace::Unneeded);
        assert!(review(drained, 81, 501).is_asked());
    }

    #[test]
    fn the_wait_ends_early_when_nobody_makes_progress() {
        assert!(review(asked(), 49, 501).is_asked());
        assert!(review(asked(), 50, 501).is_spent());
    }

    #[test]
    fn the_wait_ends_for_members_that_are_too_slow() {
        let mut grace = asked();
        for step in 1..10 {
            grace = review_with_progress(grace, step * 25, 501);
            assert!(grace.is_asked(), "step {step}");
        }
        assert!(review_with_progress(grace, 250, 490).is_spent());
    }

    #[test]
    fn members_are_judged_until_the_log_has_drained() {
        let spent = review(asked(), 50, 501);
        assert!(review(spent, 60, 251).is_spent());
        assert_eq!(review(spent, 60, 250), Grace::Unneeded);
        assert!(review(spent, 5_049, 501).is_spent());
        assert!(review(spent, 5_050, 501).is_asked());
    }

    #[test]
    fn a_wait_that_was_needed_stays_needed_when_the_log_is_below_the_mark_again() {
        let sipped = review_with_progress(asked(), 10, 499);
        assert!(sipped.is_needed());
        assert!(review_behind(sipped, 20, 499).is_needed());
    }

    #[test]
    fn progress_within_one_large_batch_counts() {
        let grace = review_with_progress(asked(), 49, 900);
        assert!(review(grace, 98, 900).is_asked());
        assert!(review(grace, 99, 900).is_spent());
    }

    #[test]
    fn no_time_passes_while_members_wait_for_the_shard() {
        let grace = review_behind(asked(), 1_000, 501);
        assert!(grace.is_asked());
        assert!(review(grace, 1_049, 501).is_asked());
        assert!(review(grace, 1_050, 501).is_spent());
        assert!(!review_behind(Grace::default(), 0, 501).is_asked());
    }

    #[test]
    fn a_shard_that_lags_makes_use_of_a_wait_that_others_were_granted() {
        let during_a_wait = |trusted_lag_bytes| LogState {
            is_granted: true,
            ..log(trusted_lag_bytes)
        };
        let idle = Grace::default().review(START, during_a_wait(250));
        assert_eq!(idle, Grace::Unneeded);
        let joins = Grace::default().review(START, during_a_wait(251));
        assert!(joins.is_asked() && !joins.is_needed());
        // The shard had its time with the others. From now on its laggards are judged.
        assert!(joins.review(at(50), during_a_wait(251)).is_spent());
    }

    /// Asks for a wait that begins after `after_ms` and is in vain for `ms`. Says whether it was granted.
    fn waits_in_vain(allowance: &mut Allowance, after_ms: u64, ms: u64) -> bool {
        let is_granted = allowance.ask(at(after_ms));
        allowance.note_in_vain();
        allowance.end(at(after_ms + ms));
        is_granted
    }

    #[test]
    fn many_that_stall_one_after_the_other_are_waited_for_no_longer_than_one() {
        let mut allowance = Allowance::default();
        let granted: Vec<u64> = (0..50)
            .map(|nth| nth * 90)
            .filter(|&after_ms| waits_in_vain(&mut allowance, after_ms, 50))
            .collect();
        assert_eq!(granted, [0, 90, 180, 270, 360]);
        assert!(waits_in_vain(&mut allowance, 5_000, 50));
    }

    #[test]
    fn waits_that_end_well_take_a_fifth_of_the_time_at_most() {
        let mut allowance = Allowance::default();
        let mut held = Duration::ZERO;
        for nth in 0..1_000 {
            if allowance.ask(at(nth * 50)) {
                allowance.end(at(nth * 50 + 45));
                held += Duration::from_millis(45);
            }
        }
        let allowed = Duration::from_secs(50) / 5;
        assert!(held <= allowed && held > allowed * 3 / 4, "{held:?}");
    }

    #[test]
    fn a_wait_that_ends_well_costs_a_quarter_of_one_in_vain() {
        let mut allowance = Allowance::default();
        assert!(allowance.ask(at(0)));
        allowance.end(at(200));
        assert!(allowance.ask(at(300)));
        assert_eq!(allowance.ends_at(), Some(at(500)));
    }

    #[test]
    fn time_that_was_spent_in_vain_is_not_there_for_others() {
        let mut allowance = Allowance::default();
        assert!(waits_in_vain(&mut allowance, 0, 100));
        assert!(allowance.ask(at(200)));
        assert_eq!(allowance.ends_at(), Some(at(350)));
        allowance.note_in_vain();
        allowance.end(at(350));
        assert!(!allowance.ask(at(4_999)));
        assert!(allowance.ask(at(5_000)));
    }

    #[test]
    fn a_shard_that_asks_during_a_wait_shares_it() {
        let mut allowance = Allowance::default();
        assert!(allowance.ask(at(0)) && allowance.ask(at(200)));
        assert_eq!(allowance.ends_at(), Some(at(250)));
    }
}
