//! A topic as its owner sees it: the shards that subscribe, the next number, and the shards that ask its publishers to wait.

use std::sync::Arc;
use std::time::Duration;

use super::coalesce::Coalesce;
use super::deflation::{Deflation, Takers};
use super::engined::Engined;
use super::history::History;
use super::pending::{Gauged, Pending};
use super::sequencer::Sequencer;
use super::shelf::Shelved;
use super::windows::Windows;
use crate::config::Config;
use crate::ids::{Seq, ShardId};
use crate::metrics::stats::Stats;
use crate::port::position::Epoch;
use crate::port::terms::Form;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::conduct::{Conduct, Conducts};
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::outbox::Outbox;
use crate::relay::policy::grace::Allowance;
use crate::time::Timestamp;

/// The owner's side of a topic.
#[derive(Debug)]
pub struct OwnedTopic {
    /// Its name.
    pub(crate) name: TopicName,
    /// Its settings. They stay the same for its life.
    pub(super) conduct: Arc<Conduct>,
    sequencer: Sequencer,
    /// Shards with members, in the order they came.
    subscribers: Vec<Subscriber>,
    /// Those of them that asked to hold the publishers, and how.
    holders: Vec<(ShardId, Hold)>,
    /// The time that publishers may wait for laggards, on all shards together.
    allowance: Allowance,
    /// The hold that subscribers were told of last.
    told: Option<Hold>,
    /// Messages that are published and not numbered.
    pending: Pending,
    /// Numbered messages for clients that come later, if the topic keeps any.
    pub(super) history: Option<Box<History>>,
    /// Its place in the list of topics with a history, if it has one.
    pub(super) shelved: Option<Shelved>,
    /// Memory of these messages that the shard's gauge counts, in bytes.
    pub(super) gauged_history_bytes: u64,
    /// The state of its compression, while members take compressed frames.
    deflation: Option<Box<Deflation>>,
    /// Bytes of outsiders that are numbered, of which their shards have not been told. A shard is here once.
    unacknowledged: Vec<(ShardId, u64)>,
    /// It is in the turn's list of topics that got messages.
    is_listed: bool,
    /// The end of the interval after the last fan-out.
    open_from: Timestamp,
    /// The pending messages wait until then.
    is_waiting: bool,
}

/// A shard that has members.
#[derive(Clone, Copy, Debug)]
struct Subscriber {
    shard: ShardId,
    /// As the shard said last: when it published, when a client joined there, or when many had left.
    audience: Audience,
    /// Members that wait for a key, as far as the owner knows.
    waiting: u32,
}

impl Subscriber {
    fn takers(&self) -> Takers {
        let all = self.audience.count(Form::Deflated);
        Takers {
            all,
            // Some of them may have left.
            waiting: self.waiting.min(all),
        }
    }
}

impl OwnedTopic {
    /// A topic without subscribers and messages, with the default settings. It keeps no messages.
    pub fn new(name: TopicName) -> Self {
        let conducts = Conducts::new(&Config::default(), 1);
        OwnedTopic::born(name, Seq(0), conducts.general().clone())
    }

    /// A topic without subscribers and messages, whose first message is number `next`.
    pub(super) fn born(name: TopicName, next: Seq, conduct: Arc<Conduct>) -> Self {
        let history = conduct
            .retention
            .map(|keep| Box::new(History::new(keep, next)));
        OwnedTopic {
            conduct,
            name,
            sequencer: Sequencer::local(next),
            subscribers: Vec::new(),
            holders: Vec::new(),
            allowance: Allowance::default(),
            told: None,
            pending: Pending::default(),
            history,
            shelved: None,
            gauged_history_bytes: 0,
            deflation: None,
            unacknowledged: Vec::new(),
            is_listed: false,
            open_from: Timestamp(0),
            is_waiting: false,
        }
    }

    /// The same, for an engine to number its messages.
    pub(super) fn in_engine(
        name: TopicName,
        engine: usize,
        next: Seq,
        conduct: Arc<Conduct>,
    ) -> Self {
        OwnedTopic {
            sequencer: Sequencer::of_engine(engine, next),
            ..OwnedTopic::born(name, next, conduct)
        }
    }

