//! The payload of a message that arrived in several pieces, in its own buffer.
//!
//! The decoder fills it, fragment by fragment or directly from the socket. The relay then turns it into a frame without
//! copying the payload, because [`HEADROOM`] free bytes in front have room for the header. The buffer grows with the
//! bytes received, never with the length that a header claims.

use bytes::Bytes;

use super::frame::{HEADROOM, MessageKind, ServerHeader};

/// The first allocation, in bytes, unless the message is known to be smaller. Most messages that arrive in pieces are
/// small ones, cut by the end of a read.
const MIN_CAPACITY_BYTES: usize = 512;

/// A payload with room for a frame header in front. An empty one allocates nothing.
///
/// The buffer holds `HEADROOM` free bytes, then `len` bytes of payload, then bytes that were zeroed for a direct read
/// and are not filled yet. Those stay, so that no byte is zeroed twice.
#[derive(Debug, Default)]
pub struct Assembled {
    buffer: Vec<u8>,
    len: usize,
}

impl Assembled {
    /// The payload.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.buffer
            .get(HEADROOM..HEADROOM + self.len)
            .unwrap_or_default()
    }

    /// Bytes of payload.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes held on the heap.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Makes the payload one final, unmasked frame, in the same allocation.
    ///
    /// A buffer with more than a quarter of unused room is shrunk first, which may copy it once. Frames stay in logs for a
    /// long time, and logs count the length of a frame, not its capacity.
    pub fn into_frame(mut self, kind: MessageKind) -> Bytes {
        let end = HEADROOM + self.len;
        self.buffer.resize(end, 0);
        if self.buffer.capacity() > end + end / 4 {
            self.buffer.shrink_to_fit();
        }
        let header = ServerHeader::new(kind as u8, self.len);
        let header = header.as_slice();
        let start = HEADROOM - header.len();
        self.buffer[start..HEADROOM].copy_from_slice(header);
        let mut frame = Bytes::from(self.buffer);
        bytes::Buf::advance(&mut frame, start);
        frame
    }

    /// Appends received bytes. `max_len` is the limit for the whole payload.
    pub(super) fn extend(&mut self, bytes: &[u8], max_len: usize) {
        if bytes.is_empty() {
            return;
        }
        self.grow(self.len + bytes.len(), max_len);
        let start = HEADROOM + self.len;
        let zeroed = bytes.len().min(self.buffer.len() - start);
        self.buffer[start..start + zeroed].copy_from_slice(&bytes[..zeroed]);
        self.buffer.extend_from_slice(&bytes[zeroed..]);
        self.len += bytes.len();
    }

    /// Returns `count` writable bytes behind the payload, for a direct read. [`Assembled::commit`] makes them payload.
    pub(super) fn spare(&mut self, count: usize, max_len: usize) -> &mut [u8] {
        self.grow(self.len + count, max_len);
        let (start, end) = (HEADROOM + self.len, HEADROOM + self.len + count);
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[start..end]
    }

    /// Makes the first `count` bytes behind the payload part of it. Returns them, so that the caller can unmask them.
    ///
    /// # Panics
    /// If [`Assembled::spare`] handed out fewer bytes: the caller claims to have read more than it could.
    pub(super) fn commit(&mut self, count: usize) -> &mut [u8] {
        let start = HEADROOM + self.len;
        self.len += count;
        &mut self.buffer[start..start + count]
    }

    /// Makes room for a payload of `len` bytes. It doubles the capacity where `max_len` allows, so that a message in any
    /// number of pieces is copied less than twice.
    fn grow(&mut self, len: usize, max_len: usize) {
        debug_assert!(
            len <= max_len,
            "{len} bytes in a message limited to {max_len}"
        );
        // Saturating: without a limit, `max_len` is `usize::MAX`.
        let (needed, max_len) = (HEADROOM + len, max_len.saturating_add(HEADROOM));
        if self.buffer.is_empty() {
            self.buffer
                .reserve_exact(needed.max(MIN_CAPACITY_BYTES.min(max_len)));
            self.buffer.resize(HEADROOM, 0);
        } else if self.buffer.capacity() < needed {
            let capacity = needed.max(max_len.min(2 * self.buffer.capacity()));
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
    }
}

