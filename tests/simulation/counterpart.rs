//! The client's end of a transport. It puts the client's bytes into the connection, and makes bytes of what it reads.

use std::collections::VecDeque;
use std::io::Read;

use crate::pipe::Pipe;
use crate::plan::Plan;
use crate::records::{Kind, Opener, Sealer};
use crate::rng::Rng;

/// The client's end.
#[derive(Debug)]
pub(crate) enum Counterpart {
    Plain,
    Records(Box<Session>),
}

/// The client's end of a transport with records.
#[derive(Debug)]
pub(crate) struct Session {
    /// The longest content of a record. Each record has any length up to that.
    record_bytes: usize,
    rng: Rng,
    sealer: Sealer,
    /// Records that are not yet in the connection.
    outgoing: VecDeque<u8>,
    opener: Opener,
    /// The server has sent its hello.
    is_greeted: bool,
    /// The server has sent its last record.
    is_ended: bool,
    /// It sends a last record when it ends.
    says_end: bool,
    has_ended: bool,
}

impl Counterpart {
    /// An end that has just sent its hello, or only a part of it if `is_cut_short`.
    pub(crate) fn records(plan: &Plan, is_cut_short: bool, rng: &mut Rng) -> Counterpart {
        let mut sealer = Sealer::default();
        let mut hello = sealer.seal(Kind::Hello, b"fanwire");
        if is_cut_short {
            hello.truncate(rng.below(hello.len()));
        }
        Counterpart::Records(Box::new(Session {
            record_bytes: plan.record_bytes,
            rng: Rng::new(rng.next()),
            sealer,
            outgoing: hello.into(),
            opener: Opener::default(),
            is_greeted: false,
            is_ended: false,
            // After a partial hello, a last record would be read as the rest of it.
            says_end: rng.percent(70) && !is_cut_short,
            has_ended: false,
        }))
    }

    /// Whether it may send.
    pub(crate) fn is_greeted(&self) -> bool {
        match self {
            Counterpart::Plain => true,
            Counterpart::Records(session) => session.is_greeted,
        }
    }

    /// Bytes that are no longer in `words` and not yet in the connection.
    pub(crate) fn unsent_bytes(&self) -> usize {
        match self {
            Counterpart::Plain => 0,
            Counterpart::Records(session) => session.outgoing.len(),
        }
    }

    /// Puts at most `most` bytes of `words` into the connection, directly or as records. Returns whether it put any.
    pub(crate) fn send(&mut self, pipe: &mut Pipe, words: &mut VecDeque<u8>, most: usize) -> bool {
        match self {
            Counterpart::Plain => put(pipe, words, most) > 0,
            Counterpart::Records(session) => session.send(pipe, words, most),
        }
    }

    /// Forgets the bytes that are not in the connection.
    pub(crate) fn fall_silent(&mut self) {
        if let Counterpart::Records(session) = self {
            session.outgoing.clear();
            session.has_ended = true;
        }
    }

    /// Sends its last record once, if it is polite.
    pub(crate) fn end(&mut self) {
        if let Counterpart::Records(session) = self {
            let is_first = !std::mem::replace(&mut session.has_ended, true);
            if is_first && session.says_end {
                session.outgoing.extend(session.sealer.seal(Kind::End, b""));
            }
        }
    }

    /// Takes `count` bytes out of the connection. Returns their content.
    pub(crate) fn receive(&mut self, pipe: &mut Pipe, count: usize) -> Vec<u8> {
        let bytes = pipe.receive(count);
        match self {
            Counterpart::Plain => bytes,
            Counterpart::Records(session) => session.open(&bytes),
        }
    }

    /// Checks that the server's side has ended properly, if the kernel `has_room` for that.
    pub(crate) fn check_end(&self, has_room: bool) {
        if let Counterpart::Records(session) = self {
            assert!(session.is_ended || !has_room, "shut without a last word");
            assert!(
                !session.opener.is_partial() || !has_room,
                "shut within a record"
            );
        }
    }
}

/// Moves at most `most` bytes into the connection. Returns their number.
fn put(pipe: &mut Pipe, bytes: &mut VecDeque<u8>, most: usize) -> usize {
    let count = most.min(bytes.len()).min(pipe.room_to_server());
    if count > 0 {
        let mut part = vec![0; count];
        bytes.read_exact(&mut part).expect("as many were counted");
        pipe.send(&part);
    }
    count
}

impl Session {
    fn send(&mut self, pipe: &mut Pipe, words: &mut VecDeque<u8>, most: usize) -> bool {
        let mut left = most;
        loop {
            if self.outgoing.is_empty() && self.is_greeted && !words.is_empty() {
                let len = self.rng.within(1..=self.record_bytes).min(words.len());
                let content: Vec<u8> = words.drain(..len).collect();
                self.outgoing.extend(self.sealer.seal(Kind::Data, &content));
            }
            let count = put(pipe, &mut self.outgoing, left);
            if count == 0 {
                return left < most;
            }
            left -= count;
        }
    }

    fn open(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.opener.push(bytes);
        let mut words = Vec::new();
        while let Some((kind, content)) = self.opener.next().expect("a server makes good records") {
            assert!(!self.is_ended, "a record behind the last");
            assert_eq!(
                kind == Kind::Hello,
                !self.is_greeted,
                "one hello, and first"
            );
            match kind {
                Kind::Hello => self.is_greeted = true,
                Kind::Data => words.extend(content),
                Kind::End => self.is_ended = true,
            }
        }
        words
    }
}
