//! The rules for members that lag: the limits, and the decision, in one place.
//!
//! A member lags when its socket accepts less than its topic brings. A member that merely has not been visited yet does not
//! lag. The limits are the same for every transport, because messages always wait in the log.

pub(crate) mod answers;
pub(crate) mod departure;
pub(crate) mod grace;
pub(crate) mod rate;
pub(crate) mod senders;

use std::time::Duration;

use crate::config::{SlowConsumer, SlowConsumerPolicy};
use crate::relay::hold::Hold;
use crate::relay::policy::grace::{Grace, LogState};
use crate::time::Timestamp;

/// Publishers of a topic wait while its log holds more than `max_lag_bytes` divided by this. Under `backpressure` they wait for
/// any member that lags. Under every policy they wait for a shard that is behind with its visits. Otherwise they wait as long
/// as [`Grace`] lasts.
const HOLD_SHARE: u64 = 2;

/// They go on when it holds less than `max_lag_bytes` divided by this.
const RELEASE_SHARE: u64 = 4;

/// A publisher that itself lags by `max_lag_bytes` divided by this is not read. So a client that sends faster than it reads
/// is slowed down before it pushes others like it over the limit.
const OWN_LAG_SHARE: u64 = 4;

/// Publishers wait only for members that have accepted `max_lag_bytes` divided by this. By default this is half a megabyte,
/// more than the socket buffers hold for a client that never reads.
const PROBATION_SHARE: u64 = 8;

/// All shards together may have `max_lag_bytes` divided by this on the way to a topic's log, and each shard one read more.
/// So the messages that come between a hold and its effect hardly ever put a member over the limit.
const WINDOW_SHARE: u64 = 4;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    policy: SlowConsumerPolicy,
    max_lag_bytes: u64,
    /// Bytes of messages that one shard may have on their way to one topic's log.
    pub window_bytes: u64,
    /// The longest time a member may accept nothing while it is owed something.
    pub stall_timeout: Duration,
    /// The longest wait for a client's part of the closing handshake, and for its last bytes to be accepted.
    pub close_timeout: Duration,
}

/// The fate of a member whose socket is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go on lagging.
    Keep,
    /// It skips to the head, and the skipped messages are counted.
    Skip,
    /// It is disconnected with 1013.
    Disconnect,
}

/// The lag of a topic's members on one shard, and the holds because of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lag {
    /// The lag of the slowest member.
    pub lag_bytes: u64,
    /// The lag of the slowest member that publishers may wait for.
    pub trusted_bytes: u64,
    /// The most that a member lags only because it has not been visited yet: how far the shard itself is behind.
    pub unvisited_bytes: u64,
    /// The shard asks for a hold already.
    pub is_holding: bool,
    /// The owner holds publishers for laggards, on this or another shard.
    pub is_granted: bool,
    /// The shard is short of memory.
    pub is_pressed: bool,
    /// Whether the shard waits for its laggards.
    pub grace: Grace,
}

impl Policy {
    /// The policy of a relay with `shards` shards.
    pub(crate) fn new(config: &SlowConsumer, shards: u16) -> Self {
        let max_lag_bytes = config.max_lag_bytes as u64;
        Policy {
            policy: config.policy,
            max_lag_bytes,
            window_bytes: max_lag_bytes / WINDOW_SHARE / u64::from(shards.max(1)),
            stall_timeout: config.stall_timeout,
            close_timeout: config.close_timeout,
        }
    }

    /// The verdict on a blocked member that lags by `lag_bytes`.
    pub(crate) fn verdict(&self, lag_bytes: u64) -> Verdict {
        if lag_bytes <= self.max_lag_bytes {
            return Verdict::Keep;
        }
        match self.policy {
            SlowConsumerPolicy::Disconnect => Verdict::Disconnect,
            SlowConsumerPolicy::Drop => Verdict::Skip,
            SlowConsumerPolicy::Backpressure => Verdict::Keep,
        }
    }

    /// The cost of the messages that a member has to accept, since it joined or skipped, before publishers wait for it.
    /// Otherwise clients that never read would use up the time that others deserve.
    pub(crate) fn probation_bytes(&self) -> u64 {
        self.max_lag_bytes / PROBATION_SHARE
    }

    /// The most that a member may lag, in bytes. Below it, [`Policy::verdict`] keeps every member.
    pub(crate) fn max_lag_bytes(&self) -> u64 {
        self.max_lag_bytes
    }

    /// The hold that a shard wants on a topic's publishers, if any.
    pub(crate) fn wants_hold(&self, lag: Lag) -> Option<Hold> {
        let mark = if lag.is_pressed { 0 } else { self.mark(lag) };
        if self.is_lossless() && lag.lag_bytes > mark {
            return Some(Hold::Open);
        }
        if lag.unvisited_bytes > mark {
            return Some(Hold::Open);
        }
        lag.grace.is_asked().then_some(Hold::Grace)
    }

    fn mark(&self, lag: Lag) -> u64 {
        if lag.is_holding {
            self.release_mark()
        } else {
            self.hold_mark()
        }
    }

    /// The state of a topic's grace at `now`. Under `backpressure`, which waits as long as it takes, there is none.
    pub(crate) fn review_grace(&self, now: Timestamp, lag: Lag, laggards_progress: bool) -> Grace {
        if self.is_lossless() {
            return Grace::Unneeded;
        }
        let log = LogState {
            trusted_lag_bytes: lag.trusted_bytes,
            hold_mark: self.hold_mark(),
            release_mark: self.release_mark(),
            // The log's size does not count: a laggard may be the cause of it.
            is_shard_behind: lag.unvisited_bytes > self.mark(lag),
            laggards_progress,
            is_granted: lag.is_granted,
        };
        lag.grace.review(now, log)
    }

