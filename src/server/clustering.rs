//! Makes the engines of all shards, and what their connections share, from the configuration.
//!
//! `Relay::start` calls it. A relay without `cluster.engines` has none of this.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::batch::{OVERHEAD_BYTES, VERSION};
use crate::cluster::engine::EngineSettings;
use crate::cluster::hello::{Hello, Shared};
use crate::cluster::link::LinkSettings;
use crate::cluster::place::NodeId;
use crate::cluster::topic::TopicSettings;
use crate::config::{self, Config, ConfigError, Topics};
use crate::ids::ShardId;
use crate::metrics::engines::PublishedEngines;
use crate::net::engine::finder::{Finder, literal};
use crate::net::engine::story::Story;
use crate::net::engine::target::{self, Place, Target};
use crate::net::engine::{self, Limits};
use crate::net::mail::{Mail, Postboxes};
use crate::net::vitals::Vitals;
use crate::relay::owner::cluster::{Cluster, ClusterSettings};
use crate::time::Timestamp;

/// A topic without clients and pending messages is left after this.
const LINGER: Duration = Duration::from_secs(5);

/// The room in a reply for all beside messages.
const SPARE_BYTES: usize = 1 << 20;

/// The engines of a configuration, with the contents of its files.
pub(super) struct Engines {
    targets: Arc<[Target]>,
    settings: EngineSettings,
    cluster: ClusterSettings,
    limits: Limits,
    workers: usize,
    /// The times at which addresses are looked up end after this.
    timeout: Duration,
}

impl Engines {
    /// Reads the files of the configuration; `None` if it has no engines.
    pub(super) fn open(config: &Config, workers: u16) -> Result<Option<Engines>, ConfigError> {
        if !config.cluster.is_on() {
            return Ok(None);
        }
        let targets = target::load(&config.cluster)?;
        Ok(Some(Engines {
            targets: targets.into(),
            settings: settings(config, workers),
            cluster: ClusterSettings {
                outage_timeout: config.cluster.outage_timeout,
                close_spread: config.cluster.close_spread,
            },
            limits: limits(config),
            workers: usize::from(workers),
            timeout: config.cluster.connect_timeout,
        }))
    }

    /// The engines as a shard sees them.
    pub(super) fn of_shard(&self, shard: ShardId, now: Timestamp) -> Cluster {
        let engines = self.targets.iter().map(|target| {
            let mut settings = self.settings.clone();
            settings.worker = shard.0;
            (target.name.clone(), settings)
        });
        // `RandomState` is seeded by the operating system.
        let seed = RandomState::new().hash_one(shard.0);
        Cluster::new(engines, self.cluster, seed, now)
    }

    /// Starts the threads that look for engines, and makes what the connections of all workers share.
    pub(super) fn connect(
        &self,
        postboxes: &Postboxes,
        vitals: &Arc<Vitals>,
    ) -> io::Result<engine::Shared> {
        let names = self.targets.iter().map(|target| target.name.clone());
        let stories = self.targets.iter().map(|_| Story::new(self.workers));
        Ok(engine::Shared {
            finders: self.finders(postboxes)?,
            stories: stories.collect(),
            published: PublishedEngines::new(names.collect(), self.workers),
            targets: self.targets.clone(),
            vitals: vitals.clone(),
            limits: self.limits,
        })
    }

    fn finders(&self, postboxes: &Postboxes) -> io::Result<Arc<[Option<Finder>]>> {
        let targets = self.targets.iter().enumerate();
        let finder = |(index, target): (usize, &Target)| {
            let needs_none = match &target.place {
                Place::Unix(_) => true,
                Place::Remote(remote) => literal(remote).is_some(),
                Place::Sentinels { .. } => false,
            };
            if needs_none {
                return Ok(None);
            }
            let boxes = Arc::downgrade(postboxes);
            let tell = move |worker: usize, found| {
                let Some(boxes) = boxes.upgrade() else {
                    return false;
                };
                boxes[worker].inbox.send(Mail::Found(Box::new(found)));
                true
            };
            Finder::start(index, target.clone(), self.workers, self.timeout, tell).map(Some)
        };
        targets.map(finder).collect()
    }
}

fn settings(config: &Config, workers: u16) -> EngineSettings {
    let cluster = &config.cluster;
    let node = NodeId(RandomState::new().hash_one(0));
    let share = cluster.pending / usize::from(workers.max(1));
    EngineSettings {
        worker: 0,
        link: LinkSettings {
            connect_timeout: cluster.connect_timeout,
            io_timeout: cluster.io_timeout,
            probe_interval: cluster.probe_interval,
        },
        topic: TopicSettings {
            node,
            max_batch_bytes: cluster.max_batch_bytes,
            max_pending_bytes: cluster.pending_per_topic as u64,
            outage_timeout: cluster.outage_timeout,
            topic_ttl: cluster.topic_ttl,
            linger: LINGER,
        },
        hello: Hello {
            version: VERSION,
            node,
            shared: shared(config),
        },
        history_bytes: cluster.history as u64,
        history_ttl: cluster.history_ttl,
        audit_rate: cluster.audit_rate,
        pending_bytes: share.max(cluster.pending_per_topic) as u64,
    }
}

/// The settings that all nodes must share.
fn shared(config: &Config) -> Shared {
    let topics = match config.relay.topics {
        Topics::Path => "path",
        Topics::Single => "single",
    };
    Shared {
        engines: hash_of(&config.cluster.engines),
        prefix: config.cluster.prefix.clone(),
        topics: topics.into(),
        history: config.keeps_history(),
        echo: config.relay.echo,
        max_message_bytes: config.largest_message_bytes() as u64,
    }
}

/// A hash of the names (FNV-1a), whatever their order. It is the same on all machines.
fn hash_of(engines: &[config::Engine]) -> u64 {
    let mut names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    names.sort_unstable();
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Twice or more of what a server that does right may send. The engine trims a topic's messages roughly, and a batch may be
/// as large as the largest message.
fn limits(config: &Config) -> Limits {
    let cluster = &config.cluster;
    let largest = cluster.max_batch_bytes.max(config.largest_message_bytes()) + OVERHEAD_BYTES;
    Limits {
        max_reply_bytes: 8 * cluster.history + 4 * largest + 8 * SPARE_BYTES,
        max_message_bytes: 4 * largest + SPARE_BYTES,
        unready_after: cluster.unready_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(names: &[&str]) -> Vec<config::Engine> {
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("{{name: {name}, url: 'redis://{name}'}}"))
            .collect();
        let text = format!("cluster: {{engines: [{}]}}", names.join(", "));
        let config = Config::from_yaml(&text, "t.yaml").unwrap();
        config.cluster.engines
    }

    #[test]
    fn the_hash_of_the_engines_knows_names_and_not_their_order() {
        let hash = |names| hash_of(&engines(names));
        assert_eq!(hash(&["a", "b"]), hash(&["b", "a"]));
        assert_ne!(hash(&["a", "b"]), hash(&["ab"]));
        assert_ne!(hash(&["a", "b"]), hash(&["a"]));
    }
}
