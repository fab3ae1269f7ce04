//! The control frames that a client is sent at the next frame boundary.
//!
//! A client queues them here and sends them as one load. Their size is limited whatever the client does. Pongs wait up to a
//! limit; beyond it only the newest is kept, as RFC 6455, section 5.5.3, allows. A ping is one bit. Nothing follows a Close.

use bytes::Bytes;

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
    close: Option<ControlFrame>,
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

    /// Ends the stream. Only the first Close counts.
    pub(super) fn close(&mut self, frame: ControlFrame) {
        self.close.get_or_insert(frame);
    }

    /// The frames as they go on the wire.
    pub(super) fn into_bytes(self) -> Bytes {
        let mut bytes = self.pongs;
        if self.ping {
            bytes.extend_from_slice(ControlFrame::ping(&ControlPayload::EMPTY).as_slice());
        }
        if let Some(close) = &self.close {
            bytes.extend_from_slice(close.as_slice());
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
        control.close(ControlFrame::close_reply(None));
        control.ping();
        control.pong(&pong(b"1"));
        control.pong(&pong(b"2"));
        assert_eq!(
            control.into_bytes(),
            b"\x8a\x011\x8a\x012\x89\x00\x88\x00"[..]
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
            let bytes = control.into_bytes();
            assert!(bytes.len() <= MAX_PONG_BYTES);
            assert!(bytes.ends_with(pong(&payload(count)).as_slice()));
            let is_complete = bytes.len() == usize::from(count) * 127;
            assert_eq!(is_complete, count <= 16, "{count}");
        }
    }
}
