//! Waits that double, with jitter, so that many nodes do not come back at one moment.

use std::time::Duration;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `first` up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// The next wait: between half of it and all of it, as `bits` decide.
    pub(crate) fn wait(&mut self, bits: u64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        let half = wait / 2;
        half + half.mul_f64((bits % 1024) as f64 / 1023.0)
    }

    /// All is well: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_below() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(2_000));
        let waits = [(); 7].map(|()| backoff.wait(1023));
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 2_000].map(ms));
        assert_eq!(backoff.wait(0), ms(1_000));
        backoff.reset();
        assert_eq!(backoff.wait(0), ms(25));
    }
}
