//! The behaviour of shards without their machinery: one order for each topic, and a place in it for each member.
//!
//! The order follows from the messages that each shard accepted and from the time at which they reached the topic's
//! owner. A member joins at the time when the owner confirmed it.

use std::collections::{BTreeMap, VecDeque};

use fanwire::ids::ClientKey;

use super::client::Message;

/// A message and its sender.
#[derive(Clone, Debug)]
struct Said {
    by: usize,
    message: Message,
}

/// One topic.
#[derive(Debug)]
struct Topic {
    owner: usize,
    order: Vec<Said>,
    /// By shard: accepted there, and not yet at the owner.
    accepted: Vec<VecDeque<Said>>,
    /// At the owner, and not yet numbered.
    pending: Vec<Said>,
}

/// A member's place in its topic.
#[derive(Debug)]
struct Member {
    topic: String,
    next: usize,
}

/// The model of all topics.
#[derive(Debug)]
pub(super) struct Model {
    shards: usize,
    echo: bool,
    is_lossy: bool,
    topics: BTreeMap<String, Topic>,
    confirmed: BTreeMap<(usize, ClientKey), usize>,
    members: BTreeMap<usize, Member>,
    /// Members that were told that the relay is going away.
    sent_away: BTreeMap<usize, Member>,
}

impl Model {
    pub(super) fn new(shards: usize, echo: bool, is_lossy: bool) -> Self {
        Model {
            shards,
            echo,
            is_lossy,
            topics: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            members: BTreeMap::new(),
            sent_away: BTreeMap::new(),
        }
    }

    /// A client asks for the topic, whose messages `owner` numbers.
    pub(super) fn know(&mut self, topic: &str, owner: usize) {
        let shards = self.shards;
        self.topics
            .entry(topic.to_owned())
            .or_insert_with(|| Topic {
                owner,
                order: Vec::new(),
                accepted: vec![VecDeque::new(); shards],
                pending: Vec::new(),
            });
    }

    /// `shard` has accepted a message of `client`.
    pub(super) fn accept(&mut self, shard: usize, client: usize, message: Message) {
        let member = self.members.get(&client).expect("only members publish");
        let topic = self.topics.get_mut(&member.topic).expect("known");
        let by = client;
        topic.accepted[shard].push_back(Said { by, message });
    }

    /// `count` messages of `from` have reached the owner.
    pub(super) fn publish(&mut self, topic: &str, from: usize, count: usize) {
        let topic = self.topics.get_mut(topic).expect("known");
        let arrived = topic.accepted[from].drain(..count);
        topic.pending.extend(arrived);
    }

    /// `shard` has numbered the messages that reached it, then those that it accepted itself. Of each topic, the last
    /// `waiting` messages still wait for a fan-out.
    pub(super) fn number(&mut self, shard: usize, waiting: impl Fn(&str) -> usize) {
        let topics = self.topics.iter_mut();
        for (name, topic) in topics.filter(|(_, topic)| topic.owner == shard) {
            topic.pending.extend(topic.accepted[shard].drain(..));
            match waiting(name) {
                0 => topic.order.append(&mut topic.pending),
                waiting => assert_eq!(waiting, topic.pending.len(), "all wait, or none"),
            }
        }
    }

    /// The owner confirms a client of `shard`.
    pub(super) fn confirm(&mut self, topic: &str, shard: usize, client: ClientKey) {
        let next = self.topics[topic].order.len();
        self.confirmed.insert((shard, client), next);
    }

    /// A client has joined: after the owner's confirmation, or at once if its own shard is the owner.
    pub(super) fn join(&mut self, client: usize, shard: usize, key: ClientKey, topic: &str) {
        let confirmed = self.confirmed.remove(&(shard, key));
        let known = &self.topics[topic];
        let is_heard_of = confirmed.is_some() || known.owner == shard;
        assert!(is_heard_of, "joined without a word from the owner");
        let next = confirmed.unwrap_or(known.order.len());
        let topic = topic.to_owned();
        let before = self.members.insert(client, Member { topic, next });
        assert!(before.is_none(), "a client joins once");
    }

    /// A client is no longer a member.
    pub(super) fn leave(&mut self, client: usize) {
        self.members.remove(&client);
    }

    pub(super) fn is_member(&self, client: usize) -> bool {
        self.members.contains_key(&client)
    }

    /// The last byte of a message to the client was written.
    pub(super) fn deliver(&mut self, client: usize, message: &Message) {
        let member = self
            .members
            .get_mut(&client)
            .expect("messages are for members");
        let order = &self.topics[&member.topic].order;
        loop {
            let next = order.get(member.next);
            let next = next.expect("a message that was not numbered, or one twice");
            member.next += 1;
            if next.message == *message && (self.echo || next.by != client) {
                return;
            }
            let is_own = !self.echo && next.by == client;
            assert!(
                is_own || self.is_lossy,
                "not what comes next: a gap, a repetition or another order"
            );
        }
    }

    /// A member is told that the relay is going away.
    pub(super) fn send_away(&mut self, client: usize) {
        let member = self.members.remove(&client);
        let member = member.expect("Close is for members");
        self.sent_away.insert(client, member);
    }

    /// The number of messages that a member has not been sent.
    pub(super) fn owed(&self, client: usize) -> usize {
        let member = self.members.get(&client);
        member.map_or(0, |member| self.rest(client, member))
    }

    /// The number of messages that members who were sent away did not get, all together.
    pub(super) fn withheld(&self) -> usize {
        let members = self.sent_away.iter();
        members
            .map(|(&client, member)| self.rest(client, member))
            .sum()
    }

    fn rest(&self, client: usize, member: &Member) -> usize {
        let rest = &self.topics[&member.topic].order[member.next..];
        let is_owed = |said: &&Said| self.echo || said.by != client;
        rest.iter().filter(is_owed).count()
    }

    /// Whether all accepted messages are numbered.
    pub(super) fn is_settled(&self) -> bool {
        let is_empty = |topic: &Topic| {
            topic.pending.is_empty() && topic.accepted.iter().all(VecDeque::is_empty)
        };
        self.topics.values().all(is_empty)
    }
}
