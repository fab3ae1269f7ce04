//! Messages from outside on their way to the owners of their topics: those of this turn, and the accounts of all.
//!
//! Requests and clients that only publish are no members of a topic. So an account for each topic limits their bytes that are
//! on their way, and keeps the parts of requests that wait, and the clients that are not read meanwhile.
//!
//! [`offering`](super::offering) and [`sources`](super::sources) put messages here, and [`deciding`](super::deciding) sends them
//! once a turn.

use std::collections::{HashMap, VecDeque};

use crate::ids::ClientKey;
use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::posting::{Claim, Receipt, Ticket};
use crate::time::Timestamp;
use crate::ws::frame::MessageKind;

/// A queue that is this much longer than twice the number of parts in it is searched for those that have left.
const FEW_WAITING: usize = 64;

/// Memory of an account and its name in the table.
pub(super) const ACCOUNT_BYTES: usize = size_of::<(TopicName, Account)>() + 1;

/// Messages of this turn for one topic.
#[derive(Debug)]
pub(super) struct Offer {
    /// The topic.
    pub(super) topic: TopicName,
    /// The messages.
    pub(super) draft: Draft,
    /// The parts of requests that they belong to. Clients that only publish get no answer.
    pub(super) receipts: Vec<Receipt>,
    /// They may be a repeat.
    pub(super) claim: Option<Claim>,
}

/// A part that waits for its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queued {
    ticket: Ticket,
    bytes: u64,
}

/// The messages from outside to one topic.
#[derive(Debug, Default)]
struct Account {
    /// Bytes of frames on their way.
    bytes: u64,
    /// Some of them are numbered, and count on because publishers are held.
    is_held: bool,
    /// The offer of this turn that takes the next small messages, plus one; 0 for none.
    open_offer: usize,
    /// Parts that wait, with some that have left.
    queue: VecDeque<Queued>,
    /// The number of parts in the queue that have not left.
    waiting: usize,
    /// Clients that only publish and are not read until there is room.
    sources: Vec<ClientKey>,
    /// The length at which their list was last searched for clients that have left.
    searched_len: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outside {
    offers: Vec<Offer>,
    accounts: HashMap<TopicName, Account>,
}

impl Outside {
    /// Whether a message to the topic may be on its way beside those that are, of which there may be `window_bytes`.
    pub(super) fn is_open(&self, topic: &str, window_bytes: impl FnOnce() -> u64) -> bool {
        let account = self.accounts.get(topic);
        account.is_none_or(|account| account.is_open(window_bytes()))
    }

    /// Whether more bytes than these are on their way to the topic.
    pub(super) fn is_full(&self, topic: &str, window_bytes: u64) -> bool {
        let account = self.accounts.get(topic);
        account.is_some_and(|account| account.bytes > window_bytes)
    }

    /// Takes in the messages of a part. Those of small parts to one topic become one draft.
    pub(super) fn push(
        &mut self,
        topic: &TopicName,
        draft: Draft,
        ticket: Ticket,
        claim: Option<Claim>,
    ) {
        // A draft has fewer than 2³² messages.
        let count = draft.len() as u32;
        let account = self.accounts.entry(topic.clone()).or_default();
        account.bytes += draft.len_bytes() as u64;
        let open = account.open_offer.checked_sub(1);
        let open = open.filter(|_| claim.is_none());
        let mut draft = draft;
        if let Some(offer) = open.map(|place| &mut self.offers[place]) {
            let before = offer.draft.len() as u32;
            match offer.draft.try_join(draft) {
                None => {
                    let end = before + count;
                    offer.receipts.push(Receipt { ticket, end });
                    return;
                }
                Some(left_over) => draft = left_over,
            }
        }
        let is_open = claim.is_none();
        self.offers.push(Offer {
            topic: topic.clone(),
            draft,
            receipts: vec![Receipt { ticket, end: count }],
            claim,
        });
        // A repeat must not take along the messages of others.
        account.open_offer = if is_open { self.offers.len() } else { 0 };
    }

    /// Takes in a message of a client that only publishes. It was read because there was room, and a read may be more than that.
    /// The small ones of a turn are one draft.
    pub(super) fn push_source(
        &mut self,
        topic: &TopicName,
        message: (MessageKind, &[u8]),
        (source, now): (Source, Timestamp),
    ) {
        let (kind, payload) = message;
        let account = self.accounts.entry(topic.clone()).or_default();
        let open = account.open_offer.checked_sub(1);
        let open = open.map(|place| &mut self.offers[place].draft);
        if let Some(draft) = open.filter(|draft| draft.is_open()) {
            account.bytes += draft.push(kind, payload, None) as u64;
            return;
        }
        let mut draft = Draft::new(source, now);
        draft.push(kind, payload, None);
        self.push_draft(topic, draft);
    }

    /// Takes in messages of a client that only publishes, which come behind all others.
    pub(super) fn push_draft(&mut self, topic: &TopicName, draft: Draft) {
        let account = self.accounts.entry(topic.clone()).or_default();
        account.bytes += draft.len_bytes() as u64;
        self.offers.push(Offer {
            topic: topic.clone(),
            draft,
            receipts: Vec::new(),
            claim: None,
        });
        account.open_offer = self.offers.len();
    }

    /// The client is not read until there is room in its topic.
    pub(super) fn await_room(&mut self, topic: &TopicName, key: ClientKey) {
        let account = self.accounts.entry(topic.clone()).or_default();
        account.sources.push(key);
    }

