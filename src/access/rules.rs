//! The rules for topics, compiled: the first rule that has a topic, and what the port does there.
//!
//! [`crate::port`] asks for each request, once its topic is known. The owner of a topic asks once, when the topic comes into
//! being ([`crate::relay::conduct`](crate::relay)).
//!
//! A reload makes new rules. A topic keeps what it began with; a request is judged by the newest.

use crate::config::{Config, Publish, Subscribe, TopicSettings};
use crate::pattern::set::PatternSet;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct TopicRules {
    patterns: PatternSet,
    /// For topics that no rule has.
    general: Rule,
    /// By the place of the rule.
    each: Box<[Rule]>,
    /// Texts that begin like the relay's own words are refused everywhere. An older topic may keep messages, although none
    /// would by these rules.
    reserves_all: bool,
    /// The most that clients without a token may do somewhere.
    most_open: Publish,
    /// A token helps to publish somewhere.
    has_token_to_publish: bool,
}

/// The part of a topic's settings that the port looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The clients that may hear the topic.
    pub subscribe: Subscribe,
    /// The clients that may send messages to it.
    pub publish: Publish,
    /// Whether it keeps messages.
    pub keeps_history: bool,
    /// The longest message in bytes.
    pub max_message_bytes: usize,
    /// Whether clients may compress.
    pub compresses: bool,
}

impl Rule {
    fn new(settings: &TopicSettings) -> Rule {
        Rule {
            subscribe: settings.subscribe,
            publish: settings.publish,
            keeps_history: !settings.history.max_age.is_zero(),
            max_message_bytes: settings.max_message_bytes,
            compresses: settings.compression.enabled,
        }
    }
}

impl TopicRules {
    /// The rules of a configuration.
    pub(crate) fn new(config: &Config) -> TopicRules {
        let general = Rule::new(&config.general_settings());
        let each: Box<[Rule]> = config
            .settings_by_rule()
            .map(|settings| Rule::new(&settings))
            .collect();
        let by_openness = [Publish::Everyone, Publish::Token];
        let publishers = || each.iter().chain([&general]).map(|rule| rule.publish);
        let is_there = |open| publishers().any(|publish| publish == open);
        let most_open = by_openness.into_iter().find(|&open| is_there(open));
        TopicRules {
            has_token_to_publish: is_there(Publish::Token),
            patterns: config.rule_patterns(),
            most_open: most_open.unwrap_or(Publish::Nobody),
            general,
            each,
            reserves_all: false,
        }
    }

    /// The same in the place of older rules, by which topics may still live.
    #[must_use]
    pub(crate) fn after(mut self, older: &TopicRules) -> TopicRules {
        self.reserves_all = older.reserves_all || older.all().any(|rule| rule.keeps_history);
        self
    }

    fn all(&self) -> impl Iterator<Item = &Rule> {
        self.each.iter().chain([&self.general])
    }

    /// The place of the first rule that has a topic; `None` if none has it.
    pub(crate) fn place(&self, topic: &str) -> Option<usize> {
        self.patterns.first(topic)
    }

    /// The rule for a topic.
    pub(crate) fn of(&self, topic: &str) -> &Rule {
        match self.place(topic) {
            Some(place) => &self.each[place],
            None => &self.general,
        }
    }

    /// The rule for topics that no rule has.
    pub(crate) fn general(&self) -> &Rule {
        &self.general
    }

    /// Whether nobody may send a topic a text that begins like the relay's own words.
    pub(crate) fn reserves_texts(&self, topic: &str) -> bool {
        self.reserves_all || self.of(topic).keeps_history
    }

    /// The clients that may publish somewhere: the most that some rule allows.
    pub(crate) fn most_open(&self) -> Publish {
        self.most_open
    }

    /// Whether a token helps to publish somewhere.
    pub(crate) fn has_token_to_publish(&self) -> bool {
        self.has_token_to_publish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> TopicRules {
        TopicRules::new(&Config::from_yaml(text, "test.yaml").unwrap())
    }

    #[test]
    fn the_first_rule_that_has_a_topic_counts_and_leaves_the_rest_general() {
        let rules = rules(
            "access: {publish: nobody}\nlimits: {max_message_bytes: 2000}\ntopics:\n\
             - {match: /a/b, publish: everyone}\n- {match: /a/*, max_message_bytes: 1000}\n\
             - {match: /**, history: {max_age: 1m}}",
        );
        let of = |topic| {
            let rule = rules.of(topic);
            (rule.publish, rule.max_message_bytes, rule.keeps_history)
        };
        assert_eq!(of("/a/b"), (Publish::Everyone, 2000, false));
        assert_eq!(of("/a/c"), (Publish::Nobody, 1000, false));
        assert_eq!(of("/a"), (Publish::Nobody, 2000, true));
        assert_eq!(rules.most_open(), Publish::Everyone);
        assert!(!rules.has_token_to_publish());
    }

    #[test]
    fn a_rule_is_written_as_a_path_is() {
        let rules = rules(
            "topics: [{match: /caf%C3%A9/a%2Fb, publish: nobody}, {match: /café/**, echo: false}]",
        );
        assert_eq!(rules.place("/café/a/b"), Some(0));
        assert_eq!(rules.place("/café"), Some(1));
        assert_eq!(rules.place("/caf%C3%A9"), None);
    }

    #[test]
    fn a_topic_that_lives_on_from_older_rules_may_keep_messages() {
        let older = rules("topics: [{match: /a, history: {max_age: 1m}}]");
        assert!(older.reserves_texts("/a") && !older.reserves_texts("/b"));
        let none = rules("{}");
        assert!(!none.reserves_texts("/a"));
        let newer = none.after(&older);
        assert!(newer.reserves_texts("/a") && rules("{}").after(&newer).reserves_texts("/a"));
    }
}
