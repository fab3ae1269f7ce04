//! A publisher: its frame, which is made once, and how much it has sent. Only the head of the frame changes, and the rest if the
//! run's messages differ.

use super::websocket::wire;
use crate::scenario::message::{Format, Head, key};

/// A connection that sends.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its number among all publishers.
    pub(crate) index: u32,
    /// The key of its connection, when that is open.
    pub(crate) conn: Option<usize>,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages that it may send, in a burst.
    pub(crate) target: u64,
    /// Whether it waits for its connection to take more.
    pub(crate) is_held: bool,
    /// Whether its next message was counted before: the relay has refused it for now.
    pub(crate) is_repeat: bool,
    /// A whole frame, masked, or a whole request.
    frame: Vec<u8>,
    /// The offset of the payload in the frame.
    payload: usize,
    is_masked: bool,
}

impl Publisher {
    /// A publisher that sends frames or, with the head of its requests, posts.
    pub(crate) fn new(index: u32, format: &Format, post_head: Option<&str>) -> Publisher {
        let mut payload = vec![0; format.head_bytes()];
        payload.extend_from_slice(format.filler(key(index, 0)));
        let mut frame = Vec::new();
        match post_head {
            Some(head) => {
                frame.extend_from_slice(head.as_bytes());
                frame.extend_from_slice(&payload);
            }
            None => wire::push_frame(format.opcode().code(), &payload, &mut frame),
        }
        Publisher {
            index,
            conn: None,
            sent: 0,
            target: 0,
            is_held: false,
            is_repeat: false,
            is_masked: post_head.is_none(),
            payload: frame.len() - payload.len(),
            frame,
        }
    }

    /// Bytes of each of its frames.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Appends its next message, which was due at `due`.
    pub(crate) fn push(&mut self, due: u64, format: &Format, out: &mut Vec<u8>) {
        let start = out.len() + self.payload;
        out.extend_from_slice(&self.frame);
        let mut changed = &mut out[start..];
        let key = key(self.index, self.sent);
        format.write_head(Head { key, due }, changed);
        if format.varies() {
            changed[format.head_bytes()..].copy_from_slice(format.filler(key));
        } else {
            changed = &mut changed[..format.head_bytes()];
        }
        if self.is_masked {
            // The mask begins anew with each payload.
            wire::mask(changed);
        }
        self.sent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::options::Opcode;
    use crate::scenario::payload::Payload;

    #[test]
    fn requests_carry_the_same_payload_without_a_mask() {
        let format = Format::new(Payload::Fixed, 40, Opcode::Text, 3);
        let mut publisher = Publisher::new(5, &format, Some("POST / HTTP/1.1\r\n\r\n"));
        let mut out = Vec::new();
        publisher.push(100, &format, &mut out);
        let payload = out.strip_prefix(b"POST / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(payload.len(), 40);
        assert_eq!(format.read_head(payload).unwrap().key, key(5, 0));
    }

    #[test]
    fn frames_carry_the_head_and_the_filler_under_the_mask() {
        for payload in [Payload::Fixed, Payload::Trades] {
            for opcode in [Opcode::Binary, Opcode::Text] {
                let format = Format::new(payload, 40, opcode, 3);
                let mut publisher = Publisher::new(5, &format, None);
                let mut out = Vec::new();
                publisher.push(100, &format, &mut out);
                publisher.push(200, &format, &mut out);
                let frame = out.len() / 2;
                for (sequence, frame) in out.chunks_exact(frame).enumerate() {
                    let mut payload = frame[6..].to_vec();
                    wire::mask(&mut payload);
                    let head = format.read_head(&payload).unwrap();
                    assert_eq!(head.key, key(5, sequence as u64));
                    assert_eq!(head.due, 100 * (sequence as u64 + 1));
                    assert_eq!(payload[format.head_bytes()..], *format.filler(head.key));
                }
            }
        }
    }
}
