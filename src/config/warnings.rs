//! Values that are allowed, but are probably not what the operator means.
//!
//! `server` adds those that do not fit the machine. `main` logs each warning at the start. With `--check`, it prints them beside
//! the answer.

use std::fmt;

use super::types::Config;
use crate::secrecy::{Kind, quoted};

/// A doubt about a valid configuration. Displays as its key, with one sentence: the problem, and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    keys: Vec<String>,
    problem: String,
}

impl Warning {
    /// The values of `keys` make the problem together. The first should be changed first.
    pub(crate) fn about<const N: usize>(keys: [&str; N], problem: impl Into<String>) -> Warning {
        const { assert!(N > 0, "a warning has a key") };
        Warning {
            keys: keys.map(str::to_owned).into(),
            problem: problem.into(),
        }
    }

    /// The keys with their sections, such as `server.port`; at least one.
    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The problem, and the fix.
    pub(super) fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.keys[0], self.problem)
    }
}

impl Config {
    /// The warnings about a valid configuration, on any machine.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let origins = self.server.allowed_origins.iter().enumerate();
        let words = origins.filter(|(_, origin)| origin.is_one_word());
        let words = words
            .map(|(at, word)| {
                let key = format!("server.allowed_origins[{at}]");
                let word = quoted(&word.to_string(), Kind::Name);
                let problem = format!(
                    "{word} is taken for a host name without a dot; use `same-origin` for pages from the relay's own host, \
                     or the whole origin, as in `https://localhost`"
                );
                Warning::about([&key], problem)
            });
        words.chain(self.rule_warnings()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_above_suspicion() {
        assert_eq!(Config::default().warnings(), []);
    }

    #[test]
    fn a_word_among_the_origins_is_named_with_its_place() {
        let mut config = Config::default();
        let words = [
            "localhost",
            "a.example",
            "anyone",
            "https://intranet",
            "3q2-7wAAx5Jq9pQm",
        ];
        config.server.allowed_origins = words.map(|text| text.parse().unwrap()).into();
        let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let start = "server.allowed_origins[2]: `anyone` is taken for a host name without a dot; use `same-origin`";
        assert!(warnings[0].starts_with(start), "{warnings:?}");
        let start = "server.allowed_origins[4]: a text that is not shown is taken for a host name";
        assert!(warnings[1].starts_with(start), "{warnings:?}");
    }
}
