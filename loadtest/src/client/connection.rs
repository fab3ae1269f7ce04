//! One connection: its stream, its reader and its unsent bytes. The worker tells it when there is something to do. It
//! enters the messages it receives in the thread's books.

use std::io;

use crate::check::books::Books;
use crate::check::position::Counting;
use crate::check::received::Received;
use crate::client::entry::{Entry, Reader};
use crate::client::opening::Opening;
use crate::client::posts::Posts;
use crate::client::story::Story;
use crate::client::stream::{Pulled, Stream};
use crate::client::websocket::deflate::Agreement;
use crate::client::websocket::outgoing::Outgoing;
use crate::client::websocket::wire;
use crate::client::words::Pieces;
use crate::scenario::plan::Wanted;

/// Reads of one connection before others have their turn.
const READS_IN_A_ROW: usize = 4;

/// The state of a connection.
pub(crate) enum State {
    /// TCP is being connected.
    Dialing(Stream),
    /// TLS or the opening handshake is under way.
    Opening(Opening),
    /// Messages flow.
    Open(Stream),
    /// Between two states, or gone.
    Gone,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The relay sent a Close with this code.
    Closed(u16),
    /// The stream ended without a Close.
    Eof,
    /// The connection was reset, or the system reports another error.
    Reset,
    /// The relay broke the protocol.
    Broken(&'static str),
}

/// The next step after a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Wait for the next event.
    Wait,
    /// There is more to read.
    More,
    /// The connection is over.
    Over(End),
}

/// The departure of a connection that waits for its last deliveries.
#[derive(Debug)]
pub(crate) struct Departure {
    /// By number of the publisher in its topic: messages sent when its time was over. It waits for these.
    pub(crate) sent: Box<[u64]>,
    /// The time until which it waits.
    pub(crate) until: u64,
}

/// A connection.
pub(crate) struct Conn {
    pub(crate) wanted: Wanted,
    /// The relay that it goes to, of those that are one.
    pub(crate) node: usize,
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) began: u64,
    pub(crate) received: Received,
    pub(crate) counting: Counting,
    /// The story of a client that comes back.
    pub(crate) story: Option<Box<Story>>,
    reader: Reader,
    pieces: Pieces,
    pub(crate) outgoing: Outgoing,
    /// Whether the kernel takes no more for now.
    pub(crate) is_blocked: bool,
    /// Whether it does not read for now, and whether an event came meanwhile.
    pub(crate) is_stalled: bool,
    pub(crate) has_unread: bool,
    /// Whether it ever stalled.
    pub(crate) has_stalled: bool,
    /// Its departure, if it is to go.
    pub(crate) departure: Option<Box<Departure>>,
    /// Whether we have sent a Close.
    pub(crate) is_leaving: bool,
    /// Whether we have ended our side without a Close.
    pub(crate) is_cut: bool,
    /// The code of the relay's Close, if one came.
    close: Option<u16>,
}

impl Conn {
    pub(crate) fn new(
        wanted: Wanted,
        generation: u32,
        stream: Stream,
        received: Received,
        counting: Counting,
        now: u64,
    ) -> Conn {
        Conn {
            wanted,
            node: 0,
            generation,
            state: State::Dialing(stream),
            began: now,
            received,
            counting,
            story: None,
            reader: Reader::new(wanted.protocol),
            pieces: Pieces::default(),
            outgoing: Outgoing::default(),
            is_blocked: false,
            is_stalled: false,
            has_unread: false,
            has_stalled: false,
            departure: None,
            is_leaving: false,
            is_cut: false,
            close: None,
        }
    }

    /// The server may compress from now on.
    pub(crate) fn agree(&mut self, agreement: Agreement) {
        self.reader.agree(agreement);
    }

    /// Whether messages flow.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Its requests, if it publishes by POST.
    pub(crate) fn posts(&mut self) -> Option<&mut Posts> {
        match &mut self.reader {
            Reader::Posts(posts) => Some(posts),
            Reader::WebSocket(_) | Reader::Events(_) => None,
        }
    }

