//! The settings of a topic, general or by its rule, and the checks of the rules.
//!
//! The checks are the general ones, with the rule's values in the place of the general ones. So a rule can be neither larger nor
//! stranger than a configuration without rules.

use std::time::Duration;

use serde::Serialize;

use super::choices::{Publish, Subscribe};
use super::error::ConfigError;
use super::rules::TopicRule;
use super::types::{Compression, Config, History, SlowConsumer, Topics};
use super::units;
use super::warnings::Warning;
use crate::pattern::set::{Covered, PatternSet};
use crate::secrecy::{Kind, quoted};

/// The most rules.
const MAX_RULES: usize = 10_000;
/// The most warnings about rules. More would hide the others.
const MAX_WARNINGS: usize = 10;

/// The settings of a topic: the general ones, or those of its rule in their place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TopicSettings {
    /// The clients that may hear it.
    pub subscribe: Subscribe,
    /// The clients that may send messages.
    pub publish: Publish,
    /// Whether senders receive their own messages.
    pub echo: bool,
    /// The shortest time between two fan-outs.
    #[serde(with = "units::duration")]
    pub coalesce: Duration,
    /// The largest message in bytes.
    #[serde(with = "units::size")]
    pub max_message_bytes: usize,
    /// How much is kept. The file is the same for all topics, and not here.
    pub history: History,
    /// Compression.
    pub compression: Compression,
    /// The treatment of slow clients.
    pub slow_consumer: SlowConsumer,
}

impl TopicSettings {
    /// These settings, with a rule over them.
    pub(super) fn with(&self, rule: &TopicRule) -> TopicSettings {
        let (history, slow) = (&rule.history, &rule.slow_consumer);
        TopicSettings {
            subscribe: rule.subscribe.unwrap_or(self.subscribe),
            publish: rule.publish.unwrap_or(self.publish),
            echo: rule.echo.unwrap_or(self.echo),
            coalesce: rule.coalesce.unwrap_or(self.coalesce),
            max_message_bytes: rule.max_message_bytes.unwrap_or(self.max_message_bytes),
            history: History {
                max_age: history.max_age.unwrap_or(self.history.max_age),
                max_bytes: history.max_bytes.unwrap_or(self.history.max_bytes),
                max_messages: history.max_messages.unwrap_or(self.history.max_messages),
                file: None,
            },
            compression: Compression {
                enabled: rule.compression.enabled.unwrap_or(self.compression.enabled),
                min_members: (rule.compression.min_members).unwrap_or(self.compression.min_members),
            },
            slow_consumer: SlowConsumer {
                policy: slow.policy.unwrap_or(self.slow_consumer.policy),
                max_lag_bytes: slow
                    .max_lag_bytes
                    .unwrap_or(self.slow_consumer.max_lag_bytes),
                stall_timeout: slow
                    .stall_timeout
                    .unwrap_or(self.slow_consumer.stall_timeout),
                close_timeout: slow
                    .close_timeout
                    .unwrap_or(self.slow_consumer.close_timeout),
            },
        }
    }
}

impl Config {
    /// The settings of a topic that no rule has.
    pub(crate) fn general_settings(&self) -> TopicSettings {
        TopicSettings {
            subscribe: self.access.subscribe,
            publish: self.publish(),
            echo: self.relay.echo,
            coalesce: self.relay.coalesce,
            max_message_bytes: self.limits.max_message_bytes,
            history: History {
                file: None,
                ..self.history.clone()
            },
            compression: self.compression.clone(),
            slow_consumer: self.slow_consumer.clone(),
        }
    }

