//! The control frames that a client is to be sent at the next frame boundary.
//!
//! Bounded whatever the client does: pongs wait up to a limit, beyond which only the newest is kept (RFC 6455, section
//! 5.5.3), a ping is one bit, and behind a Close nothing follows.

use bytes::Bytes;

use crate::ws::encode::ControlFrame;
use crate::ws::frame::ControlPayload;

/// Pongs that wait for a client, in bytes: sixteen of the longest, some two hundred of those with a number in them. Who
/// pings more than that without reading wants no answer to each.
const MAX_PONG_BYTES: usize = 2 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PendingControl {
    /// Whole frames, in the order of the pings.
    pongs: Vec<u8>,
    ping: bool,
    close: Option<ControlFrame>,
}

impl PendingControl {
    /// Answers a ping. When too many answers wait, it stands for all of them.
    pub(crate) fn pong(&mut self, frame: &ControlFrame) {
        if self.pongs.len() + frame.as_slice().len() > MAX_PONG_BYTES {
            self.pongs.clear();
        }
        self.pongs.extend_from_slice(frame.as_slice());
    }

    /// Asks whether the client is there.
    pub(crate) fn ping(&mut self) {
        self.ping = true;
    }

    /// Ends the stream. The first Close stands.
    pub(crate) fn close(&mut self, frame: ControlFrame) {
        self.close.get_or_insert(frame);
    }

    /// The frames as they go on the wire.
    pub(crate) fn into_bytes(self) -> Bytes {
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
    fn every_ping_is_answered_in_order_and_before_anything_else() {
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
    fn of_too_many_pongs_some_are_left_out_but_never_the_newest() {
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
