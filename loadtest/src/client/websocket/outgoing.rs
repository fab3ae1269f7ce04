//! The bytes that wait to be sent on one connection: frames of messages, and control frames among them.

use std::io::{self, ErrorKind, Write};
use std::ops::Range;

use crate::client::stream::Stream;
use crate::client::websocket::wire;

/// Unsent bytes beyond which no more messages are added.
const MAX_UNSENT_BYTES: usize = 1 << 20;

/// The size to which a buffer shrinks that was hardly used.
const KEPT_BYTES: usize = 64 << 10;

/// The unsent bytes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// The number of them that are sent.
    sent: usize,
    /// The control frames among them that have not left.
    controls: Vec<Range<usize>>,
}

impl Outgoing {
    /// Whether more messages may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.unsent() < MAX_UNSENT_BYTES
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The buffer that frames of messages are added to.
    pub(crate) fn messages(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a control frame.
    pub(crate) fn push_control(&mut self, opcode: u8, payload: &[u8]) {
        let start = self.bytes.len();
        wire::push_frame(opcode, payload, &mut self.bytes);
        self.controls.push(start..self.bytes.len());
    }

    /// Sends as much as the kernel takes. Returns whether that was all.
    pub(crate) fn send(&mut self, stream: &mut Stream) -> io::Result<bool> {
        while self.unsent() > 0 {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.forget_sent();
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.bytes.len() < self.bytes.capacity() / 4 {
            self.bytes.shrink_to(KEPT_BYTES.max(self.bytes.len()));
        }
        self.bytes.clear();
        self.controls.clear();
        self.sent = 0;
        stream.flush_records()
    }

    /// Removes the sent bytes, once they are at least as many as those that have to be moved. Otherwise the buffer
    /// would grow for ever under a socket that never takes everything.
    fn forget_sent(&mut self) {
        if self.sent < self.unsent() {
            return;
        }
        self.bytes.drain(..self.sent);
        self.controls.retain(|control| control.end > self.sent);
        for control in &mut self.controls {
            *control = control.start.saturating_sub(self.sent)..control.end - self.sent;
        }
        self.sent = 0;
    }

    /// The number of messages that have not left as a whole. Each has a frame of `frame_bytes`.
    pub(crate) fn unsent_frames(&self, frame_bytes: usize) -> u64 {
        let unsent =
            |control: &Range<usize>| control.end.saturating_sub(control.start.max(self.sent));
        let controls: usize = self.controls.iter().map(unsent).sum();
        (self.unsent() - controls).div_ceil(frame_bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;
    use crate::client::stream::Route;

    #[test]
    fn the_buffer_does_not_grow_for_a_peer_that_takes_less_than_there_is() {
        const FRAME: usize = 4 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route {
            node: 0,
            address: listener.local_addr().unwrap(),
            tls: None,
        };
        let mut stream = Stream::dial(&route, None, false).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut outgoing = Outgoing::default();
        let mut bytes = vec![0; 64 << 10];
        for _ in 0..400 {
            while outgoing.has_room() {
                outgoing.messages().extend_from_slice(&[7; FRAME]);
            }
            outgoing.send(&mut stream).unwrap();
            // Less than the buffer holds, so that something is always left.
            peer.read_exact(&mut bytes).unwrap();
        }
        let capacity = outgoing.bytes.capacity();
        assert!(capacity <= 4 * MAX_UNSENT_BYTES, "{capacity}");
    }

    #[test]
    fn unsent_bytes_are_counted_in_messages_without_control_frames() {
        let mut outgoing = Outgoing::default();
        outgoing.messages().extend_from_slice(&[7; 250]);
        assert_eq!(outgoing.unsent_frames(100), 3);
        outgoing.push_control(wire::PONG, b"12345678");
        assert_eq!(outgoing.unsent_frames(100), 3);
        outgoing.sent = 150;
        assert_eq!(outgoing.unsent_frames(100), 1);
        // Now a part of the control frame has left as well, or all of it. Smaller messages follow it.
        outgoing.messages().extend_from_slice(&[7; 20]);
        for (sent, messages) in [(250, 2), (255, 2), (264, 2), (265, 2), (274, 1), (284, 0)] {
            outgoing.sent = sent;
            assert_eq!(outgoing.unsent_frames(10), messages, "{sent} are sent");
        }
    }

    #[test]
    fn control_frames_that_have_left_are_forgotten() {
        let mut outgoing = Outgoing::default();
        for _ in 0..4 {
            outgoing.push_control(wire::PONG, b"12345678");
            outgoing.messages().extend_from_slice(&[7; 100]);
        }
        let pong = outgoing.controls[0].len();
        // Two pairs, and a part of the next control frame.
        outgoing.sent = 2 * (pong + 100) + 3;
        outgoing.forget_sent();
        assert_eq!(outgoing.controls, [0..pong - 3, pong + 97..2 * pong + 97]);
        assert_eq!(outgoing.unsent_frames(100), 2);
        outgoing.sent = pong - 3 + 1;
        assert_eq!(outgoing.unsent_frames(100), 2);
        outgoing.sent = pong - 3 + 100;
        assert_eq!(outgoing.unsent_frames(100), 1);
    }
}
