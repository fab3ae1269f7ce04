//! Values that are allowed, but are probably not what the operator means.
//!
//! `main` logs each warning at start. With `--check`, it prints them beside the answer.

use super::types::Config;

impl Config {
    /// The warnings about a valid configuration: one sentence each, with the key and what to write instead.
    pub fn warnings(&self) -> Vec<String> {
        let origins = self.server.allowed_origins.iter().enumerate();
        let words = origins.filter(|(_, origin)| origin.is_one_word());
        words
            .map(|(at, word)| {
                format!(
                    "server.allowed_origins[{at}]: `{word}` is taken for a host name without a dot; use `same-origin` for \
                     pages from the relay's own host, or the whole origin, as in `https://{word}`"
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_above_suspicion() {
        assert_eq!(Config::default().warnings(), Vec::<String>::new());
    }

    #[test]
    fn a_word_among_the_origins_is_named_with_its_place() {
        let mut config = Config::default();
        let words = ["localhost", "a.example", "anyone", "https://intranet"];
        config.server.allowed_origins = words.map(|text| text.parse().unwrap()).into();
        let warnings = config.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let start = "server.allowed_origins[2]: `anyone` is taken for a host name without a dot; use `same-origin`";
        assert!(warnings[0].starts_with(start), "{warnings:?}");
    }
}
