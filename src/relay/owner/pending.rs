//! What was published in a topic and has not been fanned out: drafts in the order they came, small ones joined.
//!
//! The topic's owner keeps it, for a turn or, where the topic is coalesced, for some turns; [`super::coalesce`] says how
//! long. Nothing here is numbered: a member that joins meanwhile is sent it as well, since nobody else has been yet.

use crate::relay::batch::draft::Draft;

/// See the module.
#[derive(Debug, Default)]
pub struct Pending {
    drafts: Vec<Draft>,
    messages: usize,
    frame_bytes: u64,
    /// Of the drafts, without the table that they are in.
    cost_bytes: u64,
    /// Messages that have been here since an earlier turn.
    waited: usize,
    /// What of all that it costs the shard's gauge counts.
    gauged_bytes: u64,
}

/// What the shard's gauge counted of a topic, and what it is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauged {
    /// Bytes counted so far.
    pub before: u64,
    /// Bytes to be counted instead.
    pub after: u64,
}

impl Pending {
    /// Whether there is nothing to fan out.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// How many messages there are.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes of frames.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// What it costs to keep, in bytes, room for more drafts included.
    pub fn cost_bytes(&self) -> u64 {
        self.cost_bytes + (self.drafts.capacity() * size_of::<Draft>()) as u64
    }

    /// Takes in a draft behind all others.
    pub fn push(&mut self, draft: Draft) {
        self.messages += draft.len();
        self.frame_bytes += draft.len_bytes() as u64;
        if self.drafts.capacity() == 0 {
            // Small drafts are joined: most often there is one. A table that grows would begin with room for four.
            self.drafts.reserve_exact(1);
        }
        self.cost_bytes -= self.drafts.last().map_or(0, Draft::cost_bytes);
        let kept = self.drafts.len().saturating_sub(1);
        draft.join_behind(&mut self.drafts);
        let costs = self.drafts[kept..].iter().map(Draft::cost_bytes);
        self.cost_bytes += costs.sum::<u64>();
    }

    /// Notes that what is here stays beyond the turn.
    pub fn note_wait(&mut self) {
        self.waited = self.messages;
    }

    /// Has the shard's gauge count what is here.
    pub fn gauge(&mut self) -> Gauged {
        let after = self.cost_bytes();
        let before = std::mem::replace(&mut self.gauged_bytes, after);
        Gauged { before, after }
    }

    /// How many messages have been here since an earlier turn.
    pub fn waited(&self) -> usize {
        self.waited
    }

    /// Takes everything, and says what the gauge counted of it.
    pub fn take(&mut self) -> (Vec<Draft>, Gauged) {
        let Pending {
            drafts,
            gauged_bytes: before,
            ..
        } = std::mem::take(self);
        (drafts, Gauged { before, after: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::relay::batch::draft::Source;
    use crate::time::Timestamp;
    use crate::ws::frame::MessageKind;

    fn draft(len: usize) -> Draft {
        let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(7));
        draft.push(MessageKind::Binary, &vec![b'x'; len], None);
        draft
    }

    #[test]
    fn many_small_drafts_cost_little_more_than_their_bytes() {
        let mut pending = Pending::default();
        for _ in 0..1000 {
            pending.push(draft(20));
        }
        assert_eq!((pending.messages(), pending.frame_bytes()), (1000, 22_000));
        // Tables that grow may be twice as large as what is in them.
        assert!(pending.cost_bytes() >= 22_000 && pending.cost_bytes() < 60_000);
        let kept: u64 = pending.drafts.iter().map(Draft::cost_bytes).sum();
        let table = pending.drafts.capacity() * size_of::<Draft>();
        assert_eq!(pending.cost_bytes(), kept + table as u64);
    }

    #[test]
    fn one_small_message_has_no_room_made_for_other_drafts() {
        let mut pending = Pending::default();
        let message = draft(20);
        let most = message.cost_bytes() + size_of::<Draft>() as u64;
        pending.push(message);
        assert_eq!(pending.cost_bytes(), most);
    }

    #[test]
    fn what_is_gauged_is_given_back_when_it_is_taken() {
        let mut pending = Pending::default();
        pending.push(draft(1));
        let first = pending.gauge();
        pending.push(draft(5000));
        let second = pending.gauge();
        assert_eq!((first.before, second.before), (0, first.after));
        pending.push(draft(1));
        let (drafts, gauged) = pending.take();
        assert_eq!((drafts.len(), gauged.before), (3, second.after));
        assert_eq!(pending.cost_bytes(), 0);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_comes_behind_what_has_waited_has_not() {
        let mut pending = Pending::default();
        pending.push(draft(1));
        pending.push(draft(1));
        assert_eq!(pending.waited(), 0);
        pending.note_wait();
        pending.push(draft(1));
        assert_eq!(pending.waited(), 2);
        pending.take();
        assert_eq!(pending.waited(), 0);
    }
}
