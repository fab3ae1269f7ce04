//! Unmasking of client payloads in place (RFC 6455, section 5.3).
//!
//! The decoder calls it for every payload byte of a client, so it works on 16 bytes at a time, which the compiler
//! vectorises. It keeps no state: a caller that splits a payload rotates the key.

/// A `u32` times this number fills a `u128` with four copies of it, whatever the byte order of the machine.
const REPEAT: u128 = 1 | 1 << 32 | 1 << 64 | 1 << 96;

/// The masking key of a client frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MaskKey(pub(super) [u8; 4]);

impl MaskKey {
    /// XORs `payload` with the key, from the key's first byte on.
    pub(super) fn apply(self, payload: &mut [u8]) {
        let word = u128::from(u32::from_ne_bytes(self.0)) * REPEAT;
        let (chunks, tail) = payload.as_chunks_mut::<16>();
        for chunk in chunks {
            *chunk = (u128::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
        }
        for (byte, key) in tail.iter_mut().zip(word.to_ne_bytes()) {
            *byte ^= key;
        }
    }

    /// The key for the bytes after the first `count` bytes of a payload.
    #[must_use]
    pub(super) fn after(mut self, count: usize) -> MaskKey {
        self.0.rotate_left(count % 4);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::MaskKey;

    const KEY: MaskKey = MaskKey([0x11, 0x22, 0x83, 0xf4]);

    fn one_by_one(payload: &mut [u8]) {
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= KEY.0[at % 4];
        }
    }

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn every_length_is_unmasked_as_if_byte_by_byte() {
        for len in 0..100 {
            let (mut fast, mut slow) = (sample(len), sample(len));
            KEY.apply(&mut fast);
            one_by_one(&mut slow);
            assert_eq!(fast, slow, "length {len}");
        }
    }

    #[test]
    fn a_payload_cut_anywhere_is_unmasked_like_one_piece() {
        for cut in 0..=67 {
            let (mut pieces, mut whole) = (sample(67), sample(67));
            KEY.apply(&mut whole);
            KEY.apply(&mut pieces[..cut]);
            KEY.after(cut).apply(&mut pieces[cut..]);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
