//! The messages that a protocol makes of a connection's bytes: whole, in pieces, and control frames.
//!
//! The reader of a protocol calls it. A connection implements it, and enters the messages in the books.

/// Receives the messages of a connection.
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
    /// A message begins on a connection on which the server may compress. It is compressed, or it is not.
    fn note_compression(&mut self, is_deflated: bool);
}
