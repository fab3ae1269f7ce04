//! The expected behaviour of the relay, without its machinery: no logs, no cursors, no bytes.
//!
//! The model learns the messages that each shard accepted, their order at the topic's owner, and when the owner
//! confirmed a member. It computes the order of each topic, and from it the exact sequence that each member must get:
//! every message complete and once. The model compares every message when it leaves.

mod checks;
mod leavers;
pub(crate) mod positions;
pub(crate) mod posts;
mod restart;
mod streams;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fanwire::config::SlowConsumerPolicy;
use fanwire::internals::port::Epoch;
use fanwire::internals::relay::PER_MEMBER;
use fanwire::internals::{ClientKey, Timestamp};

use self::positions::Asked;
use self::posts::Posts;
use crate::plan::{Plan, Rule};
use crate::stream::Item;

/// The publisher of messages that no client has sent.
const OUTSIDE: usize = usize::MAX;

/// The beginning of the reason in a Close of a shutdown.
const FAREWELL: &str = "going away; retry ";

/// A message queued by a client, or published from outside.
#[derive(Debug)]
pub(crate) struct Message {
    publisher: usize,
    is_text: bool,
    payload: Vec<u8>,
    /// The step in which it was queued, before any byte of it was sent.
    posted_at: usize,
}

/// A topic: the order that all its members share, and the messages not yet in it.
#[derive(Debug)]
struct Topic {
    rule: Rule,
    order: Vec<usize>,
    /// The time at which each message of the order was numbered.
    numbered_at: Vec<Timestamp>,
    /// By shard: accepted there, and not yet at the owner.
    accepted: Vec<VecDeque<usize>>,
    /// By shard: offered there for requests, and not yet at the owner.
    offered: Vec<VecDeque<usize>>,
    /// Arrived at the owner, and not numbered.
    pending: Vec<usize>,
    /// The beginning of the last turn that numbered something.
    fanned_out_at: Option<Timestamp>,
    /// The end of the wait of the pending messages, as the owner says.
    waits_until: Option<Timestamp>,
    /// By shard: how much of the order has arrived there.
    mirrored: Vec<usize>,
    /// By shard: the same when its drain began.
    mirrored_before_drain: Vec<usize>,
    /// The present or the last one.
    life: Life,
}

/// A client that was confirmed.
#[derive(Debug)]
struct Member {
    /// The place of its first message in the order.
    join: usize,
    /// The place of its next message.
    next: usize,
    /// Messages skipped under the policy `drop`.
    skipped: usize,
    /// It was sent Close, or its connection is closed.
    is_over: bool,
    /// The topic's life, once the model knows it.
    life: Option<Life>,
    /// It was told where its stream begins.
    is_told: bool,
    /// The time at which the owner confirmed it.
    confirmed_at: Timestamp,
}

/// A span in which the relay does not forget the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Life {
    /// The distance from a place in the order to its number.
    base: u64,
    /// The place of its first message.
    born: usize,
}

/// The model's knowledge of a client.
#[derive(Debug)]
struct Client {
    shard: usize,
    topic: usize,
    /// Messages not yet accepted, each with the place in the client's bytes where it ends.
    posted: VecDeque<(u64, usize)>,
    /// Pings not yet answered, likewise.
    pinged: VecDeque<(u64, u32)>,
    /// The number of bytes that the shard has read.
    consumed: u64,
    /// The length of the topic's order when the client connected.
    numbered_before: usize,
    /// The step in which it read the 101.
    opened_at: Option<usize>,
    member: Option<Member>,
    /// The number that it was at when its relay ended, if this means something to the present one.
    left_at: Option<u64>,
    /// The last frame that it was sent.
    close: Option<(u16, String)>,
    /// The status of the response.
    status: Option<u16>,
    asked: Asked,
    /// It understands the relay's own words.
    has_words: bool,
    /// It reads an event stream.
    is_stream: bool,
    /// Questions not yet answered, each with the place in the client's bytes where it ends.
    probes: VecDeque<u64>,
}

