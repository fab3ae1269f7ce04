//! Cuts sources into tokens, and finds the paths among them. It is as much of a lexer as the rules need.

/// Cuts a source into words and single characters, without comments, strings, characters and white space.
pub(crate) fn tokenize(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let length = word.max(first.len_utf8());
            tokens.push(Token {
                text: rest[..length].to_owned(),
                line,
            });
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment, string, character or white space at the beginning of `rest`, if there is one.
fn skipped(rest: &str) -> Option<usize> {
    let until = |end: &str, from: usize| {
        rest[from..]
            .find(end)
            .map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with(char::is_whitespace) {
        return Some(rest.len() - rest.trim_start().len());
    }
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until("*/", 2));
    }
    let unprefixed = rest.trim_start_matches(['b', 'c']);
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some(until(
                &format!("\"{}", "#".repeat(hashes)),
                rest.len() - raw.len() + hashes + 1,
            ));
        }
    }
    if unprefixed.starts_with('"') {
        return Some(end_of_quote(rest, rest.len() - unprefixed.len(), '"'));
    }
    let quoted = unprefixed.strip_prefix('\'')?;
    // A lifetime has no second quote behind one character.
    let is_character = quoted.starts_with('\\') || quoted.chars().nth(1) == Some('\'');
    is_character.then(|| end_of_quote(rest, rest.len() - unprefixed.len(), '\''))
}

/// The end of the quote that opens at `open`.
fn end_of_quote(rest: &str, open: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().filter(|&(at, _)| at > open) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A word or a single character of code, and the line it stands on, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Whether `tokens` begin with `pattern`.
pub(crate) fn matches(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens
            .iter()
            .zip(pattern)
            .all(|(token, text)| token.text == *text)
}

/// Every path in the code, with the groups of `use` taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub(crate) fn paths(code: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if is_word(&code[at].text) {
            at = read_path(code, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the path that begins at `at`, in the group of `prefix`. Returns where it ends.
fn read_path(
    code: &[Token],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<(String, usize)>,
) -> usize {
    let line = code[at].line;
    let mut path = format!("{prefix}{}", code[at].text);
    at += 1;
    while matches(&code[at..], &[":", ":"]) {
        let Some(next) = code.get(at + 2) else {
            break;
        };
        if next.text == "{" {
            return read_group(code, at + 3, &format!("{path}::"), found);
        }
        if !is_word(&next.text) {
            break;
        }
        path = format!("{path}::{}", next.text);
        at += 3;
    }
    found.push((path, line));
    at
}

/// Reads the paths of a group, up to its closing brace. Returns where it ends.
fn read_group(
    code: &[Token],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<(String, usize)>,
) -> usize {
    while let Some(token) = code.get(at) {
        if token.text == "}" {
            return at + 1;
        }
        at = if is_word(&token.text) {
            read_path(code, at, prefix, found)
        } else {
            at + 1
        };
    }
    at
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
