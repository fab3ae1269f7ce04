//! The conduct of topics: how shards treat a topic's messages and members, by its rule or by the general settings.
//!
//! All shards share one [`Conducts`]. The owner of a topic looks its conduct up once, when the topic comes into being, and sends
//! it to the shards that join. So all of them agree, whatever a reload does meanwhile.

use std::sync::Arc;

use crate::access::rules::TopicRules;
use crate::config::{Config, TopicSettings};
use crate::relay::owner::coalesce::Coalesce;
use crate::relay::owner::deflation::Compression;
use crate::relay::owner::history::Retention;
use crate::relay::policy::Policy;

/// The conduct of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// The rules for members that lag.
    pub(in crate::relay) policy: Policy,
    /// The time between two fan-outs.
    pub(in crate::relay) coalesce: Coalesce,
    /// How much is kept for clients that come later; `None` for nothing.
    pub(in crate::relay) retention: Option<Retention>,
    /// The compression of messages; `None` if nobody gets the extension.
    pub(in crate::relay) compression: Option<Compression>,
    /// The longest message in bytes.
    pub(in crate::relay) max_message_bytes: usize,
    /// Whether a sender gets its own messages.
    pub(in crate::relay) echo: bool,
}

impl Conduct {
    /// The conduct by these settings, in a relay with `shards` shards.
    fn new(settings: &TopicSettings, shards: u16) -> Conduct {
        let policy = Policy::new(&settings.slow_consumer, shards);
        Conduct {
            coalesce: Coalesce::new(settings.coalesce, policy.window_bytes),
            policy,
            retention: Retention::new(&settings.history),
            compression: settings.compression.enabled.then_some(Compression {
                // The configuration allows no more than a `u32` counts.
                min_members: settings.compression.min_members as u32,
                only_keys: !settings.echo,
            }),
            max_message_bytes: settings.max_message_bytes,
            echo: settings.echo,
        }
    }

    /// Whether messages are kept.
    pub(in crate::relay) fn keeps_history(&self) -> bool {
        self.retention.is_some()
    }
}

/// The conduct of all topics, for all shards. A reload makes a new value, and sends it to each shard in one message.
#[derive(Clone, Debug)]
pub struct Conducts {
    rules: Arc<TopicRules>,
    /// For topics that no rule has.
    general: Arc<Conduct>,
    /// By the place of the rule.
    each: Box<[Arc<Conduct>]>,
    /// Whether every topic has its messages sent to their senders as well.
    echoes: bool,
    /// The most that the kept messages of a topic take in memory, in bytes; zero if none are kept.
    most_kept_bytes: u64,
}

impl Conducts {
    /// The conduct of a relay with `shards` shards.
    pub fn new(config: &Config, shards: u16) -> Conducts {
        let conduct = |settings: &TopicSettings| Arc::new(Conduct::new(settings, shards));
        let general = conduct(&config.general_settings());
        let each: Box<[Arc<Conduct>]> = config
            .settings_by_rule()
            .map(|settings| conduct(&settings))
            .collect();
        let all = || each.iter().chain([&general]);
        let kept_bytes = all().filter_map(|conduct| conduct.retention);
        let most_kept_bytes = kept_bytes.map(|keep| keep.max_bytes()).max().unwrap_or(0);
        let echoes = all().all(|conduct| conduct.echo);
        Conducts {
            rules: Arc::new(TopicRules::new(config)),
            echoes,
            most_kept_bytes,
            general,
            each,
        }
    }

    /// The same in the place of older ones, by which topics may still live.
    #[must_use]
    pub fn after(self, older: &Conducts) -> Conducts {
        let rules = TopicRules::clone(&self.rules);
        Conducts {
            rules: Arc::new(rules.after(&older.rules)),
            echoes: self.echoes && older.echoes,
            ..self
        }
    }

    /// The conduct of a topic.
    pub(in crate::relay) fn of(&self, topic: &str) -> &Arc<Conduct> {
        match self.rules.place(topic) {
            Some(place) => &self.each[place],
            None => &self.general,
        }
    }

    /// The conduct of topics that no rule has.
    pub(in crate::relay) fn general(&self) -> &Arc<Conduct> {
        &self.general
    }

    /// The rules, for the port.
    pub(in crate::relay) fn rules(&self) -> &Arc<TopicRules> {
        &self.rules
    }

    /// Whether senders get their own messages in every topic.
    pub(in crate::relay) fn echoes(&self) -> bool {
        self.echoes
    }

    /// The most that the kept messages of a topic take in memory, in bytes.
    pub(in crate::relay) fn most_kept_bytes(&self) -> u64 {
        self.most_kept_bytes
    }
}

#[cfg(test)]
impl Conduct {
    /// The conduct of all topics by a configuration without rules.
    pub(in crate::relay) fn of_all(config: &Config) -> Arc<Conduct> {
        Conducts::new(config, 1).general
    }
}
