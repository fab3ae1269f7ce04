//! The control frames that a client is sent at the next frame boundary.
//!
//! A client queues them here and sends them as one load. Their size is limited whatever the client does. Pongs wait up to a
//! limit; beyond it only the newest is kept, as RFC 6455, section 5.5.3, allows. A ping is one bit. The relay's own words
//! are a data frame, and go with them. Nothing follows a Close.
//!
//! In an event stream, a comment takes the place of a ping, and a last event that of the Close.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::Seq;
use crate::port::events;
use crate::port::position::Position;
use crate::port::terms::Form;
use crate::port::words;
use crate::ws::encode::ControlFrame;
use crate::ws::frame::ControlPayload;

/// Pongs that wait for a client, in bytes: sixteen of the longest, or about two hundred that carry a number. A client that
/// sends more pings than that without reading does not need an answer to each.
const MAX_PONG_BYTES: usize = 2 << 10;

/// The client is told, in front of a message, that others are missing or that its place has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The number of the message.
    pub(super) next: Seq,
    /// The place as the client is told it.
    pub(super) at: Option<Position>,
    /// Missing messages, if their number is known.
    pub(super) lost: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PendingControl {
    /// Whole frames, in the order of the pings.
    pongs: Vec<u8>,
    ping: bool,
    /// The client has asked where it is.
    probe: bool,
    /// Messages that were skipped, of which the client has not been told.
    skipped: u64,
    /// More were skipped, and nobody knows how many.
    is_more_skipped: bool,
    /// Places of the stream at which the client is told something. It gets nothing of the topic from behind the first, until it
    /// has been told.
    notes: VecDeque<Note>,
    /// The place that the client will have reached, once nothing can move it any more.
    at: Option<Position>,
    /// The Close, or the last event.
    last: Option<Bytes>,
}

impl PendingControl {
    /// Answers a ping. When too many answers wait, this one replaces them all.
    pub(super) fn pong(&mut self, frame: &ControlFrame) {
        if self.pongs.len() + frame.as_slice().len() > MAX_PONG_BYTES {
            self.pongs.clear();
        }
        self.pongs.extend_from_slice(frame.as_slice());
    }

    /// Asks the client for a sign of life.
    pub(super) fn ping(&mut self) {
        self.ping = true;
    }

    /// Tells the client where it is. Several questions have one answer.
    pub(super) fn probe(&mut self) {
        self.probe = true;
    }

    /// Tells the client that `lost` more messages were skipped.
    pub(super) fn skipped(&mut self, lost: u64) {
        self.skipped += lost;
    }

