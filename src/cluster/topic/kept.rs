//! Arrivals that cannot be delivered yet, in the order in which they came.

use std::collections::VecDeque;

use super::meter::Meter;
use crate::cluster::batch::Arrival;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    arrivals: VecDeque<Arrival>,
    cost_bytes: u64,
    /// So many of the first came before SYNC was asked. Its answer is newer than they are. About the others it says nothing.
    asked_after: usize,
}

impl Kept {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Memory of all, in bytes.
    pub(crate) fn cost_bytes(&self) -> u64 {
        self.cost_bytes
    }

    /// Keeps an arrival, if the worker has room for it.
    #[must_use]
    pub(crate) fn push(&mut self, arrival: Arrival, meter: &mut Meter) -> bool {
        let cost = arrival.cost_bytes();
        let has_room = meter.has_room(cost);
        if has_room {
            meter.change(0, cost);
            self.cost_bytes += cost;
            self.arrivals.push_back(arrival);
        }
        has_room
    }

    /// Notes that SYNC is asked now.
    pub(crate) fn note_asked(&mut self) {
        self.asked_after = self.arrivals.len();
    }

    /// Takes the first, and whether SYNC was asked since it came.
    pub(crate) fn pop(&mut self, meter: &mut Meter) -> Option<(Arrival, bool)> {
        let arrival = self.arrivals.pop_front()?;
        let cost = arrival.cost_bytes();
        meter.change(cost, 0);
        self.cost_bytes -= cost;
        let is_asked_after = self.asked_after > 0;
        self.asked_after = self.asked_after.saturating_sub(1);
        Some((arrival, is_asked_after))
    }

    /// Drops all.
    pub(crate) fn clear(&mut self, meter: &mut Meter) {
        meter.change(self.cost_bytes, 0);
        *self = Kept::default();
    }
}
