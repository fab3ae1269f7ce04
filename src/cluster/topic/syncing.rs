//! Asks where the topic is in the engine, and acts on the answer: SYNC, fill, fence, audit, and errors.

use std::time::Duration;

use super::effect::{Effect, Request};
use super::parcel::Parcel;
use super::suspicion::Suspicion;
use super::verdict::{Known, Synced, Verdict, Why, judge};
use super::{Context, State, Topic};
use crate::cluster::batch::Arrival;
use crate::cluster::place::{Epoch, Place};
use crate::cluster::trouble::Trouble;

/// The stream may be ahead of the hash for so long. Then both are dropped.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);

impl<T: Parcel> Topic<T> {
    /// The subscription is confirmed: all that is published from now on arrives.
    pub fn on_subscribed(&mut self, round: u64, cx: &mut Context<'_, T>) {
        if round != self.round || self.state != State::Subscribing {
            return;
        }
        self.state = State::Syncing;
        if self.is_up {
            self.sync(cx);
        }
    }

    /// Asks where the topic is.
    pub(super) fn sync(&mut self, cx: &mut Context<'_, T>) {
        self.end_round();
        self.state = State::Syncing;
        self.is_asked = true;
        self.asked_at = cx.now;
        self.asked_place = self.place();
        self.retry.stop();
        self.renew_at = cx.now + self.settings.topic_ttl / 3;
        self.count.note_written(self.members, cx.now);
        self.note_asked();
        self.kept.note_asked();
        let base = self.offers.base();
        self.ask(Request::Sync { base }, cx);
    }

    /// The engine says where the topic is.
    pub fn on_synced(&mut self, round: u64, synced: Synced, cx: &mut Context<'_, T>) {
        if round != self.round || !self.is_asked {
            return;
        }
        self.is_asked = false;
        self.note_heard(cx);
        self.note_reach(&synced);
        if self.is_whole {
            self.sync_whole(synced, cx);
        } else {
            self.sync_broken(synced, cx);
        }
        self.serve_resumers(cx);
        self.note_drain(cx);
    }

    /// If the engine has not heard of this node for too long, it may have forgotten which batch of ours it executed last. Then
    /// the batch on its way must not go again.
    fn note_heard(&mut self, cx: &mut Context<'_, T>) {
        let heard_at = std::mem::replace(&mut self.heard_at, self.asked_at);
        if cx.now.since(heard_at) >= self.settings.topic_ttl {
            self.give_up_on_way(cx);
        }
    }

    fn give_up_on_way(&mut self, cx: &mut Context<'_, T>) {
        if let Some(parcels) = self.offers.take_on_way(cx.meter) {
            cx.effects.push(Effect::GivenUp(parcels));
        }
    }

    /// A whole topic takes only two things: what is executed, and another epoch. A higher number is mail under way.
    fn sync_whole(&mut self, synced: Synced, cx: &mut Context<'_, T>) {
        let is_back = |place: Place| synced.at.epoch == place.epoch && synced.at.last < place.last;
        // Since then, S may have brought more than the engine knew when it answered.
        if self.asked_place.is_some_and(is_back) {
            self.contradict(cx);
            return;
        }
        if synced.at.epoch != self.current && synced.before.epoch != Epoch::NONE {
            // An epoch that took over numbers is of another process, or of ours after it was a replica.
            self.is_whole = false;
            self.sync_broken(synced, cx);
            return;
        }
        self.current = synced.at.epoch;
        self.offers.note_done(synced.done);
        self.release_kept(cx);
        if !self.is_whole || self.is_asked {
            return;
        }
        // If a batch of the new epoch has come already, nothing of the old one is under way.
        let current = self.current;
        if self.place().is_some_and(|place| place.epoch != current) {
            self.state = State::Fencing;
            self.ask(Request::Fence, cx);
        } else {
            self.go_live(cx);
        }
    }

