//! The layer between a shard and a connection: nothing, or records like those of TLS.
//!
//! A transport with records takes what it has room for, cuts it into records, and offers them to the kernel. It holds
//! back what the kernel does not accept. On the way in, it hands out a record only when all of it is there.
//!
//! It sends nothing before the other side's hello, and ends with a last record. To a shard, it behaves like
//! `net::tls::session`, with smaller records.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};

use fanwire::internals::relay::{Filled, Written};

use crate::pipe::Pipe;
use crate::plan::Plan;
use crate::records::{Kind, Opener, Sealer};
use crate::rng::Rng;
use crate::tally::{Event, Tally};

/// The number of records made before the kernel has accepted any of them.
const RECORDS_AHEAD: usize = 4;

/// The server's end of a connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain,
    Records(Box<Session>),
}

/// A record, or the rest of one that is still to be sent.
#[derive(Debug)]
struct Pending {
    bytes: VecDeque<u8>,
    /// The number of bytes in it that the shard counts as sent.
    content: usize,
}

/// The server's end of a transport with records.
#[derive(Debug)]
pub(crate) struct Session {
    /// The longest content of a record.
    record_bytes: usize,
    /// The most content that waits for the kernel.
    bound_bytes: usize,
    /// The number of bytes in one read.
    read_bytes: usize,
    sealer: Sealer,
    pending: VecDeque<Pending>,
    /// It takes more while something is pending, not only afterwards.
    takes_early: bool,
    has_said_goodbye: bool,
    opener: Opener,
    /// Bytes that were opened and not handed out.
    opened: VecDeque<u8>,
    /// The other side has sent its hello.
    is_greeted: bool,
    /// The other side has sent its last record.
    is_ended: bool,
    tally: Tally,
}

impl Transport {
    pub(crate) fn records(plan: &Plan, rng: &mut Rng) -> Transport {
        Transport::Records(Box::new(Session {
            record_bytes: plan.record_bytes,
            bound_bytes: plan.record_bytes * RECORDS_AHEAD,
            read_bytes: rng.pick(&[7, 64, 512]),
            sealer: Sealer::default(),
            pending: VecDeque::new(),
            takes_early: rng.percent(50),
            has_said_goodbye: false,
            opener: Opener::default(),
            opened: VecDeque::new(),
            is_greeted: false,
            is_ended: false,
            tally: Tally::default(),
        }))
    }

    /// Whether bytes must be opened before they are payload.
    pub(crate) fn makes_records(&self) -> bool {
        matches!(self, Transport::Records(_))
    }

    /// Whether nothing can be sent yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            Transport::Plain => false,
            Transport::Records(session) => !session.is_greeted,
        }
    }

    /// Reads once. With `is_ending`, the client's end was announced, so a short read does not mean that everything is
    /// read.
    pub(crate) fn fill(&mut self, pipe: &mut Pipe, buffer: &mut [u8], is_ending: bool) -> Filled {
        match self {
            Transport::Plain => match pipe.read(buffer) {
                Filled::Last(count) if is_ending => Filled::More(count),
                filled => filled,
            },
            Transport::Records(session) => session.fill(pipe, buffer, is_ending),
        }
    }

    /// Takes what it can of `slices`, which have `offered` bytes in all, and offers the kernel at most `most` bytes.
    /// After an error the connection is dead.
    pub(crate) fn flush(
        &mut self,
        pipe: &mut Pipe,
        slices: &[IoSlice<'_>],
        offered: usize,
        most: usize,
    ) -> io::Result<Written> {
        match self {
            Transport::Plain => {
                let taken = pipe.write(slices, offered, most)?;
                Ok(Written::plain(taken, offered))
            }
            Transport::Records(session) => session.flush(pipe, slices, offered, most),
        }
    }

    /// Whether it has bytes that the kernel has not accepted.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Transport::Plain => false,
            Transport::Records(session) => !session.pending.is_empty(),
        }
    }

    /// Sends the last record, as far as the kernel accepts it, and shuts down our side.
    pub(crate) fn shut(&mut self, pipe: &mut Pipe) {
        if let Transport::Records(session) = self {
            session.say_goodbye(pipe);
        }
        pipe.shut_by_server();
    }

    /// Whether the kernel accepted the last record too.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        match self {
            Transport::Plain => true,
            Transport::Records(session) => session.has_said_goodbye,
        }
    }

    /// Bytes that the shard counts as sent, but that the client cannot read yet.
    pub(crate) fn held_back_bytes(&self) -> usize {
        match self {
            Transport::Plain => 0,
            Transport::Records(session) => {
                session.pending.iter().map(|record| record.content).sum()
            }
        }
    }

    /// Whether the other side has sent its last record.
    pub(crate) fn is_ended(&self) -> bool {
        match self {
            Transport::Plain => false,
            Transport::Records(session) => session.is_ended,
        }
    }

    /// Whether no bytes of the client wait here.
    pub(crate) fn is_drained(&self) -> bool {
        match self {
            Transport::Plain => true,
            Transport::Records(session) => session.opened.is_empty(),
        }
    }

    pub(crate) fn tally(&self) -> Option<&Tally> {
        match self {
            Transport::Plain => None,
            Transport::Records(session) => Some(&session.tally),
        }
    }
}

