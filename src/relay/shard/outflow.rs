//! Whose turn it is to be written to.
//!
//! Clients with something of their own and members of topics take turns, a row of each. A crowd that pings, or that has just
//! joined, must not keep the topics waiting, nor a topic those.

use std::collections::VecDeque;

use super::clients::Clients;
use super::topics::Topics;
use crate::ids::ClientKey;
use crate::relay::shard::row::Row;
use crate::relay::topic::TopicKey;
use crate::time::Timestamp;

/// See the module. Each client is in `urgent` at most once, and each topic in `dirty`: their flags are with them.
#[derive(Debug)]
pub(super) struct Outflow {
    /// Clients with something of their own to be sent.
    urgent: VecDeque<ClientKey>,
    /// Whether `urgent` is being served, or `dirty`.
    is_row_urgent: bool,
    /// Those served since that changed.
    row: Row,
    /// Topics with a round under way; the first is being served.
    dirty: VecDeque<TopicKey>,
    /// The members of the first of `dirty` served since it came to the front.
    served: Row,
    /// When the messages of the rounds were decoded that have ended in this turn.
    ended_rounds: Vec<Timestamp>,
}

impl Outflow {
    /// Nobody is to be written to.
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

    /// Has the client flushed, in this turn if there is time.
    pub(super) fn make_urgent(&mut self, key: ClientKey, clients: &mut Clients) {
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut client.urgent, true) {
            self.urgent.push_back(key);
        }
    }

    /// Has the members of a topic visited in which a round has begun.
    pub(super) fn serve(&mut self, key: TopicKey, topics: &mut Topics) {
        if !std::mem::replace(&mut topics[key].queued, true) {
            self.dirty.push_back(key);
        }
    }

    /// Whether somebody is to be written to.
    pub(super) fn has_work(&self) -> bool {
        !self.urgent.is_empty() || !self.dirty.is_empty()
    }

    /// The next client to be written to; `None` when everybody has what there is.
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

    /// Ends the round of the first topic that has one under way. Kept out of the way of members, of whom there are many to a
    /// round: 15 instructions for each.
    #[inline(never)]
    fn end_round(&mut self, key: TopicKey, topics: &mut Topics) {
        let topic = &mut topics[key];
        topic.queued = false;
        self.ended_rounds.extend(topic.take_round_start());
        self.dirty.pop_front();
        self.served = Row::default();
        topics.touch(key);
    }

    /// So many bytes were taken of what was offered to the client that was polled last.
    pub(super) fn note_taken(&mut self, bytes: usize) {
        self.row.note_taken(bytes);
        if !self.is_row_urgent {
            self.served.note_taken(bytes);
        }
    }

    /// When the messages of each round were decoded that has ended since this was asked last.
    pub(super) fn take_ended_rounds(&mut self) -> impl Iterator<Item = Timestamp> + '_ {
        self.ended_rounds.drain(..)
    }
}
