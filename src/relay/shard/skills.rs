//! The things that a client can do besides plain WebSocket, as it has negotiated them.
//!
//! A client has them in one byte, because its record has no more room: every idle client pays for a cache line.

use std::fmt;

/// Whether a client's messages may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// They may not, or the client is not open.
    Never,
    /// Each by itself.
    Alone,
    /// With references to earlier ones.
    InContext,
}

/// The way in which a client is told the relay's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// None: it gets frames, and would take the words for messages.
    Silent,
    /// As frames that it can tell from messages.
    Frames,
    /// As events. Pings and Closes are events or comments, too.
    Events,
}

/// See the module.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skills(u8);

/// The client is told the relay's own words as frames.
const FRAMES: u8 = 1;
/// It is told everything as events.
const EVENTS: u8 = 2;
/// Its messages may be compressed, each by itself.
const ALONE: u8 = 4;
/// Its messages may be compressed, with references.
const IN_CONTEXT: u8 = 8;

impl Skills {
    /// The way in which the client is told the relay's own words.
    pub(super) fn voice(self) -> Voice {
        match self.0 & (FRAMES | EVENTS) {
            0 => Voice::Silent,
            FRAMES => Voice::Frames,
            _ => Voice::Events,
        }
    }

    /// Sets that.
    pub(super) fn set_voice(&mut self, voice: Voice) {
        let bit = match voice {
            Voice::Silent => 0,
            Voice::Frames => FRAMES,
            Voice::Events => EVENTS,
        };
        self.0 = (self.0 & !(FRAMES | EVENTS)) | bit;
    }

    /// Whether the client's messages may be compressed.
    pub(super) fn compression(self) -> Compression {
        match self.0 & (ALONE | IN_CONTEXT) {
            0 => Compression::Never,
            ALONE => Compression::Alone,
            _ => Compression::InContext,
        }
    }

    /// Sets that.
    pub(super) fn set_compression(&mut self, compression: Compression) {
        let bit = match compression {
            Compression::Never => 0,
            Compression::Alone => ALONE,
            Compression::InContext => IN_CONTEXT,
        };
        self.0 = (self.0 & !(ALONE | IN_CONTEXT)) | bit;
    }
}

impl fmt::Debug for Skills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Skills")
            .field("voice", &self.voice())
            .field("compression", &self.compression())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skill_is_set_by_itself() {
        let mut skills = Skills::default();
        assert_eq!(skills.voice(), Voice::Silent);
        for compression in [
            Compression::Never,
            Compression::Alone,
            Compression::InContext,
            Compression::Never,
        ] {
            skills.set_compression(compression);
            for voice in [Voice::Frames, Voice::Events, Voice::Silent] {
                skills.set_voice(voice);
                assert_eq!(skills.voice(), voice);
                assert_eq!(skills.compression(), compression);
            }
        }
    }
}
