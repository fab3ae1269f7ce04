//! Clients that are cut, come back and go on where they were. The checks of a client go on over all its connections.
//!
//! A client that cannot come back tries again until the run is over. Only then is what it is owed lost.

use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;

use super::Worker;
use super::absent::{Absence, Call, absence, client_row};
use super::duties::Duty;
use super::id::Id;
use crate::client::connection::{Conn, State};
use crate::client::shared::Phase;
use crate::clock::{MILLISECOND, SECOND};
use crate::report::CutStyle;
use crate::scenario::chance::Purpose;
use crate::scenario::plan::Kind;
use crate::scenario::protocol::Protocol;

/// The shortest time until a client that could not come back tries again, and the most that is added to it.
const RETRY: u64 = 100 * MILLISECOND;
const LONGER_RETRY: u64 = 900 * MILLISECOND;

/// Time within which clients come back after an avalanche.
const AVALANCHE: u64 = SECOND;

impl Worker {
    /// Plans the time at which a client is cut.
    pub(super) fn plan_cut(&mut self, now: u64, id: Id) {
        let (Some(conn), Some(mean)) = (self.conns.get(id.key), self.plan.cut_every) else {
            return;
        };
        let (Kind::Jittery, Some(story)) = (conn.wanted.kind, &conn.story) else {
            return;
        };
        let client = conn.wanted.client;
        let life = self
            .plan
            .chance
            .exponential(mean, Purpose::Life, client, story.cuts);
        self.duties.add(now + life, Duty::Cut(id));
    }

    /// Cuts a client.
    pub(super) fn cut(&mut self, id: Id) {
        let chance = self.plan.chance;
        let Some(conn) = self.conn(id).filter(|conn| conn.is_open() && !conn.is_cut) else {
            return;
        };
        let cuts = conn.story.as_ref().map_or(0, |story| story.cuts);
        let styles = CutStyle::ALL;
        let draw = chance.below(
            styles.len() as u64,
            Purpose::Style,
            conn.wanted.client,
            cuts,
        );
        let style = styles[draw as usize];
        *self.returns.cuts.entry(style).or_default() += 1;
        if style == CutStyle::Fin && self.end_side(id) {
            // The rest is read until the relay ends its side.
            self.duties.expect_end(self.now, id);
            return;
        }
        if style == CutStyle::Rst {
            self.make_abrupt(id);
        }
        self.let_go(id, self.plan.away);
    }

    /// Ends our side of a connection. Returns whether there was one.
    fn end_side(&mut self, id: Id) -> bool {
        let conn = &mut self.conns[id.key];
        let State::Open(stream) = &mut conn.state else {
            return false;
        };
        conn.is_cut = true;
        stream.socket().shutdown(Shutdown::Write).is_ok()
    }

