//! The choices of a seed before the first step: the configuration, the size of the world, and its end.

use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy, Topics};

use crate::rng::Rng;
use crate::tally::Moment;

/// The end of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every shard is told to drain.
    Drain,
    /// The same, and half way through, all remaining connections are cut.
    DrainThenCut,
    /// Every connection is cut, without a drain.
    Cut,
    /// The clients leave on their own.
    Leave,
}

/// The plan of a world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// For each topic of [`TOPICS`], what its rule changes.
    pub(crate) rules: [Option<Rule>; TOPICS.len()],
    pub(crate) shards: usize,
    pub(crate) topics: Vec<&'static str>,
    pub(crate) router_seed: u64,
    /// Steps before the world is brought to rest.
    pub(crate) steps: usize,
    /// The number of clients that ever connect.
    pub(crate) clients: usize,
    /// The most messages that a client queues at once.
    pub(crate) burst: usize,
    /// The most microseconds between two turns.
    pub(crate) pace_micros: usize,
    /// The number of jumps of the clock in a thousand steps.
    pub(crate) jumps: usize,
    /// The size of a host's read buffer.
    pub(crate) scratch_bytes: usize,
    /// The number of a client's frames that are decoded in one step.
    pub(crate) step_frames: usize,
    /// The number of clients flushed in a turn.
    pub(crate) flush_budget: usize,
    /// The share of clients that move to another shard, in percent of those that may.
    pub(crate) transfers: usize,
    /// The share of connections from trusted proxies, in percent.
    pub(crate) proxied: usize,
    /// The share of their clients that get no seat, in percent.
    pub(crate) unseated: usize,
    /// The share of connections that are health checks, in percent.
    pub(crate) checks: usize,
    /// The share of clients that read an event stream, in percent.
    pub(crate) streams: usize,
    /// The share of clients that post, in percent.
    pub(crate) posters: usize,
    /// The share of clients that offer to compress, in percent.
    pub(crate) compressing: usize,
    /// Messages do not shrink.
    pub(crate) is_noisy: bool,
    /// Reads pause while an inbox holds this many bytes of messages.
    pub(crate) inbox_high_water_bytes: usize,
    /// The bytes that a connection holds for a client that does not read.
    pub(crate) send_buffer_bytes: usize,
    /// A connection with any room for the client accepts a whole write, so it is full only at the end of one.
    pub(crate) is_elastic: bool,
    /// The bytes that a connection holds for a shard that does not read.
    pub(crate) receive_buffer_bytes: usize,
    /// The share of clients that misbehave, in percent.
    pub(crate) trouble: usize,
    /// The share of clients with encryption, in percent.
    pub(crate) encrypted: usize,
    /// The longest content of a record.
    pub(crate) record_bytes: usize,
    /// The number of resets in a thousand steps.
    pub(crate) resets: usize,
    /// The number of clients that shut down their side in a thousand steps.
    pub(crate) half_closes: usize,
    /// The number of clients that send Close in a thousand steps.
    pub(crate) goodbyes: usize,
    /// The number of clients that stop reading in a thousand steps.
    pub(crate) stalls: usize,
    /// The share of those that never read again, in percent.
    pub(crate) stalls_for_ever: usize,
    /// The number of hosts that are stopped in a thousand steps.
    pub(crate) pauses: usize,
    pub(crate) ending: Ending,
    /// The number of times that the relay is started again.
    pub(crate) restarts: usize,
    /// The start of the end, if it comes in the middle of other events. Otherwise the world comes to rest first.
    pub(crate) end_at: Option<EndAt>,
}

/// The end begins at this step, or at the first later one at which this is happening.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndAt {
    pub(crate) step: usize,
    pub(crate) moment: Moment,
    /// The number of steps between the start of a drain and the cut.
    pub(crate) steps_to_cut: usize,
}

/// The topics: as a client writes them, and decoded.
pub(crate) const TOPICS: [(&str, &str); 5] = [
    ("/a", "/a"),
    ("/caf%C3%A9?token=1", "/café"),
    ("/c/d", "/c/d"),
    ("/", "/"),
    ("/%65", "/e"),
];

/// The memory for what a client has sent, to which it may refer.
pub(crate) const WINDOW_BYTES: usize = 32 << 10;

/// The memory with which a topic is compressed.
const SHARED_WINDOW_BYTES: usize = 161 << 10;