    /// A topic that may have missed something is judged by the table.
    fn sync_broken(&mut self, synced: Synced, cx: &mut Context<'_, T>) {
        match judge(self.known, &synced) {
            Verdict::Begin => {
                self.lineage.begin(synced.at, synced.before);
                self.settle(synced, cx);
            }
            Verdict::Whole => {
                self.move_to(synced.at, cx);
                self.settle(synced, cx);
            }
            Verdict::Fill => {
                self.state = State::Filling;
                self.synced = Some(synced);
                let from = self.place().map_or(1, |place| place.last + 1);
                let to = synced.at.last;
                self.ask(Request::Fill { from, to }, cx);
            }
            Verdict::Tell(why) => self.tell(why, synced, cx),
        }
    }

    /// Takes what the engine still has of the messages that we missed. `None` stands for an entry that is no batch.
    pub fn on_filled(
        &mut self,
        round: u64,
        entries: Vec<Option<Arrival>>,
        cx: &mut Context<'_, T>,
    ) {
        if round != self.round || self.state != State::Filling {
            return;
        }
        let (Some(synced), Some(place)) = (self.synced.take(), self.place()) else {
            return;
        };
        let entries: Option<Vec<Arrival>> = entries.into_iter().collect();
        match entries.filter(|entries| is_whole_fill(entries, place, &synced)) {
            Some(entries) => {
                for arrival in entries {
                    if arrival.first > synced.before.last {
                        self.move_to(synced.at, cx);
                    }
                    self.deliver(arrival, cx);
                }
                self.move_to(synced.at, cx);
                self.settle(synced, cx);
            }
            None => self.tell(Why::Gap, synced, cx),
        }
        self.serve_resumers(cx);
        self.note_drain(cx);
    }

    /// Members hear of a break. Behind it the topic goes on where the engine is.
    fn tell(&mut self, why: Why, synced: Synced, cx: &mut Context<'_, T>) {
        if why == Why::Unknown {
            self.give_up_on_way(cx);
        }
        let lost = self.place().and_then(|place| {
            let is_same = why == Why::Gap && place.epoch == synced.at.epoch;
            is_same.then(|| synced.at.last - place.last)
        });
        self.forget_finding();
        cx.effects.push(Effect::ForgetHistory);
        let at = synced.at;
        cx.effects.push(Effect::Told { why, at, lost });
        self.lineage.begin(at, synced.before);
        self.settle(synced, cx);
    }

    /// The topic is whole from `synced` on.
    fn settle(&mut self, synced: Synced, cx: &mut Context<'_, T>) {
        self.known = Known::UpTo(synced.at);
        self.current = synced.at.epoch;
        self.floor = synced.at.last;
        self.is_settled = false;
        self.is_whole = true;
        if let Some(parcels) = self.offers.take_done(synced.done, cx.meter) {
            cx.effects.push(Effect::Passed(parcels));
        }
        self.offers.note_done(synced.done);
        self.release_kept(cx);
        if self.is_whole && !self.is_asked {
            self.go_live(cx);
        }
    }

    /// Says another epoch to members, if it is one. Nothing is lost.
    pub(super) fn move_to(&mut self, at: Place, cx: &mut Context<'_, T>) {
        let Some(place) = self.place().filter(|place| place.epoch != at.epoch) else {
            return;
        };
        // Numbers go on, unless the epoch began from nothing.
        let last = if at.last == 0 { 0 } else { place.last };
        let at = Place { last, ..at };
        self.known = Known::UpTo(at);
        self.floor = last;
        self.lineage.move_to(at);
        cx.effects.push(Effect::Told {
            why: Why::Moved,
            at,
            lost: Some(0),
        });
    }

    fn go_live(&mut self, cx: &mut Context<'_, T>) {
        self.state = State::Live;
        if self.offers.is_empty() {
            self.note_progress(cx);
        }
        self.note_use(cx);
        self.publish_next(cx);
    }

    /// The numbers went back within an epoch: the server has taken another one's data, which the link is to find out.
    pub(super) fn contradict(&mut self, cx: &mut Context<'_, T>) {
        self.known = Known::Contradicted;
        self.is_whole = false;
        self.forget_finding();
        self.kept.clear(cx.meter);
        self.end_round();
        self.state = State::Syncing;
        self.ask(Request::Suspect, cx);
        self.wait(cx);
    }

