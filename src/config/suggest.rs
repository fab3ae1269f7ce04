//! What a misspelt key or word was meant to be.
//!
//! The keys are read off the serialized default configuration, so that there is no second list of them to forget.

use serde_yaml::Value;

use super::Config;

/// How alike two names must be, from 0 to 1, for one to be proposed in place of the other: `prt` and `port` are
/// (0.75), `host` and `port` are not (0.5).
const ALIKE: f64 = 0.65;

/// Every key with its sections, such as `server.port`, in the order of the file.
pub(super) fn known_keys() -> Vec<String> {
    let defaults =
        serde_yaml::to_value(Config::default()).expect("the defaults are plain numbers and words");
    let mut keys = Vec::new();
    collect_keys("", &defaults, &mut keys);
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

/// The key `name` in `section`, which is empty at the top.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

/// What `name`, unknown in `section`, was meant to be: a key of the section by its name alone, or else a key of
/// another section by its whole path.
pub(super) fn key_for(section: &str, name: &str) -> Option<String> {
    let keys = known_keys();
    let siblings = keys.iter().filter_map(|key| in_section(section, key));
    if let Some(sibling) = closest(name, siblings, |key| key) {
        return Some(sibling.to_owned());
    }
    closest(name, keys.iter().map(String::as_str), last_segment).map(str::to_owned)
}

/// The names of the keys that stand directly in `section`.
pub(super) fn names_in(section: &str) -> Vec<String> {
    let keys = known_keys();
    keys.iter()
        .filter_map(|key| in_section(section, key))
        .map(str::to_owned)
        .collect()
}

/// Which of `words` was meant by `word`.
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

/// The candidate whose name is most like `word`, the first of equals.
fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
    name_of: impl Fn(&'a str) -> &'a str,
) -> Option<&'a str> {
    let mut best = None;
    let mut best_likeness = ALIKE;
    for candidate in candidates {
        let likeness = likeness(word, name_of(candidate));
        if likeness > best_likeness {
            (best, best_likeness) = (Some(candidate), likeness);
        }
    }
    best
}

/// From 0 to 1, without regard to case and to how words are joined: `maxConnections` is `max_connections`.
fn likeness(one: &str, other: &str) -> f64 {
    let (one, other) = (bare(one), bare(other));
    // The distance costs time by both lengths, and nothing so long was meant to be a key.
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
    fn a_slip_of_a_letter_is_recognised() {
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
    fn nothing_is_proposed_for_what_is_like_no_key() {
        assert_eq!(key_for("server", "zzz"), None);
        assert_eq!(key_for("server", &"port".repeat(100_000)), None);
    }

    #[test]
    fn words_are_proposed_by_the_same_measure() {
        assert_eq!(
            word_for("dsconnect", &["disconnect", "drop"]),
            Some("disconnect")
        );
        assert_eq!(word_for("JSON", &["text", "json"]), Some("json"));
        assert_eq!(word_for("explode", &["disconnect", "drop"]), None);
    }
}
