//! A topic's log on one shard: the batches that some member has not been sent yet.
//!
//! A member is a [`Cursor`] into it. The log counts the cursors in each batch. So it finds the batches that nobody needs in
//! constant time, and drops those and no others.
//!
//! It has two sizes. *Lag* is the cost as frames of what a member has not been sent yet, whatever form it reads. *Kept* is
//! the memory that batches take, in all their forms. The log bounds neither: [`crate::relay::policy`] says how far a member
//! may lag, and the shard acts on it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ids::{ClientKey, Seq};
use crate::port::terms::Form;
use crate::relay::batch::Batch;
use crate::relay::batch::past::{Kept, Past};

/// An emptied log gives its table back when it had grown beyond this many batches.
const KEPT_CAPACITY: usize = 8;

/// A member's place: the next byte that it is to be sent.
///
/// The end of a batch is written as the start of the next, so each place has one spelling.
///
/// It is packed, because each idle client has one, and its record has no room for four bytes of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C, packed(4))]
pub struct Cursor {
    /// The batch, counted over the life of the log.
    batch: u64,
    /// The byte within the batch.
    offset: u32,
}

#[derive(Debug)]
struct Entry {
    batch: Arc<Batch>,
    /// [`Log::end_bytes`] when this batch was appended.
    start: u64,
    /// [`Log::kept_end_bytes`] when this batch was appended.
    kept_start: u64,
    /// Members whose cursor is in this batch.
    cursors: u32,
    /// Those of them that publishers wait for.
    trusted: u32,
}

/// The number of a log's first batch. Older batches than that can be put in front of it.
const FIRST_BATCH: u64 = 1 << 32;

/// The end of an empty log, in bytes, for the same reason.
const START_BYTES: u64 = 1 << 48;

/// See the module.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// The number of `entries[0]`, counted over the life of the log.
    first: u64,
    /// The cost as frames of all batches ever appended, in bytes, and [`START_BYTES`].
    end_bytes: u64,
    /// The memory that all batches ever appended took, in bytes, and [`START_BYTES`].
    kept_end_bytes: u64,
    /// Members that have been sent everything.
    cursors_at_head: u32,
    /// Those of them that publishers wait for.
    trusted_at_head: u32,
    /// The first batch with a trusted member in it, counted over the life of the log; the head if there is none.
    first_trusted: u64,
    /// Members whose sockets are full, by their batch, counted over the life of the log.
    blocked: BTreeSet<(u64, ClientKey)>,
    next: Seq,
    /// Messages that members got as plain frames although they take compressed ones, since the last look.
    plain_deliveries: u64,
}

impl Default for Log {
    fn default() -> Self {
        Log {
            entries: VecDeque::new(),
            first: FIRST_BATCH,
            end_bytes: START_BYTES,
            kept_end_bytes: START_BYTES,
            cursors_at_head: 0,
            trusted_at_head: 0,
            first_trusted: FIRST_BATCH,
            blocked: BTreeSet::new(),
            next: Seq(0),
            plain_deliveries: 0,
        }
    }
}

impl Log {
    /// The number that the next message will have.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// Starts anew at `next`. Only a log without members may.
    pub fn reset(&mut self, next: Seq) {
        assert!(
            self.entries.is_empty() && self.cursors_at_head == 0,
            "members would see a gap"
        );
        self.next = next;
    }

    /// Appends the next batch. A gap or a repetition would corrupt every member's stream.
    pub fn append(&mut self, batch: Arc<Batch>) {
        assert_eq!(
            batch.first(),
            self.next,
            "the log of a topic has no gap and no repetition"
        );
        self.next = batch.end();
        let (start, kept_start) = (self.end_bytes, self.kept_end_bytes);
        self.end_bytes += batch.cost_bytes();
        self.kept_end_bytes += batch.kept_bytes();
        let cursors = std::mem::take(&mut self.cursors_at_head);
        let trusted = std::mem::take(&mut self.trusted_at_head);
        self.entries.push_back(Entry {
            batch,
            start,
            kept_start,
            cursors,
            trusted,
        });
        self.pass_untrusted();
    }

