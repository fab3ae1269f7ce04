//! One connection: its stream, what it receives and what waits to be sent on it. The worker tells it when there is
//! something to do; what it has received it enters in the thread's books.

use std::io::{self, ErrorKind, Write};

use crate::books::Books;
use crate::check::Received;
use crate::handshake::Handshake;
use crate::inbound::{Inbound, Receiver};
use crate::plan::Wanted;
use crate::stream::{Pulled, Stream};
use crate::wire;

/// What may wait to be sent before nothing more is put there.
const MAX_UNSENT_BYTES: usize = 1 << 20;

/// An empty buffer larger than this is given back, unless it was needed a moment ago.
const KEPT_BYTES: usize = 64 << 10;

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
    out: Vec<u8>,
    /// Bytes of `out` that are sent.
    sent: usize,
    /// Bytes of `out` that are answers to control frames, and no messages.
    control_bytes: usize,
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
            out: Vec::new(),
            sent: 0,
            control_bytes: 0,
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
        let queued = self.out.len();
        let broken = feed(
            &mut self.inbound,
            bytes,
            &mut Entry {
                wanted: &self.wanted,
                received: &mut self.received,
                out: &mut self.out,
                close: &mut self.close,
                may_answer: !self.is_leaving,
                books,
            },
        );
        self.control_bytes += self.out.len() - queued;
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
            let State::Open(stream) = &mut self.state else {
                return Outlook::Wait;
            };
            let received_before = books.tally.totals.counts.received;
            let mut broken = None;
            let mut is_first = true;
            let queued = self.out.len();
            let pulled = stream.pull(scratch, |bytes| {
                if std::mem::take(&mut is_first) {
                    books.now = clock.now();
                }
                if broken.is_none() {
                    let mut entry = Entry {
                        wanted: &self.wanted,
                        received: &mut self.received,
                        out: &mut self.out,
                        close: &mut self.close,
                        may_answer: !self.is_leaving,
                        books,
                    };
                    broken = feed(&mut self.inbound, bytes, &mut entry);
                }
            });
            self.control_bytes += self.out.len() - queued;
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

    /// What a Close or a broken protocol make of what would be done otherwise.
    fn outlook(&self, broken: Option<&'static str>, otherwise: Outlook) -> Outlook {
        match (self.close, broken) {
            (Some(code), _) => Outlook::Over(End::Closed(code)),
            (None, Some(what)) => Outlook::Over(End::Broken(what)),
            (None, None) => otherwise,
        }
    }

    /// Whether more may be put into the buffer.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.sent < MAX_UNSENT_BYTES
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    /// Where frames are put that are to be sent.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Says goodbye: nothing is sent after it.
    pub(crate) fn leave(&mut self) {
        wire::push_frame(wire::CLOSE, &1000_u16.to_be_bytes(), &mut self.out);
        self.is_leaving = true;
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let State::Open(stream) = &mut self.state else {
            return Ok(());
        };
        self.is_blocked = false;
        while self.sent < self.out.len() {
            match stream.write(&self.out[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    self.forget_sent();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.is_blocked = !stream.flush_records()?;
        if self.out.len() < self.out.capacity() / 4 {
            self.out.shrink_to(KEPT_BYTES.max(self.out.len()));
        }
        self.out.clear();
        self.sent = 0;
        self.control_bytes = 0;
        Ok(())
    }

    /// Makes room for more, as soon as that moves no more bytes than have been sent: a socket that always takes less than
    /// there is must not have the buffer grow.
    fn forget_sent(&mut self) {
        if self.sent >= self.out.len() - self.sent {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Messages, of frames of so many bytes, that have not left as a whole.
    pub(crate) fn unsent_frames(&self, frame_bytes: usize) -> u64 {
        let unsent = self.out.len() - self.sent;
        unsent
            .saturating_sub(self.control_bytes)
            .div_ceil(frame_bytes) as u64
    }
}

/// Takes bytes apart; returns what is wrong with them.
fn feed(inbound: &mut Inbound, bytes: &[u8], entry: &mut Entry<'_>) -> Option<&'static str> {
    let broken = inbound.feed(bytes, entry).err();
    // Nothing is wrong with what lies behind a Close: it has no meaning.
    broken.filter(|_| entry.close.is_none())
}

/// Where what a connection receives is entered.
struct Entry<'e> {
    wanted: &'e Wanted,
    received: &'e mut Received,
    out: &'e mut Vec<u8>,
    close: &'e mut Option<u16>,
    /// Whether we have not sent a Close: nothing may follow it (RFC 6455, 5.5.1).
    may_answer: bool,
    books: &'e mut Books,
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
            wire::PING if self.may_answer => wire::push_frame(wire::PONG, payload, self.out),
            wire::CLOSE if self.close.is_none() => {
                *self.close = Some(wire::close_code(payload));
                if self.may_answer {
                    // Its code goes back.
                    wire::push_frame(wire::CLOSE, &payload[..payload.len().min(2)], self.out);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;
    use crate::plan::Kind;
    use crate::stream::Route;

    #[test]
    fn a_peer_that_takes_less_than_there_is_has_no_buffer_grow() {
        const FRAME: usize = 4 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route {
            address: listener.local_addr().unwrap(),
            tls: None,
        };
        let stream = Stream::dial(&route, None, false).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let wanted = Wanted {
            topic: 0,
            publisher: Some(0),
            kind: Kind::Steady,
            records: false,
            source: 0,
        };
        let received = Received::new(0, 1, true, None);
        let mut conn = Conn::new(wanted, 1, stream, received, 0);
        let State::Dialing(stream) = std::mem::replace(&mut conn.state, State::Gone) else {
            unreachable!("it is new");
        };
        conn.state = State::Open(stream);
        let mut bytes = vec![0; 64 << 10];
        for _ in 0..400 {
            while conn.has_room() {
                conn.out().extend_from_slice(&[7; FRAME]);
            }
            conn.flush().unwrap();
            // Less than fits into the buffer, so that something is always left.
            peer.read_exact(&mut bytes).unwrap();
        }
        assert!(
            conn.out.capacity() <= 4 * MAX_UNSENT_BYTES,
            "{}",
            conn.out.capacity()
        );
        // All that has not left is messages, but for an answer to a Close.
        let unsent = conn.unsent_frames(FRAME);
        assert_eq!(unsent, (conn.out.len() - conn.sent).div_ceil(FRAME) as u64);
        conn.control_bytes = 8;
        conn.out.extend_from_slice(&[0; 8]);
        assert_eq!(conn.unsent_frames(FRAME), unsent);
    }
}
