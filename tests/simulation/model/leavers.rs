//! Clients that leave in order: the messages that they must have got before.

use fanwire::config::SlowConsumerPolicy;
use fanwire::internals::ws::frame_len;

use super::Model;

impl Model {
    /// A client that is told that the relay is going away has got everything that its shard had when the drain began, and back
    /// all that it published.
    pub(super) fn check_leaver(&self, client_key: usize) {
        let client = &self.clients[client_key];
        let topic = &self.topics[client.topic];
        let member = client.member.as_ref().expect("Close is for members");
        let is_own = |&&message: &&usize| self.messages[message].publisher == client_key;
        let before = topic.mirrored_before_drain[client.shard];
        let withheld = topic.order.get(member.next..before).unwrap_or_default();
        let withheld = withheld
            .iter()
            .filter(|message| topic.rule.echo || !is_own(message));
        assert_eq!(
            withheld.count(),
            0,
            "client {client_key} left without what was there before the drain"
        );
        let under_way = topic.accepted[client.shard].iter().chain(&topic.pending);
        let unsent = topic.order[member.next..].iter().chain(under_way);
        let own = if topic.rule.echo {
            unsent.filter(is_own).count()
        } else {
            0
        };
        assert_eq!(
            own, 0,
            "client {client_key} left before it had back what it published"
        );
    }

    /// A client that broke the protocol must first get back what it had published before, unless it lags too far. Then
    /// it is told of its violation.
    pub(super) fn check_violator(&self, client_key: usize) {
        let rule = self.rule(client_key);
        if rule.policy == SlowConsumerPolicy::Drop || !rule.echo {
            return;
        }
        let client = &self.clients[client_key];
        let topic = &self.topics[client.topic];
        let member = client.member.as_ref().expect("Close is for members");
        let unsent = topic.order[member.next..].iter();
        let lens = unsent
            .clone()
            .map(|&message| self.messages[message].payload.len());
        let lag: usize = lens.map(frame_len).sum();
        if rule.policy == SlowConsumerPolicy::Disconnect && lag > self.max_lag_bytes {
            return;
        }
        let under_way = topic.accepted[client.shard].iter().chain(&topic.pending);
        let is_own = |&&message: &&usize| self.messages[message].publisher == client_key;
        let withheld = unsent.chain(under_way).filter(is_own).count();
        assert_eq!(
            withheld, 0,
            "client {client_key} was failed before it had back what it published"
        );
    }
}
