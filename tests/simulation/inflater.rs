//! A client's inflater for permessage-deflate (RFC 7692). It shares no code with the relay, and keeps what it has inflated
//! since the connection began. So what it makes of a message tells whether the relay compressed it with the same window.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush};

/// The end of a compressed message, which is left out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// See the module.
pub(crate) struct Inflater(Box<InflateState>);

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater(InflateState::new_boxed(DataFormat::Raw))
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// A message as the client's program gets it.
    pub(crate) fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let input = [payload, &TAIL].concat();
        let (mut at, mut out, mut room) = (0, Vec::new(), vec![0; 32 << 10]);
        loop {
            let step = inflate(&mut self.0, &input[at..], &mut room, MZFlush::Sync);
            at += step.bytes_consumed;
            out.extend_from_slice(&room[..step.bytes_written]);
            match step.status {
                // The error says that nothing is left to do.
                Ok(_) | Err(MZError::Buf) => {}
                Err(error) => return Err(format!("not DEFLATE: {error:?}")),
            }
            if at == input.len() && step.bytes_written < room.len() {
                return Ok(out);
            }
            if step.bytes_consumed == 0 && step.bytes_written == 0 {
                return Err("the stream has ended".into());
            }
        }
    }
}
