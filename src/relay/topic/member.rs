//! A member of a topic: a cursor into the topic's log, and what follows from it.
//!
//! Everything here is arithmetic on a cursor: the next bytes to send, the place of the member once the kernel has taken some
//! of them, and the number of messages that it is owed. The cursor counts bytes of the form that the member reads.
//!
//! If members do not get their own messages back (`relay.echo: false`), `own` names the member. Then the bytes to send are
//! runs of other members' messages instead of whole batches.

use std::io::IoSlice;
use std::ops::Range;

use arrayvec::ArrayVec;
use bytes::Bytes;

use crate::ids::{ClientId, Seq};
use crate::port::terms::Form;
use crate::relay::batch::{Batch, Encoding};
use crate::relay::topic::TopicKey;
use crate::relay::topic::log::{Cursor, Log};
use crate::relay::topic::reader::Reader;

/// Most slices in one write. A member that keeps up needs one; one that lags by more batches than this needs a second
/// write. The kernel's own limit is 1024.
pub(crate) const MAX_SLICES: usize = 128;

/// The slices of one write, in order.
pub(crate) type Slices<'a> = ArrayVec<IoSlice<'a>, MAX_SLICES>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    /// The topic.
    pub topic: TopicKey,
    /// Its place in the topic's list of members.
    pub place: u32,
    /// The form that it takes.
    takes: Form,
    /// The form of the batch that it is in.
    reads: Form,
    /// See [`Reader::next_number`].
    next_number: u32,
    /// The next byte of the batch's form that the member is to be sent.
    pub cursor: Cursor,
    /// Whether publishers wait for it when it lags.
    pub is_trusted: bool,
    /// Its own messages behind the cursor, if it does not get them back.
    pub own_ahead: u32,
}

/// The rest of a message that a member has been sent a part of. It outlives the log.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// Empty at a frame boundary.
    pub bytes: Bytes,
    /// The batch that they are a part of and keep in memory; none if they are a copy.
    pub batch: Option<Bytes>,
}

impl Rest {
    /// The rest of a frame in progress, if there is one.
    ///
    /// Shares the batch if the rest is at least half of the member's part of it, when all `sharers` split it. Otherwise
    /// copies the rest. So stuck members keep about twice the bytes that they still need, at most.
    pub(crate) fn of(
        frame: Option<(&Encoding, Range<usize>)>,
        sharers: impl Fn(&Bytes) -> usize,
    ) -> Rest {
        let Some((encoding, rest)) = frame else {
            return Rest::default();
        };
        let batch = encoding.bytes();
        let sharers = 1 + sharers(batch);
        if 2 * rest.len() * sharers >= batch.len() {
            return Rest {
                bytes: batch.slice(rest),
                batch: Some(batch.clone()),
            };
        }
        Rest {
            bytes: Bytes::copy_from_slice(&batch[rest]),
            batch: None,
        }
    }
}

/// Bytes that are sent without a break: the rest of a batch, or up to the member's next own message in it.
struct Run<'a> {
    batch: &'a Batch,
    encoding: &'a Encoding,
    form: Form,
    start: Cursor,
    end: u32,
}

impl<'a> Run<'a> {
    /// The first run at or behind `from`.
    #[inline]
    fn find(log: &'a Log, reader: Reader, from: Cursor, own: Option<ClientId>) -> Option<Run<'a>> {
        if let Some(own) = own {
            return Run::find_of_others(log, reader, from, own);
        }
        let batch = log.batch_at(from)?;
        let form = reader.choose(batch, from.offset(), None);
        let encoding = batch.encoding(form);
        Some(Run {
            batch,
            encoding,
            form,
            start: from,
            end: encoding.bytes().len() as u32,
        })
    }

    /// The first run of messages that are not the member's own.
    fn find_of_others(
        log: &'a Log,
        reader: Reader,
        from: Cursor,
        own: ClientId,
    ) -> Option<Run<'a>> {
        let mut cursor = from;
        loop {
            let batch = log.batch_at(cursor)?;
            let form = reader.choose(batch, cursor.offset(), Some(own));
            let encoding = batch.encoding(form);
            let len = encoding.bytes().len();
            let run = |start, next: usize| Run {
                batch,
                encoding,
                form,
                start,
                end: encoding.start_of(next),
            };
            let index = encoding.index_at(cursor.offset());
            let owns = batch.next_of(own, index);
            if owns.start > index {
                return Some(run(cursor, owns.start));
            }
            if owns.end < batch.len() {
                // Two runs of one author have others between them.
                let start = cursor.at_offset(encoding.start_of(owns.end), len);
                return Some(run(start, batch.next_of(own, owns.end).start));
            }
            cursor = cursor.at_offset(len as u32, len);
        }
    }

