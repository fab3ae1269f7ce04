//! The checks of one connection, message by message: nothing missing, nothing twice, nothing damaged, and the messages
//! of each publisher in the order in which they were sent.

use super::agreement::Start;
use super::excuses::{Excuses, Jumped};
use super::order::Fingerprint;
use super::tally::Counts;
use crate::scenario::message::{Format, Head, MAX_HEAD_BYTES};
use crate::scenario::plan::Place;

/// The most missing messages that are remembered for one connection. Beyond that, a message that comes late stays
/// counted as lost, and counts as out of order too.
const MISSING_REMEMBERED: usize = 4096;

/// Stands for a publisher of which a late comer has seen nothing yet.
const UNSEEN: u64 = u64::MAX;

/// The form that all messages of a run must have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// Their form.
    pub(crate) format: &'a Format,
    /// The opcode of their frames.
    pub(crate) opcode: u8,
    /// By publisher: its place.
    pub(crate) places: &'a [Place],
}

/// The verdict on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// New to this connection. The messages from `from` to the one before it were jumped over.
    New {
        /// The message.
        head: Head,
        /// The first that was jumped over, or the message itself.
        from: u64,
    },
    /// Late: it was counted as lost until now.
    Late(Head),
    /// Odd: it is counted, and that is all.
    Odd,
}

/// The checks of one connection.
#[derive(Debug)]
pub(crate) struct Received {
    topic: u32,
    /// By number of the publisher in the topic: the message that must come next.
    next: Box<[u64]>,
    /// Of a late comer, by number of the publisher: the first message it has seen. Earlier ones may still be on their
    /// way.
    first: Box<[u64]>,
    /// Of a late comer, by number of the publisher: the first message that it is owed in any case, once that is known.
    owed_from: Box<[u64]>,
    /// This connection's own number as a publisher, if the relay keeps its own messages from it.
    own: Option<u32>,
    fingerprint: Fingerprint,
    /// Whether it was there before anything was sent. It is owed everything then.
    is_whole: bool,
    /// Whether nothing was wrong so far, so that its order can be compared.
    is_clean: bool,
    missing: Vec<(u32, u64)>,
    /// Whether more was missing than is remembered.
    has_forgotten: bool,
    /// Messages that it may miss, since it came back.
    excuses: Option<Box<Excuses>>,
    /// The position before the first message of its fingerprint, if the relay has said one.
    start: Option<Start>,
    own_counts: OwnCounts,
    /// The time at which it last came back. Messages that were due before it are late by the client's absence.
    back_since: u64,
    piecemeal: Piecemeal,
}

/// Counts of one client, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnCounts {
    /// Missing without a word from the relay.
    pub(crate) lost: u64,
    /// Came again.
    pub(crate) repeated: u64,
    /// Missing, and the relay said so.
    pub(crate) told: u64,
    /// Said to be lost, and not missing.
    pub(crate) falsely_told: u64,
    /// Sent while it was away, and not asked for.
    pub(crate) missed: u64,
}

/// A message that comes in pieces.
#[derive(Debug, Default)]
struct Piecemeal {
    /// Whether a message has begun.
    is_there: bool,
    bytes: usize,
    head_bytes: [u8; MAX_HEAD_BYTES],
    head: Option<Head>,
    is_intact: bool,
}

impl Received {
    /// The checks of a connection in a topic with this many publishers. A connection that `is_whole` is owed everything.
    /// A late comer is owed all from its first delivery on, and all that [`Received::owe`] says. `own` is the publisher
    /// whose messages the relay keeps from this connection.
    pub(crate) fn new(topic: u32, publishers: usize, is_whole: bool, own: Option<u32>) -> Received {
        let of_late_comer = vec![UNSEEN; if is_whole { 0 } else { publishers }];
        Received {
            topic,
            next: vec![if is_whole { 0 } else { UNSEEN }; publishers].into(),
            first: of_late_comer.clone().into(),
            owed_from: of_late_comer.into(),
            own,
            fingerprint: Fingerprint::default(),
            is_whole,
            is_clean: true,
            missing: Vec::new(),
            has_forgotten: false,
            excuses: None,
            start: None,
            own_counts: OwnCounts::default(),
            back_since: 0,
            piecemeal: Piecemeal::default(),
        }
    }

    /// Notes that a late comer has joined for certain: from now on it is owed all that publishers send.
    pub(crate) fn owe(&mut self, sent: impl Fn(usize) -> u64) {
        for (local, owed_from) in self.owed_from.iter_mut().enumerate() {
            *owed_from = sent(local);
        }
        if let Some(excuses) = &mut self.excuses {
            excuses.end(sent);
        }
    }

