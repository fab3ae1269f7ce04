//! A client that reads kept messages and is too far behind for a cursor in the log.
//!
//! It holds a shared list of batches, so it costs publishers nothing. At the end of the list the topic's owner is asked for
//! the rest. When that is short, the client takes a cursor and is a member like all others.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use crate::ids::Seq;
use crate::port::terms::Form;
use crate::relay::batch::Encoding;
use crate::relay::batch::past::Past;
use crate::relay::topic::TopicKey;
use crate::relay::topic::member::Slices;

/// See the module.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The topic.
    pub topic: TopicKey,
    /// The form that the client takes. Kept messages come to it in [`Form::of_kept`].
    pub form: Form,
    past: Arc<Past>,
    /// The batch of the next byte.
    index: usize,
    /// The byte within it.
    offset: u32,
    /// The batch behind the last one that is read.
    last: usize,
    /// The number of the next message when these are read.
    end: Seq,
}

impl Replay {
    /// A replay of `past` from message `from` on, up to message `until`.
    pub(crate) fn new(
        topic: TopicKey,
        form: Form,
        (from, until): (Seq, Seq),
        past: Arc<Past>,
    ) -> Self {
        let index = past.index_of(from);
        let entry = past.entries().get(index);
        let offset = entry.map_or(0, |kept| kept.batch.offset_of(form.of_kept(), from));
        Replay {
            topic,
            form,
            last: past.index_of(until),
            end: until,
            past,
            index,
            offset,
        }
    }

    /// The same for a client that has been sent the first `sent` bytes of message `from`.
    pub(crate) fn within(
        topic: TopicKey,
        form: Form,
        (from, until): (Seq, Seq),
        past: Arc<Past>,
        sent: u32,
    ) -> Self {
        let mut replay = Replay::new(topic, form, (from, until), past);
        replay.offset += sent;
        replay
    }

    /// The list that it reads.
    pub(crate) fn past(&self) -> &Arc<Past> {
        &self.past
    }

    /// Whether the list is over. The owner is then asked for the rest.
    pub(crate) fn is_over(&self) -> bool {
        self.index == self.last
    }

    fn encoding(&self, index: usize) -> Option<&Encoding> {
        let kept = self.past.entries()[..self.last].get(index)?;
        Some(kept.batch.encoding(self.form.of_kept()))
    }

    /// The number of the message that it is in or in front of.
    pub(crate) fn position(&self) -> Seq {
        let entry = self.past.entries()[..self.last].get(self.index);
        entry.map_or(self.end, |kept| {
            kept.batch.number_at(self.form.of_kept(), self.offset)
        })
    }

    /// The messages of the list that the client has not been sent to the last byte.
    pub(crate) fn owed(&self) -> u64 {
        self.end.0 - self.position().0
    }

