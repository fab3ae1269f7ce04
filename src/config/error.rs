//! The error of a wrong configuration: one line with the place, the problem and the fix.
//!
//! It is always the operator's fault, so `main` prints it and exits with code 2.

use std::error::Error;
use std::fmt;

/// The longest text in characters. A longer value from the file is cut, so that it does not fill the screen.
const MAX_TEXT_CHARS: usize = 240;

/// A mistake in the configuration. Displays as `config.yaml:3: server.port: the problem; the fix`, on one line whatever
/// the file contains. Instead of the file and the line, it may name a variable or a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    origin: String,
    /// The origin and the key belong together, as in `--set server.port`.
    is_flag: bool,
    line: Option<usize>,
    key: Option<String>,
    problem: String,
    fix: String,
}

impl ConfigError {
    /// A problem with the whole configuration. `fix` tells the operator what to do, in the imperative.
    pub(crate) fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        ConfigError {
            origin: "configuration".into(),
            is_flag: false,
            line: None,
            key: None,
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// Sets the key, with its sections, such as `server.port`.
    pub(crate) fn of_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the line, counted from 1.
    pub(super) fn on_line(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }

    /// The value came with this flag.
    pub(super) fn given_by(mut self, flag: &str) -> Self {
        (self.origin, self.is_flag) = (flag.into(), true);
        self
    }

    /// Sets the file, or the variable.
    #[must_use]
    pub fn within(mut self, origin: &str) -> Self {
        (self.origin, self.is_flag) = (origin.into(), false);
        self
    }

    /// Says something in front of the problem.
    pub(super) fn introduce(mut self, words: impl fmt::Display) -> Self {
        self.problem = format!("{words}{}", self.problem);
        self
    }

    /// Adds an alternative fix.
    pub(crate) fn or(mut self, alternative: impl fmt::Display) -> Self {
        self.fix = format!("{}, or {alternative}", self.fix);
        self
    }

    /// The wrong key with its sections, such as `server.port`; `None` if the whole file is wrong.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&self.origin))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            let separator = if self.is_flag { " " } else { ": " };
            write!(f, "{separator}{}", one_line(key))?;
        }
        write!(f, ": {}; {}", one_line(&self.problem), one_line(&self.fix))
    }
}

impl Error for ConfigError {}

/// Makes text from a file safe to print: escapes control characters, and cuts a long text.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (at, character) in text.chars().enumerate() {
        if at == MAX_TEXT_CHARS {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_place_its_problem_and_its_fix() {
        let error = ConfigError::new("the port is odd", "use an even one")
            .of_key("server.port")
            .on_line(Some(3))
            .within("config.yaml");
        assert_eq!(
            error.to_string(),
            "config.yaml:3: server.port: the port is odd; use an even one"
        );
    }

    #[test]
    fn an_error_is_one_short_line_whatever_it_quotes() {
        let error =
            ConfigError::new(format!("found\n{}", "x".repeat(10_000)), "\u{1b}[2J").within("a\nb");
        let text = error.to_string();
        assert!(text.starts_with("a\\nb: found\\nxxx"), "{text}");
        assert!(!text.contains(char::is_control), "{text}");
        assert!(text.chars().count() < 2 * MAX_TEXT_CHARS, "{text}");
    }
}
