//! Topics that an engine numbers: offers go out, and batches of all relays come back.
//!
//! The owner hands what it has joined to the engine's side, and delivers only what comes back from there, its own messages too.
//! A topic has one offer on its way, so the next one grows meanwhile. Messages that come back are joined and fanned out as drafts
//! are.
//!
//! Every offer comes back once: its sources get their bytes back, and its requests their answers, whatever became of it.

use super::cluster::Cluster;
use super::engined::{Engined, Joiner, Link};
use super::found::{Found, ends_of};
use super::offer::Offer;
use super::posts::Told;
use super::receipts::Due;
use super::{Desk, Owner, gauge};
use crate::cluster::batch::Arrival;
use crate::cluster::place::Place;
use crate::cluster::topic::Topic;
use crate::cluster::topic::effect::{Effect, Resume};
use crate::cluster::topic::verdict::Why;
use crate::ids::{Seq, ShardId};
use crate::metrics::stats::Stat;
use crate::port::position::{Position, Start};
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::envelope::Envelope;
use crate::relay::places::{Mark, position_of};
use crate::relay::posting::Verdict;
use crate::time::Timestamp;

/// The fate of offers that are not delivered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    GivenUp,
    Dropped,
}

impl Owner {
    /// The engine's side of a topic. It is called on first use, and again when the engine's side had forgotten the topic.
    fn link(&mut self, slot: usize) -> Option<Link> {
        let topic = &mut self.topics[slot];
        let name = topic.name.clone();
        let engined = topic.engined_mut()?;
        if let Some(link) = engined.link {
            return Some(link);
        }
        let cluster = self.cluster.as_deref_mut()?;
        let (key, delivered) = cluster.open(engined.engine, &name, slot);
        let base = Seq(engined.end().0 - delivered);
        let link = Link { key, base };
        engined.link = Some(link);
        Some(link)
    }

