//! The answer to `--explain`: the rule for a topic, and the settings that it has.
//!
//! The answer is YAML, in the words of a rule. A comment marks each value that comes from the rule.

use std::fmt::Write as _;

use serde::Serialize;
use serde_yaml::Value;

use super::suggest;
use super::types::Config;
use crate::secrecy::{Kind, quoted};

impl Config {
    /// The rule for the topic with this decoded name, and its settings, as text of several lines.
    pub fn explain(&self, topic: &str) -> String {
        // A name may have line feeds in it, and a comment ends at one.
        let printable: String = topic.chars().flat_map(escape).collect();
        let shown = quoted(&printable, Kind::Name);
        if self.server.health_path.as_deref() == Some(topic) {
            return format!("# {shown} is server.health_path, and no topic\n");
        }
        let general = self.general_settings();
        let Some(index) = self.rule_patterns().first(topic) else {
            let reason = if self.topics.is_empty() {
                "there are no rules"
            } else {
                "no rule has it"
            };
            let mut text = format!("# {shown}: {reason}, so the general settings apply\n");
            write_lines(&mut text, &value_of(&general), "", &|_| None);
            return text;
        };
        let rule = &self.topics[index];
        let pattern = rule.pattern.to_string();
        let pattern = quoted(&pattern, Kind::Name);
        let mut text = format!("# {shown}: topics[{index}] applies, the rule for {pattern}\n");
        let own = value_of(rule);
        let is_own = |key: &str| {
            let value = key.split('.').try_fold(&own, |value, name| value.get(name));
            value.map(|_| index)
        };
        write_lines(&mut text, &value_of(&general.with(rule)), "", &is_own);
        text
    }
}

/// The character, or an escape for one that is not printed.
fn escape(character: char) -> impl Iterator<Item = char> {
    let is_control = character.is_control();
    let escaped = character.escape_default().filter(move |_| is_control);
    escaped.chain((!is_control).then_some(character))
}

/// Writes the keys of a mapping in `section`, with a comment at those that a rule sets.
fn write_lines(
    text: &mut String,
    value: &Value,
    section: &str,
    rule_of: &dyn Fn(&str) -> Option<usize>,
) {
    let Value::Mapping(mapping) = value else {
        return;
    };
    let indent = if section.is_empty() { "" } else { "  " };
    for (name, value) in mapping {
        let name = name.as_str().unwrap_or_default();
        let key = suggest::join(section, name);
        match value {
            // The file is the same for all topics.
            Value::Null => {}
            Value::Mapping(_) => {
                *text += name;
                *text += ":\n";
                write_lines(text, value, &key, rule_of);
            }
            _ => {
                let value = serde_yaml::to_string(value).expect("a plain value can be written");
                let end = match rule_of(&key) {
                    Some(index) => format!("  # topics[{index}]"),
                    None => String::new(),
                };
                // Writing to a string does not fail.
                let _ = writeln!(text, "{indent}{name}: {}{end}", value.trim_end());
            }
        }
    }
}

fn value_of(settings: &impl Serialize) -> Value {
    serde_yaml::to_value(settings).expect("plain numbers and words can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "relay: {publish: nobody}\ntopics:\n- {match: '/prices/**', publish: everyone, history: {max_age: 5m}, \
                        slow_consumer: {policy: drop}}\n- {match: '/**', subscribe: everyone}\n";

    #[test]
    fn each_value_of_the_rule_is_marked_and_the_rest_is_general() {
        let config = Config::from_yaml(TEXT, "test.yaml").unwrap();
        assert_eq!(
            config.explain("/prices/eu"),
            "# `/prices/eu`: topics[0] applies, the rule for `/prices/**`\n\
             subscribe: everyone\n\
             publish: everyone  # topics[0]\n\
             echo: true\n\
             coalesce: 2ms\n\
             max_message_bytes: 1MiB\n\
             history:\n\
             \x20 max_age: 5m  # topics[0]\n\
             \x20 max_bytes: 1MiB\n\
             \x20 max_messages: 0\n\
             compression:\n\
             \x20 enabled: false\n\
             \x20 min_members: 20\n\
             slow_consumer:\n\
             \x20 policy: drop  # topics[0]\n\
             \x20 max_lag_bytes: 4MiB\n\
             \x20 stall_timeout: 15s\n\
             \x20 close_timeout: 5s\n"
        );
        assert!(config.explain("/other").contains("\npublish: nobody\n"));
    }

    #[test]
    fn a_topic_without_a_rule_has_the_general_settings() {
        let mut config = Config::default();
        let text = config.explain("/a");
        assert!(text.starts_with(
            "# `/a`: there are no rules, so the general settings apply\nsubscribe: everyone\n"
        ));
        config.topics = Config::from_yaml("topics: [{match: /b, echo: false}]", "test.yaml")
            .unwrap()
            .topics;
        config.server.health_path = Some("/healthz".into());
        assert!(
            config
                .explain("/a")
                .starts_with("# `/a`: no rule has it, so")
        );
        assert_eq!(
            config.explain("/healthz"),
            "# `/healthz` is server.health_path, and no topic\n"
        );
        assert!(
            config
                .explain("/b\nc")
                .starts_with("# `/b\\nc`: no rule has it")
        );
    }
}
