//! The messages of a batch as server-sent events.
//!
//! The owner of a topic makes them from the frames, once for all members that read events, when it numbers a batch for them
//! or finds a kept batch without events.

use crate::port::events;
use crate::port::position::Position;
use crate::ws::encode::parts_of;

/// Room for what stands around a message: its field names, and a position with a number of ten digits.
const AROUND_BYTES: usize = 40;

/// The events of `frames`, one after the other, and the end of each. With the position of the first message, each event names
/// the position behind it.
pub(super) fn encode<'a>(
    frames: impl ExactSizeIterator<Item = &'a [u8]>,
    frame_bytes: usize,
    mut at: Option<Position>,
) -> (Vec<u8>, Box<[u32]>) {
    let mut bytes = Vec::with_capacity(frame_bytes + frames.len() * AROUND_BYTES);
    let ends = frames.map(|frame| {
        if let Some(at) = &mut at {
            at.next.0 += 1;
        }
        let (kind, payload) = parts_of(frame);
        events::push_message(&mut bytes, at.as_ref(), kind, payload);
        // A text of nothing but line feeds grows to seven times its size, and an empty message to twenty times. The frames of
        // a batch are far below a twentieth of 4 GiB.
        let end = u32::try_from(bytes.len());
        end.expect("a batch is bounded by what one turn takes in")
    });
    let ends = ends.collect();
    bytes.shrink_to_fit();
    (bytes, ends)
}
