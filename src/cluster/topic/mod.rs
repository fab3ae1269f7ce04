//! One topic on one node: a state machine between the topic's owner and the engine.
//!
//! The owner hands in parcels and gets batches back in the engine's order, its own ones too. An unbroken subscription to one
//! server process proves that nothing is missing. As long as it lasts, the topic is *whole*: it believes what arrives. When it
//! breaks, numbers and epochs decide what can be filled and what must be told ([`verdict`]).
//!
//! ```text
//! Idle → Subscribing → Syncing → Live          a topic that is new on the node
//!              ▲          ▲ │ ╲    │ ▲
//!     S lost ──┘   P lost ┘ ▼  ▼   │ │
//!                     Filling  Fencing
//! ```
//!
//! [`crate::cluster::engine`] drives it, and answers each [`Request`] with the round it came with. A round ends when its answers
//! are of no use any more.
//!
//! The rules are in [`arriving`], [`syncing`], [`publishing`] and [`resuming`]. The nouns: [`offers`] are pending, [`kept`] came
//! too early, [`lineage`] finds places, [`verdict`] is the table.

mod arriving;
pub(crate) mod effect;
mod kept;
mod lineage;
pub(crate) mod meter;
pub(crate) mod offers;
mod outage;
pub(crate) mod parcel;
mod publishing;
mod resumer;
mod resuming;
mod retry;
mod suspicion;
mod syncing;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;

use std::time::Duration;

use self::effect::{Effect, Request};
use self::kept::Kept;
use self::lineage::Lineage;
use self::meter::Meter;
use self::offers::{Offer, Offers};
use self::outage::Outage;
use self::parcel::Parcel;
use self::resumer::Resumer;
use self::retry::Retry;
use self::suspicion::Suspicion;
use self::verdict::{Known, Synced};
use super::place::{Epoch, NodeId, Place};
use crate::time::Timestamp;

/// The settings of all topics of a node.
#[derive(Clone, Copy, Debug)]
pub struct TopicSettings {
    /// This node.
    pub node: NodeId,
    /// `cluster.max_batch_bytes`. A larger message goes alone.
    pub max_batch_bytes: usize,
    /// `cluster.pending_per_topic`: above it, publishers are held.
    pub max_pending_bytes: u64,
    /// `cluster.outage_timeout`: what could not be sent for so long is dropped.
    pub outage_timeout: Duration,
    /// `cluster.topic_ttl`. The engine forgets topics after this; we ask every third of it.
    pub topic_ttl: Duration,
    /// A topic without clients and pending messages is left after this.
    pub linger: Duration,
}

/// The surroundings of a topic, in each call.
#[derive(Debug)]
pub struct Context<'a, T> {
    /// The time.
    pub now: Timestamp,
    /// Random bits, for jitter.
    pub bits: u64,
    /// The memory of all topics of the worker.
    pub meter: &'a mut Meter,
    /// Effects are appended here, in order.
    pub effects: &'a mut Vec<Effect<T>>,
}

/// How far a topic has come with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No client here.
    Idle,
    /// The subscription is asked for, or will be once the link is up.
    Subscribing,
    /// The engine is asked where the topic is, or will be.
    Syncing,
    /// It is asked for what we missed.
    Filling,
    /// We wait until all has arrived that was published before another epoch.
    Fencing,
    /// All is well.
    Live,
}

/// The number of members that the engine knows. SYNC carries it.
#[derive(Debug, Default)]
struct Count {
    written: u64,
    at: Timestamp,
}

/// The number is written on change, at most this often.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

impl Count {
    fn note_written(&mut self, members: u64, now: Timestamp) {
        self.written = members;
        self.at = now;
    }

