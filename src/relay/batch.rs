//! Messages on their way: a [`Draft`] while a sender's shard collects them, a [`Batch`] once their topic's owner has
//! numbered them.
//!
//! Both hold finished server frames, one after the other. Server frames carry no number and are the same for every
//! member, so the sender's shard writes each frame once, straight from its read buffer, and nobody encodes again: the
//! owner numbers and joins, the members' shards share. What a batch adds to its bytes is where its frames end (so that
//! a control frame can be put in between) and, when members do not get their own messages back, who sent each.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{ClientId, Seq, ShardId};
use crate::time::Timestamp;
use crate::ws::encode;
use crate::ws::frame::MessageKind;

/// Drafts that are both below this size are copied together at the owner, which several shards may send some in a turn, or
/// one in several; others stay as they are. At 4 KiB and above a slice of its own costs `writev` less than the copy; below,
/// a copy is cheaper.
const JOIN_BELOW_BYTES: usize = 4 << 10;

/// What a batch costs to keep beside its frames: itself, its place in a log, its share of the allocator's tables. Two
/// million batches of one empty message each took 178 bytes apiece.
pub const OVERHEAD_BYTES: usize = 192;

/// A buffer that wastes more than this share of itself is reallocated before it goes into a log.
const MAX_SLACK_SHARE: usize = 4;

/// Frames that one shard collected for one topic in one turn, not yet numbered.
#[derive(Debug)]
pub struct Draft {
    body: Body,
    ends: Vec<u32>,
    origins: Vec<ClientId>,
    decoded_at: Timestamp,
    from: ShardId,
    /// What each other shard contributed, once its drafts have been joined to this one.
    others: Vec<Share>,
}

/// Bytes of a batch that one shard contributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    from: ShardId,
    bytes: u32,
}

#[derive(Debug)]
enum Body {
    /// Small messages, copied out of the read buffer.
    Open(Vec<u8>),
    /// One large message in the buffer it was read into.
    Whole(Bytes),
}

impl Draft {
    /// An empty draft of the shard `from`, whose first message was decoded at `decoded_at`.
    pub fn new(from: ShardId, decoded_at: Timestamp) -> Self {
        Draft {
            body: Body::Open(Vec::new()),
            ends: Vec::new(),
            origins: Vec::new(),
            decoded_at,
            from,
            others: Vec::new(),
        }
    }

    /// A draft of one frame that is not copied again. `origin` is given where members do not get their own messages.
    pub fn whole(
        from: ShardId,
        decoded_at: Timestamp,
        frame: Bytes,
        origin: Option<ClientId>,
    ) -> Self {
        let end = frame_end(frame.len());
        Draft {
            body: Body::Whole(frame),
            ends: vec![end],
            origins: origin.into_iter().collect(),
            ..Draft::new(from, decoded_at)
        }
    }

    /// Appends a message as a server frame.
    ///
    /// Returns the frame's length. Must not be called on a draft made by [`Draft::whole`].
    pub fn push(&mut self, kind: MessageKind, payload: &[u8], origin: Option<ClientId>) -> usize {
        let Body::Open(bytes) = &mut self.body else {
            unreachable!("a large message has a draft of its own");
        };
        let before = bytes.len();
        encode::push_message(bytes, kind, payload);
        self.ends.push(frame_end(bytes.len()));
        self.origins.extend(origin);
        bytes.len() - before
    }

