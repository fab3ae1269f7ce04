//! Numbered messages of one topic, shared by every shard and never changed.
//!
//! The owner of the topic makes a [`Batch`] when it numbers a draft. A batch holds its messages in every [`Form`] that its
//! audience reads, each made once. It knows where frames end, so that a control frame can go between two of them. If members
//! do not get their own messages back, it also knows the authors.

pub(crate) mod audience;
pub(crate) mod deflated;
pub(crate) mod draft;
pub(crate) mod drafts;
mod events;
pub(crate) mod past;
pub(crate) mod restored;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{ClientId, Seq};
use crate::port::position::{Epoch, Position};
use crate::port::terms::Form;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::deflated::{Mark, Volume};
use crate::relay::batch::draft::{Authored, Draft, OVERHEAD_BYTES, Parts, Share, Source};
use crate::time::Timestamp;
use crate::ws::deflate::Compressor;

/// The messages of a batch in one form, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    bytes: Bytes,
    ends: Box<[u32]>,
}

impl Encoding {
    /// All messages.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The index of the message that holds the byte at `offset`; the number of messages for the offset after the last byte.
    pub(crate) fn index_at(&self, offset: u32) -> usize {
        // Members that keep up stand here. A search would be a third of a delivery's cost in a batch of 64.
        if offset == 0 {
            return 0;
        }
        if offset as usize == self.bytes.len() {
            return self.ends.len();
        }
        self.ends.partition_point(|&end| end <= offset)
    }

    /// The bytes of message `index` within [`Encoding::bytes`].
    pub(crate) fn range(&self, index: usize) -> Range<u32> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }

    fn message(&self, index: usize) -> &[u8] {
        let range = self.range(index);
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The offset of message `index`. If `index` is the number of messages, the end.
    pub(crate) fn start_of(&self, index: usize) -> u32 {
        if index == self.ends.len() {
            // Offsets fit 32 bits.
            return self.bytes.len() as u32;
        }
        self.range(index).start
    }

    /// Whether a message begins or the encoding ends at `offset`.
    pub(crate) fn is_boundary(&self, offset: u32) -> bool {
        offset == 0 || self.ends.binary_search(&offset).is_ok()
    }

    /// The rest of the message that is begun at `offset`, within [`Encoding::bytes`]; `None` between two messages.
    pub(crate) fn rest_of_message(&self, offset: u32) -> Option<Range<usize>> {
        if self.is_boundary(offset) {
            return None;
        }
        let end = self.range(self.index_at(offset)).end;
        Some(offset as usize..end as usize)
    }

    /// Bytes that it takes in memory.
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }
}

/// The messages of a batch as compressed frames.
#[derive(Clone, Debug)]
struct Deflated {
    encoding: Encoding,
    mark: Mark,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Batch {
    first: Seq,
    frames: Encoding,
    /// Present if somebody reads them. Most topics have no such readers.
    events: Option<Box<Encoding>>,
    /// Present if the owner has compressed the batch.
    deflated: Option<Box<Deflated>>,
    /// The runs of each author, sorted by author; empty if members get their own messages back.
    authors: Box<[Authored]>,
    decoded_at: Timestamp,
    shares: Box<[Share]>,
    cost_bytes: u64,
    kept_bytes: u64,
}

impl Batch {
    /// Numbers `drafts` from `first` on, each as a batch, in the forms that `audience` reads. Events are named by their
    /// positions in `epoch`; `None` if the topic keeps no messages.
    pub fn seal(
        first: Seq,
        drafts: impl IntoIterator<Item = Draft>,
        audience: Audience,
        epoch: Option<&Epoch>,
    ) -> Vec<Arc<Batch>> {
        let at = epoch.map(|&epoch| Position { epoch, next: first });
        Batch::seal_at(first, drafts, audience, at)
    }

    /// The same. The first message is the one behind `at`.
    pub(crate) fn seal_at(
        first: Seq,
        drafts: impl IntoIterator<Item = Draft>,
        audience: Audience,
        at: Option<Position>,
    ) -> Vec<Arc<Batch>> {
        let (mut next, mut at) = (first, at);
        drafts
            .into_iter()
            .map(|draft| {
                let mut batch = Batch::number(next, draft);
                if audience.reads(Form::Events) {
                    batch.make_events(at);
                }
                next = batch.end();
                if let Some(at) = &mut at {
                    at.next.0 += batch.len() as u64;
                }
                Arc::new(batch)
            })
            .collect()
    }

