//! One turn's drafts, and the draft of each destination that takes its next small message.
//!
//! A shard keeps one list for its members and one for outsiders. A destination remembers its open draft by the number of
//! the list and the place in it. So a new list closes all open drafts at once.

use crate::relay::batch::draft::{Draft, Source};
use crate::time::Timestamp;

/// The draft that takes a destination's next small message, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenDraft {
    list: u64,
    /// The place in the list, plus one. 0 is no draft.
    place: u32,
}

impl OpenDraft {
    /// The next small message begins a draft of its own.
    pub(crate) fn close(&mut self) {
        self.place = 0;
    }
}

/// See the module. `K` names a destination.
#[derive(Debug)]
pub(crate) struct Drafts<K> {
    drafts: Vec<(K, Draft)>,
    /// The number of this list.
    list: u64,
}

impl<K> Default for Drafts<K> {
    fn default() -> Self {
        Drafts {
            drafts: Vec::new(),
            list: 0,
        }
    }
}

impl<K> Drafts<K> {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Adds a draft that takes no more messages.
    pub(crate) fn push(&mut self, key: K, draft: Draft) {
        self.drafts.push((key, draft));
    }

    /// The open draft of `key`, which takes its small messages until the next list or until it is closed.
    pub(crate) fn open(
        &mut self,
        open: &mut OpenDraft,
        key: impl FnOnce() -> K,
        source: Source,
        now: Timestamp,
    ) -> &mut Draft {
        if open.place == 0 || open.list != self.list {
            self.drafts.push((key(), Draft::new(source, now)));
            // A turn's messages are bounded by what it reads.
            *open = OpenDraft {
                list: self.list,
                place: self.drafts.len() as u32,
            };
        }
        &mut self.drafts[open.place as usize - 1].1
    }

    /// Takes the drafts. The next list begins.
    pub(crate) fn take(&mut self) -> Vec<(K, Draft)> {
        self.list += 1;
        std::mem::take(&mut self.drafts)
    }

    /// Takes an emptied list back, to spare an allocation.
    pub(crate) fn give_back(&mut self, mut list: Vec<(K, Draft)>) {
        debug_assert!(self.drafts.is_empty(), "nothing was published meanwhile");
        list.clear();
        self.drafts = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    #[test]
    fn a_draft_is_open_until_it_is_closed_or_its_list_is_taken() {
        let mut drafts = Drafts::default();
        let mut open = OpenDraft::default();
        let place = |drafts: &mut Drafts<&str>, open: &mut OpenDraft| {
            drafts.open(open, || "/", Source::Members(ShardId(0)), Timestamp(0));
            open.place
        };
        assert_eq!(place(&mut drafts, &mut open), 1);
        assert_eq!(place(&mut drafts, &mut open), 1);
        open.close();
        assert_eq!(place(&mut drafts, &mut open), 2);
        assert_eq!(drafts.take().len(), 2);
        assert_eq!(place(&mut drafts, &mut open), 1);
        assert_eq!(drafts.take().len(), 1);
    }
}
