//! A worker's publishers by POST: what follows an answer, a refusal and the end of a connection.

use super::Worker;
use super::absent::Call;
use super::duties::Duty;
use super::id::Id;
use crate::client::connection::{Conn, End};
use crate::client::shared::Phase;

impl Worker {
    /// Answers have come: the publisher may go on, or sends a message again later.
    pub(super) fn after_answers(&mut self, id: Id) {
        let now = self.now;
        let Some(conn) = self.conn(id) else {
            return;
        };
        let (Some(publisher), Some(posts)) = (conn.wanted.publisher, conn.posts()) else {
            return;
        };
        let Some(refusal) = posts.take_refusal() else {
            if conn.may_send() {
                self.sending.release(publisher, &self.plan, &self.shared);
            }
            return;
        };
        // It was not published, so nobody is owed it yet.
        if self.plan.pipeline == 1 {
            self.sending.repeat(publisher, &self.shared);
        }
        if refusal.pause.is_none()
            && let Some(posts) = self.conn(id).and_then(Conn::posts)
        {
            posts.stop();
        }
        match refusal.pause {
            Some(pause) => {
                self.posts_waiting += 1;
                self.posts_repeated += 1;
                self.duties.add(now + pause, Duty::Post(publisher));
            }
            None => self.sending.disconnect(publisher),
        }
    }

    /// A publisher sends the message again that was refused.
    pub(super) fn post_again(&mut self, publisher: u32) {
        self.posts_waiting -= 1;
        self.sending.release(publisher, &self.plan, &self.shared);
    }

    /// The relay has ended a connection that publishes. Between two requests it may do so, and another is opened.
    /// Returns whether it did.
    pub(super) fn reopens(&mut self, conn: &mut Conn, end: &End) -> bool {
        let is_over = self.phase > Phase::Drain || matches!(end, End::Broken(_));
        let Some(posts) = conn.posts().filter(|_| !is_over) else {
            return false;
        };
        if !posts.may_reopen() {
            return false;
        }
        self.posts_reopened += 1;
        self.queue.push_back(Call::new(conn.wanted));
        true
    }
}