/// The model of the world.
#[derive(Debug)]
pub(crate) struct Model {
    max_lag_bytes: usize,
    pings: bool,
    has_history: bool,
    /// The limits on what is kept are never reached.
    keeps_everything: bool,
    /// The longest time that a message is kept.
    max_age: Duration,
    /// The epoch of all numbers.
    epoch: Epoch,
    /// In a drain, clients are closed one after the other.
    has_spread: bool,
    messages: Vec<Message>,
    topics: Vec<Topic>,
    clients: Vec<Client>,
    /// Confirmations on their way, each with its client, the place of its first message, and the time.
    confirmed: HashMap<(usize, ClientKey), (usize, Timestamp)>,
    posts: Posts,
    /// By shard: messages whose last byte the client's transport took.
    ///
    /// The kernel may not have accepted it yet. If the connection fails then, the message counts as delivered, but the
    /// client never sees it. Otherwise the transport sends it, and a client that reads sees it all (`Peer::hear`,
    /// `World::close`).
    pub(crate) delivered: Vec<u64>,
}

impl Model {
    pub(crate) fn new(plan: &Plan) -> Self {
        let topic = |topic: usize| Topic {
            rule: plan.rule(topic),
            order: Vec::new(),
            numbered_at: Vec::new(),
            accepted: vec![VecDeque::new(); plan.shards],
            offered: vec![VecDeque::new(); plan.shards],
            pending: Vec::new(),
            fanned_out_at: None,
            waits_until: None,
            mirrored: vec![0; plan.shards],
            mirrored_before_drain: vec![0; plan.shards],
            life: Life::default(),
        };
        Model {
            max_lag_bytes: plan.config.slow_consumer.max_lag_bytes,
            has_spread: !plan.config.shutdown.spread.is_zero(),
            pings: !plan.config.keepalive.ping_interval.is_zero(),
            has_history: plan.has_history(),
            keeps_everything: plan.keeps_everything(),
            max_age: plan.config.history.max_age,
            epoch: Epoch::from_bits(0),
            messages: Vec::new(),
            topics: (0..plan.topics.len()).map(topic).collect(),
            clients: Vec::new(),
            confirmed: HashMap::new(),
            posts: Posts::default(),
            delivered: vec![0; plan.shards],
        }
    }

    // Clients' actions

    pub(crate) fn connect(&mut self, shard: usize, topic: usize) {
        self.clients.push(Client {
            shard,
            topic,
            posted: VecDeque::new(),
            pinged: VecDeque::new(),
            consumed: 0,
            numbered_before: self.topics[topic].order.len(),
            opened_at: None,
            member: None,
            left_at: None,
            close: None,
            status: None,
            asked: Asked::default(),
            has_words: false,
            is_stream: false,
            probes: VecDeque::new(),
        });
    }

    /// The client is moving to another shard.
    pub(crate) fn transfer(&mut self, client: usize, shard: usize) {
        let client = &mut self.clients[client];
        assert!(client.member.is_none(), "members stay where they are");
        client.shard = shard;
    }

    /// The client has read the 101.
    pub(crate) fn open(&mut self, client: usize, step: usize) {
        self.clients[client].opened_at.get_or_insert(step);
    }

    /// The number of the next message.
    pub(crate) fn next_message(&self) -> usize {
        self.messages.len()
    }

    /// The client has queued a message that ends at `end` of its bytes.
    pub(crate) fn post(
        &mut self,
        publisher: usize,
        end: u64,
        is_text: bool,
        payload: Vec<u8>,
        step: usize,
    ) {
        self.clients[publisher]
            .posted
            .push_back((end, self.messages.len()));
        self.messages.push(Message {
            publisher,
            is_text,
            payload,
            posted_at: step,
        });
    }

    /// The shard has taken a message that an outsider publishes to a topic.
    pub(crate) fn accept_outside(
        &mut self,
        shard: usize,
        topic: usize,
        is_text: bool,
        payload: Vec<u8>,
        step: usize,
    ) {
        let message = self.messages.len();
        self.messages.push(Message {
            publisher: OUTSIDE,
            is_text,
            payload,
            posted_at: step,
        });
        self.topics[topic].offered[shard].push_back(message);
    }

    /// The client has queued a ping.
    pub(crate) fn ping(&mut self, client: usize, end: u64, number: u32) {
        self.clients[client].pinged.push_back((end, number));
    }

    // Shards' actions