    /// Whether the client has been sent the beginning of a frame but not its end.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.frame_in_progress().is_some()
    }

    /// Lists the bytes to send, as many as `slices` holds, and returns their number.
    pub(crate) fn gather<'a>(&'a self, slices: &mut Slices<'a>) -> usize {
        let mut offset = self.offset as usize;
        let mut total = 0;
        for index in self.index.. {
            let Some(encoding) = self.encoding(index).filter(|_| !slices.is_full()) else {
                break;
            };
            let bytes = &encoding.bytes()[offset..];
            slices.push(IoSlice::new(bytes));
            total += bytes.len();
            offset = 0;
        }
        total
    }

    /// The same, up to message `until`, which is the first of a batch.
    pub(crate) fn gather_until<'a>(&'a self, slices: &mut Slices<'a>, until: Seq) -> usize {
        let mut offset = self.offset as usize;
        let mut total = 0;
        for kept in &self.past.entries()[self.index..self.last] {
            if slices.is_full() || kept.batch.first() >= until {
                break;
            }
            let bytes = &kept.batch.encoding(self.form).bytes()[offset..];
            slices.push(IoSlice::new(bytes));
            total += bytes.len();
            offset = 0;
        }
        total
    }

    /// Lists the rest of the frame that the client is in the middle of, and returns the number of bytes.
    pub(crate) fn gather_rest_of_frame<'a>(&'a self, slices: &mut Slices<'a>) -> usize {
        let Some((encoding, rest)) = self.frame_in_progress() else {
            return 0;
        };
        slices.push(IoSlice::new(&encoding.bytes()[rest.clone()]));
        rest.len()
    }

    /// The encoding that holds the frame in progress, and the rest of that frame.
    pub(crate) fn frame_in_progress(&self) -> Option<(&Encoding, Range<usize>)> {
        let encoding = self.encoding(self.index)?;
        Some((encoding, encoding.rest_of_message(self.offset)?))
    }

    /// Moves on by the `n` bytes that the kernel took. Returns the number of messages that this completes.
    pub(crate) fn advance(&mut self, mut n: usize) -> u64 {
        let before = self.position();
        while n > 0 {
            let Some(encoding) = self.encoding(self.index) else {
                unreachable!("the kernel takes no more than it was given");
            };
            let left = encoding.bytes().len() - self.offset as usize;
            if n < left {
                // Offsets fit 32 bits.
                self.offset += n as u32;
                break;
            }
            n -= left;
            self.index += 1;
            self.offset = 0;
        }
        self.position().0 - before.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use crate::relay::batch::Batch;
    use crate::relay::batch::audience::Audience;
    use crate::relay::batch::draft::{Draft, Source};
    use crate::relay::batch::past::Kept;
    use crate::time::Timestamp;
    use crate::ws::frame::MessageKind;

    /// Three batches of two messages `\x81\x01x`, numbered from 10 on.
    fn past() -> Arc<Past> {
        let kept = (0..3).map(|batch| {
            let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(0));
            draft.push(MessageKind::Text, b"x", None);
            draft.push(MessageKind::Text, b"x", None);
            Kept {
                batch: Batch::seal(Seq(10 + 2 * batch), [draft], Audience::default(), None)
                    .remove(0),
                cost_before: 0,
            }
        });
        Arc::new(Past::new(kept.collect()))
    }

    fn replay(from: u64) -> Replay {
        Replay::new(TopicKey(0), Form::Frames, (Seq(from), Seq(16)), past())
    }

    #[test]
    fn any_bytes_may_be_taken_and_each_message_is_completed_once() {
        for step in 1..=12 {
            let mut replay = replay(11);
            let (mut left, mut messages) = (15, 0);
            while left > 0 {
                let mut slices = Slices::new();
                assert_eq!(replay.gather(&mut slices), left);
                drop(slices);
                let taken = step.min(left);
                messages += replay.advance(taken);
                left -= taken;
                assert_eq!(replay.owed() + messages, 5);
                let in_frame = left % 3;
                let mut slices = Slices::new();
                assert_eq!(replay.gather_rest_of_frame(&mut slices), in_frame);
                assert_eq!(replay.is_mid_frame(), in_frame > 0);
            }
            assert!(replay.is_over() && messages == 5);
            assert_eq!(replay.position(), Seq(16));
        }
    }

    #[test]
    fn a_replay_ends_where_its_form_is_not_made_yet() {
        let whole = (Seq(11), Seq(14));
        let mut replay = Replay::new(TopicKey(0), Form::Frames, whole, past());
        assert_eq!((replay.gather(&mut Slices::new()), replay.owed()), (9, 3));
        assert_eq!(replay.advance(9), 3);
        assert!(replay.is_over());
        assert_eq!((replay.position(), replay.owed()), (Seq(14), 0));
    }

    #[test]
    fn a_replay_from_the_end_is_over() {
        assert!(replay(16).is_over());
        assert_eq!(replay(16).position(), Seq(16));
    }
}
