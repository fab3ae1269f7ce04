//! What one connection has received, checked message by message: nothing missing, nothing twice, each publisher's in the
//! order they were sent in, and a fingerprint of the whole order, which is compared with that of others at the end.

use crate::message::{Format, Head, MAX_HEAD_BYTES};
use crate::order::Fingerprint;

/// Sequence numbers that are remembered as missing for one connection; what is missing beyond that is counted as lost
/// even if it comes late.
const MISSING_REMEMBERED: usize = 4096;

/// Of a publisher of whom a late comer has seen nothing yet.
const UNSEEN: u64 = u64::MAX;

/// Counts of deliveries; a thread has one for all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages of this run that came.
    pub(crate) received: u64,
    /// Owed, and jumped over or never come.
    pub(crate) lost: u64,
    /// Owed to connections that the relay ended with a Close.
    pub(crate) lost_to_closes: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came after a later one of the same publisher.
    pub(crate) out_of_order: u64,
    /// Payload or opcode are not what was sent.
    pub(crate) corrupt: u64,
    /// Sent to another topic.
    pub(crate) misrouted: u64,
    /// None of this run's, before the first of them: a relay's greetings, or what it keeps of earlier times.
    pub(crate) foreign: u64,
}

impl Counts {
    /// Adds others.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.received += other.received;
        self.lost += other.lost;
        self.lost_to_closes += other.lost_to_closes;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.misrouted += other.misrouted;
        self.foreign += other.foreign;
    }

    /// Deliveries that were owed: each was received or is missing.
    pub(crate) fn expected(&self) -> u64 {
        self.received - self.duplicated + self.lost + self.lost_to_closes
    }
}

/// Which topic a publisher sends to, and its number among the publishers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The topic.
    pub(crate) topic: u32,
    /// Its number there, from 0.
    pub(crate) local: u32,
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// New to this connection. The messages from `from` to the one before it were jumped over.
    New {
        /// The message.
        head: Head,
        /// The first that was jumped over, or the message itself.
        from: u64,
    },
    /// It was missing, and has been counted as lost until now.
    Late(Head),
    /// To be counted, and no more.
    Odd,
}

/// The books of one connection.
#[derive(Debug)]
pub(crate) struct Received {
    topic: u32,
    /// By number of the publisher in the topic: the sequence number that must come next.
    next: Box<[u64]>,
    /// Of a late comer, by number of the publisher: the first it has seen. What is before that may still be on its way.
    first: Box<[u64]>,
    fingerprint: Fingerprint,
    /// Whether it was there before anything was sent, and is owed everything.
    is_whole: bool,
    /// Whether nothing was wrong so far, so that its order can be compared.
    is_clean: bool,
    missing: Vec<(u32, u64)>,
    piecemeal: Option<Box<Piecemeal>>,
}

/// A message that comes in pieces.
#[derive(Debug)]
struct Piecemeal {
    bytes: usize,
    head_bytes: [u8; MAX_HEAD_BYTES],
    head: Option<Head>,
    is_intact: bool,
}

impl Received {
    /// The books of a connection in a topic with so many publishers. One that `is_whole` is owed everything they send;
    /// another only what comes after its first delivery.
    pub(crate) fn new(topic: u32, publishers: usize, is_whole: bool) -> Received {
        Received {
            topic,
            next: vec![if is_whole { 0 } else { UNSEEN }; publishers].into(),
            first: vec![UNSEEN; if is_whole { 0 } else { publishers }].into(),
            fingerprint: Fingerprint::default(),
            is_whole,
            is_clean: true,
            missing: Vec::new(),
            piecemeal: None,
        }
    }

    /// Books a message that lies there whole.
    #[inline]
    pub(crate) fn on_message(
        &mut self,
        opcode: u8,
        payload: &[u8],
        expected_opcode: u8,
        format: &Format,
        places: &[Place],
        counts: &mut Counts,
    ) -> Verdict {
        let known = format.read_head(payload);
        let Some(head) = known.filter(|head| head.publisher() < places.len()) else {
            return self.odd(counts);
        };
        if payload.len() != format.size()
            || opcode != expected_opcode
            || payload[format.head_bytes()..] != *format.filler(head.publisher())
        {
            // It is known which message it is; that it came is booked, and that it came damaged.
            self.corrupt(counts);
        }
        self.on_head(head, places, counts)
    }

    /// A message begins that comes in pieces.
    pub(crate) fn on_start(&mut self, opcode: u8, expected_opcode: u8) {
        self.piecemeal = Some(Box::new(Piecemeal {
            bytes: 0,
            head_bytes: [0; MAX_HEAD_BYTES],
            head: None,
            is_intact: opcode == expected_opcode,
        }));
    }

    /// A piece of it.
    pub(crate) fn on_piece(&mut self, piece: &[u8], format: &Format) {
        if let Some(message) = &mut self.piecemeal {
            message.take(piece, format);
        }
    }

