//! A client without a cursor in the log: it reads a list of batches.
//!
//! It reads kept messages until it may take a cursor. Or its stream has a break, and it leaves at the end of the list.

use super::replays::PastKey;
use crate::ids::Seq;
use crate::port::position::Position;
use crate::relay::places::Places;
use crate::relay::topic::replay::Replay;
use crate::time::Timestamp;

/// A client that reads a list of kept messages, and has no cursor in the log.
#[derive(Debug)]
pub(super) struct Replaying {
    /// Its place in the list.
    pub(super) replay: Replay,
    /// The list, as the shard's gauges know it.
    pub(super) list: PastKey,
    /// The list is over, and the topic's owner has been asked for the rest.
    pub(super) has_asked: bool,
    /// The places of the list's messages, if they are not those of the topic.
    pub(super) places: Option<Box<Places>>,
    /// The stream ends with the list: the client leaves then, or later.
    pub(super) ending: Option<Ending>,
}

/// The end of a stream that has a break: nothing from behind it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The client does not leave before.
    pub(super) at: Timestamp,
    /// The moment has come.
    pub(super) is_due: bool,
    /// The number of the first message behind the break, and the position in front of the break.
    pub(super) until: (Seq, Option<Position>),
}

impl Replaying {
    /// A client at the beginning of its part of a list.
    pub(super) fn new(replay: Replay, list: PastKey) -> Self {
        Replaying {
            replay,
            list,
            has_asked: false,
            places: None,
            ending: None,
        }
    }

    /// The stream ends with the list.
    pub(super) fn end_with(&mut self, ending: Ending) {
        self.has_asked = true;
        self.ending = Some(ending);
    }

    /// A client that leaves at the end of the list.
    pub(super) fn to_the_end(replay: Replay, list: PastKey, ending: Ending) -> Self {
        Replaying {
            replay,
            list,
            has_asked: true,
            places: None,
            ending: Some(ending),
        }
    }
}
