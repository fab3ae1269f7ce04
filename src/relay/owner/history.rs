//! The messages of a topic that its owner keeps for clients that come later.
//!
//! They are the batches that members were sent, shared and not copied. Whole batches are dropped, the oldest first: when
//! they are too old, too many or too large, or when the shard is short of memory.
//!
//! A client may read a form in which nobody else did when a batch was numbered. Then the batch is made again with that form,
//! once, and takes the place of the old one.
//!
//! `history.max_bytes` counts frames alone, so a reader of events does not drop what others may come back for. The shard's
//! gauge counts the memory of all forms.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::ids::Seq;
use crate::port::position::{Epoch, Position, Start};
use crate::port::terms::Form;
use crate::relay::batch::Batch;
use crate::relay::batch::past::{Kept, Past, Resumed};
use crate::relay::places::Places;
use crate::time::Timestamp;

/// The memory of a topic that is only kept for its history, in bytes: its record, and its place in tables.
const RECORD_BYTES: u64 = 512;

/// A form is made for about so many bytes of frames when a client asks for it, which takes a few milliseconds. The client asks
/// again when it has read them.
const MADE_AT_ONCE_BYTES: u64 = 4 << 20;

/// Batches are dropped for their age at multiples of this, so that many topics share a wake.
const AGE_STEP: Duration = Duration::from_millis(250);

/// How much of each topic is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    max_age: Duration,
    max_bytes: u64,
    /// `u64::MAX` for no limit.
    max_messages: u64,
}

impl Retention {
    /// The limits of the configuration; `None` if nothing is kept.
    pub(crate) fn new(config: &config::History) -> Option<Self> {
        if config.max_age.is_zero() {
            return None;
        }
        let max_messages = match config.max_messages {
            0 => u64::MAX,
            most => most as u64,
        };
        Some(Retention {
            max_age: config.max_age,
            max_bytes: config.max_bytes as u64,
            max_messages,
        })
    }

    /// The longest time that a message is kept.
    pub(crate) fn max_age(&self) -> Duration {
        self.max_age
    }

    /// The most that the messages of a topic take in memory, in bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct History {
    retention: Retention,
    entries: VecDeque<Entry>,
    /// The number of the topic's first message since its owner knows it.
    born: Seq,
    messages: u64,
    /// Memory of the batches, in all forms.
    kept_bytes: u64,
    cost_end: u64,
    /// The present list, if somebody has asked for it.
    past: Option<Arc<Past>>,
    /// Until then the topic is kept also if none of its messages are, so that its numbers go on without a break: its clients
    /// were sent away by a restart, and come back.
    remembered_until: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    numbered_at: Timestamp,
}

impl History {
    /// The empty history of a topic whose next message is number `born`.
    pub(super) fn new(retention: Retention, born: Seq) -> Self {
        History {
            retention,
            entries: VecDeque::new(),
            born,
            messages: 0,
            kept_bytes: 0,
            cost_end: 0,
            past: None,
            remembered_until: None,
        }
    }

    /// The number of the topic's first message since its owner knows it.
    pub(super) fn born(&self) -> Seq {
        self.born
    }

    /// Keeps the topic until then, also if none of its messages are kept.
    pub(super) fn remember_until(&mut self, until: Timestamp) {
        self.remembered_until = Some(until);
    }

    /// The longest time that something is kept.
    pub(super) fn max_age(&self) -> Duration {
        self.retention.max_age
    }

