//! One connection: its stream, what it receives and what waits to be sent on it. The worker tells it when there is
//! something to do; what it has received it enters in the thread's books.

use std::io;

use crate::check::books::Books;
use crate::check::received::Received;
use crate::client::receiver::Receiver;
use crate::client::stream::{Pulled, Stream};
use crate::client::websocket::handshake::Handshake;
use crate::client::websocket::inbound::Inbound;
use crate::client::websocket::outgoing::Outgoing;
use crate::client::websocket::wire;
use crate::scenario::plan::Wanted;

/// Reads of one connection before others have their turn.
const READS_IN_A_ROW: usize = 4;

/// How far a connection is.
pub(crate) enum State {
    /// TCP is being connected.
    Dialing(Stream),
    /// TLS or the opening handshake is on its way.
    Opening(Handshake),
    /// Messages flow.
    Open(Stream),
    /// Between two states, or gone.
    Gone,
}

/// Why nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The relay sent a Close with this code.
    Closed(u16),
    /// The stream ended without one.
    Eof,
    /// The connection was reset, or the system reports another error.
    Reset,
    /// The relay broke the protocol.
    Broken(&'static str),
}

/// What is to be done after a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Wait for the next event.
    Wait,
    /// There is more to read.
    More,
    /// Nothing more comes.
    Over(End),
}

/// What a connection waits for that is to go.
#[derive(Debug)]
pub(crate) struct Departure {
    /// By number of the publisher in its topic: messages sent when its time was over.
    pub(crate) sent: Box<[u64]>,
    /// How long it waits.
    pub(crate) until: u64,
}

/// A connection.
pub(crate) struct Conn {
    pub(crate) wanted: Wanted,
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) began: u64,
    pub(crate) received: Received,
    inbound: Inbound,
    pub(crate) outgoing: Outgoing,
    /// Whether the kernel takes no more for now.
    pub(crate) is_blocked: bool,
    /// Whether it does not read for now, and whether it has missed an event meanwhile.
    pub(crate) is_stalled: bool,
    pub(crate) has_unread: bool,
    /// Whether it ever did not.
    pub(crate) has_stalled: bool,
    /// What it waits for before it goes.
    pub(crate) departure: Option<Box<Departure>>,
    /// Whether we have said goodbye.
    pub(crate) is_leaving: bool,
    /// The code of the relay's Close.
    close: Option<u16>,
}

impl Conn {
    pub(crate) fn new(
        wanted: Wanted,
        generation: u32,
        stream: Stream,
        received: Received,
        now: u64,
    ) -> Conn {
        Conn {
            wanted,
            generation,
            state: State::Dialing(stream),
            began: now,
            received,
            inbound: Inbound::default(),
            outgoing: Outgoing::default(),
            is_blocked: false,
            is_stalled: false,
            has_unread: false,
            has_stalled: false,
            departure: None,
            is_leaving: false,
            close: None,
        }
    }

    /// Whether messages flow.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Takes in what came behind the handshake.
    pub(crate) fn take_first_bytes(&mut self, bytes: &[u8], books: &mut Books) -> Outlook {
        let (_, inbound, mut entry) = self.parts(books);
        let broken = entry.feed(inbound, bytes);
        self.outlook(broken, Outlook::More)
    }

