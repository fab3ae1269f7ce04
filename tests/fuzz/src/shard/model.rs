//! What shards should do, without their machinery: for each topic one order, and for each member its place in it.
//!
//! The order follows from what is told here: what each shard accepted, and when that reached the topic's owner. Where a member
//! joins follows from when the owner confirmed it.

use std::collections::{BTreeMap, VecDeque};

use fanwire::ids::ClientKey;

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
    /// By shard: accepted there, and not arrived at the owner.
    accepted: Vec<VecDeque<Said>>,
    /// Arrived at the owner, and not numbered.
    pending: Vec<Said>,
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

    /// Somebody asks for the topic, of which `owner` numbers the messages.
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

    /// `shard` has numbered what has arrived, and behind that what it has accepted itself, or has left all of a topic's
    /// `waiting` for its next fan-out.
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

    /// A client has joined: with the owner's word for it, or at once where its own shard is the owner.
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

    /// Messages that a member has not been sent.
    pub(super) fn owed(&self, client: usize) -> usize {
        let member = self.members.get(&client);
        member.map_or(0, |member| self.rest(client, member))
    }

    /// Messages that were withheld from members that were sent away, all of them together.
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

    /// Whether everything that was accepted has been numbered.
    pub(super) fn is_settled(&self) -> bool {
        let is_empty = |topic: &Topic| {
            topic.pending.is_empty() && topic.accepted.iter().all(VecDeque::is_empty)
        };
        self.topics.values().all(is_empty)
    }
}