impl From<&[u8]> for Assembled {
    fn from(payload: &[u8]) -> Assembled {
        let mut assembled = Assembled::default();
        assembled.extend(payload, payload.len());
        assembled
    }
}

#[cfg(test)]
mod tests {
    use super::Assembled;
    use crate::ws::encode::push_message;
    use crate::ws::frame::{HEADROOM, MessageKind};

    #[test]
    fn nothing_is_allocated_while_it_is_empty() {
        let mut assembled = Assembled::default();
        assembled.extend(&[], 100);
        assert_eq!((assembled.capacity(), assembled.as_slice()), (0, &[][..]));
    }

    #[test]
    fn its_frame_equals_that_of_the_encoder() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|at: usize| at as u8).collect();
            let mut expected = Vec::new();
            push_message(&mut expected, MessageKind::Text, &payload);
            assert_eq!(
                Assembled::from(&payload[..]).into_frame(MessageKind::Text),
                expected,
                "{len}"
            );
        }
    }

    #[test]
    fn its_frame_is_where_the_payload_was() {
        let assembled = Assembled::from(&[7; 1000][..]);
        let before = assembled.as_slice().as_ptr();
        let frame = assembled.into_frame(MessageKind::Binary);
        assert_eq!(frame[4..].as_ptr(), before);
    }

    #[test]
    fn a_frame_does_not_keep_much_more_than_it_holds() {
        let mut assembled = Assembled::default();
        assembled.extend(&[1; 600], 100_000);
        assembled.extend(&[1; 1], 100_000);
        assert!(assembled.capacity() > 1200);
        let frame = assembled.into_frame(MessageKind::Binary);
        let buffer = Vec::from(frame);
        assert!(buffer.capacity() < 700, "{}", buffer.capacity());
    }

    #[test]
    fn it_grows_by_doubling_up_to_its_limit() {
        let mut assembled = Assembled::default();
        let mut allocations = 0;
        for _ in 0..100_000 {
            let before = assembled.capacity();
            assembled.extend(&[1], 100_000);
            allocations += usize::from(assembled.capacity() != before);
            assert!(assembled.capacity() <= (2 * (HEADROOM + assembled.len())).max(512));
        }
        assert_eq!(assembled.capacity(), HEADROOM + 100_000);
        assert!(allocations < 12, "{allocations}");
    }

    #[test]
    fn a_message_without_a_limit_grows_like_one_with_a_limit() {
        let capacity_after = |count, max_len| {
            let mut assembled = Assembled::default();
            (0..count).for_each(|_| assembled.extend(&[1], max_len));
            assembled.capacity()
        };
        for count in [1, 600, 5_000] {
            let (without, with) = (usize::MAX, 1 << 20);
            assert_eq!(capacity_after(count, without), capacity_after(count, with));
        }
    }

    #[test]
    fn a_message_known_to_be_small_takes_no_more_than_it_needs() {
        let mut assembled = Assembled::default();
        assembled.extend(&[1], 20);
        assert_eq!(assembled.capacity(), HEADROOM + 20);
    }

    #[test]
    fn spare_room_joins_the_payload_when_it_is_committed() {
        let mut assembled = Assembled::from(&b"ab"[..]);
        assembled.spare(4, 100)[..2].copy_from_slice(b"cd");
        assert_eq!(assembled.as_slice(), b"ab");
        assert_eq!(assembled.commit(2), b"cd");
        assert_eq!(assembled.as_slice(), b"abcd");
    }

    #[test]
    fn unused_spare_room_may_be_overwritten() {
        let mut assembled = Assembled::from(&b"ab"[..]);
        assembled.spare(3, 100).fill(b'x');
        assembled.extend(b"cdefg", 100);
        assert_eq!(assembled.as_slice(), b"abcdefg");
    }
}