    /// The place of a member that has been sent everything.
    pub fn head(&self) -> Cursor {
        Cursor {
            batch: self.first + self.entries.len() as u64,
            offset: 0,
        }
    }

    /// Adds a member at the head: it gets what is appended from now on.
    pub fn enter(&mut self) -> Cursor {
        self.cursors_at_head += 1;
        self.head()
    }

    /// Adds a member in front of message `from`. The log takes those batches of `past` that it does not have: they lead from
    /// `from` to it without a gap.
    ///
    /// The batches of `past` from `from` on have the form. Some that the log has may be older ones that lack it.
    pub(crate) fn enter_at(&mut self, from: Seq, form: Form, past: &Past) -> Cursor {
        let past = &past.entries()[past.index_of(from)..];
        for kept in past.iter().rev() {
            self.prepend(&kept.batch);
        }
        if form != Form::Frames {
            self.adopt(form, past);
        }
        let index = self
            .entries
            .partition_point(|entry| entry.batch.end() <= from);
        let Some(entry) = self.entries.get_mut(index) else {
            return self.enter();
        };
        entry.cursors += 1;
        Cursor {
            batch: self.first + index as u64,
            offset: entry.batch.offset_of(form, from),
        }
    }

    /// Takes those batches of `past` in the place of the log's own that have a form which those lack. Members stay where they
    /// are: what they read is the same in both.
    fn adopt(&mut self, form: Form, past: &[Kept]) {
        let mut more = 0;
        for entry in &mut self.entries {
            entry.kept_start += more;
            if entry.batch.has(form) {
                continue;
            }
            let place = past.binary_search_by_key(&entry.batch.first(), |kept| kept.batch.first());
            let Ok(place) = place else {
                // It lies before the first message that the reader of this form gets.
                continue;
            };
            let batch = &past[place].batch;
            more += batch.kept_bytes() - entry.batch.kept_bytes();
            entry.batch = batch.clone();
        }
        self.kept_end_bytes += more;
    }

    /// Puts an older batch in front, if the log does not have it.
    fn prepend(&mut self, batch: &Arc<Batch>) {
        let front = self.entries.front();
        let begins_with = front.map_or(self.next, |entry| entry.batch.first());
        if batch.first() >= begins_with {
            return;
        }
        assert_eq!(
            batch.end(),
            begins_with,
            "the log of a topic has no gap and no repetition"
        );
        let start = front.map_or(self.end_bytes, |entry| entry.start);
        let kept_start = front.map_or(self.kept_end_bytes, |entry| entry.kept_start);
        self.entries.push_front(Entry {
            start: start - batch.cost_bytes(),
            kept_start: kept_start - batch.kept_bytes(),
            batch: batch.clone(),
            cursors: 0,
            trusted: 0,
        });
        self.first -= 1;
    }

    /// Lets the member at `cursor` go.
    pub fn leave(&mut self, cursor: Cursor) {
        *self.cursors_in(cursor.batch) -= 1;
        self.trim();
    }

    /// Moves a member.
    pub fn relocate(&mut self, from: Cursor, to: Cursor) {
        debug_assert!(from <= to, "cursors only move on");
        if from.batch == to.batch {
            return;
        }
        *self.cursors_in(from.batch) -= 1;
        *self.cursors_in(to.batch) += 1;
        self.trim();
    }

    /// From now on publishers wait for the member at `cursor`.
    pub(crate) fn trust(&mut self, cursor: Cursor) {
        *self.trusted_in(cursor.batch) += 1;
        self.first_trusted = self.first_trusted.min(cursor.batch);
    }

    /// From now on they do not. This comes before [`Log::leave`].
    pub(crate) fn distrust(&mut self, cursor: Cursor) {
        *self.trusted_in(cursor.batch) -= 1;
        self.pass_untrusted();
    }

    /// Moves a trusted member. This comes before [`Log::relocate`].
    pub(crate) fn relocate_trusted(&mut self, from: Cursor, to: Cursor) {
        if from.batch != to.batch {
            *self.trusted_in(from.batch) -= 1;
            *self.trusted_in(to.batch) += 1;
            self.pass_untrusted();
        }
    }

