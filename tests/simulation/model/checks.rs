//! The checks of the model when nothing is on its way, and at the end.

use std::collections::VecDeque;

use fanwire::config::SlowConsumerPolicy;

use super::{FAREWELL, Model};

impl Model {
    /// Checks a member that reads, once nothing is on its way. It must have got every message of its topic so far. All its
    /// own messages must be accepted, and its pings answered.
    pub(crate) fn check_at_rest(&mut self, client_key: usize) {
        let client = &self.clients[client_key];
        assert!(
            client.posted.is_empty(),
            "client {client_key}: {} messages were not taken, and nobody will come back for them",
            client.posted.len()
        );
        let end = self.topics[client.topic].order.len();
        let mirrored = self.topics[client.topic].mirrored[client.shard];
        assert_eq!(
            mirrored, end,
            "client {client_key}: its shard lacks messages"
        );
        self.check_probes(client_key);
        let owed = self.owed_to(client_key, client);
        let is_lossy = self.rule(client_key).policy == SlowConsumerPolicy::Drop;
        assert!(
            owed == 0 || is_lossy,
            "client {client_key}: {owed} messages wait for ever"
        );
        assert!(
            client.pinged.is_empty(),
            "client {client_key}: every ping is answered"
        );
    }

    /// Checks that clients that were told that the relay is going away had got everything before.
    pub(crate) fn check_farewells(&self) {
        if self.has_spread {
            // In a spread, others go on when a client has left.
            return;
        }
        for (key, client) in self.clients.iter().enumerate() {
            let is_farewell =
                |(code, reason): &(u16, String)| *code == 1001 && reason.starts_with(FAREWELL);
            if !client.close.as_ref().is_some_and(is_farewell) {
                continue;
            }
            let rule = self.rule(key);
            let Some(member) = &client.member else {
                continue;
            };
            if rule.policy == SlowConsumerPolicy::Drop {
                continue;
            }
            let rest = &self.topics[client.topic].order[member.next..];
            let is_owed = |&&message: &&usize| rule.echo || self.messages[message].publisher != key;
            let withheld = rest.iter().filter(is_owed).count();
            assert_eq!(
                withheld, 0,
                "client {key} was sent away before it had everything"
            );
        }
    }

    /// Nothing is on its way: every accepted message is numbered.
    pub(crate) fn check_nothing_under_way(&self) {
        for (key, topic) in self.topics.iter().enumerate() {
            let accepted: usize = topic.accepted.iter().map(VecDeque::len).sum();
            assert_eq!(
                accepted + topic.pending.len(),
                0,
                "messages of topic {key} were accepted and never numbered"
            );
        }
        self.check_no_offers();
    }
}
