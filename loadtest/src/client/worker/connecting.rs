//! A worker opens connections: only some at a time, and each within a limited time.

use std::sync::atomic::Ordering;

use mio::Interest;

use super::Worker;
use super::absent::{Absence, Call, absence};
use super::id::Id;
use crate::check::position::Counting;
use crate::check::received::Received;
use crate::client::connection::{Conn, State};
use crate::client::opening::{Opening, Progress};
use crate::client::shared::Phase;
use crate::client::story::Story;
use crate::client::stream::Stream;
use crate::client::websocket::deflate::Agreement;
use crate::scenario::plan::{Kind, Wanted};
use crate::scenario::protocol::Resume;

/// Time that TCP, TLS and the opening handshake may take together, in nanoseconds.
pub(super) const PATIENCE: u64 = 15 * crate::clock::SECOND;

impl Worker {
    /// Begins to open connections, as many as may be opening at a time.
    pub(super) fn dial(&mut self) {
        while self.connecting < self.plan.connecting_per_thread {
            let Some(call) = self.queue.pop_front() else {
                return;
            };
            match self.dial_one(call.wanted) {
                Ok((stream, id)) => {
                    self.begin(call, stream, id);
                    self.conns[id.key].node = self.routes[self.next_route].node;
                    self.next_route = (self.next_route + 1) % self.routes.len();
                }
                Err(error) => self.on_failure(call.wanted, call.absence, error.to_string()),
            }
            self.publish_in_between();
        }
    }

    fn dial_one(&mut self, wanted: Wanted) -> std::io::Result<(Stream, Id)> {
        let sources = &self.plan.sources;
        let source = (!sources.is_empty()).then(|| sources[wanted.source % sources.len()]);
        let mut stream = Stream::dial(
            &self.routes[self.next_route],
            source,
            wanted.kind == Kind::Slow,
        )?;
        self.generation = (self.generation + 1) & 0x7fff_ffff;
        let id = Id {
            key: self.conns.vacant_key(),
            generation: self.generation,
        };
        // It is registered once, for reading and writing: events are edges.
        self.poll.registry().register(
            stream.socket(),
            id.token(),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok((stream, id))
    }

    /// Takes in a connection that is being opened, to the place that it was registered for.
    fn begin(&mut self, call: Call, stream: Stream, id: Id) {
        let wanted = call.wanted;
        let conn = match call.absence.map(|absence| *absence) {
            Some(absence) => {
                let received = absence.received;
                let counting = match self.plan.resume {
                    Resume::Fanwire | Resume::Nchan => absence.counting,
                    // It asks for nothing, so its count begins anew.
                    Resume::None => Counting::default(),
                };
                let mut story = absence.story;
                story.began = self.now;
                let generation = id.generation;
                let mut conn = Conn::new(wanted, generation, stream, received, counting, self.now);
                conn.story = Some(story);
                conn
            }
            None => self.new_client(wanted, stream, id),
        };
        let key = self.conns.insert(conn);
        debug_assert_eq!(key, id.key, "nothing was inserted meanwhile");
        self.connecting += 1;
        self.duties.expect_opening(self.now + PATIENCE, id);
    }

    fn new_client(&self, wanted: Wanted, stream: Stream, id: Id) -> Conn {
        let of_topic = &self.plan.publishers_by_topic[wanted.topic as usize];
        // A client that only publishes hears nothing, so it is owed nothing.
        let publishers = if wanted.kind == Kind::Posting {
            0
        } else {
            of_topic.len()
        };
        let is_whole = self.phase == Phase::Connect;
        let own = wanted.publisher.filter(|_| !self.plan.echo);
        let own = own.map(|own| self.plan.places[own as usize].local);
        let received = Received::new(wanted.topic, publishers, is_whole, own);
        let counting = Counting::default();
        let mut conn = Conn::new(wanted, id.generation, stream, received, counting, self.now);
        if self.plan.has_story(&wanted) {
            conn.story = Some(Box::new(Story::default()));
        }
        conn
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
                    let plain = &self.requests[conn.node][conn.wanted.topic as usize];
                    let from = conn.counting.token();
                    let (protocol, from) = (conn.wanted.protocol, from.as_deref());
                    Opening::start(stream, plain, protocol, from, self.plan.deflate)
                }
                Err(error) => Progress::Failed(error.to_string()),
            },
            State::Opening(opening) => opening.proceed(),
            state @ (State::Open(_) | State::Gone) => {
                conn.state = state;
                return;
            }
        };
        match progress {
            Progress::Waits(opening) => conn.state = State::Opening(opening),
            Progress::Done(_, _, Some(_)) if !self.plan.deflate => {
                let reason = "the answer has an extension that was not offered";
                self.give_up(id, reason.to_owned());
            }
            Progress::Done(stream, behind, agreed) => {
                self.on_opened(id, stream, &behind, agreed);
            }
            Progress::Failed(reason) => self.give_up(id, reason),
        }
    }

    fn on_opened(&mut self, id: Id, stream: Stream, behind: &[u8], agreed: Option<Agreement>) {
        let conn = &mut self.conns[id.key];
        let latency = self.now.saturating_sub(conn.began);
        conn.state = State::Open(stream);
        let wanted = conn.wanted;
        if let Some(agreement) = agreed {
            conn.agree(agreement);
        }
        if self.plan.deflate && wanted.protocol.has_close() {
            self.books.on_negotiated(agreed.is_some());
        }
        self.books
            .on_open(&conn.received, wanted.kind, wanted.publisher);
        self.on_answered(id);
        // The bytes behind the answer are read now.
        self.books.now = self.clock.now();
        let conn = &mut self.conns[id.key];
        let outlook = conn.take_first_bytes(behind, &mut self.books);
        if !conn.outgoing.is_empty() {
            // The answer to a Close that came with the 101. If it cannot be sent, the next read will tell.
            let _ = conn.flush();
        }
        self.connecting -= 1;
        if wanted.kind != Kind::Posting {
            self.handshakes.saturating_record(latency);
            self.shared.boards[self.index]
                .opened
                .fetch_add(1, Ordering::SeqCst);
        }
        if let Some(publisher) = wanted.publisher {
            self.sending.connect(publisher, id.key);
            if wanted.kind == Kind::Posting && self.phase > Phase::Connect {
                self.posting.away = self.posting.away.saturating_sub(1);
                self.release_unless_paused(publisher);
            }
        }
        self.settle_wanted(wanted.kind);
        if self.phase > Phase::Connect {
            self.duties.expect_joining(self.now, id);
        }
        if self.phase == Phase::Load {
            self.duties
                .plan_life(self.now, id, wanted.kind, self.plan.stall);
            self.plan_cut(self.now, id);
        }
        self.follow_return(id);
        self.on_outlook(id, outlook);
    }

    /// Gives up a connection that could not be opened.
    pub(super) fn give_up(&mut self, id: Id, reason: String) {
        let conn = self.conns.remove(id.key);
        self.connecting -= 1;
        let is_back = conn.story.as_ref().is_some_and(|story| story.cuts > 0);
        let wanted = conn.wanted;
        let absence = absence(conn).filter(|_| is_back);
        self.on_failure(wanted, absence, reason);
    }

    fn on_failure(&mut self, wanted: Wanted, absence: Option<Box<Absence>>, reason: String) {
        if let Some(absence) = absence {
            return self.retry(absence, reason);
        }
        if self.posts_later(wanted, &reason) {
            return;
        }
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
