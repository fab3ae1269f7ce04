//! A topic as a shard with members sees it: its log, its members, and the state of its publishers.

pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod reader;
pub(crate) mod replay;
pub(crate) mod roster;

use std::sync::Arc;

use crate::ids::{ClientKey, ShardId};
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::drafts::OpenDraft;
use crate::relay::conduct::Conduct;
use crate::relay::hold::Hold;
use crate::relay::places::Places;
use crate::relay::policy::grace::Grace;
use crate::relay::topic::log::Log;
use crate::relay::topic::roster::{Moved, Roster};
use crate::time::Timestamp;

/// A topic within its shard. It is valid as long as the topic has members or messages on their way, so it needs no
/// generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicKey(pub u32);

/// The mirror of a topic on one shard.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Its name.
    pub name: TopicName,
    /// The shard that sequences it.
    pub owner: ShardId,
    /// Its settings, as the owner has said. A topic that no client has joined yet has the general ones.
    pub conduct: Conduct,
    /// The messages that some member has not been sent yet.
    pub log: Log,
    /// Its readers here, with those whose subscription is not confirmed yet.
    pub audience: Audience,
    /// The audience that the owner knows of.
    pub told_audience: Audience,
    /// Members have left, and the owner is told soon how many there are.
    pub is_counted_soon: bool,
    /// The owner's hold on publishers, if there is one.
    pub held: Option<Hold>,
    /// The hold that this shard has asked the owner for, if any.
    pub holding: Option<Hold>,
    /// The places of its messages, if an engine numbers them.
    pub places: Option<Box<Places>>,
    /// Publishers that are not read until the topic is open to them.
    pub waiting: Vec<ClientKey>,
    /// Whether the topic is in the list of those with a round under way.
    pub queued: bool,
    /// Whether the topic is to be looked at when the turn ends.
    pub touched: bool,
    /// Members here that fell out of step with the window of compressed frames since it was emptied last.
    pub out_of_step: u32,
    /// The owner has been told since then that there are some.
    pub is_wait_told: bool,
    /// Bytes of the log that the shard's gauge counts.
    pub gauged_bytes: u64,
    /// Those of them that laggards are to blame for.
    pub gauged_blame_bytes: u64,
    /// Bytes that members here published and that have not come back from the owner.
    in_flight_bytes: u64,
    /// Bytes that have come back since the topic was made.
    returned_bytes: u64,
    /// Whether publishers wait for laggards.
    pub grace: Grace,
    /// Whether a laggard has taken bytes since the grace was reviewed last.
    pub laggards_progress: bool,
    /// Bytes taken in while the topic was closed to publishers, from clients that had not been publishers before.
    pub overdraft_bytes: u64,
    /// The draft that takes the next small message of a member here.
    pub open_draft: OpenDraft,
    roster: Roster,
}

impl Topic {
    /// A topic without members.
    pub(crate) fn new(name: TopicName, owner: ShardId, conduct: Conduct) -> Self {
        Topic {
            name,
            owner,
            conduct,
            log: Log::default(),
            audience: Audience::default(),
            told_audience: Audience::default(),
            is_counted_soon: false,
            held: None,
            holding: None,
            places: None,
            waiting: Vec::new(),
            queued: false,
            touched: false,
            out_of_step: 0,
            is_wait_told: false,
            gauged_bytes: 0,
            gauged_blame_bytes: 0,
            in_flight_bytes: 0,
            returned_bytes: 0,
            grace: Grace::default(),
            laggards_progress: false,
            overdraft_bytes: 0,
            open_draft: OpenDraft::default(),
            roster: Roster::default(),
        }
    }

    /// The members, in no order that means anything.
    pub(crate) fn members(&self) -> &[ClientKey] {
        self.roster.members()
    }

    /// The audience, for an envelope to the owner, who is then told.
    pub(crate) fn tell_audience(&mut self) -> Audience {
        self.told_audience = self.audience;
        self.audience
    }

    /// A member here has published `bytes`.
    pub(crate) fn note_published(&mut self, bytes: u64) {
        self.in_flight_bytes += bytes;
    }

    /// `bytes` that members here published have come back from the owner.
    pub(crate) fn note_returned(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.in_flight_bytes, "they were on their way");
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        self.returned_bytes += bytes;
    }

    /// Bytes that members here have published since the topic was made.
    pub(crate) fn published_bytes(&self) -> u64 {
        self.returned_bytes + self.in_flight_bytes
    }

    /// Those of them that have come back.
    pub(crate) fn returned_bytes(&self) -> u64 {
        self.returned_bytes
    }

    /// Whether nobody is in the topic or joins it, and all that members here published has come back. Until then the topic
    /// stays subscribed, because only subscribers get it back.
    pub(crate) fn is_unused(&self) -> bool {
        self.audience.total() == 0 && self.in_flight_bytes == 0
    }

    /// Adds a member, and returns its place in the list.
    pub(crate) fn add(&mut self, client: ClientKey) -> u32 {
        self.roster.add(client)
    }

    /// Removes the member at `place`, and returns those that got another place.
    pub(crate) fn remove(&mut self, place: u32) -> Moved {
        self.roster.remove(place)
    }

    /// The window of compressed frames is empty again, so nobody is out of step behind this batch.
    #[cold]
    pub(crate) fn note_key(&mut self) {
        self.out_of_step = 0;
        self.is_wait_told = false;
    }

    /// The number of members to tell the owner of, which wait for the window to be emptied; 0 for nothing to tell.
    pub(crate) fn take_waits(&mut self) -> u32 {
        if self.out_of_step == 0 || std::mem::replace(&mut self.is_wait_told, true) {
            return 0;
        }
        self.out_of_step
    }

    /// Appends a batch, and starts a round that visits every member.
    pub(crate) fn append(&mut self, batch: Arc<Batch>) {
        self.roster
            .start_round(batch.decoded_at(), self.log.end_bytes());
        self.log.append(batch);
    }

    /// Whether members are still to be visited.
    pub(crate) fn is_round_open(&self) -> bool {
        self.roster.is_round_open()
    }

    /// The next member of the round.
    pub(crate) fn next_in_round(&mut self) -> Option<ClientKey> {
        self.roster.next_in_round(self.log.end_bytes())
    }

    /// Once the round is over, the moment at which its earliest message was decoded. It is handed out once.
    pub(crate) fn take_round_start(&mut self) -> Option<Timestamp> {
        self.roster.take_round_start()
    }

    /// The most that a member lags only because it has not been visited yet.
    pub(crate) fn unvisited_bytes(&self) -> u64 {
        self.roster.unvisited_bytes(self.log.end_bytes())
    }

    /// Whether publishers may be read: they are not held, and not too much is on its way.
    pub(crate) fn is_open_to_publishers(&self) -> bool {
        self.held.is_none() && !self.is_window_full()
    }

    /// Whether more is on its way to the topic's owner than may be.
    pub(crate) fn is_window_full(&self) -> bool {
        self.in_flight_bytes > self.conduct.policy.window_bytes
    }

    /// Whether a client may be read. One that has never published may only have a pong or a Close to send. So it is read
    /// even from a closed topic, until such clients have published a window's worth there.
    pub(crate) fn is_open_to(&self, is_publisher: bool) -> bool {
        self.is_open_to_publishers()
            || !is_publisher && self.overdraft_bytes <= self.conduct.policy.window_bytes
    }
}
