//! A topic's pending messages, published and not fanned out: drafts in the order they came, small ones joined.
//!
//! The topic's owner keeps them for a turn, or for some turns if the topic is coalesced; [`super::coalesce`] says how long.
//! They are not numbered yet. So a member that joins meanwhile gets them too.

use crate::relay::batch::draft::Draft;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    drafts: Vec<Draft>,
    messages: usize,
    frame_bytes: u64,
    /// Memory of the drafts, without the table that they are in.
    cost_bytes: u64,
    /// Messages from earlier turns.
    waited: usize,
    /// The bytes that the shard's gauge counts for it.
    gauged_bytes: u64,
}

/// A change of what the shard's gauge counts for a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauged {
    /// Bytes counted so far.
    pub before: u64,
    /// Bytes to be counted instead.
    pub after: u64,
}

impl Pending {
    /// Whether there is nothing to fan out.
    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// The number of messages.
    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes of frames.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }

    /// Memory that it takes, in bytes, with the room for more drafts.
    pub(crate) fn cost_bytes(&self) -> u64 {
        self.cost_bytes + (self.drafts.capacity() * size_of::<Draft>()) as u64
    }

    /// Appends a draft.
    pub(crate) fn push(&mut self, draft: Draft) {
        self.messages += draft.len();
        self.frame_bytes += draft.len_bytes() as u64;
        if self.drafts.capacity() == 0 {
            // Small drafts are joined, so there is usually one. By default, the table would start with room for four.
            self.drafts.reserve_exact(1);
        }
        self.cost_bytes -= self.drafts.last().map_or(0, Draft::cost_bytes);
        let kept = self.drafts.len().saturating_sub(1);
        draft.join_behind(&mut self.drafts);
        let costs = self.drafts[kept..].iter().map(Draft::cost_bytes);
        self.cost_bytes += costs.sum::<u64>();
    }

    /// Notes that the messages stay beyond the turn.
    pub(crate) fn note_wait(&mut self) {
        self.waited = self.messages;
    }

    /// Says how the shard's gauge is to change to count what is here.
    pub(crate) fn gauge(&mut self) -> Gauged {
        let after = self.cost_bytes();
        let before = std::mem::replace(&mut self.gauged_bytes, after);
        Gauged { before, after }
    }

    /// The number of messages from earlier turns.
    pub(crate) fn waited(&self) -> usize {
        self.waited
    }

    /// Takes everything, and says how the gauge is to change.
    pub(crate) fn take(&mut self) -> (Vec<Draft>, Gauged) {
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
    fn one_small_message_reserves_no_room_for_other_drafts() {
        let mut pending = Pending::default();
        let message = draft(20);
        let most = message.cost_bytes() + size_of::<Draft>() as u64;
        pending.push(message);
        assert_eq!(pending.cost_bytes(), most);
    }

    #[test]
    fn taking_the_drafts_gives_back_all_that_was_gauged() {
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
    fn only_messages_from_earlier_turns_have_waited() {
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
