//! Judges what the subscription brings.

use super::effect::Effect;
use super::parcel::Parcel;
use super::verdict::Known;
use super::{Context, State, Topic};
use crate::cluster::batch::Arrival;
use crate::cluster::place::Place;

/// Which epoch an arrival is of.
enum Kind {
    /// Of that of the place.
    Same,
    /// Of that in which we publish, and its first: the place is in the one before.
    Next,
    /// Of another one.
    Other,
}

impl<T: Parcel> Topic<T> {
    /// A batch arrived. `None` stands for bytes that are no batch.
    pub fn on_arrival(&mut self, arrival: Option<Arrival>, cx: &mut Context<'_, T>) {
        match self.state {
            // It was published before the subscription that counts.
            State::Idle | State::Subscribing => return,
            State::Syncing | State::Filling | State::Fencing | State::Live => {}
        }
        let Some(arrival) = arrival else {
            // There may have been a batch in its place. Anybody may publish rubbish, so members are told only if it is true.
            self.audit(cx);
            return;
        };
        if self.is_whole && self.kept.is_empty() {
            self.accept(arrival, false, cx);
        } else {
            self.keep(arrival, cx);
        }
        self.serve_resumers(cx);
        self.note_drain(cx);
    }

    /// Takes what was kept, in the order in which it came. The engine has said where it is, but S may be ahead of that answer.
    pub(super) fn release_kept(&mut self, cx: &mut Context<'_, T>) {
        let mut kept = std::mem::take(&mut self.kept);
        while let Some((arrival, is_verified)) = kept.pop(cx.meter) {
            if self.is_whole && self.kept.is_empty() {
                self.accept(arrival, is_verified, cx);
            } else {
                self.keep(arrival, cx);
            }
        }
    }

    /// Takes a batch of a whole topic. `is_verified`: SYNC was asked and answered since it came.
    fn accept(&mut self, arrival: Arrival, is_verified: bool, cx: &mut Context<'_, T>) {
        let Some(place) = self.place() else { return };
        match self.kind(&arrival, place) {
            Kind::Same if arrival.first == place.last + 1 => {
                self.is_settled = true;
                self.deliver(arrival, cx);
            }
            Kind::Same if arrival.first > place.last => self.jump(arrival, cx),
            Kind::Same if arrival.last() <= self.floor => {}
            Kind::Same => self.contradict(cx),
            Kind::Next => self.enter(arrival, cx),
            Kind::Other if !is_verified => self.keep_and_ask(arrival, cx),
            // The engine is where we are. So this was published before it said so.
            Kind::Other if self.current == place.epoch && !self.is_settled => {}
            Kind::Other if self.current == place.epoch => self.distrust(cx),
            Kind::Other if arrival.first == 1 && self.is_settled => self.enter(arrival, cx),
            Kind::Other => self.jump(arrival, cx),
        }
    }

    fn kind(&self, arrival: &Arrival, place: Place) -> Kind {
        if arrival.head.epoch == place.epoch {
            Kind::Same
        } else if arrival.head.epoch == self.current && arrival.first == 1 {
            Kind::Next
        } else {
            Kind::Other
        }
    }

    /// Takes the first batch of an epoch that began from nothing.
    fn enter(&mut self, arrival: Arrival, cx: &mut Context<'_, T>) {
        let (epoch, last) = (arrival.head.epoch, 0);
        self.move_to(Place { epoch, last }, cx);
        self.is_settled = true;
        self.deliver(arrival, cx);
    }

    /// Batches are missing before this one, although the subscription was not broken.
    fn jump(&mut self, arrival: Arrival, cx: &mut Context<'_, T>) {
        self.is_whole = false;
        if self.is_up {
            self.sync(cx);
        }
        self.keep(arrival, cx);
    }

    /// Another epoch: it is believed once the engine has answered.
    fn keep_and_ask(&mut self, arrival: Arrival, cx: &mut Context<'_, T>) {
        self.keep(arrival, cx);
        if self.is_up && self.is_whole {
            self.sync(cx);
        }
    }

    /// Keeps a batch, or drops all that is kept and asks again: then what was dropped is filled.
    fn keep(&mut self, arrival: Arrival, cx: &mut Context<'_, T>) {
        if self.kept.push(arrival, cx.meter) {
            return;
        }
        self.kept.clear(cx.meter);
        self.is_whole = false;
        if self.is_up {
            self.sync(cx);
        }
    }

    /// Hands a batch to members: it is the next one.
    pub(super) fn deliver(&mut self, arrival: Arrival, cx: &mut Context<'_, T>) {
        let (epoch, last) = (arrival.head.epoch, arrival.last());
        self.known = Known::UpTo(Place { epoch, last });
        let is_ours = arrival.head.node == self.settings.node;
        let ours = if is_ours {
            self.offers.confirm(arrival.head.seq, cx.meter)
        } else {
            None
        };
        let is_progress = ours.is_some();
        self.lineage.advance(u64::from(arrival.head.count));
        cx.effects.push(Effect::Deliver { arrival, ours });
        if is_progress {
            self.note_progress(cx);
            self.publish_next(cx);
        }
    }
}
