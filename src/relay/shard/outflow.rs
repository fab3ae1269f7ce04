//! The order in which clients are written to.
//!
//! Some clients have something of their own to be sent, such as a pong; others are members of topics with new messages. The two
//! kinds take turns, a row of clients each. So a crowd that pings, or that has just joined, does not keep topics waiting, and a
//! busy topic does not keep the crowd waiting.
//!
//! The steps of a shard put clients and topics in, and the flush takes clients out. This file does not know their bytes.

use std::collections::VecDeque;

use super::clients::Clients;
use super::row::Row;
use super::topics::Topics;
use crate::ids::ClientKey;
use crate::relay::topic::TopicKey;
use crate::time::Timestamp;

/// See the module. A client is in `urgent` at most once, and a topic in `dirty`: their flags are in the client and the topic.
#[derive(Debug)]
pub(super) struct Outflow {
    /// Clients with something of their own to be sent.
    urgent: VecDeque<ClientKey>,
    /// Whether the present row serves `urgent`; otherwise it serves `dirty`.
    is_row_urgent: bool,
    /// The clients served since that changed.
    row: Row,
    /// Topics with a round under way. The first is being served.
    dirty: VecDeque<TopicKey>,
    /// The members of the first of `dirty` served since it came to the front.
    served: Row,
    /// The time at which the earliest message of a round was decoded, for each round that ended in this turn.
    ended_rounds: Vec<Timestamp>,
}

impl Outflow {
    /// An outflow with nobody to write to.
    pub(super) fn new() -> Self {
        Outflow {
            urgent: VecDeque::new(),
            is_row_urgent: true,
            row: Row::default(),
            dirty: VecDeque::new(),
            served: Row::default(),
            ended_rounds: Vec::new(),
        }
    }

    /// Lists the client to be flushed, in this turn if there is time.
    pub(super) fn make_urgent(&mut self, key: ClientKey, clients: &mut Clients) {
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.urgent, true) {
            self.urgent.push_back(key);
        }
    }

    /// A round has begun in the topic: its members will be visited.
    pub(super) fn serve(&mut self, key: TopicKey, topics: &mut Topics) {
        if !std::mem::replace(&mut topics[key].queued, true) {
            self.dirty.push_back(key);
        }
    }

    /// Whether somebody is to be written to.
    pub(super) fn has_work(&self) -> bool {
        !self.urgent.is_empty() || !self.dirty.is_empty()
    }

    /// The next client to be written to; `None` when everybody has everything.
    pub(super) fn poll(&mut self, clients: &mut Clients, topics: &mut Topics) -> Option<ClientKey> {
        if self.row.is_over() {
            self.begin_row();
        }
        let key = self.next_in_row(clients, topics).or_else(|| {
            self.begin_row();
            self.next_in_row(clients, topics)
        })?;
        self.row.enter();
        Some(key)
    }

    fn begin_row(&mut self) {
        self.row = Row::default();
        self.is_row_urgent = !self.is_row_urgent;
    }

    fn next_in_row(&mut self, clients: &mut Clients, topics: &mut Topics) -> Option<ClientKey> {
        if self.is_row_urgent {
            self.next_urgent(clients)
        } else {
            self.next_member(topics)
        }
    }

    fn next_urgent(&mut self, clients: &mut Clients) -> Option<ClientKey> {
        while let Some(key) = self.urgent.pop_front() {
            if let Some(client) = clients.get_mut(key) {
                client.urgent = false;
                return Some(key);
            }
        }
        None
    }

    fn next_member(&mut self, topics: &mut Topics) -> Option<ClientKey> {
        while let Some(&topic) = self.dirty.front() {
            if self.served.is_over() {
                self.served = Row::default();
                self.dirty.rotate_left(1);
                continue;
            }
            if let Some(key) = topics[topic].next_in_round() {
                self.served.enter();
                return Some(key);
            }
            self.end_round(topic, topics);
        }
        None
    }

    /// Ends the round of `key`, the first topic in `dirty`. Not inlined: a round ends once and visits many members, and inlined
    /// it costs 15 more instructions for each of them.
    #[inline(never)]
    fn end_round(&mut self, key: TopicKey, topics: &mut Topics) {
        let topic = &mut topics[key];
        topic.queued = false;
        self.ended_rounds.extend(topic.take_round_start());
        self.dirty.pop_front();
        self.served = Row::default();
        topics.touch(key);
    }

    /// Notes the number of bytes that the client polled last has taken.
    pub(super) fn note_taken(&mut self, bytes: usize) {
        self.row.note_taken(bytes);
        if !self.is_row_urgent {
            self.served.note_taken(bytes);
        }
    }

    /// Takes the times at which the earliest message of each ended round was decoded.
    pub(super) fn take_ended_rounds(&mut self) -> impl Iterator<Item = Timestamp> + '_ {
        self.ended_rounds.drain(..)
    }
}
