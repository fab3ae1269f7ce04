//! Clients that come back with a place of the engine: from this node, from another one, or from another epoch.
//!
//! Nothing is guessed. A place that this node cannot look up makes it ask the engine first: the client may come from a node that
//! was faster.

use super::effect::{Effect, Request, Resume};
use super::lineage::{Located, Missing};
use super::parcel::Parcel;
use super::resumer::Resumer;
use super::verdict::Synced;
use super::{Context, State, Topic};
use crate::cluster::batch::Arrival;
use crate::cluster::place::Place;

impl<T: Parcel> Topic<T> {
    /// A client comes back with `place`, and counts as a member already. One [`Effect::Resumed`] answers it.
    pub fn resume(&mut self, client: u64, place: Place, cx: &mut Context<'_, T>) {
        self.resumers.push(Resumer {
            client,
            place,
            is_asked: false,
            reach: None,
            finding: None,
        });
        self.note_use(cx);
        self.serve_resumers(cx);
    }

    /// A client that has not been answered is gone.
    pub fn forget_resumer(&mut self, client: u64, cx: &mut Context<'_, T>) {
        self.resumers.retain(|resumer| resumer.client != client);
        self.note_use(cx);
    }

    /// Notes that the engine is asked. A client that comes later may have seen more than the answer knows.
    pub(super) fn note_asked(&mut self) {
        for resumer in &mut self.resumers {
            resumer.is_asked = true;
        }
    }

    /// Notes where the engine is, for clients that wait to hear it.
    pub(super) fn note_reach(&mut self, synced: &Synced) {
        for resumer in &mut self.resumers {
            if resumer.is_asked {
                resumer.reach = Some(synced.at);
            }
        }
    }

    /// Answers all clients that can be answered.
    pub(super) fn serve_resumers(&mut self, cx: &mut Context<'_, T>) {
        if self.resumers.is_empty() || !self.is_joinable() {
            return;
        }
        // The engine is in another epoch already, and mail of ours is under way.
        let is_moving = self
            .place()
            .is_some_and(|place| place.epoch != self.current);
        let mut must_ask = false;
        let mut waiting = std::mem::take(&mut self.resumers);
        waiting.retain_mut(|resumer| {
            if resumer.finding.is_some() {
                return true;
            }
            let is_reached = resumer.reach.is_some_and(|reach| {
                reach.epoch == resumer.place.epoch && resumer.place.last <= reach.last
            });
            let resume = match self.lineage.locate(resumer.place) {
                Located::Here(count) => Resume::Here(count),
                Located::Earlier(missing) => return self.find(resumer, missing, cx),
                Located::Ahead | Located::Unknown if resumer.reach.is_none() => {
                    must_ask = true;
                    return true;
                }
                Located::Ahead if is_moving => return true,
                Located::Ahead | Located::Unknown if is_reached => return true,
                Located::Ahead | Located::Unknown => Resume::Unknown,
            };
            self.resumed(resumer.client, resume, Vec::new(), cx);
            false
        });
        self.resumers = waiting;
        if must_ask && self.state == State::Live {
            self.sync(cx);
        }
        self.note_use(cx);
    }

    /// Asks the engine for messages that this node never had. Returns whether the client waits.
    fn find(&self, resumer: &mut Resumer, missing: Missing, cx: &mut Context<'_, T>) -> bool {
        let Missing {
            first, last, then, ..
        } = missing;
        if !missing.is_findable {
            let lost = last + 1 - first;
            let resume = Resume::Found { lost, then };
            self.resumed(resumer.client, resume, Vec::new(), cx);
            return false;
        }
        if self.is_up {
            resumer.finding = Some((self.round, missing));
            let (client, number, to) = (resumer.client, first, last);
            self.ask(Request::Find { client, number, to }, cx);
        }
        true
    }

    /// Takes what the engine had for a client.
    pub fn on_found(
        &mut self,
        round: u64,
        client: u64,
        entries: Vec<Option<Arrival>>,
        cx: &mut Context<'_, T>,
    ) {
        let is_it = |resumer: &mut Resumer| {
            let asked = resumer.finding.is_some_and(|(asked, _)| asked == round);
            resumer.client == client && asked
        };
        let found = self.resumers.extract_if(.., is_it).next();
        let Some((_, missing)) = found.and_then(|resumer| resumer.finding) else {
            return;
        };
        let found = tail(entries, &missing);
        // The first batch may begin before the first message.
        let from = found
            .first()
            .map_or(missing.last + 1, |arrival| arrival.first);
        let lost = from.saturating_sub(missing.first);
        let then = missing.then;
        self.resumed(client, Resume::Found { lost, then }, found, cx);
        self.note_use(cx);
    }

    fn resumed(&self, client: u64, resume: Resume, found: Vec<Arrival>, cx: &mut Context<'_, T>) {
        // Only a topic with a place looks clients up.
        let Some(at) = self.place() else { return };
        cx.effects.push(Effect::Resumed {
            client,
            resume,
            found,
            at,
        });
    }

    /// Answers that are under way are of no use any more. Clients that wait for one are looked up again.
    pub(super) fn forget_finding(&mut self) {
        for resumer in &mut self.resumers {
            resumer.finding = None;
        }
    }
}

/// The end of `entries` that reaches to the last missing number without a hole, in the epochs that they must have: the engine
/// may have begun the stream anew.
fn tail(mut entries: Vec<Option<Arrival>>, missing: &Missing) -> Vec<Arrival> {
    let mut found = Vec::new();
    let mut end = missing.last;
    while let Some(Some(arrival)) = entries.pop() {
        let epoch = missing.epoch_of(arrival.first);
        if arrival.last() != end || arrival.head.epoch != epoch {
            break;
        }
        end = arrival.first - 1;
        found.push(arrival);
    }
    found.reverse();
    found
}
