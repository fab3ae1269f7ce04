//! Checks of everything that holds between two turns.
//!
//! Tests, the simulation and the fuzzing world call [`Shard::check`] after every turn. It looks at all clients and topics, so
//! the relay itself never calls it. It changes nothing.

use super::Shard;
use super::client::{Client, Reading};
use super::exchange::{Exchange, Progress};
use super::phase::Phase;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::posting::Ticket;
use crate::relay::topic::Topic;
use crate::relay::topic::member::Member;

impl Shard {
    /// Panics if the shard's parts contradict each other, or if some work is on no list.
    pub fn check(&self) {
        assert!(
            self.outbox.is_own_empty(),
            "the shard has not heard all that it said to itself"
        );
        let mut lagging = 0;
        for (key, client) in self.clients.iter() {
            self.check_client(key, client);
            lagging += u64::from(client.blocked && client.topic().is_some());
        }
        let mut log_bytes = 0;
        for (_, topic) in self.topics.iter() {
            self.check_topic(topic);
            log_bytes += topic.log.kept_bytes();
        }
        self.memory
            .check(self.clients.iter(), &self.topics, &self.stats);
        self.owner.check(&self.stats);
        let replays = self.clients.iter().filter_map(|(key, client)| {
            let replaying = client.replay()?;
            Some((key, replaying.list, replaying.replay.past()))
        });
        self.replays.check(replays, &self.stats);
        assert_eq!(self.stats.value(Stat::MembersLagging), lagging);
        assert_eq!(self.stats.value(Stat::LogBytes), log_bytes);
        assert_eq!(self.stats.value(Stat::Topics), self.topics.len() as u64);
    }

    /// Whether no topic is mirrored here, and no message from outside is on its way. For tests.
    pub fn is_at_rest(&self) -> bool {
        self.topics.len() == 0 && self.outside.is_at_rest()
    }

    fn check_client(&self, key: ClientKey, client: &Client) {
        assert!(
            client.blocked || client.urgent || !client.holds_back,
            "nothing will send the bytes that a transport holds back"
        );
        assert!(
            client.phase() != Phase::Placing || self.undecided.contains(&key),
            "the host will not be asked where a client is to live"
        );
        assert!(
            !client.awaits_seat() || self.unseated.contains(&key),
            "the host will not be asked for a seat"
        );
        assert!(
            !client.is_probe() || self.probes.contains(&key),
            "nobody will answer a health check"
        );
        if let Some(exchange) = client.exchange() {
            self.check_exchange(key, client, exchange);
        }
        assert!(
            !client.is_idle()
                || !self.drain.is_announced()
                || self.drain.is_abandoned()
                || self.is_known_as_idle(key),
            "a drain will not close a connection between two requests"
        );
        assert!(
            !client.has_early_request() || client.is_ready,
            "nobody will read the next request"
        );
        if let Some(member) = &client.member {
            assert!(client.replay().is_none(), "a client has one place");
            self.check_member(key, client, member);
        }
        if let Some(topic) = client.source() {
            assert!(
                client.topic().is_none(),
                "a client that only publishes is in no topic"
            );
            let is_right = match client.reading {
                Reading::Allowed => true,
                Reading::AwaitsPhase => self.drain.has_begun(),
                Reading::AwaitsTopic => {
                    !self.is_open_from_outside(topic) && self.outside.has_source(topic, key)
                }
                Reading::AwaitsItself => false,
            };
            assert!(
                is_right,
                "a client that only publishes is parked without a reason"
            );
        }
        if let Some(replaying) = client.replay() {
            let is_resting = match replaying.ending {
                None => replaying.has_asked,
                Some(ending) => replaying.replay.is_over() && !ending.is_due,
            };
            let is_waiting = client.blocked || client.urgent || is_resting;
            assert!(is_waiting, "nothing will send a client what it is owed");
        }
    }

    fn check_exchange(&self, key: ClientKey, client: &Client, exchange: &Exchange) {
        assert_eq!(client.phase(), Phase::Exchanging);
        let is_answered = matches!(exchange.progress, Progress::Answered);
        assert!(
            !is_answered || client.urgent || client.blocked,
            "nothing will send an answer, or look for the next request"
        );
        let Some(parts) = exchange.parts() else {
            return;
        };
        parts.check();
        assert!(!parts.is_resolved(), "a request is not answered");
        assert!(
            !exchange.has_work() || client.is_ready,
            "nobody will go on with a request"
        );
        for (part, topic) in parts.queued() {
            let ticket = Ticket { client: key, part };
            assert!(
                self.outside.has_queued(topic, ticket),
                "a part of a request waits in no queue"
            );
        }
    }

    fn check_member(&self, key: ClientKey, client: &Client, member: &Member) {
        let topic = &self.topics[member.topic];
        let listed = topic.members()[member.place as usize];
        assert_eq!(listed, key, "a member is at its place in the topic's list");
        let is_waiting = client.blocked || client.urgent || topic.is_round_open();
        assert!(
            is_waiting || member.is_at_head(&topic.log),
            "nothing will send a member what it is owed"
        );
        let policy = &topic.conduct.policy;
        let is_right = match client.reading {
            Reading::Allowed => true,
            Reading::AwaitsPhase => self.drain.has_begun() || client.leaves_at_head,
            Reading::AwaitsTopic => !topic.is_open_to_publishers() && topic.waiting.contains(&key),
            Reading::AwaitsItself => !policy.may_publish(member.lag_bytes(&topic.log)),
        };
        assert!(is_right, "a client is parked without a reason");
    }

    fn check_topic(&self, topic: &Topic) {
        topic.log.check(topic.members().len());
        assert!(
            !topic.is_round_open() || topic.queued,
            "nothing will serve a round"
        );
        assert!(
            topic.touched || !Shard::is_owner_misled(topic),
            "the owner lets a topic wait for members that have left"
        );
        self.check_blame(topic);
    }

    /// Checks that the log knows its laggards, and that each of them that had to give way did.
    fn check_blame(&self, topic: &Topic) {
        let mut blocked = 0;
        for &key in topic.members() {
            let client = &self.clients[key];
            let member = client.member.as_ref().expect("a listed client is a member");
            if !client.blocked {
                continue;
            }
            blocked += 1;
            let kept: u64 = topic
                .log
                .batches_from(member.cursor)
                .map(|batch| batch.kept_bytes())
                .sum();
            assert!(
                topic.log.blocked_kept_bytes() >= kept,
                "the log does not know a laggard"
            );
            if kept <= topic.log.kept_bytes() / 2 {
                continue;
            }
            assert!(topic.gauged_blame_bytes > 0, "a laggard is not blamed");
            assert!(
                !self.memory.is_over_share(&self.stats),
                "a laggard holds too much"
            );
        }
        assert_eq!(topic.log.blocked(), blocked, "members with full sockets");
    }
}
