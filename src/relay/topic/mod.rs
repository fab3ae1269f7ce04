//! A topic on a shard that has members in it: the log, the members, and what is known of its publishers.

pub mod log;
pub mod member;
pub mod roster;

use std::sync::Arc;

use crate::ids::{ClientKey, ShardId};
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::envelope::Hold;
use crate::relay::policy::grace::Grace;
use crate::relay::topic::log::Log;
use crate::relay::topic::roster::{Moved, Roster};
use crate::time::Timestamp;

/// A topic within its shard. Valid as long as the topic has members or something on its way, so it needs no
/// generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Who reads it here, those whose subscription has not been confirmed included.
    pub audience: Audience,
    /// The audience that the owner knows of.
    pub told_audience: Audience,
    /// Whether the owner says that publishers are not to be read, and why.
    pub held: Option<Hold>,
    /// Whether this shard has asked the owner to hold the publishers, and how.
    pub holding: Option<Hold>,
    /// Publishers that wait for the hold to end.
    pub waiting: Vec<ClientKey>,
    /// Whether the topic is in the list of those with a round under way.
    pub queued: bool,
    /// Whether the topic is to be looked at when the turn ends.
    pub touched: bool,
    /// Bytes of the log that the shard's gauge counts.
    pub gauged_bytes: u64,
    /// Those of them that the shard knows laggards to be blamed for.
    pub gauged_blame_bytes: u64,
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
    roster: Roster,
}

impl Topic {
    /// A topic without members.
    pub fn new(name: TopicName, owner: ShardId) -> Self {
        Topic {
            name,
            owner,
            log: Log::default(),
            audience: Audience::default(),
            told_audience: Audience::default(),
            held: None,
            holding: None,
            waiting: Vec::new(),
            queued: false,
            touched: false,
            gauged_bytes: 0,
            gauged_blame_bytes: 0,
            in_flight_bytes: 0,
            returned_bytes: 0,
            grace: Grace::default(),
            laggards_progress: false,
            overdraft_bytes: 0,
            open_draft: None,
            roster: Roster::default(),
        }
    }

    /// The members, in no order that means anything.
    pub fn members(&self) -> &[ClientKey] {
        self.roster.members()
    }

    /// The audience, which the owner is about to know of.
    pub fn tell_audience(&mut self) -> Audience {
        self.told_audience = self.audience;
        self.audience
    }

    /// Whether nobody is in the topic or about to be, and nothing that was published here is on its way. Until it has come
    /// back the topic stays, and the owner is not left with messages of a topic that nobody has.
    pub fn is_unused(&self) -> bool {
        self.audience.total() == 0 && self.in_flight_bytes == 0
    }

    /// Takes in a member and returns its place in the list.
    pub fn add(&mut self, client: ClientKey) -> u32 {
        self.roster.add(client)
    }

    /// Removes the member at `place`, and returns those that got another place.
    pub fn remove(&mut self, place: u32) -> Moved {
        self.roster.remove(place)
    }

    /// Appends a batch and has every member visited after it.
    pub fn append(&mut self, batch: Arc<Batch>) {
        self.roster
            .start_round(batch.decoded_at(), self.log.end_bytes());
        self.log.append(batch);
    }

    /// Whether members are still to be visited.
    pub fn is_round_open(&self) -> bool {
        self.roster.is_round_open()
    }

    /// The next member of the round.
    pub fn next_in_round(&mut self) -> Option<ClientKey> {
        self.roster.next_in_round(self.log.end_bytes())
    }

    /// Once the round is over: when the earliest of its messages was decoded. Told once.
    pub fn take_round_start(&mut self) -> Option<Timestamp> {
        self.roster.take_round_start()
    }

    /// The most that a member lags because it has not been visited yet, whatever its socket takes.
    pub fn unvisited_bytes(&self) -> u64 {
        self.roster.unvisited_bytes(self.log.end_bytes())
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
        self.held.is_none() && self.in_flight_bytes <= window_bytes
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

    #[test]
    fn a_draft_is_open_for_one_turn() {
        let mut topic = Topic::new("/".into(), ShardId(0));
        topic.set_open_draft(1, Some(7));
        assert_eq!((topic.open_draft(1), topic.open_draft(2)), (Some(7), None));
        topic.set_open_draft(1, None);
        assert_eq!(topic.open_draft(1), None);
    }
}