    /// Takes the clients that wait for room.
    pub(super) fn take_sources(&mut self, topic: &TopicName) -> Vec<ClientKey> {
        let Some(account) = self.accounts.get_mut(topic) else {
            return Vec::new();
        };
        account.searched_len = 0;
        let sources = std::mem::take(&mut account.sources);
        self.settle(topic);
        sources
    }

    /// Removes clients that have left from the list of those that wait, when the list has doubled.
    pub(super) fn forget_sources(
        &mut self,
        topic: &TopicName,
        is_there: impl Fn(ClientKey) -> bool,
    ) {
        let Some(account) = self.accounts.get_mut(topic) else {
            return;
        };
        if account.sources.len() > FEW_WAITING.max(2 * account.searched_len) {
            account.sources.retain(|&key| is_there(key));
            account.searched_len = account.sources.len();
            self.settle(topic);
        }
    }

    /// Whether something was offered in this turn.
    pub(super) fn has_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Takes the offers of this turn.
    pub(super) fn take(&mut self) -> Vec<Offer> {
        let offers = std::mem::take(&mut self.offers);
        for offer in &offers {
            if let Some(account) = self.accounts.get_mut(&offer.topic) {
                account.open_offer = 0;
            }
        }
        offers
    }

    /// A part waits for its topic.
    pub(super) fn enqueue(&mut self, topic: &TopicName, ticket: Ticket, bytes: u64) {
        let account = self.accounts.entry(topic.clone()).or_default();
        account.queue.push_back(Queued { ticket, bytes });
        account.waiting += 1;
    }

    /// A part that waits does so no more. `is_waiting` says which others do.
    pub(super) fn leave(&mut self, topic: &TopicName, is_waiting: impl Fn(Ticket) -> bool) {
        let Some(account) = self.accounts.get_mut(topic) else {
            return;
        };
        account.waiting = account.waiting.saturating_sub(1);
        if account.queue.len() > 2 * account.waiting + FEW_WAITING {
            account.queue.retain(|queued| is_waiting(queued.ticket));
        }
        self.settle(topic);
    }

    /// Takes the parts that there is room for out of the queue. `is_waiting` says which have not left.
    pub(super) fn wake(
        &mut self,
        topic: &TopicName,
        window_bytes: u64,
        is_waiting: impl Fn(Ticket) -> bool,
    ) -> Vec<Ticket> {
        let mut woken = Vec::new();
        let Some(account) = self.accounts.get_mut(topic) else {
            return woken;
        };
        let mut bytes = account.bytes;
        while !account.is_held
            && bytes <= window_bytes
            && let Some(Queued {
                ticket,
                bytes: more,
            }) = account.queue.pop_front()
        {
            if is_waiting(ticket) {
                bytes += more;
                account.waiting = account.waiting.saturating_sub(1);
                woken.push(ticket);
            }
        }
        self.settle(topic);
        woken
    }

    /// Bytes are numbered, and publishers are not held. Ignores bytes that are not on their way.
    pub(super) fn on_numbered(&mut self, topic: &TopicName, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(topic) {
            account.is_held = false;
        }
        self.return_bytes(topic, bytes);
    }

    /// Bytes were dropped as a repeat. If `is_held`, some of the others are numbered, and count on.
    pub(super) fn on_posted(&mut self, topic: &TopicName, dropped_bytes: u64, is_held: bool) {
        if let Some(account) = self.accounts.get_mut(topic) {
            account.is_held |= is_held;
        }
        self.return_bytes(topic, dropped_bytes);
    }

    fn return_bytes(&mut self, topic: &TopicName, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(topic) {
            account.bytes = account.bytes.saturating_sub(bytes);
            if account.bytes == 0 {
                // Nothing is left that the end of a hold would give back.
                account.is_held = false;
            }
            self.settle(topic);
        }
    }

    /// Forgets the topic's account if it is empty.
    fn settle(&mut self, topic: &TopicName) {
        let account = self.accounts.get(topic);
        if account.is_some_and(Account::is_empty) {
            self.accounts.remove(topic);
            if self.accounts.is_empty() {
                self.accounts.shrink_to_fit();
            }
        }
    }

    /// Whether nothing is on its way or waits. For tests.
    pub(super) fn is_at_rest(&self) -> bool {
        self.offers.is_empty() && self.accounts.is_empty()
    }

    /// Bytes that are on their way to a topic.
    #[cfg(test)]
    pub(super) fn bytes(&self, topic: &str) -> u64 {
        self.accounts.get(topic).map_or(0, |account| account.bytes)
    }

    /// The number of clients that wait for room in the topic, with those that have left.
    #[cfg(test)]
    pub(super) fn sources_len(&self, topic: &str) -> usize {
        let account = self.accounts.get(topic);
        account.map_or(0, |account| account.sources.len())
    }

    /// Whether the client waits for room in the topic. For tests.
    pub(super) fn has_source(&self, topic: &str, key: ClientKey) -> bool {
        let account = self.accounts.get(topic);
        account.is_some_and(|account| account.sources.contains(&key))
    }

    /// Whether the part is in the queue of its topic. For tests.
    pub(super) fn has_queued(&self, topic: &str, ticket: Ticket) -> bool {
        let account = self.accounts.get(topic);
        account.is_some_and(|account| account.queue.iter().any(|queued| queued.ticket == ticket))
    }
}

impl Account {
    fn is_empty(&self) -> bool {
        self.bytes == 0 && self.waiting == 0 && self.sources.is_empty()
    }

    fn is_open(&self, window_bytes: u64) -> bool {
        !self.is_held && self.bytes <= window_bytes
    }
}
