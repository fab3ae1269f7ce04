//! The engines over which several relays are one, as one shard sees them.
//!
//! The shard's owner hands offers to the engine of a topic, and takes what comes back. The host of the turn moves the bytes: it
//! calls the engines' `on_*`, and does what their actions say. Nothing else calls an engine.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::chance::Chance;
use crate::cluster::engine::asked::{Described, TopicKey};
use crate::cluster::engine::{Action, Engine, EngineSettings};
use crate::cluster::rendezvous::engine_of;
use crate::cluster::topic::effect::Effect;
use crate::cluster::topic::verdict::Why;
use crate::cluster::topic::{State, Topic};
use crate::relay::owner::coalesce::Agenda;
use crate::relay::owner::offer::Offer;
use crate::relay::posting::Question;
use crate::time::Timestamp;

/// The settings that all engines share.
#[derive(Clone, Copy, Debug)]
pub struct ClusterSettings {
    /// `cluster.outage_timeout`.
    pub outage_timeout: Duration,
    /// `cluster.close_spread`.
    pub close_spread: Duration,
}

/// Numbers for metrics. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were sent to an engine, and nobody knows whether they were published.
    pub given_up: u64,
    /// Messages that were never sent to the engine, because it was away for too long.
    pub dropped: u64,
    /// Messages that an engine has numbered where members were told that they missed something.
    pub passed: u64,
    /// Changes of epoch without a loss, by topic.
    pub moved: u64,
    /// Breaks that could not be filled, by topic.
    pub told_gap: u64,
    /// Engines that had forgotten messages, by topic.
    pub told_back: u64,
    /// Breaks of which nothing is known, by topic.
    pub told_unknown: u64,
}

impl Tally {
    pub(super) fn note_told(&mut self, why: Why) {
        *match why {
            Why::Moved => &mut self.moved,
            Why::Gap => &mut self.told_gap,
            Why::Back => &mut self.told_back,
            Why::Unknown => &mut self.told_unknown,
        } += 1;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    names: Vec<String>,
    /// In the order of the names.
    engines: Vec<Engine<Offer>>,
    /// The owner's slots of topics that the engines' side knows.
    slots: HashMap<(usize, TopicKey), usize>,
    /// Topics with clients that wait for their place.
    joining: BTreeSet<usize>,
    /// Topics that got something back in this turn.
    arrived: Vec<usize>,
    /// Topics in which something that came back waits for the next fan-out.
    agenda: Agenda,
    /// Topics with members that a shard has not got round to.
    open_holds: BTreeSet<usize>,
    questions: u64,
    /// Clients that have asked about topics, by the number of the question.
    asking: HashMap<u64, Question>,
    tally: Tally,
}

impl Cluster {
    /// Engines that are not connected, each with its name. The bits of `seed` draw epochs: they must be random.
    ///
    /// # Panics
    ///
    /// If there is no engine.
    pub fn new(
        engines: impl IntoIterator<Item = (String, EngineSettings)>,
        settings: ClusterSettings,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let mut chance = Chance::new(seed);
        let (names, engines): (Vec<_>, Vec<_>) = engines
            .into_iter()
            .map(|(name, settings)| (name, Engine::new(settings, chance.next(), now)))
            .unzip();
        assert!(!engines.is_empty(), "a cluster has an engine");
        Cluster {
            settings,
            names,
            engines,
            slots: HashMap::new(),
            joining: BTreeSet::new(),
            arrived: Vec::new(),
            agenda: Agenda::default(),
            open_holds: BTreeSet::new(),
            questions: 0,
            asking: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// The settings that all engines share.
    pub fn settings(&self) -> ClusterSettings {
        self.settings
    }

    /// The engines' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The engines, in the order of their names.
    pub fn engines(&self) -> &[Engine<Offer>] {
        &self.engines
    }

    /// The same, for the host to tell them what happened.
    pub fn engines_mut(&mut self) -> &mut [Engine<Offer>] {
        &mut self.engines
    }

    /// The index of the engine that has a topic.
    pub fn engine_of(&self, topic: &str) -> usize {
        engine_of(topic, self.names())
    }

    /// Whether each engine is connected.
    pub fn is_up(&self) -> bool {
        self.engines.iter().all(Engine::is_up)
    }

    /// The next time at which an engine has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.engines.iter().filter_map(Engine::poll_timeout).min()
    }

    /// The numbers for metrics.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Memory of messages that are not back yet, and of batches that came too early.
    pub fn pending_bytes(&self) -> u64 {
        self.engines.iter().map(Engine::pending_bytes).sum()
    }

    /// Whether all shards have got round to the members of this shard's topics. If not, subscriptions are not read: they would
    /// only bring more.
    pub(crate) fn is_served(&self) -> bool {
        self.open_holds.is_empty()
    }

    /// The key of a topic on the engine's side, which remembers it for the owner's `slot`. And the messages that were delivered
    /// in its life there.
    pub(super) fn open(&mut self, engine: usize, name: &str, slot: usize) -> (TopicKey, u64) {
        let key = self.engines[engine].topic(name);
        let topic = self.engines[engine].get(key);
        self.slots.insert((engine, key), slot);
        (key, topic.map_or(0, Topic::delivered))
    }

    /// The owner has nothing more to do with a topic on the engine's side.
    pub(super) fn close(&mut self, engine: usize, key: TopicKey) {
        self.slots.remove(&(engine, key));
    }

    /// The owner's slot of a topic.
    pub(super) fn slot(&self, engine: usize, key: TopicKey) -> Option<usize> {
        self.slots.get(&(engine, key)).copied()
    }

    /// Whether the engine's side does not use the topic any more.
    pub(super) fn is_left(&self, engine: usize, key: TopicKey) -> bool {
        let topic = self.engines[engine].get(key);
        topic.is_none_or(|topic| topic.state() == State::Idle && topic.members() == 0)
    }

    /// A name for a question to the engine's side.
    pub(super) fn next_question(&mut self) -> u64 {
        self.questions += 1;
        self.questions
    }

    /// Asks the engine of a topic about it, for a client.
    pub(super) fn ask(&mut self, question: Question, now: Timestamp) {
        let number = self.next_question();
        let engine = self.engine_of(&question.topic);
        self.engines[engine].describe(&question.topic, number, now);
        self.asking.insert(number, question);
    }

    /// Takes the engines' answers.
    pub(super) fn take_described(&mut self) -> Vec<(Question, Option<Described>)> {
        let described = self.engines.iter_mut().flat_map(Engine::take_described);
        let described: Vec<_> = described.collect();
        let asked = described.into_iter().filter_map(|(number, described)| {
            let question = self.asking.remove(&number)?;
            Some((question, described))
        });
        asked.collect()
    }

    /// Notes whether clients wait for their place in a topic.
    pub(super) fn note_joining(&mut self, slot: usize, waits: bool) {
        if waits {
            self.joining.insert(slot);
        } else {
            self.joining.remove(&slot);
        }
    }

    /// Topics with clients that wait.
    pub(super) fn joining(&self) -> Vec<usize> {
        self.joining.iter().copied().collect()
    }

    /// A topic got its first messages back in this turn.
    pub(super) fn note_arrived(&mut self, slot: usize) {
        self.arrived.push(slot);
    }

    /// Whether there are any.
    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Takes the list of those.
    pub(super) fn take_arrived(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.arrived)
    }

