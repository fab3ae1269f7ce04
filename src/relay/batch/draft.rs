//! Messages on their way to the owner of their topic, not yet numbered.
//!
//! A [`Draft`] holds finished server frames, one after the other. Server frames carry no number and are the same for every
//! member. So the sender's shard writes each frame once, straight from its read buffer, and nobody encodes it again.

use std::ops::Range;

use bytes::Bytes;

use crate::ids::{ClientId, ShardId};
use crate::time::Timestamp;
use crate::ws::encode;
use crate::ws::frame::MessageKind;

/// The owner copies two drafts together if both are smaller than this. For larger ones the copy costs more than one more
/// slice in `writev`.
const JOIN_BELOW_BYTES: usize = 4 << 10;

/// Memory that a batch takes beside its messages: the struct, its place in a log, its share of the allocator's tables. Two
/// million batches of one empty message took 178 bytes each.
pub const OVERHEAD_BYTES: usize = 192;

/// The senders of messages. For each source, its shard counts the bytes on their way to the owner until they are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Members on this shard. Their bytes come back with the batch, because the shard subscribes to the topic.
    Members(ShardId),
    /// Senders that reached this shard and are not members. The owner tells the shard when their bytes are numbered.
    Outsiders(ShardId),
    /// Another relay of the cluster. Nobody here waits for its bytes.
    Elsewhere,
}

impl Source {
    /// The shard that took the messages in, if it is one of this relay.
    pub(crate) fn shard(self) -> Option<ShardId> {
        match self {
            Source::Members(shard) | Source::Outsiders(shard) => Some(shard),
            Source::Elsewhere => None,
        }
    }
}

/// Bytes of frames that one source contributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The source.
    pub source: Source,
    /// Its bytes.
    pub bytes: u32,
}

/// Messages of one author that follow each other. Ordered by author first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Authored {
    /// The author.
    pub(super) author: ClientId,
    /// The index of the first of them.
    pub(super) start: u32,
    /// The index behind the last.
    pub(super) end: u32,
}

impl Authored {
    fn first(author: ClientId) -> Self {
        Authored {
            author,
            start: 0,
            end: 1,
        }
    }
}

/// Frames that one source has for one topic.
#[derive(Debug)]
pub struct Draft {
    body: Body,
    ends: Vec<u32>,
    authors: Vec<Authored>,
    decoded_at: Timestamp,
    source: Source,
    /// The shares of other sources, whose drafts were joined to this one.
    others: Vec<Share>,
}

#[derive(Debug)]
enum Body {
    /// Small messages, copied out of the read buffer.
    Open(Vec<u8>),
    /// One large message in the buffer it was read into.
    Whole(Bytes),
}

/// The content of a draft, for a batch.
#[derive(Debug)]
pub(super) struct Parts {
    /// All frames.
    pub(super) bytes: Bytes,
    /// The end of each frame.
    pub(super) ends: Vec<u32>,
    /// The authors, in order of messages; empty if they do not matter.
    pub(super) authors: Vec<Authored>,
    /// The time at which the earliest message was decoded.
    pub(super) decoded_at: Timestamp,
    /// The share of each source.
    pub(super) shares: Vec<Share>,
}

/// A buffer goes into a log as it is, unless its unused room is more than a quarter of its content. Then it is reallocated.
const MAX_SLACK_SHARE: usize = 4;

impl Draft {
    /// An empty draft, whose first message was decoded at `decoded_at`.
    pub fn new(source: Source, decoded_at: Timestamp) -> Self {
        Draft {
            body: Body::Open(Vec::new()),
            ends: Vec::new(),
            authors: Vec::new(),
            decoded_at,
            source,
            others: Vec::new(),
        }
    }

    /// A draft of one frame that is not copied again. `author` is given only if members do not get their own
    /// messages.
    pub(crate) fn whole(
        source: Source,
        decoded_at: Timestamp,
        frame: Bytes,
        author: Option<ClientId>,
    ) -> Self {
        let end = frame_end(frame.len());
        Draft {
            body: Body::Whole(frame),
            ends: vec![end],
            authors: author.map(Authored::first).into_iter().collect(),
            ..Draft::new(source, decoded_at)
        }
    }

    /// A draft of finished frames from another relay, with their ends.
    pub(crate) fn arrived(decoded_at: Timestamp, frames: &[u8], ends: Vec<u32>) -> Self {
        Draft {
            // A copy: the bytes may lie in a much larger buffer.
            body: Body::Open(frames.to_vec()),
            ends,
            ..Draft::new(Source::Elsewhere, decoded_at)
        }
    }