    /// Whether grace is for members that lag by `lag_bytes`.
    pub(crate) fn is_behind(&self, lag_bytes: u64) -> bool {
        lag_bytes > self.release_mark()
    }

    /// Whether a client that resumes `lag_bytes` behind replays first, and becomes a member later. With a single batch to go it
    /// does not: on a busy topic with large messages, it would replay for ever.
    pub(crate) fn has_to_replay(&self, lag_bytes: u64, is_one_batch: bool) -> bool {
        let most = if is_one_batch {
            self.max_lag_bytes
        } else {
            self.release_mark()
        };
        lag_bytes > most
    }

    /// Whether a publisher that lags by `lag_bytes` may be read.
    pub(crate) fn may_publish(&self, lag_bytes: u64) -> bool {
        lag_bytes <= self.max_lag_bytes / OWN_LAG_SHARE
    }

    /// Whether laggards skip to the head, and are not disconnected.
    pub(crate) fn skips(&self) -> bool {
        self.policy == SlowConsumerPolicy::Drop
    }

    fn is_lossless(&self) -> bool {
        self.policy == SlowConsumerPolicy::Backpressure
    }

    fn hold_mark(&self) -> u64 {
        self.max_lag_bytes / HOLD_SHARE
    }

    fn release_mark(&self) -> u64 {
        self.max_lag_bytes / RELEASE_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(policy: SlowConsumerPolicy) -> Policy {
        let config = SlowConsumer {
            policy,
            max_lag_bytes: 1000,
            ..SlowConsumer::default()
        };
        Policy::new(&config, 2)
    }

    #[test]
    fn a_laggard_is_judged_by_the_policy_once_it_is_over_the_limit() {
        for (rule, over) in [
            (SlowConsumerPolicy::Disconnect, Verdict::Disconnect),
            (SlowConsumerPolicy::Drop, Verdict::Skip),
            (SlowConsumerPolicy::Backpressure, Verdict::Keep),
        ] {
            assert_eq!(policy(rule).verdict(1000), Verdict::Keep);
            assert_eq!(policy(rule).verdict(1001), over);
        }
    }

    fn lag(lag_bytes: u64) -> Lag {
        Lag {
            lag_bytes,
            trusted_bytes: lag_bytes,
            unvisited_bytes: 0,
            is_holding: false,
            is_granted: false,
            is_pressed: false,
            grace: Grace::Unneeded,
        }
    }

    #[test]
    fn only_backpressure_holds_publishers_for_a_member_without_end() {
        let wish = |rule| policy(rule).wants_hold(lag(501));
        assert_eq!(wish(SlowConsumerPolicy::Backpressure), Some(Hold::Open));
        assert_eq!(wish(SlowConsumerPolicy::Disconnect), None);
        assert_eq!(wish(SlowConsumerPolicy::Drop), None);
    }

    #[test]
    fn a_shard_that_is_behind_with_its_own_work_holds_publishers_under_every_policy() {
        let wish = |lag_bytes| {
            policy(SlowConsumerPolicy::Disconnect).wants_hold(Lag {
                unvisited_bytes: lag_bytes,
                ..lag(lag_bytes)
            })
        };
        assert_eq!(wish(501), Some(Hold::Open));
        assert_eq!(wish(500), None);
    }

    #[test]
    fn the_lag_of_a_laggard_is_not_taken_for_the_shards_own() {
        let wish = |grace, unvisited_bytes| {
            policy(SlowConsumerPolicy::Disconnect).wants_hold(Lag {
                grace,
                unvisited_bytes,
                is_holding: true,
                ..lag(900)
            })
        };
        let now = Timestamp(0);
        let asked = policy(SlowConsumerPolicy::Disconnect).review_grace(now, lag(501), false);
        for (grace, otherwise) in [
            (Grace::Unneeded, None),
            (asked, Some(Hold::Grace)),
            (Grace::spent(now), None),
        ] {
            assert_eq!(wish(grace, 250), otherwise);
            assert_eq!(wish(grace, 251), Some(Hold::Open));
        }
    }

    #[test]
    fn time_for_laggards_passes_while_the_shard_is_a_little_behind_but_not_while_it_is_far_behind()
    {
        let review = |unvisited_bytes| {
            let lag = Lag {
                unvisited_bytes,
                ..lag(900)
            };
            policy(SlowConsumerPolicy::Disconnect).review_grace(Timestamp(0), lag, false)
        };
        assert!(review(500).is_asked());
        assert_eq!(review(501), Grace::Unneeded);
    }

    #[test]
    fn the_shards_share_the_window_of_a_topic() {
        assert_eq!(policy(SlowConsumerPolicy::Disconnect).window_bytes, 125);
    }

    #[test]
    fn under_pressure_publishers_wait_for_any_lag_but_not_for_members_that_may_be_cut() {
        let wish = |rule, unvisited_bytes| {
            policy(rule).wants_hold(Lag {
                is_pressed: true,
                unvisited_bytes,
                ..lag(1)
            })
        };
        assert_eq!(wish(SlowConsumerPolicy::Backpressure, 0), Some(Hold::Open));
        assert_eq!(wish(SlowConsumerPolicy::Disconnect, 1), Some(Hold::Open));
        assert_eq!(wish(SlowConsumerPolicy::Disconnect, 0), None);
    }

    #[test]
    fn a_hold_ends_well_below_where_it_began() {
        let wish = |lag_bytes| {
            policy(SlowConsumerPolicy::Backpressure).wants_hold(Lag {
                is_holding: true,
                ..lag(lag_bytes)
            })
        };
        assert_eq!(wish(251), Some(Hold::Open));
        assert_eq!(wish(250), None);
    }
}
