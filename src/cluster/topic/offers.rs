//! A topic's pending messages: the batch on its way, and what waits for its turn.
//!
//! One batch is on its way per topic. The next one grows meanwhile. A batch gets its number (`seq`) when it is sent for the
//! first time, and keeps it: the engine knows by it whether it has executed the batch.

use std::collections::VecDeque;

use super::meter::Meter;
use super::parcel::Parcel;

/// Memory of a parcel beside its frames, in bytes: a share of the tables.
const PARCEL_BYTES: u64 = 64;

/// How far a batch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The engine has not executed it, as far as we know: send it, maybe again.
    ToSend,
    /// It is on its way, or the engine has executed it. Only the echo says that it has its place.
    Sent,
}

/// The batch on its way.
#[derive(Debug)]
pub struct Offer<T> {
    /// The node's number of the batch in this topic.
    pub seq: u64,
    /// The parcels that the owner handed in, in order.
    pub parcels: Vec<T>,
    /// Messages in all of them.
    pub count: u32,
    /// Bytes of their frames.
    pub len_bytes: usize,
    pub(crate) stage: Stage,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Offers<T> {
    on_way: Option<Offer<T>>,
    waiting: VecDeque<T>,
    last_seq: u64,
    cost_bytes: u64,
    max_batch_bytes: usize,
}

impl<T: Parcel> Offers<T> {
    /// Nothing yet. The first batch gets a number above `high_water`.
    pub(crate) fn new(high_water: u64, max_batch_bytes: usize) -> Self {
        Offers {
            on_way: None,
            waiting: VecDeque::new(),
            last_seq: high_water,
            cost_bytes: 0,
            max_batch_bytes,
        }
    }

    /// Appends a parcel.
    pub(crate) fn push(&mut self, parcel: T, meter: &mut Meter) {
        let cost = cost_of(&parcel);
        self.cost_bytes += cost;
        meter.change(0, cost);
        self.waiting.push_back(parcel);
    }

    /// Whether nothing is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.on_way.is_none() && self.waiting.is_empty()
    }

    /// Memory of all that is pending, in bytes.
    pub(crate) fn cost_bytes(&self) -> u64 {
        self.cost_bytes
    }

    /// The batch on its way.
    pub(crate) fn on_way(&self) -> Option<&Offer<T>> {
        self.on_way.as_ref()
    }

    /// The number of the first batch that the engine may get from us.
    pub(crate) fn base(&self) -> u64 {
        self.on_way
            .as_ref()
            .map_or(self.last_seq + 1, |offer| offer.seq)
    }

    /// The highest number that was ever given.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The number of the batch that is to be sent now, if one is. It counts as sent.
    pub(crate) fn send(&mut self) -> Option<u64> {
        if self.on_way.is_none() && !self.waiting.is_empty() {
            self.on_way = Some(self.gather());
        }
        let offer = self.on_way.as_mut()?;
        let is_due = offer.stage == Stage::ToSend;
        offer.stage = Stage::Sent;
        is_due.then_some(offer.seq)
    }

    /// A batch of what waits: at least one parcel, and as many as fit.
    fn gather(&mut self) -> Offer<T> {
        self.last_seq += 1;
        let mut offer = Offer {
            seq: self.last_seq,
            parcels: Vec::new(),
            count: 0,
            len_bytes: 0,
            stage: Stage::ToSend,
        };
        while let Some(next) = self.waiting.front() {
            let len = offer.len_bytes + next.len_bytes();
            if len > self.max_batch_bytes && !offer.parcels.is_empty() {
                break;
            }
            offer.len_bytes = len;
            offer.count += next.messages();
            offer.parcels.extend(self.waiting.pop_front());
        }
        offer
    }

    /// Notes what the engine says: it has executed our batches up to `done`. A later one is sent again.
    pub(crate) fn note_done(&mut self, done: u64) {
        if let Some(offer) = &mut self.on_way {
            offer.stage = if offer.seq <= done {
                Stage::Sent
            } else {
                Stage::ToSend
            };
        }
    }

    /// Takes the batch `seq`, which has come back.
    pub(crate) fn confirm(&mut self, seq: u64, meter: &mut Meter) -> Option<Vec<T>> {
        let is_it = self.on_way.as_ref().is_some_and(|offer| offer.seq == seq);
        if is_it { self.take_on_way(meter) } else { None }
    }

    /// Takes the batch on its way, if its number is at most `done`.
    pub(crate) fn take_done(&mut self, done: u64, meter: &mut Meter) -> Option<Vec<T>> {
        let is_done = self.on_way.as_ref().is_some_and(|offer| offer.seq <= done);
        if is_done {
            self.take_on_way(meter)
        } else {
            None
        }
    }

    /// Takes the batch that was sent at least once.
    pub(crate) fn take_on_way(&mut self, meter: &mut Meter) -> Option<Vec<T>> {
        let parcels = self.on_way.take()?.parcels;
        self.give_back(&parcels, meter);
        Some(parcels)
    }

    /// Takes all that was never sent.
    pub(crate) fn take_waiting(&mut self, meter: &mut Meter) -> Vec<T> {
        let parcels = Vec::from(std::mem::take(&mut self.waiting));
        self.give_back(&parcels, meter);
        parcels
    }

    fn give_back(&mut self, parcels: &[T], meter: &mut Meter) {
        let cost: u64 = parcels.iter().map(cost_of).sum();
        self.cost_bytes -= cost;
        meter.change(cost, 0);
    }
}

fn cost_of(parcel: &impl Parcel) -> u64 {
    parcel.len_bytes() as u64 + PARCEL_BYTES
}
