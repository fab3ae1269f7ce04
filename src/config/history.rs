//! Checks of the section `history`. [`super::bounds`] checks the other keys.

use std::time::Duration;

use super::error::ConfigError;
use super::range::check_range;
use super::types::Config;
use super::units::{Bytes, Span};

/// The shortest `history.max_age` other than 0. Kept messages are looked at a few times a second.
const MIN_AGE: Duration = Duration::from_secs(1);
/// The longest `history.max_age`. The relay is not an archive.
pub(crate) const MAX_AGE: Duration = Duration::from_hours(24);
/// The smallest `history.max_bytes`.
const MIN_BYTES: usize = 1 << 10;
/// The largest `history.max_bytes`.
const MAX_BYTES: usize = 1 << 30;
/// The largest `history.max_messages`.
const MAX_MESSAGES: usize = 100_000_000;

impl Config {
    pub(super) fn validate_history(&self) -> Result<(), ConfigError> {
        let history = &self.history;
        self.validate_history_file()?;
        if history.max_age.is_zero() {
            return Ok(());
        }
        check_range(
            "history.max_age",
            Span(history.max_age),
            Span(MIN_AGE)..=Span(MAX_AGE),
        )
        .map_err(|error| error.or("0s to keep nothing"))?;
        let (least, most) = (Bytes(MIN_BYTES), Bytes(MAX_BYTES));
        check_range("history.max_bytes", Bytes(history.max_bytes), least..=most)?;
        check_range(
            "history.max_messages",
            history.max_messages,
            0..=MAX_MESSAGES,
        )?;
        if !self.relay.echo {
            let problem = "false, but history.max_age is not 0: a client that does not get its own messages cannot count \
                           where it is";
            let fix = "set relay.echo to true, or history.max_age to 0s";
            return Err(ConfigError::new(problem, fix).of_key("relay.echo"));
        }
        Ok(())
    }

    /// Whether there can be such a file is seen at the start.
    fn validate_history_file(&self) -> Result<(), ConfigError> {
        let Some(file) = &self.history.file else {
            return Ok(());
        };
        let path = file.as_os_str().as_encoded_bytes();
        let (problem, fix) = if !self.keeps_history() {
            (
                "a file is named, but history.max_age is 0s: nothing would be kept",
                "set history.max_age, such as to 2m, or set history.file to null",
            )
        } else if path.contains(&0) {
            ("the path contains a NUL", "use the path of a file")
        } else if file.file_name().is_none() || path.ends_with(b"/") {
            (
                "the path does not name a file",
                "use the path of a file, such as /var/lib/fanwire/history",
            )
        } else {
            return Ok(());
        };
        Err(ConfigError::new(problem, fix).of_key("history.file"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::refusal;
    use super::*;

    #[test]
    fn a_client_without_echo_could_not_count() {
        let text = refusal(|config| {
            config.history.max_age = MIN_AGE;
            config.relay.echo = false;
        });
        assert!(
            text.contains("relay.echo") && text.contains("cannot count"),
            "{text}"
        );
    }

    #[test]
    fn a_file_for_a_history_that_is_off_is_refused_and_so_is_a_path_that_names_no_file() {
        for (age, path, problem) in [
            (Duration::ZERO, "history", "max_age is 0s"),
            (MIN_AGE, "", "does not name a file"),
            (MIN_AGE, "..", "does not name a file"),
            (MIN_AGE, "/var/lib/", "does not name a file"),
            (MIN_AGE, "a\0b", "contains a NUL"),
        ] {
            let text = refusal(|config| {
                config.history.max_age = age;
                config.history.file = Some(path.into());
            });
            assert!(
                text.contains("history.file: ") && text.contains(problem),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for change in [
            (|config: &mut Config| config.history.max_age = Duration::from_millis(1))
                as fn(&mut Config),
            |config| config.history.max_age = MAX_AGE + MIN_AGE,
            |config| config.history.max_bytes = MIN_BYTES - 1,
            |config| config.history.max_messages = MAX_MESSAGES + 1,
        ] {
            let text = refusal(|config| {
                config.history.max_age = MIN_AGE;
                change(config);
            });
            assert!(text.contains("history.max_"), "{text}");
        }
    }
}