    /// Tells the client something when it has come so far.
    pub(super) fn note(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    /// Takes what is to be said in front of message `reached`, and leaves the rest.
    pub(super) fn split_at(&mut self, reached: Seq) -> PendingControl {
        let due = self.notes.partition_point(|note| note.next <= reached);
        let later = self.notes.split_off(due);
        let rest = PendingControl {
            notes: later,
            ..PendingControl::default()
        };
        std::mem::replace(self, rest)
    }

    /// Whether nothing is to be said.
    pub(super) fn is_empty(&self) -> bool {
        self.is_only_later() && self.notes.is_empty()
    }

    fn is_only_later(&self) -> bool {
        let PendingControl {
            pongs,
            ping,
            probe,
            skipped,
            is_more_skipped,
            notes: _,
            at,
            last,
        } = self;
        let is_silent = pongs.is_empty() && last.is_none() && at.is_none();
        is_silent && !ping && !probe && !is_more_skipped && *skipped == 0
    }

    /// The message up to which the client's stream may go on before something is said. There is nothing else to say.
    pub(super) fn goes_on_to(&self) -> Option<Seq> {
        let first = self.notes.front().filter(|_| self.is_only_later());
        first.map(|note| note.next)
    }

    /// The client skips to message `to`. It is not told what it would have been told before. Returns the messages that are
    /// missing there, if their number is known.
    pub(super) fn skip_notes(&mut self, to: Seq) -> Option<u64> {
        let passed = self.notes.iter().take_while(|note| note.next <= to);
        let lost = passed.map(|note| note.lost).sum();
        self.notes.retain(|note| note.next > to);
        lost
    }

    /// Tells the client that messages were skipped, and nobody knows how many.
    pub(super) fn skipped_unknown(&mut self) {
        self.is_more_skipped = true;
    }

    /// Whether something is to be said that needs the client's position.
    fn has_words(&self) -> bool {
        self.probe || self.skipped > 0 || self.is_more_skipped
    }

    /// The client leaves, and will be in front of message `next` when this is sent, which is `at`.
    pub(super) fn settle(&mut self, at: Option<Position>, next: Option<Seq>) {
        self.notes
            .retain(|note| next.is_some_and(|next| note.next <= next));
        self.at = at.filter(|_| self.has_words());
    }

    /// Ends the stream. Only the first end counts.
    pub(super) fn end(&mut self, words: Bytes) {
        self.last.get_or_insert(words);
    }

    /// The bytes as they go on the wire. If there are words of the relay's own to say, they say that the client is `at` its
    /// position. If it `is_stream`, it reads events.
    pub(super) fn into_bytes(self, is_stream: bool, at: Option<Position>) -> Bytes {
        let form = if is_stream {
            Form::Events
        } else {
            Form::Frames
        };
        let at = at.filter(|_| self.has_words()).or(self.at);
        let mut bytes = self.pongs;
        for note in &self.notes {
            words::push_mark(&mut bytes, form, note.at, note.lost);
        }
        if self.ping {
            if is_stream {
                bytes.extend_from_slice(events::KEEP_ALIVE);
            } else {
                bytes.extend_from_slice(ControlFrame::ping(&ControlPayload::EMPTY).as_slice());
            }
        }
        let is_told = is_stream || at.is_some();
        debug_assert!(is_told || self.skipped == 0, "a skip is told");
        if self.is_more_skipped {
            words::push_mark(&mut bytes, form, at, None);
        } else if at.is_some() || self.skipped > 0 {
            words::push_place(&mut bytes, form, at, self.skipped);
        }
        if let Some(last) = &self.last {
            bytes.extend_from_slice(last);
        }
        Bytes::from(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(payload: &[u8]) -> ControlFrame {
        ControlFrame::pong(&ControlPayload::new(payload).expect("short"))
    }

    #[test]
    fn pongs_go_first_and_in_the_order_of_the_pings() {
        let mut control = PendingControl::default();
        control.end(Bytes::copy_from_slice(
            ControlFrame::close_reply(None).as_slice(),
        ));
        control.ping();
        control.pong(&pong(b"1"));
        control.pong(&pong(b"2"));
        assert_eq!(
            control.into_bytes(false, None),
            b"\x8a\x011\x8a\x012\x89\x00\x88\x00"[..]
        );
    }

    #[test]
    fn in_an_event_stream_each_of_them_is_an_event_or_a_comment() {
        let mut control = PendingControl::default();
        control.end(Bytes::from_static(b"data: end\n\n"));
        control.ping();
        control.skipped(2);
        control.skipped(1);
        let at = Some("e-9".parse().unwrap());
        assert_eq!(
            control.into_bytes(true, at),
            ":\n\nid: e-9\nevent: fanwire\ndata: {\"at\":\"e-9\",\"lost\":3}\n\ndata: end\n\n"
        );
        let mut control = PendingControl::default();
        control.skipped(4);
        assert_eq!(
            control.into_bytes(true, None),
            "event: fanwire\ndata: {\"lost\":4}\n\n"
        );
    }

    #[test]
    fn the_newest_of_too_many_pongs_is_kept() {
        for count in [1, 16, 17, 1000u16] {
            let mut control = PendingControl::default();
            let payload = |n: u16| [&[0; 123][..], &n.to_be_bytes()].concat();
            for n in 1..=count {
                control.pong(&pong(&payload(n)));
            }
            let bytes = control.into_bytes(false, None);
            assert!(bytes.len() <= MAX_PONG_BYTES);
            assert!(bytes.ends_with(pong(&payload(count)).as_slice()));
            let is_complete = bytes.len() == usize::from(count) * 127;
            assert_eq!(is_complete, count <= 16, "{count}");
        }
    }
}
