//! A topic on a shard that has members in it: the log, the list of members, and whose turn it is to be flushed.

use super::grace::Grace;
use super::log::Log;
use super::router::TopicName;
use crate::ids::{ClientKey, ShardId};
use crate::time::Timestamp;

/// A topic within its shard. Valid as long as the topic has members, so it needs no generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicKey(pub u32);

/// The mirror of a topic on one shard.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// The shard that sequences it.
    pub owner: ShardId,
    /// What members have not been sent yet.
    pub log: Log,
    /// Clients whose subscription has not been confirmed.
    pub joining: u32,
    /// Whether the owner says that publishers are not to be read.
    pub held: bool,
    /// Whether this shard has asked the owner to hold the publishers.
    pub holding: bool,
    /// Publishers that wait for the hold to end.
    pub waiting: Vec<ClientKey>,
    /// Whether the topic is in the list of those with a round under way.
    pub queued: bool,
    /// Whether the topic is to be looked at when the turn ends.
    pub touched: bool,
    /// Bytes of the log that the shard's gauge counts.
    pub gauged_bytes: u64,
    /// Bytes that clients of this shard published and that have not come back from the owner.
    pub in_flight_bytes: u64,
    /// Bytes that have come back, ever.
    pub returned_bytes: u64,
    /// Whether publishers wait for laggards.
    pub grace: Grace,
    /// Whether a laggard has taken bytes since the grace was reviewed last.
    pub laggards_progress: bool,
    /// Bytes taken in while the topic was closed to publishers, from clients that had not been publishers before.
    pub overdraft_bytes: u64,
    /// Which of the turn's drafts takes the next small message, and which turn that is.
    open_draft: Option<(u64, u32)>,
    members: Vec<ClientKey>,
    round: Round,
}

/// A round through the members, so that each is flushed once after what was appended last. It may be spread over turns:
/// a member that is visited late is sent more at once, which is what makes one write carry many messages.
#[derive(Debug, Default)]
struct Round {
    next: u32,
    left: u32,
    /// When the earliest message that the round carries was decoded.
    oldest: Option<Timestamp>,
}

impl Topic {
    /// A topic without members.
    pub fn new(name: TopicName, owner: ShardId) -> Self {
        Topic {
            name,
            owner,
            log: Log::default(),
            joining: 0,
            held: false,
            holding: false,
            waiting: Vec::new(),
            queued: false,
            touched: false,
            gauged_bytes: 0,
            in_flight_bytes: 0,
            returned_bytes: 0,
            grace: Grace::default(),
            laggards_progress: false,
            overdraft_bytes: 0,
            open_draft: None,
            members: Vec::new(),
            round: Round::default(),
        }
    }

    /// The members, in no order that means anything.
    pub fn members(&self) -> &[ClientKey] {
        &self.members
    }

    /// Whether nobody is in the topic or about to be.
    pub fn is_unused(&self) -> bool {
        self.members.is_empty() && self.joining == 0
    }

    /// Takes in a member and returns its place in the list.
    pub fn add(&mut self, client: ClientKey) -> u32 {
        self.members.push(client);
        if self.round.left > 0 {
            // Its place may lie between those that are still to be visited: the round must not end one of them early.
            self.round.left += 1;
        }
        (self.members.len() - 1) as u32
    }

    /// Removes the member at `place`, and returns the one that was moved there in its stead.
    pub fn remove(&mut self, place: u32) -> Option<ClientKey> {
        self.members.swap_remove(place as usize);
        if self.members.is_empty() {
            self.members.shrink_to_fit();
        }
        if self.round.left > 0 {
            // The member that was moved may not have been visited yet, and its new place may lie behind the round.
            self.round.left = self.members.len() as u32;
        }
        self.members.get(place as usize).copied()
    }

    /// Starts a round, or starts it anew from where it is. `decoded_at` is the moment that the latency counts from.
    pub fn start_round(&mut self, decoded_at: Timestamp) {
        self.round.left = self.members.len() as u32;
        self.round.oldest = Some(
            self.round
                .oldest
                .map_or(decoded_at, |oldest| oldest.min(decoded_at)),
        );
    }

    /// Whether members are still to be visited.
    pub fn is_round_open(&self) -> bool {
        self.round.left > 0
    }