    /// Notes where its stream begins or goes on.
    pub(crate) fn begin_at(&mut self, start: Start) {
        if self.fingerprint.count() == 0 {
            self.start = Some(start);
        }
    }

    /// The relay said that so many messages are lost before the next.
    pub(crate) fn excuse_told(&mut self, lost: u64) {
        let earlier = self.excuses.take().map(|earlier| *earlier);
        self.excuse(Excuses::told(lost, self.next.len(), earlier));
    }

    /// The relay said that it does not know how many messages are lost before the next.
    pub(crate) fn excuse_unknown(&mut self) {
        self.excuse(Excuses::unknown(self.next.len()));
    }

    /// It came back and asked for nothing.
    pub(crate) fn excuse_unasked(&mut self) {
        self.excuse(Excuses::unasked(self.next.len()));
    }

    fn excuse(&mut self, excuses: Excuses) {
        self.excuses = Some(Box::new(excuses));
    }

    /// The rest of a message in pieces does not come, or the message is not the topic's.
    pub(crate) fn forget_piecemeal(&mut self) {
        self.piecemeal = Piecemeal::default();
    }

    /// Begins another stretch: something may be missing before the next message, so the order cannot be compared across
    /// it.
    pub(crate) fn begin_stretch(&mut self) {
        self.fingerprint = Fingerprint::default();
        self.start = None;
        self.is_whole = false;
    }

    /// Checks a message that arrived in one piece.
    #[inline]
    pub(crate) fn on_message(
        &mut self,
        opcode: u8,
        payload: &[u8],
        expected: &Expected<'_>,
        sent: impl Fn(usize) -> u64,
        counts: &mut Counts,
    ) -> Verdict {
        let Expected { format, places, .. } = *expected;
        let known = format.read_head(payload);
        let Some(head) = known.filter(|head| head.publisher() < places.len()) else {
            return self.odd(counts);
        };
        if payload.len() != format.size()
            || opcode != expected.opcode
            || payload[format.head_bytes()..] != *format.filler(head.key)
        {
            // Its head says which message it is: it counts as received, and as damaged.
            self.corrupt(counts);
        }
        self.on_head(head, places, sent, counts)
    }

    /// Begins a message that comes in pieces.
    pub(crate) fn on_start(&mut self, opcode: u8, expected_opcode: u8) {
        self.piecemeal = Piecemeal {
            is_there: true,
            is_intact: opcode == expected_opcode,
            ..Piecemeal::default()
        };
    }

    /// Takes a piece of it.
    pub(crate) fn on_piece(&mut self, piece: &[u8], format: &Format) {
        if self.piecemeal.is_there {
            self.piecemeal.take(piece, format);
        }
    }

    /// Checks the message whose last piece has come.
    pub(crate) fn on_end(
        &mut self,
        expected: &Expected<'_>,
        sent: impl Fn(usize) -> u64,
        counts: &mut Counts,
    ) -> Verdict {
        let Expected { format, places, .. } = *expected;
        let message = std::mem::take(&mut self.piecemeal);
        if !message.is_there {
            return Verdict::Odd;
        }
        let known = message.head.filter(|head| head.publisher() < places.len());
        let Some(head) = known else {
            return self.odd(counts);
        };
        if message.bytes != format.size() || !message.is_intact {
            self.corrupt(counts);
        }
        self.on_head(head, places, sent, counts)
    }

    #[inline]
    fn on_head(
        &mut self,
        head: Head,
        places: &[Place],
        sent: impl Fn(usize) -> u64,
        counts: &mut Counts,
    ) -> Verdict {
        let place = places[head.publisher()];
        if place.topic != self.topic {
            counts.misrouted += 1;
            self.is_clean = false;
            return Verdict::Odd;
        }
        if self.own == Some(place.local) {
            counts.echoed += 1;
            self.is_clean = false;
            return Verdict::Odd;
        }
        let next = self.next[place.local as usize];
        if head.sequence() != next {
            return self.on_other(place.local, head, sent, counts);
        }
        self.take(place.local, next, head, counts)
    }

    /// Counts a message that is new.
    #[inline]
    fn take(&mut self, local: u32, from: u64, head: Head, counts: &mut Counts) -> Verdict {
        counts.received += 1;
        self.next[local as usize] = head.sequence() + 1;
        self.fingerprint.push(head.key);
        if self.excuses.is_some() {
            // A gap before it was looked at before.
            let sequence = head.sequence();
            self.on_first(local, sequence, sequence, counts);
        }
        Verdict::New { head, from }
    }

