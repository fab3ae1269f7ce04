//! A topic as its owner shard sees it: who wants it, which number comes next, and who asks its publishers to wait.

use std::sync::Arc;

use super::coalesce::Coalesce;
use super::pending::{Gauged, Pending};
use super::sequencer::Sequencer;
use crate::ids::{Seq, ShardId};
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::outbox::Outbox;
use crate::relay::policy::grace::Allowance;
use crate::time::Timestamp;

/// The owner's side of a topic.
#[derive(Debug)]
pub struct OwnedTopic {
    /// Its name.
    pub name: TopicName,
    sequencer: Sequencer,
    /// Shards with members, in the order they came.
    subscribers: Vec<Subscriber>,
    /// Those of them that asked to hold the publishers, and how.
    holders: Vec<(ShardId, Hold)>,
    /// The patience with laggards, on all shards together.
    allowance: Allowance,
    /// What subscribers have been told of holds.
    told: Option<Hold>,
    /// What was published and has not been numbered.
    pending: Pending,
    /// Bytes of outsiders that are numbered, of which their shards have not been told.
    unacknowledged: Vec<(ShardId, u64)>,
    /// It is in the turn's list of topics that something was published in.
    is_listed: bool,
    /// When the interval since the last fan-out is over.
    open_from: Timestamp,
    /// Something is pending until then.
    is_waiting: bool,
}

/// A shard that has members.
#[derive(Clone, Copy, Debug)]
struct Subscriber {
    shard: ShardId,
    /// When it published or one of its members joined last, or when it said that many had left.
    audience: Audience,
}

impl OwnedTopic {
    /// A topic without subscribers and messages.
    pub fn new(name: TopicName) -> Self {
        OwnedTopic {
            name,
            sequencer: Sequencer::local(),
            subscribers: Vec::new(),
            holders: Vec::new(),
            allowance: Allowance::default(),
            told: None,
            pending: Pending::default(),
            unacknowledged: Vec::new(),
            is_listed: false,
            open_from: Timestamp(0),
            is_waiting: false,
        }
    }

    /// The number of the next message.
    pub fn next(&self) -> Seq {
        self.sequencer.next()
    }

    /// The shards that get the topic's batches.
    pub fn subscribers(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.subscribers.iter().map(|subscriber| subscriber.shard)
    }

    /// Whether publishers are not to be read, and why.
    pub fn held(&self) -> Option<Hold> {
        let holds = || self.holders.iter().map(|&(_, hold)| hold);
        holds().find(|&hold| hold == Hold::Grace).or(holds().next())
    }

    /// What to tell the subscribers of holds, if it is not what they were told last.
    pub fn take_news(&mut self) -> Option<Option<Hold>> {
        let held = self.held();
        (std::mem::replace(&mut self.told, held) != held).then_some(held)
    }