    /// The engine's side of the topic, if an engine numbers it.
    pub(super) fn engined(&self) -> Option<&Engined> {
        match &self.sequencer {
            Sequencer::Local { .. } => None,
            Sequencer::Engine(engined) => Some(engined),
        }
    }

    /// The same, to change it.
    pub(super) fn engined_mut(&mut self) -> Option<&mut Engined> {
        match &mut self.sequencer {
            Sequencer::Local { .. } => None,
            Sequencer::Engine(engined) => Some(engined),
        }
    }

    /// A topic of an earlier process: its first message was number `born`, and its next one is number `next`.
    pub(super) fn restored(name: TopicName, born: Seq, next: Seq, conduct: Arc<Conduct>) -> Self {
        OwnedTopic {
            sequencer: Sequencer::local(next),
            ..OwnedTopic::born(name, born, conduct)
        }
    }

    /// The number of the next message.
    pub(crate) fn next(&self) -> Seq {
        self.sequencer.next()
    }

    /// The shards that get the topic's batches.
    pub(crate) fn subscribers(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.subscribers.iter().map(|subscriber| subscriber.shard)
    }

    /// The hold on publishers, if there is one. A hold for laggards comes before an open one.
    pub(crate) fn held(&self) -> Option<Hold> {
        let holds = || self.holders.iter().map(|&(_, hold)| hold);
        let asked = holds().find(|&hold| hold == Hold::Grace).or(holds().next());
        let is_out = || self.engined().is_some_and(|engined| engined.is_held);
        asked.or_else(|| is_out().then_some(Hold::Open))
    }

