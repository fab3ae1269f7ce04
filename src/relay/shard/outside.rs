//! Messages of requests on their way to the owners of their topics: those of this turn, and the accounts of all.
//!
//! A request is no member of its topic. So an account for each topic limits the bytes of requests that are on their way, and
//! keeps the parts that wait. [`offering`](super::offering) offers messages here, and [`deciding`](super::deciding) sends
//! them once a turn.

use std::collections::{HashMap, VecDeque};

use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::Draft;
use crate::relay::posting::{Claim, Receipt, Ticket};

/// A queue that is this much longer than twice the number of parts in it is searched for those that have left.
const FEW_WAITING: usize = 64;

/// Messages of this turn for one topic.
#[derive(Debug)]
pub(super) struct Offer {
    /// The topic.
    pub(super) topic: TopicName,
    /// The messages.
    pub(super) draft: Draft,
    /// The parts that they belong to.
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

/// The messages of requests to one topic.
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
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outside {
    offers: Vec<Offer>,
    accounts: HashMap<TopicName, Account>,
}

impl Outside {
    /// Whether a message to the topic may be on its way beside those that are, of which there may be `window_bytes`.
    pub(super) fn is_open(&self, topic: &str, window_bytes: u64) -> bool {
        let account = self.accounts.get(topic);
        account.is_none_or(|account| account.is_open(window_bytes))
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
        if account.is_some_and(|account| account.bytes == 0 && account.waiting == 0) {
            self.accounts.remove(topic);
            if self.accounts.is_empty() {
                self.accounts.shrink_to_fit();
            }
        }
    }

    /// Bytes that are on their way to a topic.
    #[cfg(test)]
    pub(super) fn bytes(&self, topic: &str) -> u64 {
        self.accounts.get(topic).map_or(0, |account| account.bytes)
    }

    /// Whether the part is in the queue of its topic. For tests.
    pub(super) fn has_queued(&self, topic: &str, ticket: Ticket) -> bool {
        let account = self.accounts.get(topic);
        account.is_some_and(|account| account.queue.iter().any(|queued| queued.ticket == ticket))
    }
}

impl Account {
    fn is_open(&self, window_bytes: u64) -> bool {
        !self.is_held && self.bytes <= window_bytes
    }
}