    /// The settings of the topics of each rule, in the order of the rules.
    pub(crate) fn settings_by_rule(&self) -> impl Iterator<Item = TopicSettings> + '_ {
        let general = self.general_settings();
        self.topics.iter().map(move |rule| general.with(rule))
    }

    /// The patterns of the rules, in their order.
    pub(crate) fn rule_patterns(&self) -> PatternSet {
        let patterns = self
            .topics
            .iter()
            .map(|rule| rule.pattern.pattern().clone());
        PatternSet::new(patterns.collect())
    }

    /// Whether some topic keeps messages.
    pub(crate) fn keeps_history(&self) -> bool {
        let by_rule = self.topics.iter().filter_map(|rule| rule.history.max_age);
        let ages = std::iter::once(self.history.max_age).chain(by_rule);
        ages.into_iter().any(|age| !age.is_zero())
    }

    /// Whether a rule needs a token of those who publish.
    pub(super) fn has_rule_with_token(&self) -> bool {
        self.topics
            .iter()
            .any(|rule| rule.publish == Some(Publish::Token))
    }

    /// The largest `max_message_bytes`, of the section `limits` and of all rules.
    pub(crate) fn largest_message_bytes(&self) -> usize {
        let by_rule = self.topics.iter().filter_map(|rule| rule.max_message_bytes);
        by_rule.fold(self.limits.max_message_bytes, usize::max)
    }

    /// The largest `max_lag_bytes`, of the section `slow_consumer` and of all rules.
    pub(super) fn largest_lag_bytes(&self) -> usize {
        let by_rule = self
            .topics
            .iter()
            .filter_map(|rule| rule.slow_consumer.max_lag_bytes);
        by_rule.fold(self.slow_consumer.max_lag_bytes, usize::max)
    }

    /// Checks the rules, each as if its values were the general ones. These are valid.
    pub(super) fn validate_topics(&self) -> Result<(), ConfigError> {
        if self.topics.is_empty() {
            return Ok(());
        }
        if self.topics.len() > MAX_RULES {
            let problem = format!("the list has {} rules", self.topics.len());
            let fix = format!("use at most {MAX_RULES}; a pattern can have many topics");
            return Err(ConfigError::new(problem, fix).of_key("topics"));
        }
        let mut config = Config {
            topics: Vec::new(),
            ..self.clone()
        };
        let settings = self.settings_by_rule();
        for (index, (rule, settings)) in self.topics.iter().zip(settings).enumerate() {
            self.check_needs_of(rule)
                .and_then(|()| check_effects(rule, &settings))
                .and_then(|()| {
                    settings.put_into(&mut config);
                    config.validate_of_topic()
                })
                .map_err(|error| of_rule(error, index, rule))?;
        }
        Ok(())
    }

    /// Refuses a rule by which nobody could do something.
    fn check_needs_of(&self, rule: &TopicRule) -> Result<(), ConfigError> {
        const FIX: &str = "name the keys of your tokens in access.keys or access.jwks_file, or set access.grants_header";
        if self.access.has_keys() || self.access.grants_header {
            return Ok(());
        }
        if rule.subscribe == Some(Subscribe::Token) {
            let problem =
                "it is token, but there are no keys for tokens: no client could hear the topic";
            return Err(ConfigError::new(problem, FIX).of_key("access.subscribe"));
        }
        if rule.publish == Some(Publish::Token) && self.relay.publish_tokens.is_empty() {
            let problem = "it is token, but there are no keys for tokens and no relay.publish_tokens: no client could send \
                           to the topic";
            return Err(ConfigError::new(problem, FIX).of_key("access.publish"));
        }
        Ok(())
    }

    /// The warnings about rules that have no effect.
    pub(super) fn rule_warnings(&self) -> Vec<Warning> {
        let set = self.rule_patterns();
        let is_single = self.relay.topics == Topics::Single;
        let problem_of = |index: usize| {
            let rule = &self.topics[index];
            let name = |index: usize| {
                let pattern = self.topics[index].pattern.to_string();
                format!("topics[{index}] ({})", quoted(&pattern, Kind::Name))
            };
            if is_single && !rule.pattern.pattern().matches("/") {
                return Some("relay.topics is single, so `/` is the only topic".to_owned());
            }
            if self
                .server
                .health_path
                .as_deref()
                .is_some_and(|path| rule.pattern.pattern().is_only(path))
            {
                return Some("this is server.health_path, which is not a topic".to_owned());
            }
            match set.cover(index)? {
                Covered::By(earlier) => Some(format!(
                    "{}, which comes first, has all its topics",
                    name(earlier)
                )),
                Covered::Together(earlier) => Some(format!(
                    "earlier rules have all its topics together, {} among them",
                    name(earlier)
                )),
            }
        };
        let idle = (0..self.topics.len()).filter_map(|index| Some((index, problem_of(index)?)));
        let mut idle = idle.fuse();
        let mut warnings: Vec<Warning> = idle
            .by_ref()
            .take(MAX_WARNINGS)
            .map(|(index, problem)| {
                let key = format!("topics[{index}]");
                let pattern = self.topics[index].pattern.to_string();
                let pattern = quoted(&pattern, Kind::Name);
                let problem = format!(
                    "the rule for {pattern} has no effect: {problem}; remove it, or move it up"
                );
                Warning::about([&key], problem)
            })
            .collect();
        let more = idle.count();
        if more > 0 {
            let problem = format!("{more} more rules have no effect");
            warnings.push(Warning::about(["topics"], problem));
        }
        warnings
    }
}

