//! A seed's decisions before its world begins: sizes, limits, and which faults there are.

use std::time::Duration;

use fanwire::internals::cluster::{
    EngineSettings, Hello, LinkSettings, NodeId, Shared, TopicSettings, VERSION,
};

use crate::rng::Rng;

/// The names of the topics.
pub(crate) const TOPICS: [&str; 3] = ["/a", "/b {x}", "/c"];

/// The prefix of all names in the engine.
pub(crate) const PREFIX: &str = "p";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) topics: usize,
    pub(crate) steps: usize,
    /// Faults in a thousand steps.
    pub(crate) faults: usize,
    /// Messages may be lost on a subscription without a word. Then keys are not deleted: nothing could show it.
    pub(crate) is_lossy: bool,
    pub(crate) max_history: usize,
    pub(crate) settings: EngineSettings,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        let topic = TopicSettings {
            node: NodeId(0),
            max_batch_bytes: rng.pick(&[100, 300, 1_000]),
            max_pending_bytes: rng.pick(&[300, 1_000, 4_000]),
            outage_timeout: ms(rng.pick(&[500, 2_000, 10_000])),
            topic_ttl: ms(rng.pick(&[10_000, 60_000, 3_600_000])),
            linger: ms(rng.pick(&[100, 1_000, 5_000])),
        };
        let shared = Shared {
            engines: 1,
            prefix: PREFIX.into(),
            topics: "path".into(),
            history: true,
            echo: true,
            max_message_bytes: 1_000,
        };
        let hello = Hello {
            version: VERSION,
            node: NodeId(0),
            shared,
        };
        let settings = EngineSettings {
            worker: 0,
            link: LinkSettings {
                connect_timeout: ms(1_000),
                io_timeout: ms(rng.pick(&[500, 2_000])),
                probe_interval: ms(rng.pick(&[200, 1_000])),
            },
            topic,
            hello,
            history_bytes: rng.pick(&[0, 500, 2_000, 100_000]),
            history_ttl: ms(rng.pick(&[1_000, 60_000])),
            audit_rate: rng.pick(&[10, 1_000]),
            pending_bytes: rng.pick(&[1_500, 10_000, 1_000_000]),
        };
        Plan {
            nodes: rng.within(2..=4),
            topics: rng.within(1..=TOPICS.len()),
            steps: rng.within(1_000..=4_000),
            faults: rng.pick(&[3, 10, 30]),
            is_lossy: rng.percent(15),
            max_history: rng.pick(&[0, 5, 40, 1_000]),
            settings,
        }
    }

    /// The settings of one node.
    pub(crate) fn of_node(&self, node: usize) -> EngineSettings {
        let mut settings = self.settings.clone();
        let node = NodeId(node as u64 + 1);
        settings.topic.node = node;
        settings.hello.node = node;
        settings
    }
}
