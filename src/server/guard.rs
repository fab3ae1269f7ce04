//! Watches the control thread, from the thread that waits in [`RelayHandle::join`](super::RelayHandle::join).
//!
//! The control thread watches the workers and keeps the times of the shutdown. Nobody else would notice if it stood still
//! itself, for example in a read from a file system that hangs. So whoever waits for the relay looks at its pulse.

use std::convert::Infallible;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::error::RunError;
use super::watch::{LOOK_EVERY, News, Watch};
use crate::net::vitals::Vitals;

/// The signs of life of the control thread.
// Relaxed throughout: each value stands for itself.
#[derive(Debug)]
pub(super) struct Pulse {
    turns: AtomicU64,
    /// Set whenever somebody asks for the end, by a signal or a call.
    asked: Arc<AtomicBool>,
    began: Instant,
    /// The process should be gone this many nanoseconds after `began`. [`NO_END`] until the shutdown has begun.
    end_after: AtomicU64,
}

/// See [`Pulse::end_after`]. Six centuries do not end.
const NO_END: u64 = u64::MAX;

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            turns: AtomicU64::new(0),
            asked: Arc::default(),
            began: Instant::now(),
            end_after: AtomicU64::new(NO_END),
        }
    }
}

impl Pulse {
    /// The control thread takes a turn.
    pub(super) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The turns so far.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The flag that is set whenever somebody asks for the end.
    pub(super) fn asked(&self) -> &Arc<AtomicBool> {
        &self.asked
    }

    /// The process should be gone at this time. The earliest that was ever noted counts: a failure on the way, or a second
    /// signal, brings it forward.
    pub(super) fn note_end(&self, end_at: Instant) {
        let after = end_at.saturating_duration_since(self.began).as_nanos();
        let after = u64::try_from(after).unwrap_or(NO_END);
        self.end_after.fetch_min(after, Ordering::Relaxed);
    }

    /// The time at which the process should be gone, once the shutdown has begun.
    pub(super) fn end_at(&self) -> Option<Instant> {
        let after = self.end_after.load(Ordering::Relaxed);
        (after != NO_END).then(|| self.began + Duration::from_nanos(after))
    }
}

/// Waits until the control thread has ended. It fails if that thread stands still and the relay was asked to end: then
/// nothing but the end of the process ends it.
pub(super) fn wait(
    ended: &Receiver<Infallible>,
    pulse: &Pulse,
    vitals: &Vitals,
) -> Result<(), RunError> {
    let mut last_resort = LastResort::new(Instant::now());
    loop {
        match ended.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(never) => match never {},
        }
        let turns = pulse.turns();
        let is_asked = pulse.asked.swap(false, Ordering::Relaxed);
        let end_at = pulse.end_at();
        let (news, is_over) = last_resort.look(Instant::now(), turns, is_asked, end_at);
        for news in news {
            match news {
                News::Silent(_) => {}
                News::Froze(_) => {
                    vitals.note_control(true);
                    error!(
                        "the control thread stands still: nobody is accepted; /livez answers 503"
                    );
                }
                News::Thawed(_, silent_for) => {
                    vitals.note_control(false);
                    info!(?silent_for, "the control thread runs again");
                }
            }
        }
        if is_over {
            return Err(RunError::Frozen("the control thread".into()));
        }
    }
}

/// Decides when it is no use to wait any longer.
struct LastResort {
    watch: Watch,
    /// Requests for the end that the control thread has not moved for.
    asked: u32,
}

impl LastResort {
    fn new(now: Instant) -> LastResort {
        LastResort {
            watch: Watch::new(1, now),
            asked: 0,
        }
    }

    /// The news about the control thread, and whether to give up.
    fn look(
        &mut self,
        now: Instant,
        turns: u64,
        is_asked: bool,
        end_at: Option<Instant>,
    ) -> (Vec<News>, bool) {
        let news = self.watch.look(now, iter::once(turns));
        let silence = self.watch.silence(0);
        self.asked = if silence.is_zero() {
            0
        } else {
            self.asked + u32::from(is_asked)
        };
        // The first request begins the shutdown, the second ends the relay at once.
        let is_urgent = self.asked + u32::from(end_at.is_some()) > 1;
        let is_late = end_at.is_some_and(|end_at| now > end_at);
        let is_asked = self.asked > 0 && self.watch.frozen().is_some();
        let is_over = is_asked || (is_urgent || is_late) && silence >= 2 * LOOK_EVERY;
        (news, is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second at which the wait for a control thread that stands still ends. The relay is asked at some seconds.
    fn given_up_at(asked: &[u32], end_at: Option<u32>) -> Option<u32> {
        let start = Instant::now();
        let at = |second| start + second * LOOK_EVERY;
        let mut last_resort = LastResort::new(start);
        (1..60).find(|&second| {
            let is_asked = asked.contains(&second);
            last_resort.look(at(second), 0, is_asked, end_at.map(at)).1
        })
    }

    #[test]
    fn a_failure_during_a_long_delay_brings_the_end_forward() {
        let pulse = Pulse::default();
        assert_eq!(pulse.end_at(), None);
        let now = Instant::now();
        let (late, soon) = (now + Duration::from_mins(20), now + Duration::from_secs(3));
        for end_at in [late, soon, late] {
            pulse.note_end(end_at);
        }
        assert_eq!(pulse.end_at(), Some(soon));
    }

    #[test]
    fn a_relay_that_nobody_asks_to_end_is_waited_for() {
        assert_eq!(given_up_at(&[], None), None);
    }

    #[test]
    fn the_first_request_waits_until_the_thread_certainly_stands_still() {
        assert_eq!(given_up_at(&[3], None), Some(10));
        assert_eq!(given_up_at(&[20], None), Some(20));
    }

    #[test]
    fn the_second_request_and_the_deadline_end_it_at_once() {
        assert_eq!(given_up_at(&[3, 5], None), Some(5));
        assert_eq!(given_up_at(&[5], Some(50)), Some(5));
        assert_eq!(given_up_at(&[], Some(5)), Some(6));
    }

    #[test]
    fn a_thread_that_moves_is_waited_for_however_often_it_is_asked() {
        let start = Instant::now();
        let mut last_resort = LastResort::new(start);
        for second in 1..60 {
            let now = start + second * LOOK_EVERY;
            let (news, is_over) = last_resort.look(now, u64::from(second), true, Some(start));
            assert!(news.is_empty() && !is_over);
        }
    }
}