    /// Something is missing although the subscription was not broken.
    pub(super) fn distrust(&mut self, cx: &mut Context<'_, T>) {
        self.is_whole = false;
        self.sync(cx);
    }

    /// Asks where the engine is, if all is well and no such question is under way.
    pub fn audit(&mut self, cx: &mut Context<'_, T>) {
        if self.state == State::Live && self.suspicion == Suspicion::None {
            self.suspicion = Suspicion::Asked;
            self.ask(Request::Audit, cx);
        }
    }

    /// An audit's answer: the place of the topic, or `None` if the engine has forgotten it.
    pub fn on_audit(&mut self, round: u64, answer: Option<Place>, cx: &mut Context<'_, T>) {
        let Some(place) = self.place().filter(|_| self.state == State::Live) else {
            return;
        };
        if round != self.round || self.suspicion != Suspicion::Asked {
            return;
        }
        self.suspicion = Suspicion::None;
        match answer {
            None => self.sync(cx),
            Some(at) if Suspicion::is_beyond(place, at) => {
                self.suspicion = Suspicion::Fenced(at);
                self.ask(Request::Fence, cx);
            }
            Some(_) => {}
        }
    }

    /// All has arrived that was published before the fence.
    pub fn on_fence(&mut self, round: u64, cx: &mut Context<'_, T>) {
        if round != self.round {
            return;
        }
        match self.state {
            State::Fencing => self.enter_epoch(cx),
            State::Live => self.judge_suspicion(cx),
            State::Idle | State::Subscribing | State::Syncing | State::Filling => {}
        }
        self.serve_resumers(cx);
        self.note_drain(cx);
    }

    /// Nothing of the old epoch is under way. If a batch of the new one had come, the place would be in it.
    fn enter_epoch(&mut self, cx: &mut Context<'_, T>) {
        let (epoch, last) = (self.current, 0);
        self.move_to(Place { epoch, last }, cx);
        self.is_settled = true;
        self.go_live(cx);
    }

    fn judge_suspicion(&mut self, cx: &mut Context<'_, T>) {
        let Suspicion::Fenced(at) = std::mem::take(&mut self.suspicion) else {
            return;
        };
        if self
            .place()
            .is_some_and(|place| Suspicion::is_beyond(place, at))
        {
            self.distrust(cx);
        }
    }

    /// The engine has refused a request of this topic.
    pub fn on_refused(&mut self, round: u64, trouble: &Trouble, cx: &mut Context<'_, T>) {
        if round != self.round {
            return;
        }
        self.end_round();
        self.state = State::Syncing;
        match trouble {
            Trouble::NotLoaded => {
                // The link loads it first.
                self.sync(cx);
                return;
            }
            Trouble::StreamAhead(_) => {
                let since = *self.retry.ahead_since.get_or_insert(cx.now);
                if cx.now.since(since) >= STREAM_PATIENCE {
                    self.retry.ahead_since = None;
                    self.ask(Request::Reset, cx);
                    self.sync(cx);
                    return;
                }
            }
            Trouble::NotMaster(_) | Trouble::Busy(_) | Trouble::Other(_) => {}
        }
        self.outage.begin(cx.now);
        self.wait(cx);
        self.note_hold(cx);
    }

    fn wait(&mut self, cx: &mut Context<'_, T>) {
        let wait = self.retry.backoff.wait(cx.bits);
        self.retry.at = Some(cx.now + wait);
    }
}

/// Whether `entries` are all messages behind `place` up to `synced`, in the epochs that they must have.
fn is_whole_fill(entries: &[Arrival], place: Place, synced: &Synced) -> bool {
    let mut last = place.last;
    let is_next = |arrival: &Arrival| {
        let is_old = synced.at.epoch != place.epoch && arrival.first <= synced.before.last;
        let epoch = if is_old { place.epoch } else { synced.at.epoch };
        let is_next = arrival.first == last + 1 && arrival.head.epoch == epoch;
        last = arrival.last();
        is_next
    };
    entries.iter().all(is_next) && last == synced.at.last
}
