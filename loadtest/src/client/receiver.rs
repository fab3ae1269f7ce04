//! What a protocol tells of the bytes it takes apart: messages, whole or in pieces, and control frames.
//!
//! A protocol's reader calls it; a connection implements it, and enters what it hears in the books.

/// Is told of what arrives on a connection.
pub(crate) trait Receiver {
    /// A message in one piece.
    fn on_message(&mut self, opcode: u8, payload: &[u8]);
    /// A message begins that comes in pieces.
    fn on_start(&mut self, opcode: u8);
    /// A piece of it.
    fn on_piece(&mut self, piece: &[u8]);
    /// Its end.
    fn on_end(&mut self);
    /// A control frame.
    fn on_control(&mut self, opcode: u8, payload: &[u8]);
}
