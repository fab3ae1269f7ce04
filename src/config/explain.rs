//! Translates the YAML parser's errors for operators.
//!
//! The parser's errors are correct, but written for programmers. They have no kinds, so this file recognises them by
//! their text. It passes on a text that it does not know, so a newer parser makes an error less clear, but never hides
//! it.

use super::error::ConfigError;
use super::locate::line_of_key;
use super::suggest;
use super::syntax;
use crate::secrecy::{HIDDEN, Kind, may_be_secret, quoted};

/// The keys whose values, and those of their entries, must never be shown.
const SECRETS: &str = "relay.publish_tokens";

/// The description of a host in the parser's messages. YAML takes the brackets of an IPv6 address for a list.
const HOST: &str = "an address or a host name";

/// The beginning of the description of a section. A text in its place may be a secret whose key or blank is missing.
const A_SECTION: &str = "a mapping";

/// The description of a tag, which has no value in it.
const TAG: &str = "a tag: the value begins with `!`";

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
        return unknown_key(path, name, message).on_line(line);
    }
    if let Some(name) = quoted("duplicate field `") {
        let error = ConfigError::new("given twice", "keep one of the two")
            .of_key(suggest::join(path, name));
        return error.on_line(line_of_key(text, path, name, 2).or(line));
    }
    if let Some(name) = quoted("missing field `") {
        let problem = format!("`{name}` is missing");
        return with_key(ConfigError::new(problem, "add it"), path).on_line(line);
    }
    if let Some(word) = quoted("unknown variant `") {
        return with_key(unknown_word(word, message), path).on_line(line);
    }
    if let Some((found, expected)) = found_and_expected(message) {
        let is_public = !expected.starts_with(A_SECTION)
            && value_in(found).is_none_or(|value| !may_be_secret(value, Kind::Value));
        let error = if is_public {
            ConfigError::new(format!("found {found}"), format!("use {expected}"))
        } else {
            unquoted(message)
        };
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

fn unknown_key(section: &str, name: &str, message: &str) -> ConfigError {
    let key = suggest::join(section, name.trim());
    let meant = if section.contains('[') {
        // Only the parser knows the keys of a list's entries.
        suggest::word_for(name.trim(), &allowed_words(message)).map(str::to_owned)
    } else {
        suggest::key_for(section, name.trim())
    };
    let is_public = suggest::may_be_shown(&key, meant.as_deref());
    let with_key = |error| with_key(error, if is_public { &key } else { section });
    if name.starts_with(|c: char| c.is_whitespace()) {
        return with_key(ConfigError::new(
            "a blank that is not a plain space stands in front of the key",
            "replace it by spaces; it often comes from a web page or a word processor",
        ));
    }
    let all = || {
        let names = suggest::names_in(section);
        // The entries of a list are no keys of their own, so only the parser knows theirs.
        let names = if names.is_empty() {
            allowed_words(message).join(", ")
        } else {
            names.join(", ")
        };
        format!("use one of {names}")
    };
    if !is_public {
        let problem = "found an unknown key, which is not shown";
        return with_key(ConfigError::new(problem, syntax::KEY_AND_VALUE).or(all()));
    }
    let fix = meant.map_or_else(all, |meant| format!("did you mean `{meant}`?"));
    with_key(ConfigError::new("unknown key", fix))
}

/// `message` lists the allowed words: "unknown variant `a`, expected one of `b`, `c`".
fn unknown_word(word: &str, message: &str) -> ConfigError {
    let words = allowed_words(message);
    let fix = match suggest::word_for(word, &words) {
        Some(meant) => format!("did you mean `{meant}`? Use one of {}", words.join(", ")),
        None => format!("use one of {}", words.join(", ")),
    };
    ConfigError::new(format!("found {}", quoted(word, Kind::Value)), fix)
}

fn allowed_words(message: &str) -> Vec<&str> {
    let allowed = message
        .rsplit_once("expected ")
        .map_or("", |(_, list)| list);
    // After a split at backticks, every second part was between two of them.
    allowed.split('`').skip(1).step_by(2).collect()
}

/// Splits "invalid type: integer `3`, expected a boolean".
fn found_and_expected(message: &str) -> Option<(&str, &str)> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some(match (found, expected) {
        ("unit value", _) => ("no value", expected),
        ("enum", _) => (TAG, "quotes around the value"),
        ("sequence", HOST) => (
            found,
            "an address without brackets, such as \"::\", or a host name",
        ),
        (_, "a boolean") => (found, "true or false"),
        (_, "field identifier") => (found, "a name as the key"),
        _ => (found, expected),
    })
}

/// The value that the parser quotes, as in "string \"a\"" and "integer `3`"; `None` if there is none.
fn value_in(found: &str) -> Option<&str> {
    let types = [
        "string ",
        "integer ",
        "floating point ",
        "character ",
        "boolean ",
    ];
    let quoted = types.iter().find_map(|name| found.strip_prefix(name))?;
    Some(quoted.trim_matches(['"', '`']))
}

/// An error about a value that may be secret. The parser quotes the value, so only its type, in front of the quote, is kept.
fn unquoted(message: &str) -> ConfigError {
    let (found, expected) = found_and_expected(message).unwrap_or(("a value", "a list of tokens"));
    let kind = match found {
        TAG => TAG,
        _ => found
            .split(['"', '`'])
            .next()
            .unwrap_or_default()
            .trim_end(),
    };
    let kind = match kind {
        "string" => HIDDEN,
        other => other,
    };
    ConfigError::new(format!("found {kind}"), format!("use {expected}"))
}