    /// The shard has read `count` bytes of the client.
    pub(crate) fn consume(&mut self, client: usize, count: usize) {
        self.clients[client].consumed += count as u64;
    }

    /// The shard has accepted `count` messages of the client.
    pub(crate) fn accept(&mut self, client: usize, count: u64) {
        let Client {
            shard,
            topic,
            consumed,
            posted,
            ..
        } = &mut self.clients[client];
        for _ in 0..count {
            let (_, message) = posted
                .pop_front_if(|(end, _)| *end <= *consumed)
                .expect("a message is accepted once its last byte was read, and once only");
            self.topics[*topic].accepted[*shard].push_back(message);
        }
    }

    /// The owner has confirmed the client.
    pub(crate) fn confirm(
        &mut self,
        shard: usize,
        client: ClientKey,
        topic: usize,
        now: Timestamp,
    ) {
        let next = self.topics[topic].order.len();
        self.confirmed.insert((shard, client), (next, now));
    }

    /// The confirmation has arrived, and the client is a member.
    pub(crate) fn join(&mut self, client: usize, key: ClientKey) {
        let shard = self.clients[client].shard;
        let join = self.confirmed.remove(&(shard, key));
        let (join, at) = join.expect("a client joins once its topic's owner has confirmed it");
        self.join_at(client, join, at);
        self.note_life(client);
    }

    /// The client is a member of a topic of its own shard.
    pub(crate) fn join_at_head(&mut self, client: usize, now: Timestamp) {
        let join = self.topics[self.clients[client].topic].order.len();
        self.join_at(client, join, now);
    }

    fn join_at(&mut self, client: usize, join: usize, confirmed_at: Timestamp) {
        let client = &mut self.clients[client];
        assert!(
            join >= client.numbered_before,
            "a late joiner sees what was published before it connected"
        );
        assert!(client.member.is_none(), "a client joins once");
        let mirrored = &mut self.topics[client.topic].mirrored[client.shard];
        *mirrored = (*mirrored).max(join);
        client.member = Some(Member {
            join,
            next: join,
            skipped: 0,
            is_over: false,
            life: None,
            is_told: false,
            confirmed_at,
        });
    }

    /// `count` messages of `shard` have arrived at the owner.
    pub(crate) fn publish(&mut self, shard: usize, topic: usize, count: usize) {
        let topic = &mut self.topics[topic];
        topic.pending.extend(topic.accepted[shard].drain(..count));
    }

    /// The owner, `shard`, has numbered the messages that have arrived, and behind them its own. Or it has left them all
    /// `waiting`, `until` a moment that does not change and is not too far. Returns the number of messages that the topic had
    /// before.
    pub(crate) fn number(
        &mut self,
        shard: usize,
        topic_key: usize,
        waiting: usize,
        until: Option<Timestamp>,
        now: Timestamp,
        may_wait: bool,
    ) -> usize {
        // No more than ever came are members.
        let clients = self.clients.iter().filter(|one| one.topic == topic_key);
        let most = PER_MEMBER * clients.count() as u32;
        let topic = &mut self.topics[topic_key];
        topic.pending.extend(topic.accepted[shard].drain(..));
        let offered = topic.offered[shard].len();
        self.arrive(shard, topic_key, offered, now);
        let topic = &mut self.topics[topic_key];
        let before = topic.order.len();
        if waiting > 0 {
            assert_eq!(waiting, topic.pending.len(), "all wait, or none");
            assert!(
                topic.waits_until.is_none_or(|told| until == Some(told)),
                "what waits is not put off"
            );
            topic.waits_until = until;
            let last = topic.fanned_out_at;
            let most = last.map_or(Timestamp(0), |last| last + topic.rule.coalesce.min(most));
            assert!(
                may_wait && now < most && until <= Some(most),
                "a topic that was quiet waits"
            );
            return before;
        }
        topic.waits_until = None;
        if !topic.pending.is_empty() {
            topic.fanned_out_at = Some(now);
        }
        topic.order.append(&mut topic.pending);
        topic.numbered_at.resize(topic.order.len(), now);
        topic.mirrored[shard] = topic.order.len();
        let numbered = &self.topics[topic_key].order[before..];
        if numbered.is_empty() {
            return before;
        }
        for member in self.clients.iter().filter(|one| one.topic == topic_key) {
            let (Some(opened_at), Some(Member { join, .. })) = (member.opened_at, &member.member)
            else {
                continue;
            };
            let is_early = |message: &usize| self.messages[*message].posted_at > opened_at;
            let missed = numbered.iter().position(is_early);
            assert!(
                missed.is_none_or(|at| before + at >= *join),
                "a member that has its 101 gets what is published from then on"
            );
        }
        before
    }

