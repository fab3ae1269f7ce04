//! Commands on the connection for commands: those that wait, and those whose answers are due, in order.
//!
//! At most 256 are outstanding. Batches and probes go before everything else: else nodes that all ask for 100,000 topics at once
//! would take each other for dead.

use std::collections::VecDeque;

use super::command::Command;

/// The most commands without an answer.
pub(crate) const MAX_OUTSTANDING: usize = 256;

/// The order of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Batches, probes, and what these need.
    First,
    /// All else.
    Later,
}

/// See the module. `A` says what an answer is to. Without a command, the engine makes it from that when it goes.
#[derive(Debug)]
pub(crate) struct Requests<A> {
    first: VecDeque<(Option<Command>, A)>,
    later: VecDeque<(Option<Command>, A)>,
    outstanding: VecDeque<A>,
}

impl<A> Default for Requests<A> {
    fn default() -> Self {
        Requests {
            first: VecDeque::new(),
            later: VecDeque::new(),
            outstanding: VecDeque::new(),
        }
    }
}

impl<A> Requests<A> {
    /// Queues a command.
    pub(crate) fn push(&mut self, urgency: Urgency, command: Option<Command>, asked: A) {
        let queue = match urgency {
            Urgency::First => &mut self.first,
            Urgency::Later => &mut self.later,
        };
        queue.push_back((command, asked));
    }

    /// Takes the next command, if one may go.
    pub(crate) fn next(&mut self) -> Option<(Option<Command>, A)> {
        if self.outstanding.len() >= MAX_OUTSTANDING {
            return None;
        }
        self.first.pop_front().or_else(|| self.later.pop_front())
    }

    /// A command has gone: its answer is due.
    pub(crate) fn note_sent(&mut self, asked: A) {
        self.outstanding.push_back(asked);
    }

    /// Takes the question that the next answer is to.
    pub(crate) fn answered(&mut self) -> Option<A> {
        self.outstanding.pop_front()
    }

    /// Whether an answer is due.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// The connection is lost: no answer will come.
    pub(crate) fn clear(&mut self) {
        *self = Requests::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_overtake_questions_and_few_are_outstanding() {
        let mut requests = Requests::default();
        for number in 0..1_000 {
            requests.push(Urgency::Later, Some(Command::new("HMGET")), number);
        }
        let mut sent = 0;
        while let Some((_, number)) = requests.next() {
            requests.note_sent(number);
            sent += 1;
        }
        assert_eq!(sent, MAX_OUTSTANDING);
        requests.push(Urgency::First, None, 1_000);
        assert_eq!(requests.answered(), Some(0));
        assert_eq!(requests.next(), Some((None, 1_000)));
        requests.note_sent(1_000);
        assert_eq!(requests.next(), None);
        requests.clear();
        assert!(!requests.is_waiting() && requests.answered().is_none());
    }
}
