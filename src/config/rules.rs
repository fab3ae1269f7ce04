//! `topics`: rules for some topics, whose values take the place of the general ones.
//!
//! [`super::file`] parses a rule. [`super::topics`] has the settings that a topic has in the end, and checks the rules. The relay
//! compiles the list of them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::choices::{Publish, SlowConsumerPolicy, Subscribe};
use super::{lists, optional};
use crate::pattern::{Pattern, PatternError};
use crate::secrecy::{Kind, quoted};

/// The longest pattern in bytes, as written. The names of topics are at most as long.
const MAX_MATCH_BYTES: usize = 512;

/// An entry of `topics`: a rule for the topics that its pattern has. A value that it leaves out is the general one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as `{match: /prices/**, publish: token}`"
)]
pub struct TopicRule {
    /// The topics that the rule is for.
    #[serde(rename = "match")]
    pub pattern: TopicPattern,
    /// The clients that may hear the topic, instead of `access.subscribe`.
    #[serde(
        default,
        deserialize_with = "optional::word",
        skip_serializing_if = "Option::is_none"
    )]
    pub subscribe: Option<Subscribe>,
    /// The clients that may send messages, instead of `access.publish` or `relay.publish`.
    #[serde(
        default,
        deserialize_with = "optional::word",
        skip_serializing_if = "Option::is_none"
    )]
    pub publish: Option<Publish>,
    /// Whether senders receive their own messages, instead of `relay.echo`.
    #[serde(
        default,
        deserialize_with = "optional::flag",
        skip_serializing_if = "Option::is_none"
    )]
    pub echo: Option<bool>,
    /// The shortest time between two fan-outs, instead of `relay.coalesce`.
    #[serde(
        default,
        deserialize_with = "optional::duration",
        serialize_with = "optional::write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub coalesce: Option<Duration>,
    /// The largest message in bytes, instead of `limits.max_message_bytes`.
    #[serde(
        default,
        deserialize_with = "optional::size",
        serialize_with = "optional::write_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_message_bytes: Option<usize>,
    /// How much is kept, instead of the section `history`.
    #[serde(default, skip_serializing_if = "HistoryRule::is_empty")]
    pub history: HistoryRule,
    /// Compression, instead of the section `compression`.
    #[serde(default, skip_serializing_if = "CompressionRule::is_empty")]
    pub compression: CompressionRule,
    /// The treatment of slow clients, instead of the section `slow_consumer`.
    #[serde(default, skip_serializing_if = "SlowConsumerRule::is_empty")]
    pub slow_consumer: SlowConsumerRule,
}

impl lists::Mapping<'_> for TopicRule {
    const LIST: &'static str = "a list such as `[{match: /prices/**, publish: token}]`";
}

/// `history` of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `max_age: 2m`"
)]
pub struct HistoryRule {
    /// Instead of `history.max_age`.
    #[serde(
        deserialize_with = "optional::duration",
        serialize_with = "optional::write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_age: Option<Duration>,
    /// Instead of `history.max_bytes`.
    #[serde(
        deserialize_with = "optional::size",
        serialize_with = "optional::write_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_bytes: Option<usize>,
    /// Instead of `history.max_messages`.
    #[serde(
        deserialize_with = "optional::count",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_messages: Option<usize>,
}

/// `compression` of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `enabled: true`"
)]
pub struct CompressionRule {
    /// Instead of `compression.enabled`.
    #[serde(
        deserialize_with = "optional::flag",
        skip_serializing_if = "Option::is_none"
    )]
    pub enabled: Option<bool>,
    /// Instead of `compression.min_members`.
    #[serde(
        deserialize_with = "optional::count",
        skip_serializing_if = "Option::is_none"
    )]
    pub min_members: Option<usize>,
}

/// `slow_consumer` of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as `policy: drop`"
)]
pub struct SlowConsumerRule {
    /// Instead of `slow_consumer.policy`.
    #[serde(
        deserialize_with = "optional::word",
        skip_serializing_if = "Option::is_none"
    )]
    pub policy: Option<SlowConsumerPolicy>,
    /// Instead of `slow_consumer.max_lag_bytes`.
    #[serde(
        deserialize_with = "optional::size",
        serialize_with = "optional::write_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_lag_bytes: Option<usize>,
    /// Instead of `slow_consumer.stall_timeout`.
    #[serde(
        deserialize_with = "optional::duration",
        serialize_with = "optional::write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub stall_timeout: Option<Duration>,
    /// Instead of `slow_consumer.close_timeout`.
    #[serde(
        deserialize_with = "optional::duration",
        serialize_with = "optional::write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub close_timeout: Option<Duration>,
}

impl HistoryRule {
    fn is_empty(&self) -> bool {
        *self == HistoryRule::default()
    }
}

impl CompressionRule {
    fn is_empty(&self) -> bool {
        *self == CompressionRule::default()
    }
}

impl SlowConsumerRule {
    fn is_empty(&self) -> bool {
        *self == SlowConsumerRule::default()
    }
}

/// The pattern of a rule. It is percent-encoded as in a URL; characters that need no encoding may stand for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
    pattern: Pattern,
}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// The text is none.
    pub fn new(text: &str) -> Result<TopicPattern, PatternError> {
        Ok(TopicPattern {
            pattern: Pattern::from_encoded(text)?,
            text: text.into(),
        })
    }

    /// The pattern.
    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

/// As it was written.
impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for TopicPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Accepts the text of a pattern.
struct Written;

impl Visitor<'_> for Written {
    type Value = TopicPattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern such as `/prices/**`, with `*` for one segment and `**` at the end for any number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<TopicPattern, E> {
        if text.len() > MAX_MATCH_BYTES {
            let found = format!("a pattern of {} bytes", text.len());
            let most = format!("at most {MAX_MATCH_BYTES} bytes");
            return Err(E::invalid_value(Unexpected::Other(&found), &most.as_str()));
        }
        TopicPattern::new(text).map_err(|error| {
            let found = format!("{}, which {error}", quoted(text, Kind::Name));
            E::invalid_value(Unexpected::Other(&found), &self)
        })
    }
}
