//! Unmasking of client payloads (RFC 6455, section 5.3), in place.
//!
//! Called by the decoder with every payload byte that a client sends, so it works in words of 16 bytes, which the
//! compiler turns into vector instructions. It keeps no state: who splits a payload rotates the key.

/// Times a `u32`, this repeats it four times in a `u128`, whichever way the machine orders bytes.
const REPEAT: u128 = 1 | 1 << 32 | 1 << 64 | 1 << 96;

/// The masking key of a client frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MaskKey(pub(super) [u8; 4]);

impl MaskKey {
    /// XORs `payload` with the key, beginning with the key's first byte.
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

    /// The key for what follows the first `count` bytes of a payload.
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
    fn every_length_is_unmasked_as_byte_by_byte() {
        for len in 0..100 {
            let (mut fast, mut slow) = (sample(len), sample(len));
            KEY.apply(&mut fast);
            one_by_one(&mut slow);
            assert_eq!(fast, slow, "length {len}");
        }
    }

    #[test]
    fn a_payload_cut_anywhere_is_unmasked_as_one_piece() {
        for cut in 0..=67 {
            let (mut pieces, mut whole) = (sample(67), sample(67));
            KEY.apply(&mut whole);
            KEY.apply(&mut pieces[..cut]);
            KEY.after(cut).apply(&mut pieces[cut..]);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