    /// The messages of the topic up to `end` have reached `shard`.
    pub(crate) fn mirror(&mut self, shard: usize, topic: usize, end: usize) {
        let mirrored = &mut self.topics[topic].mirrored[shard];
        assert!(*mirrored <= end, "batches arrive in order");
        *mirrored = end;
    }

    /// The drain of the shard begins.
    pub(crate) fn begin_drain(&mut self, shard: usize) {
        for topic in &mut self.topics {
            topic.mirrored_before_drain[shard] = topic.mirrored[shard];
        }
    }

    /// The shard has closed the connection.
    pub(crate) fn close(&mut self, client: usize) {
        if let Some(member) = &mut self.clients[client].member {
            member.is_over = true;
        }
    }

    /// The client's transport took the last byte of `item`.
    pub(crate) fn written(
        &mut self,
        client: usize,
        item: &Item,
        may_be_refused: bool,
        is_out_of_patience: bool,
    ) {
        if let Item::Close { code, .. } = item
            && matches!(code, 1002 | 1007 | 1009)
            && !is_out_of_patience
        {
            self.check_violator(client);
        }
        match item {
            Item::Response(status) => self.on_response(client, *status, may_be_refused),
            Item::Message { payload, .. } if self.is_words(client, item) => {
                self.on_words(client, payload);
            }
            Item::Message { is_text, payload } => self.on_message(client, *is_text, payload),
            Item::Ping => assert!(self.pings, "a ping although there are to be none"),
            Item::Pong(payload) => self.on_pong(client, payload),
            Item::Event {
                is_text,
                payload,
                id,
            } => self.on_event(client, *is_text, payload, *id),
            Item::Words(words) => self.on_stream_words(client, words, may_be_refused),
            Item::Pause(_) => self.on_pause(client),
            Item::Comment => assert!(self.pings, "a comment although there are to be none"),
            Item::Close { code, reason } => self.on_close(client, *code, reason),
            Item::Answer(_) => unreachable!("answers to requests are checked elsewhere"),
        }
    }

    fn on_response(&mut self, client: usize, status: u16, may_be_refused: bool) {
        let client = &mut self.clients[client];
        client.status = Some(status);
        match status {
            // The first event says whether it is a stream.
            200 if client.is_stream => {}
            101 => assert!(
                client.member.is_some(),
                "101 before the topic's owner has confirmed"
            ),
            _ => assert!(
                may_be_refused && client.member.is_none(),
                "{status} for a good request"
            ),
        }
    }

    fn on_message(&mut self, client_key: usize, is_text: bool, payload: &[u8]) {
        let client = &mut self.clients[client_key];
        let topic = &self.topics[client.topic];
        let mirrored = topic.mirrored[client.shard];
        let member = client.member.as_mut().expect("messages are for members");
        let is_stream = client.is_stream;
        let is_it = |message: &Message| message.reads_as(is_stream, is_text, payload);
        loop {
            assert!(
                member.next < mirrored,
                "a message that the shard does not have: repeated, or of another topic"
            );
            let message = &self.messages[topic.order[member.next]];
            member.next += 1;
            let is_own = !topic.rule.echo && message.publisher == client_key;
            if is_own {
                continue;
            }
            if is_it(message) {
                break;
            }
            assert!(
                topic.rule.policy == SlowConsumerPolicy::Drop && !client.has_words,
                "not the message that comes next: a gap, a repetition or another order \
                 (place {} of client {client_key}, {} bytes of client {} expected, {} bytes sent)",
                member.next - 1,
                message.payload.len(),
                message.publisher,
                payload.len()
            );
            member.skipped += 1;
        }
        self.delivered[client.shard] += 1;
    }