    /// When `members` is to be written, if it is news.
    fn due_at(&self, members: u64) -> Option<Timestamp> {
        (members != self.written).then(|| self.at + COUNT_INTERVAL)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Topic<T> {
    settings: TopicSettings,
    state: State,
    /// All that members have been sent.
    known: Known,
    /// The subscription has not been broken since `known` was settled.
    is_whole: bool,
    /// The epoch in which we publish: what SYNC said last.
    current: Epoch,
    /// Arrivals up to this number were under way when SYNC said where the topic is.
    floor: u64,
    /// All that arrives from now on was published after that SYNC.
    is_settled: bool,
    kept: Kept,
    offers: Offers<T>,
    lineage: Lineage,
    /// The answer of SYNC that a fill or a new epoch is to complete.
    synced: Option<Synced>,
    /// Answers of other rounds are of no use.
    round: u64,
    /// SYNC is asked, and its answer will be of use.
    is_asked: bool,
    /// When SYNC was asked last.
    asked_at: Timestamp,
    /// The place at which it was asked.
    asked_place: Option<Place>,
    /// When the last SYNC was asked that was answered. The engine may forget a node that it has not heard for `topic_ttl`.
    heard_at: Timestamp,
    is_up: bool,
    retry: Retry,
    outage: Outage,
    resumers: Vec<Resumer>,
    members: u64,
    count: Count,
    /// Since when the topic has neither members nor pending messages.
    unused_since: Option<Timestamp>,
    /// When SYNC renews the engine's memory of the topic.
    renew_at: Timestamp,
    suspicion: Suspicion,
    /// When the fence of a drain is answered at the latest.
    drain_until: Option<Timestamp>,
    is_drained: bool,
    is_held: bool,
}

impl<T: Parcel> Topic<T> {
    /// A topic without clients. Its first batch has a number above `high_water`.
    pub fn new(settings: TopicSettings, high_water: u64) -> Self {
        Topic {
            settings,
            state: State::Idle,
            known: Known::Nothing,
            is_whole: false,
            current: Epoch::NONE,
            floor: 0,
            is_settled: false,
            kept: Kept::default(),
            offers: Offers::new(high_water, settings.max_batch_bytes),
            lineage: Lineage::default(),
            synced: None,
            round: 0,
            is_asked: false,
            asked_at: Timestamp(0),
            asked_place: None,
            heard_at: Timestamp(0),
            is_up: false,
            retry: Retry::default(),
            outage: Outage::default(),
            resumers: Vec::new(),
            members: 0,
            count: Count::default(),
            unused_since: None,
            renew_at: Timestamp(u64::MAX),
            suspicion: Suspicion::None,
            drain_until: None,
            is_drained: false,
            is_held: false,
        }
    }

    /// How far it has come.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether its clients miss nothing, as far as the engine's process has sent it.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The place up to which members have been sent all, if it is known.
    pub fn place(&self) -> Option<Place> {
        match self.known {
            Known::UpTo(place) => Some(place),
            Known::Nothing | Known::Contradicted => None,
        }
    }

    /// Messages that were delivered in the topic's life on this node.
    pub fn delivered(&self) -> u64 {
        self.lineage.delivered()
    }

    /// Whether a client may join: the topic is where the engine is, and stays there.
    pub fn is_joinable(&self) -> bool {
        self.is_whole && self.place().is_some()
    }

    /// The batch on its way.
    pub fn on_way(&self) -> Option<&Offer<T>> {
        self.offers.on_way()
    }

    /// Whether the drain is over: nothing is pending, and nothing will be delivered.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Clients that the topic has here.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// The highest number that a batch has been given.
    pub fn last_seq(&self) -> u64 {
        self.offers.last_seq()
    }

    /// Memory of pending messages, in bytes.
    pub fn pending_bytes(&self) -> u64 {
        self.offers.cost_bytes()
    }

    /// Memory of arrivals that wait, in bytes.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.cost_bytes()
    }

    /// Notes how many clients the topic has here. The first one makes it subscribe.
    pub fn on_members(&mut self, members: u64, cx: &mut Context<'_, T>) {
        self.members = members;
        if members > 0 {
            self.open(cx);
        }
        self.note_use(cx);
    }

    /// The link is up: both connections, to one server process in one role.
    pub fn on_up(&mut self, cx: &mut Context<'_, T>) {
        self.is_up = true;
        match self.state {
            State::Idle => {}
            State::Subscribing => self.ask(Request::Subscribe, cx),
            State::Syncing | State::Filling | State::Fencing | State::Live => self.sync(cx),
        }
        self.note_hold(cx);
    }

    /// The connection for commands is lost. Members notice nothing.
    pub fn on_publisher_lost(&mut self, cx: &mut Context<'_, T>) {
        self.note_down(cx);
        match self.state {
            State::Idle | State::Subscribing => {}
            State::Syncing | State::Filling | State::Fencing | State::Live => {
                self.state = State::Syncing;
            }
        }
    }

    /// The subscription is lost, or not asked for yet.
    pub fn on_subscriber_lost(&mut self, cx: &mut Context<'_, T>) {
        self.note_down(cx);
        self.is_whole = false;
        self.kept.clear(cx.meter);
        if self.state != State::Idle {
            self.state = State::Subscribing;
        }
    }

    fn note_down(&mut self, cx: &mut Context<'_, T>) {
        self.is_up = false;
        self.end_round();
        self.retry.stop();
        self.forget_finding();
        if self.state != State::Idle {
            self.outage.begin(cx.now);
        }
        self.note_hold(cx);
    }

    /// The next time at which [`Topic::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let renew = (self.state == State::Live).then(|| self.renews_at());
        let leave = self.leaves_at();
        let outage = self.outage.ends_at(self.settings.outage_timeout);
        [self.retry.at(), renew, leave, outage, self.drain_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_, T>) {
        if self.retry.take_due(cx.now) && self.is_up {
            self.sync(cx);
        }
        if self.outage.is_over(cx.now, self.settings.outage_timeout) {
            self.end_patience(cx);
        }
        if self.leaves_at().is_some_and(|at| cx.now >= at) {
            self.leave(cx);
        }
        if self.state == State::Live && cx.now >= self.renews_at() {
            self.sync(cx);
        }
        if self.drain_until.is_some_and(|until| cx.now >= until) {
            self.end_drain(cx);
        }
        self.note_drain(cx);
    }

    /// Begins to subscribe, if that is not done.
    fn open(&mut self, cx: &mut Context<'_, T>) {
        if self.state != State::Idle || self.is_drained {
            return;
        }
        self.state = State::Subscribing;
        if self.is_up {
            self.ask(Request::Subscribe, cx);
        } else {
            self.outage.begin(cx.now);
            self.note_hold(cx);
        }
    }

    /// When the engine is asked again, although nothing happened.
    fn renews_at(&self) -> Timestamp {
        let count = self.count.due_at(self.members);
        count.map_or(self.renew_at, |at| at.min(self.renew_at))
    }

    fn leaves_at(&self) -> Option<Timestamp> {
        let since = self.unused_since.filter(|_| self.state == State::Live);
        since.map(|since| since + self.settings.linger)
    }

    /// Ends the subscription. Others go on publishing, so what the node keeps would have a hole when it comes back.
    fn leave(&mut self, cx: &mut Context<'_, T>) {
        self.ask(Request::Unsubscribe, cx);
        cx.effects.push(Effect::ForgetHistory);
        self.known = Known::Nothing;
        self.go_idle();
        self.note_hold(cx);
    }

    /// Nothing is asked and nothing is due any more.
    fn go_idle(&mut self) {
        self.end_round();
        self.state = State::Idle;
        self.is_whole = false;
        self.unused_since = None;
        self.outage.end();
        self.retry.stop();
    }

    /// Notes since when the topic is not used.
    fn note_use(&mut self, cx: &Context<'_, T>) {
        let is_used = self.members > 0 || !self.offers.is_empty() || !self.resumers.is_empty();
        if is_used || self.state == State::Idle {
            self.unused_since = None;
        } else {
            self.unused_since.get_or_insert(cx.now);
        }
    }

    fn ask(&self, request: Request, cx: &mut Context<'_, T>) {
        let round = self.round;
        cx.effects.push(Effect::Ask { request, round });
    }

    /// Answers that are under way are of no use any more.
    fn end_round(&mut self) {
        self.round += 1;
        self.suspicion = Suspicion::None;
        self.is_asked = false;
        self.synced = None;
    }
}
