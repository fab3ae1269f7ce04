//! One coarse timing wheel per shard. It says which clients to look at.
//!
//! [`deadlines`](super::deadlines) puts clients in. The wheel hands each out once it is due, or at its horizon if that
//! is sooner. The shard then looks up the client's real deadline. So a deadline that moves to a later time costs nothing, and
//! keep-alive moves with every byte read.
//!
//! A client may be in the wheel more than once. The earliest entry counts; the others find nothing due.

use crate::ids::ClientKey;
use crate::time::Timestamp;

/// Resolution in microseconds. It is fine for timeouts of seconds, and so coarse that most turns find nothing due.
pub(super) const TICK_MICROS: u64 = 20_000;

/// Slots in the wheel: a horizon of 20 s. A client that is due later waits in the last slot and is then put in again.
const SLOTS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<ClientKey>>,
    /// Everything up to this tick, inclusive, was handed out.
    done: u64,
    /// The earliest tick that has an entry.
    next: Option<u64>,
}

impl Wheel {
    /// An empty wheel that starts at `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            done: now.0 / TICK_MICROS,
            next: None,
        }
    }

    /// Asks for `client` at `due` or up to a tick later, but at the horizon at the latest. Returns the moment.
    pub(super) fn schedule(&mut self, client: ClientKey, due: Timestamp) -> Timestamp {
        let tick = due
            .0
            .div_ceil(TICK_MICROS)
            .clamp(self.done + 1, self.done + SLOTS as u64 - 1);
        self.slots[slot(tick)].push(client);
        self.next = Some(self.next.map_or(tick, |next| next.min(tick)));
        Timestamp(tick * TICK_MICROS)
    }

    /// Moves the clients that are due at `now` to `due`. Says whether there are any.
    pub(super) fn take_due(&mut self, now: Timestamp, due: &mut Vec<ClientKey>) -> bool {
        let until = now.0 / TICK_MICROS;
        if self.next.is_none_or(|next| next > until) {
            self.done = self.done.max(until);
            return false;
        }
        let lapse = until.saturating_sub(self.done).min(SLOTS as u64);
        for tick in self.done + 1..=self.done + lapse {
            // Taken whole: a slot that held a crowd gives its memory back.
            due.append(&mut std::mem::take(&mut self.slots[slot(tick)]));
        }
        self.done = until;
        let mut ahead = until + 1..=until + SLOTS as u64;
        self.next = ahead.find(|&tick| !self.slots[slot(tick)].is_empty());
        !due.is_empty()
    }

    /// The time of the next look. `None` while the wheel is empty.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.next.map(|tick| Timestamp(tick * TICK_MICROS))
    }
}

fn slot(tick: u64) -> usize {
    // The remainder is below SLOTS.
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: Timestamp = Timestamp(1_000_000);

    fn due_at(wheel: &mut Wheel, now: Timestamp) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.take_due(now, &mut due);
        due.iter().map(|client| client.slot).collect()
    }

    #[test]
    fn a_client_is_handed_out_once_and_never_early() {
        let mut wheel = Wheel::new(START);
        let due = START + Duration::from_millis(50);
        wheel.schedule(ClientKey::first_in(1), due);
        assert_eq!(due_at(&mut wheel, Timestamp(due.0 - 1)), [0u32; 0]);
        assert_eq!(due_at(&mut wheel, Timestamp(due.0 + TICK_MICROS)), [1]);
        assert_eq!(
            due_at(&mut wheel, START + Duration::from_mins(1)),
            [0u32; 0]
        );
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn a_client_that_is_due_already_is_handed_out_at_the_next_tick() {
        let mut wheel = Wheel::new(START);
        wheel.schedule(ClientKey::first_in(1), Timestamp(0));
        assert_eq!(due_at(&mut wheel, Timestamp(START.0 + TICK_MICROS)), [1]);
    }

    #[test]
    fn a_client_that_is_due_beyond_the_horizon_is_handed_out_at_the_horizon() {
        let mut wheel = Wheel::new(START);
        wheel.schedule(ClientKey::first_in(1), START + Duration::from_hours(1));
        let next = wheel.next_due().unwrap();
        assert!(next < START + Duration::from_secs(30));
        assert_eq!(due_at(&mut wheel, next), [1]);
    }

    #[test]
    fn a_clock_that_jumps_hands_out_everything_once() {
        let mut wheel = Wheel::new(START);
        for n in 0..100 {
            wheel.schedule(
                ClientKey::first_in(n),
                START + Duration::from_millis(u64::from(n) * 97),
            );
        }
        let mut due = due_at(&mut wheel, START + Duration::from_secs(100_000));
        due.sort_unstable();
        assert_eq!(due, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_next_moment_to_look_is_that_of_the_earliest_client() {
        let mut wheel = Wheel::new(START);
        wheel.schedule(ClientKey::first_in(1), START + Duration::from_millis(900));
        wheel.schedule(ClientKey::first_in(2), START + Duration::from_millis(40));
        assert_eq!(wheel.next_due(), Some(START + Duration::from_millis(40)));
    }
}
