//! Relief: clients and laggards give way when the shard holds more than its share of `limits.max_buffered_bytes`.
//!
//! A turn comes here when it settles. Messages that are kept for clients that come later give way first, and then replays of
//! such messages. If that is not enough, clients give way if they hold more than half of the share, and logs otherwise. The
//! largest holders give way first.
//!
//! A client is closed with 1013. In a topic, the members that keep the older half of its log are skipped or disconnected. Under
//! `backpressure` they are disconnected: the bound on memory outranks the promise to wait.
//!
//! Long before that, a shard under pressure makes publishers wait whenever their topic's log is not empty, so logs seldom give
//! way. Memory of clients causes no pressure, because waiting publishers would not make it smaller.

use super::Shard;
use super::memory::Holder;
use super::phase::Phase;
use super::sharing::SharedKey;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::relay::policy::departure::Departure;
use crate::relay::topic::TopicKey;
use crate::ws::decode::Decoder;
use crate::ws::handshake::Refusal;

impl Shard {
    /// If the share is used up, makes the largest holders give way until it is not. Says whether it was. Called once a turn,
    /// when everything is gauged.
    pub(super) fn relieve(&mut self) -> bool {
        if !self.memory.is_over_share(&self.stats) {
            return false;
        }
        while self.memory.is_over_share(&self.stats) && self.owner.give_way(&mut self.stats) {}
        if !self.memory.is_over_share(&self.stats) {
            // Kept messages are a service, and no client has lost anything that it was promised.
            return false;
        }
        self.stats.inc(Stat::BufferLimitReached);
        while self.memory.is_over_share(&self.stats) && self.relieve_of_replays() {}
        while self.memory.is_over_share(&self.stats) && self.relieve_once() {}
        true
    }

    /// Ends the replays of a list. Says whether there was one.
    fn relieve_of_replays(&mut self) -> bool {
        let clients = self.replays.some_clients();
        for &client in &clients {
            self.depart(client, Departure::Memory);
        }
        !clients.is_empty()
    }

    /// Makes the largest holder give way. Says whether there was one. Members that wait for the shard itself are not blamed.
    ///
    /// The rankings name only holders that have something to give. So the cost depends on how many give way, and not on how
    /// many topics and members there are.
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

    /// Skips or disconnects the members with full sockets that keep the older half of the topic's log. A member that was not
    /// visited yet is not a laggard, and publishers wait for it.
    fn relieve_of_laggards(&mut self, key: TopicKey) {
        let topic = &self.topics[key];
        let (log, skips) = (&topic.log, topic.conduct.policy.skips());
        let laggards: Vec<ClientKey> = log
            .blocked_keeping_more_than(log.kept_bytes() / 2)
            .collect();
        for member in laggards {
            if skips {
                self.skip(member);
            } else {
                self.depart(member, Departure::Memory);
            }
        }
        self.gauge_log(key);
    }

    /// Cuts all clients that share a batch, because it is kept until the last one is gone. They are in the middle of a frame,
    /// so they cannot be told.
    fn relieve_of_sharers(&mut self, key: SharedKey) {
        let clients: Vec<ClientKey> = self.memory.sharing().clients(key).collect();
        for client in clients {
            self.cut(client, Departure::Memory);
        }
    }

    fn relieve_of_client(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        match client.phase() {
            Phase::Requesting if client.mentions_events() => {
                // Its request does not fit any more. An `EventSource` comes back after a failed connection, but not after a 503.
                self.cut(key, Departure::Memory);
            }
            Phase::Requesting => self.refuse_now(key, Refusal::CAPACITY),
            Phase::Exchanging => self.relieve_of_exchange(key),
            Phase::Open => {
                // Nothing more is read from it.
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

    /// Touches every topic with a log if the shard has just come under pressure or out of it. Says whether it has.
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
}
