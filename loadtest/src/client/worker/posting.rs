//! A worker's publishers by POST: what follows an answer, a refusal and the end of a connection.

use super::Worker;
use super::absent::Call;
use super::duties::Duty;
use super::id::Id;
use crate::client::connection::{Conn, End};
use crate::client::shared::Phase;
use crate::scenario::plan::{Kind, Wanted};

impl Worker {
    /// Answers have come: the publisher may go on, or sends a message again later.
    pub(super) fn after_answers(&mut self, id: Id) {
        self.after_refusal(id);
        let Some(conn) = self.conn(id) else {
            return;
        };
        let Some(publisher) = conn.wanted.publisher else {
            return;
        };
        if conn.posts().is_some_and(|posts| posts.is_used_up()) {
            if let Some(conn) = self.take(id) {
                self.reopen(&conn);
            }
        } else if conn.may_send() {
            self.release_unless_paused(publisher);
        }
    }

    fn after_refusal(&mut self, id: Id) {
        let now = self.now;
        let Some(conn) = self.conn(id) else {
            return;
        };
        let (Some(publisher), Some(posts)) = (conn.wanted.publisher, conn.posts()) else {
            return;
        };
        let Some(refusal) = posts.take_refusal() else {
            return;
        };
        if refusal.pause.is_none() {
            posts.stop();
        }
        // It was not published, so nobody is owed it yet.
        if self.plan.pipeline == 1 {
            self.sending.repeat(publisher, &self.shared);
        }
        match refusal.pause {
            Some(pause) => {
                self.posting.paused.insert(publisher);
                self.posting.repeated += 1;
                self.duties.add(now + pause, Duty::Post(publisher));
            }
            None => self.sending.disconnect(publisher),
        }
    }

    /// A publisher whose connection is open goes on, unless a refusal makes it wait.
    pub(super) fn release_unless_paused(&mut self, publisher: u32) {
        if !self.posting.paused.contains(&publisher) {
            self.sending.release(publisher, &self.plan, &self.shared);
        }
    }

    /// A publisher sends the message again that was refused.
    pub(super) fn post_again(&mut self, publisher: u32) {
        if self.posting.paused.remove(&publisher) {
            self.sending.release(publisher, &self.plan, &self.shared);
        }
    }

    /// The relay has ended a connection that publishes. Between two requests it may do so, and another is opened.
    /// Returns whether it did.
    pub(super) fn reopens(&mut self, conn: &mut Conn, end: &End) -> bool {
        let is_over = self.phase > Phase::Drain || matches!(end, End::Broken(_));
        let posts = conn.posts().filter(|_| !is_over);
        if !posts.is_some_and(|posts| posts.may_reopen()) {
            return false;
        }
        self.reopen(conn);
        true
    }

    fn reopen(&mut self, conn: &Conn) {
        self.posting.reopened += 1;
        self.posting.away += 1;
        self.queue.push_back(Call::new(conn.wanted));
    }

    /// A publisher could not connect again, and tries it once more later. Returns whether it does: the first connection
    /// of a publisher must be possible.
    pub(super) fn posts_later(&mut self, wanted: Wanted, reason: &str) -> bool {
        let is_back = wanted.kind == Kind::Posting && self.phase > Phase::Connect;
        if is_back {
            *self.returns.retried.entry(reason.to_owned()).or_default() += 1;
            self.duties.rejoin(self.now, wanted);
        }
        is_back
    }
}