    /// Bytes of frames.
    pub fn len_bytes(&self) -> usize {
        match &self.body {
            Body::Open(bytes) => bytes.len(),
            Body::Whole(frame) => frame.len(),
        }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no message is in it.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What it costs to keep it, in bytes, room for more messages included.
    pub fn cost_bytes(&self) -> u64 {
        let body = match &self.body {
            Body::Open(bytes) => bytes.capacity(),
            Body::Whole(frame) => frame.len(),
        };
        let marks = self.ends.capacity() * size_of::<u32>()
            + self.origins.capacity() * size_of::<ClientId>()
            + self.others.capacity() * size_of::<Share>();
        (OVERHEAD_BYTES + body + marks) as u64
    }

    /// The shard that collected it.
    pub fn from(&self) -> ShardId {
        self.from
    }

    /// Puts it behind `drafts`: into the last of them where that pays, and else as one of its own.
    pub fn join_behind(self, drafts: &mut Vec<Draft>) {
        let left_over = match drafts.last_mut() {
            Some(last) => last.try_join(self),
            None => Some(self),
        };
        drafts.extend(left_over);
    }

    /// Takes in the messages of `other`, behind its own, when both are small enough for a copy to be the cheaper way.
    fn try_join(&mut self, other: Draft) -> Option<Draft> {
        let (Body::Open(bytes), Body::Open(more)) = (&mut self.body, &other.body) else {
            return Some(other);
        };
        if bytes.len() >= JOIN_BELOW_BYTES || more.len() >= JOIN_BELOW_BYTES {
            return Some(other);
        }
        let base = frame_end(bytes.len());
        bytes.extend_from_slice(more);
        self.ends.extend(other.ends.iter().map(|end| base + end));
        self.origins.extend_from_slice(&other.origins);
        self.decoded_at = self.decoded_at.min(other.decoded_at);
        self.note_share(Share {
            from: other.from,
            bytes: frame_end(more.len()),
        });
        None
    }

    fn note_share(&mut self, share: Share) {
        if share.from == self.from {
            return;
        }
        let mut others = self.others.iter_mut();
        match others.find(|other| other.from == share.from) {
            Some(other) => other.bytes += share.bytes,
            None => self.others.push(share),
        }
    }
}

/// Intake per turn is bounded far below 4 GiB, so an offset into a batch fits 32 bits.
fn frame_end(len: usize) -> u32 {
    u32::try_from(len).expect("a batch is bounded by what one turn takes in")
}

/// Numbered messages of one topic: contiguous server frames, shared by every shard and never changed.
///
/// These are the frames of plain RFC 6455. Another encoding of the same messages would be a second field, made on
/// first need and addressed through [`Batch::bytes`] and [`Batch::frame_range`] in the same way.
#[derive(Debug)]
pub struct Batch {
    first: Seq,
    bytes: Bytes,
    ends: Box<[u32]>,
    origins: Box<[ClientId]>,
    decoded_at: Timestamp,
    shares: Box<[Share]>,
}

impl Batch {
    /// Numbers `drafts` from `first` on, each as a batch.
    pub fn seal(first: Seq, drafts: impl IntoIterator<Item = Draft>) -> Vec<Arc<Batch>> {
        let mut next = first;
        drafts
            .into_iter()
            .map(|draft| {
                let batch = Batch::number(next, draft);
                next = batch.end();
                Arc::new(batch)
            })
            .collect()
    }

    fn number(first: Seq, draft: Draft) -> Batch {
        let others: u32 = draft.others.iter().map(|share| share.bytes).sum();
        let own = Share {
            from: draft.from,
            bytes: frame_end(draft.len_bytes()) - others,
        };
        let bytes = match draft.body {
            Body::Open(mut bytes) => {
                if bytes.capacity() - bytes.len() > bytes.len() / MAX_SLACK_SHARE {
                    bytes.shrink_to_fit();
                }
                Bytes::from(bytes)
            }
            Body::Whole(frame) => frame,
        };
        Batch {
            first,
            bytes,
            ends: draft.ends.into_boxed_slice(),
            origins: draft.origins.into_boxed_slice(),
            decoded_at: draft.decoded_at,
            shares: draft.others.into_iter().chain([own]).collect(),
        }
    }

    /// The number of the first message.
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The number after that of the last message.
    pub fn end(&self) -> Seq {
        Seq(self.first.0 + self.ends.len() as u64)
    }

    /// How many messages there are; at least one.
    pub fn frames(&self) -> usize {
        self.ends.len()
    }

    /// All frames, one after the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it costs to keep it, in bytes: limits on logs count this, or many small messages would take many times what
    /// a limit says.
    pub fn cost_bytes(&self) -> u64 {
        let marks = size_of_val(&*self.ends) + size_of_val(&*self.origins);
        (OVERHEAD_BYTES + self.bytes.len() + marks) as u64
    }

