//! A worker opens connections: only some at a time, and each within a limited time.

use std::sync::atomic::Ordering;

use mio::Interest;

use super::Worker;
use super::id::Id;
use crate::check::received::Received;
use crate::client::connection::{Conn, State};
use crate::client::shared::Phase;
use crate::client::stream::Stream;
use crate::client::websocket::handshake::{Handshake, Progress};
use crate::scenario::plan::{Kind, Wanted};

/// Time that TCP, TLS and the opening handshake may take together, in nanoseconds.
pub(super) const PATIENCE: u64 = 15 * crate::clock::SECOND;

impl Worker {
    /// Begins to open connections, as many as may be opening at a time.
    pub(super) fn dial(&mut self) {
        while self.connecting < self.plan.connecting_per_thread {
            let Some(wanted) = self.queue.pop_front() else {
                return;
            };
            if let Err(error) = self.dial_one(wanted) {
                self.on_failure(wanted, error.to_string());
            }
            self.publish_in_between();
        }
    }

    fn dial_one(&mut self, wanted: Wanted) -> std::io::Result<()> {
        let sources = &self.plan.sources;
        let source = (!sources.is_empty()).then(|| sources[wanted.source % sources.len()]);
        let mut stream = Stream::dial(&self.route, source, wanted.kind == Kind::Slow)?;
        self.generation = (self.generation + 1) & 0x7fff_ffff;
        let entry = self.conns.vacant_entry();
        let id = Id {
            key: entry.key(),
            generation: self.generation,
        };
        // It is registered once, for reading and writing: events are edges.
        self.poll.registry().register(
            stream.socket(),
            id.token(),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let publishers = self.plan.publishers_by_topic[wanted.topic as usize].len();
        let is_whole = self.phase == Phase::Connect;
        let own = wanted.publisher.filter(|_| !self.plan.echo);
        let own = own.map(|own| self.plan.places[own as usize].local);
        let received = Received::new(wanted.topic, publishers, is_whole, own);
        let conn = Conn::new(wanted, self.generation, stream, received, self.now);
        entry.insert(conn);
        self.connecting += 1;
        self.duties.expect_opening(self.now + PATIENCE, id);
        Ok(())
    }

    /// Goes on with a connection that is being opened.
    pub(super) fn proceed(&mut self, id: Id) {
        let conn = &mut self.conns[id.key];
        let progress = match std::mem::replace(&mut conn.state, State::Gone) {
            State::Dialing(mut stream) => match stream.is_connected() {
                Ok(false) => {
                    conn.state = State::Dialing(stream);
                    return;
                }
                Ok(true) => {
                    let request = self.requests[conn.wanted.topic as usize].clone();
                    match Handshake::start(stream, fresh(request)) {
                        Ok(handshake) => handshake.proceed(),
                        Err(reason) => Progress::Failed(reason),
                    }
                }
                Err(error) => Progress::Failed(error.to_string()),
            },
            State::Opening(handshake) => handshake.proceed(),
            state @ (State::Open(_) | State::Gone) => {
                conn.state = state;
                return;
            }
        };
        match progress {
            Progress::Waits(handshake) => conn.state = State::Opening(handshake),
            Progress::Done(stream, behind) => self.on_opened(id, stream, &behind),
            Progress::Failed(reason) => self.give_up(id, reason),
        }
    }

    fn on_opened(&mut self, id: Id, stream: Stream, behind: &[u8]) {
        let conn = &mut self.conns[id.key];
        let latency = self.now.saturating_sub(conn.began);
        conn.state = State::Open(stream);
        let wanted = conn.wanted;
        self.books
            .on_open(&conn.received, wanted.kind, wanted.publisher);
        let outlook = conn.take_first_bytes(behind, &mut self.books);
        if !conn.outgoing.is_empty() {
            // The answer to a Close that came with the 101. If it cannot be sent, the next read will tell.
            let _ = conn.flush();
        }
        self.handshakes.saturating_record(latency);
        self.connecting -= 1;
        self.shared.boards[self.index]
            .opened
            .fetch_add(1, Ordering::SeqCst);
        if let Some(publisher) = wanted.publisher {
            self.sending.connect(publisher, id.key);
        }
        self.settle_wanted(wanted.kind);
        if self.phase == Phase::Load {
            self.duties.expect_joining(self.now, id);
            self.duties
                .plan_life(self.now, id, wanted.kind, self.plan.stall);
        }
        self.on_outlook(id, outlook);
    }

    /// Gives up a connection that could not be opened.
    pub(super) fn give_up(&mut self, id: Id, reason: String) {
        let conn = self.conns.remove(id.key);
        self.connecting -= 1;
        self.on_failure(conn.wanted, reason);
    }

    fn on_failure(&mut self, wanted: Wanted, reason: String) {
        *self.failed.entry(reason).or_default() += 1;
        self.settle_wanted(wanted.kind);
    }

    /// Notes that a connection is open or has failed.
    fn settle_wanted(&mut self, kind: Kind) {
        let board = &self.shared.boards[self.index];
        if self.phase == Phase::Connect {
            board.pending.fetch_sub(1, Ordering::SeqCst);
        } else if kind == Kind::Returning {
            self.awaited = self.awaited.saturating_sub(1);
            self.check_round();
        }
    }
}

/// The same request with a key of its own (RFC 6455, 4.1).
fn fresh(
    mut request: tungstenite::handshake::client::Request,
) -> tungstenite::handshake::client::Request {
    let key = tungstenite::handshake::client::generate_key();
    if let Ok(value) = key.parse() {
        request.headers_mut().insert("Sec-WebSocket-Key", value);
    }
    request
}
