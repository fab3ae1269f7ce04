//! Messages of members that this shard has taken in and not yet sent to the owners of their topics.
//!
//! [`reading`](super::reading) puts them here, and [`deciding`](super::deciding) takes them once a turn. Messages of requests are
//! in [`outside`](super::outside).

use bytes::Bytes;

use crate::ids::{ClientId, ShardId};
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::batch::drafts::Drafts;
use crate::relay::topic::{Topic, TopicKey};
use crate::time::Timestamp;
use crate::ws::frame::MessageKind;

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
    drafts: Drafts<TopicKey>,
}

impl Publishing {
    /// Nothing is published yet on `shard`.
    pub(super) fn new(shard: ShardId) -> Self {
        Publishing {
            shard,
            drafts: Drafts::default(),
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
        self.drafts.push(key, draft);
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
        let draft = self.drafts.open(&mut topic.open_draft, || key, source, now);
        topic.note_published(draft.push(kind, payload, author) as u64);
    }

    /// Whether there are drafts.
    pub(super) fn has_drafts(&self) -> bool {
        !self.drafts.is_empty()
    }

    /// Takes the members' drafts.
    pub(super) fn take(&mut self) -> Vec<(TopicKey, Draft)> {
        self.drafts.take()
    }

    /// Takes the emptied list back, to spare an allocation.
    pub(super) fn give_back(&mut self, list: Vec<(TopicKey, Draft)>) {
        self.drafts.give_back(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::relay::conduct::Conduct;

    fn topic() -> Topic {
        Topic::new("/".into(), ShardId(0), *Conduct::of_all(&Config::default()))
    }

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
        let mut topic = topic();
        for _ in 0..2 {
            publishing.push(route(&mut topic), MessageKind::Text, b"a");
            publishing.push(route(&mut topic), MessageKind::Text, b"b");
            assert_eq!(publishing.take().len(), 1);
        }
    }

    #[test]
    fn a_small_message_does_not_overtake_a_large_one() {
        let mut publishing = Publishing::new(ShardId(0));
        let mut topic = topic();
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