    /// Bytes of it that came from `shard`.
    pub fn bytes_from(&self, shard: ShardId) -> u64 {
        let shares = self.shares.iter().filter(|share| share.from == shard);
        shares.map(|share| u64::from(share.bytes)).sum()
    }

    /// When the earliest of the messages was decoded.
    pub fn decoded_at(&self) -> Timestamp {
        self.decoded_at
    }

    /// The index of the frame that holds the byte at `offset`; [`Batch::frames`] for the offset after the last byte.
    pub fn frame_at(&self, offset: u32) -> usize {
        // Where members stand that keep up: no search, which for a batch of 64 would be a third of a delivery's cost.
        if offset == 0 {
            return 0;
        }
        if offset as usize == self.bytes.len() {
            return self.frames();
        }
        self.ends.partition_point(|&end| end <= offset)
    }

    /// Where frame `index` lies in [`Batch::bytes`].
    pub fn frame_range(&self, index: usize) -> Range<u32> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }

    /// Whether a frame begins at `offset`; true of the offset after the last byte.
    pub fn is_frame_start(&self, offset: u32) -> bool {
        offset == 0 || self.ends.binary_search(&offset).is_ok()
    }

    /// Who sent message `index`, where the relay remembers it (`relay.echo: false`).
    pub fn origin(&self, index: usize) -> Option<ClientId> {
        self.origins.get(index).copied()
    }

    /// The senders of all messages, empty where the relay does not remember them.
    pub fn origins(&self) -> &[ClientId] {
        &self.origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(payloads: &[&[u8]]) -> Draft {
        let mut draft = Draft::new(ShardId(0), Timestamp(7));
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
        Batch::seal(first, joined)
    }

    #[test]
    fn frames_lie_one_behind_the_other_and_know_where_they_end() {
        let batch = seal(Seq(5), [draft(&[b"ab", b"", b"cde"])]).remove(0);
        assert_eq!(batch.bytes().as_ref(), b"\x82\x02ab\x82\x00\x82\x03cde");
        assert_eq!((batch.first(), batch.end()), (Seq(5), Seq(8)));
        assert_eq!(batch.frame_range(1), 4..6);
        assert_eq!(batch.frame_at(3), 0);
        assert_eq!(batch.frame_at(4), 1);
        assert_eq!((batch.frame_at(0), batch.frame_at(11)), (0, 3));
        assert!(batch.is_frame_start(6) && !batch.is_frame_start(5) && batch.is_frame_start(11));
    }

    #[test]
    fn small_drafts_of_several_shards_become_one_contiguous_batch() {
        let batches = seal(Seq(0), [draft(&[b"a"]), draft(&[b"b", b"c"])]);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].bytes().as_ref(), b"\x82\x01a\x82\x01b\x82\x01c");
        assert_eq!(batches[0].frame_range(2), 6..9);
    }

    #[test]
    fn a_batch_knows_how_much_each_shard_contributed() {
        let mut second = Draft::new(ShardId(1), Timestamp(7));
        let pushed = second.push(MessageKind::Binary, b"bcd", None);
        let batch = seal(Seq(0), [draft(&[b"a"]), second, draft(&[b"e"])]).remove(0);
        assert_eq!(batch.bytes_from(ShardId(0)), 6);
        assert_eq!(batch.shares.len(), 2);
        assert_eq!(batch.bytes_from(ShardId(1)), pushed as u64);
        assert_eq!(batch.bytes_from(ShardId(2)), 0);
    }

    #[test]
    fn a_large_message_is_never_copied_again() {
        let frame = Bytes::from(vec![0x82; 70_000]);
        let at = frame.as_ptr();
        let batches = seal(
            Seq(0),
            [
                draft(&[b"a"]),
                Draft::whole(ShardId(1), Timestamp(1), frame, None),
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
        assert_eq!(batches[1].bytes().as_ptr(), at);
    }
}
