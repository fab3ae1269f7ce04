//! Translates the YAML parser's errors for operators.
//!
//! The parser's errors are correct, but written for programmers. They have no kinds, so this file recognises them by
//! their text. It passes on a text that it does not know, so a newer parser makes an error less clear, but never hides
//! it.

use super::error::ConfigError;
use super::locate::line_of_key;
use super::suggest;
use super::syntax;
use crate::http::bearer::TOKEN_BYTES;

/// The keys whose values, and those of their entries, must never be shown.
const SECRETS: &str = "relay.publish_tokens";

/// The key whose value may be a token by mistake.
const BESIDE_SECRETS: &str = "relay.publish";

/// The description of a host in the parser's messages. YAML takes the brackets of an IPv6 address for a list.
const HOST: &str = "an address or a host name";

/// The longest text, in characters, that an error shows where a word, a number or a section belongs. A longer one may be a
/// key or a token.
const MAX_SHOWN: usize = 40;

/// Translates an error of the parser.
pub(super) fn explain(text: &str, error: &serde_yaml::Error) -> ConfigError {
    let line = error.location().map(|location| location.line());
    let message = without_location(error);
    let (path, message) = split_path(&message);
    translate(text, path, message, line)
}

/// Translates an error in the single value of `key`, which has no lines.
pub(super) fn explain_value(key: &str, error: &serde_yaml::Error) -> ConfigError {
    let message = without_location(error);
    let (entry, message) = split_path(&message);
    let path = format!("{key}{}", entry.trim_start_matches('.'));
    translate("", &path, message, None)
}

fn translate(text: &str, path: &str, message: &str, line: Option<usize>) -> ConfigError {
    if path.starts_with(SECRETS) {
        return unquoted(message).of_key(path).on_line(line);
    }
    let quoted = |prefix: &str| {
        message
            .strip_prefix(prefix)?
            .split_once('`')
            .map(|(name, _rest)| name)
    };

    if let Some(name) = quoted("unknown field `") {
        return unknown_key(path, name).on_line(line);
    }
    if let Some(name) = quoted("duplicate field `") {
        let error = ConfigError::new("given twice", "keep one of the two")
            .of_key(suggest::join(path, name));
        return error.on_line(line_of_key(text, path, name, 2).or(line));
    }
    if let Some(word) = quoted("unknown variant `") {
        return with_key(unknown_word(path, word, message), path).on_line(line);
    }
    if let Some((found, expected)) = found_and_expected(message) {
        if found.starts_with("string") && found.chars().count() > MAX_SHOWN {
            return with_key(unquoted(message), path).on_line(line);
        }
        let error = ConfigError::new(format!("found {found}"), format!("use {expected}"));
        return with_key(syntax::advise(text, (found, expected), line, error), path).on_line(line);
    }
    // The advice may have found the line where the mistake begins.
    let (error, begin) = syntax::explain(text, message, line);
    with_key(error, path).on_line(begin)
}

/// The parser's message without its place, which the error shows in front.
fn without_location(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    let Some(place) = error.location() else {
        return message;
    };
    let suffix = format!(" at line {} column {}", place.line(), place.column());
    message.strip_suffix(&suffix).unwrap_or(&message).to_owned()
}

/// Splits `server.port: message`. The path is empty for an error at the top level.
fn split_path(message: &str) -> (&str, &str) {
    let is_path = |path: &str| {
        path.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._?[]".contains(c))
    };
    message
        .split_once(": ")
        .filter(|(path, _rest)| is_path(path))
        .unwrap_or(("", message))
}

fn with_key(error: ConfigError, path: &str) -> ConfigError {
    if path.is_empty() {
        error
    } else {
        error.of_key(path)
    }
}

fn unknown_key(section: &str, name: &str) -> ConfigError {
    if name.starts_with(|c: char| c.is_whitespace()) {
        return ConfigError::new(
            "a blank that is not a plain space stands in front of the key",
            "replace it by spaces; it often comes from a web page or a word processor",
        )
        .of_key(suggest::join(section, name.trim()));
    }
    let fix = match suggest::key_for(section, name) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("use one of {}", suggest::names_in(section).join(", ")),
    };
    ConfigError::new("unknown key", fix).of_key(suggest::join(section, name))
}

/// `message` lists the allowed words: "unknown variant `a`, expected one of `b`, `c`".
fn unknown_word(path: &str, word: &str, message: &str) -> ConfigError {
    let allowed = message
        .rsplit_once("expected ")
        .map_or("", |(_, list)| list);
    // After a split at backticks, every second part was between two of them.
    let words: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
    let fix = match suggest::word_for(word, &words) {
        Some(meant) => format!("did you mean `{meant}`? Use one of {}", words.join(", ")),
        None => format!("use one of {}", words.join(", ")),
    };
    let may_be_secret =
        word.len() > MAX_SHOWN || path == BESIDE_SECRETS && TOKEN_BYTES.contains(&word.len());
    if may_be_secret {
        return ConfigError::new("found a long text, which is not shown", fix);
    }
    ConfigError::new(format!("found `{word}`"), fix)
}

/// Splits "invalid type: integer `3`, expected a boolean".
fn found_and_expected(message: &str) -> Option<(&str, &str)> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some(match (found, expected) {
        ("unit value", _) => ("no value", expected),
        ("enum", _) => (
            "a tag: the value begins with `!`",
            "quotes around the value",
        ),
        ("sequence", HOST) => (
            found,
            "an address without brackets, such as \"::\", or a host name",
        ),
        (_, "a boolean") => (found, "true or false"),
        (_, "field identifier") => (found, "a name as the key"),
        _ => (found, expected),
    })
}

/// An error about a value that may be secret. The parser quotes the value, so only its type, in front of the quote, is kept.
fn unquoted(message: &str) -> ConfigError {
    let (found, expected) = found_and_expected(message).unwrap_or(("a value", "a list of tokens"));
    let kind = found.split(['"', '`']).next().unwrap_or_default();
    let kind = match kind.trim_end() {
        "string" => "a text, which is not shown",
        other => other,
    };
    ConfigError::new(format!("found {kind}"), format!("use {expected}"))
}
