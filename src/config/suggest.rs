//! Finds the key or word that an operator meant by a misspelt one.
//!
//! [`super::explain`] calls it. The keys come from the serialized default configuration, so there is no second list to
//! maintain.

use serde_yaml::Value;

use super::types::Config;
use crate::secrecy::{Kind, may_be_secret};

/// The least similarity, from 0 to 1, to suggest one name for another. `prt` and `port` are (0.75); `host` and
/// `port` are not (0.5).
const MIN_LIKENESS: f64 = 0.65;

/// The least similarity of whole paths. They are longer, so other keys of the same section are similar, too.
const LIKE_PATH: f64 = 0.8;

/// Every key with its sections, such as `server.port`, in file order.
pub(super) fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    collect_keys("", &default_values(), &mut keys);
    keys
}

fn collect_keys(section: &str, value: &Value, keys: &mut Vec<String>) {
    let Value::Mapping(mapping) = value else {
        return;
    };
    for (name, value) in mapping {
        let Value::String(name) = name else {
            continue;
        };
        let key = join(section, name);
        keys.push(key.clone());
        collect_keys(&key, value, keys);
    }
}

/// Every key that has a value, and is not a section, with its default.
pub(super) fn defaults() -> Vec<(String, Value)> {
    let defaults = default_values();
    let value_of = |key: &str| {
        key.split('.')
            .try_fold(&defaults, |value, name| value.get(name))
    };
    let keys = known_keys().into_iter().filter_map(|key| {
        let value = value_of(&key)?.clone();
        (!value.is_mapping()).then_some((key, value))
    });
    keys.collect()
}

fn default_values() -> Value {
    serde_yaml::to_value(Config::default()).expect("the defaults are plain numbers and words")
}

/// The path of the key `name` in `section`, which is empty at the top level.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

/// The key that `name` in `section` was meant to be: the name of a key in that section, or else the path of a key in
/// another one.
pub(super) fn key_for(section: &str, name: &str) -> Option<String> {
    let keys = known_keys();
    let siblings = keys.iter().filter_map(|key| in_section(section, key));
    if let Some(sibling) = closest(name, siblings, |key| key) {
        return Some(sibling.to_owned());
    }
    closest(name, keys.iter().map(String::as_str), last_segment).map(str::to_owned)
}

/// The whole path of the key that `path` was meant to be. Its sections may be misspelt, too.
pub(super) fn path_for(path: &str) -> Option<String> {
    let keys = known_keys();
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings = keys
        .iter()
        .map(String::as_str)
        .filter(|key| in_section(section, key).is_some());
    let paths = || keys.iter().map(String::as_str);
    closest(name, siblings, last_segment)
        .or_else(|| {
            closest(path, paths(), |key| key).filter(|key| likeness(path, key) >= LIKE_PATH)
        })
        .or_else(|| closest(name, paths(), last_segment))
        .map(str::to_owned)
}

/// Whether two names join the same words: `certFile` and `cert_file`.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    bare(one) == bare(other)
}

/// Whether an error may show the path of an unknown key, which was perhaps `meant` to be a known one. It may not if a part
/// of it may be a secret.
pub(super) fn may_be_shown(path: &str, meant: Option<&str>) -> bool {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let is_public = |name| !may_be_secret(name, Kind::Key);
    let is_like = |meant| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        name.bytes().all(is_plain) && likeness(name, last_segment(meant)) > MIN_LIKENESS
    };
    section.split(['.', '[', ']']).all(is_public) && (is_public(name) || meant.is_some_and(is_like))
}

/// The names of the keys directly in `section`.
pub(super) fn names_in(section: &str) -> Vec<String> {
    let keys = known_keys();
    keys.iter()
        .filter_map(|key| in_section(section, key))
        .map(str::to_owned)
        .collect()
}

/// The one of `words` that `word` was meant to be.
pub(super) fn word_for<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    closest(word, words.iter().copied(), |word| word)
}

fn in_section<'a>(section: &str, key: &'a str) -> Option<&'a str> {
    let name = if section.is_empty() {
        key
    } else {
        key.strip_prefix(section)?.strip_prefix('.')?
    };
    (!name.contains('.')).then_some(name)
}

fn last_segment(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The candidate whose name is most similar to `word`; of equals, the first.
fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
    name_of: impl Fn(&'a str) -> &'a str,
) -> Option<&'a str> {
    let mut best = None;
    let mut best_likeness = MIN_LIKENESS;
    for candidate in candidates {
        let likeness = likeness(word, name_of(candidate));
        if likeness > best_likeness {
            (best, best_likeness) = (Some(candidate), likeness);
        }
    }
    best
}

/// The similarity of two names, from 0 to 1. It ignores case and separators: `maxConnections` is `max_connections`.
fn likeness(one: &str, other: &str) -> f64 {
    let (one, other) = (bare(one), bare(other));
    // The time grows with both lengths, and keys are short.
    if one.len() > 64 {
        return 0.0;
    }
    strsim::normalized_damerau_levenshtein(&one, &other)
}

fn bare(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_configuration() {
        let keys = known_keys();
        for key in [
            "server",
            "server.port",
            "server.tls.cert_file",
            "slow_consumer.policy",
            "log.format",
        ] {
            assert!(
                keys.iter().any(|known| known == key),
                "{key} is missing from {keys:?}"
            );
        }
    }

    #[test]
    fn a_typing_mistake_is_recognised() {
        for (section, name, meant) in [
            ("server", "prt", "port"),
            ("", "sever", "server"),
            ("limits", "max_mesage_bytes", "max_message_bytes"),
            ("server.tls", "cert_fil", "cert_file"),
            ("keepalive", "ping_intreval", "ping_interval"),
        ] {
            assert_eq!(key_for(section, name).as_deref(), Some(meant), "for {name}");
        }
    }

    #[test]
    fn another_way_of_joining_words_is_recognised() {
        for name in ["maxConnections", "max-connections", "MAX_CONNECTIONS"] {
            assert_eq!(
                key_for("server", name).as_deref(),
                Some("max_connections"),
                "for {name}"
            );
        }
    }

    #[test]
    fn a_key_in_the_wrong_section_is_named_with_its_own() {
        assert_eq!(key_for("", "port").as_deref(), Some("server.port"));
        assert_eq!(
            key_for("server", "max_message_bytes").as_deref(),
            Some("limits.max_message_bytes")
        );
        assert_eq!(key_for("", "tls").as_deref(), Some("server.tls"));
    }

    #[test]
    fn nothing_is_suggested_for_a_name_that_resembles_no_key() {
        assert_eq!(key_for("server", "zzz"), None);
        assert_eq!(key_for("server", &"port".repeat(100_000)), None);
    }

    #[test]
    fn words_are_suggested_by_the_same_measure() {
        assert_eq!(
            word_for("dsconnect", &["disconnect", "drop"]),
            Some("disconnect")
        );
        assert_eq!(word_for("JSON", &["text", "json"]), Some("json"));
        assert_eq!(word_for("explode", &["disconnect", "drop"]), None);
    }
}
