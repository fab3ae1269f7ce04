//! A client's compressor for permessage-deflate (RFC 7692). It shares no code with the relay.

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{DataFormat, MZFlush};

use crate::rng::Rng;

/// The end of a compressed message, which is left out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The offer of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// None.
    Nothing,
    /// Messages refer to earlier ones.
    InContext,
    /// Each message is by itself.
    Alone,
    /// One that the relay cannot take.
    Unwelcome,
}

impl Offer {
    /// The offer as a line of the request.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Offer::Nothing => "",
            Offer::InContext => {
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            }
            Offer::Alone => {
                "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
            }
            Offer::Unwelcome => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
            }
        }
    }

    /// The answer of a relay that takes it.
    pub(crate) fn answer(self) -> Option<&'static str> {
        match self {
            Offer::InContext => Some("permessage-deflate"),
            Offer::Alone => Some("permessage-deflate; client_no_context_takeover"),
            Offer::Nothing | Offer::Unwelcome => None,
        }
    }
}

/// See the module.
pub(crate) struct Compressor {
    offer: Offer,
    level: u8,
    state: Box<CompressorOxide>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at level {}", self.offer, self.level)
    }
}

impl Compressor {
    pub(crate) fn new(offer: Offer, rng: &mut Rng) -> Compressor {
        let level = rng.pick(&[0, 1, 6]);
        Compressor {
            offer,
            level,
            state: fresh(level),
        }
    }

    /// One that makes as little as it can of each message.
    pub(crate) fn deepest() -> Compressor {
        Compressor {
            offer: Offer::Alone,
            level: 9,
            state: fresh(9),
        }
    }

    /// A message as it is sent.
    pub(crate) fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        if self.offer == Offer::Alone {
            self.state = fresh(self.level);
        }
        let mut out = vec![0; message.len() + message.len() / 4 + 1024];
        let result = deflate(&mut self.state, message, &mut out, MZFlush::Sync);
        assert_eq!(result.bytes_consumed, message.len(), "there was room");
        out.truncate(result.bytes_written);
        if message.is_empty() && out.is_empty() {
            // Nothing is new, so nothing is flushed.
            return vec![0];
        }
        assert!(out.ends_with(&TAIL), "a flush ends so");
        out.truncate(out.len() - TAIL.len());
        out
    }
}

fn fresh(level: u8) -> Box<CompressorOxide> {
    let raw = -15;
    let flags = create_comp_flags_from_zip_params(level.into(), raw, 0);
    let mut state = Box::new(CompressorOxide::new(flags));
    state.set_format_and_level(DataFormat::Raw, level);
    state
}