/// A rule for a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) policy: SlowConsumerPolicy,
    pub(crate) echo: bool,
    pub(crate) coalesce: Duration,
}

/// The path of health checks.
pub(crate) const HEALTH_PATH: &str = "/check";

/// Moments at which worlds seldom end by chance, so they are chosen more often.
const RARE: [Moment; 5] = [
    Moment::Transfer,
    Moment::Join,
    Moment::Hold,
    Moment::Wait,
    Moment::CloseAwaited,
];

/// The longest life of a world, in the clock of its hosts.
const LIFE: Duration = Duration::from_hours(24_000);

impl Plan {
    /// Whether topics keep messages.
    pub(crate) fn has_history(&self) -> bool {
        !self.config.history.max_age.is_zero()
    }

    /// The settings of a topic, by its rule or in general.
    pub(crate) fn rule(&self, topic: usize) -> Rule {
        let config = &self.config;
        let name = self.topics[topic];
        let mut rules = TOPICS.into_iter().zip(self.rules);
        let rule = rules.find_map(|((_, other), rule)| rule.filter(|_| other == name));
        rule.unwrap_or(Rule {
            policy: config.slow_consumer.policy,
            echo: config.relay.echo,
            coalesce: config.relay.coalesce,
        })
    }

    /// Whether some topic skips messages.
    pub(crate) fn is_lossy(&self) -> bool {
        let mut topics = 0..self.topics.len();
        topics.any(|topic| self.rule(topic).policy == SlowConsumerPolicy::Drop)
    }

    /// The most that the memory of a message can be, divided by its cost as a frame. An event has names around each line.
    pub(crate) fn growth(&self) -> usize {
        // Compressed frames stand beside the plain ones.
        let compressed = usize::from(self.config.compression.enabled);
        if self.streams > 0 {
            10 + compressed
        } else {
            1 + compressed
        }
    }

    /// Whether what is kept has no limit that a world reaches.
    pub(crate) fn keeps_everything(&self) -> bool {
        let history = &self.config.history;
        let room = self.config.limits.max_buffered_bytes / self.shards;
        history.max_age >= LIFE
            && history.max_messages == 0
            && history.max_bytes.min(room) >= 1 << 30
    }

    pub(crate) fn draw(rng: &mut Rng) -> Plan {
        let ending = rng.pick(&[
            Ending::Drain,
            Ending::Drain,
            Ending::DrainThenCut,
            Ending::Cut,
            Ending::Leave,
            Ending::Leave,
        ]);
        let steps = rng.pick(&[200, 800, 2_500]);
        let topics = TOPICS.map(|(_, name)| name);
        let shards = rng.within(1..=4);
        let mut config = config(shards, rng);
        let rules = rules(&mut config, rng);
        let lag = config.slow_consumer.max_lag_bytes;
        let message = config.limits.max_message_bytes;
        let scratch_bytes = rng.pick(&[16, 256, 2 << 10, 16 << 10, 128 << 10]);
        let plan = Plan {
            shards,
            topics: topics[..rng.pick(&[1, 1, 2, 3, topics.len()])].to_vec(),
            router_seed: rng.next(),
            clients: rng.pick(&[3, 6, 12, 24, 40]),
            burst: rng.pick(&[1, 4, 25]),
            pace_micros: rng.pick(&[3, 30, 300, 3_000]),
            jumps: rng.pick(&[0, 2, 5, 15]),
            scratch_bytes,
            step_frames: rng.pick(&[1, 2, 5, 1024]),
            flush_budget: rng.pick(&[1, 2, 3, 8, 512]),
            transfers: rng.pick(&[0, 50, 100]),
            proxied: rng.pick(&[0, 50, 100]),
            unseated: rng.pick(&[0, 0, 0, 20]),
            checks: rng.pick(&[0, 0, 10]),
            streams: rng.pick(&[0, 20, 50]),
            posters: rng.pick(&[0, 0, 20, 40]),
            compressing: rng.pick(&[0, 50, 100]),
            is_noisy: rng.percent(8),
            inbox_high_water_bytes: rng.pick(&[lag / 4, lag, 8 << 20]),
            send_buffer_bytes: rng
                .pick(&[64, 1 << 10, 8 << 10, 64 << 10])
                .max(message / 64),
            is_elastic: rng.percent(40),
            receive_buffer_bytes: rng.pick(&[100, 2 << 10, 64 << 10]),
            trouble: rng.pick(&[0, 5, 5, 30]),
            encrypted: rng.pick(&[0, 30, 50, 100]),
            record_bytes: rng.pick(&[16, 64, 200, 512]),
            resets: rng.pick(&[0, 1, 3, 10]),
            half_closes: rng.pick(&[0, 1, 2, 8]),
            goodbyes: rng.pick(&[0, 1, 5]),
            stalls: rng.pick(&[0, 3, 20]),
            stalls_for_ever: rng.pick(&[0, 5, 30]),
            pauses: rng.pick(&[0, 2, 10]),
            end_at: (ending != Ending::Leave && rng.percent(75)).then(|| EndAt {
                step: rng.below(steps),
                moment: if rng.percent(40) {
                    rng.pick(&RARE)
                } else {
                    rng.pick(&Moment::ALL)
                },
                steps_to_cut: rng.pick(&[0, 3, 20, 60]),
            }),
            steps,
            ending,
            restarts: if config.history.max_age.is_zero() {
                0
            } else {
                rng.pick(&[0, 1, 1, 2])
            },
            config,
            rules,
        };
        if rng.percent(6) {
            return plan.of_patience();
        }
        if plan.config.compression.enabled && rng.percent(10) {
            return plan.of_windows();
        }
        if plan.config.compression.enabled && rng.percent(18) {
            return plan.of_shared_windows(rng);
        }
        plan
    }