    /// Its end.
    pub(crate) fn on_end(
        &mut self,
        format: &Format,
        places: &[Place],
        counts: &mut Counts,
    ) -> Verdict {
        let Some(message) = self.piecemeal.take() else {
            return Verdict::Odd;
        };
        let known = message.head.filter(|head| head.publisher() < places.len());
        let Some(head) = known else {
            return self.odd(counts);
        };
        if message.bytes != format.size() || !message.is_intact {
            self.corrupt(counts);
        }
        self.on_head(head, places, counts)
    }

    #[inline]
    fn on_head(&mut self, head: Head, places: &[Place], counts: &mut Counts) -> Verdict {
        let place = places[head.publisher()];
        if place.topic != self.topic {
            counts.misrouted += 1;
            self.is_clean = false;
            return Verdict::Odd;
        }
        counts.received += 1;
        let next = &mut self.next[place.local as usize];
        let sequence = head.sequence();
        let from = if *next == UNSEEN { sequence } else { *next };
        if sequence < from {
            return self.on_earlier(place.local, head, counts);
        }
        if *next == UNSEEN {
            self.first[place.local as usize] = sequence;
        }
        *next = sequence + 1;
        self.fingerprint.push(head.key);
        if sequence > from {
            self.on_gap(place.local, from, sequence, counts);
        }
        Verdict::New { head, from }
    }

    #[cold]
    fn on_gap(&mut self, local: u32, from: u64, to: u64, counts: &mut Counts) {
        counts.lost += to - from;
        self.is_clean = false;
        let room = MISSING_REMEMBERED - self.missing.len();
        self.missing
            .extend((from..to).take(room).map(|sequence| (local, sequence)));
    }

    #[cold]
    fn on_earlier(&mut self, local: u32, head: Head, counts: &mut Counts) -> Verdict {
        self.is_clean = false;
        let first = self.first.get(local as usize);
        if first.is_some_and(|first| head.sequence() < *first) {
            counts.out_of_order += 1;
            return Verdict::Late(head);
        }
        let missed = (local, head.sequence());
        let Some(at) = self.missing.iter().position(|missing| *missing == missed) else {
            counts.duplicated += 1;
            return Verdict::Odd;
        };
        self.missing.swap_remove(at);
        counts.lost -= 1;
        counts.out_of_order += 1;
        Verdict::Late(head)
    }

    /// A message that is none of ours, or too damaged to tell. What comes before the first of ours is a relay's greeting,
    /// or what it has kept of earlier times; if it was one of ours, that one is missing now.
    #[cold]
    fn odd(&mut self, counts: &mut Counts) -> Verdict {
        if self.fingerprint.count() == 0 {
            counts.foreign += 1;
            return Verdict::Odd;
        }
        self.corrupt(counts)
    }

    #[cold]
    fn corrupt(&mut self, counts: &mut Counts) -> Verdict {
        counts.corrupt += 1;
        self.is_clean = false;
        Verdict::Odd
    }

    /// By publisher of the topic, the sequence number up to which all came or was jumped over; `None` of whom nothing is
    /// owed yet.
    pub(crate) fn next_of(&self, local: usize) -> Option<u64> {
        Some(self.next[local]).filter(|next| *next != UNSEEN)
    }

    /// How many messages are still owed, when each publisher of the topic has sent so many. `own` is a publisher whose
    /// messages the relay keeps from this connection.
    pub(crate) fn owed(&self, sent: impl Fn(usize) -> u64, own: Option<usize>) -> u64 {
        let publishers = 0..self.next.len();
        publishers
            .filter(|local| Some(*local) != own)
            .filter_map(|local| Some(sent(local).saturating_sub(self.next_of(local)?)))
            .sum()
    }

    /// The order it has seen.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether it was owed everything from the start.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether nothing was wrong with what came.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Its topic.
    pub(crate) fn topic(&self) -> u32 {
        self.topic
    }

    /// Notes that something is missing, so that its order is no longer compared.
    pub(crate) fn mark_unclean(&mut self) {
        self.is_clean = false;
    }
}

impl Piecemeal {
    fn take(&mut self, mut piece: &[u8], format: &Format) {
        let head_bytes = format.head_bytes();
        if self.bytes < head_bytes {
            let taken = piece.len().min(head_bytes - self.bytes);
            self.head_bytes[self.bytes..self.bytes + taken].copy_from_slice(&piece[..taken]);
            self.bytes += taken;
            piece = &piece[taken..];
            if self.bytes == head_bytes {
                self.head = format.read_head(&self.head_bytes[..head_bytes]);
            }
        }
        if piece.is_empty() {
            return;
        }
        let from = self.bytes - head_bytes;
        let filler = self.head.map(|head| format.filler(head.publisher()));
        let expected = filler.and_then(|filler| filler.get(from..from + piece.len()));
        self.is_intact &= expected == Some(piece);
        self.bytes += piece.len();
    }
}