    fn on_pong(&mut self, client: usize, payload: &[u8]) {
        let client = &mut self.clients[client];
        let number = payload.try_into().map(u32::from_be_bytes);
        let number = number.expect("a pong has the payload of a ping");
        // Every ping is answered: there are never so many at once that some are skipped.
        let is_read = |(end, _): &mut (u64, u32)| *end <= client.consumed;
        let ping = client.pinged.pop_front_if(is_read);
        let (_, ping) = ping.expect("a pong answers a ping that was read");
        assert_eq!(number, ping, "pongs answer pings in their order");
    }

    fn on_close(&mut self, client: usize, code: u16, reason: &str) {
        let reason = &*self.take_position(client, reason);
        let policy = self.rule(client).policy;
        if reason == "slow consumer: too far behind" {
            // A client that replays may be overtaken by what is dropped from the history.
            let is_allowed = match policy {
                SlowConsumerPolicy::Disconnect => true,
                SlowConsumerPolicy::Backpressure => self.clients[client].asked != Asked::Nothing,
                SlowConsumerPolicy::Drop => false,
            };
            assert!(is_allowed, "disconnected for a lag under another policy");
        }
        if code == 1001 && reason.starts_with(FAREWELL) && policy != SlowConsumerPolicy::Drop {
            self.check_leaver(client);
        }
        let client = &mut self.clients[client];
        let member = client.member.as_mut().expect("Close is for members");
        member.is_over = true;
        client.close = Some((code, reason.to_owned()));
    }

    // Checks

    /// The most deliveries due to the members of the shard. It is exact if the model knows of all departures and
    /// nothing was skipped.
    pub(crate) fn owed(&self, shard: usize) -> u64 {
        let members = self.clients.iter().enumerate();
        members
            .filter(|(_, client)| client.shard == shard)
            .map(|(key, client)| self.owed_to(key, client))
            .sum()
    }

    fn owed_to(&self, key: usize, client: &Client) -> u64 {
        let Some(member) = client.member.as_ref().filter(|member| !member.is_over) else {
            return 0;
        };
        let topic = &self.topics[client.topic];
        let mirrored = topic.mirrored[client.shard];
        let is_owed =
            |&&message: &&usize| topic.rule.echo || self.messages[message].publisher != key;
        let waiting = topic.order.get(member.next..mirrored).unwrap_or_default();
        waiting.iter().filter(is_owed).count() as u64
    }

    /// The number of members of the shard that are known to have left.
    pub(crate) fn departures(&self, shard: usize) -> u64 {
        let members = self.members_of(shard);
        members.filter(|member| member.is_over).count() as u64
    }

    /// The number of messages known to have been skipped on the shard.
    pub(crate) fn skipped(&self, shard: usize) -> u64 {
        self.members_of(shard)
            .map(|member| member.skipped as u64)
            .sum()
    }

    fn members_of(&self, shard: usize) -> impl Iterator<Item = &Member> {
        let clients = self.clients.iter().filter(move |one| one.shard == shard);
        clients.filter_map(|client| client.member.as_ref())
    }

    /// The rule of the client's topic.
    fn rule(&self, client: usize) -> Rule {
        self.topics[self.clients[client].topic].rule
    }

    /// Whether the shard has read `count` bytes of the client.
    pub(crate) fn has_read(&self, client: usize, count: u64) -> bool {
        self.clients[client].consumed >= count
    }

    /// Whether the client was sent an answer to its request.
    pub(crate) fn has_answer(&self, client: usize) -> bool {
        self.clients[client].status.is_some()
    }

    /// Whether the client was ever a member.
    pub(crate) fn has_joined(&self, client: usize) -> bool {
        self.clients[client].member.is_some()
    }

    /// Whether messages wait for the client.
    pub(crate) fn is_owed(&self, client: usize) -> bool {
        self.owed_to(client, &self.clients[client]) > 0
    }

    /// Whether the client is a member as far as the model knows.
    pub(crate) fn is_member(&self, client: usize) -> bool {
        let member = &self.clients[client].member;
        member.as_ref().is_some_and(|member| !member.is_over)
    }

    /// The Close that the client was sent.
    pub(crate) fn farewell(&self, client: usize) -> Option<&(u16, String)> {
        self.clients[client].close.as_ref()
    }
}
