//! The spread of a shutdown: the order in which clients are closed one after the other, and the moment of each.
//!
//! [`draining`](super::draining) makes it and acts on it. This file only counts.
//!
//! A pause of the process moves the Closes that are left, as it moves deadlines. Otherwise all that were due in the pause
//! would come at once, and the clients back at once. No Close waits for the grace after a pause: it blames nobody.

use std::time::Duration;

use crate::chance::Chance;
use crate::ids::ClientKey;
use crate::time::Timestamp;

/// See the module. An empty one is over.
#[derive(Debug, Default)]
pub(super) struct Spread {
    began: Timestamp,
    span: Duration,
    /// The last Close is not later than this, whatever pauses there are.
    latest: Timestamp,
    /// The number of clients at the beginning, or at the end of the last pause.
    count: u32,
    /// The clients that are left. The last is the next.
    left: Vec<ClientKey>,
}

impl Spread {
    /// Closes `clients` in a random order, from `began` on and at equal intervals, so that the last is closed within `span`.
    /// Pauses may make it later, but the clients that are left are cut after `cut`. Half of the time between both is kept.
    pub(super) fn new(
        began: Timestamp,
        (span, cut): (Duration, Duration),
        mut clients: Vec<ClientKey>,
        chance: &mut Chance,
    ) -> Self {
        chance.shuffle(&mut clients);
        Spread {
            began,
            span,
            latest: began + (span + cut.max(span)) / 2,
            // Slots have 32 bits.
            count: clients.len() as u32,
            left: clients,
        }
    }

    /// The moment of the next Close.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        (!self.left.is_empty()).then(|| self.moment(self.closed()))
    }

    /// The relay stood still for so long. The rest goes on at its pace, or faster if that would be too late.
    pub(super) fn excuse(&mut self, pause: Duration) {
        let Some(next) = self.next_due() else {
            return;
        };
        let end = self.moment(self.count) + pause;
        let end = end.min(self.latest);
        self.began = end.min(next + pause);
        self.span = end.since(self.began);
        // Slots have 32 bits.
        self.count = self.left.len() as u32;
    }

    /// The clients whose moment has come.
    pub(super) fn due(&self, now: Timestamp) -> &[ClientKey] {
        let moments = (self.closed()..self.count).map(|nth| self.moment(nth));
        let due = moments.take_while(|&moment| moment <= now).count();
        &self.left[self.left.len() - due..]
    }

    /// Whether the moment of the last client has come.
    pub(super) fn is_over_at(&self, now: Timestamp) -> bool {
        self.left.is_empty() || self.moment(self.count - 1) <= now
    }

    /// The next client, if its moment has come.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<ClientKey> {
        self.next_due().filter(|&due| due <= now)?;
        self.left.pop()
    }

    fn closed(&self) -> u32 {
        self.count - self.left.len() as u32
    }

    /// The moment of the `nth` client.
    fn moment(&self, nth: u32) -> Timestamp {
        // Divided first, so that the product fits. The nanosecond that this may lose for each client does not matter.
        self.began + self.span / self.count * nth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn spread(count: u32, span: Duration) -> Spread {
        let clients = (0..count).map(ClientKey::first_in).collect();
        Spread::new(START, (span, 2 * span), clients, &mut Chance::new(1))
    }

    /// The number of clients that are closed at a time.
    fn closed(spread: &mut Spread, now: Timestamp) -> usize {
        std::iter::from_fn(|| spread.pop_due(now)).count()
    }

    #[test]
    fn behind_a_pause_the_rest_goes_on_at_its_pace() {
        let second = Duration::from_secs(1);
        let mut spread = spread(100, 10 * second);
        assert_eq!(closed(&mut spread, START + second * 99 / 100), 10);
        spread.excuse(4 * second);
        for seconds in 5..14 {
            assert_eq!(closed(&mut spread, START + seconds * second), 1);
            let end = START + seconds * second + second * 99 / 100;
            assert_eq!(closed(&mut spread, end), 9, "in second {seconds}");
        }
        assert_eq!(spread.next_due(), None);
    }

    #[test]
    fn behind_a_long_pause_the_rest_is_spread_over_half_of_the_time_before_the_cut() {
        let second = Duration::from_secs(1);
        let mut spread = spread(100, 10 * second);
        assert_eq!(closed(&mut spread, START + 5 * second), 51);
        spread.excuse(8 * second);
        let resumed = START + 13 * second;
        // The cut is after 20 s.
        let left = [14, 15].map(|seconds| closed(&mut spread, START + seconds * second));
        assert!(closed(&mut spread, resumed) == 0 && left[0].abs_diff(left[1]) <= 1);
        assert_eq!(left[0] + left[1], 49);
        // Behind that, they are closed at once.
        let mut spread = self::spread(100, 10 * second);
        spread.excuse(30 * second);
        assert_eq!(closed(&mut spread, START + 30 * second), 100);
    }

    #[test]
    fn closes_are_spread_evenly_and_the_last_is_within_the_span() {
        let span = Duration::from_secs(10);
        for count in [1, 3, 1_000, 1_000_000] {
            let mut spread = spread(count, span);
            assert_eq!(spread.next_due(), Some(START));
            let half = START + span / 2;
            let early = std::iter::from_fn(|| spread.pop_due(half)).count() as u32;
            assert!(early.abs_diff(count.div_ceil(2)) <= 1, "{early} of {count}");
            let late = std::iter::from_fn(|| spread.pop_due(START + span)).count() as u32;
            assert_eq!(early + late, count);
            assert_eq!(spread.next_due(), None);
        }
    }

    #[test]
    fn nobody_is_closed_before_the_moment_has_come() {
        let mut spread = spread(10, Duration::from_secs(10));
        assert!(spread.pop_due(START).is_some());
        let early = START + Duration::from_millis(999);
        assert!(spread.pop_due(early).is_none());
        assert!(spread.pop_due(START + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn without_clients_or_without_a_span_it_is_over_at_once() {
        assert_eq!(Spread::default().next_due(), None);
        let mut at_once = spread(7, Duration::ZERO);
        assert_eq!(std::iter::from_fn(|| at_once.pop_due(START)).count(), 7);
    }
}