    /// Whether nothing is kept: no message, and no place for clients that come back after a restart.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.remembered_until.is_none()
    }

    /// The number of messages that are kept.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// The batches that are kept, oldest first, and when each was numbered.
    pub(super) fn batches(&self) -> impl Iterator<Item = (&Arc<Batch>, Timestamp)> {
        let entries = self.entries.iter();
        entries.map(|entry| (&entry.kept.batch, entry.numbered_at))
    }

    /// Memory that it takes, in bytes; 0 if it is empty. The topic's record is a part of it.
    pub(super) fn memory_bytes(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let table = (self.entries.capacity() * size_of::<Entry>()) as u64;
        RECORD_BYTES + table + self.kept_bytes
    }

    /// The number of the oldest message that is kept; `next` if there is none.
    pub(super) fn oldest(&self, next: Seq) -> Seq {
        let first = self.entries.front();
        first.map_or(next, |entry| entry.kept.batch.first())
    }

    /// Keeps a batch that was just numbered.
    pub(super) fn append(&mut self, batch: Arc<Batch>, now: Timestamp) {
        self.append_of(batch, now);
        self.drop_expired(now);
    }

    /// Keeps a batch that follows the last one and was numbered at `numbered_at`, within the limits but that on age.
    pub(super) fn append_of(&mut self, batch: Arc<Batch>, numbered_at: Timestamp) {
        self.past = None;
        self.messages += batch.len() as u64;
        self.kept_bytes += batch.kept_bytes();
        let cost_before = self.cost_end;
        self.cost_end += batch.cost_bytes();
        self.entries.push_back(Entry {
            kept: Kept { batch, cost_before },
            numbered_at,
        });
        while self.is_too_much() {
            self.drop_oldest();
        }
    }

    /// Drops all batches.
    pub(super) fn drop_batches(&mut self) {
        while !self.entries.is_empty() {
            self.drop_oldest();
        }
    }

    fn is_too_much(&self) -> bool {
        let Some(first) = self.entries.front() else {
            return false;
        };
        let rest = self.messages - first.kept.batch.len() as u64;
        let cost_bytes = self.cost_end - first.kept.cost_before;
        cost_bytes > self.retention.max_bytes || rest >= self.retention.max_messages
    }

    /// Drops the oldest batch. Without one, the topic is not remembered any longer.
    pub(super) fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            self.remembered_until = None;
            return;
        };
        self.past = None;
        self.messages -= entry.kept.batch.len() as u64;
        self.kept_bytes -= entry.kept.batch.kept_bytes();
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// Drops the batches that are too old.
    pub(super) fn drop_expired(&mut self, now: Timestamp) {
        while self.expires_at().is_some_and(|expiry| expiry <= now) {
            self.drop_oldest();
        }
    }

    /// The moment at which the oldest batch becomes too old, or without one, at which the topic is not remembered any longer.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        let step = AGE_STEP.as_micros() as u64;
        let exact = match self.entries.front() {
            Some(first) => first.numbered_at + self.retention.max_age,
            None => self.remembered_until?,
        };
        Some(Timestamp(exact.0.div_ceil(step) * step))
    }

    /// The messages for a client that asks for `start` and reads `form`; the topic's next message is number `next` of `epoch`.
    pub(super) fn resume(
        &mut self,
        start: Start,
        form: Form,
        (epoch, next): (&Epoch, Seq),
        places: Option<&Places>,
        now: Timestamp,
    ) -> Resumed {
        let oldest = self.oldest(next);
        let (from, lost) = match start {
            Start::Now => (next, Some(0)),
            Start::At(position)
                if position.epoch == *epoch && (self.born..=next).contains(&position.next) =>
            {
                let lost = oldest.0.saturating_sub(position.next.0);
                (position.next.max(oldest), Some(lost))
            }
            Start::At(_) | Start::Unknown => (oldest, None),
            Start::LastMessages(most) => (Seq(next.0.saturating_sub(most)).max(oldest), Some(0)),
            Start::LastTime(span) => (self.first_since(now, span).unwrap_or(next), Some(0)),
        };
        // Most clients that join ask for nothing, and need no list.
        let (until, past) = if from < next {
            let place_of = |next| match places {
                Some(places) => places.at(next),
                None => Some(Position {
                    epoch: *epoch,
                    next,
                }),
            };
            let until = self.make(form, from, place_of);
            (until, self.past())
        } else {
            (next, Arc::default())
        };
        Resumed {
            from,
            lost,
            past,
            until,
            places: None,
        }
    }

    /// The number of the first message of the last `span`.
    fn first_since(&self, now: Timestamp, span: Duration) -> Option<Seq> {
        let is_older = |entry: &Entry| now.since(entry.numbered_at) > span;
        let index = self.entries.partition_point(is_older);
        Some(self.entries.get(index)?.kept.batch.first())
    }

    /// Makes the form for the messages from `from` on that do not have it, up to the limit of a turn. Returns the number
    /// behind the last message before which none lacks it.
    fn make(&mut self, form: Form, from: Seq, place_of: impl Fn(Seq) -> Option<Position>) -> Seq {
        let is_before = |entry: &Entry| entry.kept.batch.end() <= from;
        let first = self.entries.partition_point(is_before);
        let (mut until, mut cost_bytes) = (from, 0);
        for entry in self.entries.range_mut(first..) {
            let batch = &mut entry.kept.batch;
            if !batch.has(form) {
                if cost_bytes > MADE_AT_ONCE_BYTES {
                    break;
                }
                cost_bytes += batch.cost_bytes();
                let made = Arc::new(batch.with(form, place_of(batch.first())));
                self.kept_bytes += made.kept_bytes() - batch.kept_bytes();
                *batch = made;
                self.past = None;
            }
            until = entry.kept.batch.end();
        }
        until
    }

    /// The present list. It is made once for all who ask before the next message.
    fn past(&mut self) -> Arc<Past> {
        let entries = &self.entries;
        let past = self.past.get_or_insert_with(|| {
            let kept = entries.iter().map(|entry| entry.kept.clone());
            Arc::new(Past::new(kept.collect()))
        });
        past.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::relay::batch::audience::Audience;
    use crate::relay::batch::draft::{Draft, Source};
    use crate::ws::frame::MessageKind;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Timestamp = Timestamp(1_000_000);

    fn epoch() -> Epoch {
        Epoch::from_bits(7)
    }

    fn at(next: u64) -> Start {
        Start::At(Position {
            epoch: epoch(),
            next: Seq(next),
        })
    }

    /// A history of `batches` of two messages each, numbered from 10 on, one each second.
    fn history(change: impl FnOnce(&mut config::History), batches: u64) -> History {
        let mut config = config::History {
            max_age: 10 * SECOND,
            ..config::History::default()
        };
        change(&mut config);
        let mut history = History::new(Retention::new(&config).unwrap(), Seq(10));
        for batch in 0..batches {
            let mut draft = Draft::new(Source::Members(ShardId(0)), START);
            for _ in 0..2 {
                draft.push(MessageKind::Text, &[b'x'; 100], None);
            }
            let first = Seq(10 + 2 * batch);
            let sealed = Batch::seal(first, [draft], Audience::default(), None);
            history.append(sealed[0].clone(), START + SECOND * batch as u32);
        }
        history
    }

    fn resume(history: &mut History, start: Start, next: u64) -> (u64, Option<u64>) {
        let here = (&epoch(), Seq(next));
        let resumed = history.resume(start, Form::Frames, here, None, START + 4 * SECOND);
        (resumed.from.0, resumed.lost)
    }

    #[test]
    fn whoever_comes_back_gets_what_it_missed_or_hears_how_much_is_gone() {
        let mut history = history(|config| config.max_messages = 6, 5);
        // 10 to 13 are gone, and 20 is next.
        assert_eq!(resume(&mut history, at(20), 20), (20, Some(0)));
        assert_eq!(resume(&mut history, at(15), 20), (15, Some(0)));
        assert_eq!(resume(&mut history, at(14), 20), (14, Some(0)));
        assert_eq!(resume(&mut history, at(11), 20), (14, Some(3)));
        assert_eq!(resume(&mut history, at(10), 20), (14, Some(4)));
    }

    #[test]
    fn a_place_of_another_life_or_epoch_or_of_the_future_is_unknown() {
        let mut history = history(|_| {}, 2);
        let foreign = Start::At(Position {
            epoch: Epoch::from_bits(8),
            next: Seq(12),
        });
        for start in [at(9), at(15), foreign, Start::Unknown] {
            assert_eq!(resume(&mut history, start, 14), (10, None), "{start:?}");
        }
    }

    #[test]
    fn a_late_joiner_gets_the_last_messages_or_those_of_the_last_time() {
        let mut history = history(|_| {}, 5);
        assert_eq!(resume(&mut history, Start::Now, 20), (20, Some(0)));
        assert!(history.past.is_none(), "nobody needs the list");
        assert_eq!(
            resume(&mut history, Start::LastMessages(3), 20),
            (17, Some(0))
        );
        assert_eq!(
            resume(&mut history, Start::LastMessages(99), 20),
            (10, Some(0))
        );
        // The last batch was numbered now, and the one before a second ago.
        let last = |span| Start::LastTime(span);
        assert_eq!(resume(&mut history, last(SECOND), 20), (16, Some(0)));
        assert_eq!(
            resume(&mut history, last(Duration::ZERO), 20),
            (18, Some(0))
        );
        assert_eq!(resume(&mut history, last(99 * SECOND), 20), (10, Some(0)));
    }

    #[test]
    fn the_oldest_batches_are_dropped_when_there_is_too_much() {
        let kept = |history: &History| history.entries.len();
        assert_eq!(kept(&history(|_| {}, 5)), 5);
        assert_eq!(kept(&history(|config| config.max_messages = 3, 5)), 2);
        assert_eq!(kept(&history(|config| config.max_age = 2 * SECOND, 5)), 2);
        let one = history(|_| {}, 1).kept_bytes as usize;
        assert_eq!(kept(&history(|config| config.max_bytes = 2 * one, 5)), 2);
        // A batch that is larger than everything that may be kept is not kept.
        let none = history(|config| config.max_bytes = one - 1, 5);
        assert_eq!((kept(&none), none.memory_bytes()), (0, 0));
    }

    #[test]
    fn a_form_that_nobody_read_is_made_once_and_does_not_drop_what_others_may_want() {
        let one = history(|_| {}, 1).kept_bytes as usize;
        let mut history = history(|config| config.max_bytes = 3 * one, 3);
        let before = history.memory_bytes();
        let mut read = |form, from| {
            let resumed = history.resume(at(from), form, (&epoch(), Seq(16)), None, START);
            (resumed.past, history.memory_bytes())
        };
        let (frames, _) = read(Form::Frames, 10);
        let (events, after) = read(Form::Events, 13);
        let has = |past: &Past| {
            let batches = past.entries().iter();
            batches
                .map(|kept| kept.batch.has(Form::Events))
                .collect::<Vec<_>>()
        };
        assert_eq!(has(&frames), [false; 3]);
        assert_eq!(has(&events), [false, true, true]);
        let made: u64 = events.entries()[1..]
            .iter()
            .map(|kept| kept.batch.kept_bytes() - kept.batch.cost_bytes())
            .sum();
        assert_eq!(after, before + made);
        // The next reader gets the same list, and the history is as long as before.
        assert!(Arc::ptr_eq(&events, &read(Form::Events, 12).0));
        assert_eq!(has(&read(Form::Events, 10).0), [true; 3]);
        assert_eq!(history.entries.len(), 3);
        let bytes = history.entries[2].kept.batch.encoding(Form::Events).bytes();
        let text = format!("id: {}-16\ndata: {}\n\n", epoch().as_str(), "x".repeat(100));
        assert!(bytes.ends_with(text.as_bytes()));
    }

    #[test]
    fn a_form_is_made_for_a_few_megabytes_at_a_time() {
        let config = config::History {
            max_age: 10 * SECOND,
            max_bytes: 1 << 30,
            ..config::History::default()
        };
        let mut history = History::new(Retention::new(&config).unwrap(), Seq(0));
        for number in 0..7 {
            let mut draft = Draft::new(Source::Members(ShardId(0)), START);
            draft.push(MessageKind::Text, &vec![b'x'; 1 << 20], None);
            let sealed = Batch::seal(Seq(number), [draft], Audience::default(), None);
            history.append(sealed[0].clone(), START);
        }
        let mut until = |form, from| {
            let resumed = history.resume(at(from), form, (&epoch(), Seq(7)), None, START);
            resumed.until.0
        };
        assert_eq!(until(Form::Frames, 1), 7);
        let first = until(Form::Events, 1);
        assert_eq!(first, 5);
        // Batches that have the form cost nothing.
        assert_eq!(until(Form::Events, 1), 7);
        assert_eq!(until(Form::Events, 0), 7);
        assert_eq!(until(Form::Events, 7), 7);
    }

    #[test]
    fn all_who_resume_before_the_next_message_share_a_list() {
        let mut history = history(|_| {}, 3);
        let past = |history: &mut History| {
            let resumed = history.resume(at(12), Form::Frames, (&epoch(), Seq(16)), None, START);
            resumed.past
        };
        let first = past(&mut history);
        assert!(Arc::ptr_eq(&first, &past(&mut history)));
        history.drop_oldest();
        let second = past(&mut history);
        assert_eq!((first.entries().len(), second.entries().len()), (3, 2));
        assert_eq!((second.index_of(Seq(12)), second.index_of(Seq(15))), (0, 1));
        assert_eq!(second.index_of(Seq(16)), 2);
        assert_eq!(second.cost_from(0), 2 * second.cost_from(1));
        assert_eq!((second.cost_from(2), second.end()), (0, Some(Seq(16))));
    }
}
