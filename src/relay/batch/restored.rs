//! Batches of an earlier process, made again from the frames that it has saved.
//!
//! Nobody waits for their messages to be numbered, and their senders are gone. So they have neither shares nor authors. A
//! form other than frames is made for them like for any batch that is kept: when somebody asks for it.

use bytes::Bytes;

use super::Batch;
use super::draft::Parts;
use crate::ids::Seq;
use crate::time::Timestamp;
use crate::ws::frame::MessageKind;
use crate::ws::served::first_frame;

/// The frames of a batch, checked.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Bytes,
    ends: Vec<u32>,
}

impl Frames {
    /// Reads frames that lie one behind the other. `None` if they are not the frames of messages that a relay with a history
    /// takes, or if there are none.
    pub(crate) fn read(bytes: Bytes) -> Option<Frames> {
        // An offset into a batch has 32 bits.
        let len = u32::try_from(bytes.len()).ok()?;
        let mut ends = Vec::new();
        let mut end = 0;
        while end < len {
            let rest = &bytes[end as usize..];
            let (kind, payload) = first_frame(rest)?;
            let text = &rest[payload.clone()];
            let is_sound = match kind {
                // A text that begins with U+0000 would speak in the relay's name.
                MessageKind::Text => {
                    simdutf8::basic::from_utf8(text).is_ok() && text.first() != Some(&0)
                }
                MessageKind::Binary => true,
            };
            if !is_sound {
                return None;
            }
            // It is at most `len`.
            end += payload.end as u32;
            ends.push(end);
        }
        ends.shrink_to_fit();
        (!ends.is_empty()).then_some(Frames { bytes, ends })
    }

    /// The number of messages, at least one.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

impl Batch {
    /// The batch of these messages, of which the first is number `first`.
    pub(crate) fn restored(first: Seq, frames: Frames, numbered_at: Timestamp) -> Batch {
        let parts = Parts {
            bytes: frames.bytes,
            ends: frames.ends,
            authors: Vec::new(),
            decoded_at: numbered_at,
            shares: Vec::new(),
        };
        Batch::of_parts(first, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::port::terms::Form;
    use crate::relay::batch::audience::Audience;
    use crate::relay::batch::draft::{Draft, Source};

    #[test]
    fn a_batch_is_restored_as_it_was() {
        let mut draft = Draft::new(Source::Members(ShardId(1)), Timestamp(7));
        let large = vec![7; 70_000];
        for (kind, payload) in [
            (MessageKind::Text, &b"text"[..]),
            (MessageKind::Binary, b"\0\xff"),
            (MessageKind::Text, b""),
            (MessageKind::Binary, &large),
        ] {
            draft.push(kind, payload, None);
        }
        let batch = Batch::seal(Seq(5), [draft], Audience::default(), None).remove(0);
        let bytes = batch.encoding(Form::Frames).bytes().clone();
        let frames = Frames::read(bytes).expect("frames");
        let again = Batch::restored(Seq(5), frames, Timestamp(3));
        assert_eq!((again.first(), again.end()), (batch.first(), batch.end()));
        assert_eq!(again.cost_bytes(), batch.cost_bytes());
        for index in 0..4 {
            let range = |batch: &Batch| batch.encoding(Form::Frames).range(index);
            assert_eq!(range(&again), range(&batch));
        }
        assert_eq!(again.decoded_at(), Timestamp(3));
        assert!(again.shares().is_empty() && again.authors().next().is_none());
    }

    #[test]
    fn other_bytes_are_no_frames_of_messages() {
        for bytes in [
            &b""[..],
            b"\x82\x02a",
            b"\x82\x01ab",
            b"\x81\x01\xff",
            b"\x81\x01\0",
            b"\x89\x00",
            b"\x82\x81aaaaa",
        ] {
            let frames = Frames::read(Bytes::copy_from_slice(bytes));
            assert!(frames.is_none(), "{bytes:?}");
        }
    }
}