    /// Notes that the socket of the member at `cursor` is full.
    pub(crate) fn block(&mut self, cursor: Cursor, member: ClientKey) {
        let is_news = self.blocked.insert((cursor.batch, member));
        debug_assert!(is_news, "a socket fills up once");
    }

    /// Notes that it is not any more. This comes before [`Log::leave`].
    pub(crate) fn unblock(&mut self, cursor: Cursor, member: ClientKey) {
        let was_there = self.blocked.remove(&(cursor.batch, member));
        debug_assert!(was_there, "the socket was noted as full");
    }

    /// Moves a member whose socket is full. [`Log::relocate`] is called too.
    pub(crate) fn relocate_blocked(&mut self, from: Cursor, to: Cursor, member: ClientKey) {
        if from.batch != to.batch {
            self.unblock(from, member);
            self.block(to, member);
        }
    }

    /// The number of members whose sockets are full.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// Memory that the log keeps for members whose sockets are full, in bytes.
    pub(crate) fn blocked_kept_bytes(&self) -> u64 {
        let slowest = self.blocked.first();
        slowest.map_or(0, |&(batch, _)| self.kept_from(batch))
    }

    /// Members whose sockets are full and for which the log keeps more than `most` bytes, the slowest first.
    pub(crate) fn blocked_keeping_more_than(
        &self,
        most: u64,
    ) -> impl Iterator<Item = ClientKey> + '_ {
        self.blocked
            .iter()
            .take_while(move |&&(batch, _)| self.kept_from(batch) > most)
            .map(|&(_, member)| member)
    }

    /// Members whose sockets are full and that may lag by more than `most` bytes, the slowest first. Each is in a batch that
    /// begins more than `most` behind the head.
    pub(crate) fn blocked_lagging_more_than(
        &self,
        most: u64,
    ) -> impl Iterator<Item = ClientKey> + '_ {
        self.blocked
            .iter()
            .take_while(move |&&(batch, _)| self.lag_from(batch) > most)
            .map(|&(_, member)| member)
    }

    /// The lag of a member at the start of `batch`.
    fn lag_from(&self, batch: u64) -> u64 {
        let entry = self.entries.get(self.index(batch));
        entry.map_or(0, |entry| self.end_bytes - entry.start)
    }

    /// Memory that the log keeps for a member anywhere in `batch`: a batch is kept as a whole.
    fn kept_from(&self, batch: u64) -> u64 {
        let entry = self.entries.get(self.index(batch));
        entry.map_or(0, |entry| self.kept_end_bytes - entry.kept_start)
    }

    fn trusted_in(&mut self, batch: u64) -> &mut u32 {
        let index = self.index(batch);
        match self.entries.get_mut(index) {
            Some(entry) => &mut entry.trusted,
            None => &mut self.trusted_at_head,
        }
    }

    /// Moves `first_trusted` on, past batches without a trusted member. Only [`Log::trust`] moves it back.
    fn pass_untrusted(&mut self) {
        let mut index = self.index(self.first_trusted.max(self.first));
        while self
            .entries
            .get(index)
            .is_some_and(|entry| entry.trusted == 0)
        {
            index += 1;
        }
        self.first_trusted = self.first + index as u64;
    }

    /// The lag of the slowest member that publishers wait for, in bytes, from the start of its batch.
    pub(crate) fn trusted_bytes(&self) -> u64 {
        self.lag_from(self.first_trusted.max(self.first))
    }

    fn cursors_in(&mut self, batch: u64) -> &mut u32 {
        let index = self.index(batch);
        match self.entries.get_mut(index) {
            Some(entry) => &mut entry.cursors,
            None => &mut self.cursors_at_head,
        }
    }

    fn index(&self, batch: u64) -> usize {
        debug_assert!(batch >= self.first, "a batch with a cursor in it is kept");
        usize::try_from(batch - self.first).expect("the log fits memory")
    }

    /// Drops the batches that every member has been sent.
    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.cursors == 0) {
            self.entries.pop_front();
            self.first += 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT_CAPACITY {
            self.entries.shrink_to(KEPT_CAPACITY);
        }
    }

    /// Members that take compressed frames got `messages` as plain ones.
    pub(crate) fn note_plain(&mut self, messages: u64) {
        self.plain_deliveries += messages;
    }

    /// The number of such messages since the last call.
    pub(crate) fn take_plain_deliveries(&mut self) -> u64 {
        std::mem::take(&mut self.plain_deliveries)
    }

    /// The end of the log, in bytes of frames. Only differences mean something.
    pub(crate) fn end_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// The lag of the slowest member, in bytes, from the start of its batch. Policies look at this.
    pub(crate) fn lag_bytes(&self) -> u64 {
        self.lag_from(self.first)
    }

    /// The log's memory, in bytes: its batches in all their forms. Limits on memory look at this.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_from(self.first)
    }

    /// The lag of a member at `cursor` that reads `form`, in bytes.
    pub(crate) fn lag_of(&self, cursor: Cursor, form: Form) -> u64 {
        match self.entries.get(self.index(cursor.batch)) {
            Some(entry) => {
                self.end_bytes - entry.start - entry.batch.bytes_before(form, cursor.offset)
            }
            None => 0,
        }
    }

    /// The batch that `cursor` is in, none at the head.
    pub(crate) fn batch_at(&self, cursor: Cursor) -> Option<&Arc<Batch>> {
        self.entries
            .get(self.index(cursor.batch))
            .map(|entry| &entry.batch)
    }

    /// The batches from that of `cursor` to the head.
    pub(crate) fn batches_from(&self, cursor: Cursor) -> impl Iterator<Item = &Arc<Batch>> {
        self.entries
            .range(self.index(cursor.batch)..)
            .map(|entry| &entry.batch)
    }

    /// All batches that it has, as a list.
    pub(crate) fn past(&self) -> Past {
        let entries = self.entries.iter();
        let kept = entries.map(|entry| Kept {
            batch: entry.batch.clone(),
            cost_before: entry.start,
        });
        Past::new(kept.collect())
    }

    /// Checks what holds between any two calls, for tests. `members` is the topic's number of members.
    pub(crate) fn check(&self, members: usize) {
        let cursors: u64 = self
            .entries
            .iter()
            .map(|entry| u64::from(entry.cursors))
            .sum();
        assert_eq!(
            cursors + u64::from(self.cursors_at_head),
            members as u64,
            "each member is one cursor"
        );
        assert!(
            self.entries.front().is_none_or(|entry| entry.cursors > 0),
            "the log keeps only what somebody needs"
        );
        let mut trusted = self.entries.iter().skip_while(|entry| entry.trusted == 0);
        assert_eq!(
            self.trusted_bytes(),
            trusted
                .next()
                .map_or(0, |entry| self.end_bytes - entry.start),
            "the slowest trusted member is known"
        );
        assert!(
            self.entries
                .iter()
                .all(|entry| entry.trusted <= entry.cursors)
        );
        let there = self.first..=self.head().batch;
        assert!(
            self.blocked.iter().all(|(batch, _)| there.contains(batch)),
            "a blocked member has a place in the log"
        );
        let batches = || self.entries.iter().map(|entry| &entry.batch);
        let lag: u64 = batches().map(|batch| batch.cost_bytes()).sum();
        let kept: u64 = batches().map(|batch| batch.kept_bytes()).sum();
        assert_eq!((lag, kept), (self.lag_bytes(), self.kept_bytes()));
        let mut kept_start = self.kept_end_bytes - kept;
        for entry in &self.entries {
            assert_eq!(entry.kept_start, kept_start, "each batch counts once");
            kept_start += entry.batch.kept_bytes();
        }
    }
}

impl Cursor {
    /// The byte within its batch.
    pub(crate) fn offset(self) -> u32 {
        self.offset
    }

    /// The place at `offset` of the same batch, whose length is `batch_len`.
    #[must_use]
    pub(crate) fn at_offset(self, offset: u32, batch_len: usize) -> Cursor {
        debug_assert!(offset as usize <= batch_len);
        if offset as usize == batch_len {
            return Cursor {
                batch: self.batch + 1,
                offset: 0,
            };
        }
        Cursor { offset, ..self }
    }
}

#[cfg(test)]
mod tests;