    /// Lets a connection end with a reset.
    fn make_abrupt(&mut self, id: Id) {
        if let State::Open(stream) = &mut self.conns[id.key].state {
            // Without it, the connection ends with a FIN, which is a cut as well.
            let _ = SockRef::from(&*stream.socket()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Drops a connection without a Close. Its client comes back after `pause`.
    pub(super) fn let_go(&mut self, id: Id, pause: u64) {
        if let Some(conn) = self.take(id) {
            self.send_away(conn, pause);
        }
    }

    /// A client has lost its connection, and comes back after `pause`. At the end of the load, it comes back at once.
    pub(super) fn send_away(&mut self, conn: Conn, pause: u64) {
        let is_over = self.phase == Phase::Drain;
        let Some(absence) = absence(conn) else {
            return;
        };
        if is_over || pause == 0 {
            self.queue.push_back(Call::back(absence));
        } else {
            let key = self.returns.absent.insert(absence);
            self.duties.add(self.now + pause, Duty::Return(key));
        }
    }

    /// A client comes back.
    pub(super) fn come_back(&mut self, key: usize) {
        if let Some(absence) = self.returns.absent.try_remove(key) {
            self.queue.push_back(Call::back(absence));
        }
    }

    /// A client could not come back, and tries again.
    pub(super) fn retry(&mut self, mut absence: Box<Absence>, reason: String) {
        *self.returns.retried.entry(reason).or_default() += 1;
        absence.story.failures += 1;
        let (client, tries) = (absence.wanted.client, absence.story.failures);
        let longer = self
            .plan
            .chance
            .below(LONGER_RETRY, Purpose::Retry, client, tries);
        let key = self.returns.absent.insert(absence);
        self.duties
            .add(self.now + RETRY + longer, Duty::Return(key));
    }

    /// The relay has answered the handshake of a client with a story. Later connections of it are returns.
    pub(super) fn on_answered(&mut self, id: Id) {
        let conn = &mut self.conns[id.key];
        let Some(story) = &mut conn.story else {
            return;
        };
        if story.cuts == 0 {
            return;
        }
        story.returns += 1;
        story.opened = self.now;
        conn.received.come_back(self.now);
        self.returns.returned += 1;
        if conn.counting.token().is_none() {
            self.books.on_unasked(&mut conn.received);
            if let Some(fell) = story.fell.take() {
                self.returns.recoveries.saturating_record(self.now - fell);
            }
            return;
        }
        let behind = self.books.owed(&conn.received);
        self.returns.behind += behind;
        if behind == 0 {
            self.returns.up_to_date += 1;
            if let Some(fell) = story.fell.take() {
                self.returns.recoveries.saturating_record(self.now - fell);
            }
            return;
        }
        let topic = conn.wanted.topic;
        let publishers = self.plan.publishers_by_topic[topic as usize].len();
        let sent = self.books.sent_in(topic);
        story.goal = Some((0..publishers).map(sent).collect());
    }

    /// Notes that a client has caught up, if it has.
    pub(super) fn follow_return(&mut self, id: Id) {
        let conns = &mut self.conns;
        let conn = conns
            .get_mut(id.key)
            .filter(|conn| conn.generation == id.generation);
        let Some(conn) = conn else {
            return;
        };
        let Some(story) = &mut conn.story else {
            return;
        };
        let Some(goal) = &story.goal else {
            return;
        };
        // Until the relay has said what is lost, nobody knows what is still to come.
        let has_words = conn.wanted.protocol != Protocol::Meta;
        if has_words && !conn.counting.has_begun() || conn.received.owed(|local| goal[local]) > 0 {
            return;
        }
        story.goal = None;
        let now = self.books.now;
        let replay = now.saturating_sub(story.opened);
        story.slowest = story.slowest.max(replay);
        self.returns.replays.saturating_record(replay);
        self.returns
            .catch_ups
            .saturating_record(now.saturating_sub(story.began));
        if let Some(fell) = story.fell.take() {
            self.returns.recoveries.saturating_record(now - fell);
        }
    }

    /// The relay has ended the connection of a client that comes back. It may have ended all of them, so each comes back
    /// after a pause of its own, as after an avalanche.
    pub(super) fn on_fall(&mut self, conn: &mut Conn) -> u64 {
        let Some(story) = &mut conn.story else {
            return 0;
        };
        if story.fell.is_none() {
            story.fell = Some(self.now);
            self.returns.fallen += 1;
        }
        let (client, cuts) = (conn.wanted.client, story.cuts);
        let chance = self.plan.chance;
        chance.below(AVALANCHE, Purpose::Avalanche, client, cuts)
    }

    /// Cuts all clients at once. Each comes back within a second.
    pub(super) fn avalanche(&mut self, at: u64) {
        let absent = self.returns.absent.iter_mut().map(|(_, absence)| absence);
        let queued = self.queue.iter_mut();
        let queued = queued.filter_map(|call| call.absence.as_mut());
        for absence in absent.chain(queued) {
            self.returns.fallen += u64::from(absence.story.fell.replace(at).is_none());
        }
        for id in self.ids(|conn| conn.wanted.kind == Kind::Jittery) {
            let conn = &mut self.conns[id.key];
            let Some(story) = &mut conn.story else {
                continue;
            };
            self.returns.fallen += u64::from(story.fell.replace(at).is_none());
            let cuts = story.cuts;
            let pause =
                self.plan
                    .chance
                    .below(AVALANCHE, Purpose::Avalanche, conn.wanted.client, cuts);
            if conn.is_open() {
                let style = CutStyle::Gone;
                *self.returns.cuts.entry(style).or_default() += 1;
                self.let_go(id, pause);
            }
            self.publish_in_between();
        }
    }

    /// The load is over: whoever is away comes back at once.
    pub(super) fn call_back_all(&mut self) {
        self.queue
            .retain(|call| call.absence.is_some() || call.wanted.kind == Kind::Posting);
        for id in self.ids(|conn| conn.is_cut) {
            self.let_go(id, 0);
        }
        let absent = std::mem::take(&mut self.returns.absent);
        let calls = absent.into_iter().map(|(_, absence)| Call::back(absence));
        self.queue.extend(calls);
    }

    /// Whether a client is still to come back.
    pub(super) fn is_anybody_away(&self) -> bool {
        self.returns.is_anybody_absent() || !self.queue.is_empty()
    }

    /// The run is over: what clients are owed that are away is lost.
    pub(super) fn give_up_absent(&mut self) {
        let calls = std::mem::take(&mut self.queue);
        let queued = calls.into_iter().filter_map(|call| call.absence);
        let absent = std::mem::take(&mut self.returns.absent);
        let absent = absent.into_iter().map(|(_, absence)| absence);
        let mut all: Vec<Box<Absence>> = queued.chain(absent).collect();
        let opening = self.ids(|conn| !conn.is_open() && conn.story.is_some());
        for id in opening {
            all.extend(self.take(id).and_then(absence));
        }
        for mut absence in all {
            let owed = self.books.conclude(&mut absence.received);
            self.count_owed(owed);
            if owed == 0 {
                let is_whole = absence.received.is_whole();
                self.books.on_life(&absence.received, is_whole, None);
            }
            let Absence {
                wanted,
                received,
                story,
                ..
            } = *absence;
            let row = client_row(&wanted, &received, &story, owed);
            self.returns.clients.push(row);
        }
    }
}
