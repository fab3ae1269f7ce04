//! The engines over which several relays are one, as one shard sees them.
//!
//! The shard's owner hands offers to the engine of a topic, and takes what comes back. The host of the turn moves the bytes: it
//! calls the engines' `on_*`, and does what their actions say. Nothing else calls an engine.

use std::time::Duration;

use crate::chance::Chance;
use crate::cluster::engine::{Action, Engine, EngineSettings};
use crate::cluster::rendezvous::engine_of;
use crate::relay::owner::offer::Offer;
use crate::time::Timestamp;

/// The settings that all engines share.
#[derive(Clone, Copy, Debug)]
pub struct ClusterSettings {
    /// `cluster.outage_timeout`.
    pub outage_timeout: Duration,
    /// `cluster.close_spread`.
    pub close_spread: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    names: Vec<String>,
    /// In the order of the names.
    engines: Vec<Engine<Offer>>,
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