    /// Whether nobody wants the topic and nothing is to be numbered: it may be forgotten.
    pub fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.pending.is_empty() && self.unacknowledged.is_empty()
    }

    /// Adds a shard, which may be there already, and notes its members.
    pub fn subscribe(&mut self, shard: ShardId, audience: Audience) {
        match self.subscriber_mut(shard) {
            Some(subscriber) => subscriber.audience = audience,
            None => self.subscribers.push(Subscriber { shard, audience }),
        }
    }

    /// Notes the members of a shard, if it has any.
    pub fn note_audience(&mut self, shard: ShardId, audience: Audience) {
        if let Some(subscriber) = self.subscriber_mut(shard) {
            subscriber.audience = audience;
        }
    }

    fn subscriber_mut(&mut self, shard: ShardId) -> Option<&mut Subscriber> {
        let mut subscribers = self.subscribers.iter_mut();
        subscribers.find(|subscriber| subscriber.shard == shard)
    }

    /// Removes a shard, and with it its wish to hold.
    pub fn unsubscribe(&mut self, shard: ShardId, now: Timestamp) {
        self.subscribers
            .retain(|subscriber| subscriber.shard != shard);
        self.release(shard, false, now);
    }

    /// Notes that `shard` cannot keep up. Says whether it is waited for: for laggards that is not always so.
    pub fn hold(&mut self, shard: ShardId, hold: Hold, now: Timestamp) -> bool {
        self.holders.retain(|&(holder, _)| holder != shard);
        let is_granted = hold == Hold::Open || self.allowance.ask(now);
        if is_granted {
            self.holders.push((shard, hold));
        }
        self.end_wait_if_unused(now);
        is_granted
    }

    /// Notes that `shard` has caught up, or waited `in_vain`.
    pub fn release(&mut self, shard: ShardId, in_vain: bool, now: Timestamp) {
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

    /// When laggards are not waited for any longer, if they are now.
    pub fn wait_ends_at(&self) -> Option<Timestamp> {
        self.allowance.ends_at()
    }

    /// Once the wait has lasted as long as it may: the shards whose laggards have waited in vain.
    pub fn take_overdue(&mut self, now: Timestamp) -> Vec<ShardId> {
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

    /// Takes in what is to be numbered, of a shard that has these members. Says whether it is the turn's first.
    pub fn publish(&mut self, draft: Draft, audience: Audience) -> bool {
        self.note_audience(draft.source().shard(), audience);
        self.pending.push(draft);
        !std::mem::replace(&mut self.is_listed, true)
    }

    /// What was published and has not been numbered.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }

    /// When what is pending is fanned out, if it waits. Then the topic is in its shard's agenda.
    pub fn due(&self) -> Option<Timestamp> {
        self.is_waiting.then_some(self.open_from)
    }

    /// Whether what is pending has to wait, as seen `now`: the interval is not over, and there is not enough.
    pub fn has_to_wait(&self, now: Timestamp, coalesce: &Coalesce) -> bool {
        now < self.open_from && !coalesce.is_enough(self.pending.frame_bytes())
    }

    /// The members on all shards, as far as these have said.
    fn audience(&self) -> Audience {
        let audiences = self
            .subscribers
            .iter()
            .map(|subscriber| subscriber.audience);
        audiences.fold(Audience::default(), Audience::with)
    }

    /// Leaves what is pending for a later turn, unless it is sequenced in this one all the same. Says when it is due.
    pub fn postpone(&mut self) -> (Timestamp, Gauged) {
        self.is_listed = false;
        self.is_waiting = true;
        (self.open_from, self.pending.gauge())
    }

    /// The turn is over for the topic: what is pending waits.
    pub fn note_wait(&mut self) {
        self.pending.note_wait();
    }

    /// Numbers what is pending, for a fan-out that begins `now`.
    pub fn sequence(&mut self, now: Timestamp, coalesce: &Coalesce) -> (Vec<Arc<Batch>>, Gauged) {
        self.is_listed = false;
        self.is_waiting = false;
        let audience = self.audience();
        self.open_from = now + coalesce.interval(audience.total());
        let (drafts, gauged) = self.pending.take();
        (self.sequencer.submit(drafts, audience), gauged)
    }

    /// Notes what of a batch came from outsiders.
    pub fn note_outsiders(&mut self, batch: &Batch) {
        for share in batch.shares() {
            if let Source::Outsiders(shard) = share.source {
                self.unacknowledged.push((shard, u64::from(share.bytes)));
            }
        }
    }

    /// Tells the shards of outsiders that their messages are numbered.
    pub fn acknowledge(&mut self, outbox: &mut Outbox) {
        for (shard, bytes) in self.unacknowledged.drain(..) {
            let topic = self.name.clone();
            outbox.send(shard, Envelope::Numbered { topic, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::terms::Form;
    use crate::relay::policy::grace::{GRACE, WITHOUT_PROGRESS};

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
    fn a_topic_is_held_from_the_first_wish_to_the_last_release() {
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
    fn a_shard_that_leaves_takes_its_wish_with_it() {
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
    fn a_shard_that_is_behind_itself_is_waited_for_beyond_the_laggards_time() {
        let mut topic = topic();
        topic.hold(A, Hold::Open, START);
        topic.hold(B, Hold::Grace, START);
        assert_eq!(topic.held(), Some(Hold::Grace));
        assert_eq!(topic.take_overdue(START + GRACE), [B]);
        assert_eq!(topic.held(), Some(Hold::Open));
    }

    #[test]
    fn who_gives_up_has_the_wait_counted_whoever_ends_it() {
        let mut topic = topic();
        topic.hold(A, Hold::Grace, START);
        topic.hold(B, Hold::Grace, START);
        topic.release(A, true, START + WITHOUT_PROGRESS);
        assert_eq!(topic.held(), Some(Hold::Grace));
        topic.release(B, false, START + GRACE);
        assert!(!topic.hold(B, Hold::Grace, START + GRACE));
    }
}