    /// Checks a message that is not the next of its publisher.
    #[cold]
    fn on_other(
        &mut self,
        local: u32,
        head: Head,
        sent: impl Fn(usize) -> u64,
        counts: &mut Counts,
    ) -> Verdict {
        let sequence = head.sequence();
        if sequence >= sent(head.publisher()) {
            // Nobody has sent it yet, so its head is damaged, though its check is right.
            return self.corrupt(counts);
        }
        let next = self.next[local as usize];
        let from = if next == UNSEEN {
            // Messages that it is owed in any case were jumped over.
            let from = sequence.min(self.owed_from[local as usize]);
            self.first[local as usize] = from;
            from
        } else {
            next
        };
        if sequence < from {
            return self.on_earlier(local, head, counts);
        }
        if sequence > from {
            self.on_gap(local, from, sequence, counts);
        }
        self.take(local, from, head, counts)
    }

    #[cold]
    fn on_gap(&mut self, local: u32, from: u64, to: u64, counts: &mut Counts) {
        if self.excuses.is_some() {
            let jumped = self.on_first(local, from, to, counts);
            if jumped.lost == 0 {
                return;
            }
        } else {
            self.count_lost(to - from, counts);
        }
        self.is_clean = false;
        let room = MISSING_REMEMBERED - self.missing.len();
        self.has_forgotten |= to - from > room as u64;
        self.missing
            .extend((from..to).take(room).map(|sequence| (local, sequence)));
    }

    /// Asks the excuses about the messages before the first one of a publisher.
    #[cold]
    fn on_first(&mut self, local: u32, from: u64, to: u64, counts: &mut Counts) -> Jumped {
        let Some(mut excuses) = self.excuses.take() else {
            return Jumped::default();
        };
        let jumped = excuses.on_first(local as usize, from, to);
        self.count_jumped(jumped, counts);
        if excuses.is_used_up() {
            self.count_falsely_told(excuses.left(), counts);
        } else {
            self.excuses = Some(excuses);
        }
        jumped
    }

    fn count_jumped(&mut self, jumped: Jumped, counts: &mut Counts) {
        counts.told += jumped.told;
        counts.missed += jumped.missed;
        self.own_counts.told += jumped.told;
        self.own_counts.missed += jumped.missed;
        self.count_lost(jumped.lost, counts);
    }

    fn count_lost(&mut self, lost: u64, counts: &mut Counts) {
        counts.lost += lost;
        self.own_counts.lost += lost;
    }

    fn count_falsely_told(&mut self, left: u64, counts: &mut Counts) {
        counts.falsely_told += left;
        self.own_counts.falsely_told += left;
    }

    /// Nothing more will come: what has an excuse is counted by it. The rest is still owed.
    pub(crate) fn conclude(&mut self, sent: impl Fn(usize) -> u64, counts: &mut Counts) {
        let Some(mut excuses) = self.excuses.take() else {
            return;
        };
        for local in 0..self.next.len() {
            let (from, to) = (self.next[local], sent(local));
            if excuses.is_pending(local) && from < to {
                let mut jumped = excuses.on_first(local, from, to);
                // These are still owed.
                self.next[local] = to - std::mem::take(&mut jumped.lost);
                self.count_jumped(jumped, counts);
            }
        }
        self.count_falsely_told(excuses.left(), counts);
    }

    /// It has come back.
    pub(crate) fn come_back(&mut self, now: u64) {
        self.back_since = now;
    }

    /// The time at which it last came back; 0 if it was never away.
    pub(crate) fn back_since(&self) -> u64 {
        self.back_since
    }

    /// Counts of this client.
    pub(crate) fn own_counts(&self) -> OwnCounts {
        self.own_counts
    }

    #[cold]
    fn on_earlier(&mut self, local: u32, head: Head, counts: &mut Counts) -> Verdict {
        counts.received += 1;
        self.is_clean = false;
        let first = self.first.get(local as usize);
        if first.is_some_and(|first| head.sequence() < *first) {
            counts.out_of_order += 1;
            return Verdict::Late(head);
        }
        let missed = (local, head.sequence());
        if let Some(at) = self.missing.iter().position(|missing| *missing == missed) {
            self.missing.swap_remove(at);
            // Of a gap that was excused in part, all are remembered.
            counts.lost = counts.lost.saturating_sub(1);
            self.own_counts.lost = self.own_counts.lost.saturating_sub(1);
            counts.out_of_order += 1;
            return Verdict::Late(head);
        }
        // A forgotten message that was jumped over cannot be told from one that came.
        if self.has_forgotten {
            counts.out_of_order += 1;
            return Verdict::Late(head);
        }
        counts.duplicated += 1;
        self.own_counts.repeated += 1;
        Verdict::Odd
    }