    /// Tells the engine's side how many members the topic has here, if that is news.
    pub(super) fn tell_members(&mut self, slot: usize, now: Timestamp) {
        let Some(topic) = self.topics.get(slot) else {
            return;
        };
        let members = u64::from(topic.audience().total());
        let Some(engined) = topic.engined() else {
            return;
        };
        if engined.told_members == members && (engined.link.is_some() || members == 0) {
            return;
        }
        let engine = engined.engine;
        if self.is_out_of_reach(slot) {
            return;
        }
        let Some(link) = self.link(slot) else { return };
        if let Some(engined) = self.topics[slot].engined_mut() {
            engined.told_members = members;
        }
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.engines_mut()[engine].on_members(link.key, members, now);
        }
    }

    /// A client joins, or asks for more of what is kept. It waits until the topic is where the engine is.
    pub(super) fn await_place(&mut self, slot: usize, joiner: Joiner, desk: &mut Desk<'_>) {
        self.tell_members(slot, desk.now);
        if let Some(Start::At(position)) = joiner.start
            && position.epoch == self.epoch
        {
            // It has joined before, and has read all of its list. The engine need not be there.
            return self.answer_subscribe(slot, &joiner, None, desk);
        }
        if let Some(engined) = self.topics[slot].engined_mut() {
            engined.joiners.push(joiner);
        }
        self.hear_engines(desk);
        self.seat_joiners(slot, desk);
        self.note_joiners(slot);
    }

    fn note_joiners(&mut self, slot: usize) {
        let waits = |engined: &Engined| !engined.joiners.is_empty();
        let waits = self.topics[slot].engined().is_some_and(waits);
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.note_joining(slot, waits);
        }
    }

    /// The clients of a shard that wait have gone.
    pub(super) fn forget_joiners(&mut self, slot: usize, from: ShardId, now: Timestamp) {
        let Some(engined) = self.topics[slot].engined_mut() else {
            return;
        };
        let gone: Vec<Joiner> = engined
            .joiners
            .extract_if(.., |joiner| joiner.shard == from)
            .collect();
        let (engine, link) = (engined.engine, engined.link);
        for joiner in gone {
            if let (Some(link), Some(asked), Some(cluster)) =
                (link, joiner.asked, self.cluster.as_deref_mut())
            {
                cluster.engines_mut()[engine].forget_resumer(link.key, asked, now);
            }
        }
        self.note_joiners(slot);
    }

    /// Answers the clients that wait for a topic, if they can be answered.
    fn seat_joiners(&mut self, slot: usize, desk: &mut Desk<'_>) {
        let Some(engined) = self.topics[slot].engined() else {
            return;
        };
        if engined.joiners.is_empty() {
            return;
        }
        let (engine, link) = (engined.engine, engined.link);
        let Some(cluster) = self.cluster.as_deref() else {
            return;
        };
        let engine_topic = link.and_then(|link| cluster.engines()[engine].get(link.key));
        let place = engine_topic
            .filter(|topic| topic.is_joinable())
            .and_then(Topic::place);
        let is_away = !cluster.engines()[engine].is_up() || self.is_ending;
        match place {
            Some(place) => self.seat_all(slot, place, desk),
            None if is_away => self.refuse_all(slot, desk),
            None => {}
        }
    }

    /// The topic is at `place`, behind all that has come back.
    fn seat_all(&mut self, slot: usize, place: Place, desk: &mut Desk<'_>) {
        let Some(engined) = self.topics[slot].engined_mut() else {
            return;
        };
        if engined.places.is_empty() {
            engined.places.push(Mark::silent(engined.end(), place));
        }
        let joiners = std::mem::take(&mut engined.joiners);
        let mut waiting = Vec::new();
        for mut joiner in joiners {
            match joiner.start {
                Some(Start::At(position)) => {
                    if joiner.asked.is_none() {
                        joiner.asked = self.ask_for_place(slot, position, desk.now);
                    }
                    if joiner.asked.is_some() {
                        waiting.push(joiner);
                        continue;
                    }
                    // It is not a place that any engine has given.
                    joiner.start = Some(Start::Unknown);
                    self.confirm(slot, &joiner, desk);
                }
                Some(_) | None => self.confirm(slot, &joiner, desk),
            }
        }
        if let Some(engined) = self.topics[slot].engined_mut() {
            engined.joiners.append(&mut waiting);
        }
    }

    /// Asks the engine's side where a client goes on. Returns the name of the question; `None` if it can have no answer.
    fn ask_for_place(&mut self, slot: usize, position: Position, now: Timestamp) -> Option<u64> {
        let bits = position.epoch.to_bits()?;
        let place = Place {
            epoch: crate::cluster::place::Epoch(bits),
            last: position.next.0,
        };
        let engine = self.topics[slot].engined()?.engine;
        let link = self.link(slot)?;
        let cluster = self.cluster.as_deref_mut()?;
        let asked = cluster.next_question();
        cluster.engines_mut()[engine].resume(link.key, asked, place, now);
        Some(asked)
    }

    fn confirm(&mut self, slot: usize, joiner: &Joiner, desk: &mut Desk<'_>) {
        self.answer_subscribe(slot, joiner, None, desk);
    }

    fn refuse_all(&mut self, slot: usize, desk: &mut Desk<'_>) {
        let topic = &mut self.topics[slot];
        let name = topic.name.clone();
        let Some(engined) = topic.engined_mut() else {
            return;
        };
        let (engine, link) = (engined.engine, engined.link);
        for joiner in std::mem::take(&mut engined.joiners) {
            let refused = Envelope::Refused {
                topic: name.clone(),
                client: joiner.client,
            };
            desk.outbox.send(joiner.shard, refused);
            if let (Some(link), Some(asked), Some(cluster)) =
                (link, joiner.asked, self.cluster.as_deref_mut())
            {
                cluster.engines_mut()[engine].forget_resumer(link.key, asked, desk.now);
            }
        }
    }

    /// Whether the topic is new here, and its engine is away. The engine's side is then not told of it, so that requests in an
    /// outage leave nothing behind.
    fn is_out_of_reach(&self, slot: usize) -> bool {
        let engined = self.topics[slot].engined();
        let Some((engined, cluster)) = engined.zip(self.cluster.as_deref()) else {
            return false;
        };
        engined.link.is_none() && !cluster.engines()[engined.engine].is_up()
    }

    /// Offers what is pending in a topic to its engine.
    pub(super) fn offer(&mut self, slot: usize, desk: &mut Desk<'_>) {
        let topic = &mut self.topics[slot];
        let (drafts, gauged) = topic.take_offer(desk.now);
        gauge(desk.stats, gauged);
        let Some(engine) = self.topics[slot].engined().map(|engined| engined.engine) else {
            return;
        };
        let link = if self.is_out_of_reach(slot) {
            None
        } else {
            self.link(slot)
        };
        let mut dues = self.receipts.take(slot).into_iter().peekable();
        let mut end = 0;
        for draft in drafts {
            let first = end;
            end += draft.len() as u64;
            let mut of_draft = Vec::new();
            while let Some(mut due) = dues.next_if(|due| due.next.0 <= end) {
                due.next = Seq(due.next.0 - first);
                of_draft.push(due);
            }
            let offer = Offer {
                draft,
                dues: of_draft,
            };
            match (link, self.cluster.as_deref_mut()) {
                (Some(link), Some(cluster)) => {
                    cluster.engines_mut()[engine].publish(link.key, offer, desk.now);
                }
                (Some(_), None) | (None, _) => {
                    self.give_back(slot, vec![offer], Fate::Dropped, desk);
                }
            }
        }
        debug_assert!(dues.next().is_none(), "each part is in some draft");
        if link.is_some() {
            self.tell_members(slot, desk.now);
        }
    }

    /// Takes what the engines have for the topics of this shard.
    pub(crate) fn hear_engines(&mut self, desk: &mut Desk<'_>) {
        let mut forgotten = Vec::new();
        loop {
            let Some(cluster) = self.cluster.as_deref_mut() else {
                return;
            };
            let events = cluster.take_events();
            if events.is_empty() {
                break;
            }
            for (engine, key, effect) in events {
                let slot = self.cluster.as_deref().and_then(|it| it.slot(engine, key));
                let Some(slot) = slot else {
                    // The topic was left, and has nothing on its way.
                    continue;
                };
                if matches!(effect, Effect::ForgetHistory) {
                    forgotten.push(slot);
                }
                self.on_effect(slot, effect, desk);
            }
        }
        // Only now: the events behind may be the topic's last.
        for slot in forgotten {
            self.unlink_if_left(slot, desk);
        }
        self.answer_questions(desk);
        let joining = self.cluster.as_deref().map(Cluster::joining);
        for slot in joining.into_iter().flatten() {
            self.seat_joiners(slot, desk);
            self.note_joiners(slot);
        }
    }

    fn on_effect(&mut self, slot: usize, effect: Effect<Offer>, desk: &mut Desk<'_>) {
        match effect {
            Effect::Ask { .. } => unreachable!("the engine's side asks for itself"),
            Effect::Deliver { arrival, ours } => self.on_arrival(slot, &arrival, ours, desk),
            Effect::Told { why, at, lost } => self.on_told(slot, (why, at, lost), desk),
            Effect::ForgetHistory => self.on_forgotten(slot, desk),
            Effect::Passed(offers) => self.give_back(slot, offers, Fate::Passed, desk),
            Effect::GivenUp(offers) => self.give_back(slot, offers, Fate::GivenUp, desk),
            Effect::Dropped(offers) => self.give_back(slot, offers, Fate::Dropped, desk),
            Effect::Unsure => self.on_unsure(slot, desk),
            Effect::Out => {
                let topic = &self.topics[slot];
                for shard in topic.subscribers() {
                    let topic = topic.name.clone();
                    desk.outbox.send(shard, Envelope::Out { topic });
                }
            }
            Effect::Hold(is_held) => {
                if let Some(engined) = self.topics[slot].engined_mut() {
                    engined.is_held = is_held;
                }
                self.tell_if_held(slot, desk);
            }
            Effect::Resumed {
                client,
                resume,
                found,
                ..
            } => self.on_resumed(slot, client, (resume, &found), desk),
            Effect::Drained => {}
        }
    }

    /// A batch has its place, and is the next one.
    fn on_arrival(
        &mut self,
        slot: usize,
        arrival: &Arrival,
        ours: Option<Vec<Offer>>,
        desk: &mut Desk<'_>,
    ) {
        if let Some(engined) = self.topics[slot].engined_mut()
            && engined.places.is_empty()
        {
            let (epoch, last) = (arrival.head.epoch, arrival.first - 1);
            let mark = Mark::silent(engined.end(), Place { epoch, last });
            engined.places.push(mark);
        }
        let Some(offers) = ours else {
            let draft = Draft::arrived(desk.now, &arrival.frames, ends_of(&arrival.frames));
            return self.take_in(slot, draft);
        };
        let members = self.topics[slot].audience().total();
        let mut told = Told::default();
        let mut before = arrival.first - 1;
        for Offer { draft, dues } in offers {
            let messages = draft.len() as u64;
            for due in dues {
                let verdict = Verdict::Numbered {
                    next: Seq(before + due.next.0),
                    members,
                    epoch: Some(arrival.head.epoch),
                };
                self.answer_due(due, verdict, &mut told);
            }
            before += messages;
            self.take_in(slot, draft);
        }
        told.send(&self.topics[slot], false, desk.outbox);
    }

    fn answer_due(&mut self, due: Due, verdict: Verdict, told: &mut Told) {
        match due.name {
            None => told.add(due.shard, due.ticket, verdict),
            Some(name) => {
                for (shard, ticket) in self.keys.complete(&name, verdict) {
                    told.add(shard, ticket, verdict);
                }
            }
        }
    }

    fn take_in(&mut self, slot: usize, draft: Draft) {
        let Some(engined) = self.topics[slot].engined_mut() else {
            return;
        };
        if engined.take_in(draft)
            && let Some(cluster) = self.cluster.as_deref_mut()
        {
            cluster.note_arrived(slot);
        }
    }

    /// The engine's numbers do not simply go on.
    fn on_told(
        &mut self,
        slot: usize,
        (why, at, lost): (Why, Place, Option<u64>),
        desk: &mut Desk<'_>,
    ) {
        self.release_arrivals(slot, false, desk);
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.tally_mut().note_told(why);
        }
        let topic = &mut self.topics[slot];
        let Some(engined) = topic.engined_mut() else {
            return;
        };
        let mark = Mark {
            next: engined.next,
            at: position_of(at),
            lost,
            is_break: why != Why::Moved,
        };
        engined.places.push(mark);
        for shard in topic.subscribers() {
            let marked = Envelope::Mark {
                topic: topic.name.clone(),
                mark: Box::new(mark),
            };
            desk.outbox.send(shard, marked);
        }
    }

    /// The kept messages do not lead up to the next one.
    fn on_forgotten(&mut self, slot: usize, desk: &mut Desk<'_>) {
        self.release_arrivals(slot, false, desk);
        let topic = &mut self.topics[slot];
        if let Some(history) = &mut topic.history {
            history.drop_batches();
        }
        if let Some(engined) = topic.engined_mut() {
            engined.places.clear();
        }
        self.shelve(slot, desk.stats);
    }

    /// If the engine's side has left the topic, its life there is over.
    fn unlink_if_left(&mut self, slot: usize, desk: &mut Desk<'_>) {
        let Some(cluster) = self.cluster.as_deref_mut() else {
            return;
        };
        let topic = &mut self.topics[slot];
        let name = topic.name.clone();
        let Some(engined) = topic.engined_mut() else {
            return;
        };
        let Some(link) = engined.link else { return };
        if !cluster.is_left(engined.engine, link.key) {
            return;
        }
        cluster.close(engined.engine, link.key);
        engined.link = None;
        engined.told_members = 0;
        engined.is_held = false;
        self.tell_if_held(slot, desk);
        self.deserted.push(name);
    }

    /// Offers come back that are not delivered here.
    fn give_back(&mut self, slot: usize, offers: Vec<Offer>, fate: Fate, desk: &mut Desk<'_>) {
        let verdict = match fate {
            Fate::Passed => Verdict::Passed,
            Fate::GivenUp => Verdict::Unsure,
            Fate::Dropped => Verdict::Out,
        };
        let mut told = Told::default();
        for Offer { draft, dues } in offers {
            if let Some(cluster) = self.cluster.as_deref_mut() {
                let messages = draft.len() as u64;
                let tally = cluster.tally_mut();
                match fate {
                    Fate::Passed => tally.passed += messages,
                    Fate::GivenUp => tally.given_up += messages,
                    Fate::Dropped => tally.dropped += messages,
                }
            }
            for share in draft.shares() {
                match share.source {
                    Source::Members(shard) => {
                        let returned = Envelope::Returned {
                            topic: self.topics[slot].name.clone(),
                            bytes: u64::from(share.bytes),
                            is_dropped: fate == Fate::Dropped,
                        };
                        desk.outbox.send(shard, returned);
                    }
                    Source::Outsiders(shard) => self.topics[slot].owe(shard, share.bytes),
                    Source::Elsewhere => {}
                }
            }
            for due in dues {
                self.answer_due(due, verdict, &mut told);
            }
        }
        let topic = &mut self.topics[slot];
        told.send(topic, false, desk.outbox);
        // Publishers may be held for long, and a topic does not wait because of these messages.
        topic.acknowledge(desk.outbox);
        if topic.is_unused() {
            self.deserted.push(topic.name.clone());
        }
    }

    /// The batch on its way has been so for too long. Its requests are told that nobody knows.
    fn on_unsure(&mut self, slot: usize, desk: &mut Desk<'_>) {
        let topic = &self.topics[slot];
        let engined = topic.engined();
        let on_way = engined.and_then(|engined| {
            let cluster = self.cluster.as_deref()?;
            cluster.engines()[engined.engine]
                .get(engined.link?.key)?
                .on_way()
        });
        let mut told = Told::default();
        let parcels = on_way.into_iter().flat_map(|offer| &offer.parcels);
        for due in parcels.flat_map(|offer| &offer.dues) {
            match &due.name {
                None => told.add(due.shard, due.ticket, Verdict::Unsure),
                // The key is under way as long as the batch is: a repeat must not be published beside it.
                Some(name) => {
                    for (shard, ticket) in self.keys.dismiss(name) {
                        told.add(shard, ticket, Verdict::Unsure);
                    }
                }
            }
        }
        told.send(topic, false, desk.outbox);
    }

    /// The engine's side knows where a client goes on.
    fn on_resumed(
        &mut self,
        slot: usize,
        asked: u64,
        (resume, found): (Resume, &[Arrival]),
        desk: &mut Desk<'_>,
    ) {
        self.release_arrivals(slot, false, desk);
        let epoch = self.epoch;
        let Some(engined) = self.topics[slot].engined_mut() else {
            return;
        };
        let Some(link) = engined.link else { return };
        let joiner = engined
            .joiners
            .extract_if(.., |joiner| joiner.asked == Some(asked))
            .next();
        let Some(mut joiner) = joiner else { return };
        let start = |count| {
            Start::At(Position {
                epoch,
                next: Seq(link.base.0 + count),
            })
        };
        match resume {
            Resume::Here(count) => {
                joiner.start = Some(start(count));
                self.confirm(slot, &joiner, desk);
            }
            Resume::Unknown => {
                joiner.start = Some(Start::Unknown);
                self.confirm(slot, &joiner, desk);
            }
            Resume::Found { lost, then } => {
                let asked = joiner.start.replace(start(then));
                let last = match asked {
                    Some(Start::At(position)) => position.next.0,
                    Some(_) | None => 0,
                };
                let end = Seq(link.base.0 + then);
                let found = Found::new(found, (last, lost), end, joiner.form);
                self.answer_subscribe(slot, &joiner, Some(found), desk);
            }
        }
        self.note_joiners(slot);
    }

    /// Fans out what has come back and does not have to wait; in haste, all of it.
    pub(super) fn fan_out_arrived(&mut self, is_in_haste: bool, desk: &mut Desk<'_>) {
        let Some(cluster) = self.cluster.as_deref_mut() else {
            return;
        };
        let arrived = cluster.take_arrived();
        for &slot in &arrived {
            let Some(topic) = self.topics.get_mut(slot) else {
                continue;
            };
            let coalesce = topic.conduct.coalesce;
            let Some(engined) = topic.engined_mut() else {
                continue;
            };
            if engined.arrived().is_empty() {
                // It had to go out before a mark.
                continue;
            }
            if !is_in_haste && engined.has_to_wait(desk.now, &coalesce) {
                let (due, gauged) = engined.postpone();
                if let Some(cluster) = self.cluster.as_deref_mut() {
                    cluster.agenda_mut().insert(due, slot);
                }
                gauge(desk.stats, gauged);
            } else {
                self.release_arrivals(slot, is_in_haste, desk);
            }
        }
        while let Some(slot) = self.next_arrived(is_in_haste, desk.now) {
            self.release_arrivals(slot, is_in_haste, desk);
        }
        for slot in arrived {
            if let Some(engined) = self
                .topics
                .get_mut(slot)
                .and_then(|topic| topic.engined_mut())
            {
                engined.note_wait();
            }
        }
    }

    fn next_arrived(&self, is_in_haste: bool, now: Timestamp) -> Option<usize> {
        let agenda = self.cluster.as_deref()?.agenda();
        if is_in_haste {
            agenda.next()
        } else {
            agenda.next_due(now)
        }
    }

    /// Numbers what has come back, and sends it to the shards with members.
    pub(super) fn release_arrivals(&mut self, slot: usize, is_in_haste: bool, desk: &mut Desk<'_>) {
        let topic = &mut self.topics[slot];
        let Some(engined) = topic.engined() else {
            return;
        };
        if engined.arrived().is_empty() {
            return;
        }
        let waited = engined.arrived().waited() as u64;
        if let (Some(due), Some(cluster)) = (engined.due(), self.cluster.as_deref_mut()) {
            cluster.agenda_mut().remove(due, slot, desk.now);
        }
        desk.stats.add(Stat::Coalesced, waited);
        let (batches, gauged) = topic.sequence_arrived(desk.now);
        gauge(desk.stats, gauged);
        self.spread(slot, batches, is_in_haste, desk);
    }

    /// Notes whether a shard with members of the topic cannot keep up.
    pub(super) fn note_open_hold(&mut self, slot: usize) {
        let is_open = self.topics[slot].has_open_hold();
        if let Some(cluster) = self.cluster.as_deref_mut() {
            cluster.note_open_hold(slot, is_open);
        }
    }

    /// Nothing is published any more. Each topic of an engine is done when nothing of it is pending, at the latest at `until`.
    pub(crate) fn drain_engines(&mut self, until: Timestamp, desk: &mut Desk<'_>) {
        if let Some(cluster) = self.cluster.as_deref_mut() {
            for engine in cluster.engines_mut() {
                engine.drain(until, desk.now);
            }
        }
        self.hear_engines(desk);
    }

    /// Whether something has come back that no fan-out has looked at.
    pub(crate) fn has_arrived(&self) -> bool {
        self.cluster.as_deref().is_some_and(Cluster::has_arrived)
    }

    /// Whether nothing more will come from the engines.
    pub(crate) fn are_engines_drained(&self) -> bool {
        self.cluster.as_deref().is_none_or(Cluster::is_drained)
    }
}
