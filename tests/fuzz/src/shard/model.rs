//! A model of the shards without their machinery: one order for each topic, and each member's place in it.
//!
//! The [`host`](super::host) reports each message that a shard accepts, and its arrival at the topic's owner. The arrivals make
//! the order. A member's place is the point in the order at which the owner confirms it.

use std::collections::{BTreeMap, VecDeque};

use fanwire::internals::ClientKey;

use super::client::Message;

/// A message and who said it.
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
    /// By shard: messages that it accepted and that have not arrived at the owner.
    accepted: Vec<VecDeque<Said>>,
    /// Messages that have arrived at the owner and have no number.
    pending: Vec<Said>,
    /// By shard: how much of the order the owner has sent to it.
    sent: Vec<usize>,
    /// By shard: how much of the order has arrived there.
    arrived: Vec<usize>,
}

/// A member's place in its topic.
#[derive(Debug)]
struct Member {
    topic: String,
    next: usize,
}

/// See the module.
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

    /// Somebody asks for the topic. `owner` numbers its messages.
    pub(super) fn know(&mut self, topic: &str, owner: usize) {
        let shards = self.shards;
        self.topics
            .entry(topic.to_owned())
            .or_insert_with(|| Topic {
                owner,
                order: Vec::new(),
                accepted: vec![VecDeque::new(); shards],
                pending: Vec::new(),
                sent: vec![0; shards],
                arrived: vec![0; shards],
            });
    }

    /// `shard` has accepted a message of `client`'s.
    pub(super) fn accept(&mut self, shard: usize, client: usize, message: Message) {
        let member = self.members.get(&client).expect("only members publish");
        let topic = self.topics.get_mut(&member.topic).expect("known");
        let by = client;
        topic.accepted[shard].push_back(Said { by, message });
    }

    /// `count` messages of `from` have arrived at the owner.
    pub(super) fn publish(&mut self, topic: &str, from: usize, count: usize) {
        let topic = self.topics.get_mut(topic).expect("known");
        let arrived = topic.accepted[from].drain(..count);
        topic.pending.extend(arrived);
    }

    /// `shard` numbers the messages that have arrived, and behind those its own. Or all of a topic's `waiting` wait for its next
    /// fan-out.
    pub(super) fn number(&mut self, shard: usize, waiting: impl Fn(&str) -> usize) {
        let topics = self.topics.iter_mut();
        for (name, topic) in topics.filter(|(_, topic)| topic.owner == shard) {
            topic.pending.extend(topic.accepted[shard].drain(..));
            topic.sent.fill(topic.order.len());
            match waiting(name) {
                0 => topic.order.append(&mut topic.pending),
                waiting => assert_eq!(waiting, topic.pending.len(), "all wait, or none"),
            }
            topic.arrived[shard] = topic.order.len();
        }
    }

    /// The owner sends `shard` the next `count` messages that it has just numbered. Returns how much of the order `shard` then
    /// has.
    pub(super) fn send(&mut self, topic: &str, shard: usize, count: usize) -> usize {
        let topic = self.topics.get_mut(topic).expect("known");
        topic.sent[shard] += count;
        assert!(topic.sent[shard] <= topic.order.len(), "sent, not numbered");
        topic.sent[shard]
    }

    /// The order has arrived at `shard` up to `end`.
    pub(super) fn arrive(&mut self, topic: &str, shard: usize, end: usize) {
        let topic = self.topics.get_mut(topic).expect("known");
        topic.arrived[shard] = end;
    }

    /// The owner confirms a client of `shard`.
    pub(super) fn confirm(&mut self, topic: &str, shard: usize, client: ClientKey) {
        let next = self.topics[topic].order.len();
        self.confirmed.insert((shard, client), next);
    }

    /// A client joins: when the owner has confirmed it, or at once if its own shard is the owner.
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

    /// A client is a member no more.
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
        member.map_or(0, |member| self.rest(client, member, usize::MAX))
    }

    /// The number of them that its shard has.
    pub(super) fn at_hand(&self, client: usize, shard: usize) -> usize {
        let member = self.members.get(&client);
        member.map_or(0, |member| {
            let arrived = self.topics[&member.topic].arrived[shard];
            self.rest(client, member, arrived)
        })
    }

    /// The number of messages withheld from members that were sent away.
    pub(super) fn withheld(&self) -> usize {
        let members = self.sent_away.iter();
        members
            .map(|(&client, member)| self.rest(client, member, usize::MAX))
            .sum()
    }

    /// The number of messages before `end` that a member is still owed.
    fn rest(&self, client: usize, member: &Member, end: usize) -> usize {
        let order = &self.topics[&member.topic].order;
        let end = end.clamp(member.next, order.len());
        let is_owed = |said: &&Said| self.echo || said.by != client;
        order[member.next..end].iter().filter(is_owed).count()
    }

    /// Whether everything that was accepted has been numbered.
    pub(super) fn is_settled(&self) -> bool {
        let is_empty = |topic: &Topic| {
            topic.pending.is_empty() && topic.accepted.iter().all(VecDeque::is_empty)
        };
        self.topics.values().all(is_empty)
    }
}