    /// Many clients of one shard refer to earlier messages, and there is memory for two of them.
    fn of_windows(mut self) -> Plan {
        let limits = &mut self.config.limits;
        let least = 2 * self.config.slow_consumer.max_lag_bytes;
        limits.max_buffered_bytes = least.max(32 * 2 * WINDOW_BYTES);
        Plan {
            shards: 1,
            clients: self.clients.max(12),
            compressing: 100,
            streams: 0,
            posters: 0,
            ..self
        }
    }

    /// Most clients take compressed frames. There are windows for one or two topics.
    fn of_shared_windows(mut self, rng: &mut Rng) -> Plan {
        let windows = rng.pick(&[1, 1, 2]) * self.shards;
        let least = 2 * self.config.slow_consumer.max_lag_bytes * self.shards;
        let limits = &mut self.config.limits;
        limits.max_buffered_bytes = least.max(32 * windows * SHARED_WINDOW_BYTES);
        self.config.compression.min_members = 1;
        Plan {
            clients: self.clients.max(12),
            compressing: rng.pick(&[60, 90]),
            streams: rng.pick(&[0, 10]),
            posters: 0,
            burst: 25,
            steps: 2_500,
            is_noisy: rng.percent(35),
            trouble: rng.pick(&[0, 5]),
            checks: 0,
            end_at: None,
            ..self
        }
    }

    /// Topics wait for stalled clients longer than requests wait for topics.
    fn of_patience(mut self) -> Plan {
        self.config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
        self.config.topics.clear();
        self.rules = [None; TOPICS.len()];
        self.config.slow_consumer.stall_timeout = Duration::from_mins(1);
        self.config.keepalive.ping_interval = Duration::ZERO;
        Plan {
            topics: vec![self.topics[0]],
            posters: 60,
            stalls: 20,
            stalls_for_ever: 30,
            jumps: 15,
            send_buffer_bytes: 1 << 10,
            ..self
        }
    }
}