    /// Counts a message that is not ours, or too damaged to tell. Before the first of ours it is the relay's greeting,
    /// or a message that it kept from earlier.
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

    /// The number of a publisher's message that must come next; `None` if nothing is owed yet.
    pub(crate) fn next_of(&self, local: usize) -> Option<u64> {
        Some(self.next[local]).filter(|next| *next != UNSEEN)
    }

    /// The number of messages that are still owed, if each publisher of the topic has sent `sent` of it.
    pub(crate) fn owed(&self, sent: impl Fn(usize) -> u64) -> u64 {
        let others = (0..self.next.len()).filter(|local| self.own != Some(*local as u32));
        let missing = others.map(|local| {
            let from_first = self.next_of(local);
            // From `UNSEEN` on, nothing is owed.
            let from = from_first.unwrap_or_else(|| self.owed_from[local]);
            (local, from, sent(local).max(from))
        });
        match &self.excuses {
            Some(excuses) => excuses.clone().conclude(missing).lost,
            None => missing.map(|(_, from, to)| to - from).sum(),
        }
    }

    /// The position before the first message of its fingerprint.
    pub(crate) fn start(&self) -> Option<Start> {
        self.start
    }

    /// The order it has seen.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether it was owed everything from the start.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether nothing was wrong with its messages.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Its topic.
    pub(crate) fn topic(&self) -> u32 {
        self.topic
    }

    /// Notes that something is missing. Its order is not compared then.
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
        let filler = self.head.map(|head| format.filler(head.key));
        let expected = filler.and_then(|filler| filler.get(from..from + piece.len()));
        self.is_intact &= expected == Some(piece);
        self.bytes += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::message::key;
    use crate::scenario::options::Opcode;
    use crate::scenario::payload::Payload;

    const PLACES: [Place; 1] = [Place { topic: 0, local: 0 }];

    /// The checks of one connection; the publisher has sent ten messages.
    struct Reader {
        format: Format,
        received: Received,
        counts: Counts,
    }

    impl Reader {
        fn new(is_whole: bool) -> Reader {
            Reader {
                format: Format::new(Payload::Fixed, 16, Opcode::Binary, 1),
                received: Received::new(0, 1, is_whole, None),
                counts: Counts::default(),
            }
        }

        fn hear(&mut self, sequence: u64) -> Verdict {
            let mut payload = [0; 16];
            let head = Head {
                key: key(0, sequence),
                due: 5,
            };
            self.format.write_head(head, &mut payload);
            let expected = Expected {
                format: &self.format,
                opcode: 2,
                places: &PLACES,
            };
            self.received
                .on_message(2, &payload, &expected, |_| 10, &mut self.counts)
        }
    }

    #[test]
    fn a_message_that_nobody_has_sent_yet_is_damaged_and_jumps_over_nothing() {
        for is_whole in [true, false] {
            let mut reader = Reader::new(is_whole);
            reader.hear(0);
            assert_eq!(reader.hear(1 << 39), Verdict::Odd);
            assert_eq!(reader.hear(10), Verdict::Odd);
            reader.hear(1);
            let expected = Counts {
                received: 2,
                corrupt: 2,
                ..Counts::default()
            };
            assert_eq!(reader.counts, expected);
        }
    }

    #[test]
    fn a_late_comer_is_owed_all_that_is_sent_after_it_has_joined_for_certain() {
        let mut reader = Reader::new(false);
        assert_eq!(reader.received.owed(|_| 10), 0);
        reader.received.owe(|_| 4);
        assert_eq!(reader.received.owed(|_| 10), 6);
        // The first two that it is owed do not come.
        reader.hear(6);
        assert_eq!(reader.counts.lost, 2);
        assert_eq!(reader.received.owed(|_| 10), 3);
        // Messages that were on their way when it joined may come or not.
        let mut reader = Reader::new(false);
        reader.received.owe(|_| 4);
        reader.hear(2);
        reader.hear(3);
        assert_eq!((reader.counts.lost, reader.received.owed(|_| 10)), (0, 6));
    }
}