    fn number(first: Seq, draft: Draft) -> Batch {
        Batch::of_parts(first, draft.into_parts())
    }

    fn of_parts(first: Seq, parts: Parts) -> Batch {
        let Parts {
            bytes,
            ends,
            mut authors,
            decoded_at,
            shares,
        } = parts;
        // Frames are always made, because lag is counted in them.
        let frames = Encoding {
            bytes,
            ends: ends.into_boxed_slice(),
        };
        authors.sort_unstable();
        let authors = authors.into_boxed_slice();
        let cost_bytes = (OVERHEAD_BYTES + frames.cost_bytes() + size_of_val(&*authors)) as u64;
        Batch {
            first,
            frames,
            events: None,
            deflated: None,
            authors,
            decoded_at,
            shares: shares.into_boxed_slice(),
            cost_bytes,
            kept_bytes: cost_bytes,
        }
    }

    fn make_events(&mut self, at: Option<Position>) {
        let frames = (0..self.len()).map(|index| self.frames.message(index));
        let frame_bytes = self.frames.bytes.len();
        let (bytes, ends) = events::encode(frames, frame_bytes, at);
        let bytes = Bytes::from(bytes);
        let events = Encoding { bytes, ends };
        self.kept_bytes += events.cost_bytes() as u64;
        self.events = Some(Box::new(events));
    }

    fn messages(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.frames.message(index))
    }

    /// The messages that can be compressed. The others stay as they are.
    pub(crate) fn compressible(&self) -> Volume {
        deflated::volume(self.messages())
    }

    /// Makes the compressed frames. Every member must be sent the batch, because the window has then seen it. Returns the volume
    /// of the compressed frames.
    pub(crate) fn deflate(&mut self, compressor: &mut Compressor, mark: Mark) -> Volume {
        let frame_bytes = self.frames.bytes.len();
        let (bytes, ends, compressed) = deflated::encode(self.messages(), frame_bytes, compressor);
        let bytes = Bytes::from(bytes);
        let encoding = Encoding { bytes, ends };
        self.kept_bytes += (encoding.cost_bytes() + size_of::<Deflated>()) as u64;
        self.deflated = Some(Box::new(Deflated { encoding, mark }));
        compressed
    }