fn config(shards: usize, rng: &mut Rng) -> Config {
    let mut config = Config::default();
    let is_large = rng.percent(12);
    let message = if is_large {
        rng.within(70 << 10..=140 << 10)
    } else {
        rng.pick(&[200, 1 << 10, 2 << 10, 8 << 10])
    };
    config.limits.max_message_bytes = message;
    config.limits.max_header_bytes = 1 << 10;
    config.server.health_path = Some(HEALTH_PATH.into());
    config.relay.echo = rng.percent(65);
    config.relay.topics = if rng.percent(90) {
        Topics::Path
    } else {
        Topics::Single
    };
    config.relay.coalesce =
        rng.pick(&[0, 50, 200, 500, 5_000, 1_000_000].map(Duration::from_micros));
    config.slow_consumer.policy = rng.pick(&[
        SlowConsumerPolicy::Disconnect,
        SlowConsumerPolicy::Drop,
        SlowConsumerPolicy::Backpressure,
    ]);
    config.slow_consumer.max_lag_bytes = 2 * message * rng.pick(&[1, 2, 8]);
    // A shard's share must be at least two lags.
    config.limits.max_buffered_bytes =
        2 * config.slow_consumer.max_lag_bytes * rng.pick(&[1, 1, 8, 1_000]);
    let is_hasty = rng.percent(35);
    let millis = |rng: &mut Rng| {
        let span = if is_hasty { 20..=400 } else { 1_000..=20_000 };
        Duration::from_millis(rng.within(span) as u64)
    };
    config.slow_consumer.stall_timeout = millis(rng);
    config.server.handshake_timeout = millis(rng);
    config.keepalive.ping_interval = if rng.percent(30) {
        Duration::ZERO
    } else {
        millis(rng)
    };
    config.keepalive.pong_timeout = millis(rng);
    config.shutdown.spread = Duration::from_millis(rng.pick(&[0, 0, 2, 200, 5_000]));
    if rng.percent(35) {
        keep_history(&mut config, rng);
    }
    if rng.percent(60) {
        compress(&mut config, shards, rng);
    }
    config
}

/// Clients may compress, and the relay may. Often there is memory for some topics to be compressed, or for some clients to refer
/// to earlier messages, and not for all.
fn compress(config: &mut Config, shards: usize, rng: &mut Rng) {
    config.compression.enabled = true;
    config.compression.min_members = rng.pick(&[1, 1, 2, 4]);
    if rng.percent(25) {
        let windows = rng.pick(&[1, 1, 2, 4]);
        let limits = &mut config.limits;
        limits.max_buffered_bytes = limits
            .max_buffered_bytes
            .max(32 * shards * windows * SHARED_WINDOW_BYTES);
    } else if rng.percent(70) {
        let windows = rng.pick(&[2, 2, 2, 4]);
        let limits = &mut config.limits;
        limits.max_buffered_bytes = limits
            .max_buffered_bytes
            .max(32 * shards * windows * WINDOW_BYTES);
    }
}

/// Rules for some of the topics, in the configuration and as the model knows them. The last one is never reached.
fn rules(config: &mut Config, rng: &mut Rng) -> [Option<Rule>; TOPICS.len()] {
    let mut rules = [None; TOPICS.len()];
    if rng.percent(60) {
        return rules;
    }
    let mut text = String::from("topics:\n");
    for (index, (path, _)) in TOPICS.into_iter().enumerate() {
        if rng.percent(40) {
            continue;
        }
        let (word, policy) = rng.pick(&[
            ("disconnect", SlowConsumerPolicy::Disconnect),
            ("drop", SlowConsumerPolicy::Drop),
            ("backpressure", SlowConsumerPolicy::Backpressure),
        ]);
        // A client that counts gets its own messages, too.
        let echo = !config.history.max_age.is_zero() || rng.percent(65);
        let coalesce = Duration::from_micros(rng.pick(&[0, 200, 5_000]));
        rules[index] = Some(Rule {
            policy,
            echo,
            coalesce,
        });
        let (pattern, _query) = path.split_once('?').unwrap_or((path, ""));
        let micros = coalesce.as_micros();
        let rule = format!(
            "- {{match: '{pattern}', echo: {echo}, coalesce: {micros}us, slow_consumer: {{policy: {word}}}}}\n"
        );
        text += &rule;
    }
    text += "- {match: /nobody/**, publish: nobody}\n";
    let read = Config::from_yaml(&text, "rules");
    config.topics = read.expect("the rules are valid").topics;
    rules
}

/// Topics keep messages. A client that counts gets its own messages, too.
fn keep_history(config: &mut Config, rng: &mut Rng) {
    config.relay.echo = true;
    let lag = config.slow_consumer.max_lag_bytes;
    if rng.percent(30) {
        config.history.max_age = LIFE;
        config.history.max_bytes = 1 << 30;
        config.limits.max_buffered_bytes = 1 << 40;
        return;
    }
    config.history.max_age = rng.pick(&[1, 5, 60, 3600].map(Duration::from_secs));
    config.history.max_bytes = rng.pick(&[lag / 8, lag / 2, 2 * lag, 16 * lag]);
    config.history.max_messages = rng.pick(&[0, 0, 1, 20, 200]);
}
