//! The part of a report about clients that were cut and came back.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distribution::Latency;
use crate::scenario::protocol::Resume;

/// The most clients that a report lists.
pub(crate) const LISTED: usize = 1_000;

/// The way in which a connection is cut.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CutStyle {
    /// The connection is reset: what was on its way is thrown away on both sides.
    Rst,
    /// The client ends its side, and reads until the relay ends the other.
    Fin,
    /// The client closes its socket without a Close. Bytes that it has not read are thrown away.
    Gone,
}

impl CutStyle {
    /// All of them.
    pub const ALL: [CutStyle; 3] = [CutStyle::Rst, CutStyle::Fin, CutStyle::Gone];

    /// Its name on the screen.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CutStyle::Rst => "reset",
            CutStyle::Fin => "half-closed",
            CutStyle::Gone => "gone",
        }
    }
}

/// Clients that were cut and came back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Returns {
    /// The way in which they went on.
    pub resume: Resume,
    /// Clients that are cut.
    pub clients: usize,
    /// Cuts, by their style.
    pub cuts: BTreeMap<CutStyle, u64>,
    /// Times that a client came back.
    pub returned: u64,
    /// Returns of clients that had missed nothing.
    pub up_to_date: u64,
    /// Returns to which the relay said that nothing is lost.
    pub full: u64,
    /// Returns to which the relay said how many messages are lost.
    pub partial: u64,
    /// Returns to which the relay said that it does not know the position.
    pub unknown: u64,
    /// Attempts to come back that failed and were repeated, by reason.
    pub retried: BTreeMap<String, u64>,
    /// Messages that clients had missed when the relay answered them.
    pub behind: u64,
    /// Messages that were sent while a client was away that asked for nothing when it came back.
    pub missed: u64,
    /// Messages that the relay said are lost, and that were missing.
    pub told: u64,
    /// Messages that the relay said are lost, and that were not missing.
    pub falsely_told: u64,
    /// Positions of its own epoch that the relay said it does not know.
    pub forgotten: u64,
    /// From the answer to the handshake until a client had all that was sent by then.
    pub replay: Latency,
    /// The same from when the client began to connect.
    pub caught_up: Latency,
    /// All clients cut at once, with `--avalanche`.
    pub avalanche: Option<Avalanche>,
    /// Clients, 1,000 at most: first those to which something wrong happened, then those whose replay took longest.
    pub worst_clients: Vec<ClientReturns>,
}

/// All clients cut at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Avalanche {
    /// Clients without a connection from then on.
    pub clients: u64,
    /// From the cut until each of them had come back and caught up. The largest is the time until the last had.
    pub recovered: Latency,
}

/// A client that was cut and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientReturns {
    /// Its number among the subscribers.
    pub client: u64,
    /// Its topic.
    pub topic: u32,
    /// Times that it came back.
    pub returns: u64,
    /// Attempts to come back that failed.
    pub failed_attempts: u64,
    /// Messages that it never got, without a word from the relay.
    pub lost: u64,
    /// Messages that were sent while it was away, and that it did not ask for.
    pub missed: u64,
    /// Messages that came again.
    pub repeated: u64,
    /// Messages that the relay said are lost, and that were missing.
    pub told: u64,
    /// Messages that the relay said are lost, and that were not missing.
    pub falsely_told: u64,
    /// The longest time from the answer to a handshake until it had all that was sent by then.
    pub slowest_replay: u64,
}

impl ClientReturns {
    /// Messages with which something was wrong.
    pub(crate) fn wrong(&self) -> u64 {
        self.lost + self.repeated + self.falsely_told
    }
}