    /// Topics in which something that came back waits.
    pub(super) fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    pub(super) fn agenda_mut(&mut self) -> &mut Agenda {
        &mut self.agenda
    }

    pub(super) fn note_open_hold(&mut self, slot: usize, is_open: bool) {
        if is_open {
            self.open_holds.insert(slot);
        } else {
            self.open_holds.remove(&slot);
        }
    }

    /// Forgets a topic of the owner.
    pub(super) fn forget(&mut self, slot: usize) {
        self.joining.remove(&slot);
        self.open_holds.remove(&slot);
    }

    /// Whether the drain of all engines is over.
    pub(super) fn is_drained(&self) -> bool {
        let topics = self.engines.iter().flat_map(Engine::topics);
        self.arrived.is_empty() && topics.into_iter().all(|(_, topic)| topic.is_drained())
    }

    /// Takes what happened to topics, in order for each.
    pub(super) fn take_events(&mut self) -> Vec<(usize, TopicKey, Effect<Offer>)> {
        let engines = self.engines.iter_mut().enumerate();
        let events = engines.flat_map(|(index, engine)| {
            let events = engine.take_events().into_iter();
            events.map(move |(key, effect)| (index, key, effect))
        });
        events.collect()
    }

    /// Does what is due in all engines.
    pub(crate) fn handle_timeouts(&mut self, now: Timestamp) {
        for engine in &mut self.engines {
            while engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
        }
    }

    /// Takes what the host is to do, in order for each engine.
    pub(crate) fn take_actions(&mut self) -> Vec<(usize, Action)> {
        let engines = self.engines.iter_mut().enumerate();
        let actions = engines.flat_map(|(index, engine)| {
            let actions = engine.take_actions().into_iter();
            actions.map(move |action| (index, action))
        });
        actions.collect()
    }
}
