//! The control frames that a client is to be sent at the next frame boundary.
//!
//! Bounded whatever the client does: of pongs only the newest is kept (RFC 6455, section 5.5.3), a ping is one bit, and
//! behind a Close nothing follows.

use bytes::Bytes;

use crate::ws::encode::ControlFrame;
use crate::ws::frame::ControlPayload;

/// See the module.
#[derive(Debug, Default)]
pub struct PendingControl {
    pong: Option<ControlFrame>,
    ping: bool,
    close: Option<ControlFrame>,
}

impl PendingControl {
    /// Answers a ping; an answer that has not been sent yet is replaced.
    pub fn pong(&mut self, frame: ControlFrame) {
        self.pong = Some(frame);
    }

    /// Asks whether the client is there.
    pub fn ping(&mut self) {
        self.ping = true;
    }

    /// Ends the stream. The first Close stands.
    pub fn close(&mut self, frame: ControlFrame) {
        self.close.get_or_insert(frame);
    }

    /// The frames as they go on the wire.
    pub fn into_bytes(self) -> Bytes {
        let ping = self
            .ping
            .then(|| ControlFrame::ping(&ControlPayload::EMPTY));
        let frames = [self.pong, ping, self.close];
        frames
            .iter()
            .flatten()
            .flat_map(ControlFrame::as_slice)
            .copied()
            .collect()
    }
}
