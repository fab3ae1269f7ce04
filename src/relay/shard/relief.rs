//! Who gives way when the shard holds more than its share of `limits.max_buffered_bytes`.
//!
//! Whichever kind holds more than half of the share gives way, those who cost most first. Clients are closed with 1013. Of a
//! topic, the members that hold the older half of its log are judged whatever its grace. Under `backpressure` they are
//! disconnected as well: a promise about memory goes before one about patience.
//!
//! Well before logs have to give way, a shard under pressure has publishers wait for anything that waits, so that it seldom
//! comes to it. What is held for clients does not press: no publisher's waiting makes it less.

use super::Shard;
use super::memory::Holder;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::policy::departure::Departure;
use crate::relay::shard::client::Phase;
use crate::relay::shard::sharing::SharedKey;
use crate::relay::topic::{Topic, TopicKey};
use crate::ws::decode::Decoder;
use crate::ws::handshake::Refusal;

impl Shard {
    /// Has those give way who cost most, if the shard's share is used up, and says whether it is. Once a turn, when
    /// everything is gauged.
    pub(super) fn relieve(&mut self) -> bool {
        if !self.memory.is_over_share(&self.stats) {
            return false;
        }
        self.stats.inc(Stat::BufferLimitReached);
        // No more give way than have brought what is too much.
        while self.memory.is_over_share(&self.stats) && self.relieve_once() {}
        true
    }

    /// Has somebody give way; says whether there was anybody. Those for whom the shard itself is late are not blamed.
    ///
    /// Nobody is looked for in vain: the rankings name only those who have something to give, so that a turn takes as
    /// long as there are some who give way in it, however many topics and members there are.
    fn relieve_once(&mut self) -> bool {
        if self.memory.is_clients_fault(&self.stats) {
            match self.memory.largest_holder() {
                Some(Holder::Client(key)) => self.relieve_of_client(key),
                Some(Holder::Sharers(key)) => self.relieve_of_sharers(key),
                None => return false,
            }
            return true;
        }
        let Some(key) = self.memory.most_blamed() else {
            return false;
        };
        self.relieve_of_laggards(key);
        true
    }

    /// The members that keep the older half of the topic's log, if their sockets are full. Those that have not been
    /// visited yet are no laggards, and publishers wait for them.
    fn relieve_of_laggards(&mut self, key: TopicKey) {
        let log = &self.topics[key].log;
        let laggards: Vec<ClientKey> = log
            .blocked_keeping_more_than(log.kept_bytes() / 2)
            .collect();
        for member in laggards {
            if self.settings.policy.skips() {
                self.skip(member);
            } else {
                self.depart(member, Departure::Memory);
            }
        }
        self.gauge_log(key);
    }

    /// All of them, for the batch is kept until the last one is gone. They are in the middle of a frame, where nobody can
    /// be told anything.
    fn relieve_of_sharers(&mut self, key: SharedKey) {
        let clients: Vec<ClientKey> = self.memory.sharing().clients(key).collect();
        for client in clients {
            self.cut(client, Departure::Memory);
        }
    }

    fn relieve_of_client(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        match client.phase() {
            Phase::Requesting => self.refuse(key, Refusal::CAPACITY),
            Phase::Open => {
                // Nothing more is read of it.
                client.decoder = Decoder::default();
                client.arrival = None;
                self.depart(key, Departure::Memory);
            }
            Phase::Placing
            | Phase::Joining
            | Phase::Closing
            | Phase::Finishing
            | Phase::Lingering => {
                self.cut(key, Departure::Memory);
            }
        }
        self.gauge_client(key);
    }

    /// Looks at every topic with a log once the shard has come under pressure or out of it; says whether it has.
    pub(super) fn review_pressure(&mut self) -> bool {
        if !self.memory.review_pressure(&self.stats) {
            return false;
        }
        let topics = self.topics.iter();
        let with_log: Vec<TopicKey> = topics
            .filter(|(_, topic)| topic.gauged_bytes > 0)
            .map(|(key, _)| key)
            .collect();
        for key in with_log {
            self.topics.touch(key);
        }
        true
    }

    /// Looks at every member, to see that the log knows whom to blame, and that nobody is left to be.
    pub(super) fn check_blame(&self, topic: &Topic) {
        let mut blocked = 0;
        for &key in topic.members() {
            let client = &self.clients[key];
            let member = client.member.as_ref().expect("listed clients are members");
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
                "a laggard is unknown"
            );
            let is_blamed = kept > topic.log.kept_bytes() / 2;
            assert!(
                !is_blamed || topic.gauged_blame_bytes > 0,
                "nobody is blamed"
            );
            assert!(
                !is_blamed || !self.memory.is_over_share(&self.stats),
                "a laggard holds too much"
            );
        }
        assert_eq!(topic.log.blocked(), blocked, "whose sockets are full");
    }
}