    /// Whether another message may be sent.
    #[inline]
    pub(crate) fn may_send(&self) -> bool {
        let has_room = match &self.reader {
            Reader::Posts(posts) => posts.has_room(),
            Reader::WebSocket(_) | Reader::Events(_) => true,
        };
        has_room && self.outgoing.has_room()
    }

    /// A message of its publisher is sent, the one with this number.
    #[inline]
    pub(crate) fn on_sent(&mut self, sequence: u64, now: u64) {
        if let Reader::Posts(posts) = &mut self.reader {
            posts.on_sent(sequence, now);
        }
    }

    /// Whether a request is not answered.
    pub(crate) fn awaits_answer(&self) -> bool {
        matches!(&self.reader, Reader::Posts(posts) if !posts.is_idle())
    }

    /// Whether it came back and does not have yet what was sent by then.
    pub(crate) fn is_catching_up(&self) -> bool {
        let goal = |story: &Story| story.goal.is_some();
        self.story.as_deref().is_some_and(goal)
    }

    /// Takes the bytes that came behind the handshake.
    pub(crate) fn take_first_bytes(&mut self, bytes: &[u8], books: &mut Books) -> Outlook {
        let (_, reader, mut entry) = self.parts(books);
        let broken = entry.feed(reader, bytes);
        self.outlook(broken, Outlook::More)
    }

    /// Reads all bytes that are there, but in a few reads at most. `has_ended` says that the peer has ended its side
    /// already.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        has_ended: bool,
        books: &mut Books,
        clock: crate::clock::Clock,
    ) -> Outlook {
        for _ in 0..READS_IN_A_ROW {
            let received_before = books.tally.totals.counts.received;
            let (state, reader, mut entry) = self.parts(books);
            let State::Open(stream) = state else {
                return Outlook::Wait;
            };
            let mut broken = None;
            let mut wire_bytes = 0;
            let mut is_first = true;
            let pulled = stream.pull(scratch, |bytes| {
                if std::mem::take(&mut is_first) {
                    entry.books.now = clock.now();
                }
                wire_bytes += bytes.len() as u64;
                if broken.is_none() {
                    broken = entry.feed(reader, bytes);
                }
            });
            if matches!(reader, Reader::Posts(_)) {
                wire_bytes = 0;
            }
            books.on_read(received_before, wire_bytes);
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

    /// Its stream, the reader of its bytes, and the entry for their messages.
    fn parts<'c>(&'c mut self, books: &'c mut Books) -> (&'c mut State, &'c mut Reader, Entry<'c>) {
        let entry = Entry {
            wanted: &self.wanted,
            received: &mut self.received,
            counting: &mut self.counting,
            pieces: &mut self.pieces,
            fault: None,
            outgoing: &mut self.outgoing,
            close: &mut self.close,
            may_answer: !self.is_leaving && !self.is_cut,
            books,
        };
        (&mut self.state, &mut self.reader, entry)
    }

    /// The next step: a Close or a broken protocol ends the connection, otherwise it is `otherwise`.
    fn outlook(&self, broken: Option<&'static str>, otherwise: Outlook) -> Outlook {
        match (self.close, broken) {
            (Some(code), _) => Outlook::Over(End::Closed(code)),
            (None, Some(what)) => Outlook::Over(End::Broken(what)),
            (None, None) => otherwise,
        }
    }

    /// Sends a Close. Nothing is sent after it.
    pub(crate) fn leave(&mut self) {
        let code = 1000_u16.to_be_bytes();
        self.outgoing.push_control(wire::CLOSE, &code);
        self.is_leaving = true;
    }

    /// Sends the unsent bytes, as many as the kernel takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let State::Open(stream) = &mut self.state else {
            return Ok(());
        };
        self.is_blocked = !self.outgoing.send(stream)?;
        Ok(())
    }
}
