//! A worker's part in the rounds of a scenario: it sends a burst, or drops connections and opens them again.

use std::sync::atomic::Ordering;

use super::Worker;
use super::absent::Call;
use crate::client::shared::Phase;
use crate::scenario::plan::Kind;
use crate::scenario::scenarios::Scenario;

impl Worker {
    /// Begins the round that was announced, when its time has come.
    pub(super) fn follow_round(&mut self) {
        let (round, start) = self.shared.round();
        if self.phase != Phase::Load || round <= self.round || self.now < start {
            return;
        }
        self.round = round;
        match self.plan.scenario {
            Scenario::Burst => self.sending.start_burst(start, &self.plan),
            Scenario::Reconnect => {
                let ids = self.ids(|conn| conn.wanted.kind == Kind::Returning);
                self.awaited = ids.len();
                for id in ids {
                    let wanted = self.conns[id.key].wanted;
                    if self.plan.has_story(&wanted) {
                        self.let_go(id, 0);
                    } else {
                        self.drop_conn(id);
                        self.queue.push_back(Call::new(wanted));
                    }
                    self.publish_in_between();
                }
            }
            Scenario::Fanout
            | Scenario::Chat
            | Scenario::Idle
            | Scenario::Churn
            | Scenario::Slow
            | Scenario::Jitter
            | Scenario::Soak => {}
        }
        self.check_round();
    }

    /// Posts that this thread has finished the round, if it has.
    pub(super) fn check_round(&mut self) {
        let board = &self.shared.boards[self.index];
        if self.round == 0 || board.round_done.load(Ordering::SeqCst) == self.round {
            return;
        }
        let is_done = match (&self.books.window, self.plan.scenario) {
            (Some(window), Scenario::Burst) => {
                let mut sizes = self.plan.burst.iter().enumerate();
                sizes.all(|(publisher, size)| window.head(publisher) >= self.round * size)
            }
            _ => self.awaited == 0,
        };
        if is_done {
            board.round_done_at.store(self.books.now, Ordering::SeqCst);
            board.round_done.store(self.round, Ordering::SeqCst);
        }
    }
}