    /// The hold to tell the subscribers of, if it is not the one that they were told of last.
    #[expect(
        clippy::option_option,
        reason = "the news may be that there is no hold"
    )]
    pub(crate) fn take_news(&mut self) -> Option<Option<Hold>> {
        let held = self.held();
        (std::mem::replace(&mut self.told, held) != held).then_some(held)
    }

    /// Whether the topic may be forgotten: it has no subscriber, nothing to number, nothing to tell outsiders, and keeps no
    /// message.
    pub(crate) fn is_unused(&self) -> bool {
        self.subscribers.is_empty()
            && self.pending.is_empty()
            && self.unacknowledged.is_empty()
            && self
                .history
                .as_ref()
                .is_none_or(|history| history.is_empty())
            && self.engined().is_none_or(Engined::is_unused)
    }

    /// Whether some shard has members.
    pub(super) fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// Adds a shard, which may be there already, and notes its members.
    pub fn subscribe(&mut self, shard: ShardId, audience: Audience) {
        match self.subscriber_mut(shard) {
            Some(subscriber) => subscriber.audience = audience,
            None => self.subscribers.push(Subscriber {
                shard,
                audience,
                waiting: 0,
            }),
        }
    }

    /// Notes that `members` of a shard wait for a key.
    pub(super) fn note_waiting(&mut self, shard: ShardId, members: u32, windows: &Windows) {
        let Some(compression) = self.conduct.compression else {
            return;
        };
        if let Some(subscriber) = self.subscriber_mut(shard) {
            subscriber.waiting = subscriber.takers().waiting.saturating_add(members);
        }
        self.deflation
            .get_or_insert_with(|| Box::new(Deflation::new(compression, windows)));
    }

    fn takers(&self) -> Takers {
        let mut takers = Takers { all: 0, waiting: 0 };
        for Takers { all, waiting } in self.subscribers.iter().map(Subscriber::takers) {
            takers.all = takers.all.saturating_add(all);
            takers.waiting = takers.waiting.saturating_add(waiting);
        }
        takers
    }

    /// Gives the window back if no member takes compressed frames.
    pub(super) fn end_deflation_if_unused(&mut self, windows: &mut Windows, stats: &mut Stats) {
        if self.deflation.is_some()
            && self.takers().all == 0
            && let Some(deflation) = self.deflation.take()
        {
            deflation.end(windows, stats);
        }
    }

    /// Makes the compressed frames of batches that were just numbered and that nobody has yet, in their order.
    pub(super) fn deflate(
        &mut self,
        batches: &mut [Arc<Batch>],
        windows: &mut Windows,
        now: Timestamp,
        stats: &mut Stats,
    ) {
        if self.deflation.is_none() {
            return;
        }
        self.end_deflation_if_unused(windows, stats);
        let mut takers = self.takers();
        let Some(deflation) = &mut self.deflation else {
            return;
        };
        for batch in batches {
            if deflation.deflate(Arc::make_mut(batch), takers, windows, now, stats) {
                takers.waiting = 0;
                for subscriber in &mut self.subscribers {
                    subscriber.waiting = 0;
                }
            }
        }
    }

    /// Whether it has a window for its compressed frames. For tests.
    pub(super) fn has_window(&self, windows: &Windows) -> bool {
        let deflation = self.deflation.as_ref();
        deflation.is_some_and(|deflation| deflation.has_window(windows))
    }

    /// Notes the members of a shard, if it has any.
    pub(crate) fn note_audience(&mut self, shard: ShardId, audience: Audience) {
        if let Some(subscriber) = self.subscriber_mut(shard) {
            subscriber.audience = audience;
        }
    }

    fn subscriber_mut(&mut self, shard: ShardId) -> Option<&mut Subscriber> {
        let mut subscribers = self.subscribers.iter_mut();
        subscribers.find(|subscriber| subscriber.shard == shard)
    }

    /// Removes a shard, and its hold.
    pub(crate) fn unsubscribe(&mut self, shard: ShardId, now: Timestamp) {
        self.subscribers
            .retain(|subscriber| subscriber.shard != shard);
        self.release(shard, false, now);
    }

    /// Notes that `shard` cannot keep up. Says whether publishers wait for it, which is not certain for laggards.
    pub(crate) fn hold(&mut self, shard: ShardId, hold: Hold, now: Timestamp) -> bool {
        self.holders.retain(|&(holder, _)| holder != shard);
        let is_granted = hold == Hold::Open || self.allowance.ask(now);
        if is_granted {
            self.holders.push((shard, hold));
        }
        self.end_wait_if_unused(now);
        is_granted
    }

    /// Notes that `shard` has caught up, or waited `in_vain`.
    pub(crate) fn release(&mut self, shard: ShardId, in_vain: bool, now: Timestamp) {
        if in_vain {
            self.allowance.note_in_vain();
        }
        self.holders.retain(|&(holder, _)| holder != shard);
        self.end_wait_if_unused(now);
    }

    fn end_wait_if_unused(&mut self, now: Timestamp) {
        if self.held() != Some(Hold::Grace) {
            self.allowance.end(now);
        }
    }

    /// Nothing could happen for `span`, so the wait for laggards lasts that much longer.
    pub(crate) fn excuse(&mut self, span: Duration) {
        self.allowance.excuse(span);
    }

    /// The end of the wait for laggards, if there is one.
    pub(crate) fn wait_ends_at(&self) -> Option<Timestamp> {
        self.allowance.ends_at()
    }

    /// Ends the wait for laggards if it is overdue. Returns the shards that it was for.
    pub(crate) fn take_overdue(&mut self, now: Timestamp) -> Vec<ShardId> {
        if self.wait_ends_at().is_none_or(|end| now < end) {
            return Vec::new();
        }
        let overdue = self
            .holders
            .extract_if(.., |&mut (_, hold)| hold == Hold::Grace)
            .map(|(shard, _)| shard)
            .collect();
        self.allowance.note_in_vain();
        self.allowance.end(now);
        overdue
    }

    /// Takes in a draft, and the audience on its shard. Says whether it is the topic's first of the turn.
    pub fn publish(&mut self, draft: Draft, audience: Audience) -> bool {
        if let Some(shard) = draft.source().shard() {
            self.note_audience(shard, audience);
        }
        self.pending.push(draft);
        !std::mem::replace(&mut self.is_listed, true)
    }

    /// Messages that are published and not numbered.
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// The moment at which the pending messages are due, if they wait. If so, the topic is in the owner's agenda.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.is_waiting.then_some(self.open_from)
    }

    /// Whether the pending messages have to wait: at `now` the interval is not over, and they are too few.
    pub(crate) fn has_to_wait(&self, now: Timestamp) -> bool {
        now < self.open_from && !self.conduct.coalesce.is_enough(self.pending.frame_bytes())
    }

    /// The members on all shards, as these said last.
    pub(super) fn audience(&self) -> Audience {
        let audiences = self
            .subscribers
            .iter()
            .map(|subscriber| subscriber.audience);
        audiences.fold(Audience::default(), Audience::with)
    }

    /// Lets the pending messages wait. Returns when they are due.
    pub(crate) fn postpone(&mut self) -> (Timestamp, Gauged) {
        self.is_listed = false;
        self.is_waiting = true;
        (self.open_from, self.pending.gauge())
    }

    /// The turn is over for the topic, and the pending messages stay for a later one.
    pub(crate) fn note_wait(&mut self) {
        self.pending.note_wait();
    }

    /// [`OwnedTopic::sequence`] with the topic's own interval.
    pub(super) fn sequence_by_conduct(
        &mut self,
        now: Timestamp,
        epoch: &Epoch,
    ) -> (Vec<Arc<Batch>>, Gauged) {
        let coalesce = self.conduct.coalesce;
        self.sequence(now, &coalesce, epoch)
    }

    /// Numbers the pending messages, for a fan-out that begins `now`. If the topic keeps messages, they have positions in
    /// `epoch`.
    pub fn sequence(
        &mut self,
        now: Timestamp,
        coalesce: &Coalesce,
        epoch: &Epoch,
    ) -> (Vec<Arc<Batch>>, Gauged) {
        self.is_listed = false;
        self.is_waiting = false;
        let audience = self.audience();
        self.open_from = now + coalesce.interval(audience.total());
        let (drafts, gauged) = self.pending.take();
        let epoch = self.history.is_some().then_some(epoch);
        (self.sequencer.submit(drafts, audience, epoch), gauged)
    }

    /// Takes the pending messages, for an engine that is offered them `now`. They wait for one another however few members are
    /// here: each offer is work for all relays.
    pub(super) fn take_offer(&mut self, now: Timestamp) -> (Vec<Draft>, Gauged) {
        self.is_listed = false;
        self.is_waiting = false;
        self.open_from = now + self.conduct.coalesce.interval(u32::MAX);
        self.pending.take()
    }

    /// Numbers the messages that have come back from an engine, for a fan-out that begins `now`.
    pub(super) fn sequence_arrived(&mut self, now: Timestamp) -> (Vec<Arc<Batch>>, Gauged) {
        let coalesce = self.conduct.coalesce;
        let (audience, has_places) = (self.audience(), self.history.is_some());
        match self.engined_mut() {
            Some(engined) => engined.sequence(now, &coalesce, audience, has_places),
            None => (Vec::new(), Gauged::default()),
        }
    }

    /// Whether some shard with members cannot keep up by itself.
    pub(super) fn has_open_hold(&self) -> bool {
        self.holders.iter().any(|&(_, hold)| hold == Hold::Open)
    }

    /// Notes how many bytes of a batch came from outsiders. Says whether there were any.
    pub(crate) fn note_outsiders(&mut self, batch: &Batch) -> bool {
        let mut are_there = false;
        for share in batch.shares() {
            let Source::Outsiders(from) = share.source else {
                continue;
            };
            are_there = true;
            self.owe(from, share.bytes);
        }
        are_there
    }

    /// Outsiders of `from` are to hear that these bytes are not on their way any more.
    pub(super) fn owe(&mut self, from: ShardId, bytes: u32) {
        let bytes = u64::from(bytes);
        let mut entries = self.unacknowledged.iter_mut();
        match entries.find(|(shard, _)| *shard == from) {
            Some((_, sum)) => *sum += bytes,
            None => self.unacknowledged.push((from, bytes)),
        }
    }

    /// Tells the shards of outsiders that their messages are numbered.
    pub(crate) fn acknowledge(&mut self, outbox: &mut Outbox) {
        for (shard, bytes) in self.unacknowledged.drain(..) {
            let topic = self.name.clone();
            outbox.send(shard, Envelope::Arrived { topic, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::policy::grace::{GRACE, WITHOUT_PROGRESS};
    use crate::ws::frame::MessageKind;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);
    const START: Timestamp = Timestamp(1_000_000);

    fn one() -> Audience {
        Audience::of(Form::Frames, 1)
    }

    fn topic() -> OwnedTopic {
        let mut topic = OwnedTopic::new("/".into());
        topic.subscribe(A, one());
        topic.subscribe(B, one());
        topic
    }

    #[test]
    fn a_topic_is_held_from_the_first_hold_to_the_last_release() {
        let mut topic = topic();
        assert!(topic.hold(A, Hold::Open, START));
        assert_eq!(topic.take_news(), Some(Some(Hold::Open)));
        assert!(topic.hold(B, Hold::Open, START));
        topic.release(A, false, START);
        assert_eq!(topic.take_news(), None);
        topic.release(B, false, START);
        assert_eq!(topic.take_news(), Some(None));
    }

    #[test]
    fn a_draft_says_which_forms_its_shard_reads() {
        let mut topic = topic();
        let coalesce = Coalesce::new(Duration::ZERO, 1);
        let epoch = Epoch::from_bits(7);
        let mut readers = one();
        readers.enter(Form::Events);
        for (audience, has_events) in [(readers, true), (one(), false), (readers, true)] {
            let mut draft = Draft::new(Source::Members(A), START);
            draft.push(MessageKind::Text, b"x", None);
            topic.publish(draft, audience);
            let (batches, _) = topic.sequence(START, &coalesce, &epoch);
            assert_eq!(batches[0].has(Form::Events), has_events);
        }
    }

    #[test]
    fn a_shard_that_leaves_does_not_hold_publishers_any_more() {
        let mut topic = OwnedTopic::new("/".into());
        topic.subscribe(A, one());
        topic.subscribe(A, one());
        topic.hold(A, Hold::Grace, START);
        topic.unsubscribe(A, START);
        assert!(topic.is_unused() && topic.held().is_none());
        assert_eq!(topic.wait_ends_at(), None);
    }

    #[test]
    fn laggards_on_all_shards_are_waited_for_at_once_and_not_one_after_the_other() {
        let mut topic = topic();
        assert!(topic.hold(A, Hold::Grace, START));
        assert!(topic.hold(B, Hold::Grace, START + WITHOUT_PROGRESS));
        assert_eq!(topic.take_overdue(START + WITHOUT_PROGRESS), []);
        assert_eq!(topic.take_overdue(START + GRACE), [A, B]);
        assert_eq!(topic.held(), None);
        assert!(!topic.hold(B, Hold::Grace, START + GRACE));
        assert_eq!(topic.held(), None);
    }

    #[test]
    fn the_end_of_the_wait_for_laggards_does_not_release_a_shard_that_is_itself_behind() {
        let mut topic = topic();
        topic.hold(A, Hold::Open, START);
        topic.hold(B, Hold::Grace, START);
        assert_eq!(topic.held(), Some(Hold::Grace));
        assert_eq!(topic.take_overdue(START + GRACE), [B]);
        assert_eq!(topic.held(), Some(Hold::Open));
    }

    #[test]
    fn a_wait_that_one_shard_gave_up_on_was_in_vain_whichever_shard_ends_it() {
        let mut topic = topic();
        topic.hold(A, Hold::Grace, START);
        topic.hold(B, Hold::Grace, START);
        topic.release(A, true, START + WITHOUT_PROGRESS);
        assert_eq!(topic.held(), Some(Hold::Grace));
        topic.release(B, false, START + GRACE);
        assert!(!topic.hold(B, Hold::Grace, START + GRACE));
    }
}
