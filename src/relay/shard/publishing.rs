//! What was published on this shard in a turn, before it goes to the owners of its topics, and what outsiders have on its way.

use std::collections::HashMap;

use bytes::Bytes;

use crate::ids::{ClientId, ShardId};
use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;
use crate::ws::frame::MessageKind;

/// Why a message of an outsider is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// As many bytes of outsiders are on their way to the topic as may be. There is room once they are numbered.
    WindowFull,
    /// The shard drains: nothing is published any more.
    Draining,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    /// Of members.
    drafts: Vec<(TopicKey, Draft)>,
    /// Of outsiders.
    outside: Vec<(TopicName, Draft)>,
    /// Bytes of outsiders that are on their way, by topic. A topic is there as long as some are.
    outside_bytes: HashMap<TopicName, u64>,
}

impl Publishing {
    /// Takes in a member's message in a buffer of its own, as a frame.
    pub(super) fn push_whole(
        &mut self,
        (key, topic): (TopicKey, &mut Topic),
        (shard, turn, now): (ShardId, u64, Timestamp),
        frame: Bytes,
        author: Option<ClientId>,
    ) {
        topic.in_flight_bytes += frame.len() as u64;
        topic.set_open_draft(turn, None);
        let draft = Draft::whole(Source::Members(shard), now, frame, author);
        self.drafts.push((key, draft));
    }

    /// Takes in a member's message. Small ones of a turn are one draft.
    pub(super) fn push(
        &mut self,
        (key, topic): (TopicKey, &mut Topic),
        (shard, turn, now): (ShardId, u64, Timestamp),
        (kind, payload): (MessageKind, &[u8]),
        author: Option<ClientId>,
    ) {
        let index = topic.open_draft(turn).unwrap_or_else(|| {
            let draft = Draft::new(Source::Members(shard), now);
            self.drafts.push((key, draft));
            self.drafts.len() as u32 - 1
        });
        topic.set_open_draft(turn, Some(index));
        let (_, draft) = &mut self.drafts[index as usize];
        topic.in_flight_bytes += draft.push(kind, payload, author) as u64;
    }

    /// Takes in an outsider's message, if no more than `window_bytes` are on their way to its topic.
    pub(super) fn push_outside(
        &mut self,
        topic: TopicName,
        (shard, now): (ShardId, Timestamp),
        (kind, payload): (MessageKind, &[u8]),
        window_bytes: u64,
    ) -> Result<(), NotTaken> {
        let on_its_way = self.outside_bytes.get(&topic).copied().unwrap_or(0);
        if on_its_way > window_bytes {
            return Err(NotTaken::WindowFull);
        }
        let is_last_topic = |(last, _): &&mut (TopicName, Draft)| *last == topic;
        let pushed = match self.outside.last_mut().filter(is_last_topic) {
            Some((_, draft)) => draft.push(kind, payload, None),
            None => {
                let mut draft = Draft::new(Source::Outsiders(shard), now);
                let pushed = draft.push(kind, payload, None);
                self.outside.push((topic.clone(), draft));
                pushed
            }
        };
        *self.outside_bytes.entry(topic).or_default() += pushed as u64;
        Ok(())
    }

    /// Bytes of outsiders have been numbered. What nobody has on its way is ignored.
    pub(super) fn on_numbered(&mut self, topic: &TopicName, bytes: u64) {
        if let Some(on_its_way) = self.outside_bytes.get_mut(topic) {
            *on_its_way = on_its_way.saturating_sub(bytes);
            if *on_its_way == 0 {
                self.outside_bytes.remove(topic);
            }
        }
    }

    /// Bytes of outsiders that are on their way to a topic.
    pub(super) fn outside_bytes(&self, topic: &str) -> u64 {
        self.outside_bytes.get(topic).copied().unwrap_or(0)
    }

    /// Takes what members have published.
    pub(super) fn take(&mut self) -> Vec<(TopicKey, Draft)> {
        std::mem::take(&mut self.drafts)
    }

    /// Gives the list back, to spare an allocation.
    pub(super) fn give_back(&mut self, mut list: Vec<(TopicKey, Draft)>) {
        list.clear();
        self.drafts = list;
    }

    /// Takes what outsiders have published.
    pub(super) fn take_outside(&mut self) -> Vec<(TopicName, Draft)> {
        std::mem::take(&mut self.outside)
    }
}