    fn len(&self) -> usize {
        (self.end - self.start.offset()) as usize
    }

    fn bytes(&self) -> &'a [u8] {
        &self.encoding.bytes()[self.start.offset() as usize..self.end as usize]
    }

    /// The cursor behind the run's first `n` bytes.
    fn after(&self, n: usize) -> Cursor {
        // `n` is at most the run's length, which is 32 bits wide.
        let offset = self.start.offset() + n as u32;
        self.start.at_offset(offset, self.encoding.bytes().len())
    }

    /// The cost as frames of the run's first `n` bytes: the difference of the lag before and behind them.
    fn cost_of(&self, n: usize) -> u64 {
        let end = self.start.offset() as usize + n;
        let until = if end == self.encoding.bytes().len() {
            self.batch.cost_bytes()
        } else {
            // It is within the batch, whose offsets have 32 bits.
            self.batch.bytes_before(self.form, end as u32)
        };
        until - self.batch.bytes_before(self.form, self.start.offset())
    }

    /// Messages that end within the run's first `n` bytes.
    fn messages_within(&self, n: usize) -> u64 {
        let start = self.start.offset();
        let end = self.encoding.index_at(start + n as u32);
        (end - self.encoding.index_at(start)) as u64
    }
}

impl Member {
    /// A member that takes `form` and stands at `cursor`, untrusted. `place` is its place in the topic's list.
    pub(crate) fn new(topic: TopicKey, place: u32, form: Form, cursor: Cursor) -> Member {
        let Reader {
            takes,
            reads,
            next_number,
        } = Reader::new(form);
        Member {
            topic,
            place,
            takes,
            reads,
            next_number,
            cursor,
            is_trusted: false,
            own_ahead: 0,
        }
    }

    /// The form that it takes.
    pub(crate) fn form(&self) -> Form {
        self.takes
    }

    fn reader(&self) -> Reader {
        Reader {
            takes: self.takes,
            reads: self.reads,
            next_number: self.next_number,
        }
    }

    fn set_reader(&mut self, reader: Reader) {
        self.reads = reader.reads;
        self.next_number = reader.next_number;
    }

    /// Whether the member has been sent the beginning of a frame but not its end: no other frame may be put in.
    pub(crate) fn is_mid_frame(&self, log: &Log) -> bool {
        // Members that keep up stand at the beginning of a batch, or at the head. Most deliveries look no further.
        self.cursor.offset() != 0 && self.is_within_frame(log)
    }

    #[cold]
    fn is_within_frame(&self, log: &Log) -> bool {
        log.batch_at(self.cursor)
            .is_some_and(|batch| !batch.encoding(self.reads).is_boundary(self.cursor.offset()))
    }

    /// Whether the member has been sent everything.
    pub(crate) fn is_at_head(&self, log: &Log) -> bool {
        self.cursor == log.head()
    }

