//! The kinds of what messages carry. They matter where bytes are compressed.
//!
//! The options name one, and `bodies.rs` makes it.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of what messages carry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// The same bytes in every message of a publisher, which look random. Compressed with a context, they shrink to nothing.
    #[default]
    Fixed,
    /// Trades of a few symbols, as JSON.
    Trades,
    /// Changes of order books, as JSON.
    Depth,
    /// Lines of a chat, as JSON.
    Chat,
    /// Values of sensors, as JSON.
    Telemetry,
    /// The state of a hundred or so things, most of which have not changed, as JSON.
    Snapshot,
    /// Other bytes in every message, which look random. They do not compress.
    Random,
}

impl Payload {
    /// Bytes of a message if nothing else is asked for.
    pub(crate) fn size(self) -> u64 {
        match self {
            Payload::Fixed | Payload::Random => 128,
            Payload::Trades => 125,
            Payload::Depth => 590,
            Payload::Chat => 160,
            Payload::Telemetry => 190,
            Payload::Snapshot => 14_700,
        }
    }

    /// Whether it is JSON, which is sent as text if nothing else is asked for.
    pub(crate) fn is_json(self) -> bool {
        match self {
            Payload::Fixed | Payload::Random => false,
            Payload::Trades
            | Payload::Depth
            | Payload::Chat
            | Payload::Telemetry
            | Payload::Snapshot => true,
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Payload::Fixed => "fixed",
            Payload::Trades => "trades",
            Payload::Depth => "depth",
            Payload::Chat => "chat",
            Payload::Telemetry => "telemetry",
            Payload::Snapshot => "snapshot",
            Payload::Random => "random",
        }
    }
}