    /// The share of each source in its bytes.
    pub(crate) fn shares(&self) -> impl Iterator<Item = Share> + '_ {
        let others: u32 = self.others.iter().map(|share| share.bytes).sum();
        let own = Share {
            source: self.source,
            bytes: frame_end(self.len_bytes()) - others,
        };
        self.others.iter().copied().chain([own])
    }

    /// Appends a message as a server frame.
    ///
    /// Returns the frame's length. Must not be called on a draft made by `Draft::whole`.
    pub fn push(&mut self, kind: MessageKind, payload: &[u8], author: Option<ClientId>) -> usize {
        let Body::Open(bytes) = &mut self.body else {
            unreachable!("a large message has a draft of its own");
        };
        let before = bytes.len();
        encode::push_message(bytes, kind, payload);
        let pushed = bytes.len() - before;
        let index = self.ends.len() as u32;
        self.ends.push(frame_end(bytes.len()));
        if let Some(author) = author {
            self.note_author(author, index..index + 1);
        }
        pushed
    }

    /// Whether messages can be appended.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.body, Body::Open(_))
    }

    /// Bytes of frames.
    pub(crate) fn len_bytes(&self) -> usize {
        match &self.body {
            Body::Open(bytes) => bytes.len(),
            Body::Whole(frame) => frame.len(),
        }
    }

    /// All frames.
    pub(crate) fn frames(&self) -> &[u8] {
        match &self.body {
            Body::Open(bytes) => bytes,
            Body::Whole(frame) => frame,
        }
    }

    /// Number of messages.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Memory that it takes, in bytes, with the room for more messages.
    pub(crate) fn cost_bytes(&self) -> u64 {
        let body = match &self.body {
            Body::Open(bytes) => bytes.capacity(),
            Body::Whole(frame) => frame.len(),
        };
        let marks = self.ends.capacity() * size_of::<u32>()
            + self.authors.capacity() * size_of::<Authored>()
            + self.others.capacity() * size_of::<Share>();
        (OVERHEAD_BYTES + body + marks) as u64
    }

    /// The source of its first messages. Other sources may have joined it.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// Appends it to `drafts`: copied into the last one if that is cheaper, otherwise as an entry of its own.
    pub(crate) fn join_behind(self, drafts: &mut Vec<Draft>) {
        let left_over = match drafts.last_mut() {
            Some(last) => last.try_join(self),
            None => Some(self),
        };
        drafts.extend(left_over);
    }

    /// Copies the messages of `other` behind its own if both are small. Hands `other` back if not.
    pub(crate) fn try_join(&mut self, other: Draft) -> Option<Draft> {
        let (Body::Open(bytes), Body::Open(more)) = (&mut self.body, &other.body) else {
            return Some(other);
        };
        if bytes.len() >= JOIN_BELOW_BYTES || more.len() >= JOIN_BELOW_BYTES {
            return Some(other);
        }
        let has_authors = !self.authors.is_empty();
        if has_authors == other.authors.is_empty() {
            // Outsiders are not authors. Their messages would leave gaps between the runs, and `note_author` expects none.
            return Some(other);
        }
        let (base, first) = (frame_end(bytes.len()), self.ends.len() as u32);
        bytes.extend_from_slice(more);
        self.ends.extend(other.ends.iter().map(|end| base + end));
        for Authored { author, start, end } in &other.authors {
            self.note_author(*author, first + start..first + end);
        }
        self.decoded_at = self.decoded_at.min(other.decoded_at);
        for share in other.shares() {
            self.note_share(share);
        }
        None
    }

    /// Notes the author of the messages in `range`, which begins where the last run ends.
    fn note_author(&mut self, author: ClientId, range: Range<u32>) {
        let Range { start, end } = range;
        match self.authors.last_mut() {
            Some(last) if last.author == author => last.end = end,
            Some(_) | None => self.authors.push(Authored { author, start, end }),
        }
    }

    fn note_share(&mut self, share: Share) {
        if share.source == self.source {
            return;
        }
        let mut others = self.others.iter_mut();
        match others.find(|other| other.source == share.source) {
            Some(other) => other.bytes += share.bytes,
            None => self.others.push(share),
        }
    }

    /// Takes it apart, for a batch.
    pub(super) fn into_parts(self) -> Parts {
        let others: u32 = self.others.iter().map(|share| share.bytes).sum();
        let own = Share {
            source: self.source,
            bytes: frame_end(self.len_bytes()) - others,
        };
        let bytes = match self.body {
            Body::Open(mut bytes) => {
                if bytes.capacity() - bytes.len() > bytes.len() / MAX_SLACK_SHARE {
                    bytes.shrink_to_fit();
                }
                Bytes::from(bytes)
            }
            Body::Whole(frame) => frame,
        };
        Parts {
            bytes,
            ends: self.ends,
            authors: self.authors,
            decoded_at: self.decoded_at,
            shares: self.others.into_iter().chain([own]).collect(),
        }
    }
}

/// An offset into a batch. It fits 32 bits, because one turn takes in far less than 4 GiB.
fn frame_end(len: usize) -> u32 {
    u32::try_from(len).expect("a batch is bounded by what one turn takes in")
}