impl Session {
    fn fill(&mut self, pipe: &mut Pipe, buffer: &mut [u8], is_ending: bool) -> Filled {
        let mut is_drained = false;
        if self.opened.is_empty() {
            if self.is_ended {
                return Filled::Eof;
            }
            let mut raw = vec![0; self.read_bytes];
            let filled = pipe.read(&mut raw);
            let (Filled::More(count) | Filled::Last(count)) = filled else {
                // A connection can also end without a last record.
                return filled;
            };
            self.opener.push(&raw[..count]);
            self.open(pipe);
            is_drained = matches!(filled, Filled::Last(_)) && !is_ending && !self.is_ended;
        }
        let count = self.opened.len().min(buffer.len());
        self.opened
            .read_exact(&mut buffer[..count])
            .expect("as many were counted");
        // No edge announces bytes that wait here. An edge since an earlier read is used up, so only the latest read
        // tells that there is no more.
        match count {
            _ if !is_drained || !self.opened.is_empty() => Filled::More(count),
            0 => Filled::Empty,
            count => Filled::Last(count),
        }
    }

    fn open(&mut self, pipe: &mut Pipe) {
        let mut records = 0;
        while let Some((kind, content)) = self.opener.next().expect("a client makes good records") {
            records += 1;
            match kind {
                Kind::Hello => {
                    self.is_greeted = true;
                    self.queue(Kind::Hello, &[0; 100][..self.record_bytes.min(100)], 0);
                    // The next read detects a failed connection.
                    let _ = self.send(pipe, usize::MAX);
                    if !self.pending.is_empty() {
                        self.tally.note(Event::HelloHeldBack);
                    }
                }
                Kind::Data => self.opened.extend(content),
                Kind::End => self.is_ended = true,
            }
        }
        match records {
            0 => self.tally.note(Event::RecordReadInPart),
            1 => {}
            _ => self.tally.note(Event::RecordsReadAtOnce),
        }
    }

    fn queue(&mut self, kind: Kind, bytes: &[u8], content: usize) {
        self.pending.push_back(Pending {
            bytes: self.sealer.seal(kind, bytes).into(),
            content,
        });
    }

    fn flush(
        &mut self,
        pipe: &mut Pipe,
        slices: &[IoSlice<'_>],
        offered: usize,
        most: usize,
    ) -> io::Result<Written> {
        let mut accepted = 0;
        if !self.takes_early {
            accepted = self.send(pipe, most)?;
        }
        let mut taken = 0;
        if self.takes_early || self.pending.is_empty() {
            taken = self.take(slices, offered);
        }
        // For a dead connection, the shard is not told how much was taken.
        let sent = self.send(pipe, most - accepted);
        accepted += sent.inspect_err(|_| self.forget(taken))?;
        if offered == 0 {
            self.tally.note(Event::FlushOfNothing);
        }
        Ok(Written {
            taken,
            has_progressed: accepted > 0,
            is_blocked: !self.pending.is_empty(),
            holds_back: !self.pending.is_empty(),
        })
    }

    /// Forgets the last `count` bytes that were taken.
    fn forget(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let record = self.pending.pop_back().expect("what was taken is pending");
            left -= record.content;
        }
    }

    /// Makes records of the offered bytes, as far as there is room. Returns the number of bytes.
    fn take(&mut self, slices: &[IoSlice<'_>], offered: usize) -> usize {
        let held: usize = self.pending.iter().map(|record| record.content).sum();
        let bound = self.bound_bytes - held;
        let mut bytes = Vec::with_capacity(bound.min(offered));
        for slice in slices {
            let room = bound - bytes.len();
            bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        for content in bytes.chunks(self.record_bytes) {
            self.queue(Kind::Data, content, content.len());
        }
        if bytes.len() < offered {
            self.tally.note(Event::TransportFull);
        }
        bytes.len()
    }

    /// Offers the kernel at most `most` pending bytes. Returns how many it accepted.
    fn send(&mut self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        if self.pending.is_empty() {
            return Ok(0);
        }
        let mut slices = Vec::new();
        for record in &self.pending {
            let (front, back) = record.bytes.as_slices();
            slices.extend([IoSlice::new(front), IoSlice::new(back)]);
        }
        let offered = slices.iter().map(|slice| slice.len()).sum();
        let accepted = pipe.write(&slices, offered, most)?;
        let mut left = accepted;
        while let Some(record) = self.pending.front_mut() {
            let part = left.min(record.bytes.len());
            record.bytes.drain(..part);
            left -= part;
            if !record.bytes.is_empty() {
                if part > 0 {
                    self.tally.note(Event::RecordSentInPart);
                }
                break;
            }
            self.pending.pop_front();
        }
        Ok(accepted)
    }

    fn say_goodbye(&mut self, pipe: &mut Pipe) {
        assert!(
            self.pending.is_empty(),
            "shut before what is held back was sent"
        );
        self.queue(Kind::End, b"", 0);
        // A peer that has reset the connection needs no last record.
        let _ = self.send(pipe, usize::MAX);
        self.has_said_goodbye = self.pending.is_empty();
        if !self.has_said_goodbye {
            self.tally.note(Event::EndCut);
        }
        // Nothing can follow the end of the connection.
        self.pending.clear();
    }
}
