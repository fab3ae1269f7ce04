//! Masked frames (RFC 6455, section 5.2), as clients send them. Benches make them before they measure.

/// The mask. Masked ASCII stays ASCII.
const MASK: [u8; 4] = [0x12, 0x34, 0x16, 0x08];

/// The opcode of a binary message.
pub(crate) const BINARY: u8 = 0x2;
/// The bit that marks the last frame of a message.
pub(crate) const FIN: u8 = 0x80;

/// One frame with `payload_len` bytes of payload. Its first byte is `first`: the opcode, with [`FIN`] or without.
pub(crate) fn client_frame(first: u8, payload_len: usize) -> Vec<u8> {
    let mut frame = vec![first];
    if payload_len <= 125 {
        frame.push(0x80 | payload_len as u8);
    } else {
        frame.push(0xfe);
        frame.extend(
            u16::try_from(payload_len)
                .expect("a length of 16 bits")
                .to_be_bytes(),
        );
    }
    frame.extend(MASK);
    frame.extend((0..payload_len).map(|at| b'x' ^ MASK[at % 4]));
    frame
}
