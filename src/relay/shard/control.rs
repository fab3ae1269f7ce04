//! The control frames that a client is sent at the next frame boundary.
//!
//! A client queues them here and sends them as one load. Their size is limited whatever the client does. Pongs wait up to a
//! limit; beyond it only the newest is kept, as RFC 6455, section 5.5.3, allows. A ping is one bit. The relay's own words
//! are a data frame, and go with them. Nothing follows a Close.
//!
//! In an event stream, a comment takes the place of a ping, and a last event that of the Close.

use bytes::Bytes;

use crate::port::events;
use crate::port::position::Position;
use crate::port::terms::Form;
use crate::port::words;
use crate::ws::encode::ControlFrame;
use crate::ws::frame::ControlPayload;

/// Pongs that wait for a client, in bytes: sixteen of the longest, or about two hundred that carry a number. A client that
/// sends more pings than that without reading does not need an answer to each.
const MAX_PONG_BYTES: usize = 2 << 10;

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

    /// Whether something is to be said that needs the client's position.
    fn has_words(&self) -> bool {
        self.probe || self.skipped > 0
    }

    /// The client leaves, and will be at `at` when this is sent.
    pub(super) fn settle(&mut self, at: Option<Position>) {
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
        if self.ping {
            if is_stream {
                bytes.extend_from_slice(events::KEEP_ALIVE);
            } else {
                bytes.extend_from_slice(ControlFrame::ping(&ControlPayload::EMPTY).as_slice());
            }
        }
        let is_told = is_stream || at.is_some();
        debug_assert!(is_told || self.skipped == 0, "a skip is told");
        if at.is_some() || self.skipped > 0 {
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
