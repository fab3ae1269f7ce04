//! Excuses: messages that a client may miss, because the relay said that they are lost, or because the client came back
//! without asking for them.
//!
//! Excused messages lie right before the place where the stream goes on. So they show as a gap before the first message
//! of each publisher from there on, and never later. The checks of a connection (`received.rs`) ask about each gap, and
//! they find out whether as many were missing as were said to be.

/// Stands for all that is sent until the client has joined for certain.
const OPEN: u64 = u64::MAX;

/// The reason why messages may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// The relay said that so many are lost. The number is what is left of them.
    Told(u64),
    /// The relay said that it does not know.
    Unknown,
    /// The client did not ask for them.
    Unasked,
}

/// The excuses of one client that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excuses {
    reason: Reason,
    /// By number of the publisher: whether its first message is still to come.
    is_pending: Box<[bool]>,
    /// By number of the publisher: the first message without an excuse. It has no meaning if the number is told.
    until: Box<[u64]>,
}

/// The messages of a gap, by what excuses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jumped {
    /// The relay said that they are lost.
    pub(crate) told: u64,
    /// The client did not ask for them.
    pub(crate) missed: u64,
    /// Nothing excuses them.
    pub(crate) lost: u64,
}

impl Excuses {
    fn new(reason: Reason, publishers: usize) -> Excuses {
        Excuses {
            reason,
            is_pending: vec![true; publishers].into(),
            until: vec![OPEN; publishers].into(),
        }
    }

    /// The relay said that so many messages are lost. `earlier` are excuses that have not all been used.
    pub(crate) fn told(lost: u64, publishers: usize, earlier: Option<Excuses>) -> Excuses {
        match earlier.map(|earlier| earlier.reason) {
            Some(Reason::Told(left)) => Excuses::new(Reason::Told(left + lost), publishers),
            Some(Reason::Unknown) => Excuses::new(Reason::Unknown, publishers),
            Some(Reason::Unasked) | None => Excuses::new(Reason::Told(lost), publishers),
        }
    }

    /// The relay said that it does not know how many messages are lost.
    pub(crate) fn unknown(publishers: usize) -> Excuses {
        Excuses::new(Reason::Unknown, publishers)
    }

    /// The client came back and asked for nothing.
    pub(crate) fn unasked(publishers: usize) -> Excuses {
        Excuses::new(Reason::Unasked, publishers)
    }

    /// The client has joined for certain: what is sent from now on has no excuse.
    pub(crate) fn end(&mut self, sent: impl Fn(usize) -> u64) {
        for (local, until) in self.until.iter_mut().enumerate() {
            *until = sent(local).min(*until);
        }
    }

    /// The first message of a publisher has come, the one with number `to`; those from `from` on are missing before it.
    /// Later gaps of this publisher have no excuse.
    pub(crate) fn on_first(&mut self, local: usize, from: u64, to: u64) -> Jumped {
        let missing = to - from;
        if !std::mem::replace(&mut self.is_pending[local], false) {
            return Jumped {
                lost: missing,
                ..Jumped::default()
            };
        }
        let until = self.until[local].clamp(from, to) - from;
        let excused = match &mut self.reason {
            Reason::Told(left) => {
                let excused = missing.min(*left);
                *left -= excused;
                excused
            }
            Reason::Unknown | Reason::Unasked => until,
        };
        self.jumped(excused, missing)
    }

    fn jumped(&self, excused: u64, missing: u64) -> Jumped {
        let (told, missed) = match self.reason {
            Reason::Told(_) | Reason::Unknown => (excused, 0),
            Reason::Unasked => (0, excused),
        };
        Jumped {
            told,
            missed,
            lost: missing - excused,
        }
    }

    /// Whether the first message of a publisher is still to come.
    pub(crate) fn is_pending(&self, local: usize) -> bool {
        self.is_pending[local]
    }

    /// Whether the first message of every publisher has come.
    pub(crate) fn is_used_up(&self) -> bool {
        !self.is_pending.contains(&true)
    }

    /// Messages that were said to be lost and are not missing, once every publisher's first message has come.
    pub(crate) fn left(&self) -> u64 {
        match self.reason {
            Reason::Told(left) => left,
            Reason::Unknown | Reason::Unasked => 0,
        }
    }

    /// The fate of messages that never came: of each publisher, those from the first to the second number.
    pub(crate) fn conclude(&mut self, missing: impl Iterator<Item = (usize, u64, u64)>) -> Jumped {
        let mut sum = Jumped::default();
        for (local, from, to) in missing {
            let jumped = self.on_first(local, from, to);
            sum.told += jumped.told;
            sum.missed += jumped.missed;
            sum.lost += jumped.lost;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(told: u64, lost: u64) -> Jumped {
        Jumped {
            told,
            lost,
            missed: 0,
        }
    }

    #[test]
    fn a_number_that_was_told_excuses_so_many_before_each_first_message() {
        let mut excuses = Excuses::told(5, 2, None);
        assert_eq!(excuses.on_first(0, 10, 13), told(3, 0));
        assert!(!excuses.is_used_up());
        // Later gaps are losses, though something was left.
        assert_eq!(excuses.on_first(0, 14, 15), told(0, 1));
        assert_eq!(excuses.on_first(1, 0, 4), told(2, 2));
        assert!(excuses.is_used_up());
        assert_eq!(excuses.left(), 0);
    }

    #[test]
    fn more_told_than_is_missing_is_left_over() {
        let mut excuses = Excuses::told(5, 1, None);
        assert_eq!(excuses.on_first(0, 7, 7), told(0, 0));
        assert_eq!(excuses.left(), 5);
        // A client that is cut before anything came is told more.
        let mut excuses = Excuses::told(2, 1, Some(Excuses::told(3, 1, None)));
        assert_eq!(excuses.on_first(0, 0, 5), told(5, 0));
    }

    #[test]
    fn without_a_number_all_is_excused_until_the_client_has_joined() {
        let mut excuses = Excuses::unasked(2);
        excuses.end(|_| 20);
        let missed = |missed, lost| Jumped {
            told: 0,
            missed,
            lost,
        };
        assert_eq!(excuses.on_first(0, 10, 18), missed(8, 0));
        assert_eq!(excuses.on_first(1, 10, 25), missed(10, 5));
        let mut excuses = Excuses::unknown(1);
        assert_eq!(excuses.on_first(0, 10, 18), told(8, 0));
    }
}