    /// The place of its compressed frames, if it has any.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.deflated.as_ref().map(|deflated| deflated.mark)
    }

    /// Whether it has the messages in a form.
    pub(crate) fn has(&self, form: Form) -> bool {
        match form {
            Form::Frames => true,
            Form::Events => self.events.is_some(),
            Form::Deflated => self.deflated.is_some(),
        }
    }

    /// The same messages, also in `form`. The first is the one behind `at`. The bytes of the frames are shared.
    pub(crate) fn with(&self, form: Form, at: Option<Position>) -> Batch {
        let mut batch = self.clone();
        match form {
            // No window has room for old messages.
            Form::Frames | Form::Deflated => {}
            Form::Events => batch.make_events(at),
        }
        batch
    }

    /// The number of the first message.
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The number after that of the last message.
    pub(crate) fn end(&self) -> Seq {
        Seq(self.first.0 + self.len() as u64)
    }

    /// The number of messages, at least one.
    #[expect(clippy::len_without_is_empty, reason = "no batch is empty")]
    pub fn len(&self) -> usize {
        self.frames.ends.len()
    }

    /// The messages in a form, which somebody in the audience reads.
    pub(crate) fn encoding(&self, form: Form) -> &Encoding {
        match form {
            Form::Frames => &self.frames,
            Form::Events | Form::Deflated => self.other(form),
        }
    }

    /// Not inlined: a delivery of frames would cost some thirty instructions more.
    #[cold]
    #[inline(never)]
    fn other(&self, form: Form) -> &Encoding {
        let encoding = match form {
            Form::Frames => Some(&self.frames),
            Form::Events => self.events.as_deref(),
            Form::Deflated => self.deflated.as_ref().map(|deflated| &deflated.encoding),
        };
        encoding.expect("a batch has the forms that its audience reads")
    }

    /// The number of the message at `offset` of `form`.
    pub(crate) fn number_at(&self, form: Form, offset: u32) -> Seq {
        Seq(self.first.0 + self.encoding(form).index_at(offset) as u64)
    }

    /// The offset of message `number` in `form`. The batch has the message.
    pub(crate) fn offset_of(&self, form: Form, number: Seq) -> u32 {
        // A batch has fewer than 2³² messages.
        let index = (number.0 - self.first.0) as usize;
        self.encoding(form).start_of(index)
    }

    /// Bytes that the messages cost as frames. Lag is counted in this, whatever form a member reads. It includes the batch's
    /// own overhead. Otherwise many small messages would take many times the memory that a limit allows.
    pub(crate) fn cost_bytes(&self) -> u64 {
        self.cost_bytes
    }

    /// Bytes that the batch takes in memory: its messages in all forms, and its own overhead.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes of frames before `offset` of `form`. In a form that is not frames, only whole messages count.
    pub(crate) fn bytes_before(&self, form: Form, offset: u32) -> u64 {
        match form {
            Form::Frames => u64::from(offset),
            Form::Events | Form::Deflated => {
                let index = self.encoding(form).index_at(offset);
                u64::from(self.frames.start_of(index))
            }
        }
    }

    /// Bytes of frames.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frames.bytes.len() as u64
    }

    /// Bytes of frames that came from `source`.
    pub(crate) fn bytes_from(&self, source: Source) -> u64 {
        let shares = self.shares.iter().filter(|share| share.source == source);
        shares.map(|share| u64::from(share.bytes)).sum()
    }

    /// The share of each source.
    pub(crate) fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The moment at which the earliest message was decoded.
    pub(crate) fn decoded_at(&self) -> Timestamp {
        self.decoded_at
    }

    /// The next run of messages of `author` at or behind `index`; an empty range at the end if there is none.
    pub(crate) fn next_of(&self, author: ClientId, index: usize) -> Range<usize> {
        let is_before = |run: &Authored| (run.author, run.end as usize) <= (author, index);
        let at = self.authors.partition_point(is_before);
        match self.authors.get(at) {
            Some(run) if run.author == author => index.max(run.start as usize)..run.end as usize,
            Some(_) | None => self.len()..self.len(),
        }
    }

    /// The authors and how many messages each has; none if members get their own messages back.
    pub(crate) fn authors(&self) -> impl Iterator<Item = (ClientId, usize)> + '_ {
        let authors = self
            .authors
            .chunk_by(|one, other| one.author == other.author);
        authors.map(|runs| {
            let messages = runs.iter().map(|run| (run.end - run.start) as usize);
            (runs[0].author, messages.sum())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientKey, ShardId};
    use crate::ws::frame::MessageKind;

    const HERE: Source = Source::Members(ShardId(0));
    const THERE: Source = Source::Members(ShardId(1));

    fn frames(batch: &Batch) -> &Encoding {
        batch.encoding(Form::Frames)
    }

    fn draft(payloads: &[&[u8]]) -> Draft {
        let mut draft = Draft::new(HERE, Timestamp(7));
        for payload in payloads {
            draft.push(MessageKind::Binary, payload, None);
        }
        draft
    }

    fn seal(first: Seq, drafts: impl IntoIterator<Item = Draft>) -> Vec<Arc<Batch>> {
        let mut joined = Vec::new();
        for draft in drafts {
            draft.join_behind(&mut joined);
        }
        Batch::seal(first, joined, Audience::default(), None)
    }

    #[test]
    fn frames_lie_one_behind_the_other_and_know_where_they_end() {
        let batch = seal(Seq(5), [draft(&[b"ab", b"", b"cde"])]).remove(0);
        assert_eq!(
            frames(&batch).bytes().as_ref(),
            b"\x82\x02ab\x82\x00\x82\x03cde"
        );
        assert_eq!((batch.first(), batch.end()), (Seq(5), Seq(8)));
        assert_eq!(frames(&batch).range(1), 4..6);
        assert_eq!(frames(&batch).index_at(3), 0);
        assert_eq!(frames(&batch).index_at(4), 1);
        assert_eq!(
            (frames(&batch).index_at(0), frames(&batch).index_at(11)),
            (0, 3)
        );
        assert!(
            frames(&batch).is_boundary(6)
                && !frames(&batch).is_boundary(5)
                && frames(&batch).is_boundary(11)
        );
    }

    #[test]
    fn events_are_made_for_those_who_read_them_and_lag_is_that_of_the_frames() {
        let audience = Audience::of(Form::Events, 1);
        let epoch = Epoch::from_bits(7);
        let mut text = Draft::new(HERE, Timestamp(7));
        text.push(MessageKind::Text, b"a\nb", None);
        text.push(MessageKind::Binary, &[0xff; 300], None);
        let batch = Batch::seal(Seq(5), [text], audience, Some(&epoch)).remove(0);
        let events = batch.encoding(Form::Events);
        let first = format!("id: {}-6\ndata: a\ndata: b\n\n", epoch.as_str());
        let second = format!(
            "id: {}-7\nevent: binary\ndata: {}\n\n",
            epoch.as_str(),
            "/".repeat(400)
        );
        assert_eq!(events.bytes(), &[first.clone(), second].concat());
        assert_eq!(events.index_at(first.len() as u32), 1);
        assert_eq!(batch.bytes_before(Form::Events, first.len() as u32 - 1), 0);
        assert_eq!(batch.bytes_before(Form::Events, first.len() as u32), 5);
        assert_eq!(
            batch.bytes_before(Form::Events, events.bytes().len() as u32 - 1),
            5
        );
        let of_events = events.bytes().len() + 2 * size_of::<u32>();
        assert_eq!(batch.kept_bytes(), batch.cost_bytes() + of_events as u64);
        assert!(!seal(Seq(0), [draft(&[b"a"])])[0].has(Form::Events));
    }

    #[test]
    fn small_drafts_of_several_shards_become_one_contiguous_batch() {
        let batches = seal(Seq(0), [draft(&[b"a"]), draft(&[b"b", b"c"])]);
        assert_eq!(batches.len(), 1);
        assert_eq!(
            frames(&batches[0]).bytes().as_ref(),
            b"\x82\x01a\x82\x01b\x82\x01c"
        );
        assert_eq!(frames(&batches[0]).range(2), 6..9);
    }

    #[test]
    fn a_batch_knows_how_much_each_shard_contributed() {
        let mut second = Draft::new(THERE, Timestamp(7));
        let pushed = second.push(MessageKind::Binary, b"bcd", None);
        let batch = seal(Seq(0), [draft(&[b"a"]), second, draft(&[b"e"])]).remove(0);
        assert_eq!(batch.bytes_from(HERE), 6);
        assert_eq!(batch.shares.len(), 2);
        assert_eq!(batch.bytes_from(THERE), pushed as u64);
        assert_eq!(batch.bytes_from(Source::Outsiders(ShardId(1))), 0);
    }

    #[test]
    fn a_large_message_is_never_copied_again() {
        let frame = Bytes::from(vec![0x82; 70_000]);
        let at = frame.as_ptr();
        let batches = seal(
            Seq(0),
            [
                draft(&[b"a"]),
                Draft::whole(THERE, Timestamp(1), frame, None),
                draft(&[b"b"]),
            ],
        );
        assert_eq!(
            batches
                .iter()
                .map(|batch| batch.first().0)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(frames(&batches[1]).bytes().as_ptr(), at);
    }

    #[test]
    fn a_batch_knows_which_messages_are_whose() {
        let [one, other, stranger] = [1, 2, 3].map(|slot| ClientId {
            shard: ShardId(0),
            key: ClientKey {
                slot,
                generation: 7,
            },
        });
        let mut draft = Draft::new(HERE, Timestamp(0));
        for author in [one, other, one, one] {
            draft.push(MessageKind::Text, b"x", Some(author));
        }
        let batch = seal(Seq(0), [draft]).remove(0);
        let next_of = |author| [0, 1, 2, 3].map(|index| batch.next_of(author, index));
        assert_eq!(next_of(one), [0..1, 2..4, 2..4, 3..4]);
        assert_eq!(next_of(other), [1..2, 1..2, 4..4, 4..4]);
        assert_eq!(next_of(stranger), [const { 4..4 }; 4]);
        assert!(batch.authors().eq([(one, 3), (other, 1)]));
    }

    #[test]
    fn drafts_of_outsiders_are_joined_to_others_only_if_authors_do_not_matter() {
        let outside = || {
            let mut draft = Draft::new(Source::Outsiders(ShardId(0)), Timestamp(1));
            draft.push(MessageKind::Text, b"x", None);
            draft
        };
        assert_eq!(seal(Seq(0), [draft(&[b"a"]), outside()]).len(), 1);
        let author = ClientId {
            shard: ShardId(0),
            key: ClientKey::first_in(0),
        };
        let mut authored = Draft::new(HERE, Timestamp(0));
        authored.push(MessageKind::Text, b"x", Some(author));
        assert_eq!(seal(Seq(0), [authored, outside()]).len(), 2);
    }
}