    /// Lists the bytes to send, as many as `slices` holds, and returns their number.
    #[inline]
    pub(crate) fn gather<'a>(
        &self,
        log: &'a Log,
        own: Option<ClientId>,
        slices: &mut Slices<'a>,
    ) -> usize {
        // With a constant, nothing is left of the choice of a form. Most members read plain frames.
        if self.takes == Form::Frames {
            self.gather_as(Reader::PLAIN, log, own, slices)
        } else {
            self.gather_chosen(log, own, slices)
        }
    }

    #[cold]
    #[inline(never)]
    fn gather_chosen<'a>(
        &self,
        log: &'a Log,
        own: Option<ClientId>,
        slices: &mut Slices<'a>,
    ) -> usize {
        self.gather_as(self.reader(), log, own, slices)
    }

    /// Chooses forms without changing the member: it has not taken anything yet.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the constant of the fast path folds only there"
    )]
    fn gather_as<'a>(
        &self,
        mut reader: Reader,
        log: &'a Log,
        own: Option<ClientId>,
        slices: &mut Slices<'a>,
    ) -> usize {
        let (mut cursor, head) = (self.cursor, log.head());
        let mut total = 0;
        // Members that keep up have one batch to get. Nothing is looked for behind it.
        while !slices.is_full()
            && cursor != head
            && let Some(run) = Run::find(log, reader, cursor, own)
        {
            slices.push(IoSlice::new(run.bytes()));
            total += run.len();
            cursor = run.after(run.len());
            reader.go_on(run.batch, run.form, cursor.offset() == 0);
        }
        total
    }

    /// The same, up to message `until`, which is the first of a batch.
    #[cold]
    pub(crate) fn gather_until<'a>(
        &self,
        log: &'a Log,
        own: Option<ClientId>,
        slices: &mut Slices<'a>,
        until: Seq,
    ) -> usize {
        let (mut reader, mut cursor) = (self.reader(), self.cursor);
        let mut total = 0;
        while !slices.is_full()
            && let Some(run) = Run::find(log, reader, cursor, own)
            && run.batch.first() < until
        {
            slices.push(IoSlice::new(run.bytes()));
            total += run.len();
            cursor = run.after(run.len());
            reader.go_on(run.batch, run.form, cursor.offset() == 0);
        }
        total
    }

    /// The bytes of the message in progress that the member has been sent.
    pub(crate) fn sent_of_message(&self, log: &Log) -> u32 {
        log.batch_at(self.cursor).map_or(0, |batch| {
            let offset = self.cursor.offset();
            let index = batch.encoding(self.reads).index_at(offset);
            offset - batch.encoding(self.reads).start_of(index)
        })
    }

    /// The rest of the frame that the member is in the middle of.
    pub(crate) fn rest_of_frame(&self, log: &Log, sharers: impl Fn(&Bytes) -> usize) -> Rest {
        Rest::of(self.frame_in_progress(log), sharers)
    }

    /// Lists the rest of the frame that the member is in the middle of, and returns the number of bytes.
    pub(crate) fn gather_rest_of_frame<'a>(&self, log: &'a Log, slices: &mut Slices<'a>) -> usize {
        let Some((encoding, rest)) = self.frame_in_progress(log) else {
            return 0;
        };
        slices.push(IoSlice::new(&encoding.bytes()[rest.clone()]));
        rest.len()
    }

    fn frame_in_progress<'a>(&self, log: &'a Log) -> Option<(&'a Encoding, Range<usize>)> {
        let encoding = log.batch_at(self.cursor)?.encoding(self.reads);
        Some((encoding, encoding.rest_of_message(self.cursor.offset())?))
    }

    /// Moves on by the `n` bytes that the kernel took of those that [`Member::gather`] listed, and past own messages behind
    /// them. Returns the number of messages that this completes.
    #[inline]
    pub(crate) fn advance(&mut self, log: &mut Log, n: usize, own: Option<ClientId>) -> u64 {
        if self.takes == Form::Frames {
            self.advance_as(Reader::PLAIN, log, n, own)
        } else {
            self.advance_chosen(log, n, own)
        }
    }

    #[cold]
    #[inline(never)]
    fn advance_chosen(&mut self, log: &mut Log, n: usize, own: Option<ClientId>) -> u64 {
        self.advance_as(self.reader(), log, n, own)
    }

    /// Makes the same choices as [`Member::gather_as`], and keeps what follows from them.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the constant of the fast path folds only there"
    )]
    fn advance_as(
        &mut self,
        mut reader: Reader,
        log: &mut Log,
        mut n: usize,
        own: Option<ClientId>,
    ) -> u64 {
        let mut cursor = self.cursor;
        let (mut messages, mut plain) = (0, 0);
        while n > 0 {
            let run = Run::find(log, reader, cursor, own)
                .expect("the kernel takes no more than it was given");
            let taken = n.min(run.len());
            let completed = run.messages_within(taken);
            messages += completed;
            if run.form == Form::Frames {
                plain += completed;
            }
            cursor = run.after(taken);
            reader.go_on(run.batch, run.form, cursor.offset() == 0);
            n -= taken;
        }
        if reader.takes == Form::Deflated {
            log.note_plain(plain);
        }
        if own.is_none() {
            if reader.takes != Form::Frames {
                self.set_reader(reader);
            }
            self.relocate(log, cursor);
            return messages;
        }
        let before = self.position(log);
        let next = Run::find(log, reader, cursor, own).map_or(log.head(), |run| run.start);
        if next != cursor {
            reader.jump();
        }
        self.set_reader(reader);
        self.relocate(log, next);
        // Messages that it has passed and not been sent are its own.
        let passed = self.position(log).0 - before.0;
        self.own_ahead -= (passed - messages) as u32;
        messages
    }

    /// The cost as frames of the next `n` bytes that [`Member::gather`] lists.
    pub(crate) fn cost_of(&self, log: &Log, mut n: usize, own: Option<ClientId>) -> u64 {
        let (mut cursor, mut reader) = (self.cursor, self.reader());
        let mut cost_bytes = 0;
        while n > 0
            && let Some(run) = Run::find(log, reader, cursor, own)
        {
            let taken = n.min(run.len());
            cost_bytes += run.cost_of(taken);
            cursor = run.after(taken);
            reader.go_on(run.batch, run.form, cursor.offset() == 0);
            n -= taken;
        }
        cost_bytes
    }

    fn relocate(&mut self, log: &mut Log, to: Cursor) {
        if self.is_trusted {
            log.relocate_trusted(self.cursor, to);
        }
        log.relocate(self.cursor, to);
        self.cursor = to;
    }

    /// From now on publishers wait for it when it lags.
    pub(crate) fn trust(&mut self, log: &mut Log) {
        if !std::mem::replace(&mut self.is_trusted, true) {
            log.trust(self.cursor);
        }
    }

    /// From now on publishers do not wait for it.
    pub(crate) fn distrust(&mut self, log: &mut Log) {
        if std::mem::replace(&mut self.is_trusted, false) {
            log.distrust(self.cursor);
        }
    }

    /// Lets go of the log.
    pub(crate) fn leave(mut self, log: &mut Log) {
        self.distrust(log);
        log.leave(self.cursor);
    }

    /// Notes that `messages` of its own have been appended. They are not sent to it.
    pub(crate) fn note_own(&mut self, messages: u32) {
        self.own_ahead += messages;
    }

    /// The number of the message that the cursor is in or in front of.
    pub(crate) fn position(&self, log: &Log) -> Seq {
        log.batch_at(self.cursor).map_or(log.next(), |batch| {
            batch.number_at(self.reads, self.cursor.offset())
        })
    }

    /// Messages that the member has not been sent to the last byte. In constant time: all members of a large topic may leave at
    /// once.
    pub(crate) fn owed(&self, log: &Log) -> u64 {
        log.next().0 - self.position(log).0 - u64::from(self.own_ahead)
    }

    /// Its lag, in bytes.
    pub(crate) fn lag_bytes(&self, log: &Log) -> u64 {
        log.lag_of(self.cursor, self.reads)
    }

    /// The place that it has come to in the log, as [`Log::end_bytes`] counts.
    pub(crate) fn place_bytes(&self, log: &Log) -> u64 {
        log.end_bytes() - self.lag_bytes(log)
    }

    /// Skips to the head.
    pub(crate) fn jump_to_head(&mut self, log: &mut Log) {
        let head = log.head();
        self.relocate(log, head);
        let mut reader = self.reader();
        reader.jump();
        self.set_reader(reader);
        self.own_ahead = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientKey, ShardId};
    use crate::relay::batch::Batch;
    use crate::relay::batch::audience::Audience;
    use crate::relay::batch::draft::{Draft, Source};
    use crate::time::Timestamp;
    use crate::ws::frame::MessageKind;

    const ME: ClientId = ClientId {
        shard: ShardId(0),
        key: ClientKey {
            slot: 1,
            generation: 1,
        },
    };
    const OTHER: ClientId = ClientId {
        shard: ShardId(0),
        key: ClientKey {
            slot: 2,
            generation: 2,
        },
    };

    /// A log with one batch for each string. Each letter is a message, and each `m` is from me.
    fn log_of(batches: &[&str]) -> (Log, Member) {
        let mut log = Log::default();
        let member = Member::new(TopicKey(0), 0, Form::Frames, log.enter());
        for letters in batches {
            let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(0));
            for letter in letters.bytes() {
                let author = if letter == b'm' { ME } else { OTHER };
                draft.push(MessageKind::Text, &[letter], Some(author));
            }
            for batch in Batch::seal(log.next(), [draft], Audience::default(), None) {
                log.append(batch);
            }
        }
        (log, member)
    }

    /// The same, with a member that does not get its own messages back.
    fn log_without_echo(batches: &[&str]) -> (Log, Member) {
        let (log, mut member) = log_of(batches);
        let own = batches.concat().matches('m').count();
        member.note_own(own as u32);
        (log, member)
    }

    fn sent(member: &Member, log: &Log, own: Option<ClientId>) -> Vec<String> {
        let mut slices = Slices::new();
        let total = member.gather(log, own, &mut slices);
        assert_eq!(total, slices.iter().map(|slice| slice.len()).sum::<usize>());
        let letters =
            |slice: &IoSlice<'_>| slice.chunks(3).map(|frame| char::from(frame[2])).collect();
        slices.iter().map(letters).collect()
    }

    #[test]
    fn a_member_is_sent_whole_batches_in_order() {
        let (log, member) = log_of(&["abc", "d"]);
        assert_eq!(sent(&member, &log, None), ["abc", "d"]);
        assert_eq!(member.owed(&log), 4);
    }

    #[test]
    fn a_members_own_messages_are_left_out_and_not_owed() {
        let (log, member) = log_without_echo(&["mamb", "mm", "cdm"]);
        assert_eq!(sent(&member, &log, Some(ME)), ["a", "b", "cd"]);
        assert_eq!(member.owed(&log), 4);
    }

    #[test]
    fn every_split_of_the_bytes_delivers_the_same_messages() {
        for own in [None, Some(ME)] {
            for step in 1..8 {
                let batches = &["mamb", "mm", "cdm"];
                let (mut log, mut member) = match own {
                    Some(_) => log_without_echo(batches),
                    None => log_of(batches),
                };
                let mut delivered = 0;
                loop {
                    let mut slices = Slices::new();
                    let total = member.gather(&log, own, &mut slices);
                    drop(slices);
                    if total == 0 {
                        break;
                    }
                    delivered += member.advance(&mut log, step.min(total), own);
                    assert_eq!(
                        delivered + member.owed(&log),
                        if own.is_some() { 4 } else { 9 }
                    );
                    let rest = member.gather_rest_of_frame(&log, &mut Slices::new());
                    assert_eq!(member.is_mid_frame(&log), rest > 0);
                    assert_eq!(member.rest_of_frame(&log, |_| 0).bytes.len(), rest);
                }
                assert_eq!(delivered, if own.is_some() { 4 } else { 9 }, "step {step}");
                assert_eq!(
                    member.cursor == log.head(),
                    own.is_none() || log.lag_bytes() == 0
                );
                log.check(1);
            }
        }
    }

    #[test]
    fn a_member_behind_its_own_messages_only_has_nothing_to_be_sent() {
        let (mut log, mut member) = log_without_echo(&["mm"]);
        assert!(sent(&member, &log, Some(ME)).is_empty());
        member.advance(&mut log, 0, Some(ME));
        assert!(member.is_at_head(&log));
    }
}