    /// The next member of the round.
    pub fn next_in_round(&mut self) -> Option<ClientKey> {
        self.round.left = self.round.left.checked_sub(1)?;
        if self.round.next as usize >= self.members.len() {
            self.round.next = 0;
        }
        let client = self.members.get(self.round.next as usize).copied();
        self.round.next += 1;
        client
    }

    /// Once the round is over: when the earliest of its messages was decoded. Told once.
    pub fn take_round_start(&mut self) -> Option<Timestamp> {
        if self.is_round_open() {
            return None;
        }
        self.round.oldest.take()
    }

    /// The draft of `turn` that takes small messages; none if a large one came last, or none at all.
    pub fn open_draft(&self, turn: u64) -> Option<u32> {
        self.open_draft
            .filter(|(of_turn, _)| *of_turn == turn)
            .map(|(_, index)| index)
    }

    /// Says which draft of `turn` takes small messages from now on.
    pub fn set_open_draft(&mut self, turn: u64, index: Option<u32>) {
        self.open_draft = index.map(|index| (turn, index));
    }

    /// Whether publishers may be read, with `window_bytes` allowed on their way.
    pub fn is_open_to_publishers(&self, window_bytes: u64) -> bool {
        !self.held && self.in_flight_bytes <= window_bytes
    }

    /// Whether a client may be read, which has published or has not. One that has not might only have a pong or a Close
    /// to say, and is read until those of its kind have published a window's worth while the topic was closed.
    pub fn is_open_to(&self, is_publisher: bool, window_bytes: u64) -> bool {
        self.is_open_to_publishers(window_bytes)
            || !is_publisher && self.overdraft_bytes <= window_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> ClientKey {
        ClientKey {
            slot,
            generation: 0,
        }
    }

    fn topic_of(members: u32) -> Topic {
        let mut topic = Topic::new("/".into(), ShardId(0));
        for slot in 0..members {
            topic.add(client(slot));
        }
        topic
    }

    fn visit(topic: &mut Topic, most: usize) -> Vec<u32> {
        std::iter::from_fn(|| topic.next_in_round())
            .take(most)
            .map(|client| client.slot)
            .collect()
    }

    #[test]
    fn a_round_visits_every_member_once() {
        let mut topic = topic_of(3);
        topic.start_round(Timestamp(1));
        assert_eq!(visit(&mut topic, 9), [0, 1, 2]);
        assert_eq!(topic.take_round_start(), Some(Timestamp(1)));
        assert_eq!(topic.take_round_start(), None);
    }

    #[test]
    fn what_is_appended_during_a_round_reaches_those_already_visited() {
        let mut topic = topic_of(3);
        topic.start_round(Timestamp(1));
        assert_eq!(visit(&mut topic, 2), [0, 1]);
        topic.start_round(Timestamp(2));
        assert_eq!(visit(&mut topic, 9), [2, 0, 1]);
        assert_eq!(topic.take_round_start(), Some(Timestamp(1)));
    }

    #[test]
    fn a_member_that_is_moved_during_a_round_is_not_left_out() {
        let mut topic = topic_of(4);
        topic.start_round(Timestamp(1));
        assert_eq!(visit(&mut topic, 2), [0, 1]);
        assert_eq!(topic.remove(0), Some(client(3)));
        assert!(visit(&mut topic, 9).contains(&3));
    }

    #[test]
    fn a_member_that_joins_during_a_round_takes_nobodys_turn() {
        let mut topic = topic_of(3);
        topic.start_round(Timestamp(1));
        assert_eq!(visit(&mut topic, 2), [0, 1]);
        topic.start_round(Timestamp(2));
        assert_eq!(visit(&mut topic, 1), [2]);
        topic.add(client(3));
        assert_eq!(visit(&mut topic, 9), [3, 0, 1]);
    }

    #[test]
    fn a_draft_is_open_for_one_turn() {
        let mut topic = topic_of(0);
        topic.set_open_draft(1, Some(7));
        assert_eq!((topic.open_draft(1), topic.open_draft(2)), (Some(7), None));
        topic.set_open_draft(1, None);
        assert_eq!(topic.open_draft(1), None);
    }
}
