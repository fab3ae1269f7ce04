//! What clients send: masked frames (RFC 6455 5.2), made before anything is measured.

/// A mask; what is under it stays ASCII.
const MASK: [u8; 4] = [0x12, 0x34, 0x16, 0x08];

/// The opcode of bytes.
pub(crate) const BINARY: u8 = 0x2;
/// The last frame of its message.
pub(crate) const FIN: u8 = 0x80;

/// One frame of `payload_len` bytes of which the first byte is `first`: the opcode, and [`FIN`] or not.
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
