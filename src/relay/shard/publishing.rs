//! Messages that this shard has taken in and not yet sent to the owners of their topics.
//!
//! [`reading`](super::reading) puts them here, and [`deciding`](super::deciding) takes them once a turn. Outsiders publish as
//! well: they are not members of the topic, so an account of its own limits their bytes on the way.

use std::collections::HashMap;

use bytes::Bytes;

use crate::ids::{ClientId, ShardId};
use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::batch::drafts::{Drafts, OpenDraft};
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;
use crate::ws::frame::MessageKind;

/// The reason why a message of an outsider is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too many bytes of outsiders are on their way to the topic. There is room again when they are numbered.
    WindowFull,
    /// It is longer than a message may be.
    TooLong,
    /// It is a text message, but not UTF-8.
    InvalidUtf8,
    /// It is a text that begins like the relay's own words.
    Reserved,
    /// The relay drains or has failed: nothing is published any more.
    Draining,
}

/// The way of a member's message.
#[derive(Debug)]
pub(super) struct Route<'a> {
    /// The topic that it goes to.
    pub(super) key: TopicKey,
    /// The same.
    pub(super) topic: &'a mut Topic,
    /// The member, if it does not get its own messages.
    pub(super) author: Option<ClientId>,
    /// The time of the turn.
    pub(super) now: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Publishing {
    shard: ShardId,
    /// Drafts of members.
    inside: Drafts<TopicKey>,
    /// Drafts of outsiders.
    outside: Drafts<TopicName>,
    /// Accounts of topics to which messages of outsiders are on their way.
    accounts: HashMap<TopicName, Account>,
}

/// The messages of outsiders that are on their way to a topic.
#[derive(Debug, Default)]
struct Account {
    /// Bytes of frames.
    bytes: u64,
    /// The draft that takes the next message.
    open_draft: OpenDraft,
}

impl Publishing {
    /// Nothing is published yet on `shard`.
    pub(super) fn new(shard: ShardId) -> Self {
        Publishing {
            shard,
            inside: Drafts::default(),
            outside: Drafts::default(),
            accounts: HashMap::new(),
        }
    }

    /// Takes in a member's message in a buffer of its own, as a frame.
    pub(super) fn push_whole(&mut self, route: Route<'_>, frame: Bytes) {
        let Route {
            key,
            topic,
            author,
            now,
        } = route;
        topic.note_published(frame.len() as u64);
        // The next small message goes behind this one.
        topic.open_draft.close();
        let draft = Draft::whole(Source::Members(self.shard), now, frame, author);
        self.inside.push(key, draft);
    }

    /// Takes in a member's message. The small ones of a turn are one draft.
    pub(super) fn push(&mut self, route: Route<'_>, kind: MessageKind, payload: &[u8]) {
        let Route {
            key,
            topic,
            author,
            now,
        } = route;
        let source = Source::Members(self.shard);
        let draft = self.inside.open(&mut topic.open_draft, || key, source, now);
        topic.note_published(draft.push(kind, payload, author) as u64);
    }

    /// Takes in an outsider's message, if no more than `window_bytes` are on their way to its topic.
    pub(super) fn push_outside(
        &mut self,
        topic: TopicName,
        kind: MessageKind,
        payload: &[u8],
        now: Timestamp,
        window_bytes: u64,
    ) -> Result<(), NotTaken> {
        if self.outside_bytes(&topic) > window_bytes {
            return Err(NotTaken::WindowFull);
        }
        let account = self.accounts.entry(topic.clone()).or_default();
        let source = Source::Outsiders(self.shard);
        let draft = self
            .outside
            .open(&mut account.open_draft, || topic, source, now);
        account.bytes += draft.push(kind, payload, None) as u64;
        Ok(())
    }

    /// Bytes of outsiders are numbered. Ignores bytes that are not on their way.
    pub(super) fn on_numbered(&mut self, topic: &TopicName, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(topic) {
            account.bytes = account.bytes.saturating_sub(bytes);
            if account.bytes == 0 {
                self.accounts.remove(topic);
            }
        }
    }

    /// Bytes of outsiders that are on their way to a topic.
    pub(super) fn outside_bytes(&self, topic: &str) -> u64 {
        self.accounts.get(topic).map_or(0, |account| account.bytes)
    }

    /// Whether there are drafts.
    pub(super) fn has_drafts(&self) -> bool {
        !(self.inside.is_empty() && self.outside.is_empty())
    }

    /// Takes the members' drafts.
    pub(super) fn take(&mut self) -> Vec<(TopicKey, Draft)> {
        self.inside.take()
    }

    /// Takes the emptied list back, to spare an allocation.
    pub(super) fn give_back(&mut self, list: Vec<(TopicKey, Draft)>) {
        self.inside.give_back(list);
    }

    /// Takes the outsiders' drafts.
    pub(super) fn take_outside(&mut self) -> Vec<(TopicName, Draft)> {
        self.outside.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(topic: &mut Topic) -> Route<'_> {
        Route {
            key: TopicKey(0),
            topic,
            author: None,
            now: Timestamp(0),
        }
    }

    #[test]
    fn small_messages_are_one_draft_until_the_drafts_are_taken() {
        let mut publishing = Publishing::new(ShardId(0));
        let mut topic = Topic::new("/".into(), ShardId(0));
        for _ in 0..2 {
            publishing.push(route(&mut topic), MessageKind::Text, b"a");
            publishing.push(route(&mut topic), MessageKind::Text, b"b");
            assert_eq!(publishing.take().len(), 1);
        }
    }

    #[test]
    fn a_small_message_does_not_overtake_a_large_one() {
        let mut publishing = Publishing::new(ShardId(0));
        let mut topic = Topic::new("/".into(), ShardId(0));
        publishing.push(route(&mut topic), MessageKind::Text, b"a");
        publishing.push_whole(route(&mut topic), Bytes::from_static(b"\x82\x01x"));
        publishing.push(route(&mut topic), MessageKind::Text, b"b");
        let lens: Vec<usize> = publishing
            .take()
            .iter()
            .map(|(_, draft)| draft.len_bytes())
            .collect();
        assert_eq!(lens.len(), 3);
        assert_eq!(topic.published_bytes(), lens.iter().sum::<usize>() as u64);
    }
}
