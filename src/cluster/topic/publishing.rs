//! Takes what the topic's owner hands in: sending, holding, outages, the drain.

use super::effect::{Effect, Request};
use super::parcel::Parcel;
use super::{Context, State, Topic};
use crate::time::Timestamp;

/// Answers of the script that publishes.
const OTHER_EPOCH: i64 = -1;
const OTHER_SEQ: i64 = -2;

impl<T: Parcel> Topic<T> {
    /// Takes a parcel. It comes back in exactly one effect: delivered, passed, given up or dropped.
    pub fn publish(&mut self, parcel: T, cx: &mut Context<'_, T>) {
        if self.outage.is_given_up || self.is_drained {
            cx.effects.push(Effect::Dropped(vec![parcel]));
            return;
        }
        self.offers.push(parcel, cx.meter);
        self.open(cx);
        self.note_use(cx);
        self.publish_next(cx);
        self.note_hold(cx);
    }

    /// Whether publishers of the topic must be refused: nothing could be published for too long.
    pub fn is_out(&self) -> bool {
        self.outage.is_given_up
    }

    /// Sends the next batch, if none is on its way.
    pub(super) fn publish_next(&mut self, cx: &mut Context<'_, T>) {
        if self.state != State::Live || !self.is_up || self.is_drained {
            return;
        }
        if let Some(seq) = self.offers.send() {
            let epoch = self.current;
            self.ask(Request::Publish { epoch, seq }, cx);
        }
    }

    /// The engine's answer to a batch. A number says nothing yet: only the echo does, because a master that accepted the batch
    /// may be gone before anybody hears of it.
    pub fn on_published(&mut self, round: u64, answer: i64, cx: &mut Context<'_, T>) {
        let is_refused = answer == OTHER_EPOCH || answer == OTHER_SEQ;
        if round == self.round && is_refused && self.state == State::Live {
            self.sync(cx);
        }
    }

    /// A batch has its place, or nothing is pending: there is no outage.
    pub(super) fn note_progress(&mut self, cx: &mut Context<'_, T>) {
        if self.is_up {
            self.outage.end();
            self.retry.note_success();
        }
        self.note_use(cx);
        self.note_hold(cx);
    }

    /// Tells publishers to wait or to go on, if that is news.
    pub(super) fn note_hold(&mut self, cx: &mut Context<'_, T>) {
        let is_full = self.offers.cost_bytes() > self.settings.max_pending_bytes;
        let is_held = self.outage.since.is_some() || is_full || cx.meter.is_over();
        if is_held != self.is_held {
            self.is_held = is_held;
            cx.effects.push(Effect::Hold(is_held));
        }
    }

    /// Looks again whether publishers must wait for the memory of the worker.
    pub fn on_room(&mut self, cx: &mut Context<'_, T>) {
        self.note_hold(cx);
    }

    /// Nothing could be published for too long. Messages that were never sent are dropped: they must not go out minutes later,
    /// when their sender has tried again. A batch that was sent stays.
    pub(super) fn end_patience(&mut self, cx: &mut Context<'_, T>) {
        self.outage.is_given_up = true;
        let waiting = self.offers.take_waiting(cx.meter);
        if !waiting.is_empty() {
            cx.effects.push(Effect::Dropped(waiting));
        }
        if self.offers.on_way().is_some() {
            cx.effects.push(Effect::Unsure);
        }
        cx.effects.push(Effect::Out);
        self.note_use(cx);
    }

    /// The relay ends. The topic says when nothing is pending any more, at the latest at `until`.
    pub fn drain(&mut self, until: Timestamp, cx: &mut Context<'_, T>) {
        self.drain_until = Some(until);
        self.note_drain(cx);
    }

    /// Ends the drain if nothing is pending. It comes last in an event: behind it nothing is delivered.
    pub(super) fn note_drain(&mut self, cx: &mut Context<'_, T>) {
        if self.drain_until.is_some() && self.offers.is_empty() {
            self.end_drain(cx);
        }
    }

    pub(super) fn end_drain(&mut self, cx: &mut Context<'_, T>) {
        self.drain_until = None;
        if self.is_drained {
            return;
        }
        let sent = self.offers.take_on_way(cx.meter);
        let waiting = self.offers.take_waiting(cx.meter);
        let given_up: Vec<T> = sent.into_iter().flatten().chain(waiting).collect();
        if !given_up.is_empty() {
            cx.effects.push(Effect::GivenUp(given_up));
        }
        self.is_drained = true;
        self.kept.clear(cx.meter);
        self.go_idle();
        cx.effects.push(Effect::Drained);
    }
}
