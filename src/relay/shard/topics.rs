//! The topics that a shard has members in, by key and by name, and the list of those to be reviewed when the turn ends.
//!
//! The steps of a shard look topics up here and touch those that they change. [`settling`](super::settling) reviews the touched
//! ones and removes topics that nobody uses.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::ids::ShardId;
use crate::port::topic_name::TopicName;
use crate::relay::conduct::Conduct;
use crate::relay::topic::{Topic, TopicKey};

/// See the module. Indexing panics for a topic that is gone. A key is valid as long as the topic has members or something on
/// its way.
#[derive(Debug, Default)]
pub(super) struct Topics {
    slots: Slab<Topic>,
    keys_by_name: HashMap<TopicName, TopicKey>,
    touched: Vec<TopicKey>,
}

impl Topics {
    /// The topic of that name, if it is known.
    pub(super) fn find(&self, name: &str) -> Option<TopicKey> {
        self.keys_by_name.get(name).copied()
    }

    /// Takes in a topic that is not known.
    pub(super) fn insert(
        &mut self,
        name: &TopicName,
        owner: ShardId,
        conduct: Conduct,
    ) -> TopicKey {
        // Connections limit the number of slots, and descriptors limit connections.
        let key = TopicKey(self.slots.insert(Topic::new(name.clone(), owner, conduct)) as u32);
        self.keys_by_name.insert(name.clone(), key);
        key
    }

    /// Forgets a topic. The last one gives a crowd's memory back.
    pub(super) fn remove(&mut self, key: TopicKey) -> Topic {
        let topic = self.slots.remove(key.0 as usize);
        self.keys_by_name.remove(&topic.name);
        if self.slots.is_empty() {
            self.slots = Slab::new();
            self.keys_by_name.shrink_to_fit();
        }
        topic
    }

    /// Lists the topic for the review at the end of the turn.
    pub(super) fn touch(&mut self, key: TopicKey) {
        if !std::mem::replace(&mut self[key].touched, true) {
            self.touched.push(key);
        }
    }

    /// Whether some topic is to be reviewed.
    pub(super) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Takes the list of topics to be reviewed. A topic that is touched from now on is in the next list.
    pub(super) fn take_touched(&mut self) -> Vec<TopicKey> {
        let touched = std::mem::take(&mut self.touched);
        for &key in &touched {
            self[key].touched = false;
        }
        touched
    }

    /// Takes the list back, to spare an allocation.
    pub(super) fn give_back(&mut self, mut list: Vec<TopicKey>) {
        list.clear();
        list.append(&mut self.touched);
        self.touched = list;
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicKey, &Topic)> {
        let slots = self.slots.iter();
        slots.map(|(slot, topic)| (TopicKey(slot as u32), topic))
    }
}

impl Index<TopicKey> for Topics {
    type Output = Topic;

    fn index(&self, key: TopicKey) -> &Topic {
        &self.slots[key.0 as usize]
    }
}

impl IndexMut<TopicKey> for Topics {
    fn index_mut(&mut self, key: TopicKey) -> &mut Topic {
        &mut self.slots[key.0 as usize]
    }
}
