//! The relay ends, and another process begins. Topics, their orders and their numbers go on if it has the history, and begin anew
//! if it has not.

use std::collections::VecDeque;

use fanwire::internals::port::Epoch;

use super::{Life, Member, Model};

impl Model {
    /// The next process has so many shards. `epoch` is a new one if the history is lost.
    pub(crate) fn restart(&mut self, shards: usize, epoch: Option<Epoch>) {
        for client in &mut self.clients {
            let number = client.member.as_ref().and_then(Member::number);
            client.member = None;
            client.left_at = number.or(client.left_at).filter(|_| epoch.is_none());
            client.posted.clear();
            client.opened_at = None;
        }
        self.confirmed.clear();
        self.delivered = vec![0; shards];
        for topic in &mut self.topics {
            if epoch.is_some() {
                topic.order.clear();
                topic.numbered_at.clear();
                topic.life = Life::default();
                topic.pending.clear();
            }
            assert!(topic.pending.is_empty(), "a message was never numbered");
            topic.accepted = vec![VecDeque::new(); shards];
            topic.offered = vec![VecDeque::new(); shards];
            topic.fanned_out_at = None;
            topic.waits_until = None;
            topic.mirrored = vec![topic.order.len(); shards];
            topic.mirrored_before_drain = topic.mirrored.clone();
        }
        self.posts.restart(epoch.is_some());
        self.epoch = epoch.unwrap_or(self.epoch);
    }

    /// The epoch of all numbers.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }
}