    /// Reads what is there, for a while. `has_ended` says that the peer has already ended its side.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        has_ended: bool,
        books: &mut Books,
        clock: crate::clock::Clock,
    ) -> Outlook {
        for _ in 0..READS_IN_A_ROW {
            let received_before = books.tally.totals.counts.received;
            let (state, inbound, mut entry) = self.parts(books);
            let State::Open(stream) = state else {
                return Outlook::Wait;
            };
            let mut broken = None;
            let mut is_first = true;
            let pulled = stream.pull(scratch, |bytes| {
                if std::mem::take(&mut is_first) {
                    entry.books.now = clock.now();
                }
                if broken.is_none() {
                    broken = entry.feed(inbound, bytes);
                }
            });
            books.on_read(received_before);
            let next = match pulled {
                Ok(Pulled::Full) => None,
                Ok(Pulled::Short) if has_ended => None,
                Ok(Pulled::Short | Pulled::Nothing) => Some(Outlook::Wait),
                Ok(Pulled::End) => Some(Outlook::Over(End::Eof)),
                Err(_) => Some(Outlook::Over(End::Reset)),
            };
            let outlook = self.outlook(broken, next.clone().unwrap_or(Outlook::More));
            if next.is_some() || outlook != Outlook::More {
                return outlook;
            }
        }
        Outlook::More
    }

    /// The stream, what takes its bytes apart, and where their messages are entered.
    fn parts<'c>(
        &'c mut self,
        books: &'c mut Books,
    ) -> (&'c mut State, &'c mut Inbound, Entry<'c>) {
        let entry = Entry {
            wanted: &self.wanted,
            received: &mut self.received,
            outgoing: &mut self.outgoing,
            close: &mut self.close,
            may_answer: !self.is_leaving,
            books,
        };
        (&mut self.state, &mut self.inbound, entry)
    }

    /// What a Close or a broken protocol make of what would be done otherwise.
    fn outlook(&self, broken: Option<&'static str>, otherwise: Outlook) -> Outlook {
        match (self.close, broken) {
            (Some(code), _) => Outlook::Over(End::Closed(code)),
            (None, Some(what)) => Outlook::Over(End::Broken(what)),
            (None, None) => otherwise,
        }
    }

    /// Says goodbye: nothing is sent after it.
    pub(crate) fn leave(&mut self) {
        let code = 1000_u16.to_be_bytes();
        self.outgoing.push_control(wire::CLOSE, &code);
        self.is_leaving = true;
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let State::Open(stream) = &mut self.state else {
            return Ok(());
        };
        self.is_blocked = !self.outgoing.send(stream)?;
        Ok(())
    }
}

/// Where what a connection receives is entered.
struct Entry<'e> {
    wanted: &'e Wanted,
    received: &'e mut Received,
    outgoing: &'e mut Outgoing,
    close: &'e mut Option<u16>,
    /// Whether we have not sent a Close: nothing may follow it (RFC 6455, 5.5.1).
    may_answer: bool,
    books: &'e mut Books,
}

impl Entry<'_> {
    /// Takes bytes apart; returns what is wrong with them.
    fn feed(&mut self, inbound: &mut Inbound, bytes: &[u8]) -> Option<&'static str> {
        let broken = inbound.feed(bytes, self).err();
        // Nothing is wrong with what lies behind a Close: it has no meaning.
        broken.filter(|_| self.close.is_none())
    }
}

impl Receiver for Entry<'_> {
    #[inline]
    fn on_message(&mut self, opcode: u8, payload: &[u8]) {
        let Wanted { kind, records, .. } = *self.wanted;
        self.books
            .on_message(self.received, kind, records, opcode, payload);
    }

    fn on_start(&mut self, opcode: u8) {
        self.books.on_start(self.received, opcode);
    }

    fn on_piece(&mut self, piece: &[u8]) {
        self.books.on_piece(self.received, piece);
    }

    fn on_end(&mut self) {
        let Wanted { kind, records, .. } = *self.wanted;
        self.books.on_end(self.received, kind, records);
    }

    fn on_control(&mut self, opcode: u8, payload: &[u8]) {
        match opcode {
            wire::PING if self.may_answer => self.outgoing.push_control(wire::PONG, payload),
            wire::CLOSE if self.close.is_none() => {
                *self.close = Some(wire::close_code(payload));
                if self.may_answer {
                    // Its code goes back.
                    let code = &payload[..payload.len().min(2)];
                    self.outgoing.push_control(wire::CLOSE, code);
                }
            }
            _ => {}
        }
    }
}