impl TopicSettings {
    /// Makes them the general settings. The rights of clients are not among them, because they are checked for each rule.
    fn put_into(&self, config: &mut Config) {
        config.relay.echo = self.echo;
        config.relay.coalesce = self.coalesce;
        config.limits.max_message_bytes = self.max_message_bytes;
        config.history = self.history.clone();
        config.slow_consumer = self.slow_consumer.clone();
        config.compression = self.compression.clone();
    }
}

/// Refuses limits on a history that is off.
fn check_effects(rule: &TopicRule, settings: &TopicSettings) -> Result<(), ConfigError> {
    if !settings.history.max_age.is_zero() {
        return Ok(());
    }
    let key = if rule.history.max_bytes.is_some() {
        "history.max_bytes"
    } else if rule.history.max_messages.is_some_and(|most| most > 0) {
        "history.max_messages"
    } else {
        return Ok(());
    };
    let problem = "it has no effect, because history.max_age is 0s here: nothing is kept";
    let fix = "set history.max_age in the rule, such as to 2m, or remove it";
    Err(ConfigError::new(problem, fix).of_key(key))
}

/// Names the rule in an error about the values that it has put in the place of the general ones.
fn of_rule(error: ConfigError, index: usize, rule: &TopicRule) -> ConfigError {
    let general = error.key().unwrap_or_default().to_owned();
    let own = match general.as_str() {
        "access.subscribe" if rule.subscribe.is_some() => Some("subscribe"),
        "access.publish" if rule.publish.is_some() => Some("publish"),
        "relay.echo" if rule.echo.is_some() => Some("echo"),
        "relay.coalesce" if rule.coalesce.is_some() => Some("coalesce"),
        "limits.max_message_bytes" if rule.max_message_bytes.is_some() => Some("max_message_bytes"),
        "compression.min_members" if rule.compression.min_members.is_some() => {
            Some("compression.min_members")
        }
        "history.max_age" if rule.history.max_age.is_some() => Some("history.max_age"),
        "history.max_bytes" if rule.history.max_bytes.is_some() => Some("history.max_bytes"),
        "history.max_messages" if rule.history.max_messages.is_some() => {
            Some("history.max_messages")
        }
        key => {
            let slow = &rule.slow_consumer;
            match key {
                "slow_consumer.policy" if slow.policy.is_some() => Some("slow_consumer.policy"),
                "slow_consumer.max_lag_bytes" if slow.max_lag_bytes.is_some() => {
                    Some("slow_consumer.max_lag_bytes")
                }
                "slow_consumer.stall_timeout" if slow.stall_timeout.is_some() => {
                    Some("slow_consumer.stall_timeout")
                }
                "slow_consumer.close_timeout" if slow.close_timeout.is_some() => {
                    Some("slow_consumer.close_timeout")
                }
                _ => None,
            }
        }
    };
    let pattern = rule.pattern.to_string();
    let pattern = quoted(&pattern, Kind::Name);
    match own {
        Some(own) => error
            .introduce(format_args!("in the rule for {pattern}: "))
            .of_key(format!("topics[{index}].{own}")),
        None => error
            .introduce(format_args!("in the rule for {pattern}: {general}: "))
            .of_key(format!("topics[{index}]")),
    }
}
