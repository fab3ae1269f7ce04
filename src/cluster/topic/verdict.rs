//! The table: what a node may do with a topic whose subscription was broken, once the engine has said where it is.

use crate::cluster::place::{Epoch, Place};

/// The answer of SYNC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The epoch in force, and the last number given.
    pub at: Place,
    /// The epoch before it and its last number, if this epoch took over the numbers of another. Else [`Epoch::NONE`].
    pub before: Place,
    /// The last batch of this node that is executed, or counts as executed.
    pub done: u64,
}

/// All that a topic's clients on this node have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: the topic is new here.
    Nothing,
    /// All up to this place.
    UpTo(Place),
    /// Numbers that the engine has taken back and given again. No place can be compared with them.
    Contradicted,
}

/// Why members are told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The epoch is another one. Nothing is lost.
    Moved,
    /// Messages are missing, and the engine does not have them any more.
    Gap,
    /// The engine has forgotten messages that members have got.
    Back,
    /// Nothing connects the epoch in force with what members have got.
    Unknown,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The topic was new here: it begins where the engine is.
    Begin,
    /// Nothing is missing. The epoch may be another one, which took over the numbers.
    Whole,
    /// The messages behind ours are missing: ask for them.
    Fill,
    /// Members must be told.
    Tell(Why),
}

/// Judges `known` by what the engine says.
pub(crate) fn judge(known: Known, synced: &Synced) -> Verdict {
    let place = match known {
        Known::Nothing => return Verdict::Begin,
        Known::Contradicted => return Verdict::Tell(Why::Unknown),
        Known::UpTo(place) => place,
    };
    let (at, before) = (synced.at, synced.before);
    let reached = if at.epoch == place.epoch {
        at.last
    } else if before.epoch == place.epoch && before.epoch != Epoch::NONE {
        before.last
    } else {
        return Verdict::Tell(Why::Unknown);
    };
    if reached < place.last {
        Verdict::Tell(Why::Back)
    } else if at.last > place.last {
        Verdict::Fill
    } else {
        Verdict::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: u64, last: u64) -> Place {
        Place {
            epoch: Epoch(epoch),
            last,
        }
    }

    /// The rows of the table in order. Our members are at 7-10.
    #[test]
    fn every_row_of_the_table() {
        let nothing = place(0, 0);
        for (at, before, expected) in [
            (place(7, 10), nothing, Verdict::Whole),
            (place(7, 12), nothing, Verdict::Fill),
            (place(7, 9), nothing, Verdict::Tell(Why::Back)),
            (place(8, 10), place(7, 10), Verdict::Whole),
            (place(8, 11), place(7, 10), Verdict::Fill),
            (place(8, 12), place(7, 12), Verdict::Fill),
            (place(8, 15), place(7, 12), Verdict::Fill),
            (place(8, 9), place(7, 9), Verdict::Tell(Why::Back)),
            (place(8, 15), place(7, 9), Verdict::Tell(Why::Back)),
            (place(9, 10), place(8, 10), Verdict::Tell(Why::Unknown)),
            (place(9, 0), nothing, Verdict::Tell(Why::Unknown)),
            (place(9, 10), nothing, Verdict::Tell(Why::Unknown)),
        ] {
            let synced = Synced {
                at,
                before,
                done: 0,
            };
            let found = judge(Known::UpTo(place(7, 10)), &synced);
            assert_eq!(found, expected, "{synced:?}");
            assert_eq!(judge(Known::Nothing, &synced), Verdict::Begin);
            let contradicted = judge(Known::Contradicted, &synced);
            assert_eq!(contradicted, Verdict::Tell(Why::Unknown));
        }
    }
}
