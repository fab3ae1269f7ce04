//! A worker's connections end: by the relay, by us, or all together when the run is over.

use super::Worker;
use super::absent::client_row;
use super::id::Id;
use crate::client::connection::{Conn, End};
use crate::client::shared::Phase;
use crate::scenario::options::Pace;
use crate::scenario::plan::Kind;
use crate::scenario::protocol::Resume;

impl Worker {
    /// Takes out a connection that the relay has ended, with or without our Close before it.
    pub(super) fn on_end(&mut self, id: Id, end: &End) {
        let Some(mut conn) = self.take(id) else {
            return;
        };
        if conn.is_leaving || self.phase == Phase::Close {
            self.enter_life(&conn, false);
            return;
        }
        if self.reopens(&mut conn, end) {
            return;
        }
        let is_broken = matches!(end, End::Broken(_));
        if conn.is_cut && !is_broken {
            // It ended as we did.
            return self.send_away(conn, self.plan.away);
        }
        let reason = match end {
            End::Closed(code) => code.to_string(),
            End::Eof => "eof".to_owned(),
            End::Reset => "reset".to_owned(),
            End::Broken(what) => format!("broke the protocol: {what}"),
        };
        *self.ended.entry(reason).or_default() += 1;
        let counts = &mut self.books.tally.totals.counts;
        if let End::Broken(_) = end {
            counts.corrupt += 1;
        }
        if conn.story.is_some() && !is_broken && self.plan.resume != Resume::None {
            let pause = self.on_fall(&mut conn);
            return self.send_away(conn, pause);
        }
        let is_slow = self.books.expects_ends(conn.wanted.kind);
        // A client that does not read cannot be told, and the relay need not wait for ever.
        let was_told = match end {
            End::Closed(_) => true,
            End::Eof | End::Reset => is_slow && conn.has_stalled,
            End::Broken(_) => false,
        };
        if !(was_told && is_slow) {
            self.unexpected_ends += 1;
        }
        let owed = self.books.conclude(&mut conn.received);
        if let Some(story) = conn.story.take() {
            let row = client_row(&conn.wanted, &conn.received, &story, owed);
            self.returns.clients.push(row);
        }
        let counts = &mut self.books.tally.totals.counts;
        if was_told {
            counts.lost_to_closes += owed;
        } else {
            counts.lost += owed;
        }
        self.enter_life(&conn, false);
        if conn.wanted.kind == Kind::Slow && self.phase == Phase::Load {
            self.duties.rejoin(self.now, conn.wanted);
        }
    }

    /// Drops a connection without a Close.
    pub(super) fn drop_conn(&mut self, id: Id) {
        let Some(conn) = self.take(id) else {
            return;
        };
        if conn.is_cut && self.phase < Phase::Close {
            return self.send_away(conn, self.plan.away);
        }
        self.enter_life(&conn, false);
    }

    /// Sends a Close, and waits for the answer.
    pub(super) fn say_goodbye(&mut self, id: Id) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        if !conn.is_open() || !conn.wanted.protocol.has_close() {
            self.drop_conn(id);
            return;
        }
        conn.leave();
        // If it cannot be sent, the next read will tell.
        let _ = conn.flush();
        self.duties.expect_end(self.now, id);
    }

    /// Takes a connection out, if it is still there.
    pub(super) fn take(&mut self, id: Id) -> Option<Conn> {
        self.conn(id)?;
        let conn = self.conns.remove(id.key);
        if conn.is_open() {
            self.books
                .on_gone(&conn.received, conn.wanted.kind, conn.wanted.publisher);
        } else {
            self.connecting -= 1;
        }
        if let Some(publisher) = conn.wanted.publisher {
            self.sending.disconnect(publisher);
            self.take_back(&conn, publisher);
        }
        Some(conn)
    }

    /// Messages that a publisher had not sent yet are owed to nobody: they count as not sent.
    fn take_back(&mut self, conn: &Conn, publisher: u32) {
        // Nothing but our Close can wait then.
        if conn.is_leaving || self.phase == Phase::Close {
            return;
        }
        let frame_bytes = self.sending.frame_bytes(publisher);
        let messages = conn.outgoing.unsent_frames(frame_bytes);
        self.sending.take_back(publisher, messages, &self.shared);
        let totals = &mut self.books.tally.totals;
        totals.published = totals.published.saturating_sub(messages);
        // In an open loop they are counted at the end, with all that was due and not sent.
        if !matches!(self.plan.pace, Some(Pace::Rate(_))) {
            totals.taken_back += messages;
        }
    }

    fn enter_life(&mut self, conn: &Conn, is_whole: bool) {
        // When the run is over, all lives were entered.
        let has_one = conn.is_open() && conn.wanted.kind != Kind::Posting;
        if !self.books.is_over && has_one {
            self.books
                .on_life(&conn.received, is_whole, conn.wanted.publisher);
        }
    }

    /// Ends the run: missing deliveries are lost, and all connections get a Close.
    pub(super) fn start_close(&mut self) {
        if self.phase > Phase::Connect {
            let (start, end) = (self.shared.load_start(), self.shared.measured().1);
            self.sending.stop(&self.plan, start, end);
        }
        self.give_up_absent();
        for id in self.ids(Conn::is_open) {
            self.conclude_conn(id);
        }
        self.books.is_over = true;
        let ids: Vec<Id> = self.ids(|_| true);
        for id in ids {
            if !self.conns[id.key].is_leaving {
                self.say_goodbye(id);
            }
        }
    }

    /// Nothing more comes to an open connection: what it is owed is lost.
    fn conclude_conn(&mut self, id: Id) {
        let conn = &mut self.conns[id.key];
        let owed = if conn.is_leaving {
            0
        } else {
            self.books.conclude(&mut conn.received)
        };
        if owed > 0 {
            conn.received.mark_unclean();
        }
        if conn.wanted.kind == Kind::Posting {
            return;
        }
        let is_whole = conn.received.is_whole() && !conn.is_leaving;
        self.stayed += u64::from(is_whole);
        let publisher = conn.wanted.publisher;
        self.books.on_life(&conn.received, is_whole, publisher);
        if let Some(story) = conn.story.take() {
            // One that stayed has nothing to tell.
            if conn.wanted.kind != Kind::Steady || story.returns > 0 {
                let row = client_row(&conn.wanted, &conn.received, &story, owed);
                self.returns.clients.push(row);
            }
        }
        self.count_owed(owed);
    }

    /// Counts deliveries that did not come until the end.
    pub(super) fn count_owed(&mut self, owed: u64) {
        let counts = &mut self.books.tally.totals.counts;
        if self.shared.is_cut_short() {
            counts.outstanding += owed;
        } else {
            counts.lost += owed;
        }
    }

    /// The connections of some kind.
    pub(super) fn ids(&self, which: impl Fn(&Conn) -> bool) -> Vec<Id> {
        let conns = self.conns.iter().filter(|(_, conn)| which(conn));
        conns
            .map(|(key, conn)| Id {
                key,
                generation: conn.generation,
            })
            .collect()
    }
}
